"The freeze panel without a browser: what is dragged, clicked, typed and pressed, and what the learner has afterwards"
import base64, gc, re, warnings, weakref
from html import unescape
from io import BytesIO

import numpy as np, pytest
from PIL import Image
from fastai.basics import L, params

from front import Front, answer, click, fresh, pick, send
from learners import CONFIGS, deep, quiet
from names import DRAWN
from state import changes, state
from lrtools import box
from lrtools.freezing import freeze_report, freeze_to, preflight, preview_freeze
from lrtools.panel import FreezePanel

@pytest.fixture
def learn(tmp_path):
    learn = deep(tmp_path)
    learn.freeze()
    return quiet(learn)

def image(png): return np.asarray(Image.open(BytesIO(png)).convert('RGBA'))

def spot(p, n, x=.5):
    "Device pixels of boundary `n`"
    return p._ax.transAxes.transform((x, 0))[0],p._ax.transData.transform((0, p._bars.rows.edges[n]))[1]
def row(p, g, x=.5):
    "Device pixels of the bar of group `g`"
    return p._ax.transAxes.transform((x, 0))[0],p._ax.transData.transform((0, np.mean(p._bars.rows.bars[g])))[1]

def text(w): return unescape(re.sub('<[^>]*>', ' ', w.value))

def agree(p):
    "Everything that the panel shows says the same as Python"
    assert not p._error.value, p._error.value
    assert p.code==f"freeze_to(learn, {p.freeze_to}{', keep_state=True' if p.keep_state else ''}{f', norm={p.norm!r}' if p.norm!='as is' else ''})" and p.code in text(p._code_box)
    assert p._slider.value==p.freeze_to and p._keep.value==p.keep_state and p._norms.value==p.norm and p._logs.value==p.log
    assert p._apply.disabled!=p._chosen and p._undo.disabled==(not p._done)
    if p._chosen:
        want = preview_freeze(p.learn, p.freeze_to, p.keep_state, p.norm)
        assert p.after.groups==want.after.groups and all(s in text(p._diff_box) for s in p.diff.sentences)
    for f in p.risks: assert f.what[1:] in text(p._risk_box) and f.avoid in text(p._risk_box)
    by_hand = p.report.freeze_to is None and not p._chosen
    assert (f'freeze_to({p.freeze_to})' if not by_hand else 'set by hand') in p._parts['title'].get_text()
    assert p._parts['line'].get_visible()!=by_hand and p._parts['line'].get_ydata()[0]==p._bars.rows.edges[p.freeze_to]
    assert len(p.report.groups)==p._slider.max==len(p._bars.rows.bars)

# ---------------------------------------------------------------- gestures

def test_starts_as_it_is(learn):
    before = state(learn)
    p = FreezePanel(learn)
    assert (p.freeze_to, p.code, p.report.freeze_to)==(3, 'freeze_to(learn, 3)', 3) and p._apply.disabled and 'as it is now' in p._parts['title'].get_text()
    p._renew_still(); p.words(); p.still()
    assert not changes(before, state(learn))
    agree(p)

@pytest.mark.parametrize('dpr', [1, 2])
def test_drag_the_boundary(learn, dpr):
    p = FreezePanel(learn)
    f = Front(p, dpr)
    assert (f.pixels()==fresh(p)).all()
    seen,before = [],state(learn)
    f.swipe(spot(p, 3), spot(p, 1), between=lambda: seen.append(p.freeze_to))
    assert p.freeze_to==1 and seen[0] in (2, 3) and (f.pixels()==fresh(p)).all()
    agree(p)
    f.swipe(row(p, 3), spot(p, 4)) # from anywhere
    assert p.freeze_to==4; agree(p)
    f.swipe(spot(p, 4), spot(p, 0))
    assert p.freeze_to==0 and (f.pixels()==fresh(p)).all(); agree(p)
    assert not changes(before, state(learn))

def test_click_a_group(learn):
    p = FreezePanel(learn)
    f = Front(p)
    for g,n in ((1, 1), (1, 2), (3, 4), (0, 0)):
        f.press(*row(p, g)); f.release(*row(p, g))
        assert p.freeze_to==n
        agree(p)
    f.press(*spot(p, 0)); f.release(*spot(p, 0)) # a click on the line is none
    assert p.freeze_to==0

