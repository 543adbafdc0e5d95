"Why it spikes: the right cause for learners that were made to have it, and none where there is none"
import math, re

from dataclasses import replace

import numpy as np, pytest

from learners import deep, quiet
from state import changes, state, writes
from unet_toy import unet
from lrtools.experiments import CAUSES, ArmRun, Runs, UnfreezeStudy
from lrtools.history import FitRecord, LRHistory
from lrtools.plan import Phase
from lrtools.schedule import constant, one_cycle
from lrtools.unfreeze_study import _arms, unfreeze_study

pytestmark = pytest.mark.slow

ARMS = [*CAUSES.values(), 'all rates 0']

@pytest.fixture(scope='module')
def usual(tmp_path_factory): return unet(tmp_path_factory.mktemp('a'))
@pytest.fixture(scope='module')
def held(tmp_path_factory): return unet(tmp_path_factory.mktemp('b'), 'eval')

def test_cleared_memory_without_a_warm_up(usual):
    "Flat rate after unfreezing: Adam begins anew, at full speed; the encoder has no part in it"
    before = state(usual)
    s = unfreeze_study(usual, 3e-3, arms=ARMS, progress=False)
    assert not changes(before, state(usual))
    assert s.spike['as asked'] and set(s.causes)=={'optimizer memory','warm-up','head rate'} and min(s.spike['as asked'].valid)>1.5
    assert max(s.removes('encoder rate 0'), s.removes('BatchNorm held'))<.4 and not s.spike['all rates 0']
    said = ' '.join(s.verdict)
    assert 'over 3 seeds' in said and 'keep_state=True' in said and 'What alone takes it away' in said and 'memory kept' in said.split('What has little')[0]
    assert UnfreezeStudy.from_json(s.to_json())==s and s._repr_markdown_().count('\n')>12

def test_batchnorm_alone(held):
    "A body held in eval while it was frozen, and rates too small to do harm: the loss rises with no learning at all"
    s = unfreeze_study(held, [3e-7, 3e-5], arms=ARMS, progress=False)
    assert s.causes==['batchnorm'] and s.spike['all rates 0'] and not s.spike['BatchNorm held'] and max(min(s.spike['as asked'].valid), min(s.spike['as asked'].train))>1.3
    said = ' '.join(s.verdict)
    assert 'even with all rates 0' in said and "norm='eval'" in said.split('What to do')[1].split('`, or')[0]

def test_a_healthy_one_cycle(usual):
    s = unfreeze_study(usual, slice(1e-5, 1e-3), sched=one_cycle, arms=['memory kept','BatchNorm held','all rates 0'], progress=False)
    assert not s.spike['as asked'] and s.causes==[] and s.verdict[0].startswith('No spike') and any('begins low' in n for n in s.runs.notes)
    assert list(s.runs.arms)==['as asked','memory kept','BatchNorm held','all rates 0']

# ---------------------------------------------------------------- what is told, from made-up runs

def made(arm, seed, losses, valid0=math.nan, dense=(), error=''):
    f = FitRecord(1, len(losses), [True])
    for i,v in enumerate(losses): f.add(i, v, [dict(lr=1e-3)])
    f.stop = 'end'
    return ArmRun(arm, seed, LRHistory([f]), valid0, dense, 1., error)

def study(arms, noise=.05, n=30, **kw):
    "`arms`: name → rise of the loss at the start, as a factor of 1"
    rng = [np.random.default_rng(s) for s in range(3)]
    batches = [1+noise*r.normal(size=n) for r in rng]
    y = lambda up, l: (l*(1+(up-1)*np.exp(-np.arange(n)/8))).tolist()
    runs = [made(k, s, y(up, batches[s]), 1., ((1, up), (5, 1.)), **kw) for k,up in arms.items() for s in range(3)]
    still = [made('still', s, batches[s].tolist(), 1., ((1, 1.), (5, 1.))) for s in range(3)]
    return UnfreezeStudy(Runs(runs, {k: '' for k in arms}), still, n, {'memory kept': 'A', 'warm-up': 'B'})

