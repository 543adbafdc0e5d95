"Comparisons: one start, the same luck for all, nothing lost, nothing left behind"
import json, math, os, signal, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np, pytest, torch
from fastai.basics import Callback, CancelFitException, IntToFloatTensor, Learner, Pipeline, mae
import fastai.callback.schedule # gives learners their fits

from learners import CONFIGS, Boom, deep, quiet
from state import changes, state, writes
from test_faults import build
from lrtools.compare import _fingerprint, compare
from lrtools.fit_plan import fit_plan
from lrtools.experiments import ArmRun, Runs, _mean_interval, difference_interval
from lrtools.history import FitRecord, LRHistory
from lrtools.plan import Phase, Plan
from lrtools.recording import record
from lrtools.schedule import constant, one_cycle

FLAT,CYCLE = Phase(constant(1e-3), 1),Plan([Phase(one_cycle(slice(1e-4, 1e-2)), 1, freeze_to=0)])
go = partial(compare, progress=False)

def numbers(runs): return {(r.arm, r.seed): (r.history.losses.tolist(), r.history.lrs.tolist(), r.metrics.get('valid_loss')) for r in runs}

def trained(path, **kw):
    learn = deep(path, 3, **kw)
    learn.freeze()
    return quiet(learn)

# ---------------------------------------------------------------- the learner, and luck

@pytest.mark.parametrize('name', CONFIGS)
def test_every_kind_of_learner_is_left_alone(name, tmp_path):
    learn = build(name, tmp_path)
    before = state(learn, tmp_path)
    with writes() as written: runs = go(learn, dict(flat=FLAT, own=lambda l: l.fit(1, 1e-3)), seeds=(0, 1), dense=(1, 2) if len(learn.dls.train)>1 else ())
    assert changes(before, state(learn, tmp_path))==[] and written==[]
    assert len(runs)==4 and all(r.status=='finished' for r in runs), [r.error for r in runs]

def test_the_same_seeds_the_same_numbers(tmp_path):
    learn = trained(tmp_path)
    arms = dict(a=FLAT, cycle=CYCLE, b=FLAT, own=lambda l: l.fit(1, 1e-3))
    runs = go(learn, arms)
    assert numbers(runs)==numbers(go(learn, arms)) and numbers(runs)==numbers(go(learn, arms, dense=(2, 4)))
    for s in range(3): assert numbers(runs)['a',s]==numbers(runs)['b',s]==numbers(runs)['own',s] # the same way, another name
    assert len({str(numbers(runs)['a',s]) for s in range(3)})==3 and runs.difference('b')==(0., 0.)
    torch.manual_seed(123); np.random.seed(5) # whatever luck the session has
    assert numbers(go(learn, arms))==numbers(runs)

def test_no_arm_leaks_into_the_next(tmp_path):
    learn = trained(tmp_path)
    def bad(l):
        class Evil(Callback):
            def before_step(self): self.learn.opt.set_hyper('lr', 1.)
        l.add_cb(Evil()); l.metrics.append(lambda p,y: 0.)
        l.model[0][0].register_forward_hook(lambda m,i,o: o*2)
        l.model[2].weight.register_hook(lambda g: g*3)
        l.loss_func,l.moms,l.wd = torch.nn.L1Loss(),(.5,.5,.5),.5
        l.model[0][1] = torch.nn.Identity(); l.model.requires_grad_(False)
        l.dls.train.bs = 1; l.opt = None; l.path = Path('/nowhere')
        torch.manual_seed(0); np.random.seed(0); l.lr_history.fits.clear()
        raise Boom('and out')
    want = numbers(go(learn, dict(flat=FLAT, cycle=CYCLE)))
    before = state(learn)
    got = go(learn, dict(flat=FLAT, bad=bad, cycle=CYCLE))
    assert {k: v for k,v in numbers(got).items() if k[0]!='bad'}==want and not changes(before, state(learn))
    assert [r.error for r in got['bad']]==['Boom: and out']*3 and got.best.arm in ('flat','cycle') and 'failed in 3 of 3: Boom' in got._repr_markdown_()

