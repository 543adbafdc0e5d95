"A learner that cannot train: one sentence with the way out, the same from every function, and nothing has changed"
import re
from functools import partial

import pytest
import torch
from torch import nn
from fastai.basics import Callback, DataLoader, DataLoaders, F, Learner, MSELossFlat, OptimWrapper, params, set_seed, trainable_params
from fastai.callback.progress import ProgressCallback

from lrtools.all import *
from lrtools.learner import check_learner, n_batches
from lrtools.range_test import fit_rates
from lrtools.words import LONGEST
from state import changes, state

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
DATA = list(zip(X, X[:,:1]*X[:,1:2]))

class Stream(torch.utils.data.IterableDataset):
    def __iter__(self): return iter(DATA)
class Iter:
    def __iter__(self): return iter(DATA)
class NotYet(torch.utils.data.IterableDataset):
    def __iter__(self): return iter(DATA)
    def __len__(self): raise NotImplementedError()
class Named(dict): "Batches of many libraries"

def net(): return nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Sequential(nn.Dropout(.1), nn.Linear(8, 1)))
def loaders(ds, n=2, cls=torch.utils.data.DataLoader, **kw): return DataLoaders(*[cls(ds, **{'batch_size': 8, **kw}) for _ in range(n)], device='cpu')
def toy(dls=None, model=None, **kw):
    set_seed(0)
    dls = DataLoaders.from_dsets(DATA[:32], DATA[32:], bs=8, device='cpu', num_workers=0) if dls is None else dls
    return Learner(dls, (model or net)(), **{'loss_func': MSELossFlat(), 'splitter': lambda m: [params(m[0]), params(m[1])], **kw}).remove_cb(ProgressCallback)

def collate(items): return Named(x=torch.stack([a for a,_ in items]), y=torch.stack([b for _,b in items]))
def frozen(learn):
    learn.model.requires_grad_(False)
    return learn
def all_inputs():
    dls = DataLoaders.from_dsets(DATA[:32], DATA[32:], bs=8, device='cpu', num_workers=0)
    dls.n_inp = 2
    return toy(dls, Two)
def without_loss():
    learn = toy()
    learn.loss_func = None
    return learn
def replaced():
    learn = toy()
    learn.create_opt()
    learn.model = net()
    return learn
class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()
    def __getitem__(self, i): return self.net[i]
    def forward(self, x, y): return self.net(x)
class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()
    def __getitem__(self, i): return self.net[i]
    def forward(self, x): return self.net(x).detach()
def half(f): return lambda p,*yb: f(F.mse_loss(p, *yb)) if torch.is_tensor(p) else None

# name: (the learner, what the sentence says, whether a batch is needed to know)
CANNOT = dict(
    stream=(lambda: toy(loaders(Stream(), cls=DataLoader)), 'no length', False),
    iterator=(lambda: toy(loaders(Iter(), cls=DataLoader)), 'no length', False),
    torch_stream=(lambda: toy(loaders(Stream())), 'no length', False),
    length_that_raises=(lambda: toy(loaders(NotYet())), 'no length', False),
    no_items=(lambda: toy(DataLoaders.from_dsets([], DATA, bs=8, device='cpu')), 'no items', False),
    drop_last=(lambda: toy(DataLoaders.from_dsets(DATA[:5], DATA, bs=8, device='cpu')), '5 items do not fill one of 8', False),
    torch_drop_last=(lambda: toy(loaders(DATA[:5], drop_last=True)), '5 items do not fill one of 8', False),
    no_target=(all_inputs, 'no target.*`learn.dls.n_inp = 1`', True),
    one_part=(lambda: toy(loaders([(a,) for a,_ in DATA])), 'have one part', True),
    dict_batches=(lambda: toy(loaders([dict(x=a, y=b) for a,b in DATA])), "is a dict with 'x', 'y'", True),
    named_batches=(lambda: toy(loaders(DATA, collate_fn=collate)), "is a (dict|Named) with 'x', 'y'", True),
    one_tensor=(lambda: toy(loaders(list(X))), 'one tensor', True),
    loss_dict=(lambda: toy(loss_func=half(lambda l: dict(loss=l, mse=l))), "gives a dict with 'loss', 'mse'", True),
    loss_tuple=(lambda: toy(loss_func=half(lambda l: (l, l))), 'gives a tuple', True),
    loss_none=(lambda: toy(loss_func=half(lambda l: None)), 'gives a NoneType', True),
    loss_float=(lambda: toy(loss_func=half(float)), 'gives a float', True),
    loss_items=(lambda: toy(loss_func=nn.MSELoss(reduction='none')), "`learn.loss_func.reduction = 'mean'`", True),
    loss_items_function=(lambda: toy(loss_func=partial(F.mse_loss, reduction='none')), r'`\.mean\(\)`', True),
    loss_detached=(lambda: toy(loss_func=half(lambda l: l.detach())), 'does not depend on any trainable', True),
    model_detached=(lambda: toy(model=Detached), 'does not depend on any trainable', True),
    no_loss=(without_loss, 'loss_func is None', True),
    closure=(lambda: toy(opt_func=partial(OptimWrapper, opt=torch.optim.LBFGS), splitter=trainable_params), 'LBFGS asks for a closure', False))
