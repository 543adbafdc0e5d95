"State of every kind, wherever a learner can reach it: what a range test moves is moved back"
import argparse, array, collections, functools, gc, io, itertools, queue, random, signal, sys, threading, types, warnings, weakref
from functools import partial, wraps

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from fastai.basics import Callback, DataLoaders, Learner, MSELossFlat, OptimWrapper, Transform, set_seed
from fastai.callback.progress import ProgressCallback

import lrtools.snapshot
from learners import Rows, net, rows
from lrtools.range_test import lr_range_test
from lrtools.snapshot import Snapshot, preserved
from state import changes, record, state

QUICK = dict(num_it=4, start_lr=1e-3, end_lr=.1, stop_div=None, progress=False)

def make(dls=None, model=None, loss=None, **kw):
    set_seed(3)
    learn = Learner(rows(".") if dls is None else dls, net() if model is None else model, MSELossFlat() if loss is None else loss, **kw)
    learn.remove_cb(ProgressCallback)
    learn.create_opt()
    return learn

def moved(learn, extra=None):
    "What a fit changes in `extra`: to see that what is tested can fail"
    before = record(extra, 'extra')
    with learn.no_logging(): learn.fit(1)
    return changes(before, record(extra, 'extra'))

def left(learn, extra=None, look=lambda l: lr_range_test(l, **QUICK)):
    "What a look leaves in the learner and in `extra`"
    before = record(extra, 'extra'),state(learn)
    look(learn)
    return changes(before[0], record(extra, 'extra')) + changes(before[1], state(learn))

def leaves_nothing(build):
    "`build()` gives a learner and what it moves outside of it"
    learn,extra = build()
    assert left(learn, extra)==[]
    assert moved(learn, extra)

# ---------------------------------------------------------------- kinds of state, all held by the closure of a callback

foreign = types.ModuleType('meters') # a package from which nothing else of the learner comes
sys.modules['meters'] = foreign
exec('''
import random, numpy as np
class Meter:
    def __init__(self): self.sum,self.seen = 0.,[]
    def update(self, v): self.sum += v; self.seen.append(v)
class Augment:
    "Keeps its generators as albumentations does"
    def __init__(self): self.py_random,self.random_generator = random.Random(1),np.random.default_rng(2)
    def __call__(self, x): return x+.1*(self.py_random.random()+self.random_generator.random())
class Compose:
    def __init__(self, *ts): self.transforms = list(ts)
    def __call__(self, x):
        for t in self.transforms: x = t(x)
        return x
shared = np.random.default_rng(5)
class Shared:
    "Draws from a generator of its module"
    def __call__(self, x): return x+.1*shared.random()
''', vars(foreign))

class Bag(dict): pass
class Names(list): pass
class Marks(set): pass
class Attributes(dict):
    def __init__(self, **kw): super().__init__(**kw); self.__dict__ = self
class Pair(tuple): pass
class Grid(np.ndarray): pass
class Dice(random.Random): pass
class Private:
    __slots__ = '__n','late'
    def __init__(self): self.__n = 0
    def move(self): self.__n += 1; self.late = self.__n
class Child(Private):
    __slots__ = 'late',
    def move(self): super().move(); self.late = 7
class Counts:
    n,seen = 0,[]
    def move(self): type(self).n += 1; self.seen.append(1)

def holding(o, move): return o,partial(move, o)
def attribute(o, v=0):
    o.n = v
    def move(o): o.n += 1
    return holding(o, move)

