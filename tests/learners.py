"Tiny learners of many kinds, and one place to make them fail"
import random, signal, types
from collections import deque
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn
from fastai.basics import *
from fastai.callback.fp16 import MixedPrecision
from fastai.callback.mixup import MixUp
import fastai.callback.schedule # `fit_one_cycle`
from fastai.callback.progress import CSVLogger, ProgressCallback, ShowGraphCallback
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.tabular.core import Categorify, FillMissing, Normalize, TabDataLoader, TabularPandas
from fastai.tabular.learner import tabular_learner
from fastai.text.data import LMDataLoader
from fastai.text.learner import language_model_learner
from fastai.text.models.awdlstm import AWD_LSTM, awd_lstm_lm_config

torch.set_num_threads(1)

# ---------------------------------------------------------------- trouble

class Boom(RuntimeError): "What the armed place raises"

class Fault:
    "At the `at`-th visit of `place` (for 'loader': at item `at`), do `action`. It counts in a module, which is no state to lrtools: a restore does not set the count back"
    def __init__(self): self.box = types.ModuleType('box')
    def arm(self, place=None, at=1, action=None): vars(self.box).update(place=place, at=at, action=action, count=0)
    def visit(self, place):
        box = self.box
        if place!=box.place: return None
        box.count += 1
        return box.action() if box.count==box.at else None
    def __getattr__(self, name): return getattr(self.box, name)
    def item(self, i): return self.box.action() if self.box.place=='loader' and int(i)==self.box.at else None

fault = Fault()
fault.arm()

def boom(): raise Boom('armed')
def ctrl_c(): signal.raise_signal(signal.SIGINT)
def nan(): return float('nan')

EVENTS = 'before_batch','after_pred','after_loss','before_backward','after_backward','before_step','after_step','after_batch'

class Trouble(Callback):
    "Visits `fault` at every event of a training batch"
    run_valid = False
for _e in EVENTS: setattr(Trouble, _e, lambda self, e=_e: fault.visit(e))

def model_visit(module, args):
    if module.training: fault.visit('model')

class Loss(nn.Module):
    "`func`, which may raise or become NaN"
    def __init__(self, func):
        super().__init__()
        self.func = func
    def forward(self, pred, *yb): return self.func(pred, *yb)*(fault.visit('loss') or 1)

class CrossEntropy(CrossEntropyLossFlat):
    "The same, of a kind that MixUp knows"
    def __call__(self, *args, **kw): return super().__call__(*args, **kw)*(fault.visit('loss') or 1)

# ---------------------------------------------------------------- what a look does not take back

class Kept:
    "A list for what a callback or a function of the learner sees during a look. A module is no state to lrtools, so what it holds is not taken back with the rest"
    def __init__(self):
        self.box = types.ModuleType('box')
        self.box.items = []
    def __getattr__(self, name): return getattr(self.box.items, name)
    def __len__(self): return len(self.box.items)
    def __iter__(self): return iter(self.box.items)
    def __getitem__(self, i): return self.box.items[i]
    def __eq__(self, other): return self.box.items==list(other)
    def __repr__(self): return repr(self.box.items)

# ---------------------------------------------------------------- data, models, callbacks

class Rows:
    "Items with a little noise from each of the three global generators"
    def __init__(self, n, seed=0, classes=0):
        g = torch.Generator().manual_seed(seed)
        self.x = torch.randn(n, 4, generator=g)
        self.y = self.x[:,0]*self.x[:,1] if not classes else (self.x.sum(1)>0).long()
    def __len__(self): return len(self.x)
    def __getitem__(self, i):
        fault.item(i)
        return self.x[i]+.01*(torch.randn(4)+random.random()+float(np.random.rand())), self.y[i]

class Words:
    "Texts of token ids"
    def __init__(self, n, seed=0): self.texts = [torch.randint(2, 12, (9,), generator=torch.Generator().manual_seed(seed+i)) for i in range(n)]
    def __len__(self): return len(self.texts)
    def __getitem__(self, i):
        fault.item(i)
        return (self.texts[i],)