# refused where the weights have to train as they are
STILL = dict(
    all_frozen=(lambda: frozen(toy()), r'all are frozen: `learn.model.requires_grad_\(True\)`', False),
    all_frozen_no_groups=(lambda: frozen(toy(splitter=trainable_params)), '(all are frozen|no parameter of its model is trainable).*`learn.model.requires_grad_', False),
    other_model=(replaced, 'holds none of the trainable', False),
    no_parameters=(lambda: toy(model=nn.Identity, splitter=trainable_params), 'has no parameters', False))

RATES = [[1e-4, 1e-4]]*3
def in_place(learn): return fit_rates(learn, torch.tensor(RATES).numpy())
LOOKS = dict(
    lr_range_test=lambda learn: lr_range_test(learn, num_it=5, progress=False),
    lr_range_test_valid=lambda learn: lr_range_test(learn, num_it=5, valid=2, repeats=2, progress=False),
    probe=lambda learn: probe(learn, [1e-3], num_it=3, progress=False),
    measure=lambda learn: freeze_report(learn, measure=True),
    picker=lambda learn: LRPicker(learn))
TRAINS = dict(
    compare=lambda learn: compare(learn, {'a': Phase(constant(1e-3), 1)}, seeds=(0,), progress=False),
    fit_plan=lambda learn: fit_plan(learn, Phase(constant(1e-3), 1)))
MAY_THAW = dict(
    unfreeze_study=lambda learn: unfreeze_study(learn, 1e-3, seeds=(0,), arms=['as asked'], progress=False),
    at_once=lambda learn: unfreeze_at_once_study(learn, 1e-3, 1, seeds=(0,), progress=False),
    plan_that_thaws=lambda learn: fit_plan(learn, Phase(constant(1e-3), 1, freeze_to=0)),
    precompute=lambda learn: precompute(learn, learn.model[1], progress=False))
PEEKS = dict(preview=lambda learn: SchedulePreview(one_cycle(1e-3), learn=learn))

def refused(make, f, says):
    learn = make()
    before = state(learn)
    with pytest.raises(ValueError, match=says) as e: f(learn)
    text = str(e.value)
    assert len(text)<=LONGEST and '\n' not in text and 'Exception occured' not in text
    assert changes(before, state(learn))==[]
    return text

@pytest.mark.parametrize('f', LOOKS|TRAINS)
@pytest.mark.parametrize('kind', CANNOT|STILL)
def test_cannot_train(kind, f):
    make,says,_ = (CANNOT|STILL)[kind]
    refused(make, (LOOKS|TRAINS)[f], says)

def trained_once(make):
    "`unfreeze_study` begins with a learner that was trained"
    learn = make()
    if learn.opt is None: learn.create_opt()
    for p in learn.model.parameters(): learn.opt.state[p]['step'] = 1
    return learn