STATE = dict(
    tensor=lambda: holding(torch.zeros(3), lambda o: o.add_(1)),
    parameter=lambda: holding(nn.Parameter(torch.zeros(3)), lambda o: o.data.add_(1)),
    requires_grad=lambda: holding(torch.zeros(3), lambda o: o.requires_grad_(not o.requires_grad)),
    module=lambda: holding(nn.BatchNorm1d(4), lambda o: o(torch.randn(5,4))),
    listed=lambda: holding([], lambda o: o.append(1)),
    nested=lambda: holding({'a': [{'b': set()}]}, lambda o: o['a'][0]['b'].add(len(o['a'][0]['b']))),
    counter=lambda: holding(collections.Counter(), lambda o: o.update('ab')),
    ordered=lambda: holding(collections.OrderedDict(a=1, b=2), lambda o: o.move_to_end('a')),
    default_dict=lambda: holding(collections.defaultdict(list), lambda o: o['x'].append(1)),
    deque=lambda: holding(collections.deque([1], maxlen=3), lambda o: o.append(len(o))),
    dict_subclass=lambda: attribute(Bag()), list_subclass=lambda: attribute(Names()), set_subclass=lambda: attribute(Marks()), tuple_subclass=lambda: attribute(Pair()),
    dict_that_is_its_attributes=lambda: attribute(Attributes()),
    array_subclass=lambda: attribute(np.zeros(3).view(Grid)), generator_subclass=lambda: attribute(Dice(1)),
    tensor_attribute=lambda: attribute(torch.zeros(2)), in_tensor_attribute=lambda: (lambda t: (setattr(t, 'log', []), holding(t, lambda o: o.log.append(1)))[1])(torch.zeros(2)),
    frozenset=lambda: holding(frozenset([Private()]), lambda o: [p.move() for p in o]),
    dict_key=lambda: holding({Private(): 1}, lambda o: [p.move() for p in o]),
    tuple_key=lambda: holding({(torch.zeros(1),): 1}, lambda o: [t.add_(1) for k in o for t in k]),
    array=lambda: holding(np.zeros(3), lambda o: o.__iadd__(1)),
    object_array=lambda: holding(np.array([[], [1]], dtype=object), lambda o: (o[0].append(1), o.__setitem__(1, [2]))),
    masked_array=lambda: holding(np.ma.array([1., 2.], mask=[False, True]), lambda o: (o.__setitem__(0, np.ma.masked), o.__setitem__(1, 5.))),
    bytearray=lambda: holding(bytearray(b'ab'), lambda o: o.extend(b'c')),
    array_array=lambda: holding(array.array('d', [1.]), lambda o: o.append(2.)),
    memoryview=lambda: (lambda b: (b, lambda v=memoryview(b): v.__setitem__(0, v[0]+1)))(bytearray(8)),
    text_file=lambda: holding(io.StringIO('ab'), lambda o: o.write('xyz')),
    bytes_file=lambda: holding(io.BytesIO(b'ab'), lambda o: o.read(1) or o.write(b'c')),
    private_slots=lambda: holding(Private(), lambda o: o.move()),
    slots_twice=lambda: holding(Child(), lambda o: o.move()),
    class_attributes=lambda: (lambda c: ((c, c.seen, lambda: c.n), c().move))(type('Counts', (Counts,), dict(n=0, seen=[]))),
    weak_keys=lambda: (lambda k: holding((k, weakref.WeakKeyDictionary({k: 0})), lambda o: o[1].__setitem__(k, o[1][k]+1)))(Counts()),
    weak_values=lambda: (lambda k: holding((k, weakref.WeakValueDictionary()), lambda o: o[1].__setitem__(len(o[1]), k)))(Counts()),
    weak_target=lambda: (lambda k: ((k, weakref.ref(k)), partial(lambda r: r().seen.append(1), weakref.ref(k))))(foreign.Meter()),
    namespace=lambda: attribute(argparse.Namespace()), simple_namespace=lambda: attribute(types.SimpleNamespace()),
    user_dict=lambda: holding(collections.UserDict(), lambda o: o.__setitem__(len(o), 1)), user_list=lambda: holding(collections.UserList(), lambda o: o.append(1)),
    chain_map=lambda: holding(collections.ChainMap({}), lambda o: o.__setitem__(len(o), 1)),
    another_package=lambda: holding(foreign.Meter(), lambda o: o.update(1.)),
    python_random=lambda: holding(random.Random(1), lambda o: o.gauss(0, 1)), system_random=lambda: attribute(random.SystemRandom()),
    numpy_generator=lambda: holding(np.random.default_rng(1), lambda o: o.random()), random_state=lambda: holding(np.random.RandomState(1), lambda o: o.rand()),
    torch_generator=lambda: holding(torch.Generator(), lambda o: torch.rand(1, generator=o)),
    **{f'bits_{c.__name__}': lambda c=c: holding(c(1), lambda o: o.random_raw()) for c in (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64)},
    augmentation=lambda: holding(foreign.Compose(foreign.Compose(foreign.Augment())), lambda o: o(0.)))

def stateful(name):
    holder,move = STATE[name]()
    def learner():
        learn = make()
        learn.add_cb(Callback(after_batch=lambda self: (move(), None)[1]))
        return learn,holder
    return learner

@pytest.mark.parametrize('name', STATE)
def test_state_in_a_closure(name):
    build = stateful(name)
    if name=='class_attributes': return leaves_class_alone(build)
    leaves_nothing(build)

def leaves_class_alone(build):
    learn,(cls,seen,n) = build()
    assert left(learn, seen)==[] and n()==0
    assert moved(learn, seen) and n()>0

ITERATORS = dict(count=lambda: itertools.count(5), float_count=lambda: itertools.count(1.5, .5), listed=lambda: iter([1,2,3]*9), ranged=lambda: iter(range(90)), text=lambda: iter('abcdefghij'*3))

