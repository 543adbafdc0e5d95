"Figures: nothing overlaps, everything can be read, nothing global is touched"
import itertools, subprocess, sys

import numpy as np, pytest
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from curves import curve
from names import NAMES, check_table
from lrtools import views
from lrtools.curve import GroupCurves, LRCurve, Sweep
from lrtools.runs import ProbeRuns, Run
from lrtools.views import _table, few_digits, figure_of, plot_lr_curve, plot_probe, png

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

# ---------------------------------------------------------------- names, and what is no argument

@pytest.mark.parametrize('name', NAMES)
def test_tables_of_curves_and_probes_are_tables_whatever_the_names_in_them(name):
    import dataclasses
    c = dataclasses.replace(curve(), opt=name)
    check_table(c._repr_markdown_(), 2, [name])
    from lrtools.suggest import suggest
    page = check_table(_table(c, suggest(c)), 2, [name])
    assert 'suggestion' in page.text and 'strong' in page.tags
    sweep = Sweep(np.full((3, 2), 1e-3), [1., .9, .8])
    runs = ProbeRuns([Run((1e-4, 1e-3), 0, sweep, .7), Run(slice(1e-5, 1e-3), 0, sweep, float('nan'))], 3, 1., opt=name)
    check_table(runs._repr_markdown_(), 3, ['[1e-4, 1e-3]', 'slice(1e-5, 1e-3)', 'exploded in 1 of 1'])
    md = GroupCurves([c])._repr_markdown_()
    assert md.count('\n')==0 and 'LRCurve(' in md

@pytest.mark.parametrize('bad', [5, None, 'ax', Figure(), [1]])
def test_what_is_no_axes_is_named(bad):
    runs = ProbeRuns([Run(1e-3, 0, Sweep(np.full((3, 1), 1e-3), [1., .9, .8]), .7)], 3, 1.)
    for draw in (lambda: plot_lr_curve(curve(), bad), lambda: plot_probe(runs, bad)):
        with pytest.raises(TypeError, match='^ax='): draw()

def test_other_arguments_of_plots_are_named():
    ax = Figure().add_subplot()
    for match,f in (('suggestions', lambda: plot_lr_curve(curve(), ax, suggestions=1)), ('zones', lambda: plot_lr_curve(curve(), ax, zones=None)), ('runs', lambda: plot_probe('x'*1000, ax)),
                    ('record', lambda: figure_of([curve()])), ('record', lambda: figure_of(None)), ('fig', lambda: png(ax))):
        with pytest.raises(TypeError, match='^'+match) as e: f()
        assert len(str(e.value))<=300
    assert not ax.lines

def test_numbers_that_nobody_typed_are_shown_in_three_digits():
    for code,want in (('slice(1.0878819198710363e-4, 0.010878819198710363)', 'slice(1.09e-4, 0.0109)'), ('pct_start=0.3333333333333333', 'pct_start=0.333'), ('1.1000000000000001e-4', '1.1e-4'), ('[9.999999999e-5, 1.0000000000000002e-2]', '[1e-4, 0.01]'), ('33.333333333333336', '33.3')):
        assert few_digits(code)==want
    for code in ('one_cycle(1.234e-3, div=7.5)', 'Phase(constant(3e-4), 2000000)', "name='v1.23456789'", '1e-12', '12345.678'): assert few_digits(code)==code