@pytest.mark.parametrize('f', MAY_THAW)
@pytest.mark.parametrize('kind', [k for k in CANNOT if k!='closure'])
def test_cannot_train_however_it_is_frozen(kind, f):
    make,says,_ = CANNOT[kind]
    refused(partial(trained_once, make), MAY_THAW[f], says)

@pytest.mark.parametrize('kind', [k for k,o in CANNOT.items() if not o[2] and k!='closure'])
def test_cannot_be_drawn(kind): refused(CANNOT[kind][0], PEEKS['preview'], CANNOT[kind][1])

@pytest.mark.parametrize('kind', [k for k,o in CANNOT.items() if not o[2]])
def test_continue_study_refuses(kind):
    make,says,_ = CANNOT[kind]
    refused(make, lambda learn: continue_study(learn, 1), says)

def test_sentences_are_the_same_everywhere():
    for kind in ('dict_batches', 'loss_dict', 'drop_last', 'no_target', 'loss_items'):
        make,says,_ = CANNOT[kind]
        assert len({refused(make, f, says) for f in (LOOKS|TRAINS).values()})==1, kind

@pytest.mark.parametrize('make,says', [(lambda: toy(DataLoaders()), 'no training loader'), (lambda: toy(model=lambda: net().to('meta')), "device 'meta'")], ids=['no loaders', 'meta'])
@pytest.mark.parametrize('f', LOOKS|TRAINS)
def test_nothing_to_train_with(make, says, f):
    with pytest.raises(ValueError, match=says): (LOOKS|TRAINS)[f](make())

# ---------------------------------------------------------------- the advice works

def follows(learn, text):
    "Run the line of code that the sentence advises"
    exec(re.findall(r'`(learn\.[^`]+)`', text)[-1], dict(learn=learn))
    return learn

@pytest.mark.parametrize('kind', ['stream', 'no_target', 'loss_items', 'all_frozen', 'all_frozen_no_groups', 'other_model'])
def test_advice_works(kind):
    make,says,_ = (CANNOT|STILL)[kind]
    text = refused(make, LOOKS['lr_range_test'], says)
    learn = follows(make(), text)
    if kind=='stream': learn.dls.valid.n = 40
    if kind=='no_target': learn.model = learn.model.net
    assert len(lr_range_test(learn, num_it=5, stop_div=None, progress=False))==5
    with learn.no_bar(), learn.no_logging(): learn.fit(1)

# ---------------------------------------------------------------- what is not refused

class Boom(Exception): pass

@pytest.mark.parametrize('error', [Boom('mine'), TypeError("unhashable type: 'slice'"), AttributeError("'dict' object has no attribute 'clone'"), KeyError('x'), ValueError('mine')], ids=repr)
@pytest.mark.parametrize('where', ['model', 'loss', 'data'])
@pytest.mark.parametrize('f', LOOKS|TRAINS)
def test_exceptions_of_the_user_go_through(f, where, error):
    "An exception of the user's own code is not translated, whatever it says"
    if f=='compare' and where!='data': pytest.skip('reported in its run')
    def fail(*a, **kw): raise error
    learn = toy()
    if where=='model': learn.model[1][1].register_forward_hook(fail)
    elif where=='loss': learn.loss_func = fail
    else: learn.dls.train.create_item = fail
    with pytest.raises(type(error)) as e: (LOOKS|TRAINS)[f](learn)
    assert e.value is error

def test_batches_that_a_callback_mends():
    "Inputs and targets that a callback sets before the model sees them"
    def mend(self): self.learn.xb,self.learn.yb = self.xb[:1],self.xb[1:]
    dls = DataLoaders.from_dsets(DATA[:32], DATA[32:], bs=8, device='cpu')
    dls.n_inp = 2
    learn = toy(dls, cbs=Callback(before_batch=mend))
    assert len(lr_range_test(learn, num_it=5, stop_div=None, progress=False))==5
    fit_plan(learn, Phase(constant(1e-3), 1))

def test_losses_that_a_callback_mends():
    def mend(self): self.learn.loss_grad = self.learn.loss_grad.mean()
    learn = toy(loss_func=nn.MSELoss(reduction='none'), cbs=Callback(after_loss=mend))
    assert len(lr_range_test(learn, num_it=5, stop_div=None, progress=False))==5
    fit_plan(learn, Phase(constant(1e-3), 1))

