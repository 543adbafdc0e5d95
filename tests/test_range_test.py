"The LR range test records what the training did: rates, losses, steps, and why it stopped"
import json, math
from functools import partial

import numpy as np
import pytest
import torch
from fastai.basics import Adam, Callback, CancelBatchException, CancelFitException, CancelStepException, CancelTrainException, CancelValidException, find_bs, set_seed
from fastai.callback.schedule import ParamScheduler, SchedCos
from fastai.callback.tracker import TerminateOnNaNCallback
from fastai.callback.training import GradientAccumulation, ShortEpochCallback

from learners import Boom, Kept, accumulating, adamw, clipping, deep, fault, frozen, mixup, one_batch, plain, scaled, tabular, text, torch_loader, trackers
from lrtools.all import LRPicker, classify, constant, exponential, figure_of, landmarks, one_cycle, suggest, unfreeze_study, zones
from lrtools.curve import GroupCurves, LRCurve
from lrtools.range_test import lr_range_test
from lrtools.snapshot import preserved

ARGS = dict(num_it=12, start_lr=1e-5, end_lr=.1, stop_div=None, progress=False)
KINDS = dict(plain=plain, frozen=frozen, accumulating=accumulating, clipping=clipping, adamw=adamw, scaled=scaled, one_batch=one_batch, trackers=trackers,
             tabular=tabular, text=text, torch_loader=torch_loader, mixup=mixup)

class Watch(Callback):
    "Training or not, loss, size and input of each batch, to SEEN, which is not taken back"
    order = 900
    def after_loss(self): SEEN.append((self.training, self.learn.loss.detach().mean().item(), find_bs(self.yb), self.xb[0].detach().clone()))

SEEN,STEPS = Kept(),Kept()

def make(kind, path, opt=True, **kw):
    "A learner whose losses go to SEEN and whose optimizer notes in STEPS the rates that it steps with"
    fault.arm()
    SEEN.clear(); STEPS.clear()
    set_seed(3)
    learn = KINDS[kind](path, **kw)
    learn.add_cb(Watch())
    learn.logger = lambda *a: None
    if opt: spy(learn)
    return learn

def spy(learn):
    if learn.opt is None: learn.create_opt()
    step,groups = learn.opt.step,getattr(learn.opt, 'opt', None)
    def noted(*args, **kw):
        STEPS.append([g['lr'] for g in (groups.param_groups if groups is not None else learn.opt.hypers)])
        return step(*args, **kw)
    learn.opt.step = noted

def run(learn, **kw): return lr_range_test(learn, **{**ARGS, **kw})
def trained(): return [o for o in SEEN if o[0]]
def order(batches): return [o[3] for o in batches]
def same(a, b): return len(a)==len(b) and all(map(torch.equal, a, b))

# ---------------------------------------------------------------- rates

SPANS = dict(one=dict(), list=dict(start_lr=[1e-6,1e-5], end_lr=[1e-3,1e-1]), slices=dict(start_lr=slice(1e-6,1e-5), end_lr=slice(1e-3,1e-1)), upper=dict(start_lr=slice(1e-5), end_lr=slice(.1)),
             linear=dict(mode='linear', start_lr=0), mixed=dict(start_lr=[1e-6,1e-5], end_lr=.1), array=dict(start_lr=np.array([1e-6,1e-5])))
SETS = dict(all={}, first=dict(groups=0), last=dict(groups=-1, hold=1e-4), both=dict(groups=[1,0]), held=dict(groups=[0], hold=[0,.02]), slice_hold=dict(groups=(1,), hold=slice(1e-4,1e-2)))

@pytest.mark.parametrize('kind', KINDS)
def test_rates_are_those_of_the_steps(tmp_path, kind):
    c = run(make(kind, tmp_path))
    assert len(c)==12 and c.group_lrs.tolist()==STEPS
    assert c.stops==['end']

@pytest.mark.parametrize('sets', SETS)
@pytest.mark.parametrize('span', SPANS)
@pytest.mark.parametrize('kind', ['plain', 'adamw', 'accumulating'])
def test_rates_per_group(tmp_path, kind, span, sets):
    c = run(make(kind, tmp_path), **SPANS[span], **SETS[sets])
    assert c.group_lrs.tolist()==STEPS
    assert tuple(c.group_lrs[0])==c.start_lr and tuple(c.group_lrs[-1])==c.end_lr
    for g in range(2):
        swept = not c.swept or g in c.swept
        steps = np.diff(c.group_lrs[:,g]) if c.mode=='linear' or not swept else np.diff(np.log(c.group_lrs[:,g]))
        assert np.allclose(steps, steps[0]) and (steps[0]>0)==swept

