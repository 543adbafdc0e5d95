"Advice is tested by taking it: each line of code in a sentence of lrtools is run in the state in which it is advised"
import ast, inspect
from pathlib import Path
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn
from fastai.basics import Callback, Learner, MSELossFlat, OptimWrapper, SGD
import fastai.callback.schedule # gives learners their fits

import lrtools.all as lrtools
from advice import advices, codes, is_said, take
from curves import curve
from learners import deep, quiet, rows
from lrtools.curve import LRCurve, Sweep

SKIPPED = {"__main__.py"} # `pip install` is for a shell

SCENARIOS = {}

def scenario(f):
    "A test that provokes sentences with advice, and takes it: a function of a folder that yields each text once it was taken"
    SCENARIOS[f.__name__] = f
    return f

def names(**kw):
    "What a user has in a notebook after `from fastai.basics import *` and `from lrtools.all import *`"
    import fastai.basics
    return {**vars(fastai.basics), **{k: getattr(lrtools, k) for k in lrtools._all_}, 'torch': torch, **kw}

def refused(f, *args, **kw):
    "The message of the ValueError or TypeError with which `f` refuses"
    with pytest.raises((ValueError, TypeError)) as e: f(*args, **kw)
    return str(e.value)

def still(learn):
    "`learn`, without bars and logs whatever a line of advice runs"
    from fastai.callback.progress import ProgressCallback
    learn.remove_cbs([cb for cb in learn.cbs if isinstance(cb, ProgressCallback)])
    learn.logger = lambda *a: None
    return learn

QUICK = dict(num_it=8, progress=False)

# ---------------------------------------------------------------- learners

@scenario
def all_frozen_by_hand_and_no_optimizer(tmp):
    for f in (lambda l: lrtools.lr_range_test(l, **QUICK), lambda l: lrtools.freeze_to(l, 0), lambda l: lrtools.preview_freeze(l, 0), lambda l: lrtools.freeze_report(l, measure=True)):
        learn = still(Learner(rows(tmp), nn.Linear(4, 1), MSELossFlat(), path=tmp)) # fastai's own splitter takes what trains
        learn.model.requires_grad_(False)
        text = refused(f, learn)
        take(text, names(learn=learn))
        f(learn)
        assert all(p.requires_grad for p in learn.model.parameters())
        yield text

@scenario
def all_frozen_and_trained(tmp):
    learn = quiet(still(deep(tmp)))
    learn.model.requires_grad_(False)
    text = refused(lrtools.lr_range_test, learn, **QUICK)
    take(text, names(learn=learn))
    assert len(lrtools.lr_range_test(learn, **QUICK))==8
    yield text

def lazy(tmp): return still(Learner(rows(tmp), nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 1)), MSELossFlat(), path=tmp))

@scenario
def parameters_without_a_shape(tmp):
    for f in (lambda l: lrtools.lr_range_test(l, **QUICK), lambda l: lrtools.freeze_to(l, 0)):
        learn = lazy(tmp)
        text = refused(f, learn)
        take(text, names(learn=learn))
        f(learn)
        yield text

def left_over(tmp):
    "A learner whose first group was trained and is frozen now, with its gradient"
    learn = quiet(still(deep(tmp, wd=.1)))
    learn.freeze()
    for p in learn.model[0].parameters(): p.grad = torch.ones_like(p)
    return learn

@scenario
def gradients_left_over_in_frozen_weights(tmp):
    learn = left_over(tmp)
    text = repr(lrtools.freeze_report(learn))
    take(text, names(learn=learn))
    assert 'left over' not in repr(lrtools.freeze_report(learn))
    yield text

@scenario
def gradients_left_over_in_weights_frozen_by_hand(tmp):
    learn = left_over(tmp)
    learn.model[-1].weight.requires_grad_(False)
    text = repr(lrtools.freeze_report(learn))
    for p in learn.model.parameters():
        if not p.requires_grad: take(text, names(p=p, learn=learn))
    assert 'left over' not in repr(lrtools.freeze_report(learn))
    yield text

