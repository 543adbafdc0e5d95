"""What a comparison costs beside the bare training inside it, and two Dask workers beside one."""
import tempfile, time
from functools import partial

import numpy as np
from fastai.basics import CrossEntropyLossFlat, L, Learner, params, set_seed
from torch import nn
import fastai.callback.schedule                            # gives learners their fits

from benchmarks.report import stamp, table
from benchmarks.tasks import loaders, mnist, resnet_body, resnet_head
from lrtools.compare import compare
from lrtools.plan import Phase, Plan
from lrtools.schedule import constant, one_cycle

ROUNDS = 3
SEEDS = 0, 1


def learner(path):
    set_seed(0)
    learn = Learner(loaders(mnist(), 1600, bs=64), nn.Sequential(resnet_body(), resnet_head(10)), CrossEntropyLossFlat(), splitter=lambda m: L(m[0], m[1]).map(params), path=path)
    learn.create_opt()
    return learn


ARMS = {'flat': Plan([Phase(constant(1e-3), 1)]), 'one cycle': Plan([Phase(one_cycle(3e-3), 1)]), 'frozen': Plan([Phase(one_cycle(3e-3), 1, freeze_to=-1)])}


def bare(learn):
    "The same fits, by hand"
    with learn.no_bar(), learn.no_logging():
        for _ in SEEDS:
            learn.fit(1, 1e-3)
            learn.fit_one_cycle(1, 3e-3)
            learn.freeze(); learn.fit_one_cycle(1, 3e-3); learn.unfreeze()


def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter()-start


def cluster(n, path):
    "Seconds of a comparison of six longer runs on `n` workers of one thread; starting them is not counted"
    from dask.distributed import Client, LocalCluster
    arms = {k: Plan([Phase(p[0].sched, 3, freeze_to=p[0].freeze_to)]) for k,p in ARMS.items()}
    with LocalCluster(n_workers=n, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as c, Client(c) as client, client.get_executor() as pool:
        compare(partial(learner, path), ARMS, (0,), executor=pool, progress=False, keep=False)   # the workers import what they need
        return seconds(lambda: compare(partial(learner, path), arms, SEEDS, executor=pool, progress=False, keep=False))


def report():
    path = tempfile.mkdtemp()
    learn = learner(path)
    what = {'bare': lambda: bare(learn), 'compare': lambda: compare(learn, ARMS, SEEDS, progress=False, keep=False), 'dense': lambda: compare(learn, ARMS, SEEDS, progress=False, keep=False, dense=(1, 3, 6, 12, 25))}
    runs = [{k: seconds(f) for k,f in what.items()} for _ in range(ROUNDS+1)][1:]   # they take turns; the first round warms up
    ratio = lambda k: f"{np.median([r[k]/r['bare'] for r in runs]):.3f}x"
    one,two = cluster(1, path),cluster(2, path)
    return '\n\n'.join([stamp(), f'Medians of {ROUNDS} rounds in which all take turns: six fits of 25 steps of a small ResNet (with validation), by hand and by `compare`, which restores, reseeds and records.',
                        table(['what', 'seconds', '/ by hand'], [['by hand', f"{np.median([r['bare'] for r in runs]):.1f}", '1.000x'], ['`compare`', f"{np.median([r['compare'] for r in runs]):.1f}", ratio('compare')],
                                                                ['with five dense validations', f"{np.median([r['dense'] for r in runs]):.1f}", ratio('dense')]]),
                        f'Six runs of 75 steps, from a factory, on Dask workers of one thread: one worker {one:.1f} s, two workers {two:.1f} s, {one/two:.2f}x as fast.'])