def test_ends_are_exact(tmp_path):
    c = run(make('plain', tmp_path), start_lr=[1e-7,3e-6], end_lr=[.3,7.])
    assert np.allclose(c.group_lrs[[0,-1]], [[1e-7,3e-6],[.3,7.]], rtol=1e-12, atol=0)
    c = run(make('plain', tmp_path), start_lr=0, end_lr=.3, mode='linear')
    assert c.lrs[0]==0 and c.lrs[-1]==.3

def test_each(tmp_path):
    res = run(make('plain', tmp_path), groups='each', hold=[.01,.02])
    assert isinstance(res, GroupCurves) and len(res)==2
    assert [r for c in res for r in c.group_lrs.tolist()]==STEPS
    assert [c.group for c in res]==[0,1]
    assert set(res[0].group_lrs[:,1])=={.02} and set(res[1].group_lrs[:,0])=={.01}
    assert GroupCurves.from_json(res.to_json()).to_json()==res.to_json()

def test_no_optimizer_and_its_own_rate(tmp_path):
    learn = make('plain', tmp_path, opt=False, opt_func=partial(Adam, lr=.5), lr=.7)
    assert run(learn).lrs[0]==pytest.approx(1e-5)
    assert learn.opt is None and learn.lr==.7

@pytest.mark.parametrize('event', ['before_fit', 'before_train', 'before_batch', 'after_loss', 'before_step', 'after_step', 'after_batch'])
def test_other_schedulers(tmp_path, event):
    "Whatever else sets the rate: what is recorded is what the optimizer used; where it is set before the batch the sweep has the last word"
    learn = make('plain', tmp_path)
    learn.add_cb(Callback(**{event: lambda self: self.learn.opt.set_hyper('lr', .123)}))
    c = run(learn)
    assert c.group_lrs.tolist()==STEPS
    if event not in ('after_loss', 'before_step'): assert c.lrs[0]==pytest.approx(1e-5) and c.lrs[-1]==pytest.approx(.1)

def test_param_scheduler_left_behind(tmp_path):
    learn = make('plain', tmp_path)
    learn.add_cb(ParamScheduler({'lr': SchedCos(1.,2.), 'mom': SchedCos(.8,.9)}))
    c = run(learn)
    assert c.group_lrs.tolist()==STEPS and c.lrs[-1]==pytest.approx(.1)

# ---------------------------------------------------------------- steps and losses

def test_losses_are_those_seen(tmp_path):
    c = run(make('plain', tmp_path))
    assert c.losses[0].tolist()==[o[1] for o in trained()]

