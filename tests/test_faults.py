"Whatever goes wrong in whatever learner: afterwards all of it is as before, to the bit, and so is the training that follows"
import random, signal, threading, zlib
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import nn
from fastai.basics import Callback, DataLoaders, OptimWrapper, accuracy, set_seed

from learners import CONFIGS, EVENTS, Boom, Notes, Rows, boom, ctrl_c, fault, nan, plain
from lrtools.range_test import lr_range_test
from lrtools.snapshot import Snapshot, preserved
from state import changes, process, record, state, writes

QUICK = dict(num_it=8, start_lr=1e-4, end_lr=.1, stop_div=None, progress=False)
# where it fails, how, what comes out of the range test, and its arguments
FAULTS = dict(
    end=(None, None, None, {}),
    divergence=(None, None, None, dict(num_it=40, start_lr=1e-2, end_lr=1e4, stop_div=1.5)),
    nan=('loss', nan, None, {}),
    model=('model', boom, Boom, {}),
    loss=('loss', boom, Boom, {}),
    loader=('loader', boom, Boom, {}),
    callback=(EVENTS, boom, Boom, {}),
    interrupt=(EVENTS, ctrl_c, KeyboardInterrupt, {}))
STOPS = dict(end={'end'}, divergence={'diverged','non-finite'}, nan={'non-finite'})

@pytest.fixture(autouse=True)
def calm():
    "Nothing is armed before and after a test, and no mode is left on"
    fault.arm()
    yield
    fault.arm()
    while built: close(built.pop())

built = []

def close(learn):
    "End the workers that live on between epochs"
    for dl in learn.dls.loaders:
        if (it := vars(dl).get('_iterator')) is not None: it._shutdown_workers()

def short_fit(learn, **kw): learn.fit_one_cycle(1, 1e-2, **kw)

def build(name, path):
    "The learner, after a first short fit (but for 'no_optimizer'), and Python, NumPy and torch seeded"
    path.mkdir(parents=True, exist_ok=True)
    set_seed(7)
    learn = CONFIGS[name](path)
    built.append(learn)
    if name!='no_optimizer': short_fit(learn)
    if name=='read_only': # below a file, so that not even root can write there
        (path/'file').write_text('')
        learn.path = path/'file'/'no'
    return learn

class Spy(Callback):
    "Notes each batch and its loss"
    order,run_valid = 2000,False
    def __init__(self, log): self.log = log
    def after_loss(self): self.log.append((self.learn.xb[0].detach().clone(), self.learn.loss.detach().clone(), [h['lr'] for h in self.opt.hypers]))

def future(learn, path):
    "The training that follows: its batches and losses, and what it leaves"
    learn.path,log = path,[]
    short_fit(learn, cbs=Spy(log))
    rec,opt = learn.recorder,getattr(learn.opt, 'opt', learn.opt)
    return record(dict(log=log, losses=rec.losses, values=rec.values, weights=dict(learn.model.named_parameters()), buffers=dict(learn.model.named_buffers()),
                       opt=[dict(opt.state.get(p, {})) for p in learn.model.parameters()], hypers=list(learn.opt.hypers), process=process()), ids=False)

@cache
def untouched(name, tmp): return future(build(name, tmp/name), tmp/name)

@pytest.fixture(scope='session')
def twins(tmp_path_factory):
    "The future of a learner that never had a range test"
    tmp = tmp_path_factory.mktemp('twins')
    return lambda name: untouched(name, tmp)

@pytest.fixture
def check(tmp_path, twins):
    "Run `f(learn)` on learner `name`: all is as before, nothing was written, and the future is its twin's"
    def run(name, f, follow=True):
        twin = twins(name) if follow else None # first, as it moves the generators
        learn = build(name, tmp_path)
        before = state(learn, tmp_path)
        with writes() as written: res = f(learn)
        fault.arm()
        assert changes(before, state(learn, tmp_path))==[]
        assert written==[]
        if follow: assert changes(twin, future(learn, tmp_path))==[]
        return res
    return run

@pytest.mark.parametrize('name', CONFIGS)
def test_measure(check, name):
    "Nothing done, nothing changed: what is compared does not vary by itself"
    check(name, lambda learn: None)