def test_a_loss_of_one_element_with_dimensions():
    learn = toy(loss_func=lambda p,y: F.mse_loss(p, y)[None,None])
    assert len(lr_range_test(learn, num_it=5, stop_div=None, progress=False))==5

def test_gradients_switched_off_outside():
    learn = toy()
    for off in (torch.no_grad, torch.inference_mode):
        with off(), pytest.raises(ValueError, match='switched off'): lr_range_test(learn, num_it=5, progress=False)

def test_arms_may_thaw_what_is_frozen():
    def thaw(learn):
        learn.model.requires_grad_(True)
        learn.fit(1, 1e-3)
    learn = frozen(toy())
    runs = compare(learn, {'a': thaw, 'b': Phase(constant(1e-3), 1, freeze_to=0)}, seeds=(0,), progress=False)
    assert not any(r.error for r in runs)

def test_fit_plan_trains_as_before_the_look():
    "The look takes no batch, no random number and no memory of the optimizer"
    def run(f):
        learn = toy(model=lambda: net().append(nn.Dropout(.3)))
        f(learn)
        return [p.detach().clone() for p in learn.model.parameters()]
    def by_hand(learn):
        with learn.no_bar(), learn.no_logging(): learn.fit(2, 1e-3)
    def by_plan(learn):
        with learn.no_bar(), learn.no_logging(): fit_plan(learn, Phase(constant(1e-3), 2))
    assert all(map(torch.equal, run(by_hand), run(by_plan)))

def test_fit_plan_that_is_refused_leaves_a_trained_optimizer():
    "The memory of an optimizer that the plan would have cleared is there again"
    learn = toy(opt_func=partial(OptimWrapper, opt=torch.optim.AdamW))
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    learn.loss_func = nn.MSELoss(reduction='none')
    refused(lambda: learn, lambda l: fit_plan(l, Phase(constant(1e-3), 1, freeze_to=-1, reset_opt=True)), 'one number')

# ---------------------------------------------------------------- arms, compiled models

@pytest.mark.parametrize('sched', [one_cycle(1e-3), constant(slice(1e-4, 1e-3)), join([constant(1e-3), one_cycle([1e-4, 1e-2])], [.5, .5])], ids=repr)
def test_a_schedule_is_no_arm(sched):
    with pytest.raises(TypeError, match=r"arms\['warm'\] is a schedule.*Phase\(") as e: compare(toy(), {'warm': sched}, progress=False)
    phase = eval(re.search(r'`(Phase.*)`', str(e.value))[1])
    assert not any(r.error for r in compare(toy(), {'warm': phase}, seeds=(0,), progress=False))

@pytest.mark.parametrize('how', ['wrapped', 'in_place', 'part'])
def test_compiled_models_are_tested_as_others(how):
    def small(): return nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Sequential(nn.Linear(8, 1)))
    def make():
        learn = toy(model=small)
        if how=='wrapped': learn.model,learn.splitter = torch.compile(learn.model, backend='eager'),lambda m: [params(m._orig_mod[0]), params(m._orig_mod[1])]
        if how=='in_place': learn.model.compile(backend='eager')
        if how=='part': learn.model[0] = torch.compile(learn.model[0], backend='eager')
        return learn
    plain = toy(model=small)
    learn = make()
    weights = [p.detach().clone() for p in learn.model.parameters()]
    torch.manual_seed(3)
    c = lr_range_test(learn, num_it=8, repeats=2, stop_div=None, progress=False)
    assert all(map(torch.equal, weights, learn.model.parameters()))
    for o in (plain, learn): o.dls.train.rng.seed(5)
    curves = [lr_range_test(o, num_it=8, stop_div=None, progress=False).losses for o in (plain, learn)]
    assert curves[0]==pytest.approx(curves[1], rel=1e-5) and c.losses.shape==(2, 8)
    assert probe(learn, [1e-3], num_it=3, progress=False).best==1e-3
