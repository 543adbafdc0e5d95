"What is drawn, what the optimizer was set to, and what was recorded are the same numbers; a plan that was stopped goes on where it was"
import math, random
from functools import partial

import numpy as np, pytest, torch
from fastai.basics import Callback, CancelFitException
import fastai.callback.schedule # gives learners their fits
from fastai.callback.training import GradientAccumulation
from hypothesis import given, settings, strategies as st
from torch import nn

from learners import CONFIGS, deep, plain
from state import changes, state
from lrtools.fit_plan import fit_plan
from lrtools.history import Column, FitRecord, LRHistory
from lrtools.interop import from_everydream, from_torch, to_torch
from lrtools.plan import Phase, Plan, decaying_cycles_plan, fine_tune_plan, gradual_unfreeze_plan, lesson2_plan
from lrtools.recording import Recording, record
from lrtools.schedule import (clip, constant, cyclical, exponential, flat_cos, inverse_sqrt, join, ladder, multistep, one_cycle, poly, sampled, scale, sgdr, slanted_triangular, step, warmup_cos, warmup_stable_decay)

small = partial(deep, n_groups=3)

def quietly(learn, *args, **kw):
    with learn.no_bar(), learn.no_logging(): return fit_plan(learn, *args, **kw)

class Watch(Callback):
    "What the optimizer has at each batch"
    order,run_valid = 900,False
    def __init__(self): self.seen,self.seen_moms = [],[]
    def after_loss(self):
        self.seen.append([h['lr'] for h in self.opt.hypers])
        self.seen_moms.append([h.get('mom', math.nan) for h in self.opt.hypers])

# ---------------------------------------------------------------- the same numbers

SCHEDS = dict(one_cycle=one_cycle, three=partial(one_cycle, three_phase=True, pct_start=.3), flat_cos=flat_cos, sgdr=sgdr, triangular=lambda lr: cyclical(0., lr, 2.5), exp_range=lambda lr: cyclical(0., lr, 3, mode='exp_range', gamma=.9, num_it=15),
              slanted=slanted_triangular, warmup_cos=warmup_cos, stable=warmup_stable_decay, poly=poly, exponential=lambda lr: exponential(lr, 1e-6), multistep=multistep, step=step, inverse_sqrt=inverse_sqrt, constant=constant,
              ladder=lambda lr: ladder(1e-5, 1e-4, 1e-3), join=lambda lr: join([constant(lr), one_cycle(lr)]), scale=lambda lr: scale(one_cycle(lr), .5), clip=lambda lr: clip(sgdr(lr), 1e-5), sampled=lambda lr: sampled([1e-3, 2e-3, 1e-4]))
SIZES = dict(one_batch=(dict(n=8), 1, ()), odd=(dict(n=43), 3, ()), accumulation=(dict(n=43), 2, (20,)))

@pytest.mark.parametrize('size', SIZES)
@pytest.mark.parametrize('n_groups', [1, 3])
@pytest.mark.parametrize('name', SCHEDS)
def test_drawn_set_and_recorded_are_the_same(name, n_groups, size, tmp_path):
    kw,n_epoch,acc = SIZES[size]
    learn,watch = small(tmp_path, n_groups=n_groups, **kw),Watch()
    plan = Plan([Phase(SCHEDS[name](slice(1e-5, 1e-3) if name not in ('exponential',) else 1e-3), n_epoch)])
    history = quietly(learn, plan, cbs=[watch, *map(GradientAccumulation, acc)])
    n_iter = len(learn.dls.train)
    (pos,drawn,moms), = plan.drawn(n_iter, n_groups)
    assert len(drawn)==n_epoch*n_iter and np.array_equal(pos, np.arange(n_epoch*n_iter)/n_iter)
    assert np.array_equal(drawn, plan.rates(n_iter, n_groups)) and np.array_equal(drawn, np.array(watch.seen)) and np.array_equal(drawn, history.lrs)
    if not np.isnan(moms).any(): assert np.array_equal(np.array(watch.seen_moms), np.broadcast_to(moms[:,None], (len(moms), n_groups))) and np.array_equal(history[0]['mom'], np.array(watch.seen_moms))

