"Schedulers without a curve, plans and schedules in each other's place, and the merged settings of EveryDream2"
import math
from functools import partial

import numpy as np, pytest, torch
import fastai.callback.schedule # gives learners their fits
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR, LambdaLR, LinearLR, ReduceLROnPlateau, SequentialLR, StepLR

from learners import deep
from state import changes, state
from lrtools.fit_plan import fit_plan
from lrtools.interop import from_everydream, from_torch, to_torch
from lrtools.plan import Phase, Plan, fine_tune_plan
from lrtools.schedule import MOST_STEPS, Schedule, constant, join, one_cycle, sampled, scale

def weights(n=1): return [torch.nn.Parameter(torch.zeros(1)) for _ in range(n)]
def sgd(lr=.1): return torch.optim.SGD(weights(), lr=lr)

# ---------------------------------------------------------------- B7: schedulers without a curve

class MetricLike:
    "Someone's own scheduler that wants a loss"
    def __init__(self, opt): self.optimizer,self.count = opt,0
    def step(self, val_loss): self.count += 1

class Holds:
    "A wrapper, as accelerate's"
    def __init__(self, inner): self.scheduler,self.optimizers = inner,[inner.optimizer]
    def step(self, *args): return self.scheduler.step(*args)

def greedy(o):
    from transformers.optimization import GreedyLR
    return GreedyLR(o)
def timm_plateau(o):
    from timm.scheduler import PlateauLRScheduler
    return PlateauLRScheduler(o)

@pytest.mark.parametrize('make', [ReduceLROnPlateau, partial(ReduceLROnPlateau, patience=0), greedy, timm_plateau, MetricLike, lambda o: Holds(ReduceLROnPlateau(o))], ids=['plateau','patient','greedy','timm','own','wrapped'])
def test_a_scheduler_that_follows_a_metric_has_no_curve(make):
    for kw in ({}, dict(n_epoch=4)):
        with pytest.raises(ValueError, match='follows a metric.*no curve before the training') as e: from_torch(make, 20, **kw)
        assert len(str(e.value))<=300

OTHER = dict(step=lambda o: StepLR(o, 5), warm=lambda o: LinearLR(o), sequence=lambda o: SequentialLR(o, [ConstantLR(o), ExponentialLR(o, .9)], [3]), chain=lambda o: ChainedScheduler([ConstantLR(o), ExponentialLR(o, .9)]), wrapped=lambda o: Holds(StepLR(o, 5)))

@pytest.mark.parametrize('name', OTHER)
def test_a_scheduler_of_another_optimizer_is_refused_and_not_stepped(name):
    other = sgd(.3)
    made = OTHER[name](other)
    before,count = [g['lr'] for g in other.param_groups],getattr(made, 'last_epoch', None)
    with pytest.raises(ValueError, match='of another optimizer'): from_torch(lambda o: made, 10)
    assert [g['lr'] for g in other.param_groups]==before and getattr(made, 'last_epoch', None)==count
    if name!='chain': assert from_torch(OTHER[name], 10, lr=.3)(0.)>0 # of the right one it has a curve

@pytest.mark.parametrize('n', [2**70, 10**400, MOST_STEPS+1])
def test_steps_without_end_are_refused_at_once(n):
    def never(o): raise AssertionError('was made')
    for f in (lambda: from_torch(never, n), lambda: to_torch(constant(1e-3), sgd(), n), lambda: from_everydream({}, n), lambda: Plan([Phase(constant(1e-3), 2)]).rates(n, 1), lambda: Plan([Phase(constant(1e-3), 2)]).moms(n)):
        with pytest.raises(ValueError, match='n_iter=') as e: f()
        assert len(str(e.value))<=300

# ---------------------------------------------------------------- B12: sentences that can be read

LONG = sampled(np.linspace(1e-3, 1e-5, 2000).tolist())
BAD = [(lambda l: fit_plan(l, LONG), r'Schedule, which has no epochs: give Phase\(sched, n_epoch\)'), (lambda l: fit_plan(l, one_cycle(1e-3)), r'Phase\(one_cycle\(\.\.\.\), 3\)'), (lambda l: fit_plan(l, [Phase(LONG, 1)]*3), 'plan='), (lambda l: fit_plan(l, l.model), 'plan='),
       (lambda l: fit_plan(l, Phase(LONG, 1), cbs=[LONG]), 'cbs'), (lambda l: fit_plan(l, Phase(LONG, 1), start=[LONG]), 'start='), (lambda l: fit_plan(l, Phase(sampled([[1e-3]*9]*500), 1)), 'parameter groups'),
       (lambda l: Plan(Phase(LONG, 1), Phase(LONG, 1)), r'one list, Plan\(\['), (lambda l: Plan(Phase(LONG, 1)), 'list of phases'), (lambda l: Plan([LONG]), 'phases holds'), (lambda l: Plan(3), 'phases='), (lambda l: Phase(LONG, 1, wd=[-1]*5000), 'wd='), (lambda l: Phase(l.model, 1), 'sched'), (lambda l: Phase(LONG, 1, name=LONG), 'name='),
       (lambda l: to_torch(fine_tune_plan(2), sgd(), 30), r'freeze_to=-1.*to_torch\(plan\[0\]\.sched'), (lambda l: to_torch(Phase(LONG, 7), sgd(), 30), 'multiple of the 7 epochs'), (lambda l: to_torch(LONG, l.model, 30), 'optimizer='), (lambda l: to_torch(l.model, sgd(), 30), 'sched'), (lambda l: to_torch([LONG]*5, sgd(), 30), 'sched'),
       (lambda l: from_torch(lambda o: 'x'*5000, 10), 'make_scheduler'), (lambda l: from_torch([1]*9999, 10), 'make_scheduler='), (lambda l: from_torch(lambda o: StepLR(o, 2), 10, lr=[-1]*9999), 'lr='),
       (lambda l: join(LONG), 'scheds='), (lambda l: join([3]*9999), 'scheds'), (lambda l: scale(LONG, [-1]*9999), 'by='), (lambda l: Schedule('constant', 5), 'args='), (lambda l: Schedule(LONG, {}), 'kind='), (lambda l: constant([10**400]), 'lr='), (lambda l: one_cycle(1e-3, div=10**400), 'div='), (lambda l: one_cycle(1e-3).for_groups(10**9), 'n='), (lambda l: sampled(['x'*999]), 'lrs|sampled'),
       (lambda l: from_everydream([1]*9999, 10), 'config='), (lambda l: from_everydream(dict(base=[1]*9999), 10), 'base='), (lambda l: from_everydream(dict(lr_scheduler='x'*999), 10), 'lr_scheduler=')]