def test_unfold(learn):
    p = FreezePanel(learn)
    f = Front(p)
    high = p._size[1]
    mark = lambda g: (p._ax.transAxes.transform((0, 0))[0]+8, row(p, g)[1])
    f.press(*mark(1)); f.release(*mark(1))
    assert p.unfolded==1 and p._size[1]>high and len(p._bars.small)==2 and 'Layers of group 1' in text(p._layer_box) and '1.1' in text(p._layer_box) and p._folds.value==1
    assert (f.pixels()==fresh(p)).all()
    f.swipe(spot(p, p.freeze_to), spot(p, 2)); assert p.freeze_to==2
    f.press(*mark(1)); f.release(*mark(1))
    assert p.unfolded is None and p._size[1]==high and not p._layer_box.value
    pick(p._folds, 3); assert p.unfolded==3
    pick(p._folds, -1); assert p.unfolded is None
    p.log = True; agree(p); assert (f.pixels()==fresh(p)).all()

def test_keys(learn):
    p = FreezePanel(learn)
    f = Front(p)
    for key,n in (('kArrowUp', 2), ('kArrowDown', 3), ('kArrowRight', 4), ('kArrowRight', 4), ('shift+kArrowLeft', 3), ('kHome', 0), ('kArrowUp', 0), ('kEnd', 4)):
        f.key(key); assert p.freeze_to==n, key
        agree(p)
    f.press(*spot(p, 4)); f.move(*spot(p, 2)); assert p.freeze_to==2
    f.key('kEscape'); assert p.freeze_to==4; f.release(*spot(p, 2)); assert p.freeze_to==4
    agree(p)

def test_slider_and_fields(learn):
    p = FreezePanel(learn)
    Front(p)
    send(p._slider, value=1); assert p.freeze_to==1; agree(p)
    send(p._slide, value='2.0'); assert p.freeze_to==2
    send(p._keep, value=True); pick(p._norms, 'eval'); agree(p)
    assert p.code=="freeze_to(learn, 2, keep_state=True, norm='eval')"
    send(p._rate, value='slice(1e-5, 1e-2)'); assert p.lr==slice(1e-5, 1e-2)
    pick(p._fits, 'fit'); assert p.sched=='fit' and 'flat fit' in [o.cause for o in p.risks]; agree(p)
    send(p._rate, value='quick'); assert "'quick' is no rate" in text(p._error) and p.lr==slice(1e-5, 1e-2) and p._rate.value=='slice(1e-5, 1e-2)'
    send(p._rate, value='[1e-3, 1e-3]'); assert '4 parameter groups' in text(p._error) and p.lr==slice(1e-5, 1e-2)
    send(p._rate, value='1e-3'); agree(p)
    pick(p._fits, 'schedule'); assert 'panel.sched' in text(p._error) and p._fits.value=='fit'
    p.sched = lambda pos: 1e-4*(1+pos); assert p._rate.disabled and p._fits.value=='schedule'; agree(p)
    send(p._logs, value=True); assert p.log and p._ax.get_xscale()=='log'; agree(p)

def test_traits_refuse(learn):
    p = FreezePanel(learn)
    for name,bad,error in (('freeze_to', 5, ValueError), ('freeze_to', -5, ValueError), ('freeze_to', None, TypeError), ('freeze_to', 1.5, TypeError), ('norm', 'no', ValueError), ('keep_state', 1, TypeError), ('log', 'yes', TypeError),
                           ('lr', -1, ValueError), ('lr', 'x', TypeError), ('lr', [1e-3], ValueError), ('sched', 'no', ValueError), ('sched', lambda pos: -1., ValueError), ('unfolded', 4, ValueError), ('unfolded', 'a', TypeError)):
        was = getattr(p, name)
        with pytest.raises(error): setattr(p, name, bad)
        assert getattr(p, name)==was
    with pytest.raises(Exception): p.code = 'x'
    p.freeze_to = -2; assert p.freeze_to==2
    for bad in (None, 3, learn.model):
        with pytest.raises(TypeError): FreezePanel(bad)

