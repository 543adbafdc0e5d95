"Schedules against the real things: fastai's fits and torch's schedulers at every step, and properties that hold for any arguments"
import math
from functools import partial

import numpy as np, pytest, torch
from fastai.basics import Callback, Learner, MSELossFlat
from fastai.callback.schedule import SchedExp, combined_cos
from hypothesis import given, settings, strategies as st
from torch.optim import lr_scheduler as ls

from learners import halves, net, rows
from lrtools.schedule import (Schedule, clip, constant, cyclical, exponential, flat_cos, inverse_sqrt, join, ladder, multistep, one_cycle, poly, sampled, scale, sgdr, sgdr_epochs, slanted_triangular,
                              stairs, step, warmup_cos, warmup_stable_decay)

# ---------------------------------------------------------------- fastai, step by step

def used(fit, tmp_path):
    "Rates and momenta of both groups at each batch of a fit"
    learn,seen = Learner(rows(tmp_path), net(), MSELossFlat(), splitter=halves, path=tmp_path),[]
    watch = Callback(after_loss=lambda self: seen.append([(h['lr'], h['mom']) for h in self.learn.opt.hypers]) if self.training else None)
    with learn.no_bar(), learn.no_logging(): fit(learn, watch)
    return np.array(seen, float)

FITS = dict(
    one_cycle=(lambda l,cb: l.fit_one_cycle(3, 1e-2, cbs=cb), one_cycle(1e-2)),
    arguments=(lambda l,cb: l.fit_one_cycle(2, slice(1e-4, 1e-2), div=5, div_final=1e3, pct_start=.4, moms=(.9,.8,.7), cbs=cb), one_cycle(slice(1e-4, 1e-2), 5, 1e3, .4, [.9,.8,.7])),
    tenth=(lambda l,cb: l.fit_one_cycle(1, slice(1e-2), cbs=cb), one_cycle(slice(1e-2))),
    flat_cos=(lambda l,cb: l.fit_flat_cos(2, 1e-2, cbs=cb), flat_cos(1e-2)),
    sgdr=(lambda l,cb: l.fit_sgdr(3, 1, 1e-2, cbs=cb), sgdr(1e-2, 3, 1, 2)))