@scenario
def a_report_of_nothing_that_trains(tmp):
    learn = still(Learner(rows(tmp), nn.Linear(4, 1), MSELossFlat(), path=tmp))
    learn.model.requires_grad_(False)
    text = repr(lrtools.freeze_report(learn))
    take(text, names(learn=learn))
    assert lrtools.freeze_report(learn).n_trainable==5
    yield text

@scenario
def an_optimizer_that_was_made_before(tmp):
    "A given one, whose memory the next fit would clear: what keeps it is run, and the fit goes on with it"
    for by_hand in (False, True):
        model = deep(tmp).model
        opt = torch.optim.Adam(model.parameters(), lr=1e-3)
        model(torch.randn(4, 4)).sum().backward()
        opt.step()
        learn = still(Learner(rows(tmp), model, MSELossFlat(), opt_func=OptimWrapper(opt=opt), path=tmp))
        if by_hand: learn.model[1][0].bias.requires_grad_(False)
        text = next(line for line in repr(lrtools.freeze_report(learn)).splitlines() if 'made before' in line)
        take(text, names(learn=learn))
        assert learn.opt is not None and len(opt.state)
        yield text

def without_a_target():
    "Its loader takes both parts for inputs, which its model can do without"
    from test_learner import all_inputs
    learn = all_inputs()
    net = learn.model.net
    net.forward = lambda x, y=None: nn.Sequential.forward(net, x)
    learn.model = net
    return learn

@scenario
def learners_that_cannot_train(tmp):
    from test_learner import CANNOT, STILL, toy
    kinds = {k: (CANNOT|STILL)[k][0] for k in ('loss_items','all_frozen','other_model','iterator','no_items','closure','no_loss')}
    for kind,make in {**kinds, 'no_target': without_a_target}.items():
        learn = make()
        text = refused(lrtools.lr_range_test, learn, **QUICK)
        take(text, names(learn=learn, dls=toy().dls))
        if kind=='iterator': learn.dls.train.n = 40 # as many as there are
        assert len(lrtools.lr_range_test(learn, **QUICK))==8, kind
        yield text

@scenario
def a_learner_without_data(tmp):
    from test_learner import toy
    learn,dls = toy(),toy().dls
    learn.dls = None
    text = refused(lrtools.lr_range_test, learn, **QUICK)
    take(text, names(learn=learn, dls=dls))
    assert len(lrtools.lr_range_test(learn, **QUICK))==8
    yield text

@scenario
def a_model_without_numbers(tmp):
    from test_learner import toy
    learn,weights = toy(),toy().model.state_dict()
    learn.model.to('meta')
    text = refused(lrtools.lr_range_test, learn, **QUICK)
    take(text, names(learn=learn))
    learn.model.load_state_dict(weights)
    assert len(lrtools.lr_range_test(learn, **QUICK))==8
    yield text

@scenario
def a_given_optimizer_of_another_model(tmp):
    from test_learner import net, toy
    learn = toy(opt_func=OptimWrapper(opt=torch.optim.Adam(net().parameters())))
    learn.create_opt()
    text = refused(lrtools.lr_range_test, learn, **QUICK)
    learn.opt_func,learn.opt = OptimWrapper(opt=torch.optim.Adam(eval(codes(text)[0], names(learn=learn)))),None
    assert len(lrtools.lr_range_test(learn, **QUICK))==8
    yield text

# ---------------------------------------------------------------- precompute

@scenario
def what_is_different_in_a_precomputed_learner(tmp):
    learn = still(deep(tmp))
    learn.freeze()
    notes = lrtools.precompute(learn, progress=lambda *a: None).notes
    text = next(n for n in notes if 'hold' in n)
    take(text, names(learn=learn))
    again = lrtools.precompute(learn, progress=lambda *a: None).notes
    assert not any('would move' in n for n in again)
    yield text

