"Verdicts on learners in which nothing happens, and in which something does: no noise is called a rise, a cause or a difference, and a rise is seen through noise"
import math
from functools import partial

import numpy as np, pytest, torch
from torch import nn
from fastai.basics import SGD, Adam, DataLoaders, L, Learner, MSELossFlat, OptimWrapper, params
from fastai.callback.training import GradientAccumulation

from learners import quiet
from lrtools.continue_study import continue_study
from lrtools.recording import record
from lrtools.unfreeze_study import unfreeze_study

adagrad = partial(OptimWrapper, opt=torch.optim.Adagrad)
QUIET = 'No spike: ','Single batches reach '
NO_DIFFERENCE = 'Lowest validation loss: ','There is no difference beyond the spread','With 3 seeds, ','None is better than not to go on'

def items(seed, n=104, heavy=1.):
    "Products of two numbers, which a net of eight units does not learn soon; `heavy`: some targets are so many times as large"
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=g)
    y = x[:,:1]*x[:,1:2]
    y[::9] *= heavy
    return list(zip(x, y))

def small(tmp_path, seed=0, bs=8, norm=False, opt_func=Adam, loss=None, data=None, loader=None, drop=0., cbs=()):
    torch.manual_seed(seed)
    data = items(seed) if data is None else data
    dls = DataLoaders.from_dsets(data[:64], data[64:], bs=bs, device='cpu', num_workers=0) if loader is None else loader(data, bs)
    body = nn.Sequential(nn.Linear(4, 8), *([nn.BatchNorm1d(8)] if norm else []), nn.ReLU(), nn.Dropout(drop))
    learn = Learner(dls, nn.Sequential(body, nn.Linear(8, 1)), MSELossFlat() if loss is None else loss, opt_func=opt_func, splitter=lambda m: L(*m).map(params), path=tmp_path, cbs=list(cbs))
    record(learn)
    learn.freeze()
    return quiet(learn, 2, 1e-3)

def claims(verdict, allowed): return [s for s in verdict if not s.startswith(allowed)]