def test_as_fine_tune(tmp_path):
    weights = []
    for f in (lambda l: quietly(l, fine_tune_plan(2)), lambda l: l.fine_tune(2)):
        torch.manual_seed(1); random.seed(1); np.random.seed(1)
        learn = plain(tmp_path)
        for p in learn.model.parameters(): nn.init.normal_(p, std=.3) if p.ndim>1 else nn.init.ones_(p)
        with learn.no_bar(), learn.no_logging(): f(learn)
        weights.append(np.concatenate([p.detach().numpy().ravel() for p in learn.model.parameters()]))
    assert np.allclose(*weights, atol=2e-4) and np.abs(weights[0]).max()>.1

def test_freezing_weight_decay_clipping_and_new_optimizers(tmp_path):
    learn,seen = small(tmp_path),[]
    class Look(Callback):
        run_valid = False
        def before_fit(self): seen.append(([any(p.requires_grad for p in ps) for ps in self.opt.param_lists], [h['wd'] for h in self.opt.hypers], id(self.opt), hasattr(self.learn, 'gradient_clip')))
    quietly(learn, Plan([Phase(one_cycle(1e-3), 1, freeze_to=-1, norm='eval', wd=.1), Phase(one_cycle(1e-3), 1, wd=[.1,.2,.3], clip=.5), Phase(one_cycle(1e-3), 1, freeze_to=0, norm='train', reset_opt=True)]), cbs=Look())
    assert [s[0] for s in seen]==[[False,False,True], [False,False,True], [True]*3] and [s[1] for s in seen[:2]]==[[.1]*3, [.1,.2,.3]] and [s[3] for s in seen]==[False,True,False]
    assert seen[0][2]==seen[1][2]!=seen[2][2] and [f.trains for f in learn.lr_history]==[(False,False,True)]*2+[(True,)*3]
    assert not any(isinstance(cb, Recording) for cb in learn.cbs)

@pytest.mark.parametrize('plan', [gradual_unfreeze_plan(3), lesson2_plan(n_cycles=2), decaying_cycles_plan([(1, 1e-3), (.5, 1e-4)], step_size=1)], ids=['gradual','lesson 2','decaying'])
def test_recipes_run(plan, tmp_path):
    learn = small(tmp_path)
    h = quietly(learn, plan)
    assert np.array_equal(h.lrs, plan.rates(5, 3)) and [f.trains for f in h]==[tuple(t) for t in plan.trains(3).tolist()]

# ---------------------------------------------------------------- stopped, and gone on with

@pytest.mark.parametrize('seed', range(8))
def test_interrupted_and_resumed(seed, tmp_path, capsys):
    rng = random.Random(seed)
    plan = Plan([Phase(one_cycle(1e-3), 2, freeze_to=-1), Phase(sgdr(slice(1e-5, 1e-3), 2, 1, 2), 3, freeze_to=0), Phase(flat_cos(1e-3), 1)])
    whole,at = quietly(small(tmp_path), plan),rng.randrange(30)
    learn,seen = small(tmp_path),[]
    class Stop(Callback):
        run_valid = False
        def after_batch(self):
            seen.append(0)
            if len(seen)==at+1: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): quietly(learn, plan, cbs=Stop())
    said = capsys.readouterr().out
    start = eval(said[said.index('start=')+6:].rpartition(')')[0])
    assert learn.lr_history[-1].stop=='interrupted' and np.array_equal(learn.lr_history.lrs, whole.lrs[:len(learn.lr_history.lrs)]) and len(learn.lr_history.lrs)==at+1
    assert not any(isinstance(cb, (Recording, Stop)) for cb in learn.cbs)
    n = len(learn.lr_history)
    quietly(learn, plan, start=start)
    again = np.concatenate([f.lrs for f in learn.lr_history[n:]])
    first = 5*(plan.starts[start[0]]+start[1])
    assert np.array_equal(again, whole.lrs[first:]) and first<=at and at-first<5
    assert [f.trains for f in learn.lr_history[n:]]==[f.trains for f in whole[start[0]:]] and len(learn.lr_history[-1].epochs)==1