@pytest.mark.parametrize('it', ITERATORS)
@pytest.mark.parametrize('place', ['attribute', 'item', 'list', 'cell', 'slot'])
def test_iterators_stand_where_they_stood(it, place):
    "They cannot be set back: another one is in their place"
    it = ITERATORS[it]()
    next(it)
    class Holder: __slots__ = 'it',
    holder = Holder() if place=='slot' else types.SimpleNamespace(it=it, d={'it': it}, l=[it])
    holder.it = it
    moves = dict(attribute=lambda: next(holder.it), item=lambda: next(holder.d['it']), list=lambda: next(holder.l[0]), cell=lambda: next(it), slot=lambda: next(holder.it))
    extra = dict(attribute=lambda: holder.it, item=lambda: holder.d, list=lambda: holder.l, cell=lambda: it, slot=lambda: holder.it)[place]
    learn = make(loss=lambda p,y: (next_of() and 0)*p.sum()+(p.view(-1)-y).square().mean())
    move = moves[place]
    def next_of(): return move() is not None
    before = repr(record(extra(), ids=False))
    for _ in range(2):
        lr_range_test(learn, **QUICK)
        assert repr(record(extra(), ids=False))==before
    with learn.no_logging(): learn.fit(1)
    assert repr(record(extra(), ids=False))!=before

# ---------------------------------------------------------------- places from which state is reached

LOG = []
STEPS = 0
def log_globally(*_): LOG.append(1)
def count_globally(*_):
    global STEPS
    STEPS += 1
def helper(): log_globally()
def log_by_a_helper(*_): helper()

helpers = types.ModuleType('my_helpers')
sys.modules['my_helpers'] = helpers
helpers.n,helpers.log = 0,[]
def in_a_module(*_):
    helpers.n += 1
    helpers.log.append(1)

def closure(log): return lambda *_: log.append(1)
def rebound(log):
    n = 0
    def f(*_):
        nonlocal n
        n += 1
        log.append(n)
    return f
def defaults(log):
    def f(*_, log=log): log.append(1)
    return f
def positional_defaults(log):
    def f(a=None, log=log): log.append(1)
    return lambda *_: f()
def function_attribute(log):
    def f(*_): f.log.append(1); f.n = getattr(f, 'n', 0)+1
    f.log = log
    return f
def wrapped(log):
    def f(*_): log.append(1)
    @wraps(f)
    def g(*args): return g.__wrapped__(*args)
    return g
def partial_of(log): return partial(lambda log,*_: log.append(1), log)
def partial_keyword(log): return partial(lambda *_, log: log.append(1), log=log)
def cached(log):
    @functools.lru_cache(maxsize=0)
    def f(): return log.append(1)
    return lambda *_: f() and None
def bound_builtin(log): return lambda *_, add=log.append: add(1)
def method_of_another_package(log):
    o = foreign.Meter()
    o.seen = log
    return lambda *_: o.update(1.)
def static(log):
    class C:
        @staticmethod
        def f(): log.append(1)
    return lambda *_: C.f()
def prop(log):
    class C:
        @property
        def f(self): return log.append(1)
    c = C()
    return lambda *_: c.f
def late_cell(log):
    def f(*_):
        nonlocal late
        late = 1
        log.append(late)
    if False: late = 0
    return f
HOW = [closure, rebound, defaults, positional_defaults, function_attribute, wrapped, partial_of, partial_keyword, cached, bound_builtin, method_of_another_package, static, prop, late_cell]

@pytest.mark.parametrize('how', HOW, ids=lambda f: f.__name__)
def test_ways_in_which_a_function_holds_state(how):
    def build():
        log = []
        f = how(log)
        return make(loss=lambda p,y: (f(), (p.view(-1)-y).square().mean())[1]),(log, f)
    leaves_nothing(build)

def as_loss(learn, f): learn.loss_func = lambda p,y: (f(), (p.view(-1)-y).square().mean())[1]
def as_forward_hook(learn, f): learn.model[0].register_forward_hook(lambda *a: f())
def as_backward_hook(learn, f): learn.model[0].register_full_backward_hook(lambda *a: f())
def as_tensor_hook(learn, f): learn.model[0][0].weight.register_hook(lambda g: f())
def as_gradient_hook(learn, f): learn.model[0][0].weight.register_post_accumulate_grad_hook(lambda p: f())
def as_optimizer_hook(learn, f):
    learn.opt_func = partial(OptimWrapper, opt=torch.optim.SGD)
    learn.create_opt()
    learn.opt.opt.register_step_post_hook(lambda *a: f())
def as_forward(learn, f):
    old = learn.model.forward
    learn.model.forward = lambda x: (f(), old(x))[1]
def as_bound_forward(learn, f):
    def forward(self, x):
        f()
        return nn.Sequential.forward(self, x)
    learn.model.forward = types.MethodType(forward, learn.model)