@pytest.mark.parametrize('name', CONFIGS)
def test_measure_sees(tmp_path, name):
    "Training changes most of what is compared"
    learn = build(name, tmp_path)
    before = state(learn)
    learn.path = tmp_path
    short_fit(learn)
    changed = ' '.join(changes(before, state(learn), n=10**6))
    for part in ('learn.model', 'learn.opt', 'learn.cbs', 'process.torch'): assert part in changed, part

# ---------------------------------------------------------------- the matrix

def arm(name, kind):
    "Arm `fault` at a place and batch that follow from the two names"
    where,action,_,_ = FAULTS[kind]
    luck = random.Random(zlib.crc32(f'{name} {kind}'.encode()))
    where = luck.choice(where) if isinstance(where, tuple) else where
    fault.arm(where, luck.randint(1, 5), action)

def range_test(learn, kind, **kw):
    _,_,error,args = FAULTS[kind]
    if error is None: return lr_range_test(learn, **{**QUICK, **args, **kw})
    with pytest.raises(error) as e: lr_range_test(learn, **{**QUICK, **args, **kw})
    return e.value

@pytest.mark.parametrize('kind', FAULTS)
@pytest.mark.parametrize('name', CONFIGS)
def test_matrix(check, name, kind):
    def run(learn):
        arm(name, kind)
        return range_test(learn, kind)
    res = check(name, run)
    if kind in STOPS: assert set(res.stops)<=STOPS[kind]
    elif kind!='interrupt': assert 'armed' in str(res)

MORE = dict(repeats=dict(repeats=3), valid=dict(valid=True), valid_repeats=dict(valid=3, repeats=2), each=dict(groups='each'), last=dict(groups=-1, hold=1e-3),
            linear=dict(mode='linear', start_lr=0), bar=dict(progress=True))

@pytest.mark.parametrize('kind', ['end', 'interrupt'])
@pytest.mark.parametrize('args', MORE)
@pytest.mark.parametrize('name', ['norm_dropout', 'text', 'torch_loader'])
def test_arguments(check, name, args, kind):
    "Whatever the range test is asked for, at its 9th to 13th batch too"
    def run(learn):
        arm(name, kind)
        fault.box.at += 8*('repeats' in args)
        return range_test(learn, kind, **MORE[args])
    check(name, run)

def test_progress_that_raises(check):
    def run(learn):
        with pytest.raises(Boom): lr_range_test(learn, **{**QUICK, 'progress': lambda i,n: boom()})
    check('norm_dropout', run)

# ---------------------------------------------------------------- preserved and Snapshot

def spoil(learn):
    "Train at a rate that ruins the weights"
    with learn.no_logging(): learn.fit(1, 10.)

QUIET = [k for k in CONFIGS if k not in ('trackers', 'shown', 'read_only')] # these write when they train

@pytest.mark.parametrize('error', [None, KeyboardInterrupt])
@pytest.mark.parametrize('name', QUIET)
def test_preserved(check, name, error):
    def run(learn):
        try:
            with preserved(learn):
                spoil(learn)
                learn.freeze() if len(learn.opt.param_lists)>1 else None
                learn.create_opt()
                learn.cbs.clear()
                if error: raise error('x')
        except BaseException as e: assert type(e) is error
    check(name, run)

@pytest.mark.parametrize('error', [Boom('x'), KeyboardInterrupt(), SystemExit(3), GeneratorExit(), StopIteration()], ids=repr)
def test_the_exception_itself_goes_through(tmp_path, error):
    with pytest.raises(type(error)) as e:
        with preserved(plain(tmp_path)): raise error
    assert e.value is error

@pytest.mark.parametrize('name', QUIET)
def test_nested(check, name):
    def run(learn):
        with preserved(learn):
            spoil(learn)
            inner = state(learn)
            with preserved(learn): spoil(learn)
            assert changes(inner, state(learn))==[]
            lr_range_test(learn, **QUICK)
            assert changes(inner, state(learn))==[]
    check(name, run)

