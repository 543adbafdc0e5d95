"Ways to go on: each from the same state, and no difference told that is only luck"
from dataclasses import replace

import pytest

from learners import deep, quiet
from state import changes, state, writes
from test_unfreeze_study import made
from lrtools.compare import compare
from lrtools.continuation import STRATEGIES, continue_plan
from lrtools.continue_study import continue_study
from lrtools.experiments import ContinueStudy, Runs
from lrtools.fit_plan import fit_plan
from lrtools.plan import Phase
from lrtools.recording import record
from lrtools.schedule import one_cycle
from lrtools.snapshot import Snapshot

def trained(path, **kw):
    learn = deep(path, 3, n=83)
    learn.create_opt()
    start = Snapshot(learn, 'untrained').saved()
    with learn.no_bar(), learn.no_logging(): fit_plan(learn, Phase(one_cycle(slice(1e-3, 1e-2)), 2))
    return learn,start

def test_every_strategy(tmp_path):
    learn,start = trained(tmp_path)
    before = state(learn)
    with writes() as written: s = continue_study(learn, 1, seeds=(0, 1), untrained=start, progress=False)
    assert not changes(before, state(learn)) and written==[] and all(r.status=='finished' for r in s.runs), [r.error for r in s.runs]
    assert set(s.runs.arms)=={*STRATEGIES, *(f'{k}, clipped' for k in STRATEGIES if k!='from_scratch_longer')}
    n = len(learn.dls.train)
    assert {k: s.runs[k][0].history.n_steps for k in STRATEGIES}=={k: n*(3 if k=='from_scratch_longer' else 1) for k in STRATEGIES}
    assert s.runs.past==learn.lr_history and ContinueStudy.from_json(s.to_json())==s
    again = continue_study(learn, 1, seeds=(0, 1), untrained=start, progress=False)
    assert [r.history.losses.tolist() for r in s.runs]==[r.history.losses.tolist() for r in again.runs]
    s.best.restore(learn); assert changes(before, state(learn)) and learn.lr_history.n_steps>2*n

def test_from_scratch_needs_the_beginning(tmp_path):
    learn,start = trained(tmp_path)
    s = continue_study(learn, 1, clip=None, seeds=(0,), progress=False)
    assert 'from_scratch_longer' not in s.runs.arms and "'from_scratch_longer' is left out" in s.runs.notes[0] and 'left out' in s._repr_markdown_() and 'one seed only' in s.verdict[0]
    with pytest.raises(ValueError, match='nothing is left'): continue_study(learn, 1, 'from_scratch_longer', progress=False)
    one = continue_study(learn, 1, 'from_scratch_longer', untrained=start, seeds=(0,), progress=False)
    twin = start.restore(quiet(deep(tmp_path, 3, n=83))) # fastai draws an item in the first fit of a learner
    want = compare(twin, {'x': continue_plan(learn.lr_history, 'from_scratch_longer', 1)}, seeds=(0,), progress=False)
    assert one.runs['from_scratch_longer'][0].history.losses.tolist()==want['x'][0].history.losses.tolist()

def test_refused(tmp_path):
    learn,start = trained(tmp_path)
    for kw,error,match in ((dict(n_epoch=0), ValueError, 'n_epoch=0'), (dict(strategies=['no']), ValueError, "strategies=\\['no'\\]"), (dict(strategies=[]), ValueError, 'strategies'), (dict(clip=-1), ValueError, 'clip=-1'), (dict(untrained=3), TypeError, 'untrained=3'),
                           (dict(seeds=()), ValueError, 'seeds'), (dict(curve=3), TypeError, 'expected an `LRCurve`')):
        with pytest.raises(error, match=match): continue_study(learn, **(dict(n_epoch=1)|kw))
    with pytest.raises(ValueError, match='no record'): continue_study(quiet(deep(tmp_path, 3)), 1)
    fresh = deep(tmp_path, 3); record(fresh)
    with pytest.raises(ValueError, match='no steps'): continue_study(fresh, 1)

def test_the_edge_zone(tmp_path):
    from test_preview import curves
    learn,_ = trained(tmp_path)
    s = continue_study(learn, 1, ['again','constant'], clip=None, seeds=(0,), curve=curves()[0], progress=False)
    assert set(s.shares)=={'again','constant'} and all(0<=v<=1 for v in s.shares.values()) and 'in the edge zone' in s._repr_markdown_()