def as_metric(learn, f): learn.add_cb(Callback(after_epoch=lambda self: f())) # `fit` ends each epoch of a sweep early
def as_collate(learn, f):
    dl = torch.utils.data.DataLoader(Rows(24, 1), batch_size=8, collate_fn=lambda b: (f(), torch.utils.data.default_collate(b))[1])
    learn.dls = DataLoaders(dl, dl, device='cpu')
def as_batch_transform(learn, f):
    def tfm(x:torch.Tensor):
        f()
        return x
    learn.dls.train.after_batch.add(Transform(tfm))
def as_callback_method(learn, f):
    class Mine(Callback):
        def before_step(self): f()
    learn.add_cb(Mine())
def as_step(learn, f):
    old = learn.opt.step
    learn.opt.step = lambda *a, **k: (f(), old(*a, **k))[1]
def as_opt_func(learn, f):
    opt = learn.opt
    old = opt.step
    opt.step = lambda: (f(), old())[1]
    learn.opt,learn.opt_func = None,lambda ps, **kw: opt
WHERE = [as_loss, as_forward_hook, as_backward_hook, as_tensor_hook, as_gradient_hook, as_optimizer_hook, as_forward, as_bound_forward, as_collate, as_batch_transform,
         as_callback_method, as_step, as_opt_func]

@pytest.mark.parametrize('where', WHERE, ids=lambda f: f.__name__)
def test_places_of_a_function(where):
    def build():
        learn,log,average,noise = make(),[],torch.zeros(2),np.random.default_rng(1)
        where(learn, lambda: (log.append(1), average.add_(1), noise.random(), None)[-1])
        return learn,(log, average, noise)
    leaves_nothing(build)

@pytest.mark.parametrize('f', [log_globally, count_globally, log_by_a_helper, in_a_module], ids=lambda f: f.__name__)
def test_globals_that_the_code_names(f):
    "Bound anew or changed"
    def held(): return repr((LOG, STEPS, helpers.n, helpers.log))
    learn,before = make(loss=lambda p,y: (f(), (p.view(-1)-y).square().mean())[1]),held()
    assert left(learn)==[] and held()==before
    with learn.no_logging(): learn.fit(1)
    assert held()!=before

RESULT = None
def reads_result(*_): return RESULT

def test_what_the_block_itself_binds_stays():
    "Though a function of the learner reads it"
    global RESULT
    mine,late = None,0
    def reads(*_): return mine,late
    learn = make(loss=lambda p,y: (reads(), reads_result(), (p.view(-1)-y).square().mean())[-1])
    with preserved(learn): RESULT,mine,late = 'a','b',2
    assert (RESULT, mine, late)==('a', 'b', 2)

# ---------------------------------------------------------------- an optimizer, a frozen network in a closure

@pytest.mark.parametrize('opt', [torch.optim.Adam, partial(torch.optim.SGD, momentum=.9), torch.optim.RMSprop, torch.optim.NAdam, torch.optim.ASGD, torch.optim.Rprop, partial(torch.optim.Adam, amsgrad=True)],
                         ids=lambda o: getattr(o, 'func', o).__name__)
def test_an_optimizer_in_the_closure_of_opt_func(opt):
    set_seed(1)
    model = net()
    mine = opt(model.parameters(), lr=1e-3)
    learn = Learner(rows("."), model, MSELossFlat(), opt_func=lambda p, **k: OptimWrapper(opt=mine))
    learn.remove_cb(ProgressCallback)
    with learn.no_logging(): learn.fit(1)
    learn.opt = None # as in a learner made after a loop of one's own
    assert left(learn, (mine.state, mine.param_groups))==[]
    assert moved(learn, (mine.state, mine.param_groups))

def test_a_feature_net_in_the_closure_of_a_loss():
    features = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Dropout(.3))
    learn = make(loss=lambda p,y: (features(p.view(-1,1))-features(y.view(-1,1))).square().mean())
    assert left(learn, features)==[]
    assert moved(learn, features)

def test_another_learner_in_a_closure_is_not_entered_but_for_its_model(monkeypatch):
    other = make()
    other.huge = torch.zeros(1000)
    other.model.plain = torch.zeros(7)
    learn,cloned,clone = make(loss=lambda p,y: (other.model(torch.randn(3,4)), (p.view(-1)-y).square().mean())[1]),[],torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, 'clone', lambda t, **kw: cloned.append(t.numel()) or clone(t, **kw))
    assert left(learn, other.model)==[]
    assert 7 in cloned and 1000 not in cloned

# ---------------------------------------------------------------- data is not entered