@pytest.mark.parametrize('name', [k for k in QUIET if k!='torch_workers'])
def test_restore_many_times(check, name):
    def run(learn):
        snap,before,futures = Snapshot(learn),state(learn),[]
        for _ in range(3):
            futures.append(future(learn, learn.path))
            assert snap.restore() is learn
            assert changes(before, state(learn))==[]
        assert futures[0]==futures[1]==futures[2]
    check(name, run)

@pytest.mark.parametrize('name', QUIET)
def test_runs_from_one_snapshot_are_equal(tmp_path, name):
    learn = build(name, tmp_path)
    def run(snap):
        snap.restore()
        return future(learn, tmp_path)
    with preserved(learn) as snap: assert changes(run(snap), run(snap))==[]
    snap = Snapshot(learn)
    assert changes(run(snap), run(snap))==[]

def test_restores_only_its_own_learner(tmp_path):
    learn,other = plain(tmp_path),plain(tmp_path)
    with pytest.raises(ValueError, match='another learner'): Snapshot(learn).restore(other)

@pytest.mark.parametrize('part', [0, .3, .6, 1])
@pytest.mark.parametrize('error', [None, Boom])
def test_second_ctrl_c_waits(check, part, error):
    "Ctrl-C in the middle of the clean-up: it comes through, after all has been restored"
    def run(learn):
        with pytest.raises(KeyboardInterrupt):
            with preserved(learn) as snap:
                spoil(learn)
                snap._undo.insert(int(part*len(snap._undo)), ctrl_c)
                if error: boom()
    check('norm_dropout', run)

@pytest.mark.parametrize('ours', ['ignored', 'own'])
def test_second_ctrl_c_goes_to_the_handler_that_was_there(tmp_path, ours):
    learn,held = build('norm_dropout', tmp_path),[]
    old = signal.signal(signal.SIGINT, signal.SIG_IGN if ours=='ignored' else lambda *a: held.append(a))
    try:
        with preserved(learn) as snap: snap._undo.insert(3, ctrl_c)
    except KeyboardInterrupt: pytest.fail('KeyboardInterrupt, though the handler that was there does not raise it')
    finally: signal.signal(signal.SIGINT, old)
    assert len(held)==(ours=='own')

def test_in_another_thread(check):
    "Where signals cannot be held back it works as well"
    def run(learn):
        res = []
        t = threading.Thread(target=lambda: res.append(lr_range_test(learn, **QUICK)))
        t.start()
        t.join()
        assert len(res[0])==8
    check('norm_dropout', run)

def changed_inside(check, change, name='norm_dropout', **kw):
    "`change(learn)` inside `preserved` is undone"
    def run(learn):
        with preserved(learn): change(learn)
    check(name, run, **kw)

