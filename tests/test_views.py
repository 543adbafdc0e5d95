"Figures: nothing overlaps, everything can be read, nothing global is touched"
import itertools, subprocess, sys

import numpy as np, pytest
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from curves import curve
from lrtools import views
from lrtools.curve import GroupCurves, LRCurve, Sweep
from lrtools.runs import ProbeRuns, Run
from lrtools.views import figure_of, plot_lr_curve, plot_probe, png

def drawn(fig):
    FigureCanvasAgg(fig).draw()
    return fig.canvas.get_renderer()

def texts(ax):
    "Every text that is drawn; ticks outside of the limits are not"
    res = []
    for a in (ax, *ax.child_axes):
        ticks = [t.label1 for axis in (a.xaxis, a.yaxis) for t in axis._update_ticks()]
        res += [*a.texts, *ticks, *(a.get_legend().texts if a.get_legend() else ())]
    return [t for t in res if t.get_visible() and t.get_text()]

def overlaps(fig, ax):
    r = drawn(fig)
    boxes = [(t.get_text(), t.get_window_extent(r).shrunk(.96, .9)) for t in texts(ax)]
    return [(a,b) for (a,x),(b,y) in itertools.combinations(boxes, 2) if x.overlaps(y)]

CURVES = {'one': curve(), 'repeats': curve(repeats=4, noise=.2), 'flat': curve(fall=0, noise=.2), 'negative': curve(shift=-4), 'never diverged': curve(blow=1e9)}

@pytest.mark.parametrize('size', [(7.2,4.2), (4.5,3.4), (12,5)])
@pytest.mark.parametrize('name', CURVES)
def test_no_text_overlaps(name, size):
    fig = Figure(figsize=size, layout='constrained')
    ax = fig.add_subplot()
    assert plot_lr_curve(CURVES[name], ax) is ax
    assert not overlaps(fig, ax)

def test_suggestions_that_agree_have_rows_of_their_own():
    fig = Figure(layout='constrained')
    ax = plot_lr_curve(curve(noise=.01), fig.add_subplot())
    strip, = ax.child_axes
    assert len({l.get_ydata()[0] for l in strip.lines})==5

@pytest.mark.parametrize('back,pal', [('white', views._light), ('#111111', views._dark)])
def test_contrast(back, pal):
    "WCAG: 4.5 for text, 3 for lines"
    def lum(c): return float(np.dot([.2126,.7152,.0722], [v/12.92 if v<=.03928 else ((v+.055)/1.055)**2.4 for v in colors.to_rgb(c)]))
    ratio = lambda c: (max(lum(c), lum(back))+.05)/(min(lum(c), lum(back))+.05)
    assert all(ratio(c)>=4.5 for c in (pal.fg, pal.faint, pal.pick, pal.rule, *pal.runs)) and all(ratio(c)>=3 for c in (pal.main, pal.valid))

@pytest.mark.parametrize('back,pal', [('white', views._light), ('#111111', views._dark)])
def test_follows_the_background(back, pal):
    fig = Figure(facecolor=back)
    ax = plot_lr_curve(curve(), fig.add_subplot(facecolor=back))
    assert ax.xaxis.label.get_color()==pal.fg and {t.get_color() for t in ax.get_xticklabels()}=={pal.fg}

def test_no_mathtext():
    fig = Figure(layout='constrained')
    ax = plot_lr_curve(curve(), fig.add_subplot())
    drawn(fig)
    assert not [t.get_text() for t in texts(ax) if '$' in t.get_text() or '\\' in t.get_text()]

def test_no_pyplot_and_no_backend():
    code = "import sys, matplotlib; b = dict.__getitem__(matplotlib.rcParams, 'backend'); import lrtools.views; assert 'matplotlib.pyplot' not in sys.modules; assert dict.__getitem__(matplotlib.rcParams, 'backend') is b"
    subprocess.run([sys.executable, '-c', code], check=True)

def test_png_leaves_the_canvas():
    fig = figure_of(curve())
    canvas = fig.canvas
    assert png(fig)[:4]==b'\x89PNG' and fig.canvas is canvas

def test_empty_curves_are_shown():
    zero = LRCurve([Sweep(np.geomspace(1e-7, 10, 100)[:,None], np.zeros(100))], 100, [1e-7], [10])
    for c in (LRCurve([Sweep(np.zeros((0,1)), [], 'cancelled')], 100, [1e-7], [10]), curve().trim(95, 5), zero): assert png(figure_of(c))

def run(lr, valid, stop='end', n=60): return Run(lr, 0, Sweep(np.full((n,1), 1e-3), np.linspace(2.3, 1, n), stop), valid)
PROBES = ProbeRuns([run(1e-3, 1.), run(2e-3, 1.), run(slice(1e-5,1e-3), 1.01), run(.1, np.nan, 'non-finite', 9), run(1., 99.)], 60, 2.3)

@pytest.mark.parametrize('size', [(7.2,4.2), (5,3.4)])
def test_probe_labels_do_not_overlap(size):
    fig = Figure(figsize=size, layout='constrained')
    ax = fig.add_subplot()
    assert plot_probe(PROBES, ax) is ax and not overlaps(fig, ax)

def test_probes_that_went_wrong_are_shown():
    nan = Run(1., 0, Sweep([[1.]], [np.nan], 'non-finite'), np.nan)
    none = Run(2., 0, Sweep(np.zeros((0,1)), [], 'cancelled'), np.nan)
    for p in (ProbeRuns([nan], 60, 2.3), ProbeRuns([none, nan], 60, np.nan)): assert png(figure_of(p)) and p.best is None

@pytest.mark.parametrize('record', [curve(), GroupCurves([curve(), curve(seed=1)]), PROBES, curve(fall=0)])
def test_records_show_a_picture_with_words_and_a_table(record, monkeypatch):
    shown = []
    import IPython.display
    monkeypatch.setattr(IPython.display, 'display', lambda data, raw, metadata=None: shown.append((data, metadata)))
    record._ipython_display_()
    assert shown[0][0]['image/png'][:4]==b'\x89PNG' and len(shown[0][1]['image/png']['alt'])>30
    assert all('|---|' in d['text/markdown'] for d,_ in shown[1:]) and len(shown)>1