@scenario
def a_body_whose_buffers_would_move(tmp):
    learn = still(deep(tmp))
    nn.utils.spectral_norm(learn.model[0][0])
    learn.freeze()
    text = next(n for n in lrtools.precompute(learn, progress=lambda *a: None).notes if 'buffers' in n)
    take(text, names(learn=learn))
    assert not any('buffers' in n for n in lrtools.precompute(learn, progress=lambda *a: None).notes)
    yield text

@scenario
def a_body_that_would_train(tmp):
    learn = still(deep(tmp))
    text = next(n for n in lrtools.precompute(learn, progress=lambda *a: None).notes if 'would train' in n)
    take(text, names(learn=learn))
    assert not any('would train' in n for n in lrtools.precompute(learn, progress=lambda *a: None).notes)
    yield text

@scenario
def a_frozen_head(tmp):
    learn = still(deep(tmp))
    lrtools.freeze_to(learn, 4)
    text = refused(lrtools.precompute, learn)
    take(text, names(learn=learn))
    assert lrtools.precompute(learn, progress=lambda *a: None).notes
    yield text

# ---------------------------------------------------------------- schedules, plans, records

@scenario
def a_slice_of_rates_for_unknown_groups(tmp):
    sched = lrtools.one_cycle(slice(1e-5, 1e-3))
    text = refused(sched, .5)
    take(text, names(sched=sched))
    assert len(sched.for_groups(3)(.5))==3
    yield text

@scenario
def a_learner_without_a_record(tmp):
    learn = quiet(still(deep(tmp)))
    text = refused(lrtools.continue_study, learn, 1)
    take(text, names(learn=learn))
    quiet(learn)
    assert lrtools.continue_plan(learn.lr_history, 'decay_only', 1)
    yield text

@scenario
def a_record_without_steps(tmp):
    learn = still(deep(tmp))
    history = lrtools.record(learn)
    text = refused(lrtools.continue_plan, history, 'decay_only', 1)
    take(text, names(learn=learn))
    quiet(learn)
    assert lrtools.continue_plan(learn.lr_history, 'decay_only', 1)
    yield text

@scenario
def a_study_that_lacks_the_learner_before(tmp):
    learn = still(deep(tmp))
    path = lrtools.Snapshot(learn, 'before').save(tmp/'before.pt')
    lrtools.record(learn)
    quiet(learn)
    run = lambda **kw: lrtools.continue_study(learn, 1, ['from_scratch_longer', 'decay_only'], seeds=[0], clip=None, progress=False, **kw)
    got = {}
    texts = [refused(run, untrained=5), next(n for n in run().runs.notes if 'left out' in n)]
    for text in texts:
        take(text, names(path=path, again=lambda **kw: got.update(kw)))
        yield text
    assert 'from_scratch_longer' in run(**got).runs.arms

@scenario
def a_plan_that_was_interrupted(tmp):
    class Stop(Callback):
        def after_epoch(self):
            if self.epoch==1: raise KeyboardInterrupt
    plan,learn,said = lrtools.Plan([lrtools.Phase(lrtools.constant(1e-3), 1), lrtools.Phase(lrtools.constant(1e-3), 3)]),still(deep(tmp)),[]
    with pytest.MonkeyPatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr('builtins.print', lambda *a, **kw: said.append(' '.join(map(str, a))))
        lrtools.fit_plan(learn, plan, cbs=Stop())
    take(said[-1], names(learn=learn, plan=plan))
    assert [len(f.epochs) for f in learn.lr_history]==[1, 1, 2]
    yield said[-1]

@scenario
def a_plan_that_was_interrupted_between_its_phases(tmp):
    class Stop(Callback):
        order = 5000
        def after_fit(self): raise KeyboardInterrupt
    plan,learn,said = lrtools.Plan([lrtools.Phase(lrtools.constant(1e-3), 1), lrtools.Phase(lrtools.constant(1e-3), 2)]),still(deep(tmp)),[]
    with pytest.MonkeyPatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr('builtins.print', lambda *a, **kw: said.append(' '.join(map(str, a))))
        lrtools.fit_plan(learn, plan, cbs=Stop())
    take(said[-1], names(learn=learn, plan=plan))
    assert sum(len(f.epochs) for f in learn.lr_history)==3
    yield said[-1]