def test_noise_is_no_spike():
    s = study({'as asked': 1., 'memory kept': 1.}, noise=.5)
    assert not s.spike['as asked'] and s.causes==[] and 'noise of batches' in ' '.join(s.verdict) and max(s.spike['as asked'].single)>1.8

@pytest.mark.parametrize('noise', [0., .05, .3])
def test_causes_by_strength(noise):
    s = study({'as asked': 4., 'memory kept': 1.3, 'warm-up': 1., 'BatchNorm held': 3.9, 'encoder rate 0': 2.5, 'head rate 0': 6.}, noise)
    assert s.causes==['warm-up','optimizer memory']
    said = ' '.join(s.verdict)
    assert "What makes it smaller: 'encoder rate 0' (2." in said and "What has little effect: 'BatchNorm held' (3." in said and "What makes it worse: 'head rate 0' (" in said and '`A`, or `B`' in said

def test_more_than_one_reason():
    s = study({'as asked': 4., **{k: 3. for k in CAUSES.values()}})
    assert s.causes==[] and 'No single change' in ' '.join(s.verdict)

def test_explosions_and_failures():
    s = study({'as asked': 4., 'memory kept': 1.})
    runs = [replace(r, history=made('x', 0, [1., math.nan]*15).history) if r.arm=='as asked' else r for r in s.runs]
    t = UnfreezeStudy(Runs(runs, s.runs.arms), s.still, 30, {})
    assert t.spike['as asked'] and t.spike['as asked'].train==(math.inf,)*3 and t.causes==['optimizer memory'] and UnfreezeStudy.from_json(t.to_json())==t
    runs = [replace(r, error='Boom: no') if r.arm=='memory kept' else r for r in s.runs]
    t = UnfreezeStudy(Runs(runs, s.runs.arms), s.still, 30, {})
    assert t.causes==[] and "Failed, and not counted: 'memory kept' (Boom: no)" in ' '.join(t.verdict) and 'failed' in t._repr_markdown_()
    assert '(over 3 seeds' in t.verdict[0]
    runs = [replace(r, error='Boom: no') if r.arm=='as asked' else r for r in s.runs]
    t = UnfreezeStudy(Runs(runs, s.runs.arms), s.still, 30, {})
    assert t.verdict==["Nothing can be said: no run of 'as asked' went through.", "Failed, and not counted: 'as asked' (Boom: no)."] and repr(t)=='UnfreezeStudy(failed)' and '| failed |' in t._repr_markdown_()
    runs = [replace(r, error='Boom: no') if r.arm=='as asked' and r.seed else r for r in s.runs]
    assert 'one seed only' in UnfreezeStudy(Runs(runs, s.runs.arms), s.still, 30, {}).verdict[0]

def test_negative_losses():
    s = study({'as asked': 4., 'memory kept': 1.})
    low = lambda r: replace(r, history=made('x', 0, (r.history.losses-20).tolist()).history, valid0=r.valid0-20, dense=tuple((i, v-20) for i,v in r.dense))
    t = UnfreezeStudy(Runs([low(r) for r in s.runs], s.runs.arms), tuple(low(r) for r in s.still), 30, {})
    assert all(1<v<1.3 for v in t.spike['as asked'].train) and all(abs(v-1)<.02 for v in t.spike['memory kept'].train)

# ---------------------------------------------------------------- arguments