@pytest.mark.parametrize('where', ['closure', 'default', 'collate', 'foreign'])
def test_big_data_is_not_copied(monkeypatch, where):
    monkeypatch.setattr(lrtools.snapshot, '_far_bytes', 10_000)
    def copied(learn):
        cloned.clear()
        return len(Snapshot(learn)._undo),sum(cloned)
    cloned,clone = [],torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, 'clone', lambda t, **kw: cloned.append(t.numel()) or clone(t, **kw))
    parts,bare = copied(make())
    data = dict(big=torch.zeros(5000), array=np.zeros(5000), frame=pd.DataFrame(dict(a=range(5000))), pairs=[(torch.zeros(1), torch.zeros(1)) for _ in range(2000)], rows=Rows(2000))
    small,log = torch.zeros(3),[]
    def use(data=data if where=='default' else None): return log.append(len(small))
    closure = lambda: (data, use())
    holder = foreign.Meter()
    holder.data = data
    f = dict(closure=closure, default=use, collate=closure, foreign=lambda: (holder, use()))[where]
    learn = make()
    as_collate(learn, f) if where=='collate' else as_loss(learn, f)
    more,total = copied(learn)
    assert 4*(total-bare)<=10_000 # bytes
    assert more<parts+100

def test_the_data_set_is_not_copied_by_way_of_its_methods(monkeypatch):
    class Collating(Rows):
        def collate(self, b): return torch.utils.data.default_collate(b)
    ds = Collating(3000)
    dl = torch.utils.data.DataLoader(ds, batch_size=8, collate_fn=ds.collate)
    learn,cloned,clone = make(DataLoaders(dl, dl, device='cpu')),[],torch.Tensor.clone
    monkeypatch.setattr(torch.Tensor, 'clone', lambda t, **kw: cloned.append(t.numel()) or clone(t, **kw))
    Snapshot(learn)
    assert max(cloned)<1000

# ---------------------------------------------------------------- generators in transforms and data sets

class Augmented:
    "A data set whose items are augmented"
    def __init__(self, tfm): self.rows,self.tfm = Rows(24, 1),tfm
    def __len__(self): return len(self.rows)
    def __getitem__(self, i):
        x,y = self.rows[i]
        return self.tfm(x),y

class TorchAugmented(Augmented, torch.utils.data.Dataset): pass

AUGMENT = foreign.Augment()
def by_a_global(x): return AUGMENT(x)
TFMS = dict(direct=foreign.Augment, composed=lambda: foreign.Compose(foreign.Compose(foreign.Augment())), closure=lambda: (lambda a: lambda x: a(x))(foreign.Augment()),
            partial=lambda: partial(lambda a,x: a(x), foreign.Augment()), module_global=foreign.Shared, own_global=lambda: by_a_global, method=lambda: foreign.Augment().__call__)

def generators(): return [foreign.shared, AUGMENT]

@pytest.mark.parametrize('kind', ['python', 'torch', 'subset', 'fastai'])
@pytest.mark.parametrize('tfm', TFMS)
def test_generators_of_another_package_in_the_data(tfm, kind):
    "albumentations in a transform, no workers"
    def dls(t):
        if kind=='fastai':
            class Aug(Transform):
                def encodes(self, x:torch.Tensor): return t(x)
            d = rows(".", n=24)
            d.train.after_item.add(Aug())
            return d
        ds = dict(python=Augmented, torch=TorchAugmented, subset=lambda t: torch.utils.data.Subset(torch.utils.data.ConcatDataset([TorchAugmented(t)]), range(24)))[kind](t)
        if kind=='python': return DataLoaders.from_dsets(ds, ds, bs=8, device='cpu', num_workers=0)
        dl = torch.utils.data.DataLoader(ds, batch_size=8)
        return DataLoaders(dl, dl, device='cpu')
    t = TFMS[tfm]()
    learn = make(dls(t))
    extra = (t, generators())
    before = record(extra, ids=False)
    lr_range_test(learn, **QUICK)
    assert changes(before, record(extra, ids=False))==[]
    with learn.no_logging(): learn.fit(1)
    assert changes(before, record(extra, ids=False))

# ---------------------------------------------------------------- TorchScript

class Rebinding(nn.Module):
    "Binds a buffer anew, counts, and keeps a list and a dict"
    n: int
    log: list[int]
    named: dict[str, torch.Tensor]
    def __init__(self):
        super().__init__()
        self.lin,self.n,self.log,self.plain,self.named = nn.Linear(8, 8),0,[],torch.zeros(2),{'a': torch.zeros(1)}
        self.register_buffer('mean', torch.zeros(8))
    def forward(self, x):
        if self.training:
            self.n += 1
            self.log.append(self.n)
            self.mean = .9*self.mean+.1*x.detach().mean(0)
            self.plain += 1
            self.named['a'] = self.named['a']+1
        return self.lin(x-self.mean)