@scenario
def a_history_without_a_fit(tmp):
    learn = still(deep(tmp))
    text = lrtools.LRHistory()._repr_markdown_()
    take(text, names(learn=learn))
    quiet(learn)
    assert learn.lr_history.n_steps
    yield text

@scenario
def schedulers_without_a_curve(tmp):
    from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
    learn = still(deep(tmp))
    text = refused(lrtools.from_torch, ReduceLROnPlateau, 20)
    take(text, names(learn=learn))
    quiet(learn)
    assert learn.lr_history.n_steps
    yield text
    text = refused(lrtools.from_torch, lambda opt: StepLR(torch.optim.SGD([nn.Parameter(torch.zeros(1))], .1), 5), 10)
    code = codes(text)[0].replace('...', '5')
    assert lrtools.from_torch(eval(code, names(StepLR=StepLR)), 10)
    yield text

@scenario
def more_steps_than_are_computed(tmp):
    text = refused(lrtools.from_torch, lambda opt: torch.optim.lr_scheduler.ConstantLR(opt), 2**70)
    take(text, names(sched=lrtools.one_cycle(1e-3), i=2**69, n_iter=2**70))
    yield text

# ---------------------------------------------------------------- comparisons

@scenario
def what_a_comparison_says_before_and_after(tmp):
    "The cost, with a way to make it less; after Ctrl-C, the way to keep what has finished"
    learn,said,runs = still(deep(tmp)),[],[]
    arms = {k: lrtools.Phase(lrtools.constant(v), 1) for k,v in dict(a=1e-3, b=2e-3).items()}
    with pytest.MonkeyPatch.context() as m:
        m.setattr('builtins.print', lambda *a, **kw: said.append(' '.join(map(str, a))))
        m.setattr('lrtools.compare.progress_bar', lambda *a, **kw: _Bar())
        m.setattr('lrtools.compare.master_bar', lambda *a, **kw: _Bar())
        lrtools.compare(learn, arms)
        cost = said[-1]
        with pytest.raises(KeyboardInterrupt): lrtools.compare(learn, arms, progress=_interrupt_at(2))
    for text in (cost, said[-1]):
        take(text, names(again=lambda **kw: runs.append(lrtools.compare(learn, arms, progress=False, **({'folder': tmp/kw['folder']} if 'folder' in kw else kw)))))
        yield text
    assert [len(r.seeds) for r in runs]==[1, 3] and any((tmp/'runs').iterdir())

class _Bar:
    last_v = None
    def update(self, i): pass

def _interrupt_at(n):
    def progress(done, planned):
        if done>=n: raise KeyboardInterrupt
    return progress

@scenario
def a_schedule_as_an_arm(tmp):
    learn = still(deep(tmp))
    text = refused(lrtools.compare, learn, {'a': lrtools.one_cycle(1e-3)})
    arm = eval(codes(text)[0], names())
    assert lrtools.compare(learn, {'a': arm}, seeds=[0], progress=False)['a'][0].status=='finished'
    yield text

@scenario
def a_schedule_that_is_not_what_is_asked(tmp):
    learn,got = quiet(still(deep(tmp))),[]
    for sched in (lrtools.one_cycle(1e-3), lrtools.constant([1e-3, 1e-3])):
        text = refused(lrtools.unfreeze_study, learn, 3e-3, sched=sched, progress=False)
        take(text, names(again=lambda **kw: got.append(lrtools.unfreeze_study(learn, 3e-3, arms=['a tenth'], seeds=[0], progress=False, **kw))))
        yield text
    assert len(got)==2

# ---------------------------------------------------------------- what widgets say