@pytest.mark.parametrize('i', range(len(BAD)))
def test_refusals_are_one_sentence_and_change_nothing(i, tmp_path):
    f,words = BAD[i]
    learn = deep(tmp_path, 3)
    before = state(learn)
    with pytest.raises((TypeError, ValueError), match=words) as e: f(learn)
    assert len(str(e.value))<=300 and '\n' not in str(e.value), e.value
    assert not changes(before, state(learn))

def test_a_plan_runs_in_a_loop_of_ones_own():
    plan,n = Plan([Phase(one_cycle(1.7e-3), 2), Phase(constant([2e-4]), 1)]),7
    opt = sgd()
    sched,seen = to_torch(plan, opt, 3*n),[]
    for _ in range(3*n): seen.append(opt.param_groups[0]['lr']); opt.step(); sched.step()
    assert seen==plan.rates(n, 1)[:,0].tolist()
    assert [to_torch(Phase(one_cycle(1.7e-3), 2), o, 2*n).get_last_lr() for o in [sgd()]]==[[seen[0]]]
    p = fine_tune_plan(2) # the advice of the refusal
    assert to_torch(p[0].sched, sgd(), n).get_last_lr()==[p[0].sched.for_groups(1)(0.)]

# ---------------------------------------------------------------- A8: EveryDream2's merged settings

def merged(main, base, steps):
    "What its optimizer file does with the two places, in its own order"
    decay,warm = main.get('lr_decay_steps'),main.get('lr_warmup_steps')
    if decay is None or decay<1: decay = int(steps*1.5)
    if warm is None: warm = int(decay/50)
    lr = main['lr'] if main.get('lr') is not None else base.get('lr')
    return dict(lr=1e-6 if lr is None else lr, warm=int(base.get('lr_warmup_steps') or warm), decay=int(base.get('lr_decay_steps') or decay), kind=base.get('lr_scheduler') or main.get('lr_scheduler') or 'constant')

def diffusers(lr, warm, decay, kind):
    "Factor of step i, by the formulas of diffusers"
    def f(i):
        if kind!='constant' and i<warm: return i/max(1, warm)
        x = (i-warm)/max(1, decay-warm)
        if kind=='linear': return max(0., (decay-i)/max(1, decay-warm))
        if kind=='cosine': return max(0., .5*(1+math.cos(math.pi*x)))
        if kind=='cosine_with_restarts': return 0. if x>=1 else max(0., .5*(1+math.cos(math.pi*(x%1))))
        return 1.
    return f

@pytest.mark.parametrize('seed', range(60))
def test_everydream_settings_are_merged_as_its_trainer_does(seed):
    rng = np.random.RandomState(seed)
    pick = lambda *os: os[rng.randint(len(os))]
    main = dict(lr=pick(None, 0., 2.5e-6), lr_decay_steps=pick(None, 0, -3, 31, 70), lr_warmup_steps=pick(None, 0, 5), lr_scheduler=pick(None, 'constant', 'linear', 'cosine'))
    base = dict(lr=pick(None, 1.3e-6), lr_decay_steps=pick(None, 0, 8, 44), lr_warmup_steps=pick(None, 0, 3), lr_scheduler=pick(None, '', 'cosine', 'linear', 'constant', 'constant_with_warmup', 'cosine_with_restarts'))
    for d in (main, base):
        for k in [k for k in d if rng.rand()<.3]: del d[k]
    n = 61
    want = merged(main, base, n)
    f = diffusers(**want)
    got = from_everydream({**main, 'base': base}, n)(np.arange(n)/n)
    assert np.allclose(got, [want['lr']*f(i) for i in range(n)], rtol=1e-12, atol=0)

def test_everydream_takes_and_refuses_what_its_trainer_does():
    for n in ('cosine_with_restarts','constant_with_warmup'): assert from_everydream(dict(base=dict(lr_scheduler=n)), 50)(.5)>0
    assert from_everydream(dict(base=dict(lr_scheduler='cosine_with_restarts', lr_decay_steps=40, lr_warmup_steps=1, lr_num_restarts=2)), 50)(21/50)>9e-7
    for bad,words in ((dict(lr_scheduler='cosine_with_restarts'), 'lr_scheduler'), (dict(base=dict(lr_scheduler='piecewise_constant')), 'lr_scheduler'), (dict(lr=1e-8, lr_scheduler='polynomial'), '1e-7'), (dict(lr_decay_steps='8'), 'lr_decay_steps'), (dict(base=dict(lr_decay_steps=-8)), 'lr_decay_steps'), (dict(base=dict(lr_warmup_steps=1.5)), 'lr_warmup_steps'), (dict(lr=[1e-6]*3000), 'lr=')):
        with pytest.raises((TypeError, ValueError), match=words) as e: from_everydream(bad, 50)
        assert len(str(e.value))<=300
