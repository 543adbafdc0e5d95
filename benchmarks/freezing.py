"""Reading what is frozen and building the panel, beside what one does otherwise: `learn.summary()`, and a figure with as many bars."""
import contextlib, io, tempfile, time

import numpy as np
import torch
from torch import nn
from fastai.basics import DataLoaders, L, Learner, MSELossFlat, params
from fastai.callback import hook                           # gives a learner its `summary`
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report import stamp, table
from lrtools.freezing import freeze_report, preview_freeze
from lrtools.panel import FreezePanel

GROUPS = 3, 30, 300
ROUNDS = 9


def learner(n):
    "A learner of `n` groups of a linear layer and BatchNorm"
    x = torch.randn(64, 16)
    dls = DataLoaders.from_dsets(list(zip(x, x[:,:1])), list(zip(x, x[:,:1])), bs=16, device='cpu', num_workers=0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)) for _ in range(n-1)), nn.Linear(16, 1))
    learn = Learner(dls, model, MSELossFlat(), splitter=lambda m: L(*m).map(params), path=tempfile.mkdtemp())
    learn.create_opt()
    return learn


def bars(n):
    "The floor of any such picture: a figure with `n` bars, laid out and drawn"
    fig = Figure(figsize=(7.2, 4), dpi=100, layout='constrained')
    fig.add_subplot().barh(range(n), range(n))
    FigureCanvasAgg(fig).draw()


def seconds(f):
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()): f()
    return time.perf_counter()-start


def report():
    rows = []
    for n in GROUPS:
        learn = learner(n)
        what = {'learn.summary()': learn.summary, 'freeze_report': lambda: freeze_report(learn), 'preview_freeze': lambda: preview_freeze(learn, n//2),
                'a figure of bars': lambda: bars(n), 'FreezePanel': lambda: FreezePanel(learn).close()}
        runs = [{k: seconds(f) for k,f in what.items()} for _ in range(ROUNDS+1)][1:]   # they take turns; the first round warms up
        ratio = lambda k, floor: f'{np.median([r[k]/r[floor] for r in runs]):.2f}x'
        rows.append([n, ratio('freeze_report', 'learn.summary()'), ratio('preview_freeze', 'learn.summary()'), ratio('FreezePanel', 'a figure of bars'), f"{1e3*np.median([r['FreezePanel'] for r in runs]):.0f}"])
    return '\n\n'.join([stamp(), f'Medians of {ROUNDS} rounds in which all take turns. `learn.summary()` is what one prints otherwise; the floor of a panel is a figure with as many bars, laid out and drawn once.',
                        table(['groups', '`freeze_report` / summary', '`preview_freeze` / summary', '`FreezePanel` / figure of bars', 'panel, ms'], rows)])