@scenario
def the_code_of_a_picker(tmp):
    learn = still(deep(tmp))
    lrtools.record(learn)
    pick = lrtools.LRPicker(curve(), n_epoch=1)
    for pick.lr in (7.6e-3, slice(1e-4, 3.3e-3)):
        exec(pick.code, names(learn=learn))
        assert learn.lr_history[-1].lrs[:,-1].max()==pytest.approx(pick.lr.stop if isinstance(pick.lr, slice) else pick.lr, rel=.2)
    yield pick.code

@scenario
def the_code_of_a_panel(tmp):
    learn = still(deep(tmp))
    panel = lrtools.FreezePanel(learn)
    panel.freeze_to,panel.norm = 2,'eval'
    exec(panel.code, names(learn=learn))
    assert lrtools.freeze_report(learn).freeze_to==2
    yield panel.code
    panel = lrtools.FreezePanel(learn)
    exec(panel._parts['title'].get_text().partition(',')[0], names(freeze_to=lambda n: lrtools.freeze_to(learn, n)))
    assert lrtools.freeze_report(learn).freeze_to==2
    yield panel._parts['title'].get_text()

@scenario
def the_code_of_a_preview(tmp):
    for plan,own in (([lrtools.Phase(lrtools.one_cycle(3.7e-3), 1)], {}), ([lrtools.Phase(lrtools.one_cycle(3.7e-3, pct_start=1/3), 1, freeze_to=-1), lrtools.Phase(lrtools.cyclical(1.3e-4, 2.9e-3, n_cycles=1), 1, freeze_to=0)], {}),
                     ([lrtools.Phase(lrtools.sampled(np.linspace(1e-3, 2.1e-3, 500).tolist()), 1)], {})):
        learn = still(deep(tmp))
        prev = lrtools.SchedulePreview(lrtools.Plan(plan), learn)
        exec(prev.code, names(learn=learn, prev=prev))
        top = max(f.lrs.max() for f in learn.lr_history)
        assert top==pytest.approx(max(np.max(p.sched(np.linspace(0, 1, 200))) for p in plan), rel=.2)
        yield prev.code

# ---------------------------------------------------------------- what a curve says

def flat(n=100, start=1e-7, end=10., level=1., noise=.01, stop='end'):
    rng,lrs = np.random.default_rng(0),np.geomspace(start, end, 100)[:n]
    return LRCurve([Sweep(lrs[:,None], level+rng.normal(0, noise, n), stop)], 100, [start], [end], opt='Adam', bs=64)

CURVES = dict(at_once=lambda: curve(blow=1e-6), few=lambda: flat(20), trained=lambda: curve(fall=0.), flat=lambda: curve(fall=0., blow=1e9, noise=.05), low=lambda: curve(centre=1e-9), falling=lambda: curve(centre=1., blow=1e9),
              nothing=lambda: flat(3), broken=lambda: flat(3, stop='diverged'), open=lambda: curve(noise=.9, seed=3))

@scenario
def what_a_curve_asks_for(tmp):
    "What `suggest` offers as a way out is a call of the range test, or of `probe`, that runs"
    learn,seen = still(deep(tmp)),[]
    for make in [*CURVES.values(), *(lambda s=s: curve(noise=.7, seed=s) for s in range(40)), *(lambda s=s: curve(fall=0., blow=1e9, seed=s) for s in range(20))]:
        text = lrtools.suggest(make()).reason
        if not codes(text): continue
        take(text, names(learn=learn, probe=lambda l, lrs: seen.append(lrtools.probe(l, lrs, num_it=2, progress=False)), again=lambda **kw: seen.append(lrtools.lr_range_test(learn, progress=False, **{'num_it': 10, **kw}))))
        yield text
    assert len(seen)>5