def test_what_ends_an_arm(tmp_path):
    learn = trained(tmp_path)
    def cancel(l): l.fit(1, cbs=Callback(after_batch=lambda self: (_ for _ in ()).throw(CancelFitException())))
    runs = go(learn, dict(flat=FLAT, cancel=cancel, explode=Phase(constant(1e30), 1)), seeds=(0,))
    assert [r.status for r in runs]==['finished','cancelled','exploded'] and runs.best.arm=='flat' and Runs.from_json(runs.to_json())==runs
    before = state(learn)
    def stop(l): l.fit(1, 1e-3); raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): go(learn, dict(flat=FLAT, stop=stop), folder=tmp_path/'f')
    assert not changes(before, state(learn))
    count = []
    again = go(learn, dict(flat=FLAT, stop=lambda l: (count.append(1), l.fit(1, 1e-3))), folder=tmp_path/'f')
    assert len(count)==3 and all(r.status=='finished' for r in again)

def test_its_own_files_are_not_written(tmp_path):
    learn = build('trackers', tmp_path)
    with writes() as written: go(learn, dict(flat=Phase(constant(1e-3), 2)), seeds=(0,))
    assert written==[]

def test_the_past(tmp_path):
    learn = deep(tmp_path, 3)
    record(learn)
    quiet(learn)
    runs = go(learn, dict(flat=FLAT), seeds=(0,))
    assert runs.past==learn.lr_history and len(learn.lr_history)==1 and len(runs['flat'][0].history)==1 and runs['flat'][0].history is not learn.lr_history

def test_dense_validation(tmp_path):
    learn = trained(tmp_path)
    at = (1, 3, 5)
    r = go(learn, dict(flat=FLAT, still=Phase(constant(0.), 1)), seeds=(0,), dense=at)
    assert [i for i,_ in r['flat'][0].dense]==[*at] and all(math.isfinite(v) for _,v in r['flat'][0].dense)
    assert r['flat'][0].dense[-1][1]==pytest.approx(r['flat'][0].valid, rel=.02) and r['flat'][0].valid0!=r['flat'][0].dense[0][1]

# ---------------------------------------------------------------- files

class Calls:
    "Counts, and says nothing of it"
    n = 0
    def __call__(self): self.n += 1

def test_a_folder_keeps_and_resumes(tmp_path):
    learn,count = trained(tmp_path),Calls()
    own = lambda l: (count(), l.fit(1, 1e-3))
    first = go(learn, dict(flat=FLAT, own=own), folder=tmp_path/'f')
    assert count.n==3 and len([*(tmp_path/'f').glob('*.json')])==7 and len([*(tmp_path/'f').glob('*.pt')])==2 # of the first seed
    assert numbers(go(learn, dict(flat=FLAT, own=own), folder=tmp_path/'f'))==numbers(first) and count.n==3
    more = go(learn, dict(flat=CYCLE, own=own), seeds=(0, 1, 2, 3), folder=tmp_path/'f') # a plan that was changed, and a seed more
    assert count.n==4 and numbers(more)['flat',0]!=numbers(first)['flat',0] and numbers(more)['own',2]==numbers(first)['own',2]
    quiet(learn)
    with pytest.raises(ValueError, match='another start'): go(learn, dict(flat=FLAT), folder=tmp_path/'f')

def test_a_function_that_holds_other_values_is_run_again(tmp_path):
    learn,folder = trained(tmp_path),tmp_path/'f'
    def at(lr): return lambda l: l.fit(1, lr)
    def inner(lr): f = at(lr); return lambda l: f(l)
    def by_default(lr): return lambda l, lr=lr: l.fit(1, lr)
    def by_partial(lr): return partial(lambda l, lr: l.fit(1, lr), lr=lr)
    def in_list(lr): rates = [lr]; return lambda l: l.fit(1, rates[0])
    for make in (at, inner, by_default, by_partial, in_list):
        once,again,other = (numbers(go(learn, {make.__name__: make(lr)}, seeds=(0,), folder=folder)) for lr in (1e-3, 1e-3, 1e-1))
        assert once==again!=other, make.__name__
    assert len([*folder.glob('*-0.json')])==10

def test_steps_of_validation_that_were_not_taken_are(tmp_path):
    learn = trained(tmp_path)
    one = lambda dense: go(learn, dict(flat=FLAT), seeds=(0,), dense=dense, folder=tmp_path/'f').runs[0]
    plain = one(())
    few = one((1, 3, 1000))
    assert plain.dense==() and [i for i,_ in few.dense]==[1, 3] and math.isfinite(few.valid0) and few.history.losses.tolist()==plain.history.losses.tolist()
    when = [p.stat().st_mtime_ns for p in sorted((tmp_path/'f').iterdir())]
    assert one((1, 1000)).dense==few.dense and [p.stat().st_mtime_ns for p in sorted((tmp_path/'f').iterdir())]==when # nothing was run

