"Looking at a learner harms nothing: whatever its `train()`, `opt_func` and `splitter` do, and wherever a Ctrl-C arrives"
import random, signal, sys
from functools import partial
from types import MethodType, SimpleNamespace

import numpy as np, pytest, torch
from torch import nn
from fastai.basics import Adam, L, Learner, MSELossFlat, OptimWrapper, params, trainable_params

from learners import plain, quiet, rows
from state import changes, state
from lrtools.freezing import freeze_report, param_groups, preflight, preview_freeze
from lrtools.panel import FreezePanel
from lrtools.schedule import one_cycle

LOOKS = dict(report=freeze_report, groups=param_groups, preview=lambda l: preview_freeze(l, 0), preflight=lambda l: preflight(l, 1e-2), preflight_of_a_freezing=lambda l: preflight(l, 1e-2, freeze_to=0, norm='eval'))

# ---------------------------------------------------------------- models whose `train()` is their own

class Part(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin,self.bn,self.out = nn.Linear(4, 8),nn.BatchNorm1d(8),nn.Linear(8, 1)
    def forward(self, x): return self.out(self.bn(self.lin(x)))

class StillBatchNorm(Part):
    def train(self, mode=True):
        super().train(mode)
        self.bn.training = False
        return self

class Freezing(Part):
    def train(self, mode=True):
        super().train(mode)
        self.lin.requires_grad_(not mode)
        self.lin.weight.grad = None
        return self

class Swapping(Part):
    def train(self, mode=True):
        if mode: self.bn = nn.BatchNorm1d(8)
        return super().train(mode)

class Counter(Part):
    def __init__(self):
        super().__init__()
        self.n,self.log,self.by,self.rng,self.array,self.tags = 0,[],SimpleNamespace(n=0),random.Random(1),np.zeros(2),{}
        self.register_buffer('times', torch.zeros(1))
    def train(self, mode=True):
        self.n += 1; self.log.append(mode); self.by.n += 1; self.array += 1; self.tags[mode] = self.rng.random(); self.times += 1
        torch.rand(1); random.random(); np.random.rand()
        return super().train(mode)

class Merging(Part):
    "As LoRA's layers, in place and past the version counter"
    merged = True
    def train(self, mode=True):
        super().train(mode)
        if mode==self.merged: self.merged = not mode; self.lin.weight.data -= 1.; self.out.bias.data = self.out.bias.data*2
        return self

class Reading(Part):
    "Its numbers decide, so no stand-in can answer"
    def train(self, mode=True):
        super().train(mode)
        if self.lin.weight.sum().item()<1e9: self.bn.eval(); self.out.weight.data *= 2
        return self

class Buffers(Part):
    def train(self, mode=True):
        super().train(mode)
        self.register_buffer('seen', torch.ones(3)); self.bn.running_mean = torch.ones(8); self.lin.register_forward_hook(lambda *a: None)
        return self

_times = 0
class Global(Part):
    def train(self, mode=True):
        global _times
        _times += 1
        return super().train(mode)

def patched():
    "A `train` set on the object, whose closure holds the model itself"
    model,n = Part(),[0]
    def train(mode=True):
        n[0] += 1
        nn.Module.train(model, mode)
        model.bn.eval()
        model.lin.bias.requires_grad_(False)
        return model
    model.train = train
    return model

def bound():
    model = Part()
    def train(self, mode=True):
        nn.Module.train(self, mode)
        self.bn.training = False
        return self
    model.train = MethodType(train, model)
    return model

def disabled():
    "As in latent diffusion: a part that never changes its mode"
    model = Part().eval()
    model.bn.train = lambda mode=True: model.bn
    return model

MODELS = dict(still_batchnorm=StillBatchNorm, freezing=Freezing, swapping=Swapping, counter=Counter, merging=Merging, reading=Reading, buffers=Buffers, global_count=Global, patched=patched, bound=bound, disabled=disabled,
              inside=lambda: nn.Sequential(StillBatchNorm(), nn.Linear(1, 1)))

def looked_at(path, model, fitted=False, **kw):
    torch.manual_seed(0)
    learn = Learner(rows(path), MODELS[model](), MSELossFlat(), splitter=lambda m: [params(m)], path=path, **kw)
    learn.dls.one_batch()
    if fitted: learn.create_opt()
    for i,m in enumerate(learn.model.modules()): m.training = i%3>0
    return learn

HELD = dict(still_batchnorm={'bn'}, reading={'bn'}, patched={'bn'}, bound={'bn'}, disabled={'bn'}, inside={'0.bn'})

@pytest.mark.parametrize('fitted', [False, True], ids=['no optimizer','optimizer'])
@pytest.mark.parametrize('model', MODELS)
def test_a_look_undoes_a_train_of_any_kind(model, fitted, tmp_path):
    learn = looked_at(tmp_path, model, fitted)
    if model=='disabled': learn.model.bn.training = False
    before,times = state(learn),_times
    for look in LOOKS.values(): look(learn)
    assert not changes(before, state(learn)) and times==_times
    assert {l.name for g in param_groups(learn) for l in g.norms if l.norm.held}==HELD.get(model, set())

# ---------------------------------------------------------------- an optimizer that is made to be looked at

class Held:
    "State of an `opt_func` and a `splitter` of every kind"
    def __init__(self):
        self.calls = 0
        self.rng,self.numpy,self.torch = random.Random(3),np.random.default_rng(4),torch.Generator().manual_seed(5)
    def opt(self, ps, lr, **kw):
        self.calls += 1
        return Adam(ps, lr*(1+self.rng.random()+self.numpy.random()+torch.rand(1, generator=self.torch).item()), **kw)

_seen,_count,_rng = [],0,random.Random(6)
def of_globals(ps, lr, **kw):
    global _count
    _count += 1
    _seen.append(lr)
    return Adam(ps, lr*(1+_rng.random()), **kw)

def of_closures():
    rng,n,log = random.Random(7),0,[]
    def opt(ps, lr, **kw):
        nonlocal n
        n += 1
        log.append(n)
        return Adam(ps, lr*(1+rng.random()+n), **kw)
    return opt

def of_defaults(ps, lr, rng=random.Random(8), log=[], **kw):
    log.append(lr)
    return Adam(ps, lr*(1+rng.random()), **kw)

def of_process(ps, lr, **kw): return Adam(ps, lr*(1+random.random()+np.random.rand()+torch.rand(1).item()), **kw)

def of_torch(ps, **kw): return OptimWrapper(ps, torch.optim.AdamW, lr=kw['lr']*(1+np.random.rand()))

MADE = dict(bound_method=lambda: Held().opt, globals=lambda: of_globals, closures=of_closures, defaults=lambda: of_defaults, process=lambda: of_process, partial=lambda: partial(of_closures(), wd=.1), torch=lambda: of_torch)

@pytest.mark.parametrize('made', MADE)
def test_a_look_undoes_the_making_of_an_optimizer(made, tmp_path):
    "What is looked at is what comes: random numbers and counts are those of before, so the optimizer that is made next is the one that was reported"
    learn = plain(tmp_path, opt_func=MADE[made]())
    before,kept = state(learn),(_count, len(_seen), _rng.getstate())
    rates = [[g.lr for g in look(learn).groups] for look in (freeze_report, freeze_report)]
    for look in LOOKS.values(): look(learn)
    assert not changes(before, state(learn)) and kept==(_count, len(_seen), _rng.getstate()) and learn.opt is None
    learn.create_opt()
    assert rates==[[h['lr'] for h in learn.opt.hypers]]*2

def splitting():
    n = [0]
    def split(m):
        n[0] += 1
        m.times = n[0]
        m[0].requires_grad_(False)
        random.random()
        return L(m[0], m[1]).map(params)
    return split,n

def test_a_look_undoes_what_a_splitter_does(tmp_path):
    split,n = splitting()
    learn = plain(tmp_path, splitter=split)
    before = state(learn)
    for look in LOOKS.values(): look(learn)
    assert not changes(before, state(learn)) and n==[0]

def test_a_look_undoes_an_opt_func_that_fails(tmp_path):
    def opt(ps, lr, **kw):
        random.random(); learn.lr = 5.
        raise RuntimeError('no')
    learn = plain(tmp_path, opt_func=opt)
    before = state(learn)
    for look in LOOKS.values():
        with pytest.raises(RuntimeError, match='no'): look(learn)
    assert not changes(before, state(learn))

# ---------------------------------------------------------------- Ctrl-C anywhere

OURS = 'lrtools','torch','fastai','test_looking','copy','contextlib','signal'

def lines(look, at=None):
    "Run `look`; at the `at`-th line raise the signal of Ctrl-C. How many lines there were, and whether it arrived"
    n = 0
    def trace(frame, event, arg):
        nonlocal n
        if not any(o in frame.f_code.co_filename for o in OURS): return trace
        if event=='line':
            n += 1
            if n==at: signal.raise_signal(signal.SIGINT)
        return trace
    old,handler = sys.gettrace(),signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's background jobs ignore it
    sys.settrace(trace)
    try: look(); hit = False
    except KeyboardInterrupt: hit = True
    finally: sys.settrace(old); signal.signal(signal.SIGINT, handler)
    return n,hit

@pytest.mark.parametrize('model', ['still_batchnorm','freezing','swapping','counter','merging','reading','patched'])
def test_ctrl_c_at_any_line_of_a_look_leaves_the_model(model, tmp_path):
    rng,hits = random.Random(sum(map(ord, model))),0
    for fitted in (False, True):
        learn = looked_at(tmp_path, model, fitted)
        before = state(learn)
        for name in ('report','preflight_of_a_freezing'):
            look = partial(LOOKS[name], learn)
            total,_ = lines(look)
            for at in rng.sample(range(1, total), 9):
                hits += lines(look, at)[1]
                found = changes(before, state(learn))
                assert not found, (name, at, found)
    assert hits>25 # of 36: the others came after the last line

def test_ctrl_c_while_an_optimizer_is_made_leaves_none(tmp_path):
    learn = plain(tmp_path, opt_func=of_process)
    before,rng,hits = state(learn),random.Random(9),0
    for look in LOOKS.values():
        total,_ = lines(partial(look, learn))
        for at in rng.sample(range(1, total), 9):
            hits += lines(partial(look, learn), at)[1]
            found = changes(before, state(learn))
            assert not found, (at, found)
    assert hits>30 # of 45

def test_a_look_copies_no_weights(tmp_path):
    "A model of 8 MB whose `train()` is its own: what is allocated for a look is a small part of it"
    class Wide(Part):
        def __init__(self):
            super().__init__()
            self.wide = nn.Linear(1000, 2000)
        def train(self, mode=True):
            super().train(mode)
            self.bn.eval()
            return self
    learn = Learner(rows(tmp_path), Wide(), MSELossFlat(), splitter=lambda m: [params(m)], path=tmp_path)
    with torch.profiler.profile(profile_memory=True) as prof:
        for look in LOOKS.values(): look(learn)
    assert sum(max(e.self_cpu_memory_usage, 0) for e in prof.key_averages())<4e5