def test_observers_find_the_panel_whole(learn):
    p,seen = FreezePanel(learn),[]
    f = Front(p)
    p.observe(lambda ch: seen.append((ch['new'], p.diff.sentences[0])), 'freeze_to')
    f.swipe(spot(p, 3), spot(p, 0))
    assert seen[-1]==(0, 'unfreezes groups 0-2 (60 parameters, 3 of 6 layers)')

# ---------------------------------------------------------------- Apply, Undo, and what happens elsewhere

def trains(learn): return [p.requires_grad for p in learn.model.parameters()]

@pytest.mark.parametrize('keep_state', [False, True])
@pytest.mark.parametrize('norm', ['as is','train','eval'])
@pytest.mark.parametrize('name', ['no_optimizer','adamw'])
def test_apply_and_undo(name, norm, keep_state, tmp_path):
    learn = CONFIGS[name](tmp_path)
    for fitted in (False, True):
        if fitted: quiet(learn)
        p = FreezePanel(learn)
        Front(p)
        p.keep_state,p.norm = keep_state,norm
        for n in range(len(p.report.groups)+1):
            before,p.freeze_to = state(learn),n
            p.keep_state,p.norm = keep_state,norm
            want = p.after
            click(p._apply)
            agree(p)
            assert p.report.groups==want.groups==freeze_report(learn).groups and not p._chosen and p.report.freeze_to==n
            click(p._undo)
            agree(p)
            assert not changes(before, state(learn))
        p.close()

def test_undo_twice_and_after_training(learn):
    p = FreezePanel(learn)
    before = state(learn)
    for n in (2, 0):
        p.freeze_to = n
        p.apply()
    p.undo(); assert p.freeze_to==2
    p.undo(); assert p.freeze_to==3 and not changes(before, state(learn))
    p.undo()
    p.freeze_to = 0
    p.apply()
    quiet(learn)
    p.undo()
    assert 'trained since' in p._said.value and p.report.freeze_to==3 and p.report.groups[3].memory=='present'

def test_apply_while_it_is_fitted_is_refused(learn):
    p,seen = FreezePanel(learn),[]
    p.freeze_to = 0
    def press(self):
        if not seen: seen.append(trains(learn)); click(p._apply); seen.append(trains(learn))
    from fastai.basics import Callback
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=Callback(after_loss=press))
    assert 'being fitted' in text(p._error) and seen[0]==seen[1] and not p._done

def test_it_follows(learn):
    p = FreezePanel(learn)
    f = Front(p)
    learn.unfreeze()
    p.follow()
    assert p.freeze_to==0 and not p._chosen and (f.pixels()==fresh(p)).all(); agree(p)
    p.freeze_to = 2
    quiet(learn)
    click(p._again)
    assert p.freeze_to==2 and p._chosen and p.report.n_steps==5; agree(p) # what was chosen stays
    learn.model[0][0].bias.requires_grad_(False)
    p.follow()
    assert p.report.freeze_to is None and p.report.groups[0].state=='partly trainable'; agree(p)
    version = p._version
    p.follow()
    assert p._version==version # nothing new, nothing drawn

@pytest.mark.parametrize('n', [1, 2, 9])
def test_other_groups(learn, n):
    p = FreezePanel(learn, lr=[1e-5,1e-4,1e-3,1e-2])
    f = Front(p)
    p.sched,p.unfolded,p.freeze_to = (lambda pos: [1e-3]*4),3,1
    learn.opt = None
    learn.splitter = {1: lambda m: [params(m)], 2: lambda m: L(m[:2], m[2:]).map(params), 9: lambda m: [[q] for q in m.parameters()][:9]}[n]
    learn.create_opt()
    freeze_to(learn, n-1)
    p.follow(); f.pump()
    assert len(p.report.groups)==n and p.unfolded is None and p.freeze_to==n-1 and p.lr is None and p.sched=='fit_one_cycle' and not p._chosen
    assert 'other parameter groups' in p._said.value and 'lr and sched' in p._said.value and (f.pixels()==fresh(p)).all()
    agree(p)
    p.nudge(-1); agree(p); p.apply(); agree(p); p.undo(); agree(p)