def test_a_callback_ends_the_plan(tmp_path):
    learn = small(tmp_path)
    class End(Callback):
        run_valid = False
        def after_batch(self):
            if self.iter==2: raise CancelFitException()
    h = quietly(learn, Plan([Phase(one_cycle(1e-3), 1)]*3), cbs=End())
    assert [f.stop for f in h]==['cancelled'] and len(h[0])==3

# ---------------------------------------------------------------- refused before anything changes

BAD = [(Plan([Phase(constant([1e-3]*4), 1)]), {}, ValueError, '4 parameter groups'), (Plan([Phase(constant(1e-3), 1), Phase(constant(1e-3), 1, freeze_to=4)]), {}, ValueError, 'freeze_to=4'), (Plan([Phase(constant(1e-3), 1, wd=[.1, .2])]), {}, ValueError, 'wd='),
       (Plan([Phase(constant(1e-3), 1)]), dict(start=(1, 0)), ValueError, 'start='), (Plan([Phase(constant(1e-3), 1)]), dict(start=(0, 1)), ValueError, 'start='), (Plan([Phase(constant(1e-3), 1)]), dict(start=1), TypeError, 'start='), (one_cycle(1e-3), {}, TypeError, 'plan='),]

@pytest.mark.parametrize('i', range(len(BAD)))
def test_refused_before_anything_changes(i, tmp_path):
    plan,kw,error,words = BAD[i]
    learn = small(tmp_path)
    before = state(learn)
    with pytest.raises(error, match=words): fit_plan(learn, plan, **kw)
    assert not changes(before, state(learn))

@pytest.mark.parametrize('f,words', [(lambda: Phase(one_cycle(1e-3), 0), 'n_epoch=0'), (lambda: Phase(one_cycle(1e-3), 1.5), 'n_epoch=1.5'), (lambda: Phase(one_cycle(1e-3), 1, wd=-1), 'wd=-1'), (lambda: Phase(one_cycle(1e-3), 1, norm='eval'), 'freeze_to'),
    (lambda: Phase(one_cycle(1e-3), 1, clip=0), 'clip=0'), (lambda: Plan([]), 'empty'), (lambda: decaying_cycles_plan([(1.25, 1e-3)], 1), 'whole'), (lambda: fine_tune_plan(2, -1), 'base_lr=-1'), (lambda: gradual_unfreeze_plan(0), 'n_groups=0')])
def test_phases_refuse(f, words):
    with pytest.raises(ValueError, match=words): f()

# ---------------------------------------------------------------- the record

def test_record_keeps_all_fits_and_no_range_test(tmp_path):
    learn = small(tmp_path)
    h = record(learn)
    assert record(learn) is h and sum(isinstance(cb, Recording) for cb in learn.cbs)==1
    with learn.no_bar(), learn.no_logging():
        learn.fit_one_cycle(2, 1e-3)
        learn.lr_find(show_plot=False, num_it=6, suggest_funcs=None)
        learn.get_preds(); learn.validate()
        learn.fit(1, slice(1e-5, 1e-3))
    from lrtools.range_test import lr_range_test
    lr_range_test(learn, num_it=5, progress=False)
    assert [(len(f), f.stop, len(f.epochs)) for f in learn.lr_history]==[(10, 'end', 2), (5, 'end', 1)] and learn.lr_history is h
    assert h[0].epochs[1]['valid_loss']==pytest.approx(h[0].epochs[1]['valid_loss']) and np.array_equal(h[0].lrs[:,-1][-1], h[0].lrs[-1,-1])
    assert LRHistory.from_json(h.to_json())==h and h.to_pandas().shape[0]==15 and h.last_lr==(1e-5, pytest.approx(1e-4), 1e-3)
    assert np.isfinite(h.losses).all() and '| 1' in h._repr_markdown_()

def test_any_learner_is_recorded(tmp_path):
    for name in ('adamw','text','tabular','autocast','accumulation','mixup'):
        learn = CONFIGS[name](tmp_path)
        h = quietly(learn, Plan([Phase(one_cycle(1e-3), 1)]))
        assert len(h[0])==len(learn.dls.train) and np.isfinite(h.losses).all()
        assert LRHistory.from_json(h.to_json())==h