def test_what_another_start_is(tmp_path, monkeypatch):
    learn = trained(tmp_path)
    was = _fingerprint(learn)
    go(learn, dict(flat=FLAT), seeds=(0,))
    assert _fingerprint(learn)==was
    for o,k,v in ((learn, 'loss_func', torch.nn.L1Loss()), (learn, 'metrics', [mae]), (learn.dls.valid, 'after_batch', Pipeline([IntToFloatTensor()])), (learn.dls.train, 'bs', 3)):
        with monkeypatch.context() as m:
            m.setattr(o, k, v)
            assert _fingerprint(learn)!=was, k
    assert _fingerprint(learn)==was

def test_failed_runs_are_tried_again(tmp_path):
    learn,ok = trained(tmp_path),[]
    def shaky(l):
        if not ok: raise Boom('not yet')
        l.fit(1, 1e-3)
    assert {r.status for r in go(learn, dict(shaky=shaky), folder=tmp_path/'f')}=={'failed'}
    ok.append(1)
    assert {r.status for r in go(learn, dict(shaky=shaky), folder=tmp_path/'f')}=={'finished'}

SCRIPT = '''
import sys, warnings; warnings.filterwarnings('ignore'); sys.path[:0] = {path!r}
import torch; torch.set_num_threads(1)
from fastai.basics import Callback, set_seed
import fastai.callback.schedule
from learners import deep
from lrtools.compare import compare
from lrtools.plan import Phase
from lrtools.schedule import constant
def make():
    learn = deep({tmp!r}, 3); learn.freeze()
    return learn
import time
class Slow(Callback):
    def after_batch(self): time.sleep({pause})
def slow(learn): learn.fit(1, 1e-3, cbs=Slow())
if __name__=='__main__':
    runs = compare(make, dict(flat=Phase(constant(1e-3), 1), slow=slow), folder={folder!r}, progress=lambda i,n: print(i, n, flush=True))
    print('END', runs.to_json(), flush=True)
'''

def test_killed(tmp_path):
    "kill -9 in the middle of a run loses no finished run, and what is done later is what it would have been"
    def script(pause, folder):
        f = tmp_path/f'run{pause}.py'
        f.write_text(SCRIPT.format(path=[str(Path(__file__).parent), str(Path(__file__).parent.parent)], tmp=str(tmp_path), pause=pause, folder=str(folder)))
        return subprocess.Popen([sys.executable, f], stdout=subprocess.PIPE, text=True, env=os.environ|dict(OMP_NUM_THREADS='1'))
    p = script(.2, tmp_path/'f')
    try:
        for line in p.stdout:
            if not line.startswith('END') and float(line.split()[0])>4.3: os.kill(p.pid, signal.SIGKILL); break # in the second run of the second arm
        else: pytest.fail('it ended before it was killed')
    finally: p.stdout.close(); p.wait()
    found = sorted(f.name for f in (tmp_path/'f').glob('*-?.json'))
    assert len(found)==4 and all(json.loads((tmp_path/'f'/f).read_text()) for f in found) and not [*(tmp_path/'f').glob('.*.part')]
    stamps = {f: (tmp_path/'f'/f).stat().st_mtime_ns for f in found}
    def finish(pause, folder):
        p = script(pause, folder)
        out = p.stdout.read(); p.stdout.close(); assert p.wait()==0
        return Runs.from_json(out.rpartition('END ')[2])
    done = finish(.2, tmp_path/'f')
    assert all((tmp_path/'f'/f).stat().st_mtime_ns==t for f,t in stamps.items()) and {r.status for r in done}=={'finished'} and len(done)==6
    assert numbers(done)==numbers(finish(0, tmp_path/'other'))

# ---------------------------------------------------------------- elsewhere

def make(path):
    "A factory that other processes can import"
    torch.set_num_threads(1)
    return deep(path, 3)
def own(learn): learn.fit(1, 1e-3)
ARMS = dict(flat=FLAT, cycle=CYCLE, own=own)

def test_threads_and_processes(tmp_path):
    want = numbers(go(partial(make, tmp_path), ARMS))
    with ThreadPoolExecutor(3) as pool: assert numbers(go(partial(make, tmp_path), ARMS, executor=pool))==want
    learn = trained(tmp_path)
    want,before = numbers(go(learn, ARMS)),state(learn)
    with ThreadPoolExecutor(2) as pool: assert numbers(go(learn, ARMS, executor=pool))==want and not changes(before, state(learn))