@pytest.mark.parametrize('name', FITS)
def test_as_fastai(name, tmp_path):
    fit,sched = FITS[name]
    seen,sched = used(fit, tmp_path),sched.for_groups(2)
    pos = np.arange(len(seen))/len(seen)
    lr = sched(pos) if sched.n_groups else sched(pos)[:,None]
    same = np.isclose(seen[:,:,0], lr, rtol=2e-5, atol=1e-8).all(1) # fastai's position has 32 bits, and is summed up,
    restart = np.isin(np.arange(len(seen)), [len(seen)//7, 3*len(seen)//7]) if name=='sgdr' else np.zeros(len(seen), bool) # so that a restart may come a step late
    assert (same|restart).all(), (np.flatnonzero(~same), seen[~same][:2], lr[~same][:2])
    if sched.mom(0.) is not None: assert np.allclose(seen[:,:,1], sched.mom(pos)[:,None], rtol=1e-5)

def test_epochs_of_sgdr():
    assert [sgdr_epochs(n, l, m) for n,l,m in ((3,1,2), (4,2,1), (1,5,3))]==[7, 8, 5]
    with pytest.raises(ValueError, match='whole'): sgdr_epochs(2, 1, 1.5)
    assert np.allclose(sgdr(1., 4, 1, 1)(np.array([0, .25, .5, .75])), 1.) # fastai divides by zero

# ---------------------------------------------------------------- torch, step by step

def torch_rates(make, n, lr=1e-2):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=.9)
    sched,rates,moms = make(opt),[],[]
    for _ in range(n):
        rates.append(opt.param_groups[0]['lr'])
        moms.append(opt.param_groups[0]['momentum'])
        opt.step(); sched.step()
    return np.array(rates),np.array(moms)

N = 60
TORCH = dict(
    one_cycle=(lambda o: ls.OneCycleLR(o, 1e-2, total_steps=N, pct_start=.3), one_cycle(1e-2, 25, 25*1e4, .3, [.95,.85,.95], num_it=N)),
    three=(lambda o: ls.OneCycleLR(o, 1e-2, total_steps=N, pct_start=.3, three_phase=True, anneal_strategy='linear'), one_cycle(1e-2, 25, 25*1e4, .3, [.95,.85,.95], three_phase=True, anneal='linear', num_it=N)),
    triangular=(lambda o: ls.CyclicLR(o, 1e-4, 1e-2, step_size_up=6), cyclical(1e-4, 1e-2, step_size=6, num_it=N)),
    triangular2=(lambda o: ls.CyclicLR(o, 1e-4, 1e-2, step_size_up=6, mode='triangular2'), cyclical(1e-4, 1e-2, 5, mode='triangular2')),
    exp_range=(lambda o: ls.CyclicLR(o, 1e-4, 1e-2, step_size_up=6, mode='exp_range', gamma=.97), cyclical(1e-4, 1e-2, 5, mode='exp_range', gamma=.97, num_it=N)),
    cosine=(lambda o: ls.CosineAnnealingLR(o, N), sgdr(1e-2, 1)),
    poly=(lambda o: ls.PolynomialLR(o, N, power=2.), poly(1e-2, 2.)),
    exponential=(lambda o: ls.ExponentialLR(o, .95), exponential(1e-2, 1e-2*.95**N)),
    step=(lambda o: ls.StepLR(o, 20), step(1e-2, 3)),
    multistep=(lambda o: ls.MultiStepLR(o, [15, 40], .5), multistep(1e-2, [15/N, 40/N], .5)),
    restarts=(lambda o: ls.CosineAnnealingWarmRestarts(o, 20), sgdr(1e-2, 3, 1, 1)),
    transformers=(lambda o: ls.LambdaLR(o, lambda i: i/6 if i<6 else max(0., .5*(1+math.cos(math.pi*(i-6)/(N-6))))), warmup_cos(1e-2)),
    constant=(lambda o: ls.ConstantLR(o, 1.), constant(1e-2)))

@pytest.mark.parametrize('name', TORCH)
def test_as_torch(name):
    make,sched = TORCH[name]
    rates,moms = torch_rates(make, N)
    pos = np.arange(N)/N
    assert np.allclose(sched(pos), rates, rtol=1e-9, atol=1e-12), (sched(pos)-rates)
    if name in ('one_cycle','three'): assert np.allclose(sched.mom(pos), moms, rtol=1e-9)

def test_ulmfit():
    "Equation 3 of the paper, word for word"
    T,cut_frac,ratio,top = 100,.1,32,4e-3
    cut = math.floor(T*cut_frac)
    p = [t/cut if t<cut else 1-(t-cut)/(cut*(1/cut_frac-1)) for t in range(T)]
    assert np.allclose(slanted_triangular(top)(np.arange(T)/T), [top*(1+v*(ratio-1))/ratio for v in p])

# ---------------------------------------------------------------- for any arguments

rate = st.floats(1e-8, 10)
share = st.floats(0, 1)
ANY = dict(
    one_cycle=st.builds(one_cycle, rate, st.floats(1, 100), st.floats(1, 1e6), share, anneal=st.sampled_from(['cos','linear'])),
    three=st.builds(partial(one_cycle, three_phase=True), rate, st.floats(1, 100), st.floats(1, 1e6), st.floats(.01, .5)),
    flat_cos=st.builds(flat_cos, rate, st.floats(1, 1e6), share), slanted=st.builds(slanted_triangular, rate, st.floats(.01, .99), st.floats(1, 100)),
    warmup_cos=st.builds(warmup_cos, rate, share), stable=st.builds(warmup_stable_decay, rate, st.floats(0, .5), st.floats(0, .5), decay=st.sampled_from(['sqrt','linear','cos'])),
    cyclical=st.builds(cyclical, st.just(1e-9), rate, st.integers(1, 12).map(lambda n: n/2), mode=st.sampled_from(['triangular','cosine']), end_low=st.booleans()),
    poly=st.builds(poly, rate, st.floats(1, 5)), exponential=st.builds(exponential, rate, rate), inverse_sqrt=st.builds(inverse_sqrt, rate, st.floats(.05, 1)))
JUMPS = dict(sgdr=st.builds(sgdr, rate, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)), step=st.builds(step, rate, st.integers(1, 6)), stairs=st.lists(rate, min_size=1, max_size=6).map(stairs),
             multistep=st.builds(multistep, rate, st.lists(st.floats(.01, 1), min_size=1, max_size=4, unique=True).map(sorted)))