INSIDE = dict(
    forward_hook=lambda l: l.model[0].register_forward_hook(lambda *a: None),
    forward_pre_hook=lambda l: l.model.register_forward_pre_hook(lambda *a: None),
    backward_hook=lambda l: l.model[0].register_full_backward_hook(lambda *a: None),
    weight_hook=lambda l: l.model[0][0].weight.register_hook(lambda g: g*0),
    gradient_hook=lambda l: l.model[0][0].weight.register_post_accumulate_grad_hook(lambda p: p.grad.zero_()),
    weight_attribute=lambda l: setattr(l.model[0][0].weight, 'mark', 1),
    no_gradient=lambda l: [p.requires_grad_(False) for p in l.model.parameters()],
    gradient_none=lambda l: [setattr(p, 'grad', None) for p in l.model.parameters()],
    half=lambda l: l.model.half(),
    double=lambda l: l.model.double(),
    new_weight=lambda l: setattr(l.model[0][0], 'weight', nn.Parameter(torch.zeros(8,4))),
    weight_data=lambda l: setattr(l.model[0][0].weight, 'data', torch.zeros(8,4)),
    new_layer=lambda l: l.model.append(nn.Linear(1,1)),
    less_layers=lambda l: l.model[0].__delitem__(2),
    other_model=lambda l: setattr(l, 'model', nn.Linear(4,1)),
    mode=lambda l: l.model[0].eval(),
    no_opt=lambda l: setattr(l, 'opt', None),
    hypers=lambda l: l.opt.set_hypers(lr=[7.,8.], wd=.3),
    frozen_idx=lambda l: l.freeze(),
    clear_state=lambda l: l.opt.clear_state(),
    loaded_state=lambda l: l.opt.load_state_dict({'state': [{} for _ in l.opt.all_params()], 'hypers': l.opt.hypers}),
    no_cbs=lambda l: l.cbs.clear(),
    cb_order=lambda l: l.cbs.items.reverse(),
    cb_added=lambda l: l.add_cb(Callback()),
    cb_removed=lambda l: l.remove_cb(Notes),
    cb_state=lambda l: (l.notes.notes['by']['kind'].last.clear(), l.notes.notes['losses'].clear(), l.notes.notes['by']['kind'].names.clear()),
    cb_array=lambda l: l.notes.array.fill(9),
    losses_cleared=lambda l: l.recorder.losses.clear(),
    values_added=lambda l: l.recorder.values.append([1.,2.,3.]),
    values_changed=lambda l: l.recorder.values[0].clear(),
    logger=lambda l: setattr(l, 'logger', None),
    loss_func=lambda l: setattr(l, 'loss_func', None),
    metrics=lambda l: setattr(l, 'metrics', [accuracy]),
    attribute=lambda l: (setattr(l, 'mine', 1), delattr(l, 'wd')),
    order=lambda l: [list(l.dls.train) for _ in range(2)],
    one_batch=lambda l: l.dls.one_batch(),
    loader_size=lambda l: setattr(l.dls.train, 'bs', 3),
    validate=lambda l: l.validate(),
    predictions=lambda l: l.get_preds(),
    seed=lambda l: set_seed(1, reproducible=False),
    autocast=lambda l: torch.autocast('cpu', dtype=torch.bfloat16).__enter__())

@pytest.mark.parametrize('what', INSIDE)
def test_undone(check, what): changed_inside(check, INSIDE[what])

# ---------------------------------------------------------------- unusual learners

def with_gradients(learn):
    "Gradients of a backward pass by hand, one of them -0.0, one missing"
    xb,yb = learn.dls.one_batch()
    learn.loss_func(learn.model(xb), yb).backward()
    ps = list(learn.model.parameters())
    ps[0].grad.mul_(0).neg_(); ps[2].grad = None

def with_rates(learn):
    learn.lr = slice(1e-4, 1e-2)
    learn.opt.set_hypers(lr=[1e-4,1e-3], wd=[.1,.2], mom=[.8,.9])

class Slots:
    __slots__ = 'count',
    def __init__(self): self.count = 0

class SlotsCallback(Callback):
    run_valid = False
    def __init__(self): self.slots = Slots()
    def after_batch(self): self.slots.count += 1

class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb,self.out = nn.Embedding(5, 3, sparse=True),nn.Linear(7,1)
    def forward(self, x): return self.out(torch.cat([x, self.emb((x[:,0]>0).long())], 1))

def sparse(learn):
    learn.model,learn.opt_func = Sparse(),partial(OptimWrapper, opt=torch.optim.SGD)
    learn.splitter = lambda m: list(m.parameters())
    learn.create_opt()
    learn.notes.average = None
    learn.loss_func(learn.model(torch.randn(8,4)), torch.randn(8)).backward()