class Counting(nn.Module):
    "Adds nothing, but counts its batches in a plain tensor, a buffer that is not saved, and a list"
    def __init__(self):
        super().__init__()
        self.seen,self.plain = [],torch.zeros(1)
        self.register_buffer('hidden', torch.zeros(2), persistent=False)
    def forward(self, x):
        if self.training:
            self.hidden += x.detach().float().mean(); self.plain += 1; self.seen.append(len(x))
        return x + .001*self.hidden.sum() + .001*self.plain

class Notes(Callback):
    "A user's callback with nested state and generators of its own, which take part in training"
    run_valid = False
    def __init__(self):
        self.notes = {'losses': [], 'by': {'kind': SimpleNamespace(n=0, names={'a'}, last=deque(maxlen=3))}}
        self.average,self.array,self.rngs = None,np.zeros(3),[random.Random(1), np.random.default_rng(2), torch.Generator().manual_seed(3), np.random.RandomState(4)]
    def noise(self): return self.rngs[0].random()+self.rngs[1].random()+torch.rand(1, generator=self.rngs[2]).item()+self.rngs[3].rand()
    def before_batch(self):
        if self.xb[0].is_floating_point(): self.learn.xb = (self.xb[0]+.01*self.noise(),)
    def after_batch(self):
        self.notes['losses'].append(self.loss.item())
        kind = self.notes['by']['kind']
        kind.n += 1; kind.names.add(str(kind.n)); kind.last.append({'n': kind.n}); self.array[kind.n%3] += 1
        if self.average is None: self.average = [p.detach().clone() for p in self.model.parameters()]
        for a,p in zip(self.average, self.model.parameters()): a.lerp_(p.detach(), .1)

class CpuMixed(MixedPrecision):
    "fastai's mixed precision, for a CPU: bfloat16, and with `scale` a gradient scaler that lives as long as the learner"
    def __init__(self, scale=False):
        super().__init__('bf16')
        self.scale = scale
    def after_create(self): self.learn.scaler = torch.amp.GradScaler('cpu', init_scale=2.**10, growth_interval=3, enabled=self.scale)
    def before_fit(self): self.autocast,self.scales = torch.autocast('cpu', dtype=torch.bfloat16),L()
    def after_fit(self): self.autocast = None

def net():
    return nn.Sequential(nn.Sequential(nn.Linear(4,8), nn.BatchNorm1d(8), nn.ReLU()), nn.Sequential(Counting(), nn.Dropout(.2), nn.Linear(8,8), nn.ReLU(), nn.Linear(8,1)))
def halves(m): return L(m[0], m[1]).map(params)

def rows(path, n=43, bs=8, classes=0, workers=0):
    return DataLoaders.from_dsets(Rows(n, 1, classes), Rows(12, 2, classes), bs=bs, path=path, device='cpu', num_workers=workers)

def learner(dls, path, model=None, loss=None, cbs=(), opt_func=Adam, splitter=halves, **kw):
    "A learner that can fail at each place"
    learn = Learner(dls, net() if model is None else model, Loss(MSELossFlat()) if loss is None else loss, opt_func=opt_func, splitter=splitter,
                    path=path, cbs=[Trouble(), Notes(), *cbs], metrics=[mae] if loss is None else [accuracy], **kw)
    learn.model.register_forward_pre_hook(model_visit)
    return learn.remove_cb(ProgressCallback)

# ---------------------------------------------------------------- the kinds of learners

def plain(path, **kw): return learner(rows(path), path, **kw)
def frozen(path):
    learn = plain(path)
    learn.freeze()
    return learn
def accumulating(path): return plain(path, cbs=[GradientAccumulation(20)])
def clipping(path): return plain(path, cbs=[GradientClip(.1)], opt_func=partial(SGD, mom=.9))
def adamw(path): return plain(path, opt_func=partial(OptimWrapper, opt=torch.optim.AdamW))
def autocast(path): return plain(path, cbs=[CpuMixed()])
def scaled(path): return plain(path, cbs=[CpuMixed(scale=True), GradientClip(1.)])
def one_batch(path): return learner(rows(path, n=8), path)
def trackers(path): return plain(path, cbs=[SaveModelCallback(), EarlyStoppingCallback(patience=3), ReduceLROnPlateau(patience=2)])
def shown(path): return plain(path).add_cbs([ProgressCallback(), ShowGraphCallback(), CSVLogger()])
def workers(path): return learner(rows(path, workers=2), path)