@scenario
def a_curve_that_leaves_its_place_open(tmp):
    "What is offered for a curve of two sweeps that contradict each other"
    learn,texts = still(deep(tmp)),[]
    for seed in range(60):
        a,b = curve(noise=.5, seed=seed, centre=1e-5, blow=1e3),curve(noise=.5, seed=seed+100, centre=1e-1, blow=1e3)
        text = lrtools.suggest(LRCurve([*a.sweeps, *b.sweeps], 100, [1e-7], [10.], opt='Adam', bs=64)).reason
        if codes(text) and 'open' in text: texts.append(text)
    for text in texts[:1]:
        take(text, names(learn=learn, again=lambda **kw: lrtools.lr_range_test(learn, **QUICK, **kw)))
        yield text

# ---------------------------------------------------------------- what was meant

@scenario
def numbers_instead_of_a_curve(tmp):
    lrs,losses = np.geomspace(1e-5, 1, 40),np.linspace(2, 1, 40)
    for f in (lambda: lrtools.suggest(losses), lambda: LRCurve([losses], 40, [1e-5], [1.]), lambda: LRCurve([Sweep(lrs, losses)], 40, [1e-5], [1.])):
        text = refused(f)
        assert len(eval(codes(text)[-1], names(LRCurve=LRCurve, lrs=lrs, losses=losses)))==40
        yield text
    pair = lrtools.GroupCurves([curve(), curve()])
    assert lrtools.suggest(pair[0]).reason # `curves[0]`

@scenario
def what_is_no_axes(tmp):
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    learn = still(deep(tmp))
    runs = lrtools.compare(learn, {'a': lrtools.Phase(lrtools.constant(1e-3), 1)}, seeds=[0], progress=False)
    for f in (lambda ax: lrtools.plot_lr_curve(curve(), ax), lambda ax: lrtools.plot_runs(runs, ax=ax)):
        text = refused(f, 5)
        for code in codes(text): f(eval(code, names(Figure=Figure, plt=plt)))
        plt.close('all')
        yield text

@scenario
def a_learner_instead_of_its_report(tmp):
    learn = still(deep(tmp))
    text = refused(lrtools.freeze_diff, learn, learn)
    ns = names(learn=learn, report=None)
    exec(f'report = {codes(text)[0]}', ns)
    assert lrtools.freeze_diff(ns['report'], ns['report']).sentences==()
    yield text

@scenario
def rates_for_a_probe_in_one_text(tmp):
    text = refused(lrtools.probe, still(deep(tmp)), '1e-3')
    assert len(lrtools.probe(still(deep(tmp)), eval(codes(text)[0]), num_it=2, progress=False).groups)==2
    yield text

@scenario
def a_report_without_groups(tmp):
    from lrtools.groups import frozen_to
    learn = still(Learner(rows(tmp), nn.Linear(4, 1), MSELossFlat(), path=tmp))
    learn.model.requires_grad_(False)
    text = refused(frozen_to, lrtools.freeze_report(learn), 0)
    take(text, names(learn=learn))
    assert frozen_to(lrtools.freeze_report(learn), 0).freeze_to==0
    yield text

# ---------------------------------------------------------------- spikes

@scenario
def a_study_of_a_learner_that_was_never_trained(tmp):
    learn = still(deep(tmp))
    text = refused(lrtools.unfreeze_study, learn, 1e-3)
    take(text, names(learn=learn))
    study = lrtools.unfreeze_study(learn, 1e-3, arms=['memory kept', 'warm-up', 'all remedies'], seeds=[0], progress=False)
    yield text
    for name,line in study.remedies.items():
        other = quiet(still(deep(tmp)))
        lrtools.record(other)
        take(line, names(learn=other))
        assert other.lr_history[-1].stop=='end'
        yield line
    for text in study.verdict:
        if codes(text): take(text, names(learn=quiet(still(deep(tmp))))); yield text