def test_left_alone_and_refused(tmp_path):
    learn = deep(tmp_path, 3)
    learn.freeze()
    with pytest.raises(ValueError, match='never trained'): unfreeze_study(learn, 1e-3)
    quiet(learn)
    before = state(learn)
    for kw,error,match in ((dict(lr=-1.), ValueError, 'lr=-1'), (dict(lr='x'), TypeError, 'lr='), (dict(lr=[1e-3]*2), ValueError, '2 rates'), (dict(n_epoch=0), ValueError, 'n_epoch=0'), (dict(arms=['no']), ValueError, "arms=\\['no'\\]"), (dict(arms=[]), ValueError, 'arms'),
                           (dict(arms={}), ValueError, 'arms is empty'), (dict(sched=3), TypeError, 'sched=3'), (dict(sched=lambda r: 3), TypeError, 'sched gave 3'), (dict(seeds=()), ValueError, 'seeds')):
        with pytest.raises(error, match=match): unfreeze_study(learn, **(dict(lr=1e-3)|kw))
    with pytest.raises(TypeError, match='learn'): unfreeze_study('learn', 1e-3)
    with writes() as written: s = unfreeze_study(learn, slice(1e-4, 1e-2), n_epoch=2, seeds=(0,), progress=False)
    assert not changes(before, state(learn)) and written==[] and 'one seed only' in ' '.join(s.verdict)
    own = unfreeze_study(learn, slice(1e-4, 1e-2), arms={'mine': Phase(constant([0., 0., 1e-2]), 1, freeze_to=0, norm='train')}, seeds=(0,), progress=False) # beside the others
    assert len(own.spike['mine'].train)==1 and len(own.runs.arms)==11 and any('lower encoder rates' in n and 'that low already' in n for n in own.runs.notes)
    assert s==replace(unfreeze_study(learn, slice(1e-4, 1e-2), n_epoch=2, seeds=(0,), progress=False), date=s.date, runs=s.runs, still=s.still)

def test_the_arms_change_one_thing(tmp_path):
    arms,notes = _arms([1e-5, 1e-4, 1e-3], constant, 2)
    base = arms['as asked'][0]
    assert base==Phase(constant([1e-5, 1e-4, 1e-3]), 2, freeze_to=0, norm='train') and notes==["'lower encoder rates' is left out: the rates of the encoder are that low already."]
    rates = lambda k: arms[k].rates(10, 3)
    assert arms['memory kept'][0]==replace(base, keep_state=True) and arms['BatchNorm held'][0]==replace(base, norm='eval')
    assert np.array_equal(rates('encoder rate 0'), base.sched(0.)*[0, 0, 1]+np.zeros((20, 1))) and not rates('all rates 0').any() and np.array_equal(rates('head rate 0')[0], [1e-5, 1e-4, 0])
    w = rates('warm-up'); assert w[0,2]==pytest.approx(1e-3/25) and np.allclose(w[5:], rates('as asked')[5:]) and (np.diff(w[:,2])>=0).all()
    assert np.allclose(rates('a tenth'), rates('as asked')/10) and sorted(set(rates('ladder')[:,0].round(9)))==[1e-5, 1e-4, 1e-3, 1e-2]
    one,notes = _arms([1e-3], one_cycle, 1)
    assert not {'encoder rate 0','head rate 0','warm-up'}&{*one} and len(notes)==4

# ---------------------------------------------------------------- at once, or step by step

def test_unfreeze_at_once(tmp_path):
    from lrtools.unfreeze_study import unfreeze_at_once_study
    learn = deep(tmp_path, 3)
    before = state(learn)
    with writes() as written: runs = unfreeze_at_once_study(learn, 1e-3, 4, seeds=(0, 1), progress=False)
    assert not changes(before, state(learn)) and written==[] and all(r.status=='finished' for r in runs)
    n = len(learn.dls.train)
    assert len(runs.arms)==7 and {r.history.n_steps for r in runs}=={4*n} and not runs.notes
    first = lambda k: runs[k][0].history
    assert [f.trains for f in first('gradual')]==[(False, False, True), (False, True, True), (True,)*3] and [f.trains for f in first('head first')]==[(False, False, True), (True,)*3]
    assert [f.trains for f in first('head only')]==[(False, False, True)] and first('all at once, discriminative').lrs.max(0).tolist()==[1e-5, 1e-4, 1e-3]
    few = unfreeze_at_once_study(learn, 1e-3, 1, seeds=(0,), progress=False)
    assert set(few.arms)=={'head only', 'all at once', 'all at once, discriminative'} and len(few.notes)==2
    with pytest.raises(ValueError, match='1 parameter group'): unfreeze_at_once_study(deep(tmp_path, 1), 1e-3)
    for bad,error in ((dict(lr=slice(1e-3)), TypeError), (dict(lr=-1.), ValueError), (dict(n_epoch=0), ValueError)):
        with pytest.raises(error): unfreeze_at_once_study(learn, **(dict(lr=1e-3)|bad))

def low(): return _arms([1e-2]*3, constant, 1)[0]['lower encoder rates'].rates(4, 3)[0]

