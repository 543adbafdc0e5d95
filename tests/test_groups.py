"`preflight` and what it prints: the optimizer that is there, sweeps that are no fits, plans, groups that rest, names that are markup, arguments that are wrong"
import random
from functools import partial

import numpy as np, pytest, torch, torch.nn.functional as F
from torch import nn
from fastai.basics import Adam, DataLoaders, L, Learner, MSELossFlat, OptimWrapper, SGD, params, trainable_params
from fastai.callback.schedule import combined_cos
import fastai.callback.schedule # gives learners their fits

from learners import Boom, deep, plain, quiet, rows
from state import changes, state
from lrtools.freezing import _Frozen, freeze_report, freeze_to, preflight, preview_freeze
from lrtools.groups import FreezeReport, fitted, forgotten, freeze_diff, frozen_to, spike_risks, taken
from lrtools.plan import Phase, Plan
from lrtools.precompute import precompute
from lrtools.schedule import Schedule, constant, one_cycle
from lrtools.snapshot import preserved

def causes(found): return [f.cause for f in found]

# ---------------------------------------------------------------- an optimizer made before the learner

MADE = dict(adamw=partial(torch.optim.AdamW, lr=2e-2), adam=partial(torch.optim.Adam, lr=2e-2), amsgrad=partial(torch.optim.Adam, lr=2e-2, amsgrad=True), momentum=partial(torch.optim.SGD, lr=2e-2, momentum=.9), rmsprop=partial(torch.optim.RMSprop, lr=2e-2), adagrad=partial(torch.optim.Adagrad, lr=2e-2),
            nadam=partial(torch.optim.NAdam, lr=2e-2), sgd=partial(torch.optim.SGD, lr=2e-2))

def own_loop(path, made='adamw', steps=37, last=5.3e-6, n_groups=2):
    "A model trained in a loop of one's own that cooled down, and a learner that is given its optimizer"
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    groups = [[*model[0].parameters()], [*model[2].parameters()]] if n_groups==2 else [[*model.parameters()]]
    opt = MADE[made]([dict(params=ps) for ps in groups])
    x = torch.randn(296, 4)
    for i in range(steps):
        for g in opt.param_groups: g['lr'] = 2e-2*(last/2e-2)**(i/(steps-1))
        F.mse_loss(model(x[i*8:i*8+8]), x[i*8:i*8+8,:1]).backward()
        opt.step()
        opt.zero_grad()
    return Learner(rows(path), model, MSELossFlat(), opt_func=OptimWrapper(opt=opt), path=path)

@pytest.mark.parametrize('made', MADE)
def test_an_optimizer_that_was_given_is_read_as_it_is(made, tmp_path):
    learn = own_loop(tmp_path, made)
    before,r = state(learn),freeze_report(learn)
    assert r.given and not r.created and r.n_steps==0 and r.top_lr==()
    assert [g.lr for g in r.groups]==pytest.approx([5.3e-6]*2)
    keeps = made!='sgd'
    assert [g.memory for g in r.groups]==['present' if keeps else 'none kept']*2
    assert r.last_lr==(pytest.approx((5.3e-6, 5.3e-6)) if keeps else ())
    if keeps and made!='momentum': assert [g.steps for g in r.groups]==[37]*2
    assert ('clears its memory' in repr(r))==keeps and ('37 steps' in repr(r))==(keeps and made!='momentum')
    found = preflight(learn, 2e-2)
    assert ('rate jump' in causes(found))==keeps and ('optimizer memory' in causes(found))==(made not in ('sgd','momentum'))
    assert not changes(before, state(learn))

def test_what_the_fit_does_to_a_given_optimizer_is_true(tmp_path):
    learn = own_loop(tmp_path)
    assert freeze_report(learn).n_params and taken(freeze_report(learn)).groups[0].memory=='empty'
    with preserved(learn):
        quiet(learn)
        assert [g.steps for g in freeze_report(learn).groups]==[5]*2 # as the fit alone
    found = preflight(learn, 2e-2)
    line = next(f.avoid for f in found if f.cause=='optimizer memory')
    assert line=='freeze_to(learn, 0, keep_state=True)' and any('when the fit takes the optimizer' in f.what for f in found)
    with preserved(learn):
        exec(line, dict(learn=learn, freeze_to=freeze_to))
        assert causes(preflight(learn, 2e-2))==['rate jump'] and freeze_report(learn).last_lr==pytest.approx((5.3e-6, 5.3e-6))
        quiet(learn)
        assert [g.steps for g in freeze_report(learn).groups]==[42]*2