def test_a_dask_cluster(tmp_path):
    "Two worker processes give the numbers of this one, for a factory and for a learner that is sent"
    from dask.distributed import Client, LocalCluster
    learn = Learner(make(tmp_path).dls, make(tmp_path).model, torch.nn.MSELoss(), path=tmp_path)
    learn = quiet(learn)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50) as cluster, Client(cluster) as client:
        client.run(lambda path: sys.path.insert(0, path), str(Path(__file__).parent))
        with client.get_executor() as pool:
            start = partial(make, tmp_path)
            here,there = go(start, ARMS, folder=tmp_path/'a'),go(start, ARMS, executor=pool, folder=tmp_path/'b')
            assert numbers(here)==numbers(there) and {r.status for r in there}=={'finished'}
            assert there.best.restore(start()).model[0][0].weight.equal(here.best.restore(start()).model[0][0].weight)
            before = state(learn)
            got = go(learn, dict(flat=FLAT, boom=partial(boom, 'no')), executor=pool)
            assert numbers(got)['flat',1]==numbers(go(learn, dict(flat=FLAT)))['flat',1] and got['boom'][0].error=='ValueError: no'
            assert not [c for c in changes(before, state(learn)) if not c.startswith('process.python')] # Dask draws random numbers
def boom(text, learn): raise ValueError(text)

# ---------------------------------------------------------------- weights

def test_restore(tmp_path):
    learn = trained(tmp_path)
    record(learn)
    runs = go(learn, dict(flat=FLAT, cycle=CYCLE), keep='all')
    twin = trained(tmp_path)
    from lrtools.snapshot import preserved
    for r in runs:
        with preserved(learn):
            r.restore(learn)
            assert learn.validate()[0]==pytest.approx(r.valid, rel=.02) and learn.lr_history.losses.tolist()==r.history.losses.tolist()
    before = state(learn)
    best = runs.best
    assert not changes(before, state(learn)) # to look is not to adopt
    best.restore(learn)
    assert changes(before, state(learn)) and learn.opt.hypers[-1]['lr']==best.history.last_lr[-1]
    some = go(trained(tmp_path), dict(flat=FLAT), seeds=(4, 5))
    assert [r.state is None for r in some]==[False, True]
    for r in (some['flat'][1], Runs.from_json(some.to_json())['flat'][0], go(twin, dict(flat=FLAT), keep=False).best):
        with pytest.raises(ValueError, match='not kept'): r.restore(twin)
    other = deep(tmp_path, 5)
    before = state(other)
    with pytest.raises(ValueError, match='another model'): best.restore(other)
    assert not changes(before, state(other))

# ---------------------------------------------------------------- what is refused, and what is told

def test_bad_arguments(tmp_path):
    learn = trained(tmp_path)
    before = state(learn)
    for kw,error,match in ((dict(arms={}), ValueError, 'arms is empty'), (dict(arms=[FLAT]), TypeError, 'dictionary'), (dict(arms=dict(a=3)), TypeError, "arms\\['a'\\]"), (dict(arms={1: FLAT}), TypeError, 'name 1'),
                           (dict(arms=dict(a=Phase(constant([1e-3]*5), 1))), ValueError, "arms\\['a'\\].*3"), (dict(seeds=()), ValueError, 'seeds'), (dict(seeds=(1, 1)), ValueError, 'each once'), (dict(seeds=3), TypeError, 'seeds=3'),
                           (dict(seeds=(.5,)), TypeError, 'seeds'), (dict(executor=3), TypeError, 'executor=3'), (dict(keep='some'), ValueError, "keep='some'"), (dict(dense=(0,)), ValueError, 'dense')):
        with pytest.raises(error, match=match): go(**(dict(learn_or_factory=learn, arms=dict(flat=FLAT))|kw))
    for bad in (3, None):
        with pytest.raises(TypeError, match='learn_or_factory'): go(bad, dict(flat=FLAT))
    with pytest.raises(TypeError, match='function that makes'): go(lambda: 3, dict(flat=FLAT))
    assert not changes(before, state(learn))