@pytest.mark.parametrize('n_acc', [8, 20, 100])
def test_accumulated(tmp_path, n_acc):
    "One point per optimizer step: the mean of its batches"
    learn = make('plain', tmp_path, cbs=[GradientAccumulation(n_acc)])
    c = run(learn)
    per = -(-n_acc//8)
    assert len(c)==len(STEPS)==12 and len(trained())==12*per
    assert c.losses[0]==pytest.approx(np.reshape([o[1] for o in trained()], (12,per)).mean(1))

class Overflow(Callback):
    "Some gradients become infinite"
    order = -50
    def __init__(self): self.batches = 0
    def after_backward(self):
        self.batches += 1
        if self.batches%3==0: next(self.model.parameters()).grad.fill_(math.inf)

def test_steps_that_amp_skips(tmp_path):
    learn = make('scaled', tmp_path)
    learn.add_cb(Overflow())
    c = run(learn)
    assert len(c)==len(STEPS)==12 and c.group_lrs.tolist()==STEPS
    assert len(trained())>12

def test_steps_that_a_callback_skips(tmp_path):
    learn = make('plain', tmp_path)
    def skip(self):
        if self.train_iter%2: raise CancelStepException()
    learn.add_cb(Callback(before_step=skip))
    c = run(learn)
    assert len(c)==len(STEPS)==12 and len(trained())>=23

@pytest.mark.parametrize('kind', ['plain', 'text', 'torch_loader', 'tabular'])
def test_repeats(tmp_path, kind):
    "The first sees what training would see next, the others other orders; each starts from the same weights; a second test is the same"
    learn = make(kind, tmp_path)
    one = run(learn)
    first = order(trained())
    SEEN.clear()
    three = run(learn, repeats=3)
    batches = order(trained())
    assert [len(s) for s in three.sweeps]==[12]*3
    assert three.sweeps[0].losses.tolist()==one.sweeps[0].losses.tolist() and same(batches[:12], first)
    assert len({tuple(s.losses) for s in three.sweeps})==3
    assert not same(batches[12:24], first) and not same(batches[24:], first) and not same(batches[12:24], batches[24:])
    assert run(learn, repeats=3).losses.tolist()==three.losses.tolist()
    SEEN.clear()
    learn.fit(1, 1e-5)
    n = min(12, len(trained()))
    assert same(order(trained())[:n], first[:n])

@pytest.mark.parametrize('kind', KINDS)
def test_valid_changes_nothing(tmp_path, kind):
    learn = make(kind, tmp_path)
    without,v = run(learn),run(learn, valid=True)
    assert v.losses.tolist()==without.losses.tolist() and v.group_lrs.tolist()==without.group_lrs.tolist()
    assert np.isfinite(v.sweeps[0].valid_losses).all() and len(set(v.sweeps[0].valid_losses))>1

@pytest.mark.parametrize('valid,n', [(True,12), (1,1), (5,5), (500,30), (False,0), (0,0)])
def test_valid_points(tmp_path, valid, n):
    learn = make('plain', tmp_path)
    s = run(learn, num_it=30, valid=valid).sweeps[0]
    assert len(s.valid_its)==len(s.valid_losses)==n
    if n>1: assert s.valid_its[0]==0 and s.valid_its[-1]==29
    assert sum(not o[0] for o in SEEN)<=n*8

def test_valid_loss_is_fastais(tmp_path):
    learn = make('plain', tmp_path)
    learn.dls.valid.create_item = lambda i: (learn.dls.valid.dataset.x[i], learn.dls.valid.dataset.y[i]) # without noise
    s = run(learn, num_it=2, start_lr=1e-12, end_lr=2e-12, valid=2).sweeps[0]
    assert s.valid_losses[0]==pytest.approx(learn.validate()[0], rel=.2)

def test_valid_that_a_callback_cancels(tmp_path):
    def cancel(self): raise CancelValidException()
    c = run(make('plain', tmp_path, cbs=[Callback(before_validate=cancel)]), valid=True)
    assert len(c)==12

def test_valid_with_state_in_callbacks(tmp_path):
    "A callback that counts in place also in validation"
    class Counts(Callback):
        def __init__(self): self.n = {'batches': 0}
        def before_batch(self):
            self.n['batches'] += 1
            self.learn.xb = (self.xb[0]*(1+self.n['batches']/100),)
    learn = make('plain', tmp_path, cbs=[Counts()])
    assert run(learn, valid=True).losses.tolist()==run(learn).losses.tolist()

# ---------------------------------------------------------------- why it stops

def losses(learn, f):
    "The loss is `f(step, loss)`"
    inner = learn.loss_func
    learn.loss_func = lambda pred,*yb: f(len(trained()), inner(pred, *yb))
    return learn

def test_stops_at_the_end(tmp_path): assert run(make('plain', tmp_path)).stops==['end']

@pytest.mark.parametrize('offset', [0, -5., -1e3, 1e3])
def test_divergence(tmp_path, offset):
    learn = losses(make('plain', tmp_path), lambda i,l: l*0+offset+(1. if i<30 else 100.*(i-29)*max(1,abs(offset))))
    c = run(learn, num_it=60, stop_div=4)
    assert c.stops==['diverged'] and 30<len(c)<45
    assert run(learn, num_it=60, stop_div=None).stops==['end']

@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('kind', ['plain', 'accumulating', 'adamw', 'scaled'])
@pytest.mark.parametrize('at', [0, 7])
def test_non_finite(tmp_path, value, kind, at):
    learn = losses(make(kind, tmp_path), lambda i,l: l+(value if i==at else 0))
    c = run(learn)
    assert c.stops==['non-finite'] and len(trained())==at+1
    assert not math.isfinite(c.losses[0,-1]) and np.isfinite(c.losses[0,:-1]).all()
    assert len(STEPS)==len(c)-1
    assert LRCurve.from_json(c.to_json())==c

def test_non_finite_with_terminate_on_nan(tmp_path):
    learn = losses(make('plain', tmp_path, cbs=[TerminateOnNaNCallback()]), lambda i,l: l+(math.nan if i==5 else 0))
    assert run(learn).stops==['non-finite']

CANCELS = dict(before_fit=0, before_epoch=0, before_train=0, before_batch=0, after_pred=0, before_step=0, after_step=1, after_batch=1)
@pytest.mark.parametrize('event', CANCELS)
def test_cancelled_at_once(tmp_path, event):
    def cancel(self): raise CancelFitException()
    learn = make('plain', tmp_path)
    learn.add_cb(Callback(**{event: cancel}))
    c = run(learn, repeats=2)
    assert c.stops==['cancelled']*2 and len(c)<=len(STEPS)/2==CANCELS[event]
    assert LRCurve.from_json(c.to_json())==c
    assert repr(c) and c._repr_markdown_()

def test_cancelled_later(tmp_path):
    def cancel(self):
        if self.train_iter==7: raise CancelFitException()
    learn = make('plain', tmp_path)
    learn.add_cb(Callback(after_batch=cancel))
    c = run(learn)
    assert c.stops==['cancelled'] and 6<=len(c)==len(STEPS)<=8

class Patience(Callback):
    "Fails the test where nothing ends it"
    order,run_valid = -99,False
    def before_epoch(self):
        PATIENCE.append(1)
        if len(PATIENCE)>3000: raise Boom('it never ends')
    before_batch = before_epoch

PATIENCE = Kept()

def never(error):
    def f(self): raise error()
    return f
NEVER = dict(accumulation=lambda: GradientAccumulation(10**9), step=lambda: Callback(before_step=never(CancelStepException)), batch=lambda: Callback(before_batch=never(CancelBatchException)),
             pred=lambda: Callback(after_pred=never(CancelBatchException)), train=lambda: Callback(before_train=never(CancelTrainException)))
@pytest.mark.parametrize('what', NEVER)
def test_never_ending(tmp_path, what):
    "Where the optimizer never steps it is refused with a reason"
    PATIENCE.clear()
    learn = make('plain', tmp_path)
    learn.add_cbs([NEVER[what](), Patience()])
    with pytest.raises(ValueError, match='no optimizer step'): run(learn)

def test_epochs_go_on_without_validation(tmp_path):
    learn,events = make('plain', tmp_path),Kept()
    learn.add_cb(Callback(before_validate=lambda self: events.append(1)))
    assert len(run(learn, num_it=40))==40 and not events

def test_short_epochs(tmp_path):
    "A callback that ends each epoch early, before ours hears of the batch"
    learn = make('plain', tmp_path)
    learn.add_cb(ShortEpochCallback(.3))
    c = run(learn)
    assert len(c)==len(STEPS)==12 and c.stops==['end']

# ---------------------------------------------------------------- the record

@pytest.mark.parametrize('kind', KINDS)
def test_json(tmp_path, kind):
    c = run(make(kind, tmp_path), repeats=2, valid=3)
    back = LRCurve.from_json(c.to_json())
    assert back==c and hash(back)==hash(c) and json.loads(c.to_json())
    for a,b in zip(c.sweeps, back.sweeps):
        assert all(np.array_equal(getattr(a,k), getattr(b,k)) for k in ('lrs','losses','valid_its','valid_losses')) and a.stop==b.stop

def test_what_was_tested(tmp_path):
    c = run(make('adamw', tmp_path))
    assert (c.opt, c.bs, c.num_it, c.mode, c.stop_div)==('AdamW', 8, 12, 'exp', None)
    c = run(make('clipping', tmp_path), stop_div=3)
    assert (c.opt, c.stop_div)==('SGD', 3.)
    assert run(make('torch_loader', tmp_path)).bs==8

@pytest.mark.parametrize('extra', [{}, dict(repeats=3), dict(groups='each'), dict(stop_div=1.01, end_lr=100, num_it=50)])
def test_progress(tmp_path, extra):
    "From the first step to all that were planned, also where it stops early"
    calls = []
    run(make('plain', tmp_path), **{**extra, 'progress': lambda done,planned: calls.append((done,planned))})
    done,planned = zip(*calls)
    assert len(set(planned))==1 and list(done)==sorted(done) and done[0]==1 and done[-1]==planned[0]

def test_no_output(tmp_path, capsys):
    learn = make('plain', tmp_path)
    learn.logger = print
    run(learn)
    assert capsys.readouterr().out==''

# ---------------------------------------------------------------- groups that stand still

STILL = [([0,0,1e-7], [0,0,10]), ([1e-7,0,0], [10,0,0]), ([0,1e-6,0], [0,1.,0]), ([1e-7,0,1e-5], [1e-1,0,10])]
@pytest.mark.parametrize('mode', ['exp', 'linear'])
@pytest.mark.parametrize('start,end', STILL, ids=str)
def test_groups_of_rate_0_stand_still(tmp_path, start, end, mode):
    "The curve speaks of a group that moves, and all that reads curves copes"
    learn = deep(tmp_path, 3)
    before = [p.detach().clone() for p in learn.model.parameters()]
    with np.errstate(all='raise'):
        c = lr_range_test(learn, start, end, num_it=40, stop_div=None, mode=mode, progress=False)
        moving = [g for g in range(3) if end[g]]
        assert list(c.swept)==moving and c.group==moving[-1] and (c.lrs>0).all()
        assert (c.group_lrs[:,[g for g in range(3) if not end[g]]]==0).all()
        assert c.group_lrs[-1].tolist()==pytest.approx(end)
        assert LRCurve.from_json(c.to_json())==c and c._repr_markdown_()
        s = suggest(c)
        assert s.ranges=={} and landmarks(c).lrs[0]>0 and classify(c, 1e-3).sentence and isinstance(zones(c), dict) and figure_of(c)
    picker = LRPicker(c)
    picker.lr = 1e-3
    rates = eval(picker.code.partition(', ')[2][:-1])
    assert rates==([1e-3 if e else 0. for e in end]) and one_cycle(rates)(.25)[moving].tolist()==[1e-3]*len(moving)
    picker.lr = slice(1e-5, 1e-3)
    rates = eval(picker.code.partition(', ')[2][:-1])
    assert [g for g in range(3) if rates[g]]==moving and rates[moving[-1]]==1e-3 and (len(moving)==1 or rates[moving[0]]==1e-5)
    was = [p.detach().clone() for p in learn.model.parameters()]
    with preserved(learn), learn.no_bar(), learn.no_logging():
        exec(picker.code)
        moved = [any(not torch.equal(p, was[i]) for i,p in enumerate(learn.model.parameters()) if any(p is q for q in ps)) for ps in learn.opt.param_lists]
        assert moved==[bool(e) for e in end]
    assert all(map(torch.equal, before, learn.model.parameters()))

@pytest.mark.parametrize('kw,says', [(dict(start_lr=[0,0,1e-7], end_lr=[1,0,10]), 'begins over 0'), (dict(start_lr=[0,0,0], end_lr=[0,0,10]), 'start_lr'), (dict(start_lr=[0,0,1e-7], end_lr=[0,0,10], groups=0), 'nothing is swept'),
                                     (dict(start_lr=[0,0,1e-7], end_lr=[0,0,10], groups='each'), 'nothing is swept'), (dict(start_lr=[0,0,1e-7], end_lr=[0,0,1e-8]), 'not below')], ids=str)
def test_rates_of_0_that_cannot_be(tmp_path, kw, says):
    with pytest.raises(ValueError, match=says): lr_range_test(deep(tmp_path, 3), progress=False, **kw)

def test_schedules_of_groups_that_stand_still(tmp_path):
    y = one_cycle([0.,0.,1e-2])(np.linspace(0, 1, 9))
    assert (y[:,:2]==0).all() and y[:,2].max()==pytest.approx(1e-2, rel=.1)
    with pytest.raises(ValueError, match='lr_end'): exponential([0., 1e-3], 1e-4)

@pytest.mark.parametrize('sched', [constant, one_cycle])
def test_a_study_of_groups_that_stand_still(tmp_path, sched):
    learn = deep(tmp_path, 3)
    learn.freeze()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    study = unfreeze_study(learn, [0.,0.,1e-2], sched=sched, seeds=(0,), arms=['as asked', 'warm-up'] if sched is constant else ['as asked'], progress=False)
    assert not any(r.error for r in study.runs)
    assert all((r.history.lrs[:,:2]==0).all() for r in study.runs['as asked'])
