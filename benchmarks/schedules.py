"""What recording costs a fit, and how long the preview of a long plan takes, beside a short one and beside the bare figure."""
import tempfile, time

import numpy as np
import torch
from torch import nn
from fastai.basics import DataLoaders, Learner, MSELossFlat
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.report import stamp, table
from lrtools.history import FitRecord
from lrtools.plan import Phase, Plan
from lrtools.plan_views import plot_plan
from lrtools.preview import SchedulePreview
from lrtools.recording import Recording
from lrtools.schedule import one_cycle, sgdr

ROUNDS = 9
PLAN = Plan([Phase(one_cycle(slice(1e-5, 1e-3)), 3, freeze_to=-1), Phase(sgdr(slice(1e-5, 1e-3)), 7, freeze_to=0)])


def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter()-start


def learner(model, shape, n=1000):
    x = torch.randn(n, *shape)
    dls = DataLoaders.from_dsets(list(zip(x, x.flatten(1)[:,:1])), list(zip(x[:10], x[:10].flatten(1)[:,:1])), bs=10, device='cpu', num_workers=0)
    return Learner(dls, model, MSELossFlat(), path=tempfile.mkdtemp())


def recording():
    "(milliseconds of a step, ratio of a fit that is recorded, microseconds that a step takes longer)"
    models = {'MLP': (nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1)), (16,)),
              'convnet': (nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(32*49, 1)), (3, 32, 32))}
    for name,(model,shape) in models.items():
        learn,runs = learner(model, shape),[]
        with learn.no_bar(), learn.no_logging():
            for i in range(2*ROUNDS+2):
                fit = lambda: learn.fit(1, 1e-4, cbs=[Recording()] if i%2 else [])
                runs.append(seconds(fit))
        plain,own = np.array(runs[2::2]),np.array(runs[3::2])
        yield [name, f'{1e3*np.median(plain)/100:.2f}', f'{np.median(own/plain):.3f}x', f'{1e6*np.median(own-plain)/100:.0f}']


def memory():
    "MB that a million recorded steps of three groups take, with rates that change at every step"
    f = FitRecord(10, 100_000, [True]*3)
    rates = PLAN.rates(100_000, 3)
    start = time.perf_counter()
    for i,lr in enumerate(rates.tolist()): f.add(i, .5+1e-9*i, [dict(lr=v, mom=.9, wd=.01) for v in lr])
    return sum(c._data.nbytes if c._data is not None else 0 for c in f.columns.values())/1e6,1e6*(time.perf_counter()-start)/len(rates)


def bare():
    "The floor: the figure of such a plan, laid out and drawn once, without a widget"
    fig = Figure(figsize=(7.2, 4.2), dpi=100, layout='constrained')
    plot_plan(PLAN, fig.add_subplot(), n_iter=100)
    FigureCanvasAgg(fig).draw()


def previews():
    what = {'bare figure': bare, '1,000 steps': lambda: SchedulePreview(PLAN, n_iter=100).close(), '1,000,000 steps': lambda: SchedulePreview(PLAN, n_iter=100_000).close()}
    p,turns = SchedulePreview(PLAN, n_iter=100_000),iter(np.linspace(.1, .9, 1000).round(3).tolist())
    what['a turn of a slider'] = lambda: p._edit(0, ('sched','pct_start'), next(turns), 'slider')
    runs = [{k: seconds(f) for k,f in what.items()} for _ in range(ROUNDS+1)][1:]   # they take turns; the first round warms up
    return [[k, f'{1e3*np.median([r[k] for r in runs]):.0f}', f"{np.median([r[k]/r['bare figure'] for r in runs]):.2f}x"] for k in what]


def report():
    mb,us = memory()
    return '\n\n'.join([stamp(), f'Medians of {ROUNDS} rounds in which all take turns. A fit of 100 steps with and without `Recording`:',
                        table(['model', 'a step, ms', 'recorded / not', 'longer, µs a step'], list(recording())),
                        f'A million steps of three groups in a history: {mb:.0f} MB ({us:.0f} µs each to write).',
                        'Building the preview of a plan of two phases and three groups, and turning one of its sliders (without the way to the browser); the floor is the same picture, laid out and drawn once:',
                        table(['what', 'ms', '/ bare figure'], previews())])
