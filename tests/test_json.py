"Every record is read whole or refused: a seeded fuzz over all of them, in their text and in their parts"
import json, math, random, re

import numpy as np, pytest, torch
import fastai.callback.schedule # gives learners their fits

from learners import deep, quiet
from lrtools.compare import compare
from lrtools.continue_study import continue_study
from lrtools.curve import GroupCurves, LRCurve, Sweep, check_fields, reads
from lrtools.experiments import ContinueStudy, Runs, UnfreezeStudy
from lrtools.fit_plan import fit_plan
from lrtools.freezing import freeze_report, freeze_to
from lrtools.groups import FreezeReport
from lrtools.history import LRHistory
from lrtools.plan import Phase, Plan, fine_tune_plan
from lrtools.probe import probe
from lrtools.range_test import lr_range_test
from lrtools.runs import ProbeRuns
from lrtools.schedule import Schedule, constant, join, one_cycle, sampled, sgdr
from lrtools.unfreeze_study import unfreeze_study

KINDS = LRCurve, GroupCurves, ProbeRuns, LRHistory, Schedule, Plan, Runs, ContinueStudy, UnfreezeStudy, FreezeReport

@pytest.fixture(scope='module')
def texts(tmp_path_factory):
    "The JSON of one record of each kind, of real runs"
    learn = deep(tmp_path_factory.mktemp('j'), 2, n=24)
    with learn.no_bar(), learn.no_logging():
        history = fit_plan(learn, fine_tune_plan(1, lr_mult=7))
        curve = lr_range_test(learn, num_it=8, valid=2, repeats=2, progress=False)
        freeze_to(learn, -1)
        runs = compare(learn, {'a|b': Phase(one_cycle(1.3e-3), 1), 'b': Phase(sgdr(1e-3, 1), 1)}, seeds=(0, 1), dense=(1, 2), progress=False)
        study = continue_study(learn, 1, strategies=['again', 'constant'], seeds=(0,), progress=False)
        spike = unfreeze_study(learn, 1e-3, seeds=(0,), steps=2, progress=False) if 'steps' in unfreeze_study.__code__.co_varnames else unfreeze_study(learn, 1e-3, seeds=(0,), progress=False)
        records = [curve, GroupCurves([curve]), probe(learn, [1e-3, slice(1e-4, 1e-2)], num_it=3, progress=False), history, join([one_cycle(slice(1e-5, 1e-3)), sampled([1e-3, 2e-3])], [1, 2]), fine_tune_plan(2), runs, study, spike, freeze_report(learn)]
    return {type(o): o.to_json() for o in records}

def read(kind, text):
    "None where it is refused; otherwise what was read shows itself and writes the same again"
    try: o = kind.from_json(text)
    except (ValueError, TypeError) as e:
        assert len(str(e))<=300 and '\n' not in str(e) and str(e), e
        return None
    repr(o)
    if hasattr(o, '_repr_markdown_'): o._repr_markdown_()
    assert kind.from_json(o.to_json())==o
    return o

@pytest.mark.parametrize('kind', KINDS, ids=lambda k: k.__name__)
def test_what_is_written_is_read(kind, texts):
    assert read(kind, texts[kind]) is not None and kind.from_json(texts[kind].encode()).to_json()==texts[kind]

def of_text(s, rng):
    "Cut, a flipped character, a piece twice, a piece gone, another number"
    how,i = rng.randrange(5),rng.randrange(len(s))
    if how==0: return s[:i]
    if how==1: return s[:i]+rng.choice('{}[]",:0-e.nxN')+s[i+1:]
    if how==2: return s[:i]+s[max(0, i-rng.randrange(40)):]
    if how==3: return s[:i]+s[i+rng.randrange(1, 40):]
    ms = [*re.finditer(r'-?\d+\.?\d*(e-?\d+)?', s)]
    m = rng.choice(ms)
    return s[:m.start()]+rng.choice(['-1', '1e999', '-1e999', 'NaN', '9'*400, '1.5', '0', '""', 'null', 'true', '99'])+s[m.end():]

VALUES = None, -1, 0, 10**400, 1.5, -.5, math.nan, math.inf, 'text', '', 'inf', 'nan', True, [], [1], [[1, 2]], {}, {'a': 1}, [None], ['x'], [[]]
def of_parts(d, rng):
    "A part gone, renamed, of another kind, twice, or in the place of another"
    o = d
    for _ in range(rng.randrange(7)):
        inner = [v for v in (o.values() if isinstance(o, dict) else o) if isinstance(v, (dict, list)) and v]
        if not inner: break
        o = rng.choice(inner)
    k,how = rng.choice(list(o) if isinstance(o, dict) else range(len(o))),rng.randrange(8)
    if how==0: del o[k]
    elif how==1 and isinstance(o, dict): o[f'{k}x'] = o.pop(k)
    elif how==2 and isinstance(o, list): o.append(o[k])
    elif how==3 and isinstance(o, dict): o[k] = o[rng.choice(list(o))]
    else: o[k] = rng.choice(VALUES)
    return d