def test_what_cannot_differ_is_left_out_by_name():
    "For these rates, this optimizer, these layers; not where it is asked for by its name"
    def out(*args, **kw): return {n.split("'")[1]: n.split('left out: ')[1] for n in _arms(*args, **kw)[1]}
    assert out([1e-2]*3, constant, 1)=={} and low()==pytest.approx([1e-4, 1e-3, 1e-2])
    assert {*out([1e-2]*3, one_cycle, 1)}=={'warm-up'} and {*out([1e-4, 1e-3, 1e-2], constant, 1)}=={'lower encoder rates'}
    assert {*out([1e-2]*3, constant, 1, memory=False)}=={'memory kept'} and {*out([1e-2]*3, constant, 1, norm=False)}=={'BatchNorm held'}
    assert {*out([1e-2]*3, constant, 1, memory=False, norm=False)}=={'memory kept','BatchNorm held','all remedies'}
    assert {*out([0., 0., 1e-2], constant, 1)}=={'encoder rate 0','lower encoder rates'} and {*out([1e-3, 1e-2, 0.], constant, 1)}=={'head rate 0','encoder rate 0'}
    assert {*out([1e-2], one_cycle, 1, memory=False)}=={'warm-up','memory kept','encoder rate 0','head rate 0','lower encoder rates','all remedies'}
    arms,notes = _arms([0., 0., 1e-2], constant, 1, memory=False, norm=False, asked=['memory kept','encoder rate 0'])
    assert {'memory kept','encoder rate 0'}<={*arms} and 'BatchNorm held' not in arms and not any(n.startswith("'memory kept'") for n in notes)

def test_a_group_at_rate_0_stands_still_in_every_arm():
    arms,_ = _arms([0., 0., 1e-2], constant, 2)
    for name in {*arms}-{'ladder'}: assert not arms[name].rates(8, 3)[:,:2].any(), name
    w = arms['warm-up'].rates(8, 3)[:,2]
    assert w[0]==pytest.approx(4e-4) and w[4]==pytest.approx(1e-2) and (np.diff(w)>=0).all()

def test_a_schedule_that_is_made_already_is_taken_as_it_is(tmp_path):
    learn = quiet(deep(tmp_path, 3)); learn.freeze()
    lr = slice(1e-4, 1e-2)
    kw = dict(arms=['all rates 0'], seeds=(0,), progress=False)
    a,b = (unfreeze_study(learn, lr, sched=s, **kw) for s in (one_cycle, one_cycle(lr)))
    assert [r.history.lrs.tolist() for r in a.runs]==[r.history.lrs.tolist() for r in b.runs]
    for bad,match in ((one_cycle(1e-3), r'sched goes up to .*lr asks for .*sched=one_cycle'), (one_cycle([1e-3]*2), 'sched has rates for 2'), (constant(slice(1e-4, 1e-3)), 'lr asks for')):
        with pytest.raises(ValueError, match=match): unfreeze_study(learn, lr, sched=bad, **kw)
    zero = unfreeze_study(learn, [0., 0., 1e-2], **kw) # B15: groups that stand still
    assert not zero.runs['as asked'][0].history.lrs[:,:2].any() and zero.runs['as asked'][0].history.lrs[:,2].all()
    with pytest.raises(ValueError, match='lr=.*nothing would learn'): unfreeze_study(learn, [0., 0., 0.], **kw)

def test_a_net_without_batchnorm_and_memory_has_fewer_arms(tmp_path):
    "What the learner has is read from it: no running statistics, SGD without momentum"
    from fastai.basics import SGD
    from test_verdicts import small
    learn = small(tmp_path, opt_func=SGD)
    s = unfreeze_study(learn, 1e-2, seeds=(0,), progress=False)
    assert not {'memory kept','BatchNorm held','all remedies'}&{*s.runs.arms} and 'BatchNorm' not in ' '.join(s.verdict)
    assert {n.split("'")[1] for n in s.runs.notes}=={'memory kept','BatchNorm held','all remedies'}
    normed = small(tmp_path, norm=True)
    assert {'memory kept','BatchNorm held','all remedies'}<={*unfreeze_study(normed, 1e-2, seeds=(0,), progress=False).runs.arms}