def test_progress_is_shown_over_the_runs_and_inside_each(tmp_path, capsys):
    compare(trained(tmp_path), dict(a=FLAT, b=lambda l: l.fit(2, 1e-3), bad=lambda l: 1/0), seeds=(0, 1))
    said = capsys.readouterr().out
    for i,name in enumerate(['a, seed 0', 'a, seed 1', 'b, seed 0', 'b, seed 1'], 1): assert f'{i} of 6, {name}:' in said and '100/100' in said.partition(f'{i} of 6, {name}:')[2].partition(f'{i+1} of 6')[0]

def test_progress_is_told(tmp_path):
    told = []
    compare(trained(tmp_path), dict(a=FLAT, b=lambda l: l.fit(2, 1e-3)), seeds=(0, 1), progress=lambda i,n: told.append((i, n)))
    assert told[-1]==(4, 4) and all(a[0]<=b[0] for a,b in zip(told, told[1:])) and len({i for i,_ in told})>12
    compare(trained(tmp_path), dict(a=FLAT), seeds=(0,)) # a bar

def run(arm, seed, v, error=''):
    g = FitRecord(1, 1, [True]); g.add(0, 1., [dict(lr=1e-3)]); g.stop = 'end'; g.epochs.append(dict(epoch=0, valid_loss=v))
    return ArmRun(arm, seed, LRHistory([g]), error=error)

def table(values, **kw): return Runs([run(k, s, float(v), **kw) for k,vs in values.items() for s,v in enumerate(vs)], dict.fromkeys(values, ''))

def test_differences_are_honest():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(400): # no difference: the interval leaves 0 out in one case of twenty
        luck = rng.normal(size=(2, 4))
        d,h = Runs([run(a, s, float(luck[i,s]+10*s)) for i,a in enumerate('ab') for s in range(4)], dict(a='', b='')).difference('b')
        hits += abs(d)>h
    assert 8<=hits<=36
    assert np.isnan(_mean_interval([1.])[1]) and np.isnan(_mean_interval([])[0])

