"""Bad arguments: only ValueError and TypeError, one short line that names the argument, and the way out. All that lrtools.all has is held to it;
a run of the tests draws some of the calls, `python tests/test_messages.py [modules]`, in an empty folder, does all of them and lists the faults."""
import functools, inspect, json, random, re, signal, sys, time
from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn
from fastai.basics import DataLoaders, Learner, MSELossFlat, params, set_seed
from fastai.callback.progress import ProgressCallback
from matplotlib.figure import Figure

import lrtools.all
from lrtools.all import *
from lrtools.curve import Sweep
from lrtools.runs import Run
from lrtools.snapshot import SavedSnapshot
from lrtools.words import LONGEST

MOST = 30 # calls of one function in a run of the tests
SECONDS = 60 # after which a call counts as one that never ends

# ---------------------------------------------------------------- what is bad for nearly everything

class Rude:
    "Something of the user's own, whose repr fails"
    def __repr__(self): raise RuntimeError('no repr')
    def __bool__(self): raise RuntimeError('no truth')

class Loud:
    def __repr__(self): return 'loud\n'*5000

NET = nn.Sequential(*[nn.Linear(4, 4) for _ in range(60)])
BAD = dict(none=lambda: None, true=lambda: True, int=lambda: 5, zero=lambda: 0, minus=lambda: -3, float=lambda: 1.5, nan=lambda: float('nan'), inf=lambda: float('inf'), huge=lambda: 10**400, vast=lambda: 10**6000, long=lambda: 2**70, text=lambda: 'x', empty=lambda: '', lines=lambda: 'a|b\nc$',
           bytes=lambda: b'ab', list=lambda: [], many=lambda: list(range(10**5)), nested=lambda: [[1, 2], [3]], huges=lambda: [10**400], nones=lambda: [None], texts=lambda: ['a', 'b'], dict=lambda: {}, pairs=lambda: {'a': 1, 2: [3]}, tuple=lambda: (1, 2), set=lambda: {1, 'a'},
           slice=lambda: slice(None), texts_slice=lambda: slice('a', 'b'), net=lambda: NET, tensor=lambda: torch.ones(3), array=lambda: np.ones((2, 2)), scalar=lambda: np.array(3.), complex=lambda: 1j, function=lambda: (lambda: 1/0), type=lambda: int, object=object, rude=Rude, loud=Loud, generator=lambda: (i for i in 'ab'))

# ---------------------------------------------------------------- what is good, to stand beside one bad argument

def learner():
    set_seed(0)
    x = torch.randn(24, 3)
    dls = DataLoaders.from_dsets(list(zip(x[:16], x[:16,:1])), list(zip(x[16:], x[16:,:1])), bs=8, device='cpu', num_workers=0)
    learn = Learner(dls, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), MSELossFlat(), splitter=lambda m: [params(m[0]), params(m[1])]).remove_cb(ProgressCallback)
    learn.logger = lambda *a: None
    return learn

@functools.cache
def trained():
    learn = learner()
    fit_plan(learn, PLAN)
    return learn

def curve(n=60, groups=2):
    x = np.geomspace(1e-6, 1, n)
    return LRCurve([Sweep(np.stack([x]*groups, 1), 2-np.exp(-(np.log10(x)+2)**2)+.01*np.sin(np.arange(n)))], n, (1e-6,)*groups, (1.,)*groups)

