"""fastai's `valley`, which compares every pair of points, against the n log n one of lrtools."""
import time

import numpy as np, torch
from fastai.callback.schedule import valley

from benchmarks.report import stamp, table
from lrtools.suggest import valley_rule

N_CURVES, LONGEST = 400, 60          # seconds that fastai's may take for a row of the table


# -- curves

def noisy_valley(n, rng):
    "Flat, then down, then up, with noise"
    x = np.linspace(0, 1, n)
    return 2 - np.clip(3*(x-0.3), 0, 1) + 40*np.clip(x-0.85, 0, None)**2 + rng.normal(0, 0.05, n)


def random_walk(n, rng): return rng.normal(0, 1, n).cumsum()
def plain_noise(n, rng): return rng.normal(0, 1, n)
def with_ties(n, rng): return np.round(noisy_valley(n, rng), 1)


KINDS = noisy_valley, random_walk, plain_noise, with_ties


def curve(kind, n, seed):
    "float32, as `lr_find` hands them over"
    return np.geomspace(1e-7, 10, n).astype(np.float32), kind(n, np.random.default_rng(seed)).astype(np.float32)


# -- both rules

def fastai_valley(lrs, losses): return valley(torch.tensor(lrs), torch.tensor(losses), len(lrs))[0]


def n_equal():
    "Of `N_CURVES` curves with 6 to 120 points, how many get the same answer"
    sizes = np.random.default_rng(0).integers(6, 121, N_CURVES)
    curves = [curve(KINDS[i % len(KINDS)], n, i) for i, n in enumerate(sizes)]
    return sum(fastai_valley(*c) == valley_rule(*c) for c in curves)


# -- timing

def best_time(function, args, n_times):
    def once():
        start = time.perf_counter()
        function(*args)
        return time.perf_counter() - start
    return min(once() for _ in range(n_times))


def timed_row(n):
    args = curve(noisy_valley, n, 0)
    theirs, ours = best_time(fastai_valley, args, 3 if n < 2000 else 1), best_time(valley_rule, args, 20)
    return theirs, [f'{n:,}', f'{1000*theirs:,.1f} ms', f'{1000*ours:.2f} ms', f'{theirs/ours:,.0f}x']


def timed_rows():
    "3,000 points only where they promise not to take too long: the time goes with the square"
    rows, took = [], 0
    for n, times in [(100, 0), (1000, 100), (3000, 9)]:
        if took*times > LONGEST: break
        took, row = timed_row(n)
        rows.append(row)
    return rows


def report():
    rows = table(['points', 'fastai', 'lrtools', 'ratio'], timed_rows())
    equal = f'The same answer on {n_equal()} of {N_CURVES} random curves (noisy valleys, random walks, noise, ties; 6 to 120 points).'
    return f'{stamp()}\n\n{rows}\n\n{equal}'
