"One of two processes that train a model together: `python pair.py rank file` prints what it saw, case by case, as JSON"
import json, os, sys, time
from datetime import timedelta
from types import ModuleType

rank,file = int(sys.argv[1]),sys.argv[2]

import torch, torch.distributed as dist
from torch import nn

torch.set_num_threads(1)
dist.init_process_group('gloo', init_method=f'file://{file}', rank=rank, world_size=2, timeout=timedelta(seconds=90))

class Accelerator:
    "What fastai's `DistributedTrainer` needs of accelerate, which is not a requirement"
    def __init__(self, **kw): pass
    def prepare(self, model): return nn.parallel.DistributedDataParallel(model)
    def backward(self, loss): loss.backward()

sys.modules['accelerate'] = ModuleType('accelerate')
sys.modules['accelerate'].Accelerator = Accelerator

from fastai.basics import DataLoaders, Learner, MSELossFlat, noop, params, set_seed
from fastai.callback.progress import ProgressCallback
import lrtools.learner
from lrtools.all import *

def data(n, seed):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))
    return list(zip(x, x[:,:1]*x[:,1:2]))

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, 1))

def halves(m):
    m = getattr(m, 'module', m)
    return [params(m[0]), params(m[1])]

def learner(bs=8, n=48, wrap=nn.parallel.DistributedDataParallel):
    set_seed(7)
    model = wrap(net())
    set_seed(rank) # each process has data and random numbers of its own
    dls = DataLoaders.from_dsets(data(n, rank), data(16, rank+2), bs=bs, device='cpu', num_workers=0)
    learn = Learner(dls, model, MSELossFlat(), splitter=halves).remove_cb(ProgressCallback)
    learn.logger = noop
    return learn

def weights(learn): return [p.detach().clone() for p in learn.model.parameters()]

def studied(learn):
    "Curve, suggestion, probe and record of a learner, and whether it was left as it was"
    before = weights(learn)
    c = lr_range_test(learn, num_it=60, start_lr=1e-4, end_lr=1e3, repeats=2, valid=3)
    p = probe(learn, [1e-3, 1e-2], num_it=5, seeds=2)
    same = all(map(torch.equal, before, weights(learn)))
    bs = freeze_report(learn, measure=True).bs
    h = fit_plan(learn, Phase(one_cycle(1e-2), 2))
    return dict(losses=[s.losses.tolist() for s in c.sweeps], valid=[s.valid_losses.tolist() for s in c.sweeps], stops=c.stops, said=str(suggest(c)), probed=[r.valid for r in p.runs], same=same, bs=bs,
                steps=h.n_steps, weights=[w.tolist() for w in weights(learn)])

def alike(): return studied(learner())

def uneven():
    "Other numbers of batches: a range test does not mind, an epoch would never end"
    learn = learner(bs=6+rank)
    c = lr_range_test(learn, num_it=20, start_lr=1e-4, end_lr=.1, valid=2, progress=False)
    return dict(losses=c.losses.tolist(), refused=refusal(lambda: fit_plan(learn, Phase(constant(1e-3), 1))))

def refusal(f):
    start = time.perf_counter()
    try: f()
    except ValueError as e: return [str(e), time.perf_counter()-start]

def one_refuses(): return dict(refused=[refusal(lambda: f(learner(n=48 if rank else 0))) for f in (lambda o: lr_range_test(o, num_it=5), lambda o: probe(o, [1e-3]), lambda o: fit_plan(o, Phase(constant(1e-3), 1)))])

def one_comes_alone():
    lrtools.learner.MEET = 2
    learn = learner()
    alone = refusal(lambda: lr_range_test(learn, num_it=5, progress=False)) if rank==0 else None
    dist.barrier()
    lrtools.learner.MEET = 60
    return dict(alone=alone, losses=lr_range_test(learn, num_it=5, progress=False).losses.tolist()) # and then both

def other_arguments():
    return dict(refused=refusal(lambda: lr_range_test(learner(), num_it=5+rank, progress=False)))

def each_its_own():
    "A model that is not shared: each process is as if alone, and may be the only one that asks"
    return dict(losses=lr_range_test(learner(wrap=lambda m: m), num_it=5, progress=False).losses.tolist() if rank==0 else None)

def fastai():
    from fastai.distributed import DistributedDL
    def on_cpu(self, t, rank):
        t = torch.tensor(t)
        dist.broadcast(t, rank)
        return t.tolist()
    os.environ.update(RANK=str(rank), WORLD_SIZE='2') # as `torchrun` does
    DistributedDL._broadcast = on_cpu # fastai's sends it through CUDA
    learn = learner(wrap=lambda m: m)
    with learn.distrib_ctx(sync_bn=False): res = studied(learn)
    learn = learner(wrap=lambda m: m) # fastai gathers the losses of this one, too
    res['plain'] = lr_range_test(learn, num_it=5, progress=False).losses.tolist()
    del os.environ['RANK'],os.environ['WORLD_SIZE']
    return res

for case in (alike, fastai, uneven, one_refuses, one_comes_alone, other_arguments, each_its_own):
    print('\n'+json.dumps({case.__name__: case()}), flush=True)
dist.barrier()
dist.destroy_process_group()