def test_apply_looks_before(learn):
    p = FreezePanel(learn)
    p.freeze_to = 0
    learn.opt = None
    learn.splitter = lambda m: L(m[:2], m[2:]).map(params)
    click(p._apply)
    assert 'have changed' in text(p._error) and learn.opt is None and len(p.report.groups)==2

def test_set_by_hand(learn):
    learn.unfreeze()
    learn.model[3].bias.requires_grad_(False)
    p = FreezePanel(learn)
    f = Front(p)
    assert p._parts['title'].get_text()=='set by hand' and not p._parts['line'].get_visible(); agree(p)
    p.freeze_to = p.freeze_to # the same, but meant
    assert p._chosen; agree(p); assert (f.pixels()==fresh(p)).all()
    click(p._apply); assert p.report.freeze_to==p.freeze_to

def test_findings_stay_when_it_is_applied(learn):
    p = FreezePanel(learn, lr=1e-2)
    for keep in (False, True):
        p.sched,p.keep_state,p.freeze_to = 'fit',keep,0
        before = [f.cause for f in p.risks]
        p.apply()
        assert [f.cause for f in p.risks]==before and 'head rate' in before
        learn_risks = [f.cause for f in preflight(learn, 1e-2)]
        assert set(learn_risks)>={'head rate','flat fit'}
        p.undo()
        assert 'head rate' not in [f.cause for f in p.risks]
    p.freeze_to = 0
    p.apply()
    quiet(learn, 1, 1e-2)
    p.follow()
    assert p.risks.findings==preflight(learn, 1e-2).findings # a fit makes a new beginning

def test_rate_is_emptied(learn):
    p = FreezePanel(learn, lr=1e-2)
    send(p._rate, value=''); assert p.lr is None and p._rate.value=='1e-3'; agree(p)

# ---------------------------------------------------------------- pictures and words

def test_without_a_canvas(learn, monkeypatch):
    monkeypatch.setattr(box, '_live_canvas', lambda fig: (_ for _ in ()).throw(ImportError('not here')))
    p = FreezePanel(learn)
    p._appear()
    assert 'ipympl' in p._said.value and 'slider' in p._readout.value
    for act in (lambda: send(p._slider, value=1), lambda: click(p._apply), lambda: click(p._undo), lambda: send(p._slide, value='0'), lambda: pick(p._folds, 0), lambda: send(p._logs, value=True)):
        before = p._image.value
        act()
        assert p._image.value!=before and (image(p._image.value)==fresh(p)).all()
        p.catch_words(); agree(p)

def test_picture_and_words_of_the_state(learn):
    p = FreezePanel(learn)
    p.freeze_to = 1
    data,meta = p._repr_mimebundle_()
    assert (image(base64.b64decode(data['image/png']))==fresh(p)).all()
    assert 'freeze_to(learn, 1)' in meta['image/png']['alt'] and 'unfreezes groups 1-2' in meta['image/png']['alt'] and 'group' in unescape(p._alt.value)
    p.close()
    assert (image(p.still()).shape==image(base64.b64decode(data['image/png'])).shape) and p.code=='freeze_to(learn, 1)'

@pytest.mark.parametrize('width', [300, 420, 960])
def test_words_do_not_overlap(learn, width):
    p = FreezePanel(learn)
    f = Front(p)
    send(p._width, value=str(width))
    for n in range(5):
        p.freeze_to = n
        f.pixels()
        for a,b in zip(p._bars.left, p._bars.right):
            assert a.get_window_extent().x1<b.get_window_extent().x0 and b.get_window_extent().x1<=p.fig.bbox.x1+1, (width, n)
        assert all(t.get_window_extent().x1<=p.fig.bbox.x1+1 for t in p._bars.small)

def test_state_is_told_without_colour(learn):
    p = FreezePanel(learn)
    p.freeze_to = 1
    assert [t.get_text().split('   ')[0] for t in p._bars.right]==['frozen but norm', 'frozen but norm → trainable', 'frozen but norm → trainable', 'trainable']
    assert p._bars.still.get_hatch() and not p._bars.on.get_hatch()