def head(): return nn.Linear(8, 1)
def layers(): return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
def traced(): return torch.jit.trace(nn.Sequential(layers(), head()), torch.randn(5, 4))
def scripted(): return torch.jit.script(nn.Sequential(layers(), Rebinding(), head()))
def loaded():
    file = io.BytesIO()
    torch.jit.save(scripted(), file)
    file.seek(0)
    return torch.jit.load(file)
def body():
    m = nn.Sequential(torch.jit.script(nn.Sequential(layers(), Rebinding())), head())
    for p in m[0].parameters(): p.requires_grad_(False)
    return m
def traced_body(): return nn.Sequential(torch.jit.trace(layers(), torch.randn(5, 4)), head())
def in_eval(): return nn.Sequential(torch.jit.freeze(torch.jit.script(layers().eval())), head())
def exported(): return torch.export.export(nn.Sequential(layers(), head()).train(), (torch.randn(5, 4),), dynamic_shapes=[{0: torch.export.Dim('n', min=2, max=99)}]).module(check_guards=False)

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('model', [traced, scripted, loaded, body, traced_body, in_eval, exported], ids=lambda f: f.__name__)
def test_torchscript(model):
    set_seed(1)
    m = model()
    if model is exported: m.train = m.eval = lambda *a: m # it has none
    learn = make(model=m, splitter=lambda m: list(m.parameters()))
    assert left(learn)==[]
    assert moved(learn, m)
    assert left(learn)==[]

@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('part', ['mode', 'trainable', 'gradient', 'weight', 'attribute'])
def test_torchscript_is_restored(part):
    learn = make(model=scripted())
    m = learn.model
    change = dict(mode=lambda: m.eval(), trainable=lambda: [p.requires_grad_(False) for p in m.parameters()], gradient=lambda: [setattr(p, 'grad', torch.ones_like(p)) for p in m.parameters()],
                  weight=lambda: [p.data.zero_() for p in m.parameters()], attribute=lambda: (setattr(m[1], 'n', 9), setattr(m[1], 'log', [4])))[part]
    before = state(learn)
    with preserved(learn):
        change()
        assert changes(before, state(learn))
    assert changes(before, state(learn))==[]

@pytest.mark.filterwarnings('ignore')
def test_each_arm_of_a_comparison_starts_from_the_weights_of_torchscript():
    from lrtools.compare import compare
    learn = make(model=traced())
    runs = compare(learn, dict(a=lambda l: l.fit(1, 1e-2), b=lambda l: l.fit(1, 1e-2)), seeds=(0,), progress=False)
    first,second = [r.history.losses for r in runs.runs]
    assert list(first)==list(second)

# ---------------------------------------------------------------- a validation loss in the middle of a sweep

class Freezes(Callback):
    "Freezes for the validation, and thaws for the training"
    def before_validate(self): self.model[0].requires_grad_(False)
    def before_train(self): self.model[0].requires_grad_(True)

class Thaws(Callback):
    def before_validate(self): self.model.requires_grad_(True)
    def before_train(self): self.model[0].requires_grad_(False)

class Clears(Callback):
    "Leaves no gradients, though they are accumulated"
    def before_validate(self): [setattr(p, 'grad', None) for p in self.model.parameters()]

class Swaps(Callback):
    "Validates with averaged weights, and takes the others back when the training goes on"
    def before_fit(self): self.mean,self.held = [p.detach().clone() for p in self.model.parameters()],None
    def after_step(self): [m.lerp_(p.detach(), .1) for m,p in zip(self.mean, self.model.parameters())]
    def before_validate(self):
        self.held = [p.detach().clone() for p in self.model.parameters()]
        for p,m in zip(self.model.parameters(), self.mean): p.data.copy_(m)
    def before_train(self):
        if self.held: [p.data.copy_(h) for p,h in zip(self.model.parameters(), self.held)]

class Scales(Callback):
    "Counts within a pass, which scales the loss"
    def before_train(self): self.n = 0
    def before_validate(self): self.n = 100
    def after_loss(self):
        self.n += 1
        if self.training: self.learn.loss_grad = self.learn.loss_grad*(1+.1*self.n)

class Hypers(Callback):
    def before_validate(self): self.opt.set_hypers(wd=.5)
    def before_train(self): self.opt.set_hypers(wd=0.)

class Forgets(Callback):
    def before_validate(self): self.opt.clear_state()

class Draws(Callback):
    "Random numbers from a closure"
    def __init__(self): self.f = (lambda r: lambda: r.random())(random.Random(1))
    def before_batch(self): self.learn.xb = (self.xb[0]+.1*self.f(),)