def test_a_million_steps_take_less_than_100_mb():
    f = FitRecord(1, 10**6, (True,)*3)
    rows = [dict(lr=0., mom=.9, wd=.01, eps=1e-5, sqr_mom=.99) for _ in range(3)]
    for i in range(3000):
        for k,r in enumerate(rows): r['lr'],r['mom'] = i*1e-6*(k+1),.9+i*1e-6
        f.add(i, .5+i, rows)
    held = sum((c._row.nbytes if c._data is None else c._data[:c.n].nbytes) for c in f.columns.values())/len(f)
    spare = max(len(c._data)/c.n for c in f.columns.values() if c._data is not None)
    assert spare<1.3 and held*10**6*spare<100e6

@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), min_size=2, max_size=2), max_size=200))
def test_columns_keep_everything(rows):
    c = Column()
    for r in rows: c.append(r)
    assert len(c)==len(rows) and (not rows or np.array_equal(c.values, np.array(rows, float), equal_nan=True))

# ---------------------------------------------------------------- other schedulers

def test_to_torch_and_back():
    sched,n = join([one_cycle([1e-5, 1e-3]), constant([1e-4, 1e-4])]),50
    def make(opt): return to_torch(sched, opt, n)
    assert np.array_equal(from_torch(make, n, lr=[.1, .2])(np.arange(n)/n), sched(np.arange(n)/n))
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=.1)
    with pytest.raises(ValueError, match='2 parameter groups'): to_torch(sched, opt, n)
    run = to_torch(one_cycle(1e-3), opt, 3)
    for _ in range(6): opt.step(); run.step() # past the end it stays
    assert opt.param_groups[0]['lr']==one_cycle(1e-3)(2/3)

class TimmLike:
    "Counts from outside"
    def __init__(self, opt): self.opt = opt
    def step(self, epoch): raise AssertionError
    def step_update(self, num_updates):
        for g in self.opt.param_groups: g['lr'] = 1e-3*(1+num_updates)
def test_timm(): assert from_torch(TimmLike, 4)(np.arange(4)/4).tolist()==[1e-3, 2e-3, 3e-3, 4e-3]

def stepped(make, n, step):
    "Rates that a loop of one's own sees"
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    sched,rates = make(opt),[]
    for i in range(n):
        rates.append(opt.param_groups[0]['lr'])
        opt.step()
        step(sched, i+1)
    return np.array(rates)

@pytest.mark.parametrize('name', ['linear','cosine','cosine_with_restarts','polynomial','constant','constant_with_warmup','inverse_sqrt','warmup_stable_decay'])
def test_transformers(name):
    from transformers import get_scheduler
    kw = dict(scheduler_specific_kwargs=dict(num_decay_steps=40)) if name=='warmup_stable_decay' else {}
    make,pos = (lambda opt: get_scheduler(name, opt, num_warmup_steps=20, num_training_steps=200, **kw)),np.arange(200)/200
    want = stepped(make, 200, lambda s, i: s.step())
    assert np.array_equal(from_torch(make, 200)(pos), want)
    ours = dict(cosine=warmup_cos(1e-3, .1), inverse_sqrt=inverse_sqrt(1e-3, .1), constant=constant(1e-3), linear=warmup_stable_decay(1e-3, .1, .9, decay='linear')).get(name)
    if ours: assert np.allclose(ours(pos), want, atol=1e-12, rtol=1e-9)