def test_many_groups(tmp_path):
    learn = deep(tmp_path, 300)
    learn.create_opt()
    p = FreezePanel(learn)
    f = Front(p)
    f.swipe(spot(p, 0), spot(p, 200))
    assert p.freeze_to==200 and (f.pixels()==fresh(p)).all()
    agree(p)
    ticks = [t.get_window_extent() for t in p._ax.get_yticklabels()]
    assert 5<len(ticks)<40 and all(b.y1<=a.y0 or b.y0>=a.y1 for a,b in zip(ticks, ticks[1:])) and p._size[1]<600
    p.unfolded = 250; agree(p)
    click(p._apply); assert freeze_report(learn).freeze_to==200

def test_one_group(tmp_path):
    learn = CONFIGS['tied'](tmp_path)
    p = FreezePanel(learn)
    f = Front(p)
    f.press(*row(p, 0)); f.release(*row(p, 0))
    assert p.freeze_to==1; agree(p)
    click(p._apply); assert not any(trains(learn))
    agree(p)

def test_no_groups(tmp_path):
    learn = CONFIGS['tied'](tmp_path)
    learn.model.requires_grad_(False)
    before = state(learn)
    with pytest.raises(ValueError, match='no parameter groups'): FreezePanel(learn)
    assert not changes(before, state(learn))

def test_closing_lets_go(learn):
    p = FreezePanel(learn)
    p.freeze_to = 0
    ref = weakref.ref(p.fig)
    p.close()
    p.fig = None
    gc.collect()
    assert p not in box._open and p.code=='freeze_to(learn, 0)'

def test_report_shows_itself(learn, monkeypatch):
    import IPython.display
    shown = []
    monkeypatch.setattr(IPython.display, 'display', lambda o, **kw: shown.append((o, kw)))
    r = freeze_report(learn)
    r._ipython_display_()
    (a,kw),(b,_) = shown
    assert image(a['image/png']).shape[1]==720 and kw['metadata']['image/png']['alt'].startswith('Parameter groups: 0: 0.0…1, 28 parameters, 8 of them trainable') and '| group |' in b['text/markdown'] and b['text/plain']==repr(r)

@pytest.mark.parametrize('lr', [1.234e-3, slice(1.01e-5, 3.3e-3), [1/3e3, 1/7e3, 0.], None])
def test_a_panel_is_not_changed_by_being_shown_whatever_its_rates(lr, tmp_path):
    learn = deep(tmp_path, 3)
    quiet(learn, 1, 1/300)
    p = FreezePanel(learn, lr)
    before = p.lr,p.freeze_to,p.code,p._chosen
    for width in ('720', '480'): send(p._width, value=width); answer(p)
    assert (p.lr,p.freeze_to,p.code,p._chosen)==before and p._apply.disabled and p._undo.disabled and not p._error.value

@pytest.mark.parametrize('name', DRAWN[::2])
def test_a_name_of_a_module_is_shown_as_it_is_whatever_it_holds(name, tmp_path):
    from torch import nn
    learn = deep(tmp_path, 2)
    inner = nn.Module()
    inner._modules = {name: nn.Linear(4, 4)} # `add_module` refuses a dot, and takes all else
    learn.model.add_module('more', inner)
    learn.splitter = lambda m: [[p for n,p in m.named_parameters() if not n.startswith('more')], [*inner._modules[name].parameters()]]
    learn.create_opt()
    p = FreezePanel(learn)
    p.unfolded = 1
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph')
        assert p.still()
        p.freeze_to = 1; assert p.still() and not p._error.value
    said = [t for t in p._ax.texts if name.split()[0][:4] in t.get_text()]
    assert said and not [t for t in said if t.get_parse_math()]
    for w in (p._alt, p._diff_box, p._risk_box): assert {*re.findall(r'<(\w+)', w.value)}<={'b','ul','li','code'}, w.value

def test_what_is_refused_is_named_and_short(learn):
    p = FreezePanel(learn)
    for name in ('lr','sched','log','norm','keep_state','unfolded','freeze_to'):
        for o in ('x'*5000, {i: i for i in range(999)}, object()):
            with pytest.raises((TypeError, ValueError), match=name): setattr(p, name, o)
    send(p._rate, value='y'*5000); assert len(text(p._error).split('Traceback')[0])<350 and 'is no rate' in text(p._error)
    send(p._rate, value='1e999'); assert p._error.value and p.lr is None