GRID = np.linspace(0, 1, 2001)

@pytest.mark.parametrize('name', [*ANY, *JUMPS])
def test_bounds_shapes_code_and_json(name):
    @settings(max_examples=25, deadline=None)
    @given((ANY|JUMPS)[name])
    def check(s):
        y = s(GRID)
        top = max(v for a in s.args.values() for v in (a if isinstance(a, list) else [a]) if isinstance(v, float) and not isinstance(v, bool))
        assert y.shape==GRID.shape and np.isfinite(y).all() and (y>=0).all() and y.max()<=top*(1+1e-12)
        assert np.allclose([s(float(p)) for p in GRID[::200]], y[::200], rtol=1e-14, atol=0) and s(GRID.reshape(3, 667)).shape==(3, 667) and s(np.array([])).shape==(0,)
        assert eval(repr(s))==s==Schedule.from_json(s.to_json()) and (Schedule.from_json(s.to_json())(GRID)==y).all()
    check()

@pytest.mark.parametrize('name', ANY)
def test_continuous(name):
    @settings(max_examples=25, deadline=None)
    @given(ANY[name])
    def check(s):
        fine = np.linspace(0, 1, 100_001)
        y = s(fine)
        shares = [v for k,v in s.args.items() if k in ('pct_start','pct_decay','cut_frac') and isinstance(v, float)]
        if any(0<v<.02 or .98<v<1 for v in shares) or 0 in shares and name!='one_cycle' or any(v in (0., 1.) for v in shares): return # a part so short is a jump at any resolution
        assert np.abs(np.diff(y)).max()<=.02*max(y.max(), 1e-300)
    check()

@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(rate, st.floats(.01, 5)), min_size=1, max_size=5))
def test_joined_ends_and_joins_are_exact(parts):
    "Shares are normalised, whatever their sum"
    scheds,pcts = [constant(r) for r,_ in parts],[p for _,p in parts]
    s,ends = join(scheds, pcts),np.cumsum([0, *pcts])/sum(pcts)
    for i,(r,_) in enumerate(parts): assert s(float((ends[i]+min(ends[i+1], 1))/2))==r
    assert s(0.)==parts[0][0] and s(1.)==parts[-1][0]

def test_ends_are_exact():
    s = one_cycle(1e-3, pct_start=.3)
    assert (s(0.), s(.3), s(1.))==(1e-3/25, 1e-3, 1e-3/1e5)
    assert (slanted_triangular(.01)(.1), slanted_triangular(.01)(1.))==(.01, .01/32)
    assert ladder(1e-5, 1e-4, 1e-3, 1e-2)(np.array([0, .25, .5, .75, 1])).tolist()==[1e-5, 1e-4, 1e-3, 1e-2, 1e-2]
    assert cyclical(0., 1.13e-6, 5.5)(0.)==1.13e-6 and cyclical(0., 1.13e-6, 5.5)(1.)==0 and cyclical(0., 1.13e-6, 5.5, end_low=False)(0.)==0
    assert one_cycle(1e-3, pct_start=0.)(0.)==1e-3 and one_cycle(1e-3, pct_start=1.)(1.)==1e-3/1e5 or one_cycle(1e-3, pct_start=1.)(1.)==1e-3

# ---------------------------------------------------------------- groups, and what is refused

def test_groups():
    s = one_cycle([1e-5, 1e-3])
    assert s.n_groups==2 and s(.25).tolist()==[1e-5, 1e-3] and s(np.zeros((4, 5))).shape==(4, 5, 2) and s.mom(GRID).shape==GRID.shape
    w = join([constant(slice(1e-4, 1e-2)), one_cycle(slice(1e-2))])
    assert w.waits and w.n_groups is None and w.for_groups(3)(0.)==pytest.approx([1e-4, 1e-3, 1e-2]) and not w.for_groups(3).waits and repr(w)=='join([constant(slice(1e-4, 1e-2)), one_cycle(slice(1e-2))])'
    assert scale(constant(1e-3), [.1, 1]).n_groups==2