def told(**values):
    "A study in which the arms ended with these validation losses, one for each seed; the first rises at first"
    def run(arm, seed, v):
        r = made(arm, seed, [1., 1.], 1., ((1, 2. if arm==next(iter(values)) else 1.), (2, v)))
        r.history[0].epochs.append(dict(epoch=0, train_loss=1., valid_loss=v))
        return r
    return ContinueStudy(Runs([run(k, s, v) for k,vs in values.items() for s,v in enumerate(vs)], {k: '' for k in values}), {})

def test_luck_is_not_told_as_a_difference():
    s = told(a=[.5, .6, .4], b=[.52, .55, .47], c=[.9, 1., .8])
    said = ' '.join(s.verdict)
    assert "No difference beyond the spread to 'b'." in said and "Worse beyond the spread: 'c' (+0.4" in said and "rises at first with 'a' (2x)" in said
    assert 'no difference beyond the spread between any' in ' '.join(told(a=[.5, .6, .4], b=[.52, .55, .47]).verdict)
    assert 'None is better than not to go on' in ' '.join(told(a=[1.5, 1.6, 1.4], b=[1.52, 1.55, 1.47]).verdict)
    failed = ContinueStudy(Runs([replace(r, error='Boom: no') if r.arm=='a' else r for r in s.runs], s.runs.arms), {})
    assert failed.best.arm=='b' and 'failed in 3 of 3: Boom: no' in failed._repr_markdown_()
    assert ContinueStudy(Runs([replace(r, error='x') for r in s.runs], s.runs.arms), {}).verdict==['No strategy went through with every seed.']

def test_a_rise_that_is_there_with_nothing_learned_is_no_rise_of_a_strategy():
    "Running statistics move the validation loss of the first steps in the run at rate 0 as well: only what is over that is told"
    s = told(a=[.5, .6, .4], b=[.52, .55, .47])
    assert "rises at first with 'a' (2x)" in ' '.join(s.verdict)
    still = lambda *dense: [made('nothing learns', seed, [1., 1.], 1., dense) for seed in range(3)]
    same = replace(s, still=still((1, 2.), (2, 2.)))
    assert 'rises at first' not in ' '.join(same.verdict) and set(same.bumps['a'])=={1.}
    half = replace(s, still=still((1, 1.5), (2, 1.)))
    assert "rises at first with 'a' (1.5x)" in ' '.join(half.verdict) and ContinueStudy.from_json(half.to_json())==half
    import json
    old = {k:v for k,v in json.loads(s.to_json()).items() if k!='still'} # of an older lrtools
    assert ContinueStudy.from_json(json.dumps(old))==s

def test_not_to_go_on_is_judged_on_the_whole_validation_set():
    "The first batches of validation may be easy ones: 1 before on a part of it, .45 on the whole"
    s = told(a=[.5, .6, .4], b=[.52, .55, .47])
    def whole(seed, v):
        r = made('nothing learns', seed, [1., 1.], 1., ((1, 1.), (2, 1.)))
        r.history[0].epochs.append(dict(epoch=0, train_loss=1., valid_loss=v))
        return r
    assert 'None is better' not in ' '.join(s.verdict)
    assert 'None is better than not to go on (about 0.45, with nothing learned).' in replace(s, still=[whole(i, .45) for i in range(3)]).verdict

def test_the_run_in_which_nothing_learns_is_beside_the_strategies(tmp_path):
    learn,_ = trained(tmp_path)
    s = continue_study(learn, 1, ['again'], clip=None, seeds=(0, 1), progress=False)
    assert [*s.runs.arms]==['again'] and [r.seed for r in s.still]==[0, 1] and all(r.status=='finished' and r.state is None and not r.history.lrs.any() for r in s.still)
    assert [i for i,_ in s.still[0].dense]==[i for i,_ in s.runs.runs[0].dense] and s.stay[1]=='with nothing learned'
    for bad in (3, b'x', [3], [['again']]):
        with pytest.raises((TypeError, ValueError), match='strategies'): continue_study(learn, 1, bad)

def test_what_did_not_finish_is_named():
    s = told(a=[.5, .6, .4], b=[.52, .55, .47])
    t = ContinueStudy(Runs([replace(r, error='Boom: no') if r.arm=='b' and r.seed else r for r in s.runs], s.runs.arms), {})
    assert t.verdict[-1]=="Not finished with every seed: 'b' (failed: Boom: no)."