def test_other_ways_stand_in_the_verdict():
    "'a tenth' and 'ladder', which had nearly no spike, and an arm of one's own that has one"
    said = ' '.join(study({'as asked': 4., 'memory kept': 4., 'a tenth': 1.1, 'ladder': 1.2, 'mine': 3.9, 'half': 2.}).verdict)
    assert "No spike, or nearly none, with: 'a tenth' (1." in said and "'ladder' (1." in said.split('nearly none')[1] and "'mine'" in said.split('little effect')[1] and "smaller: 'half'" in said

def test_several_causes_are_told_only_where_they_were_removed_together():
    arms = {'as asked': 4., **{k: 3.6 for k in CAUSES.values()}}
    assert 'more than one' not in ' '.join(study(arms).verdict)
    assert 'all remedies together do: more than one thing raises the loss' in ' '.join(study({**arms, 'all remedies': 1.05}).verdict)
    assert 'more than one' not in ' '.join(study({**arms, 'all remedies': 3.}).verdict)

def test_what_moves_without_learning_is_said():
    "Running statistics that drift in the frozen learner as well: no spike of unfreezing, but a word of it"
    s = study({'as asked': 1., 'BatchNorm held': 1.})
    drift = lambda r: replace(r, dense=((1, 1.2), (5, 1.6)))
    t = UnfreezeStudy(Runs([drift(r) if r.arm=='as asked' else replace(r, dense=((1, 1.), (5, 1.))) for r in s.runs], s.runs.arms), [drift(r) for r in s.still], 30, {})
    assert not t.spike['as asked'] and t.verdict[0].startswith('No spike') and "even with nothing unfrozen and nothing learned, 1.6x" in t.verdict[-1] and "'BatchNorm held' keeps it down" in t.verdict[-1]

NAMES = 'a|b', '<img src=x onerror=alert(1)>', 'two\nlines', '`code`', '$x$ and $y$', '[a](javascript:1)'

@pytest.mark.parametrize('name', NAMES)
def test_names_and_errors_in_a_study_are_no_markup(name):
    s = study({'as asked': 4., 'memory kept': 1., name: 1.1})
    failed = [replace(r, error=f'Boom: {name}') if r.arm==name and r.seed else r for r in s.runs]
    for t in (s, UnfreezeStudy(Runs(failed, s.runs.arms, notes=[name]), s.still, 30, {'memory kept': f'f({name!r})'})):
        text = t._repr_markdown_()
        rows = [l for l in text.splitlines() if l.startswith('|')]
        assert len(rows)==5 and {l.replace(r'\|', '').count('|') for l in rows}=={5}
        assert '<img' not in text and '](' not in re.sub(r'`.*?`', '', text).replace(r'\]', '') and '$' not in text and repr(name)[:60] in ' '.join(t.verdict)

def test_an_older_study_is_read():
    import json
    s = study({'as asked': 4., 'memory kept': 1.})
    d = json.loads(s.to_json())
    assert UnfreezeStudy.from_json(json.dumps({**d, 'level': .5}))==s

def test_the_name_of_the_run_that_all_are_held_against_is_taken(tmp_path):
    learn = quiet(deep(tmp_path, 3)); learn.freeze()
    with pytest.raises(ValueError, match="'nothing learns'"): unfreeze_study(learn, 1e-3, arms={'nothing learns': lambda l: None})
    for bad in (3, 3., b'x', [3], Phase(constant(1e-3), 1)):
        with pytest.raises(TypeError, match='arms'): unfreeze_study(learn, 1e-3, arms=bad)

def test_a_study_says_what_it_costs_before_it_begins(tmp_path, capsys):
    learn = quiet(deep(tmp_path, 3)); learn.freeze()
    unfreeze_study(learn, 1e-3, arms=['memory kept'], seeds=(0, 1))
    said = capsys.readouterr().out
    assert said.startswith('6 runs of 1 epoch, about 1 second; `seeds=[0]` takes about 1 second, fewer arms take less.\n') and said.count('6 runs of')==1
    unfreeze_study(learn, 1e-3, arms=['memory kept'], seeds=(0,), progress=False)
    assert capsys.readouterr().out==''