@scenario
def what_avoids_the_causes_of_a_spike(tmp):
    "Each finding of a preflight, of learners that are made to have it"
    def frozen(norm='as is', **kw):
        learn = still(deep(tmp, **kw))
        lrtools.record(learn)
        lrtools.freeze_to(learn, -1, norm=norm)
        learn.fit_one_cycle(1, 1e-3)
        return learn
    makers = [frozen, lambda: frozen('eval'), lambda: frozen(wd=1e-3), lambda: frozen(opt_func=SGD)]
    asked = [dict(sched_or_lr=3e-3, freeze_to=0), dict(sched_or_lr=.1), dict(sched_or_lr=lrtools.one_cycle(.02)), dict(sched_or_lr=1e-3, freeze_to=0, norm='train'), dict(sched_or_lr=1e-3, wd=.5)]
    causes = set()
    for make in makers:
        for kw in asked:
            for i,f in enumerate(lrtools.preflight(make(), **kw)):
                learn = make()
                take(f'`{f.avoid}`', names(learn=learn))
                if f.avoid.startswith('learn'): assert learn.lr_history[-1].stop=='end'
                causes.add(f.cause)
                yield f.avoid
    assert len(causes)>4, causes

# ---------------------------------------------------------------- all of it

FILES = sorted(p for p in (Path(lrtools.__file__).parent).glob('*.py') if p.name not in ('_modidx.py', 'all.py', *SKIPPED))

@cache
def said(name, tmp):
    "The sentences of one scenario, each after its advice was taken, and what went wrong"
    folder,texts = tmp/name,[]
    folder.mkdir()
    try: texts.extend(SCENARIOS[name](folder))
    except BaseException as e: return texts,e
    return texts,None

@pytest.fixture(scope='module')
def tmp(tmp_path_factory): return tmp_path_factory.mktemp('advice')

@pytest.mark.parametrize('name', SCENARIOS)
def test_advice_works_where_it_is_given(name, tmp):
    texts,error = said(name, tmp)
    if error is not None: raise error
    assert texts

@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_every_advice_is_taken_somewhere(path, tmp):
    texts = [t for name in SCENARIOS for t in said(name, tmp)[0]]
    left = [f'{a.where}: {a.codes}' for a in advices(path)[0] if not any(is_said(a, t) for t in texts)]
    assert not left, '\n'.join(left)

# ---------------------------------------------------------------- docstrings

def called(code):
    "`(name, number of arguments, names of the others)` of each call in `code`; an ellipsis stands for any"
    for n in ast.walk(ast.parse(code)):
        if isinstance(n, ast.Call): yield ast.unparse(n.func), [a for a in n.args if not (isinstance(a, ast.Constant) and a.value is Ellipsis)], [k.arg for k in n.keywords]

def known(name, ns):
    "The function that a docstring means: of the notebook's names, or a method of something of ours"
    try: return eval(name, ns)
    except (NameError, AttributeError): pass
    owners = [o for o in ns.values() if isinstance(o, type) and (o.__module__ or '').startswith('lrtools')]
    return next((getattr(o, name) for o in owners if hasattr(o, name)), None)

OTHERS = {'model.train': nn.Module.train, 'train': nn.Module.train, 'ExponentialLR': torch.optim.lr_scheduler.ExponentialLR, 'sched': lrtools.Schedule.__call__, 'repr': None, 'int': None,
          'fit_line': lambda rates, wd: '', 'freeze_line': lambda options: ''} # methods of torch, and functions that are given

@pytest.mark.parametrize('path', FILES, ids=lambda p: p.stem)
def test_code_in_docstrings_fits_what_is_there(path, tmp):
    ns = names(learn=still(deep(tmp)))
    for a in advices(path)[1]:
        for code in a.codes:
            for name,args,keys in called(code):
                f = OTHERS[name] if name in OTHERS else known(name, ns)
                if f is None and name in OTHERS: continue
                assert f is not None, f'{a.where}: `{code}`: there is no {name}'
                takes = inspect.signature(f)
                extra = 1 if next(iter(takes.parameters), '')=='self' else 0
                takes.bind_partial(*[None]*(extra+len(args)), **dict.fromkeys(keys))