class Expanded(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer('ones', torch.ones(1).expand(4))
        self.plain = torch.eye(4).expand(2,4,4)
    def forward(self, x): return x*self.ones

class Foreign(torch.optim.SGD):
    "An optimizer from a package that nothing else of the learner comes from, with state beside `state`"
    def __init__(self, params, **kw):
        super().__init__(params, momentum=.9, **kw)
        self.steps,self.ema = 0,{}
    def step(self, closure=None):
        self.steps += 1
        for g in self.param_groups:
            for p in g['params']:
                if p.grad is not None: p.grad.add_(self.ema.setdefault(p, torch.zeros_like(p)).add_(.01))
        return super().step()

def foreign_opt(learn):
    learn.opt_func = partial(OptimWrapper, opt=Foreign)
    learn.create_opt()

class Shuffled(torch.utils.data.Sampler):
    "Orders from a generator of its own"
    def __init__(self, n): self.n,self.rng,self.epochs = n,random.Random(4),0
    def __len__(self): return self.n
    def __iter__(self):
        self.epochs += 1
        return iter(self.rng.sample(range(self.n), self.n))

def own_sampler(learn):
    dl = partial(torch.utils.data.DataLoader, batch_size=8)
    learn.dls = DataLoaders(dl(Rows(40, 1), sampler=Shuffled(40)), dl(Rows(12, 2)), path=learn.path, device='cpu')

def torch_only(learn):
    "Nothing but torch and fastai"
    own_sampler(learn)
    learn.model,learn.loss_func = nn.Sequential(nn.Sequential(nn.Linear(4,8)), nn.Sequential(nn.Linear(8,1), nn.Flatten(0))),nn.functional.mse_loss
    learn.remove_cbs([cb for cb in learn.cbs if type(cb).__module__=='learners'])
    learn.create_opt()

def expanded(learn): learn.model[0].insert(0, Expanded())
def slots(learn): learn.add_cb(SlotsCallback())
UNUSUAL = [with_gradients, with_rates, slots, sparse, expanded, foreign_opt, own_sampler, torch_only]

@pytest.mark.parametrize('kind', ['end', 'loader', 'interrupt'])
@pytest.mark.parametrize('make', UNUSUAL, ids=lambda f: f.__name__)
def test_unusual(tmp_path, make, kind):
    def made():
        learn = build('norm_dropout', tmp_path/str(len(built)))
        make(learn)
        return learn
    twin = future(made(), tmp_path)
    learn = made()
    before = state(learn)
    arm('unusual', kind)
    if kind=='interrupt' and make is torch_only: fault.arm('loader', 5, ctrl_c)
    range_test(learn, kind)
    fault.arm()
    assert changes(before, state(learn))==[]
    assert changes(twin, future(learn, tmp_path))==[]

@pytest.mark.parametrize('name', ['norm_dropout', 'adamw', 'text', 'shown'])
def test_memory(tmp_path, monkeypatch, name):
    "A snapshot clones about one copy of model and optimizer"
    learn,cloned,clone = build(name, tmp_path),[],torch.Tensor.clone
    size = lambda t: t.numel()*t.element_size()
    monkeypatch.setattr(torch.Tensor, 'clone', lambda t, **kw: cloned.append(size(t)) or clone(t, **kw))
    Snapshot(learn)
    opt = getattr(learn.opt, 'opt', learn.opt).state.values()
    mine = [*learn.model.parameters(), *learn.model.buffers(), *(learn.notes.average or ()), *(v for s in opt for v in s.values() if isinstance(v, torch.Tensor))]
    assert sum(map(size, mine))*.9 <= sum(cloned) <= sum(map(size, mine))*1.3+100

# ---------------------------------------------------------------- refusals

CALLS = dict(range_test=lambda l: lr_range_test(l, **QUICK), preserved=lambda l: preserved(l).__enter__(), snapshot=Snapshot)

@pytest.mark.parametrize('call', CALLS)
@pytest.mark.parametrize('work', ['fit', 'validate', 'get_preds'])
def test_busy_in_another_thread(tmp_path, work, call):
    learn = build('norm_dropout', tmp_path)
    inside,go = threading.Event(),threading.Event()
    class Wait(Callback):
        def after_pred(self): inside.set(); assert go.wait(60)
    t = threading.Thread(target=lambda: learn.fit(1, cbs=Wait()) if work=='fit' else getattr(learn, work)(cbs=Wait()))
    t.start()
    try:
        assert inside.wait(60)
        with pytest.raises(ValueError, match='being fitted'): CALLS[call](learn)
    finally: go.set(); t.join()
    assert len(lr_range_test(learn, **QUICK))==8

@pytest.mark.parametrize('event', ['before_fit', 'before_epoch', *EVENTS, 'after_train', 'before_validate', 'after_fit'])
def test_busy_in_a_callback(tmp_path, event):
    learn,said = build('norm_dropout', tmp_path),[]
    def ask(self):
        for f in CALLS.values():
            with pytest.raises(ValueError, match='being fitted') as e: f(self.learn)
            said.append(str(e.value))
    learn.fit(1, cbs=Callback(**{event: ask}))
    assert said
    assert len(lr_range_test(learn, **QUICK))==8

def test_busy_is_one_learner(tmp_path):
    "Another learner may be tested meanwhile"
    learn,other,seen = build('norm_dropout', tmp_path/'a'),build('norm_dropout', tmp_path/'b'),[]
    learn.fit(1, cbs=Callback(before_train=lambda self: seen.append(lr_range_test(other, **QUICK))))
    assert len(seen[0])==8

BAD = [(dict(num_it=v), 'num_it') for v in (1, 0, -5, 2.5, '9', None, True)]
BAD += [(dict(repeats=v), 'repeats') for v in (0, -1, 1.5, '2', None, True)]
BAD += [(dict(mode=v), 'mode') for v in ('log', '', None, 3, ['exp'])]
BAD += [(dict(stop_div=v), 'stop_div') for v in (1, 0, -4, float('nan'), '4', [4], True)]
BAD += [(dict(valid=v), 'valid') for v in (-1, 2.5, 'yes', None)]
BAD += [({k: v}, k) for k in ('start_lr','end_lr') for v in (-1e-3, 0, float('nan'), float('inf'), '1e-3', None, True, [], [1e-3,1e-3,1e-3], [1e-3,-1], [1e-3,'x'],
                                                          slice(None), slice(1e-3,None), slice(-1,1e-3), slice('a','b'), {'a': 1}, 1j, torch.tensor([1e-3,1e-3,1e-3]), np.array(-1.))]
BAD += [(dict(hold=v), 'hold') for v in (-1, float('nan'), 'x', None, [1.,2.,3.])]
BAD += [(dict(start_lr=1, end_lr=.1), 'start_lr'), (dict(start_lr=[1e-3,1], end_lr=[1e-2,.1]), 'start_lr'), (dict(start_lr=.1, end_lr=.1), 'start_lr')]
BAD += [(dict(groups=v), 'groups') for v in (2, -3, [], [0,2], 'all', True, 1.5, [0.,1.], ['0'], [None])]

@pytest.mark.parametrize('name', ['no_optimizer', 'norm_dropout'])
@pytest.mark.parametrize('args,word', BAD, ids=lambda v: repr(v) if isinstance(v, dict) else '')
def test_bad_arguments(tmp_path, name, args, word):
    learn = build(name, tmp_path)
    before = state(learn, tmp_path)
    with pytest.raises((ValueError, TypeError), match=word) as e: lr_range_test(learn, **{**QUICK, **args})
    assert changes(before, state(learn, tmp_path))==[]
    value = next(iter(args.values()))
    if isinstance(value, (str, int)): assert str(value) in str(e.value) # by value too

@pytest.mark.parametrize('bad', [None, nn.Linear(2,2), 'learn', plain], ids=lambda v: type(v).__name__)
def test_not_a_learner(bad):
    for f in CALLS.values():
        with pytest.raises(TypeError, match='Learner'): f(bad)

def nothing_to_train(learn): [p.requires_grad_(False) for p in learn.model.parameters()]
def no_batches(learn): learn.dls.train.n = 3
def no_valid(learn): learn.dls.valid.n = 0
def one_loader(learn): learn.dls.loaders.pop()
def lazy(learn): learn.model[0].append(nn.LazyLinear(3))
def not_a_module(learn): learn.model = len
HOPELESS = [(nothing_to_train, {}, 'trainable'), (no_batches, {}, 'no batches'), (no_valid, dict(valid=True), 'valid'), (one_loader, dict(valid=True), 'valid'),
            (lazy, {}, 'without a shape'), (not_a_module, {}, 'Module')]

@pytest.mark.parametrize('spoil,args,word', HOPELESS, ids=lambda v: getattr(v, '__name__', ''))
def test_hopeless_learners(tmp_path, spoil, args, word):
    learn = build('norm_dropout', tmp_path)
    spoil(learn)
    before = state(learn) if spoil is not lazy else {}
    with pytest.raises((ValueError, TypeError), match=word): lr_range_test(learn, **{**QUICK, **args})
    if before: assert changes(before, state(learn))==[]
