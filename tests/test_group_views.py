"Pictures of parameter groups: whatever the report, no words over words, nothing global touched"
import warnings

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from names import DRAWN
from lrtools.group_views import figure_of_groups, groups_height, plot_groups
from lrtools.groups import FreezeReport, Layer, Norm, ParamGroup, ParamRecord, frozen_to

def layer(name, *shapes, on=True, **kw): return Layer(name, 'Linear', [ParamRecord(f'p{i}', s, on) for i,s in enumerate(shapes)], **kw)
def norm(name, n=8, **kw): return Layer(name, 'BatchNorm1d', [ParamRecord(k, (n,), True, norm=True, forced=True) for k in ('weight','bias')], norm=Norm(True, True, True, .1, True, **kw))
def group(i, *layers, lr=1e-3): return ParamGroup(i, layers, lr, .9, .01)

REPORTS = dict(
    three=FreezeReport([group(0, layer('0.a', (64,64), (64,), on=False), norm('0.b', 64)), group(1, layer('1.a', (99,64))), group(2, layer('2', (5,)))]),
    one=FreezeReport([group(0, layer('', (3,)))]),
    empty=FreezeReport([group(0), group(1, layer('1', (3,)))]),
    lazy=FreezeReport([group(0, layer('0', None, None)), group(1, layer('1', (10**9,)))]),
    no_rate=FreezeReport([group(0, layer('0', (4,)), lr=None)]),
    long=FreezeReport([group(i, layer(f'a.very.long.name.of.a.module.that.goes.on.{i}.and.on', (10**(i+2),), on=i>1)) for i in range(4)]),
    twelve=FreezeReport([group(i, norm(f'{i}.0'), layer(f'{i}.1', (50+i,3), on=i>7)) for i in range(12)]),
    many=FreezeReport([group(i, norm(f'{i}.0'), layer(f'{i}.1', (50+i,3), on=i>150)) for i in range(300)]),
    deep=FreezeReport([group(0, *(layer(f'0.{i}', (9,i+1)) for i in range(80)))]))

def drawn(report, width=7.2, dark=False, **kw):
    fig = Figure(figsize=(width, groups_height(report, kw.get('unfolded'))/100+.6), dpi=100, layout='constrained', facecolor='black' if dark else 'white')
    ax = fig.add_subplot(facecolor='black' if dark else 'white')
    assert plot_groups(report, ax, **kw) is ax
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return fig,ax,canvas

@pytest.mark.parametrize('log', [False, True])
@pytest.mark.parametrize('width', [3.2, 7.2, 11])
@pytest.mark.parametrize('name', REPORTS)
def test_no_words_over_words(name, width, log):
    r = REPORTS[name]
    for after in (None, frozen_to(r, 0), frozen_to(r, len(r.groups), norm='eval')):
        fig,ax,_ = drawn(r, width, after=after, log=log, unfolded=0 if name!='many' else None)
        boxes = [t.get_window_extent() for t in ax.texts if t.get_text()]
        assert all(not a.overlaps(b) for i,a in enumerate(boxes) for b in boxes[:i])
        assert all(b.x0>=-1 and b.x1<=fig.bbox.x1+1 for b in boxes)

def test_dark_is_read_on_dark():
    colours = {dark: drawn(REPORTS['three'], dark=dark)[1].texts[0].get_color() for dark in (False, True)}
    assert colours[False]!=colours[True]

def test_lengths_are_those_of_the_parameters():
    r = REPORTS['three']
    _,ax,_ = drawn(r)
    length = [sum(p.vertices[:,0].max()-p.vertices[:,0].min() for c in ax.collections[:2] for p in c.get_paths() if abs(p.vertices[:,1].mean()-y)<3)
              for y in [sum(b)/2 for b in __import__('lrtools.group_views').group_views._Rows(r).bars]]
    assert length==pytest.approx([g.n_params for g in r.groups])

def test_wrong_arguments():
    ax = Figure().add_subplot()
    with pytest.raises(TypeError, match='FreezeReport'): plot_groups([1], ax)
    with pytest.raises(ValueError, match='groups 0 to 2'): plot_groups(REPORTS['three'], ax, unfolded=3)
    with pytest.raises(TypeError, match='unfolded'): plot_groups(REPORTS['three'], ax, unfolded='a')

def test_figure_of_its_own(): assert figure_of_groups(REPORTS['deep'], unfolded=0).get_figheight()>figure_of_groups(REPORTS['deep']).get_figheight()

@pytest.mark.parametrize('name', DRAWN)
def test_a_name_of_a_module_is_drawn_as_it_is_whatever_it_holds(name):
    report = FreezeReport([group(0, layer(name, (4,4)), layer(name+'.1', (9,4), on=False)), group(1, layer('1', (3,)))])
    for after in (None, frozen_to(report, 1)):
        ax = Figure(figsize=(60, 4)).add_subplot()
        plot_groups(report, ax, after, unfolded=0)
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='Glyph')
            FigureCanvasAgg(ax.figure).draw()
        said = [t for t in ax.texts if t.get_text()]
        assert any(' '.join(name.split())[:60] in t.get_text() for t in said) and all('\n' not in t.get_text() for t in said)

@pytest.mark.parametrize('bad', [5, None, 'ax', Figure(), [1]])
def test_what_is_no_axes_is_named(bad):
    with pytest.raises(TypeError, match='^ax='): plot_groups(REPORTS['three'], bad)

def test_other_arguments_of_plots_are_named():
    ax = Figure().add_subplot()
    for kw in (dict(after=5), dict(unfolded='a'), dict(unfolded=17), dict(unfolded=1.), dict(log='no')):
        with pytest.raises((TypeError, ValueError), match=next(iter(kw))): plot_groups(REPORTS['three'], ax, **kw)
    with pytest.raises(TypeError, match='report'): plot_groups(5, ax)
    with pytest.raises(TypeError, match='report'): figure_of_groups(5)
    assert not ax.texts and not ax.collections
