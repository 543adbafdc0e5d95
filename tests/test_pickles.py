"What lrtools makes, and what it leaves on a learner, goes through every door that was open before"
import copy, io, multiprocessing, pickle, subprocess, sys
from functools import partial

import cloudpickle, numpy as np, pytest, torch
import fastai.callback.schedule # gives learners their fits
from fastai.basics import Callback, DataLoaders, Learner, load_learner
from torch.optim.lr_scheduler import CyclicLR

import lrtools.schedule as made
from learners import Rows, deep, quiet
from lrtools.compare import compare
from lrtools.continue_study import continue_study
from lrtools.continuation import continue_plan
from lrtools.curve import GroupCurves, LRCurve, Sweep
from lrtools.fit_plan import fit_plan
from lrtools.freezing import freeze_report, freeze_to, preflight
from lrtools.history import LRHistory
from lrtools.interop import from_everydream, from_torch
from lrtools.plan import Phase, Plan, decaying_cycles_plan, fine_tune_plan, gradual_unfreeze_plan, lesson2_plan
from lrtools.probe import probe
from lrtools.range_test import lr_range_test
from lrtools.recording import record
from lrtools.schedule import *
from lrtools.schedule import schedule
from lrtools.snapshot import Snapshot
from lrtools.suggest import suggest, zones

@schedule
def halving(lr, times=3): return lambda x: lr*.5**np.floor(x*times)

SCHEDS = dict(one_cycle=one_cycle(3.1e-3), groups=one_cycle([1.3e-5, 0.7e-3], moms=None), waits=one_cycle(slice(1.1e-6, 3e-4), three_phase=True, pct_start=.3), last=flat_cos(slice(2.3e-4)), sgdr=sgdr(1e-2, 2, 1, 1.7), cyclical=cyclical(0., 7e-4, 2.5, mode='cosine'),
    slanted=slanted_triangular(1e-2), warmup=warmup_cos(1e-3), stable=warmup_stable_decay(1e-3), poly=poly(1e-3, 2.), exponential=exponential(1e-2, 1e-5), multistep=multistep(.3, [.2, .7]), step=step(.2), inverse=inverse_sqrt(1e-3), constant=constant(1/3),
    stairs=stairs([1e-3, 3e-4]), ladder=ladder(1e-5, 1e-4), sampled=sampled([1e-3, 2e-3, 0.]), moms=sampled([[1e-3, 1e-4]]*3, [.9, .8, .7]), join=join([constant(1e-3), one_cycle(2e-3)], [.7, .4]), scale=scale(one_cycle(1e-3), [.1, 1.]),
    clip=clip(sgdr(1e-3), 1e-5), torch=from_torch(lambda o: CyclicLR(o, 1e-4, 1e-2, 7), 33), everydream=from_everydream(dict(lr_scheduler='cosine'), 50), own=halving(1e-3, times=5), nested=join([clip(scale(sgdr(slice(1e-5, 1e-3)), .5), 1e-6)]*2))

def copies(o): return [pickle.loads(pickle.dumps(o, p)) for p in (0, 2, pickle.HIGHEST_PROTOCOL)]+[copy.copy(o), copy.deepcopy(o), cloudpickle.loads(cloudpickle.dumps(o))]

@pytest.mark.parametrize('name', SCHEDS)
def test_every_schedule_goes_through_a_pickle(name):
    sched = SCHEDS[name]
    pos = np.linspace(0, 1, 37)
    for o in copies(sched):
        assert o==sched and hash(o)==hash(sched) and o.args==sched.args and o.waits==sched.waits
        for f in (o, sched): f = f.for_groups(3) if f.waits else f
        a,b = (f.for_groups(3) if f.waits else f for f in (o, sched))
        assert np.array_equal(a(pos), b(pos)) and np.array_equal(np.array(a.mom(pos), float), np.array(b.mom(pos), float), equal_nan=True)

def test_a_schedule_in_a_process_that_begins_anew():
    "As `multiprocessing` with spawn has it: the schedules of a module that it has not imported are found there"
    code = f"import sys, pickle; sys.path.insert(0, {'tests'!r}); s = pickle.loads(bytes.fromhex(sys.argv[1])); print([o(.4) for o in s])"
    scheds = [SCHEDS['one_cycle'], SCHEDS['own'], SCHEDS['join']]
    said = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, pickle.dumps(scheds).hex()], capture_output=True, text=True, check=True).stdout
    assert said.strip()==repr([o(.4) for o in scheds])

PLANS = dict(fine_tune=fine_tune_plan(3), gradual=gradual_unfreeze_plan(3), lesson2=lesson2_plan(), cycles=decaying_cycles_plan([(1, 1e-3), (.5, 1e-4)], 1), wd=Plan([Phase(SCHEDS['own'], 2, wd=np.array([.1, .2]), clip=.37, name='a|b')]))
@pytest.mark.parametrize('name', PLANS)
def test_every_plan_goes_through_a_pickle(name):
    for o in copies(PLANS[name]): assert o==PLANS[name] and repr(o)==repr(PLANS[name])
    for o in copies(PLANS[name][0]): assert o==PLANS[name][0]