SPREADS = {'equal': lambda k: np.ones(k), 'the first is wild': lambda k: np.r_[10, np.ones(k-1)], 'all different': lambda k: np.geomspace(.1, 10, k), 'half are wild': lambda k: np.r_[np.full(k//2, 6), np.ones(k-k//2)]}

@pytest.mark.parametrize('spread', SPREADS)
@pytest.mark.parametrize('k,n', [(3, 3), (7, 3), (4, 5)])
def test_no_difference_of_several_arms_is_told_in_more_than_5_percent(k, n, spread):
    "Arms between which nothing differs, of equal and of unequal variance: some arm is told apart from the best, or from the first, in at most one comparison of twenty"
    rng,N = np.random.default_rng(k*n),500
    best,first = 0,0
    for _ in range(N):
        y = 2*rng.normal(size=n)+rng.normal(size=(k, n))*SPREADS[spread](k)[:,None]
        b = y.mean(1).argmin()
        best += any(d-h>0 for d,h in (difference_interval(y, i, b, k*(k-1)//2) for i in range(k) if i!=b))
        first += any(abs(d)>h for d,h in (difference_interval(y, i, 0, k-1) for i in range(1, k)))
    most = .05*N+2.5*(.05*.95*N)**.5 # 5 %, and what the simulation itself may be off
    assert best<=.05*N and first<=most, (best, first)

def test_runs_use_these_intervals_and_real_differences_are_told():
    rng = np.random.default_rng(1)
    values = {k: m+.01*rng.normal(size=3)+np.array([.1, 0., .2]) for k,m in dict(a=.5, b=.5, c=.9, d=1.3).items()}
    runs = table(values)
    assert {'c','d'}<={*runs.told_apart} and runs.best.arm in 'ab'
    y = np.array([*values.values()])
    assert runs.difference('c')==difference_interval(y, 2, 0, 3) and runs.difference('c', 'd')==difference_interval(y, 2, 3, 6)
    one = table({k: vs[:1] for k,vs in values.items()})
    assert one.told_apart==[] and 'One seed only' in one._repr_markdown_() and 'With 3 seeds, and 3 differences' in runs._repr_markdown_()
    lame = Runs([r for r in runs if (r.arm, r.seed)!=('b', 2)], runs.arms) # of b two seeds: its pairs, and no more
    assert lame.difference('b')==_mean_interval(y[1,:2]-y[0,:2], 3) and np.isnan(Runs([r for r in runs if r.arm!='b'], runs.arms).difference('b')[0])

def test_what_agrees_to_three_digits_is_no_difference():
    base = np.array([.5, .6, .4])
    runs = table(dict(a=base, b=base+1e-5, c=base+.1))
    assert runs.told_apart==['c'] and runs.difference('b')[0]>runs.difference('b')[1]

# ---------------------------------------------------------------- names

NAMES = 'a|b', '<img src=x onerror=alert(1)>', 'two\nlines', '`code`', '$x$ and $y$', '[a](javascript:1)', 'rewarm, clipped', '_under', '*star*'

def test_names_in_tables_are_no_markup():
    from lrtools.experiments import ContinueStudy
    def cells(line): return len(line.replace(r'\|', '').split('|'))
    for name in NAMES:
        runs = Runs([*table({'first': [.5, .6], name: [.7, .9]}), run('bad', 0, 1., error=f'Boom: {name}')], {'first': '', name: '', 'bad': ''})
        for o in (runs, ContinueStudy(runs, {})):
            lines = o._repr_markdown_().splitlines()
            rows = [l for l in lines if l.startswith('|')]
            assert len(rows)==5 and len({cells(l) for l in rows})==1, (name, rows)
            assert '<img' not in '\n'.join(lines) and '`code`' not in '\n'.join(lines).replace(r'\`code\`', '') and '](' not in '\n'.join(lines).replace(r'\]', '')

def test_no_run_finished_and_the_table_is_one():
    for runs,n in ((table(dict(a=[1., 2.], b=[1., 2.]), error='Boom: no\nand more | of it'), 5), (Runs([ArmRun(k, 0, LRHistory(), error='Boom') for k in 'ab'], dict(a='', b='')), 4)):
        lines = [l for l in runs._repr_markdown_().splitlines() if l.startswith('|')]
        assert {l.replace(r'\|', '').count('|') for l in lines}=={n+1} and lines[1]=='|'+'---|'*n and len(lines)==4

def test_a_line_names_what_failed_and_counts_well():
    assert repr(table(dict(a=[1.])))=="Runs(1 arm x 1 seed, best 'a')"
    runs = Runs([*table(dict(a=[1., 2.])), run('b, clipped', 0, 1.), run('b, clipped', 1, 1., error='Boom: no')], {'a': '', 'b, clipped': ''})
    assert repr(runs)=="Runs(2 arms x 2 seeds, best 'a', not finished: 'b, clipped')"
    assert repr(table(dict(a=[1.]), error='x'*10**4))=="Runs(1 arm x 1 seed, none finished, not finished: 'a')"
    many = Runs([run(f'arm number {i}', 0, 1., error='x'*10**4) for i in range(100)], {f'arm number {i}': '' for i in range(100)})
    assert len(repr(many))<=300 and len(repr(many.runs[0]))<=300

# ---------------------------------------------------------------- cost, progress, Ctrl-C

def test_what_it_costs_is_said_once_and_before(tmp_path, capsys):
    learn = trained(tmp_path)
    before = state(learn)
    told = []
    def own(l): told.append(capsys.readouterr().out); l.fit(1, 1e-3)
    compare(learn, dict(own=own, flat=FLAT), seeds=(3, 4))
    assert told[0].count('4 runs; `seeds=[3]` or fewer arms for less.')==1 and 'runs;' not in told[1]+capsys.readouterr().out
    compare(learn, dict(flat=FLAT, cycle=Phase(one_cycle(1e-3), 3)), seeds=(0, 1))
    said = capsys.readouterr().out
    assert said.startswith('4 runs of up to 3 epochs, about 1 second; `seeds=[0]` takes about 1 second, fewer arms take less.\n') and said.count('about')==2
    compare(learn, dict(flat=FLAT), seeds=(0, 1))
    assert capsys.readouterr().out.startswith('2 runs of 1 epoch, about 1 second; `seeds=[0]` takes about 1 second.\n')
    for kw in (dict(progress=False), dict(progress=lambda i,n: None)):
        compare(learn, dict(flat=FLAT, cycle=CYCLE), seeds=(0, 1), **kw)
        assert capsys.readouterr().out==''
    compare(learn, dict(flat=FLAT), seeds=(0, 1), folder=tmp_path/'f', progress=False)
    compare(learn, dict(flat=FLAT), seeds=(0, 1), folder=tmp_path/'f')
    assert capsys.readouterr().out=='' and not changes(before, state(learn)) # nothing is left to run

def test_the_cost_is_that_of_the_steps(tmp_path, monkeypatch, capsys):
    "A clock that goes on by 7 s with each look: 4 runs of 5 steps and a bit of validation"
    import lrtools.compare as m
    clock = iter(range(0, 10**6, 7))
    class Time: perf_counter = staticmethod(lambda: float(next(clock)))
    learn = trained(tmp_path)
    n = len(learn.dls.train)
    monkeypatch.setattr(m, 'time', Time)
    compare(learn, dict(a=FLAT, b=FLAT), seeds=(0, 1))
    minutes = 4*n*7*(1+len(learn.dls.valid)/n/3)/60
    assert f'about {minutes:.2g} minutes' in capsys.readouterr().out

def test_progress_never_goes_back_over_phases_and_fits(tmp_path):
    told = []
    plan = Plan([Phase(constant(1e-3), 1, freeze_to=-1), Phase(constant(1e-3), 3, freeze_to=0), Phase(constant(1e-3), 1)])
    def fits(l):
        for n in (1, 3, 1): l.fit(n, 1e-3)
    compare(trained(tmp_path), dict(plan=plan, fits=fits), seeds=(0,), progress=lambda i,n: told.append((i, n)))
    done = [i for i,_ in told]
    assert done==sorted(done) and {n for _,n in told}=={2} and done[-1]==2
    n = done.index(1.) # the plan: equal steps to its very end
    assert np.allclose(np.diff(done[:n]), done[0])

@pytest.mark.parametrize('folder', [False, True])
def test_ctrl_c_says_what_is_kept_and_how_to_go_on(tmp_path, capsys, folder):
    "In a plan, in a function, in a study: no word of going on with a learner that was put back, and what is said can be done"
    learn = trained(tmp_path)
    before = state(learn)
    kw = dict(folder=tmp_path/'f') if folder else {}
    def stop(i, n):
        if i>3.2: signal.raise_signal(signal.SIGINT) # in a batch of the fourth run
    with pytest.raises(KeyboardInterrupt): go(learn, dict(flat=FLAT, cycle=CYCLE), seeds=(0, 1), progress=stop, **kw)
    said = capsys.readouterr().out
    assert 'fit_plan' not in said and 'Interrupted: 3 of 4 runs have finished' in said and 'learn is as it was.' in said and said.count('\n')==1
    assert ('and none is kept' in said and "folder='runs'" in said) if not folder else ('kept in ' in said and 'same call goes on' in said)
    assert not changes(before, state(learn))
    counted = []
    again = go(learn, dict(flat=FLAT, cycle=CYCLE), seeds=(0, 1), folder=kw.get('folder'), progress=lambda i,n: counted.append(n))
    assert all(r.status=='finished' for r in again) and {*counted}=={1 if folder else 4}

def test_ctrl_c_puts_back_at_once(tmp_path):
    "Also where the interrupt comes between the runs, and the traceback is still held"
    learn = trained(tmp_path)
    before = state(learn)
    def stop(i, n):
        if i>=1: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt) as held: go(learn, dict(flat=FLAT, cycle=CYCLE), progress=stop)
    assert held.tb is not None and not changes(before, state(learn))

# ---------------------------------------------------------------- arms that fail

class NeedsPath(Callback):
    def __init__(self, path): self.path = path

@pytest.mark.parametrize('arm', [lambda l: l.fit(1, 1e-1, cbs=[NeedsPath]), lambda l: fit_plan(l, Phase(constant(1e-1), 1, clip=.1), cbs=[NeedsPath]), lambda l: l.fit(1, 1e-1, cbs=[Callback(before_fit=lambda self: 1/0)]),
                                 lambda l: l.fit(1, 1e-1, cbs=[3]), lambda l: l.fit_one_cycle(1, cbs=NeedsPath)])
def test_a_callback_that_fails_to_be_made_leaves_nothing_behind(tmp_path, arm):
    "Neither on the learner nor in the next arm: schedulers, clipping"
    learn = trained(tmp_path)
    want = numbers(go(learn, dict(flat=FLAT), seeds=(0,)))
    before = state(learn)
    runs = go(learn, dict(bad=arm, flat=FLAT, worse=arm), seeds=(0,))
    assert runs['bad'][0].error and runs['worse'][0].error and numbers(runs)['flat',0]==want['flat',0] and not changes(before, state(learn))
    learn.fit(1, .1)
    assert learn.opt.hypers[-1]['lr']==.1
