"State of every kind, wherever a learner can reach it: what a range test moves is moved back"
import argparse, array, collections, functools, io, itertools, random, signal, sys, threading, types, weakref
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
    def held(): return repr((LOG, STEPS, helpers.n, helpers.log))
    learn,before = make(loss=lambda p,y: (f(), (p.view(-1)-y).square().mean())[1]),held()
    assert left(learn)==[] and held()==before
    with learn.no_logging(): learn.fit(1)
    assert held()!=before

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