def test_the_line_keeps_what_was_frozen_by_hand(tmp_path):
    learn = own_loop(tmp_path)
    learn.model[2].bias.requires_grad_(False)
    line = next(f.avoid for f in preflight(learn, 2e-2) if f.cause=='optimizer memory')
    exec(line, dict(learn=learn))
    assert line in repr(freeze_report(own_loop(tmp_path)))+'learn.opt = learn.opt_func' and not learn.model[2].bias.requires_grad
    quiet(learn)
    assert freeze_report(learn).groups[0].steps==42

def test_a_given_optimizer_survives_freezing_and_its_undo(tmp_path):
    for keep in (False, True):
        learn = own_loop(tmp_path)
        before = state(learn)
        p = preview_freeze(learn, 1, keep)
        undo = _Frozen(learn, 1, keep)
        now = freeze_report(learn)
        assert now.groups==p.after.groups and [g.memory for g in now.groups]==['present' if keep else 'empty']*2
        assert undo.restore()
        assert not changes(before, state(learn))

def test_a_given_optimizer_at_its_own_rate_is_no_jump(tmp_path):
    learn = own_loop(tmp_path)
    assert 'rate jump' not in causes(preflight(learn, 1e-5)) and 'climbs to' in repr(preflight(learn, one_cycle(2e-2)))

def test_an_optimizer_that_was_loaded_is_read_as_it_is(tmp_path):
    "Memory without a record: `learn.load` in a new process"
    a = deep(tmp_path, 3)
    with a.no_bar(), a.no_logging(): a.fit_one_cycle(4, 1e-2)
    a.save('trained', with_opt=True)
    b = deep(tmp_path, 3)
    b.load('trained', with_opt=True)
    r = freeze_report(b)
    assert r.n_steps==0 and r.last_lr==pytest.approx(freeze_report(a).last_lr)
    assert 'rate jump' in causes(preflight(b, 1e-2)) and 'highest ones before are not known' in preflight(b, 1e-2).note

# ---------------------------------------------------------------- a sweep that broke off

class Breaks(nn.Module):
    "A loss that raises after `n` batches"
    def __init__(self, n):
        super().__init__()
        self.n,self.left = n,n
    def forward(self, p, y):
        self.left -= 1
        if self.left<0: raise Boom('negative')
        return F.mse_loss(p, y)

@pytest.mark.parametrize('start', [1e-7, 3.7e-5])
@pytest.mark.parametrize('n', [1, 2, 3, 4, 9])
def test_a_sweep_that_broke_off_is_no_fit(n, start, tmp_path):
    learn = plain(tmp_path)
    learn.loss_func = Breaks(n)
    with pytest.raises((Boom, IndexError)), learn.no_bar(): learn.lr_find(start_lr=start)
    assert learn.recorder.lrs and freeze_report(learn).n_steps==0 and freeze_report(learn).last_lr==()
    found = preflight(learn, 1e-3)
    assert 'rate jump' not in causes(found) and 'fit_one_cycle(1, 1e-7)' not in repr(found) and 'No fit is recorded' in found.note

def test_short_fits_are_fits(tmp_path):
    for n,steps in ((8, 1), (16, 2), (24, 3)):
        learn = Learner(rows(tmp_path, n=n), nn.Linear(4, 1), MSELossFlat(), path=tmp_path)
        quiet(learn, 1, 2e-3)
        assert freeze_report(learn).n_steps==steps and freeze_report(learn).last_lr==pytest.approx((2e-3,))

def test_a_warm_up_that_broke_off_is_a_fit(tmp_path):
    learn = deep(tmp_path, 3)
    learn.loss_func = Breaks(4)
    with pytest.raises(Boom), learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(5, 1e-2)
    assert freeze_report(learn).n_steps==4

# ---------------------------------------------------------------- one name for one thing

