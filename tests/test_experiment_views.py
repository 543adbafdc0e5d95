"Pictures of experiments: the numbers, and nothing over anything"
import math
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from pictures import drawn
from test_continue_study import told
from test_unfreeze_study import made, study
from lrtools.experiment_views import plot_runs, plot_study
from lrtools.experiments import Runs
from lrtools.history import LRHistory

RUNS = told(a=[.5, .6, .4], b=[.52, .55, .47], from_scratch_longer=[.9, 1., .8]).runs
PAST = replace(RUNS, past=LRHistory([made('x', 0, [2., 1.5]).history[0]]))
PAST.past[0].epochs.append(dict(epoch=0, valid_loss=1.2))

@pytest.mark.parametrize('dark', [False, True])
@pytest.mark.parametrize('metric', ['valid_loss','train_loss'])
def test_lines_are_medians(metric, dark):
    _,ax = drawn(plot_runs, PAST, metric=metric, dark=dark, fresh=('from_scratch_longer',))
    lines = {l.get_label(): l for l in ax.lines if not l.get_label().startswith('_')}
    assert [*lines]==['before','a','b','from_scratch_longer']
    if metric=='valid_loss':
        assert [lines['a'].get_xdata().tolist(), lines['a'].get_ydata().tolist()]==[[1., 2.], [1.2, .5]] # joined to the past
        assert [lines['from_scratch_longer'].get_xdata().tolist(), lines['from_scratch_longer'].get_ydata().tolist()]==[[1.], [.9]] # its first epoch is the first
    else: assert lines['a'].get_xdata()[0]==1. and lines['a'].get_ydata()==pytest.approx([1., 1.])
    legend = ax.get_legend().get_window_extent()
    assert legend.x0>=ax.bbox.x1-1 and legend.x1<=ax.figure.bbox.x1+1

def test_without_a_past_and_some_arms():
    _,ax = drawn(plot_runs, RUNS, arms=['b'])
    assert [l.get_label() for l in ax.lines]==['b'] and ax.lines[0].get_xdata().tolist()==[1.]
    _,ax = drawn(plot_runs, PAST, past=False); assert 'before' not in [l.get_label() for l in ax.lines]

def test_explosions_do_not_press_the_others():
    wild = Runs([*RUNS, *(replace(r, arm='wild', history=told(z=[1e9]*3).runs['z'][0].history) for r in RUNS['a'])], {**RUNS.arms, 'wild': ''})
    _,ax = drawn(plot_runs, wild)
    assert ax.get_ylim()[1]<1e9
    failed = Runs([replace(r, error='x') if r.arm=='a' else r for r in RUNS], RUNS.arms)
    _,ax = drawn(plot_runs, failed); assert [l.get_label() for l in ax.lines]==['b','from_scratch_longer']

def test_refused():
    ax = Figure().add_subplot()
    for kw,error,match in ((dict(metric='no'), ValueError, "metric='no'"), (dict(arms=['no']), ValueError, "arms=\\['no'\\]")):
        with pytest.raises(error, match=match): plot_runs(RUNS, ax, **kw)
    for f in (plot_runs, plot_study):
        with pytest.raises(TypeError): f(3, ax)

@pytest.mark.parametrize('dark', [False, True])
@pytest.mark.parametrize('top', [1., 4., math.inf])
def test_a_study(top, dark):
    s = study({'as asked': min(top, 50), 'memory kept': 1.3, 'warm-up': 1.})
    if top==math.inf: s = replace(s, runs=Runs([replace(r, history=made('x', 0, [1., math.nan]*15).history) if r.arm=='as asked' else r for r in s.runs], s.runs.arms))
    _,ax = drawn(plot_study, s, dark=dark)
    assert [t.get_text() for t in ax.get_yticklabels()]==['as asked','memory kept','warm-up']
    lo,hi = ax.get_xlim()
    marks = [l for l in ax.lines if l.get_linestyle()=='None' and len(l.get_xdata())]
    assert len(marks)==6 and all(lo<=v<=hi for l in marks for v in l.get_xdata())
    if math.isfinite(top): assert marks[2].get_xdata()==pytest.approx(s.spike['memory kept'].train)
    assert [t.get_fontweight() for t in ax.get_yticklabels()][0]==('bold' if top>1 else 'normal')
    legend,titles = ax.get_legend().get_window_extent(),[t.get_window_extent() for t in ax.get_yticklabels()]
    assert legend.y0>=ax.bbox.y1-1 and all(not a.overlaps(b) for a,b in zip(titles, titles[1:]))

NAMES = '$x$ and $y$', '$\\frac{', 'a_b^c', '_under', 'two\nlines', 'x'*300, '100 %', 'é 中'

@pytest.mark.parametrize('dark', [False, True])
def test_any_name_is_drawn_as_it_is(dark):
    "Dollars make no formula, what begins with `_` is in the legend, a long name does not press the picture"
    import warnings
    from test_unfreeze_study import study
    runs = told(**{n: [.5+i, .6+i, .4+i] for i,n in enumerate(NAMES)}).runs
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'Glyph')
        warnings.filterwarnings('error', 'The label')
        _,ax = drawn(plot_runs, runs, dark=dark)
        shown = [t.get_text() for t in ax.get_legend().get_texts()]
        assert len(shown)==len(NAMES) and shown[0]==NAMES[0] and shown[3].endswith('_under') and max(map(len, shown))<=41 and not any(t.get_parse_math() for t in ax.get_legend().get_texts())
        _,ax = drawn(plot_study, study({n: 1.5 for n in NAMES}), dark=dark)
    assert [t.get_text() for t in ax.get_yticklabels()]==shown and ax.bbox.width>.3*ax.figure.bbox.width

def test_a_metric_with_a_dollar_and_nothing_that_finished():
    runs = Runs([replace(r, error='Boom') for r in RUNS], RUNS.arms)
    _,ax = drawn(plot_runs, runs); assert ax.get_legend() is None
    dollar = Runs([replace(r, history=LRHistory([replace_epochs(r.history[0])])) for r in RUNS], RUNS.arms)
    drawn(plot_runs, dollar, metric='cost in $ and $')

def replace_epochs(fit):
    fit.epochs[-1]['cost in $ and $'] = 1.
    return fit