SWEEP = curve().sweeps[0]
PLAN = Plan([Phase(one_cycle(1e-3), 1)])
GOOD = {'sweeps': lambda: [SWEEP], 'start_lr': lambda: (1e-6,)*2, 'end_lr': lambda: (1.,)*2, ('ProbeRuns', 'runs'): lambda: [Run(1e-3, 0, SWEEP, 1.)], 'valid0': lambda: 1., 'd': lambda: curve().to_dict(), 's': lambda: curve().to_json(),
        'learn': trained, 'curve': curve, 'curves': lambda: GroupCurves([curve()]), 'plan': lambda: PLAN, 'sched': lambda: one_cycle, 'history': lambda: trained().lr_history, 'arms': lambda: {'a': PLAN}, 'seeds': lambda: (0,), 'ax': lambda: Figure().add_subplot(), 'fig': Figure,
        **{(f, a): v for f,of in dict(
            ContinueStudy=dict(runs=lambda: runs(), shares=dict), UnfreezeStudy=dict(runs=lambda: runs(), still=tuple, first=lambda: 1, remedies=dict), Runs=dict(runs=lambda: list(runs()), arms=lambda: dict(a='', b='')), Schedule=dict(kind=lambda: 'constant', args=lambda: dict(lr=1e-3)),
            Phase=dict(sched=lambda: one_cycle(1e-3)), clip=dict(sched=lambda: one_cycle(1e-3)), scale=dict(sched=lambda: one_cycle(1e-3)), join=dict(scheds=lambda: [one_cycle(1e-3)]), cyclical=dict(lr_min=lambda: 1e-5, n_cycles=lambda: 2, num_it=lambda: 40), one_cycle=dict(num_it=lambda: 40),
            decaying_cycles_plan=dict(cycles=lambda: [(2, 1e-3)]), freeze_diff=dict(before=lambda: freeze_report(trained()), after=lambda: freeze_report(trained())), plot_groups=dict(report=lambda: freeze_report(trained())), plot_probe=dict(runs=lambda: OBJECTS['ProbeRuns']()),
            plot_runs=dict(runs=lambda: runs()), plot_study=dict(study=lambda: study()), from_torch=dict(make_scheduler=lambda: lambda o: torch.optim.lr_scheduler.StepLR(o, 5), n_iter=lambda: 8), from_everydream=dict(config=lambda: dict(lr=1e-3), n_iter=lambda: 8),
            to_torch=dict(sched=lambda: one_cycle(1e-3), optimizer=lambda: torch.optim.SGD(NET.parameters(), lr=1.), n_iter=lambda: 8), continue_plan=dict(strategy=lambda: 'again'), compare=dict(learn_or_factory=trained), unfreeze_study=dict(learn=lambda: frozen()), unfreeze_at_once_study=dict(learn=lambda: frozen())).items() for a,v in of.items()},
        **{(f, 'seeds'): lambda: (0,) for f in ('compare', 'unfreeze_study', 'unfreeze_at_once_study', 'continue_study')}, ('continue_study', 'strategies'): lambda: ['again'], ('unfreeze_study', 'arms'): lambda: ['as asked'],
        ('Snapshot.save', 'path'): lambda: 'kept.pt', 'arm': lambda: 'a', 'to': lambda: 'b',
        'fs': lambda: [np.ones(3)], 'start': lambda: (0, 0), 'end': lambda: (0, 1), 'lrs': lambda: [1e-3], 'lr': lambda: 1e-3, 'lr_max': lambda: 1e-3, 'base_lr': lambda: 1e-3, 'progress': lambda: False, 'num_it': lambda: 4, 'n_epoch': lambda: 1, 'path': lambda: '/nowhere/at/all'}

@functools.cache
def frozen():
    learn = learner()
    learn.freeze()
    fit_plan(learn, PLAN)
    return learn

@functools.cache
def study(): return UnfreezeStudy(Runs([r for r in runs() if r.arm=='a'], {'a': ''}), [r for r in runs() if r.arm=='b'], 1, {})

@functools.cache
def runs(): return compare(learner(), {'a': PLAN, 'b': Phase(constant(1e-3), 1)}, seeds=(0, 1), progress=False)
OBJECTS = dict(LRCurve=curve, GroupCurves=lambda: GroupCurves([curve()]), ProbeRuns=lambda: probe(learner(), [1e-3], num_it=2, progress=False), Schedule=lambda: one_cycle(1e-3), Phase=lambda: PLAN[0], Plan=lambda: PLAN, LRHistory=lambda: trained().lr_history, Runs=runs,
               FreezeReport=lambda: freeze_report(trained()), Snapshot=lambda: Snapshot(learner()), LRPicker=lambda: LRPicker(curve()), FreezePanel=lambda: FreezePanel(learner()), SchedulePreview=lambda: SchedulePreview(PLAN, n_iter=10))