SIXTY = [(seed, (4, 8, 16)[seed%3], bool(seed//3%2), (Adam, SGD, adagrad)[seed//6%3], (1e-9, 1e-8, 1e-7, 1e-6)[seed%4]) for seed in range(60)]

@pytest.mark.slow
def test_nothing_happens_and_nothing_is_told(tmp_path):
    "60 learners at rates that move nothing: no rise, no cause, no difference in more than 5 % of them, and no word of BatchNorm where there is none"
    bad = []
    for seed,bs,norm,opt_func,lr in SIXTY:
        learn = small(tmp_path, seed, bs, norm, opt_func)
        study = unfreeze_study(learn, lr, arms=['memory kept' if seed%2 else 'BatchNorm held','all rates 0'] if norm else ['all rates 0'], progress=False)
        bad += [(seed, s) for s in claims(study.verdict, QUIET)]
        assert norm or 'BatchNorm' not in ' '.join(study.verdict)
        if seed%5: continue
        going = small(tmp_path, seed, bs, norm, opt_func)
        going.lr_history.fits.clear()
        quiet(going, 1, lr)
        on = continue_study(going, 1, ['again','lower'], clip=None, progress=False)
        bad += [(seed, s) for s in claims(on.verdict, NO_DIFFERENCE)]
        assert not on.runs.told_apart and all(v<1.25 for vs in on.bumps.values() for v in vs)
    assert len(bad)<=.05*len(SIXTY), bad

def numbers():
    n = 0
    while True:
        yield n
        n += 1

def torch_order(data, bs):
    "A loader that draws the order from numbers which nobody puts back (of a generator that is half-way): what was meant to be pairs are other batches"
    seeds = numbers()
    class Own(torch.utils.data.Sampler):
        def __init__(self): pass
        def __len__(self): return 64
        def __iter__(self): return iter(np.random.default_rng(next(seeds)).permutation(64).tolist())
    dl = partial(torch.utils.data.DataLoader, batch_size=bs)
    return DataLoaders(dl(data[:64], sampler=Own()), dl(data[64:]), device='cpu')

def critic(p, y): return (p-p.detach().mean()+y).mean() # of both signs, around 0
def tiny(p, y): return 1e-9*((p-y)**2).mean()

@pytest.mark.slow
@pytest.mark.parametrize('name,kw', [
    ('heavy tails', dict(data=items(1, heavy=10.))), ('sorted', dict(data=sorted(items(2), key=lambda o: o[1].item()))), ('dropout', dict(drop=.5)), ('accumulation', dict(cbs=[GradientAccumulation(20)])),
    ('both signs', dict(loss=critic)), ('tiny losses', dict(loss=tiny)), ('no pairs', dict(loader=torch_order)), ('batches of one', dict(bs=1, data=items(3)))])
def test_nothing_happens_with_unusual_losses(tmp_path, name, kw):
    study = unfreeze_study(small(tmp_path, 5, **{**dict(bs=4), **kw}), 1e-8, arms=['memory kept','all rates 0'], seeds=(0, 1, 2), progress=False)
    assert not claims(study.verdict, ('No spike', 'Single batches', 'That does not stand out of its scatter')), study.verdict # all of them say that nothing is known to have happened
    assert not study.causes and 'BatchNorm' not in ' '.join(study.verdict)

@pytest.mark.slow
@pytest.mark.parametrize('opt_func,lr', [(SGD, 1.5), (Adam, .3), (adagrad, 1.)])
@pytest.mark.parametrize('bs', [4, 16])
def test_a_rise_is_seen_through_the_noise_of_batches(tmp_path, opt_func, lr, bs):
    learn = small(tmp_path, 7, bs, opt_func=opt_func)
    study = unfreeze_study(learn, lr, arms=['all rates 0','a tenth'], progress=False)
    said = ' '.join(study.verdict)
    assert study.spike['as asked'] and not study.spike['all rates 0'] and said.startswith('The loss rises after unfreezing: '), study.verdict
    assert 'BatchNorm' not in said and 'more than one thing' not in said and "'a tenth' (" in said

# ---------------------------------------------------------------- arguments

class Began(Exception): "All arguments were taken"

def began(*args, **kw): raise Began

class Long:
    def __repr__(self): return 'long\n'*10**5
    __str__ = __repr__

NUMBERS = 'lr','n_epoch','clip' # are checked where schedules are, and tested there

def bad_values():
    net = nn.Sequential(*(nn.Linear(1, 1) for _ in range(50)))
    return [5, -1, 0, 1.5, 10**400, 2**70, math.nan, math.inf, 'x', b'x', '', (), [], {}, [None], ['no'], {1: 2}, {'a': 3}, {'a': 'b'*10**4}, [10**400], [math.nan], [-1.], [1e-3]*10**4, object(), Long(), net, slice(None), slice(3, 1), True, np.zeros((2, 2)), np.zeros(0), None, range(0), int, ...]

def test_bad_arguments_are_refused_by_name(tmp_path, monkeypatch):
    "A few hundred calls with one bad argument: ValueError or TypeError, in a line of 300 characters at most, that names the argument; nothing has changed"
    import lrtools.compare
    from matplotlib.figure import Figure
    from state import changes, state
    from lrtools.compare import compare
    from lrtools.experiment_views import plot_runs, plot_study
    from lrtools.experiments import ContinueStudy, Runs, UnfreezeStudy
    from lrtools.plan import Phase
    from lrtools.schedule import constant
    from lrtools.unfreeze_study import unfreeze_at_once_study
    from test_unfreeze_study import made, study
    for name in ('_each_here', '_each_there'): monkeypatch.setattr(lrtools.compare, name, began)
    learn = small(tmp_path)
    made_study,runs,ax = study({'as asked': 2., 'memory kept': 1.}),[made('a', 0, [1., 2.])],Figure().add_subplot()
    calls = {compare: dict(learn_or_factory=learn, arms=dict(a=Phase(constant(1e-3), 1)), seeds=(0,), folder=None, executor=None, dense=(), keep=True, progress=False),
             unfreeze_study: dict(learn=learn, lr=1e-3, n_epoch=1, sched=constant, arms=None, seeds=(0,), folder=None, executor=None, progress=False),
             unfreeze_at_once_study: dict(learn=learn, lr=1e-3, n_epoch=2, seeds=(0,), folder=None, executor=None, progress=False),
             continue_study: dict(learn=learn, n_epoch=1, strategies=None, seeds=(0,), untrained=None, clip=None, curve=None, folder=None, executor=None, progress=False),
             plot_runs: dict(runs=made_study.runs, ax=ax, metric='train_loss', arms=None, fresh=()), plot_study: dict(study=made_study, ax=ax),
             Runs: dict(runs=runs, arms=dict(a=''), notes=()), UnfreezeStudy: dict(runs=made_study.runs, still=(), first=3, remedies={}), ContinueStudy: dict(runs=made_study.runs, shares={}, still=()),
             made_study.runs.values: dict(arm='as asked', metric='valid_loss'), made_study.runs.difference: dict(arm='as asked', to=None, metric='valid_loss'), made_study.removes: dict(arm='as asked')}
    values = bad_values()
    before,wrong = state(learn),[]
    for f,good in calls.items():
        for k in good:
            for v in values:
                if k=='folder' and isinstance(v, str): continue # a good name of a folder
                if k in ('learn_or_factory','sched') and isinstance(v, nn.Module): continue # a function, whose own words come out
                if k in NUMBERS and isinstance(v, (int, list)) and v in (10**400, [10**400]): continue
                try: f(**{**good, k: v})
                except Began: pass
                except (ValueError, TypeError) as e:
                    if k not in str(e) or k not in NUMBERS and (len(str(e))>300 or '\n' in str(e)): wrong.append((f.__name__, k, type(v), str(e)[:150]))
                except Exception as e: wrong.append((f.__name__, k, type(v), f'{type(e).__name__}: {str(e)[:150]}'))
    assert not wrong, '\n'.join(map(str, wrong))
    assert not changes(before, state(learn))
