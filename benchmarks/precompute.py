"""Training a head on precomputed activations beside training the frozen learner."""
import tempfile, time

import numpy as np
from fastai.basics import CrossEntropyLossFlat, L, Learner, params, set_seed
from torchvision.models import resnet18
from torch import nn
import fastai.callback.schedule                            # gives learners their fits

from benchmarks.report import stamp, table
from benchmarks.tasks import loaders, mnist, resnet_body, resnet_head
from lrtools.freezing import freeze_to
from lrtools.precompute import precompute

ROUNDS = 5


def small(path):
    "1,600 digits of 28x28"
    return loaders(mnist(), 1600, bs=64),resnet_body(),resnet_head(10)


def large(path):
    "320 pictures of 64x64"
    x,y = mnist()
    x = nn.functional.interpolate(x[:400], 64).repeat(1, 3, 1, 1)
    return loaders((x, y[:400]), 320, bs=64),nn.Sequential(*list(resnet18().children())[:-2]),nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter()-start


def case(make, path):
    set_seed(0)
    dls,body,head = make(path)
    learn = Learner(dls, nn.Sequential(body, head), CrossEntropyLossFlat(), splitter=lambda m: L(m[0], m[1]).map(params), path=path)
    freeze_to(learn, -1, norm='eval')
    def epoch(l):
        with l.no_bar(), l.no_logging(): l.fit(1, 1e-3)
    heads = []
    what = dict(frozen=lambda: epoch(learn), once=lambda: heads.append(precompute(learn, progress=False)), head=lambda: epoch(heads[-1]))
    runs = [{k: seconds(f) for k,f in what.items()} for _ in range(ROUNDS+1)][1:]   # they take turns; the first round warms up
    ms = lambda k: f"{1000*np.median([r[k] for r in runs]):,.0f}"
    gain = np.median([r['frozen']/r['head'] for r in runs])
    even = np.median([r['once']/(r['frozen']-r['head']) for r in runs])
    return [make.__doc__, ms('frozen'), ms('once'), ms('head'), f'{gain:.1f}x', f'{even:.1f}']


def report():
    path = tempfile.mkdtemp()
    return '\n\n'.join([stamp(), f'Medians of {ROUNDS} rounds in which all take turns, in ms: an epoch (with validation) of the frozen learner, the body over both sets once, an epoch of the head on what it gave. The last column says after how many epochs it has paid.',
                        table(['data', 'frozen epoch', 'body once', 'head epoch', 'an epoch is faster', 'pays after epochs'], [case(f, path) for f in (small, large)])])