@pytest.mark.parametrize('kind', KINDS, ids=lambda k: k.__name__)
@pytest.mark.parametrize('seed', range(1))
def test_damaged_json_is_a_whole_record_or_refused(kind, seed, texts):
    rng,text = random.Random(seed),texts[kind]
    for _ in range(130): read(kind, of_text(text, rng))
    for _ in range(170): read(kind, json.dumps(of_parts(json.loads(text), rng)))

@pytest.mark.parametrize('kind', KINDS, ids=lambda k: k.__name__)
def test_what_is_no_record_is_refused(kind, texts):
    for bad in ('', 'null', '[]', '3', '"text"', '{}', '['*5000, '{"kind": "Nothing", "version": 1}', json.dumps(dict(kind=kind.__name__, version=1)), json.dumps(dict(kind=kind.__name__, version=2)), json.dumps(dict(kind=kind.__name__, version=True))):
        with pytest.raises(ValueError) as e: kind.from_json(bad)
        assert kind.__name__ in str(e.value) or 'version' in str(e.value), e
    other = next(t for k,t in texts.items() if k is not kind)
    with pytest.raises(ValueError, match='kind='): kind.from_json(other)
    for bad in (3, None, ['{}'], kind, dict(kind=kind.__name__), b'\xff\xfe'):
        with pytest.raises((TypeError, ValueError), match=kind.__name__): kind.from_json(bad)
    if hasattr(kind, 'from_dict'):
        for bad in (3, None, '{', []):
            with pytest.raises((TypeError, ValueError)): kind.from_dict(bad)

def test_infinities_and_what_is_not_a_number_come_back():
    c = LRCurve([Sweep([[1e-3], [1e-2]], [1., math.inf], 'non-finite'), Sweep([[1e-3], [1e-2]], [math.nan, 2.])], 2, (1e-3,), (1e-2,), stop_div=None)
    assert LRCurve.from_json(c.to_json())==c

# ---------------------------------------------------------------- a curve of one's own

def test_a_curve_of_ones_own_is_read_like_any_other():
    from lrtools.suggest import suggest
    lrs = np.geomspace(1.3e-6, 2., 90)
    losses = np.interp(np.log10(lrs), [-6, -4, -1.5, -.7, .3], [2.3, 2.3, .4, .5, 9.])+.01*np.random.RandomState(0).randn(90)
    c = LRCurve.of(lrs, losses)
    assert suggest(c) and (c.mode, c.num_it, c.start_lr, c.end_lr, c.stops)==('exp', 90, (lrs[0],), (lrs[-1],), ['end']) and LRCurve.from_json(c.to_json())==c
    for a,b in ((lrs.tolist(), losses.tolist()), (torch.tensor(lrs), torch.tensor(losses, requires_grad=True)), (tuple(lrs), [torch.tensor(l, dtype=torch.float64) for l in losses]), (lrs[:,None], losses[None])): assert LRCurve.of(a, b)==c
    many = LRCurve.of(np.stack([lrs/10, lrs], 1), np.stack([losses, np.where(np.arange(90)<80, losses, np.nan)]), opt='Adam', bs=8)
    assert many.losses.shape==(2, 90) and many.stops==['end', 'non-finite'] and len(many.sweeps[1])==80 and many.group==1 and suggest(many)
    assert LRCurve.of(np.linspace(0, 1, 30), losses[:30]).mode=='linear' and LRCurve.of(many.group_lrs, many.losses).sweeps==many.sweeps

def test_the_recorder_of_lr_find_is_a_curve(tmp_path):
    learn = deep(tmp_path, 2)
    with learn.no_bar(), learn.no_logging(): learn.lr_find(num_it=12, show_plot=False, suggest_funcs=None)
    c = LRCurve.of(learn.recorder.lrs, learn.recorder.losses)
    assert np.array_equal(c.lrs, learn.recorder.lrs) and len(c)==len(learn.recorder.losses)

@pytest.mark.parametrize('lrs,losses,words', [([1, 2], [1], 'losses'), ([2, 1], [1, 2], 'lrs falls'), ('ab', [1, 2], 'lrs'), (5, [1], 'lrs'), ([], [], 'lrs'), ([-1, 1], [1, 1], 'lrs'), ([1, math.inf], [1, 1], 'lrs'), ([1, 2], [[[1, 2]]], 'losses'), ([1, 2], ['a', 'b'], 'losses'), ([0, 0], [1, 1], 'lrs'), ([10**400], [1], 'lrs'), ([[1], [1, 2]], [1, 2], 'lrs')])
def test_a_curve_that_cannot_be_is_refused_with_the_way_out(lrs, losses, words):
    with pytest.raises((TypeError, ValueError), match=words) as e: LRCurve.of(lrs, losses)
    assert len(str(e.value))<=300

@pytest.mark.parametrize('f', [lambda: LRCurve([1, 2], 100, (1e-6,), (1.,)), lambda: LRCurve(np.zeros(3), 100, (1e-6,), (1.,)), lambda: LRCurve([], 100, 1e-6, 1.), lambda: Sweep([1e-3, 1e-2], [1., 2.])])
def test_the_errors_of_the_long_way_lead_to_the_short_one(f):
    with pytest.raises((TypeError, ValueError), match=r'LRCurve\.of\(lrs, losses\)'): f()
