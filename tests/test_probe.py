"`probe`: real short trainings, the learner put back, what it says of them true"
import math
from functools import partial

import numpy as np, pytest, torch
from fastai.basics import Callback, CancelFitException, Optimizer, OptimWrapper, RMSProp, SGD, sgd_step

from learners import CONFIGS, Boom, boom, deep, fault, plain, quiet
from lrtools.all import Phase, fit_plan, lr_range_test, one_cycle
from lrtools.probe import probe
from lrtools.runs import ProbeRuns, Run
from lrtools.curve import Sweep
from lrtools.suggest import fmt_range
from state import changes, state, writes
from test_faults import build

@pytest.mark.parametrize('name', CONFIGS)
def test_every_kind_of_learner_is_left_alone(tmp_path, name):
    learn = build(name, tmp_path)
    before = state(learn, tmp_path)
    with writes() as written: p = probe(learn, [1e-3, slice(1e-3)], num_it=4, progress=False)
    assert changes(before, state(learn, tmp_path))==[] and written==[]
    assert all(math.isfinite(r.valid) and len(r.sweep)==4 for r in p.runs) and math.isfinite(p.valid0)

@pytest.mark.parametrize('place', ['model', 'loss'])
def test_left_alone_when_it_fails(tmp_path, place):
    learn = build('norm_dropout', tmp_path)
    before = state(learn, tmp_path)
    fault.arm(place, 6, boom)
    with pytest.raises(Boom): probe(learn, [1e-3, 1e-2], num_it=4, progress=False)
    fault.arm()
    assert changes(before, state(learn, tmp_path))==[]

def test_the_same_orders_for_each_rate(tmp_path):
    p = probe(plain(tmp_path), [1e-3, 1e-2, 1e-3], num_it=4, seeds=3, progress=False)
    first = [[r.sweep.losses[0] for r in p.runs[i:i+3]] for i in (0, 3, 6)]
    assert first[0]==first[1]==first[2] and len(set(first[0]))==3
    assert [r.valid for r in p.runs[:3]]==[r.valid for r in p.runs[6:]]

def test_a_slice_on_one_parameter_group(tmp_path):
    assert math.isfinite(probe(build('tied', tmp_path), slice(1e-5, 1e-3), num_it=3, progress=False).runs[0].valid)

def test_valid_loss_is_that_of_validate(tmp_path):
    learn = plain(tmp_path)
    p = probe(learn, [1e-3], num_it=3, progress=False)
    learn.remove_cbs([cb for cb in learn.cbs if type(cb).__name__=='Notes'])
    assert p.valid0==pytest.approx(learn.validate()[0], rel=.02)    # the data have a little noise of their own

def test_a_cancelled_fit_is_said_to_be_cancelled(tmp_path):
    learn = plain(tmp_path)
    def stop(self):
        if self.train_iter==2: raise CancelFitException()
    learn.add_cb(Callback(after_batch=stop))
    p = probe(learn, [1e-3], num_it=8, progress=False)
    assert p.runs[0].state=='cancelled' and p.best is None and 'cancelled in 1 of 1' in p._repr_markdown_()

def test_an_explosion_is_told(tmp_path):
    p = probe(plain(tmp_path), [1e-3, 1e12], num_it=12, progress=False)
    assert p.best==1e-3 and (p.runs[1].state=='exploded' or p.runs[1].valid>10*p.valid0)

def runs(*lrs): return [Run(lr, 0, Sweep(np.full((2,1), .1), [2., 1.], 'end'), float(i)) for i,lr in enumerate(lrs, 1)]

def test_rates_that_print_alike_stay_apart():
    p = ProbeRuns(runs(1.04e-3, 1e-3), 2, 2.3)
    assert len(p.groups)==2 and p.best==1.04e-3

def test_json_round_trip(tmp_path):
    p = probe(plain(tmp_path), np.array([1e-3, 1e-2], 'float32'), num_it=np.int64(3), progress=False)
    assert ProbeRuns.from_json(p.to_json())==p and p.num_it==3 and hash(p)==hash(ProbeRuns.from_json(p.to_json()))
    with pytest.raises(ValueError, match='version'): ProbeRuns.from_json(p.to_json().replace('"version": 1', '"version": 7'))