@pytest.mark.parametrize('n', [0, 1, 2])
def test_preview_and_preflight_name_the_same_groups(n, tmp_path):
    learn = deep(tmp_path, 3, train_bn=False)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 1e-2)
    said = next(s for s in preview_freeze(learn, n).sentences if 'memory' in s)
    what = next(f.what for f in preflight(learn, 1e-2, freeze_to=n) if f.cause=='optimizer memory')
    assert 'all 3 groups' in said and 'memory of all 3 groups would be cleared' in what
    assert ('the fit begins' in what)==(n==0)

# ---------------------------------------------------------------- nothing trains

@pytest.mark.parametrize('kw', [{}, dict(opt_func=SGD), dict(opt_func=partial(OptimWrapper, opt=torch.optim.AdamW))], ids=['adam','sgd','torch'])
def test_advice_for_a_model_that_is_all_frozen_works_there(kw, tmp_path):
    learn = plain(tmp_path, splitter=trainable_params, **kw)
    learn.model.requires_grad_(False)
    before = state(learn)
    looks = [lambda: preflight(learn, 1e-2), lambda: preview_freeze(learn, 0), lambda: freeze_to(learn, 0), lambda: preflight(learn, Phase(one_cycle(1e-2), 1))]
    for f in looks:
        with pytest.raises(ValueError, match='requires_grad_') as e: f()
        assert 'unfreeze' not in str(e.value)
    said = repr(freeze_report(learn))
    assert 'No parameter is trainable' in said and '`learn.model.requires_grad_(True)`' in said and not changes(before, state(learn))
    exec(said.split('`')[1], dict(learn=learn))
    for f in looks: f()
    quiet(learn)

def test_a_fit_in_which_nothing_trains_is_told(tmp_path):
    learn = plain(tmp_path, train_bn=False)
    assert 'No parameter trains' in repr(preflight(learn, 1e-2, freeze_to=2)) and 'No parameter trains' not in repr(preflight(learn, 1e-2, freeze_to=1))

# ---------------------------------------------------------------- plans

def test_a_plan_is_looked_at_phase_by_phase(tmp_path):
    learn = deep(tmp_path, 3)
    plan = Plan([Phase(one_cycle(1e-2), 2, freeze_to=-1, name='head'), Phase(constant(1e-2), 2, freeze_to=0, name='all'), Phase(constant(.3), 1)])
    before,found = state(learn),preflight(learn, plan)
    assert not changes(before, state(learn))
    assert {(f.phase, f.cause) for f in found}=={("phase 1 ('all')", 'optimizer memory'), ("phase 1 ('all')", 'rate jump'), ("phase 1 ('all')", 'head rate'), ("phase 1 ('all')", 'flat fit'), ('phase 2', 'rate jump')}
    assert [f.severity for f in found]==sorted((f.severity for f in found), reverse=True) and "phase 1 ('all')" in repr(found)
    assert found.after.freeze_to==2 and len(found.lrs)==101

def test_a_good_plan_has_no_known_cause(tmp_path):
    plan = Plan([Phase(one_cycle(1e-2), 2, freeze_to=-1), Phase(one_cycle(slice(1e-5, 1e-3)), 2, freeze_to=0)])
    assert not preflight(deep(tmp_path, 3), plan)

def test_a_plan_tells_what_is_told_when_it_has_come_so_far(tmp_path):
    "Phase by phase the same causes as for the learner that has run the phases before"
    from lrtools.fit_plan import fit_plan
    plan = Plan([Phase(one_cycle(1e-2), 2, freeze_to=-1), Phase(constant(1e-2), 1, freeze_to=0), Phase(one_cycle(2e-2), 1), Phase(constant(1e-3), 1, freeze_to=1, keep_state=True), Phase(constant(.5), 1, wd=.7), Phase(constant(.1), 1, reset_opt=True)])
    learn = deep(tmp_path, 3, train_bn=False)
    told = preflight(learn, plan)
    for i,p in enumerate(plan):
        if i<5: assert {*causes(preflight(learn, p))}=={f.cause for f in told if f.phase==f'phase {i}'}, i
        with learn.no_bar(), learn.no_logging(): fit_plan(learn, p)
    assert 'optimizer memory' in [f.cause for f in told if f.phase=='phase 5']

