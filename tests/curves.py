"Curves of known shape, for tests of what reads them"
import numpy as np

from lrtools.curve import Divergence, LRCurve, Sweep

def cut(lrs, losses, stop_div=4.):
    "The sweep that a range test would have kept of `losses`"
    judge = Divergence(stop_div)
    for i,l in enumerate(losses):
        if not np.isfinite(l): return Sweep(lrs[:i+1,None], losses[:i+1], 'non-finite')
        if judge.update(l): return Sweep(lrs[:i+1,None], losses[:i+1], 'diverged')
    return Sweep(lrs[:,None], losses, 'end')

def curve(noise=.08, repeats=1, seed=0, n=100, fall=1.8, shift=0., blow=.3, centre=1e-3, start=1e-7, end=10., scale=1.):
    "A sigmoid fall around `centre` and a quadratic explosion around `blow`, in log rate"
    rng,lrs = np.random.default_rng(seed),np.geomspace(start, end, n)
    shape = 2.3+shift - fall/(1+(centre/lrs)**.8) + (lrs/blow)**2
    return LRCurve([cut(lrs, scale*(shape+rng.normal(0, noise, n))) for _ in range(repeats)], n, [start], [end], opt='Adam', bs=64)