BAD = [(lambda: one_cycle(-1e-3), ValueError, 'lr_max=-0.001'), (lambda: one_cycle(float('nan')), ValueError, 'lr_max=nan'), (lambda: one_cycle('fast'), TypeError, "lr_max='fast'"), (lambda: one_cycle([]), TypeError, 'lr_max'),
       (lambda: one_cycle(1e-3, pct_start=1.3), ValueError, 'pct_start=1.3'), (lambda: one_cycle(1e-3, moms=(.9,)), ValueError, 'moms'), (lambda: one_cycle(1e-3, anneal='up'), ValueError, "anneal='up'"), (lambda: one_cycle(1e-3, div=0), ValueError, 'div=0'),
       (lambda: cyclical(1e-2, 1e-3, 2), ValueError, 'lr_min=0.01'), (lambda: cyclical(0, 1e-3), ValueError, 'n_cycles=None'), (lambda: cyclical(0, 1e-3, step_size=5), ValueError, 'num_it'), (lambda: cyclical(0, 1e-3, 0), ValueError, 'n_cycles=0'),
       (lambda: sgdr(1e-3, 2.5), TypeError, 'n_cycles=2.5'), (lambda: multistep(1e-3, [.5,.2]), ValueError, 'milestones'), (lambda: join([]), TypeError, 'scheds'), (lambda: join([constant(1), 2]), TypeError, 'scheds'),
       (lambda: join([constant(1)], [1, 2]), ValueError, 'pcts'), (lambda: clip(constant(1), 2, 1), ValueError, 'hi=1'), (lambda: warmup_stable_decay(1, .8, .8), ValueError, 'more than 1'), (lambda: one_cycle(slice(1e-5, None)), ValueError, 'lr_max'),
       (lambda: one_cycle(slice(1e-5, 1e-3))(.5), ValueError, 'for_groups'), (lambda: constant(1)(1.5), ValueError, 'pos=1.5'), (lambda: constant(1)(-.1), ValueError, 'pos=-0.1'), (lambda: constant(1).for_groups(0), ValueError, 'n=0'), (lambda: ladder(), TypeError, 'lrs')]

@pytest.mark.parametrize('i', range(len(BAD)))
def test_refused_by_name_and_value(i):
    f,error,words = BAD[i]
    with pytest.raises(error, match=words.replace('(', r'\(').replace('.', r'\.')): f()

# ---------------------------------------------------------------- a group of rate 0 stands still

Z = [0., 0., 1.3e-2]
LIFTS = dict(poly=poly(Z, 2, 1e-5), sgdr=sgdr(Z, 2, lr_min=1.7e-5), warmup_cos=warmup_cos(Z, lr_start=1e-6, lr_end=1.1e-5), sqrt=warmup_stable_decay(Z, lr_start=1e-6, lr_end=1e-5), linear=warmup_stable_decay(Z, lr_end=1e-5, decay='linear'),
             cos=warmup_stable_decay(Z, lr_end=1e-5, decay='cos'), cyclical=cyclical(1.9e-4, Z, 2), exp_range=cyclical(1e-4, Z, 2, num_it=50, mode='exp_range', gamma=.99), clip=clip(sgdr(Z), 1e-5), sampled=clip(sampled([Z, [0., 1e-3, 0.]]), 1e-5),
             joined=join([poly(Z, lr_end=1e-5), clip(constant(Z), 1e-5)]), scaled=scale(warmup_cos(Z, lr_end=1e-5), [2., 3., 4.]), one_cycle=one_cycle(Z), flat_cos=flat_cos(Z), slanted=slanted_triangular(Z), sqrt_decay=inverse_sqrt(Z))

@pytest.mark.parametrize('name', LIFTS)
def test_a_group_that_stands_still_is_lifted_by_no_end(name):
    sched,pos = LIFTS[name],np.linspace(0, 1, 101)
    y = sched(pos)
    assert (y[:,0]==0).all() and y[:,2].max()>1e-4
    assert ((y[:,1]==0).all() or name=='sampled') and Schedule.from_json(sched.to_json())==sched
    if name in ('poly', 'sgdr', 'warmup_cos', 'sqrt', 'clip', 'cyclical'): assert sched(1.)[2]>0

def test_what_moves_still_ends_where_it_was_told_to():
    assert [poly([1e-3, 1e-2], lr_end=1e-5)(1.).tolist(), sgdr(1e-2, lr_min=1e-5)(1.), clip(poly(1e-2), 1e-4)(1.)]==[[1e-5, 1e-5], 1e-5, 1e-4]
    with pytest.raises(ValueError, match='lr_min'): cyclical([1e-5, 1e-5], [0., 1e-2], 2)