def test_the_phases_that_avoid_it_avoid_it(tmp_path):
    learn,names = deep(tmp_path, 3),dict(Phase=Phase, one_cycle=one_cycle, constant=constant)
    plans = [Plan([Phase(one_cycle(1e-2), 2, freeze_to=-1), p]) for p in (Phase(constant(1e-2), 2, freeze_to=0), Phase(constant(1e-2), 2, freeze_to=0, wd=.3), Phase(constant(1e-2), 3, reset_opt=True), Phase(constant(.7), 2, name='hot', clip=.1), Phase(constant(1e-2), 2, freeze_to=0, norm='train', keep_state=True))]
    n = 0
    for plan in plans:
        for f in preflight(learn, plan):
            better = eval(f.avoid, names)
            n += 1
            assert f.cause not in causes(preflight(learn, Plan([plan[0], better]))) and better.n_epoch==plan[1].n_epoch and better.name==plan[1].name, f
    assert n>6

def test_a_phase_and_its_arguments(tmp_path):
    learn,p = deep(tmp_path, 3),Phase(constant(1e-2), 1, freeze_to=0, norm='train', keep_state=True)
    quiet(learn)
    assert causes(preflight(learn, p))==causes(preflight(learn, constant(1e-2), freeze_to=0, norm='train', keep_state=True)) and all(f.phase=='' for f in preflight(learn, p))
    for kw in (dict(freeze_to=0), dict(keep_state=True), dict(norm='eval'), dict(wd=.1)):
        with pytest.raises(ValueError, match='a plan says itself'): preflight(learn, p, **kw)
    with pytest.raises(ValueError, match='2 parameter groups'): preflight(learn, Phase(constant([1e-2, 1e-3]), 1))
    with pytest.raises(ValueError, match='freeze_to=7'): preflight(learn, Phase(constant(1e-2), 1, freeze_to=7))

# ---------------------------------------------------------------- a group that rests

def test_a_group_may_rest(tmp_path):
    learn = deep(tmp_path, 3)
    learn.freeze()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(4, 1e-2)
    lrs = [0., 0., 1e-2]
    assert 'groups 0-1 would stand still: their rate is 0' in preview_freeze(learn, 0, lr=lrs).sentences
    for rates in (lrs, constant(lrs), lambda pos: lrs):
        found = preflight(learn, rates, freeze_to=0)
        assert causes(found)==['optimizer memory','rate jump'] and 'group 2 would begin at 1e-2' in found[0].what
        assert all('[0., 0., ' in f.avoid for f in found if 'fit_one_cycle' in f.avoid)
        w = [p.detach().clone() for p in learn.model[:2].parameters()]
        with preserved(learn), learn.no_bar(), learn.no_logging():
            learn.unfreeze()
            exec(found[1].avoid, dict(learn=learn))
            assert all(map(torch.equal, w, learn.model[:2].parameters()))
    assert all(f.avoid.startswith('Phase(one_cycle([0., 0., ') for f in preflight(learn, Phase(constant(lrs), 3)) if f.cause=='rate jump')
    for rates in ([1e-4, 0., 1e-2], [0., 1e-2, 0.], [0., 0., 0.]): preflight(learn, rates, freeze_to=0); preview_freeze(learn, 0, lr=rates)

# ---------------------------------------------------------------- names that are markup

NASTY = '<img src=x onerror=alert(1)>', 'a|b', 'two\nlines', '`tick`', '$x$', '*bold*', '[a](b)'

def nasty(path):
    "A learner whose modules, buffers and optimizer have such names"
    model = nn.Sequential()
    for i,name in enumerate(NASTY): model.add_module(name, nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)))
    model.add_module('<b>out</b>', nn.Linear(4, 1))
    type(model[0]).__name__ # a plain one
    class Odd(nn.Linear): pass
    Odd.__name__ = '<i>|Odd`'
    model.add_module('<u>last', Odd(1, 1))
    return Learner(rows(path), model, MSELossFlat(), splitter=lambda m: L([*m.children()]).map(params), path=path)

def html(md):
    from markdown_it import MarkdownIt
    return MarkdownIt('commonmark', dict(html=True)).enable('table').render(md)

def test_names_of_modules_are_no_markup(tmp_path):
    learn = nasty(tmp_path)
    quiet(learn)
    shown = [freeze_report(learn), preview_freeze(learn, 3), preflight(learn, 1., freeze_to=2), preflight(learn, .1, freeze_to=0), preflight(learn, Plan([Phase(constant(1.), 1, freeze_to=-1, name='<img src=x>|`$x$`')]))]
    for o in shown:
        md = o._repr_markdown_()
        out = html(md)
        assert not any(bad in out for bad in ('<img','<b>','<i>','<u>','<a ','<em>')), (o, out)
        lines = [l for l in md.split('\n') if l.startswith('|')]
        if lines: assert len({l.replace('\\|', '').count('|') for l in lines})==1 and out.count('<tr>')==len(lines)-1