def test_a_rate_for_each_group(tmp_path):
    p = probe(plain(tmp_path), [[1e-4, 1e-2], 1e-3], num_it=3, progress=False)
    assert [r.lr for r in p.runs]==[(1e-4, 1e-2), 1e-3] and np.allclose(p.runs[0].sweep.lrs[:,1]/p.runs[0].sweep.lrs[:,0], 100)
    assert '[1e-4, 1e-2]' in p._repr_markdown_() and ProbeRuns.from_json(p.to_json())==p and ProbeRuns.from_json(p.to_json()).runs[0].lr==(1e-4, 1e-2)

BAD = [(dict(lrs=[]), TypeError), (dict(lrs='1e-3'), TypeError), (dict(lrs=[-1.]), ValueError), (dict(lrs=[math.nan]), ValueError), (dict(lrs=[[1e-3]]), ValueError), (dict(lrs=[[1e-3, 'x']]), TypeError), (dict(lrs=[[1e-3, -1.]]), ValueError), (dict(lrs=[slice(None)]), TypeError),
       (dict(lrs=[True]), TypeError), (dict(num_it=0), ValueError), (dict(num_it=2.), TypeError), (dict(seeds=0), ValueError), (dict(seeds='a'), TypeError)]
@pytest.mark.parametrize('bad,error', BAD, ids=lambda o: str(o)[:30])
def test_bad_arguments_change_nothing(tmp_path, bad, error):
    learn = build('no_optimizer', tmp_path)
    before = state(learn, tmp_path)
    with pytest.raises(error, match=next(iter(bad))): probe(learn, **{**dict(lrs=[1e-3], num_it=3), **bad})
    assert changes(before, state(learn, tmp_path))==[]

def test_a_frozen_model_is_refused(tmp_path):
    learn = plain(tmp_path)
    for p in learn.model.parameters(): p.requires_grad_(False)
    with pytest.raises(ValueError, match='trainable'): probe(learn, [1e-3])

# ---------------------------------------------------------------- hypers that an optimizer may lack

TORCHS = 'Adagrad','Adadelta','RMSprop','Rprop','ASGD','Adamax','NAdam','Adafactor','SGD'
OPTS = {k: partial(OptimWrapper, opt=getattr(torch.optim, k)) for k in TORCHS if hasattr(torch.optim, k)} | dict(own_sgd=SGD, own_rmsprop=RMSProp, bare=partial(Optimizer, cbs=[sgd_step]))

@pytest.mark.parametrize('trained', [False, True])
@pytest.mark.parametrize('name', OPTS)
def test_optimizers_without_a_momentum(tmp_path, name, trained):
    "Those that have none, and those whose memory was made without one"
    learn = plain(tmp_path, opt_func=OPTS[name])
    if trained: quiet(learn, 1, 1e-4)
    p = probe(learn, [1e-4], num_it=3, progress=False)
    assert p.best==1e-4 and len(lr_range_test(learn, num_it=4, end_lr=1e-3, stop_div=None, progress=False))==4
    with learn.no_bar(), learn.no_logging(): assert fit_plan(learn, Phase(one_cycle(1e-4), 1)).n_steps

def test_lbfgs_is_refused_with_the_way_out(tmp_path):
    learn = plain(tmp_path, opt_func=partial(OptimWrapper, opt=torch.optim.LBFGS), splitter=lambda m: list(m.parameters()))
    for f in (lambda: probe(learn, [1e-3], progress=False), lambda: lr_range_test(learn, progress=False), lambda: fit_plan(learn, Phase(one_cycle(1e-3), 1))):
        with pytest.raises(ValueError, match='closure'): f()

# ---------------------------------------------------------------- groups that stand still

@pytest.mark.parametrize('rates', [[0.,0.,1e-2], [1e-2,0,0], [0,1e-2,0.], [0,1e-3,1e-2]], ids=str)
def test_a_group_of_rate_0_stands_still(tmp_path, rates):
    p = probe(deep(tmp_path, 3), [rates], num_it=4, progress=False)
    lrs = p.runs[0].sweep.lrs
    assert [bool(c.any()) for c in lrs.T]==[r>0 for r in rates] and math.isfinite(p.runs[0].valid)
    assert ProbeRuns.from_json(p.to_json())==p and fmt_range(list(rates)) in p._repr_markdown_()

def test_rates_of_0_for_all_groups_are_refused(tmp_path):
    for lrs in ([[0.,0.,0.]], [0.], [[0.]], [slice(0., 0.)]):
        with pytest.raises(ValueError, match='lrs'): probe(deep(tmp_path, 3), lrs, num_it=3, progress=False)