from fastai.callback.training import GradientAccumulation
@pytest.mark.parametrize('cbs', [[Freezes], [Thaws], [Clears, partial(GradientAccumulation, 16)], [Swaps], [Scales], [Hypers], [Forgets], [Draws], []],
                         ids=lambda cs: '_'.join(getattr(c, '__name__', 'accumulation') for c in cs) or 'none')
def test_losses_with_a_validation_are_those_without(cbs):
    def curve(valid):
        learn = make(cbs=[c() for c in cbs])
        return lr_range_test(learn, **{**QUICK, 'num_it': 9}, valid=valid)
    plain,checked = curve(False),curve(3)
    assert len(checked.sweeps[0].valid_losses)==3
    assert np.array_equal(plain.sweeps[0].losses, checked.sweeps[0].losses)

def gan(seed=0):
    from fastai.vision.gan import GANLearner
    set_seed(seed)
    generator,critic = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)),nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    d = [(torch.randn(4), torch.randn(4)) for _ in range(64)]
    dls = DataLoaders.from_dsets(d[:48], d[48:], bs=8, device='cpu')
    learn = GANLearner.wgan(dls, generator, critic, opt_func=partial(OptimWrapper, opt=torch.optim.RMSprop))
    learn.remove_cb(ProgressCallback)
    return learn

def test_losses_of_a_gan_with_a_validation_are_those_without():
    args = dict(num_it=30, start_lr=1e-6, end_lr=1e-3, stop_div=None, progress=False)
    plain,checked = lr_range_test(gan(), **args),lr_range_test(gan(), valid=3, **args)
    assert np.array_equal(plain.sweeps[0].losses, checked.sweeps[0].losses)
    assert len(checked.sweeps[0].valid_losses)==3

# ---------------------------------------------------------------- the order of batches

class Epochs(torch.utils.data.Sampler):
    "Orders from an epoch that somebody else counts"
    def __init__(self, n): self.n,self.epoch = n,0
    def __len__(self): return self.n
    def __iter__(self): return iter(random.Random(self.epoch).sample(range(self.n), self.n))

class Seeded(Epochs):
    "Orders from a seed, without an epoch"
    def __init__(self, n): self.n,self.seed = n,3
    def __iter__(self): return iter(random.Random(self.seed).sample(range(self.n), self.n))

class Ducks:
    "A sampler by its methods only"
    def __init__(self, n): self.n,self.at = n,0
    def set_epoch(self, at): self.at = at
    def __len__(self): return self.n
    def __iter__(self): return iter(random.Random(self.at).sample(range(self.n), self.n))

class Resetting(Callback):
    "What is usual with several processes"
    def before_train(self): self.dls.train.sampler.set_epoch(self.epoch)

def distributed(n, **kw): return torch.utils.data.DistributedSampler(range(n), num_replicas=1, rank=0, **kw)
def in_batches(n): return torch.utils.data.BatchSampler(distributed(n), 8, True)
SAMPLERS = dict(distributed=distributed, epochs=Epochs, seeded=Seeded, ducks=Ducks, in_batches=in_batches, random=lambda n: None, weighted=lambda n: torch.utils.data.WeightedRandomSampler(torch.ones(n), n),
                subset=lambda n: torch.utils.data.SubsetRandomSampler(range(n)))

def torch_learner(sampler, cbs=(), n=40):
    ds = Rows(n, 1)
    if isinstance(sampler, torch.utils.data.BatchSampler): dl = torch.utils.data.DataLoader(ds, batch_sampler=sampler)
    else: dl = torch.utils.data.DataLoader(ds, batch_size=8, sampler=sampler, shuffle=sampler is None)
    return make(DataLoaders(dl, dl, device='cpu'), model=nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)), cbs=list(cbs))

class Seen(Callback):
    "Puts the targets of each training batch into a queue, from which no walk takes them back"
    run_valid = False
    def __init__(self, into): self.into = into
    def after_pred(self): self.into.put(tuple(self.yb[0].tolist()))

def emptied(q): return [q.get() for _ in range(q.qsize())]

@pytest.mark.parametrize('kind,cbs', [(k, []) for k in SAMPLERS]+[('distributed', [Resetting])])
def test_each_sweep_has_another_order_whatever_the_sampler(kind, cbs, recwarn):
    sampler,seen = SAMPLERS[kind](40),queue.SimpleQueue()
    learn = torch_learner(sampler, [*(c() for c in cbs), Seen(seen)])
    assert left(learn, sampler, lambda l: lr_range_test(l, **QUICK, repeats=3))==[]
    assert len({*emptied(seen)[::4]})==3
    assert not [w for w in recwarn if 'fixed order' in str(w.message)]

