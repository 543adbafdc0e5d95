"""What a range test costs next to training the same 100 steps."""
import gc, io, time, warnings
from contextlib import redirect_stderr, redirect_stdout

import numpy as np, torch, torch.nn.functional as F
from fastai.basics import Callback, CancelValidException, CrossEntropyLossFlat, Learner
from fastai.callback.training import ShortEpochCallback
from torch import nn

from benchmarks.report import stamp, table
from benchmarks.tasks import ResBlock, conv_bn, loaders, mlp, mnist, seed_all, small_convnet
from lrtools.range_test import lr_range_test
from lrtools.suggest import suggest

STEPS, BS = 100, 32
START, RATE = 1e-7, 1e-3          # up to here every loss stays finite, so all do the same work


# -- what is trained

def resnet():
    blocks = [ResBlock(n_in, n_out) for n_in, n_out in [(12, 24), (24, 48), (48, 96)]]
    return nn.Sequential(conv_bn(1, 12, stride=1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


MODELS = {'MLP': (lambda: mlp([784, 64, 64, 10]), 21), 'convnet with BatchNorm': (small_convnet, 15),
          'ResNet': (resnet, 9)}                                                          # and rounds


def fresh_learner(build):
    "With the memory of an optimizer that has stepped; an epoch is `STEPS` batches"
    seed_all(0)
    learn = Learner(loaders(mnist(), STEPS*BS, BS), build(), loss_func=CrossEntropyLossFlat())
    with learn.no_bar(), learn.no_logging(): learn.fit(1, RATE, cbs=ShortEpochCallback(0.03))
    return learn


# -- the same steps, by different hands

class NoValidation(Callback):
    def before_validate(self): raise CancelValidException


def plain_fit(learn):
    with learn.no_bar(), learn.no_logging(): learn.fit(1, RATE, cbs=NoValidation())


def range_test(learn, progress=False):
    curve = lr_range_test(learn, START, RATE, STEPS, stop_div=None, progress=progress)
    assert len(curve) == STEPS
    return curve


def range_test_bar(learn): range_test(learn, progress=True)
def range_test_suggest(learn): suggest(range_test(learn))


def fastai_lr_find(learn):
    with learn.no_bar(): learn.lr_find(START, RATE, STEPS, stop_div=False, show_plot=False)


def bare_torch(learn):
    "No callbacks, no copy, torch's Adam"
    model, opt, losses = learn.model.train(), torch.optim.Adam(learn.model.parameters(), RATE), []
    for x, y in learn.dls.train:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        opt.zero_grad()
        losses.append(loss.item())


def torch_lr_finder(learn):
    "Its range test and its `reset`, on the same loader"
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        from torch_lr_finder import LRFinder, TrainDataLoaderIter
    finder = LRFinder(learn.model, torch.optim.Adam(learn.model.parameters(), START), nn.CrossEntropyLoss())
    finder.range_test(TrainDataLoaderIter(learn.dls.train), end_lr=RATE, num_iter=STEPS, diverge_th=1e9)
    finder.reset()


METHODS = {'`learn.fit`': plain_fit, '`lr_range_test`': range_test, '`lr_range_test`, with its bar': range_test_bar,
           '`lr_range_test`, then `suggest`': range_test_suggest, 'fastai\'s `lr_find`': fastai_lr_find,
           'bare torch steps': bare_torch, 'torch-lr-finder': torch_lr_finder}


# -- timing

def timed(method, build):
    learn = fresh_learner(build)
    gc.collect()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        method(learn)
        return time.perf_counter() - start


def rounds(build, n_rounds):
    "Seconds, (rounds, methods); every round runs all of them, starting with another one"
    names, seconds = list(METHODS), np.zeros((n_rounds, len(METHODS)))
    for name in names: timed(METHODS[name], build)                # imports and caches
    for i in range(n_rounds):
        for j in np.roll(range(len(names)), -i): seconds[i, j] = timed(METHODS[names[j]], build)
    return seconds


def row(name, seconds, fit_seconds):
    ratios = seconds/fit_seconds
    return [name, f'{1000*np.median(seconds)/STEPS:.2f}', f'{np.median(ratios):.3f}x', f'{ratios.min():.2f}–{ratios.max():.2f}',
            f'{seconds.min()/fit_seconds.min():.3f}x']


def model_table(name):
    build, n_rounds = MODELS[name]
    seconds = rounds(build, n_rounds)
    n_params = sum(p.numel() for p in build().parameters())
    rows = [row(method, seconds[:, j], seconds[:, 0]) for j, method in enumerate(METHODS)]
    return f'**{name}**, {n_params:,} parameters, {n_rounds} rounds\n\n' + table(['', 'ms per step', 'to `learn.fit`', 'lowest–highest', 'fastest round of each'], rows)


ABOUT = f"""{STEPS} steps of {BS} digits, without validation, at rates that keep the loss finite ({START:g} to {RATE:g}; `learn.fit` at {RATE:g}).
Copying and restoring the learner is included; its optimizer has memory already. Every round runs all methods in turn
on a fresh learner each, garbage collected before; a ratio is to the `learn.fit` of the same round, the median over rounds; the last column
compares the fastest rounds, which other work on the machine disturbs least.
The first four and `lr_find` step with fastai's Adam, bare torch and torch-lr-finder with torch's;
`lr_find` includes its `valley`, and its bar is off; torch-lr-finder includes its bar and `reset`."""


def report():
    return '\n\n'.join([stamp(), ABOUT] + [model_table(name) for name in MODELS])
