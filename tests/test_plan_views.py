"Pictures of plans and histories: the same numbers, few points, no words over words"
import math, warnings
from functools import partial

import numpy as np, pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from names import DRAWN, NAMES, check_table
from pictures import drawn
from lrtools.history import FitRecord, LRHistory
from lrtools.plan import Phase, Plan, fine_tune_plan, gradual_unfreeze_plan, lesson2_plan
from lrtools.plan_views import figure_of_history, plot_history, plot_losses, plot_plan
from lrtools.schedule import constant, cyclical, one_cycle, sgdr
from lrtools.views import png

PLANS = dict(tune=fine_tune_plan(3), gradual=gradual_unfreeze_plan(4), lesson=lesson2_plan(), one=Plan([Phase(one_cycle(1e-3), 1)]), zero=Plan([Phase(constant(0.), 1)]), cycles=Plan([Phase(cyclical(0., 1e-6, 5.5), 3)]),
             many=Plan([Phase(one_cycle(np.geomspace(1e-6, 1e-2, 30)), 2, freeze_to=20), Phase(one_cycle(np.geomspace(1e-6, 1e-2, 30)), 2, freeze_to=0)]))

def history(plan, n, n_iter=7, off=(), stop='end'):
    h = LRHistory()
    for p,trains in zip(plan.for_groups(n), plan.trains(n)):
        f = FitRecord(p.n_epoch, n_iter, trains, name=p.name, planned=p.sched)
        num = p.n_epoch*n_iter
        for i in range(num):
            lr = np.broadcast_to(p.sched(i/num), (n,))*(2 if i in off else 1)
            f.add(i, 1/(1+i) if i!=3 else math.nan, [dict(lr=v, mom=.9) for v in lr])
            if i%n_iter==n_iter-1: f.epochs.append(dict(epoch=i//n_iter, valid_loss=.5))
        f.stop = stop
        h.fits.append(f)
    return h

@pytest.mark.parametrize('log', [False, True])
@pytest.mark.parametrize('size', [(3.2, 3.), (7.2, 3.4)])
@pytest.mark.parametrize('name', PLANS)
def test_any_plan_is_drawn(name, size, log):
    plan = PLANS[name]
    fig,ax = drawn(plot_plan, plan, size=size, log=log, moms=True)
    labels = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text() and ax.get_xlim()[0]<=t.get_position()[0]<=ax.get_xlim()[1]]
    assert all(not a.overlaps(b) for a,b in zip(labels, labels[1:])) and all(b.y0>=-1 for b in labels)
    for child in ax.child_axes: assert all(child.get_window_extent().y0>=b.y1-1 for b in labels) # the band is above the ticks

@pytest.mark.parametrize('name', PLANS)
def test_lines_are_the_numbers(name):
    plan = PLANS[name]
    n = plan.n_groups or 3
    _,ax = drawn(plot_plan, plan, n_iter=11, n_groups=n)
    x = np.concatenate([t for t,*_ in plan.drawn(11, n)])
    lines = [l for l in ax.lines if len(l.get_xdata())>2]
    rates = plan.rates(11, n)
    for l in lines:
        at = np.searchsorted(x, l.get_xdata())
        assert any(np.array_equal(l.get_ydata(), rates[at,g]) for g in range(n))
    assert {tuple(l.get_ydata()) for l in lines}>={tuple(rates[:11*plan[0].n_epoch,-1])}

def test_momentum_of_a_history():
    h = history(PLANS['tune'], 3)
    _,ax = drawn(plot_history, h, moms=True)
    right = next(a for a in ax.figure.axes if a.get_ylabel()=='momentum')
    assert np.array_equal(np.concatenate([l.get_ydata() for l in right.lines]), np.concatenate([f['mom'][:,-1] for f in h]))

@pytest.mark.parametrize('width', [3., 7.2])
def test_names_of_phases_do_not_overlap(width):
    plan = gradual_unfreeze_plan(8)
    _,ax = drawn(plot_plan, plan, size=(width, 3.4))
    names = [t.get_window_extent() for t in ax.texts if t.get_text().startswith('from group')]
    assert all(not a.overlaps(b) for a,b in zip(names, names[1:])) and len(names)<=8 and (width<7 or names)
    legend = ax.get_legend().get_window_extent()
    assert all(not legend.overlaps(n) for n in names) and legend.x0>=0

def test_a_million_steps():
    plan = Plan([Phase(one_cycle([1e-5,1e-4,1e-3]), 10), Phase(sgdr([1e-5,1e-4,1e-3], 5, 1, 1), 10)])
    _,ax = drawn(plot_plan, plan, n_iter=50_000)
    assert max(len(l.get_xdata()) for l in ax.lines)<=4000 and max(np.max(l.get_ydata()) for l in ax.lines if len(l.get_ydata())>2)==pytest.approx(1e-3, rel=1e-4)

@pytest.mark.parametrize('name', ['tune','lesson','one','cycles'])
def test_histories(name):
    plan = PLANS[name]
    h = history(plan, 3)
    _,ax = drawn(plot_history, h)
    thick = [l for l in ax.lines if l.get_lw()==2.4]
    assert np.array_equal(np.concatenate([l.get_ydata() for l in thick if l.get_label()!='none'])[-1], h.lrs[-1,-1]) and not any(l.get_marker()=='x' for l in ax.lines)
    _,ax = drawn(plot_history, history(plan, 3, off=(2, 4), stop='interrupted'))
    assert sum(len(l.get_xdata()) for l in ax.lines if l.get_marker()=='x')==2*len(plan)
    assert any('interrupted' in t.get_text() for t in ax.texts)
    _,ax = drawn(plot_losses, h)
    assert sum(len(l.get_xdata()) for l in ax.lines if l.get_marker()=='s')==plan.n_epoch
    FigureCanvasAgg(figure_of_history(h)).draw()

def test_resumed_fits_lie_one_after_the_other():
    plan = Plan([Phase(constant(1e-3), 4)])
    h = history(plan, 1)
    f = FitRecord(4, 7, (True,), start_epoch=2, planned=plan[0].sched)
    for i in range(14, 28): f.add(i, 1., [dict(lr=1e-3)])
    h.fits.append(f)
    _,ax = drawn(plot_history, h)
    assert ax.get_xlim()==(0, 6)

def test_dark_and_wrong():
    a,b = (drawn(plot_plan, PLANS['tune'], dark=d)[1].lines[-1].get_color() for d in (False, True))
    assert a!=b
    for f,bad,error in ((plot_plan, 3, TypeError), (plot_history, 3, TypeError), (plot_losses, LRHistory(), ValueError), (plot_history, LRHistory(), ValueError)):
        with pytest.raises(error): f(bad, Figure().add_subplot())

def test_they_show_themselves(monkeypatch):
    import IPython.display
    shown = []
    monkeypatch.setattr(IPython.display, 'display', lambda o, **kw: shown.append(o))
    PLANS['tune']._ipython_display_(); history(PLANS['tune'], 3)._ipython_display_(); LRHistory()._ipython_display_()
    assert [[*o][0] for o in shown]==['image/png','text/plain','image/png','text/markdown','text/markdown'] and 'from group -1 on' in shown[0]['text/plain']

# ---------------------------------------------------------------- names, and what is no argument

def a_fit(name, n=6):
    f = FitRecord(2, n//2, (True, False), name=name)
    for k in range(n): f.add(k, 2.-k/n, [dict(lr=1e-3, mom=.9), dict(lr=1e-2, mom=.9)])
    return f

@pytest.mark.parametrize('name', DRAWN)
def test_a_name_of_a_phase_is_drawn_as_it_is_whatever_it_holds(name):
    plan = Plan([Phase(one_cycle(slice(1e-4, 1e-2)), 3, name=name), Phase(one_cycle(1e-3), 1, freeze_to=0, name=name)])
    history = LRHistory([a_fit(name), a_fit('other'), a_fit(name)])
    for draw in (lambda ax: plot_plan(plan, ax, moms=True), lambda ax: plot_history(history, ax), lambda ax: plot_losses(history, ax)):
        ax = Figure(figsize=(12, 3)).add_subplot()
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Glyph')
            draw(ax); png(ax.figure)
        said = [t.get_text() for t in ax.texts]
        assert all(not t.get_parse_math() for t in ax.texts if ' '.join(name.split()) in t.get_text())
        assert '\n' not in ''.join(said)
    assert any(t.get_text()==' '.join(name.split()) for t in plot_plan(plan, Figure(figsize=(80, 3)).add_subplot()).texts) or len(name)>100

@pytest.mark.parametrize('name', NAMES)
def test_a_table_of_fits_is_a_table_whatever_their_names(name):
    check_table(LRHistory([a_fit(name), a_fit(name, 2)])._repr_markdown_(), 7, [name])

def test_a_history_without_fits_is_a_sentence_and_no_empty_table(monkeypatch):
    import IPython.display
    shown = []
    monkeypatch.setattr(IPython.display, 'display', lambda data, **kw: shown.append(data))
    LRHistory()._ipython_display_()
    assert len(shown)==1 and '|' not in shown[0]['text/markdown'] and 'No fit is recorded' in shown[0]['text/plain'] and 'image/png' not in shown[0]
    LRHistory([FitRecord(1, 5, (True,))])._ipython_display_() # begun, and not a step
    assert 'text/markdown' in shown[-1]; check_table(shown[-1]['text/markdown'], 7)

@pytest.mark.parametrize('bad', [5, None, 'ax', [1, 2], Figure(), np.array([1])])
def test_what_is_no_axes_is_named(bad):
    history,plan = LRHistory([a_fit('a')]),Plan([Phase(one_cycle(1e-3), 1)])
    for draw in (partial(plot_plan, plan), partial(plot_history, history), partial(plot_losses, history)):
        with pytest.raises(TypeError, match='^ax=') as e: draw(bad)
        assert len(str(e.value))<=300

def test_other_arguments_of_plots_are_named():
    ax,plan,history = Figure().add_subplot(),Plan([Phase(one_cycle(1e-3), 1)]),LRHistory([a_fit('a')])
    for kw,error in ((dict(n_iter=0), ValueError), (dict(n_iter=1.5), TypeError), (dict(n_iter='10'), TypeError), (dict(n_groups=0), ValueError), (dict(n_groups=True), TypeError), (dict(log='yes'), TypeError), (dict(moms=1), TypeError)):
        with pytest.raises(error, match=next(iter(kw))): plot_plan(plan, ax, **kw)
    for kw in (dict(log=0), dict(moms=None)):
        with pytest.raises(TypeError, match=next(iter(kw))): plot_history(history, ax, **kw)
    with pytest.raises(TypeError, match='history'): figure_of_history(5)
    with pytest.raises(TypeError, match='log'): figure_of_history(history, 5)
    assert not ax.lines and not ax.texts # nothing was drawn before

def test_long_digits_are_not_shown_where_a_plan_is(monkeypatch):
    import IPython.display
    shown,lr = [],.010878819198710363
    monkeypatch.setattr(IPython.display, 'display', lambda data, **kw: shown.append((data, kw)))
    plan = Plan([Phase(one_cycle(slice(lr/100, lr), pct_start=1/3), 3)])
    plan._ipython_display_()
    said = [d['text/plain'] for d,_ in shown]+[shown[0][1]['metadata']['image/png']['alt']]
    assert all('one_cycle(slice(1.09e-4, 0.0109), pct_start=0.333)' in s for s in said) and eval(repr(plan))==plan

@pytest.mark.parametrize('rates', [[0., 0., 1e-2], [0., 1e-4, 0.], [0.]])
@pytest.mark.parametrize('log', [True, False])
def test_groups_that_stand_still_are_drawn(rates, log):
    plan = Plan([Phase(constant(rates), 2)])
    ax = plot_plan(plan, Figure().add_subplot(), log=log)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        png(ax.figure)
    lo,hi = ax.get_ylim()
    assert hi>max(rates) and all(lo<r for r in rates if r)