# ---------------------------------------------------------------- arguments that are wrong

class Long:
    def __repr__(self): return 'long '*500
class Rude:
    def __repr__(self): raise RuntimeError('no repr')
class Endless:
    def __iter__(self): return self
    def __next__(self): return 1e-3

BAD = [None, True, 'x', '', 'x'*5000, b'y', 5, -7, 99, 2**70, 10**400, 1.5, -1e-3, float('nan'), float('inf'), [], [1e-3]*9, [10**400]*2, ['a','b'], [[1e-3]*2]*2, [float('nan')]*2, [-1., 1.], (), {}, {1:2}, set(), slice(None), slice(1e-3, 'x'), slice(1e-5, 1e-3, 1), slice(-1, 1), slice(0, float('nan')),
       np.zeros((2, 2)), np.array('x'), np.array([1e-3, np.nan]), torch.zeros(3, 3), torch.tensor(float('nan')), object(), Long(), Rude(), Endless(), iter([1e-3]), len, print, int, lambda: 1, lambda pos: 'x', lambda pos: [1]*9, lambda pos: 1/0, lambda pos: -1, nn.Linear(2, 2), range(3), 3j, Schedule, Phase]

def calls(learn, r):
    "(function, names of its arguments, good values)"
    return [(freeze_report, dict(learn=learn, measure=False)), (preview_freeze, dict(learn=learn, n=1, keep_state=False, norm='as is', lr=None)), (freeze_to, dict(learn=learn, n=1, keep_state=False, norm='as is')),
            (preflight, dict(learn=learn, sched_or_lr=1e-3, freeze_to=1, keep_state=False, norm='as is', wd=None)), (frozen_to, dict(report=r, n=1, keep_state=False, norm='as is')), (freeze_diff, dict(before=r, after=r, lrs=None)),
            (spike_risks, dict(before=r, after=r, lrs=[[1e-3, 1e-3]], wd=None, keep_state=False, norm='as is')), (FreezeReport.table, dict(self=r, group=None)), (precompute, dict(learn=learn, head=None, folder=None, max_gb=4, progress=False))]

def test_wrong_arguments_are_named_whatever_they_are(tmp_path):
    learn = plain(tmp_path)
    learn.freeze()
    before,rng,r,refused = state(learn),random.Random(11),freeze_report(learn),0
    for f,good in calls(learn, r):
        for name in good:
            if name=='self': continue
            for bad in BAD:
                kw = {**good, name: bad}
                if f is precompute and name=='progress' and callable(bad): continue # called with numbers, whatever it makes of them
                if f is freeze_to and name in ('n','norm','keep_state') and rng.random()<.5: kw['learn'] = learn
                try:
                    with preserved(learn): f(**kw)
                except (ValueError, TypeError) as e:
                    refused += 1
                    assert name in str(e), (f.__name__, name, type(bad), str(e))
                    assert len(str(e))<=300, (f.__name__, name, len(str(e)))
            assert not changes(before, state(learn)), (f.__name__, name)
    assert refused>900

def test_damaged_json_is_refused_when_it_is_read(tmp_path):
    learn = plain(tmp_path)
    quiet(learn)
    text,rng,refused = freeze_report(learn).to_json(),random.Random(12),0
    assert FreezeReport.from_json(text).to_json()==text
    for _ in range(300):
        a = rng.randrange(len(text))
        b = min(len(text), a+rng.choice([1, 1, 2, 9, 200]))
        damaged = text[:a]+rng.choice(['', 'x', '"', '{}', 'null', '[]', '7', '-1', '1e999'])+text[b:]
        try: r = FreezeReport.from_json(damaged)
        except ValueError as e:
            refused += 1
            assert len(str(e))<=300
            continue
        repr(r), r._repr_markdown_(), frozen_to(r, 1), [r.table(i) for i in range(len(r.groups))]
    assert refused>200
    for bad in (None, 5, {}, ['x']):
        with pytest.raises(TypeError, match='s='): FreezeReport.from_json(bad)
