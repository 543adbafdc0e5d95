"""What every task of `tasks.py` gives: final losses over a grid of rates, and range-test sweeps.

    python -m benchmarks.collect [task ...]     # computes what is missing, one file per task
    from benchmarks.collect import load; data = load()

Results are kept in `benchmarks/_cache/`, and what is there is not computed again; remove a task's file when the task changes."""
import json, math, sys, time, warnings

import numpy as np, torch
from fastai.basics import Callback, CancelEpochException, CancelFitException

from benchmarks.report import versions
from benchmarks.tasks import CACHE, TASKS, set_order

GRID = 10**np.arange(-5, 1.01, 0.25)          # 25 rates
SEEDS, ORDERS = range(3), range(12)
START, END = 1e-7, 10.


# -- the grid

def final_loss(task, seed, rate):
    "Validation loss after a short one-cycle run, NaN if it diverged"
    learn = task.learner(seed)
    learn.fit_one_cycle(task.n_epoch, task.lr(float(rate)))      # a numpy scalar is a TypeError in fastai
    loss = learn.recorder.values[-1][1]
    return loss if math.isfinite(loss) else math.nan


def grid(task):
    return [[final_loss(task, seed, rate) for rate in GRID] for seed in SEEDS]


def loss_without_learning(task):
    return [task.learner(seed).validate()[0] for seed in SEEDS]


# -- the sweeps

class Sweep(Callback):
    "Exponentially growing rate; keeps one raw loss per training step; ends after `n_steps` or at a loss that is not finite"
    run_valid = False
    def __init__(self, task, n_steps):
        self.lr_of, self.n_steps = task.lr, n_steps
        self.lrs, self.losses = [], []

    def before_batch(self):
        rate = START*(END/START)**(len(self.lrs)/(self.n_steps-1))
        self.lrs.append(rate)
        self.opt.set_hyper('lr', self.lr_of(rate))

    def after_loss(self):
        self.losses.append(self.learn.loss.item())
        if not math.isfinite(self.losses[-1]): raise CancelFitException

    def after_batch(self):
        if len(self.losses) >= self.n_steps: raise CancelFitException

    def after_train(self): raise CancelEpochException           # no validation between epochs


def sweep(task, seed, order, n_steps):
    "The model of `seed`, batches in `order`"
    learn, cb = task.learner(seed), Sweep(task, n_steps)
    set_order(learn, 1000 + order)
    learn.fit(n_steps//len(learn.dls.train) + 1, cbs=cb)
    return dict(seed=seed, order=order, losses=cb.losses)


# (seed, order, steps) of every sweep; a group of the cache each
PLAN = dict(sweeps=[(seed, order, 100) for seed in SEEDS for order in ORDERS],
            long_sweeps=[(0, order, 300) for order in range(3)])


# -- all of it, cached

def cache_file(name): return CACHE/f'{name}.json'


def stored(name):
    return json.loads(cache_file(name).read_text()) if cache_file(name).exists() else {}


def store(name, found):
    CACHE.mkdir(exist_ok=True)
    partial = cache_file(name).with_suffix('.part')
    partial.write_text(json.dumps(dict(found, versions=versions())))
    partial.rename(cache_file(name))


def missing_sweeps(found, group):
    have = {(s['seed'], s['order']) for s in found.get(group, [])}
    return [plan for plan in PLAN[group] if plan[:2] not in have]


def is_complete(name):
    found = stored(name)
    return {'loss0_seeds', 'grid_loss'} <= found.keys() and not any(missing_sweeps(found, group) for group in PLAN)


def add_sweeps(task, found, group):
    new = [sweep(task, *plan) for plan in missing_sweeps(found, group)]
    found[group] = sorted(found.get(group, []) + new, key=lambda s: (s['seed'], s['order']))


def collect(name):
    "Compute what the file of a task lacks; written after each of its parts"
    task, found, start = TASKS[name], stored(name), time.perf_counter()
    for part, compute in dict(loss0_seeds=loss_without_learning, grid_loss=grid).items():
        if part not in found:
            found[part] = compute(task)
            store(name, found)
    for group in PLAN:
        add_sweeps(task, found, group)
        store(name, found)
    print(f'collected {name}: best {np.nanmin(found["grid_loss"]):.4g}, without learning {found["loss0_seeds"][0]:.4g}, '
          f'{time.perf_counter()-start:.0f} s', flush=True)


def collect_missing(names=TASKS):
    missing = [name for name in names if not is_complete(name)]
    if missing: print(f'Training {len(missing)} of {len(TASKS)} tasks to collect their losses: about 25 min for all, once', flush=True)
    for name in missing: collect(name)


def as_arrays(sweep, n_steps):
    "A stored sweep with its rates; only the last loss can be NaN or infinite"
    losses = np.array(sweep['losses'])
    lrs = START*(END/START)**(np.arange(len(losses))/(n_steps-1))
    return dict(sweep, n_steps=n_steps, lrs=lrs, losses=losses)


def load_task(name):
    found = stored(name)
    return dict(name=name, grid_lrs=GRID, grid_loss=np.array(found['grid_loss']), versions=found['versions'],
                loss0=float(np.median(found['loss0_seeds'])), loss0_seeds=np.array(found['loss0_seeds']),
                sweeps=[as_arrays(s, 100) for s in found['sweeps']],
                long_sweeps=[as_arrays(s, 300) for s in found['long_sweeps']])


def load():
    "Everything collected so far: name -> dict(grid_lrs, grid_loss (seeds, rates), loss0, sweeps, long_sweeps, ...)"
    return {name: load_task(name) for name in TASKS if is_complete(name)}


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    collect_missing(sys.argv[1:] or TASKS)