FEW = {'compare': 25, 'unfreeze': 8, 'continue_study': 8, 'LRPicker': 12, 'FreezePanel': 12, 'SchedulePreview': 12, 'LiveSchedule': 12, 'plot': 25} # calls of what is slow to make
EVENTS = {'press', 'drag', 'hover', 'key', 'plot', 'size_in'} # of widgets: told by the page and by the box, not by users
CALLED = {'progress', 'sched', 'make_scheduler', 'learn_or_factory'} # a function that fails does so in its own words
NOT = {'preserved', 'Recording', 'LiveSchedule'} # a context; callbacks of fastai, whose arguments go to it

def module(f): return (getattr(f, '__module__', '') or '').rpartition('.')[2]

def targets():
    "(name, module, how to get the callable, its parameters) of all public functions, classes and methods"
    for name in sorted(lrtools.all.__all__):
        o = getattr(lrtools.all, name)
        if name in NOT or not callable(o): continue
        if not (isinstance(o, type) and name in ('Recording',)): yield name,module(o),(lambda o=o: o),parameters(o)
        if not isinstance(o, type): continue
        for k,m in sorted(vars(o).items()):
            raw = m.__func__ if isinstance(m, (classmethod, staticmethod)) else m
            if k in EVENTS or k.startswith('_') and k!='__call__' or not inspect.isfunction(raw) or not module(raw) in MODULES: continue
            ps = parameters(raw)[0 if isinstance(m, staticmethod) else 1:]
            if not ps: continue
            if isinstance(m, classmethod): yield f'{name}.{k}',module(raw),(lambda o=o, k=k: getattr(o, k)),ps
            elif name in OBJECTS: yield f'{name}.{k}',module(raw),(lambda name=name, k=k: getattr(OBJECTS[name](), k)),ps

MODULES = {p.rpartition('.')[2] for p in sys.modules if p.startswith('lrtools.')}
def parameters(f): return [p for p in inspect.signature(f).parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]

def usual(name, p):
    "A value of this parameter that is right, as far as one can know"
    if (name, p.name) in GOOD: return GOOD[name, p.name]()
    if p.name in GOOD: return GOOD[p.name]()
    return p.default if p.default is not p.empty else 1

# ---------------------------------------------------------------- one call, and what is wrong with how it ends

class Endless(BaseException): pass
def endless(*_): raise Endless()

def judged(f, args, names):
    "What is wrong with how `f(**args)` refuses (or None), where each of `names` was given something bad"
    old = signal.signal(signal.SIGALRM, endless)
    signal.alarm(SECONDS)
    try: f(**args)
    except (ValueError, TypeError) as e: return text_faults(str(e), names)
    except Endless: return 'runs without end'
    except (KeyboardInterrupt, SystemExit): raise
    except BaseException as e: return f'{type(e).__name__}: {str(e)[:80]}'
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)

def text_faults(text, names):
    if len(text)>LONGEST: return f'{len(text)} characters: {text[:60]}…'
    if '\n' in text: return f'has several lines: {text[:60]!r}'
    if not any(re.search(rf'\b{n}\b', text) for n in names): return f'does not name {" or ".join(names)}: {text[:110]}'