def torch_dls(path, **kw):
    train,valid = Rows(43, 1),Rows(12, 2)
    dl = partial(torch.utils.data.DataLoader, batch_size=8, **kw)
    return DataLoaders(dl(train, shuffle=True, drop_last=True, generator=torch.Generator().manual_seed(5)), dl(valid), path=path, device='cpu')
def torch_loader(path): return learner(torch_dls(path), path)
def torch_workers(path): return learner(torch_dls(path, num_workers=2, persistent_workers=True), path)

def text(path):
    train,valid = [LMDataLoader(Words(n, n), bs=4, seq_len=8, shuffle=n>9, device='cpu') for n in (16,6)]
    dls = DataLoaders(train, valid, path=path, device='cpu')
    dls.vocab = [str(i) for i in range(12)]
    learn = language_model_learner(dls, AWD_LSTM, config={**awd_lstm_lm_config, 'emb_sz': 6, 'n_hid': 8, 'n_layers': 2}, drop_mult=.5, pretrained=False,
                                   path=path, alpha=2, beta=1, cbs=[Trouble(), Notes()])
    learn.loss_func = Loss(learn.loss_func)
    learn.model.register_forward_pre_hook(model_visit)
    return learn.remove_cb(ProgressCallback)

def check_rows(idxs):
    for i in idxs: fault.item(i)
    return idxs

def tabular(path):
    r = np.random.RandomState(0)
    df = pd.DataFrame(dict(a=r.choice(['x','y','z'], 56), b=r.choice(list('pq'), 56), c=r.randn(56), d=r.randn(56)))
    df['y'] = df.c*(df.a=='x')+df.d
    to = TabularPandas(df, [Categorify, FillMissing, Normalize], ['a','b'], ['c','d'], 'y', splits=(list(range(44)), list(range(44, 56))))
    dls = DataLoaders(TabDataLoader(to.train, bs=8, shuffle=True, drop_last=True, before_batch=check_rows), TabDataLoader(to.valid, bs=8), path=path, device='cpu')
    learn = tabular_learner(dls, layers=[8], path=path, loss_func=Loss(MSELossFlat()), n_out=1, y_range=(-3,3), cbs=[Trouble(), Notes()])
    learn.model.register_forward_pre_hook(model_visit)
    return learn.remove_cb(ProgressCallback)

def mixup(path): return learner(rows(path, classes=2), path, model=nn.Sequential(nn.Sequential(nn.Linear(4,8), nn.ReLU()), nn.Linear(8,2)), loss=CrossEntropy(), cbs=[MixUp()])

class Tied(nn.Module):
    "An encoder and a decoder that share their weight"
    def __init__(self):
        super().__init__()
        self.enc,self.dec,self.out = nn.Linear(4,8),nn.Linear(8,4),nn.Linear(4,1)
        self.dec.weight = nn.Parameter(torch.randn(4,8))
        self.again = self.enc
        self.twin = nn.Linear(4,8)
        self.twin.weight = self.enc.weight
    def forward(self, x): return self.out(self.dec(F.relu(self.again(x)+self.twin(x))))
def tied(path): return learner(rows(path), path, model=Tied(), splitter=trainable_params)

CONFIGS = dict(
    no_optimizer=plain, frozen=frozen, norm_dropout=plain, trackers=trackers, shown=shown, accumulation=accumulating, clipping=clipping, adamw=adamw, autocast=autocast,
    scaler=scaled, one_batch=one_batch, read_only=trackers, text=text, tabular=tabular, mixup=mixup, tied=tied, workers=workers,
    torch_loader=torch_loader, torch_workers=torch_workers)

# ---------------------------------------------------------------- without traps

def deep(path, n_groups=4, n=43, bs=8, **kw):
    "A learner of `n_groups` groups, all but the last a linear layer with BatchNorm"
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(n_groups-1)), nn.Linear(4, 1))
    return Learner(rows(path, n, bs), model, MSELossFlat(), splitter=lambda m: L(*m).map(params), path=path, **kw)

def quiet(learn, n=1, lr=1e-3, **kw):
    "Fit without bars and logs"
    with learn.no_bar(), learn.no_logging(): learn.fit(n, lr, **kw)
    return learn