@pytest.fixture(scope='module')
def records(tmp_path_factory):
    learn = deep(tmp_path_factory.mktemp('r'), 3)
    with learn.no_bar(), learn.no_logging():
        history = fit_plan(learn, fine_tune_plan(1, freeze_epochs=1))
        fit_plan(learn, Phase(SCHEDS['own'], 1))
        curve = lr_range_test(learn, num_it=20, valid=2, repeats=2, progress=False)
        runs = compare(learn, {'a': Plan([Phase(one_cycle(1e-3), 1)]), 'b': Phase(sgdr(1e-3, 1), 1)}, seeds=(0, 1), progress=False)
        study = continue_study(learn, strategies=['again', 'constant'], n_epoch=1, seeds=(0,), progress=False)
        return dict(history=history, fit=history[0], curve=curve, sweep=curve.sweeps[0], groups=GroupCurves([curve, curve]), probe=probe(learn, [1e-3, 1e-2], num_it=5, progress=False), runs=runs, arm_history=runs.runs[0].history, study=study, report=freeze_report(learn),
                    preflight=preflight(learn, 1e-3), plan=continue_plan(history, 'rewarm'), stopped=curve.finite().trim(2, 2))

@pytest.mark.parametrize('name', ['history','fit','curve','sweep','groups','probe','runs','arm_history','study','report','preflight','plan','stopped'])
def test_every_record_goes_through_a_pickle(name, records):
    o = records[name]
    for c in copies(o): assert c==o and repr(c)==repr(o)
    if name=='sweep':
        for c in copies(o):
            assert hash(c)==hash(o) and c!=Sweep(o.lrs*2, o.losses)
            with pytest.raises(ValueError): c.lrs[0] = 0.
    if name=='fit': assert hash(copy.deepcopy(o))==hash(o) and o!=records['history'][1]
    if name=='probe': assert copy.deepcopy(o.runs[0])==o.runs[0]!=o.runs[1] and hash(copy.deepcopy(o.runs[0]))==hash(o.runs[0])

# ---------------------------------------------------------------- learners

def fitted(learn): fit_plan(learn, fine_tune_plan(1))
def own_kind(learn): fit_plan(learn, Phase(halving(1e-3), 1))
def from_others(learn): fit_plan(learn, Plan([Phase(SCHEDS['torch'], 1), Phase(SCHEDS['nested'], 1)]))
def recorded(learn): record(learn); quiet(learn)
def held(learn): freeze_to(learn, -1, norm='eval'); fit_plan(learn, Phase(one_cycle(1e-3), 1, freeze_to=1, norm='eval', clip=.3))
def looked(learn): lr_range_test(learn, num_it=5, progress=False); freeze_report(learn, measure=True); probe(learn, [1e-3], num_it=2, progress=False)
def compared(learn):
    record(learn)
    compare(learn, {'a': Phase(one_cycle(1e-3), 1)}, seeds=(0,), progress=False).runs[0].restore(learn)
def resumed(learn): fit_plan(learn, Phase(one_cycle(1e-3), 2), start=(0, 1))
def failed(learn):
    with pytest.raises(ZeroDivisionError): fit_plan(learn, Phase(one_cycle(1e-3), 1), cbs=[Callback(before_batch=lambda cb: 1/0)])

def by_pickle(l, path): return pickle.loads(pickle.dumps(l))
def by_deepcopy(l, path): return copy.deepcopy(l)
def by_torch(l, path):
    buffer = io.BytesIO()
    torch.save(l, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)
def by_export(l, path, **kw):
    l.export('l.pkl', **kw)
    return load_learner(path/'l.pkl')
def by_cloudpickle(l, path): return cloudpickle.loads(cloudpickle.dumps(l))

DOORS = dict(pickle=by_pickle, deepcopy=by_deepcopy, torch=by_torch, export=by_export, export_pickle=partial(by_export, pickle_module=pickle), cloudpickle=by_cloudpickle)
class Given(Rows):
    "Data that can be left out of an export"
    def new_empty(self): return Given(8)

def exportable(path):
    learn = deep(path, 3)
    learn.dls,learn.splitter = DataLoaders.from_dsets(Given(43, 1), Given(12, 2), bs=8, path=path, device='cpu', num_workers=0),split
    return learn

def split(m): return [list(o.parameters()) for o in m]

@pytest.mark.parametrize('what', [fitted, own_kind, from_others, recorded, held, looked, compared, resumed, failed], ids=lambda f: f.__name__)
def test_a_learner_goes_through_the_doors_that_were_open_before(what, tmp_path):
    learn = exportable(tmp_path)
    with learn.no_bar(), learn.no_logging(): what(learn)
    for name,door in DOORS.items():
        twin = door(learn, tmp_path)
        assert isinstance(twin, Learner) and all(torch.equal(a, b) for a,b in zip(twin.model.state_dict().values(), learn.model.state_dict().values())), name
        if hasattr(learn, 'lr_history'): assert twin.lr_history==learn.lr_history, name
        if 'export' not in name:
            with twin.no_bar(), twin.no_logging(): fit_plan(twin, Phase(one_cycle(1e-3), 1))
    assert Snapshot(learn).saved() is not None and isinstance(pickle.loads(pickle.dumps(Snapshot(learn).saved())).restore(learn), Learner)

class Keep(Callback):
    "A checkpoint of the whole learner in each batch"
    order,kept = 100,b''
    def after_batch(self):
        self.kept = b''
        self.kept = pickle.dumps(self.learn)

def test_a_learner_goes_through_in_the_middle_of_a_plan(tmp_path):
    "What a checkpoint brings back begins its next fit at the beginning"
    learn,keep = deep(tmp_path, 3),Keep()
    learn.splitter,learn.iters = split,0
    with learn.no_bar(), learn.no_logging(): fit_plan(learn, Phase(one_cycle(1e-3), 3), start=(0, 2), cbs=keep)
    twin = pickle.loads(keep.kept)
    assert '_do_fit' not in vars(twin) and len(twin.lr_history)==1
    twin.remove_cbs([cb for cb in twin.cbs if type(cb).__module__.startswith('lrtools') or isinstance(cb, Keep)])
    with twin.no_logging(): twin.fit(2, 1e-3)
    assert len(twin.recorder.lrs)==10