@pytest.mark.parametrize('name', ['Cosine','Tanh','Step','Poly'])
def test_timm_itself(name):
    import timm.scheduler
    cls = getattr(timm.scheduler, f'{name}LRScheduler')
    kw = dict(decay_t=5, decay_rate=.5) if name=='Step' else dict(t_initial=20)
    by_steps = lambda opt: cls(opt, **{k:v if k=='decay_rate' else 10*v for k,v in kw.items()}, warmup_t=10, warmup_lr_init=1e-6, t_in_epochs=False)
    def step(s, i): s.step_update(i)
    assert np.array_equal(from_torch(by_steps, 200)(np.arange(200)/200), stepped(by_steps, 200, step))
    in_epochs = lambda opt: cls(opt, **kw, warmup_t=2, warmup_lr_init=1e-6)
    def step(s, i):
        s.step_update(i)
        if i%10==0: s.step(i//10)
    got = from_torch(in_epochs, 200, n_epoch=20)(np.arange(200)/200)
    assert np.array_equal(got, stepped(in_epochs, 200, step)) and len(set(got))>3
    with pytest.raises(ValueError, match='counts epochs'): from_torch(in_epochs, 200)

def test_from_torch_refuses():
    from torch.optim.lr_scheduler import OneCycleLR
    with pytest.raises(ValueError, match='ended at step 11'): from_torch(lambda o: OneCycleLR(o, 1e-2, total_steps=10), 20)
    for bad in (3, lambda o: 3):
        with pytest.raises(TypeError, match='make_scheduler'): from_torch(bad, 5)
    with pytest.raises(ValueError, match='n_iter=0'): from_torch(TimmLike, 0)

def test_everydream():
    "800 steps of 20 pictures, as in the write-up: 50 cycles of step size 8"
    y = from_everydream(dict(lr=1.13e-6, lr_scheduler='cosine', lr_decay_steps=8, lr_warmup_steps=0), 800)(np.arange(800)/800)
    assert np.allclose(y, cyclical(0., 1.13e-6, 50, mode='cosine')((np.arange(800)/800+1/100)%1), atol=1e-18) and (np.diff(np.sign(np.diff(y)))<0).sum()==49
    y = from_everydream(dict(base=dict(lr=1e-6, lr_scheduler='cosine', lr_decay_steps=None, lr_warmup_steps=None)), 100)(np.arange(100)/100)
    assert y[0]==0 and y[3]==1e-6 and .1e-6<y[-1]<.35e-6 # it does not get to 0
    assert (from_everydream(dict(lr_scheduler='constant'), 5)(np.arange(5)/5)==1e-6).all()
    for bad,words in ((dict(lr_scheduler='no'), 'lr_scheduler'), (dict(lr=-1), 'lr=-1'), (3, 'config')):
        with pytest.raises((ValueError, TypeError), match=words): from_everydream(bad, 10)

# ---------------------------------------------------------------- going on

from lrtools.continuation import STRATEGIES, continue_plan, jump

@pytest.mark.parametrize('name', STRATEGIES)
def test_every_way_to_go_on(name, tmp_path):
    learn = small(tmp_path)
    record(learn)
    quietly(learn, Plan([Phase(one_cycle(slice(1e-5, 1e-3)), 2)]))
    plan = continue_plan(learn.lr_history, name, 2)
    assert plan.n_groups==3 and Plan.from_json(plan.to_json())==plan and (plan.n_epoch==4)==(name=='from_scratch_longer')
    rates = plan.rates(5, 3)
    if name!='from_scratch_longer': assert plan[0].name==f'{name}: {jump(learn.lr_history, plan)}' and 'last' in plan[0].name or rates[0,-1]==0
    h = quietly(learn, plan)
    assert np.array_equal(h[-1].lrs, rates) and len(h)==2
    assert (rates.max(0)<=np.array([1e-5,1e-4,1e-3])*(1+1e-9)).all()

@pytest.mark.parametrize('name', STRATEGIES)
def test_going_on_leaves_a_group_that_stood_still_at_0(name, tmp_path):
    learn = small(tmp_path)
    record(learn)
    quietly(learn, Plan([Phase(one_cycle([0., 0., 1e-3]), 1)]))
    rates = continue_plan(learn.lr_history, name, 2).rates(5, 3)
    assert (rates[:,:2]==0).all() and rates[:,2].max()>0

def test_going_on_refuses(tmp_path):
    h = record(small(tmp_path))
    with pytest.raises(ValueError, match='no steps'): continue_plan(h, 'again')
    with pytest.raises(TypeError, match='history'): continue_plan(3, 'again')