@pytest.mark.parametrize('world', [1, 2])
def test_each_sweep_has_another_order_in_a_distributed_loader(world, monkeypatch):
    accelerate = types.ModuleType('accelerate') # which that module needs for something else
    accelerate.Accelerator = accelerate.notebook_launcher = object
    for k in ('accelerate', 'accelerate.utils', 'accelerate.commands', 'accelerate.commands.config'): monkeypatch.setitem(sys.modules, k, accelerate)
    from fastai.distributed import DistributedDL
    monkeypatch.setattr(DistributedDL, '_broadcast', lambda self, t, rank: t)
    learn,seen = make(),queue.SimpleQueue()
    learn.dls.loaders[0] = DistributedDL(learn.dls.train, rank=0, world_size=world)
    learn.add_cb(Seen(seen))
    lr_range_test(learn, **QUICK, repeats=3)
    batches = emptied(seen)
    assert len(batches)==12 and len({*batches[::4]})==3

def fastai_in_order():
    dls = rows('.')
    dls.loaders[0] = dls.train.new(shuffle=False)
    return make(dls)
FIXED = dict(listed=lambda: torch_learner(list(range(40))), sequential=lambda: torch_learner(torch.utils.data.SequentialSampler(range(40))), tensor=lambda: torch_learner(torch.arange(40)),
             batches=lambda: torch_learner(torch.utils.data.BatchSampler(range(40), 8, True)), fastai=fastai_in_order)

@pytest.mark.parametrize('kind', FIXED)
def test_an_order_that_is_fixed_is_said(kind):
    learn = FIXED[kind]()
    with pytest.warns(UserWarning, match='fixed order'): lr_range_test(learn, **QUICK, repeats=2)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        lr_range_test(learn, **QUICK) # one sweep has its order from the training that would follow

# ---------------------------------------------------------------- Ctrl-C at each line of the way out, and of the way in

def interrupted_at(n, learn, error, code):
    """Run a block in `preserved` with a Ctrl-C at the `n`-th different line from the call of `code` on. Gives (whether that line was reached, what was raised)"""
    lines,inside = set(),[0]
    def line(frame, event, arg):
        if event=='return' and frame.f_code is code: inside[0] -= 1
        if event=='line' and inside[0] and (at := (frame.f_code, frame.f_lineno)) not in lines:
            lines.add(at)
            if len(lines)==n: signal.raise_signal(signal.SIGINT)
        return line
    def call(frame, event, arg):
        inside[0] += frame.f_code is code
        return line if inside[0] else None
    before = sys.gettrace()
    sys.settrace(call)
    try:
        with preserved(learn):
            learn.model[0].weight.data.zero_()
            learn.opt.set_hypers(lr=9.)
            random.random()
            if error: raise error
        raised = None
    except BaseException as e: raised = e
    finally: sys.settrace(before)
    return len(lines)>=n,raised

WAYS = dict(out=lrtools.snapshot._Preserved.__exit__.__code__, into=lrtools.snapshot._Preserved.__enter__.__code__)

@pytest.mark.parametrize('error', [None, ZeroDivisionError('x'), KeyboardInterrupt()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize('way', WAYS)
def test_ctrl_c_at_each_line(way, error):
    if way=='into' and error: return
    torch.set_autocast_enabled('cpu', False)
    learn = make(model=nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)))
    before,old,n,reached = state(learn),signal.getsignal(signal.SIGINT),0,True
    while reached:
        n += 1
        reached,raised = interrupted_at(n, learn, error, WAYS[way])
        assert type(raised) is (KeyboardInterrupt if reached else type(error) if error else type(None)), n
        assert signal.getsignal(signal.SIGINT) is old, n
        assert changes(before, state(learn))==[], n
    assert n>40

def test_ctrl_c_works_after_a_block_that_another_thread_ended():
    learn,old = make(),signal.getsignal(signal.SIGINT)
    block = preserved(learn)
    block.__enter__()
    t = threading.Thread(target=block.__exit__, args=(None, None, None))
    t.start()
    t.join()
    try:
        with pytest.raises(KeyboardInterrupt): signal.raise_signal(signal.SIGINT)
    finally: signal.signal(signal.SIGINT, old)

def test_ctrl_c_in_the_block_stops_it_at_once():
    "Each time: the first may be caught by the block itself"
    learn,went_on = make(),[]
    with pytest.raises(KeyboardInterrupt):
        with preserved(learn):
            try: signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt: went_on.append(1)
            signal.raise_signal(signal.SIGINT)
            went_on.append(2)
    assert went_on==[1]

def test_a_snapshot_is_freed_with_its_block():
    learn = make()
    block = preserved(learn)
    with block as snap: kept = weakref.ref(snap)
    gc.disable() # no cycle holds it
    try:
        del snap
        assert kept() is None
    finally: gc.enable()