def faults(seed=0, only=(), most=MOST):
    "(function, argument, what was given, what is wrong) of many calls with one bad argument each"
    rng,res,n = random.Random(seed),[],0
    for name,mod,get,ps in targets():
        if only and mod not in only: continue
        few = next((v for k,v in FEW.items() if name.startswith(k)), most)
        pairs = [(p, k) for p in ps for k in BAD if not (p.name in CALLED and k in ('function', 'type', 'net')) and (p.name, k)!=('seeds', 'many')] # 100,000 seeds are many, and no fault
        for p,k in (pairs if few is None else rng.sample(pairs, min(few, len(pairs)))):
            try: args = {o.name: usual(name, o) for o in ps if o.default is o.empty or o.name=='progress' or (name, o.name) in GOOD or o.name=='num_it' and name not in ('one_cycle', 'cyclical')}
            except Exception as e: raise AssertionError(f'{name}: no good arguments ({e})') from e
            args[p.name] = BAD[k]()
            n += 1
            wrong = judged(get(), args, NAMES.get((name, p.name), [p.name]))
            if wrong: res.append((name, p.name, k, wrong))
    return res,n

NAMES = {('Schedule.__call__', 'pos'): ['pos']} # other words that name an argument

@pytest.fixture(autouse=True)
def one_thread(): torch.set_num_threads(1)

def test_bad_arguments_are_refused_in_a_short_sentence_that_names_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path) # a path is taken as it is
    wrong,n = faults()
    assert n>1500
    assert not wrong, '\n'.join(map(str, wrong[:40]))

def test_the_judge_sees():
    "Each fault is seen in a function that has it"
    def named(x): raise ValueError(f'x={x}: expected 1')
    def silent(x): raise ValueError('expected 1')
    def long(x): raise TypeError(f'x={list(range(999))}')
    def lines(x): raise TypeError('x\nis bad')
    def other(x): return {}['x']
    assert judged(named, dict(x=2), ['x']) is None
    for f,says in ((silent, 'does not name'), (long, 'characters'), (lines, 'several lines'), (other, 'KeyError')): assert says in judged(f, dict(x=2), ['x'])

# ---------------------------------------------------------------- JSON that was damaged

def damaged(text, rng):
    "A JSON text with one thing wrong"
    d = json.loads(text)
    spots,todo = [],[d]
    while todo:
        o = todo.pop()
        for k,v in (o.items() if isinstance(o, dict) else enumerate(o)):
            spots.append((o, k))
            if isinstance(v, (dict, list)): todo.append(v)
    o,k = rng.choice(spots)
    how = rng.choice(['drop', 'other', 'extra', 'cut'])
    if how=='drop': del o[k]
    elif how=='other': o[k] = rng.choice([None, 'x', -1, [], {}, [[1]], True, 1e400, 'nan', {'slice': 3}])
    elif how=='extra' and isinstance(o, dict): o['extra'] = 1
    s = json.dumps(d)
    return s[:rng.randrange(len(s))] if how=='cut' else s

RECORDS = dict(LRCurve=curve, GroupCurves=lambda: GroupCurves([curve()]), ProbeRuns=lambda: probe(learner(), [1e-3, slice(1e-3), [1e-3, 1e-4]], num_it=2, progress=False))
@pytest.mark.parametrize('kind', RECORDS)
def test_damaged_json_is_refused_or_whole(kind):
    "Either a sentence, or a record that can be shown and written again"
    record,rng,wrong = RECORDS[kind](),random.Random(1),[]
    for _ in range(250):
        s = damaged(record.to_json(), rng)
        try: back = type(record).from_json(s)
        except (ValueError, TypeError) as e: wrong += [o for o in [text_faults(str(e), [''])] if o]; continue
        except Exception as e: wrong.append(f'{type(e).__name__}: {e} {s[:100]}'); continue
        try: repr(back); back._repr_markdown_(); back.to_json()
        except Exception as e: wrong.append(f'accepted, then {type(e).__name__}: {str(e)[:100]}')
    assert not wrong, '\n'.join(map(str, wrong[:30]))

if __name__=='__main__':
    start = time.perf_counter()
    found,n = faults(only=sys.argv[1:], most=None)
    for o in found: print(*o, sep=' | ')
    print(f'{len(found)} of {n} calls in {time.perf_counter()-start:.0f} s;', Counter(next((m for name,m,*_ in targets() if name==o[0]), '?') for o in found))
