"LRPicker: whatever is done to it, choice, controls, words and picture say the same, and Undo takes it back"
import base64, gc, math, re, signal, types, weakref
from dataclasses import replace
from html import escape, unescape

import ipywidgets as W
import numpy as np, pytest, torch
import traitlets as T
from hypothesis import HealthCheck, given, Phase, settings, strategies as st
from ipywidgets.widgets.widget import _instances
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.ticker import NullLocator

import lrtools.box, lrtools.picker, lrtools.views
from curves import curve
from front import Front, answer, click, fresh, loser, pick, send
from learners import boom, ctrl_c, fault, plain
from lrtools.curve import GroupCurves, LRCurve, Sweep, exact_lr, fmt_lr
from lrtools.picker import LRPicker
from lrtools.range_test import lr_range_test
from lrtools.suggest import ZONES, classify, suggest
from state import changes, state
from test_box import elsewhere, image, missing, nothing_is_left, pictures, shell

def small(**kw): return curve(**{**dict(n=60, start=1e-5), **kw})
def grouped(n=2):
    "As groups='each' leaves them: each swept alone, the others held at 0"
    def one(i):
        c = small(centre=10.**(-3-i/2), seed=i)
        s = c.sweeps[0]
        lrs = np.zeros((len(s), n)); lrs[:,i] = s.lrs[:,0]
        return replace(c, sweeps=[replace(s, lrs=lrs)], start_lr=lrs[0], end_lr=np.where(np.arange(n)==i, 10, 0), swept=[i])
    return GroupCurves([one(i) for i in range(n)])
ONE,GROUPS = small(repeats=2),grouped()

QUICK = type('Figure', (Figure,), dict(set_layout_engine=lambda self, *_, **__: setattr(self, '_layout_engine', PlaceHolderLayoutEngine(True, False)))) # layout and small ticks are most of the time, and nothing to most tests
def quick_axis(ax, axis=lrtools.views._log_axis): axis(ax); ax.xaxis.set_minor_locator(NullLocator())

@pytest.fixture(autouse=True)
def clock(monkeypatch):
    "Time passes when the test says so; pictures are small, and laid out by default"
    monkeypatch.setattr(lrtools.box, 'WIDTH', 360)
    monkeypatch.setattr(lrtools.box, 'Figure', QUICK)
    monkeypatch.setattr(lrtools.views, '_log_axis', quick_axis)
    c = types.SimpleNamespace(now=0., monotonic=lambda: c.now)
    monkeypatch.setattr(lrtools.picker, 'time', c)
    return c

def run(code):
    "What `code` would call"
    calls = []
    exec(code, {'learn': types.SimpleNamespace(fit_one_cycle=lambda *a, **k: calls.append((a, k)))})
    (args,kw), = calls
    return args

def ends(choice): return (choice, choice) if not isinstance(choice, slice) else (choice.stop/10 if choice.start is None else choice.start, choice.stop)
def choice_of(p): return p._choices[p.group]
def fields(p): return (None if p._low is None else p._low.value, p._high.value)

def valid(lr): return type(lr) is float and 0<lr<math.inf or type(lr) is slice and lr.step is None and valid(lr.stop) and (lr.start is None or valid(lr.start) and lr.start<=lr.stop)

def agree(p, slider=.011, settled=True):
    "All that `p` shows is of its `lr`"
    lr,own,parts = p.lr,choice_of(p),p._parts
    # traits
    if p._grouped:
        assert lr is None or type(lr) is list and all(map(valid, lr)) and lr==p._choices
        assert (lr is None)==(None in p._choices)
    else: assert lr==own and (lr is None or valid(lr))
    assert (p.code=='')==(lr is None) and (lr is None or run(p.code)==(p.n_epoch, lr)) and escape(p.code) in p._code_box.value
    # controls
    a,b = np.log10(p._lim)
    assert p._slider.min<=100*a<p._slider.min+1 and p._slider.max-1<100*b<=p._slider.max and p._beta.value==round(100*p.beta) and (p._tabs is None or p._tabs.value==p.group)
    if own is None: assert fields(p)[1]==''
    else:
        lo,hi = ends(own)
        assert float(p._high.value)==hi
        if not p._grouped: assert (p._low.value=='')==(not isinstance(own, slice)) and (p._low.value in ('', 'highest/10') or float(p._low.value)==own.start)
        assert np.allclose(np.array(p._slider.value)/100, np.clip(np.log10(hi if p._grouped else (lo, hi)), a, b), atol=slider)
        offered = dict((name, label) for label,name in p._offers.options)
        assert not p._offers.value or float(f'{hi:.2g}')==hi and fmt_lr(hi) in offered[p._offers.value]
    assert (p._undo.disabled,p._redo.disabled)==(not p._past, not p._future)
    # artists
    seen = {k: [a.get_visible() for a in np.atleast_1d(parts[k])] for k in ('band','edges','thumbs','flags')}
    single = not isinstance(own, slice)
    if own is None: assert not any(sum(seen.values(), []))
    else:
        lo,hi = ends(own)
        x = np.clip((lo, hi), *p._lim)
        assert seen==dict(band=[not single], edges=[not single, True], thumbs=[True], flags=[not single, True])
        assert parts['edges'][1].get_xdata()[0]==x[1] and list(parts['thumbs'].get_xdata())==[*x][single:] and parts['flags'][1].xy[0]==x[1] and fmt_lr(hi) in parts['flags'][1].get_text()
        if not single: assert parts['band'].get_x()==x[0] and parts['band'].get_width()==pytest.approx(x[1]-x[0]) and parts['edges'][0].get_xdata()[0]==x[0] and fmt_lr(lo) in parts['flags'][0].get_text()
    assert all(l.get_visible()==(p.beta>0) for l in parts['smooth'])
    # words
    if settled: assert p._alt.value==escape(p.words()) and (own is None or fmt_lr(ends(own)[1]) in p._alt.value)
    try: zone = own is not None and classify(p._now, own)
    except ValueError: zone = None
    if zone: assert p._sentence_box.value.startswith(f'<b>{zone.name}</b>') and escape(zone.sentence).replace('`', '') in re.sub('</?code>', '', p._sentence_box.value) and zone.name in ZONES

# ---- anything, in any order

share,high = st.floats(-.1, 1.1),st.sampled_from([.05, .3, .6, .8, .9, .98, 1.1])
rate = st.floats(-6, 2).map(lambda v: 10**v)
good = st.one_of(rate, rate.map(lambda v: slice(None, v)), st.tuples(rate, rate).map(lambda t: slice(*sorted(t))), st.just(None), st.just(1), st.just(np.float32(.5)))
bad = st.sampled_from([-1, 0., math.nan, math.inf, 'x', True, slice(None), slice(1e-2, 1e-3), slice(1e-3, 1e-2, 2), slice(0, 1.), [1e-3], (1e-3, 1e-2), [], [1e-3, 'x'], [1e-3, -1]])
typed = st.one_of(rate.map(repr), rate.map(exact_lr), st.sampled_from(['3e-4', ' 1e-3 ', '', '0', '-1', 'nan', 'inf', 'abc', '1e-3x', 'highest/10', '<b>', '1e400']))
between = st.sampled_from([None]*4+['escape', 'leave', 'resize', 'smooth', 'out', 'peek'])
OPS = st.one_of(
    st.tuples(st.just('click'), share, high), st.tuples(st.just('double'), share, high), st.tuples(st.just('hover'), share, high), st.tuples(st.just('leave')),
    st.tuples(st.just('drag'), share, share, high, between), st.tuples(st.just('handle'), st.sampled_from(['low', 'high', 'band']), share, between),
    st.tuples(st.just('key'), st.sampled_from(['kArrowLeft', 'kArrowRight', 'kArrowUp', 'kArrowDown', 'shift+kArrowLeft', 'shift+kArrowRight', 'ctrl+kz', 'ctrl+ky', 'ctrl+kZ', 'kEscape', 'ka', 'kTab', 'alt+kArrowLeft', 'kl'])),
    st.tuples(st.just('slide'), share, share), st.tuples(st.just('type'), st.sampled_from(['low', 'high']), typed), st.tuples(st.just('preset'), st.integers(0, 1)), st.tuples(st.just('offer'), st.integers(0, 5)),
    st.tuples(st.just('row'), st.integers(0, 4)), st.tuples(st.just('set'), good), st.tuples(st.just('set'), bad), st.tuples(st.just('beta'), st.floats(0, .99)), st.tuples(st.just('group'), st.integers(0, 1)),
    st.tuples(st.just('width'), st.sampled_from(['300', '340', 'x'])), st.tuples(st.just('undo')), st.tuples(st.just('redo')))

class Hand:
    "Does things to a picker and checks what must hold after each"
    def __init__(self, curve, clock, lose=None):
        self.p,self.clock = LRPicker(curve),clock
        send(self.p._width, value='300')
        self.f = Front(self.p, lose=lose)
        self.f.lose = lose
        self.states,self.i = [tuple(self.p._choices)],0
        agree(self.p)

    # what can be done
    def click(self, x, h): xy = self.f.share(x, h); self.f.press(*xy); self.f.release(*xy)
    def double(self, x, h): xy = self.f.share(x, h); self.f.double(*xy); self.f.move(*xy)
    def hover(self, x, h): self.f.move(*self.f.share(x, h))
    def leave(self): self.f.leave()
    def swipe(self, a, b, between):
        p,f = self.p,self.f
        def happens():
            if between=='escape': f.key('kEscape')
            if between=='leave': f.leave()
            if between=='resize': send(p._width, value='320' if p._size[0]==300 else '300'); f.pump()
            if between=='smooth': send(p._beta, value=50)
            if between=='out': f.held = 0; f.move(*b)        # released where the canvas did not hear it
            if between=='peek': agree(p, slider=.03, settled=False)
        f.swipe(a, b, 3, happens)
    def drag(self, x, y, h, between): self.swipe(self.f.share(x, h), self.f.share(y, h), between)
    def handle(self, which, y, between):
        own = choice_of(self.p)
        if own is None: return
        lo,hi = (self.f.at(float(np.clip(v, *self.p._lim)))[0] for v in ends(own))
        self.swipe((dict(low=lo, high=hi, band=(lo+hi)/2)[which], self.f.share(0)[1]), self.f.share(y), between)
    def key(self, name): self.f.key(name)
    def slide(self, x, y):
        a,b = self.p._slider.min,self.p._slider.max
        v = sorted(int(np.clip(a+o*(b-a), a, b)) for o in (x, y))
        send(self.p._slider, value=v[0] if self.p._grouped else v)
    def type(self, field, text):
        if w := getattr(self.p, f'_{field}'): send(w, value=text)
    def preset(self, i):
        if self.p._presets: click(self.p._presets[i])
    def offer(self, i): send(self.p._offers, index=i%len(self.p._offers.options))
    def row(self, i):
        n = len(self.p._rows[self.p.group])
        if n: self.click(.5, 1-(i%n+.8)/(n+.4)*(1-self.p._top))
    def set(self, lr):
        p = self.p
        if p._grouped and not isinstance(lr, (list, tuple, slice, str, bool, type(None))): lr = [lr, 1e-3]
        was = p.lr,p.code,tuple(p._choices),len(p._past)
        try: p.lr = lr
        except (TypeError, ValueError): assert (p.lr,p.code,tuple(p._choices),len(p._past))==was; return
        assert p.lr==lr
    def beta(self, v): send(self.p._beta, value=round(100*v))
    def group(self, i):
        if self.p._grouped: pick(self.p._tabs, i)
    def width(self, w): send(self.p._width, value=w)
    def undo(self): click(self.p._undo)
    def redo(self): click(self.p._redo)

    def do(self, op):
        name,*args = op
        p = self.p
        was,before,error = tuple(p._choices),choice_of(p),p._error.value
        self.clock.now += 10
        getattr(self, name)(*args)
        self.f.pump()
        now = tuple(p._choices)
        # gestures stay on the curve, if it was there
        if name in ('click', 'double', 'drag', 'handle', 'key', 'slide') and name!='key' or args[:1] and 'Arrow' in str(args[0]):
            out = lambda c: 0. if c is None else max(0., *(max(math.log10(p._lim[0]/v), math.log10(v/p._lim[1])) for v in (ends(c) if not isinstance(c, slice) or c.start else [c.stop])))
            assert out(choice_of(p))<=out(before)+.022, (op, before, p)     # two digits of the end may lie behind it
        # an Escape is as if nothing had been, and so is what only looks
        if name in ('hover', 'leave', 'beta', 'group', 'width') or args[:1] and args[0] in ('kEscape', 'ka', 'kTab', 'alt+kArrowLeft', 'kl'): assert now==was, op
        if args and args[-1]=='escape': assert now==was, op
        # steps of Undo
        if name=='undo' or args[:1]==['ctrl+kz']: self.i = max(self.i-1, 0); assert now==self.states[self.i], op
        elif name=='redo' or args[:1]==['ctrl+ky'] or args[:1]==['ctrl+kZ']: self.i = min(self.i+1, len(self.states)-1); assert now==self.states[self.i], op
        elif now!=was: del self.states[self.i+1:]; self.states.append(now); self.i += 1
        assert (len(p._past),len(p._future))==(self.i, len(self.states)-1-self.i), op
        # errors are for bad numbers that were typed
        assert p._error.value in ('', error) or name=='type' and 'ValueError' in p._error.value, (op, p._error.value)
        if name=='type' and p._error.value: assert now==was
        agree(p, .011 if now!=was and name!='slide' else .03)
        assert p._gesture is None

    def look(self): assert (self.f.pixels()==fresh(self.p)).all()

    def back_and_forth(self):
        p = self.p
        while self.i: self.do(('undo',))
        assert p._undo.disabled
        self.look()
        while self.i<len(self.states)-1: self.do(('redo',))
        assert p._redo.disabled
        self.look()

SEEDED = settings(max_examples=6, phases=[Phase.generate], deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))

@SEEDED
@given(ops=st.lists(OPS, min_size=10, max_size=20), lose=st.none() | st.integers(0, 99))
@pytest.mark.parametrize('kind', ['one', 'groups'])
def test_anything_in_any_order(kind, clock, ops, lose):
    h = Hand(ONE if kind=='one' else GROUPS, clock, None if lose is None else loser(lose, 2))
    for i,op in enumerate(ops):
        h.do(op)
        if i%4==3: h.look()
    h.back_and_forth()
    h.p.close()

def test_the_hand_on_the_slider():
    "The page's script tells each place; what the slider says at the end is nothing new"
    p = LRPicker(ONE)
    first = p.lr
    for v in (-390, -400): send(p._slide, value=f'{v},-200')
    assert p.lr==slice(1e-4, 1e-2)
    send(p._slider, value=[-400, -200])
    click(p._undo)
    assert p.lr==first and not p._error.value

def test_a_run_of_the_slider_is_one_step(clock):
    p = LRPicker(ONE)
    first = p.lr
    for v in (-400, -390, -380): send(p._slider, value=[v, -200]); clock.now += .2
    clock.now += 5
    send(p._slider, value=[-350, -200])
    last = p.lr
    click(p._undo)
    assert p.lr==slice(1.6e-4, 1e-2)
    click(p._undo)
    assert p.lr==first and p._undo.disabled
    click(p._redo); click(p._redo)
    assert p.lr==last

def test_undo_forgets_what_was_undone():
    p = LRPicker(ONE)
    p.lr = 1e-3; p.undo(); p.lr = 1e-2
    p.redo()
    assert p.lr==1e-2 and p._redo.disabled

@pytest.mark.parametrize('x', [-.02, 1.02])
def test_the_end_of_the_axis_is_on_it(x):
    p = LRPicker(curve())
    f = Front(p)
    f.press(*f.share(x)); f.release(*f.share(x))
    assert p._lim[0]<=p.lr<=p._lim[1] and not set('<>') & set(p._parts['flags'][1].get_text())

@pytest.mark.parametrize('lr', [1e-3, slice(1e-4, 1e-3), slice(None, 1e-3)], ids=str)
def test_keys_nudge(lr):
    p = LRPicker(ONE)
    f = Front(p)
    for key,k in dict(kArrowRight=1, kArrowUp=1, kArrowLeft=-1, kArrowDown=-1).items():
        for shift,step in (('', .05), ('shift+', .25)):
            p.lr = lr
            f.key(shift+key)
            assert type(p.lr) is type(lr) and np.allclose(ends(p.lr), np.array(ends(lr))*10**(k*step), rtol=.06)
    for k in (1, -1):
        for _ in range(30): p.nudge(k/4)
        assert p._lim[0]*.95<=ends(p.lr)[0] and ends(p.lr)[1]<=p._lim[1]*1.05

def test_the_parts_of_a_range_can_be_dragged():
    p = LRPicker(ONE)
    f = Front(p)
    f.drag(1e-4, 1e-2); assert np.allclose(ends(p.lr), (1e-4, 1e-2), rtol=.05)
    f.drag(1e-2, 1e-1); assert np.allclose(ends(p.lr), (1e-4, 1e-1), rtol=.05)       # an edge
    f.drag(1e-4, 1e-3); assert np.allclose(ends(p.lr), (1e-3, 1e-1), rtol=.05)
    f.drag(1e-2, 1e-3); assert np.allclose(ends(p.lr), (1e-4, 1e-2), rtol=.1)        # all of it
    f.drag(1e-4, 1e-1); assert np.allclose(ends(p.lr), (1e-2, 1e-1), rtol=.05)       # past the other edge
    f.click(1e-4); assert p.lr==pytest.approx(1e-4, rel=.05)
    p.lr = slice(None, 1e-2)
    f.drag(1e-2, 1e-1); assert p.lr.start is None and p.lr.stop==pytest.approx(.1, rel=.05)   # fastai's own short form is kept

def test_suggestions_are_pressed():
    "Row by row: the choice, its interval, the sentence, the list"
    p = LRPicker(ONE)
    f = Front(p)
    h = Hand.__new__(Hand); h.p,h.f = p,f
    for i,(name,lr,lo,hi) in enumerate(p._rows[0]):
        h.row(i)
        assert p.lr==float(f'{lr:.2g}') and p._offers.value==name and f'Suggested by {name}' in p._sentence_box.value and p._parts['interval'].get_visible() and tuple(p._parts['interval'].get_xdata())==(lo, hi)
        pick(p._offers, name)
        assert p.lr==float(f'{lr:.2g}')
        p.take(name)
    f.click(1e-4)
    assert not p._parts['interval'].get_visible() and p._offers.value=='' and 'Suggested' not in p._sentence_box.value
    for b in p._presets:
        click(b)
        assert p.lr==lrtools.picker._round(suggest(ONE).ranges[b.description]) and b.tooltip
    with pytest.raises(ValueError, match='offers'): p.take('nothing')

@pytest.mark.parametrize('width,dpr', [(300, 2), (720, 1), (960, 1)])
def test_sizes(width, dpr, monkeypatch):
    "The same rate is under the same finger; what is seen is what is drawn"
    monkeypatch.setattr(lrtools.box, 'Figure', Figure)
    p = LRPicker(ONE)
    f = Front(p, dpr)
    send(p._width, value=str(width)); f.pump()
    f.drag(1e-4, 1e-2)
    assert np.allclose(ends(p.lr), (1e-4, 1e-2), rtol=.08) and f.frame.size[0]==width*dpr and (f.pixels()==fresh(p)).all() and image(p.still()).shape[1]==width
    left,long = float(re.match(r'2px 0 2px (.*)px', p._slider.layout.margin)[1]),float(p._slider.layout.width[:-2])
    assert left+long<=width+12                               # the slider lies under the axis
    p.lr = 1e-3; f.leave()
    assert (f.pixels()==fresh(p)).all()

def test_a_live_picture_is_that_of_a_new_picker():
    "Nothing of what was done before is left on it"
    p,q = LRPicker(ONE),LRPicker(ONE)
    f = Front(p)
    f.drag(1e-4, 1e-2); f.drag(1e-3, 1e-1); send(p._beta, value=90); send(p._beta, value=0); f.click(1e-3); f.leave()
    q.lr = p.lr
    assert (f.pixels()==Front(q).pixels()).all() and p.still()==q.still()
    q.lr = 1e-2
    assert p.still()!=q.still()

def test_the_kept_picture_has_no_pointer():
    "A pointer that rests on the plot is no state"
    p = LRPicker(ONE)
    still = p.still()
    Front(p).move(*Front(p).at(1e-4))
    assert p.still()==still

def test_a_pointer_that_passes_renews_nothing(shell):
    p = shell.cell(lambda: LRPicker(ONE))
    shell.cell(p._ipython_display_)
    f,n = Front(p),len(shell.shown)
    f.move(*f.at(1e-4)); f.leave()
    shell.cell(lambda: None, 'b')
    assert len(shell.shown)==n

def test_the_readout_under_the_pointer():
    p = LRPicker(ONE)
    f = Front(p)
    assert 'Click the plot' in p._readout.value
    f.move(*f.at(1e-3))
    assert re.search(r'(1e-3|9\.\de-4), loss \d', p._readout.value) and p._parts['hover'].get_visible() and p.canvas._cursor=='crosshair'
    f.move(*f.share(.5, .97))
    assert 'Press' in p._readout.value and not p._parts['hover'].get_visible() and p.canvas._cursor=='pointer'
    p.lr = slice(1e-4, 1e-2)
    cursors = []
    for v in (1e-4, 1e-3, 1e-2): f.move(*f.at(v)); cursors.append(p.canvas._cursor)
    assert cursors==['ew-resize', 'move', 'ew-resize']
    f.leave()
    assert 'pointer' not in p._readout.value and not p._parts['hover'].get_visible()

# ---- from Python

NO_CHOICE = [-1, 0, math.nan, math.inf, 'x', True, float, slice(None), slice(1e-2, 1e-3), slice(1e-3, 1e-2, 2), slice('a', 1.), slice(0, 1.), [1e-3], {}, 1j]
def test_what_is_no_choice_changes_nothing():
    p = LRPicker(ONE)
    heard,was = [],(p.lr,p.code,p.still(),p._sentence_box.value)
    p.observe(heard.append, ['lr', 'code'])
    for lr in NO_CHOICE:
        with pytest.raises((TypeError, ValueError), match='lr='): p.lr = lr
    assert (p.lr,p.code,p.still(),p._sentence_box.value)==was and not heard and p._undo.disabled and not p._error.value

def test_other_traits_are_checked():
    p = LRPicker(ONE)
    for name,bads in dict(n_epoch=[0, -1, 1.5, '3', True], beta=[-.1, 1, 2., 'x', math.nan], group=[-1, 1, 0.5, 'a']).items():
        was = getattr(p, name),p.code
        for v in bads:
            with pytest.raises((TypeError, ValueError), match=name): setattr(p, name, v)
            assert (getattr(p, name),p.code)==was

@pytest.mark.parametrize('name', ['n_epoch', 'beta', 'group'])
def test_none_is_no_number(name):
    p = LRPicker(ONE)
    was = getattr(p, name)
    try: setattr(p, name, None)
    except (TypeError, ValueError): pass
    assert getattr(p, name)==was

def test_what_only_tells_cannot_be_set():
    p = LRPicker(ONE)
    for name in ('code', 'curve', 'live'):
        with pytest.raises(T.TraitError): setattr(p, name, None)

def test_n_epoch_is_in_the_code():
    p = LRPicker(ONE, n_epoch=5)
    p.lr = slice(None, 3e-3)
    assert p.code=='learn.fit_one_cycle(5, slice(3e-3))'
    p.n_epoch = 1
    assert p.code=='learn.fit_one_cycle(1, slice(3e-3))' and '(1, ' in p._code_box.value

def test_what_is_heard():
    "One change, one message; `code` and `lr` belong together when the second of them is told"
    p = LRPicker(ONE)
    f,heard = Front(p),[]
    p.observe(lambda c: heard.append((c['name'], c['new'], p.lr)), ['lr', 'code'])
    f.click(1e-3)
    assert [h[0] for h in heard].count('lr')==1==[h[0] for h in heard].count('code') and run(heard[-1][1] if heard[-1][0]=='code' else p.code)==(3, heard[-1][2])
    heard.clear()
    p.lr = p.lr; send(p._beta, value=50); f.move(*f.at(1e-2))
    assert not heard

def test_an_observer_may_set_lr():
    "Here: never above 1e-2"
    p = LRPicker(ONE)
    f = Front(p)
    p.observe(lambda c: setattr(p, 'lr', min(c['new'], 1e-2)), 'lr')
    f.click(.1)
    assert p.lr==1e-2 and (f.pixels()==fresh(p)).all()
    agree(p)

HOWS = 'click','drag','key','slide','type','row','undo'
@pytest.mark.parametrize('how,trait', [*((h, 'lr') for h in HOWS), *((h, 'code') for h in ('click', 'slide', 'undo'))])
def test_an_error_of_an_observer(how, trait):
    "Shown, folded and escaped; the widget goes on, and all that it shows is of one state"
    p = LRPicker(ONE)
    f = Front(p)
    p.lr = 1e-3
    def bad(change): raise RuntimeError('<i>mine</i>')
    p.observe(bad, trait)
    dict(click=lambda: f.click(1e-2), drag=lambda: f.drag(1e-4, 1e-2), key=lambda: f.key('kArrowLeft'), slide=lambda: send(p._slider, value=[-400,-200]), type=lambda: send(p._high, value='0.03'),
         row=lambda: f.press(*f.share(.5, .98)), undo=lambda: click(p._undo))[how]()
    e = p._error.value
    assert '&lt;i&gt;mine&lt;/i&gt;' in e and '<i>' not in e and '<details>' in e and 'Traceback' in e
    p.unobserve(bad, trait)
    assert p.lr!=1e-3 and p._gesture is None and (f.pixels()==fresh(p)).all()
    agree(p, .03)
    f.click(1e-3)
    assert not p._error.value and p.lr==pytest.approx(1e-3, rel=.05)
    agree(p)

def test_the_next_action_takes_the_error_away():
    p = LRPicker(ONE)
    f = Front(p)
    acts = dict(click=lambda: f.click(1e-2), key=lambda: f.key('kArrowLeft'), slide=lambda: send(p._slider, value=[-400,-200]), type=lambda: send(p._high, value='3e-2'), button=lambda: click(p._presets[0]), beta=lambda: send(p._beta, value=50))
    for name,act in acts.items():
        send(p._high, value='abc')
        assert "&#x27;abc&#x27; is not a number" in p._error.value and float(p._high.value)==ends(p.lr)[1]
        act()
        assert not p._error.value, name

def test_typed_digits_stay_as_they_are():
    p = LRPicker(ONE)
    for text,lr in [('3e-4', 3e-4), (' 1.2345e-3 ', 1.2345e-3), ('0.5', .5), ('1', 1.), ('1e-12', 1e-12)]:
        send(p._high, value=text); assert p.lr==lr
        send(p._low, value=exact_lr(lr/10)); assert p.lr==slice(lr/10, lr)
        send(p._low, value='highest/10'); assert p.lr==slice(None, lr)
        send(p._low, value=''); assert p.lr==lr

@pytest.mark.parametrize('how', ['edge', 'slider'])
def test_the_other_end_stays_as_typed(how):
    p = LRPicker(ONE)
    f = Front(p)
    p.lr = slice(1.2345e-4, 1e-2)
    if how=='edge': f.drag(1e-2, 1e-1)
    else: send(p._slider, value=[p._slider.value[0], -100])
    assert p.lr.start==1.2345e-4 and p.lr.stop==pytest.approx(.1, rel=.05)

@pytest.mark.parametrize('end', ['escape', 'move'])
def test_a_tab_in_the_middle_of_a_drag(end):
    p = LRPicker(GROUPS)
    f = Front(p)
    p.lr = [1e-3, 1e-2]
    f.press(*f.at(1e-3)); f.move(*f.at(1e-1))
    pick(p._tabs, 1); f.pump()
    if end=='escape': f.key('kEscape')
    else: f.move(*f.at(1e-4))
    f.release(*f.at(1e-4))
    assert p.lr[1]==1e-2

def test_undo_in_the_middle_of_a_drag():
    p = LRPicker(ONE)
    f = Front(p)
    p.lr = 1e-3; p.lr = 1e-4
    f.press(*f.at(1e-4)); f.move(*f.at(1e-1)); f.key('ctrl+kz'); f.release(*f.at(1e-1))
    assert p.lr==1e-4

# ---- the fallback, and what does not answer

def test_without_a_canvas(monkeypatch):
    missing(monkeypatch)
    p = LRPicker(ONE)
    p._appear()
    first = p._image.value
    assert 'Click' not in p._readout.value
    assert 'ipympl' in p._said.value
    for act in (lambda: send(p._slider, value=[-400,-200]), lambda: send(p._high, value='3e-2'), lambda: click(p._presets[0]), lambda: pick(p._offers, 'valley'), lambda: click(p._undo), lambda: send(p._beta, value=90), lambda: setattr(p, 'lr', 1e-4)):
        before = p._image.value
        act()
        assert p._image.value!=before and (image(p._image.value)==fresh(p)).all() and not p._error.value
        agree(p, .03)
    assert 'ipympl' in p._said.value

# ---- curves with little to say

lrs = np.geomspace(1e-5, 10, 60)
def flat_nan(n=60): return LRCurve([Sweep(lrs[:n,None], np.full(n, math.nan), 'non-finite')], 60, [1e-5], [10])
linear = LRCurve([Sweep(np.linspace(0, 1, 60)[:,None], 2.3-1.8*np.linspace(0, 1, 60)+.02*np.sin(np.arange(60)**2))], 60, [0.], [1.], mode='linear')
CURVES = dict(three=curve(n=3), none=LRCurve([Sweep(np.zeros((0,1)), [], 'cancelled')], 60, [1e-5], [10.]), nan=flat_nan(), nan_at_once=flat_nan(1), flat=small(fall=0, noise=.2), negative=small(shift=-5), declined=small(blow=1e9, centre=30),
              one=small(), linear=linear, tiny=small(start=1e-3, end=2e-3), wide=small(start=1e-12, end=1e6), zero=LRCurve([Sweep(lrs[:,None], np.zeros(60))], 60, [1e-5], [10]), one_group=GroupCurves([small()]),
              with_nan=LRCurve([Sweep(lrs[:,None], np.where(np.arange(60)%7==3, math.nan, np.linspace(2.3, 1, 60)))], 60, [1e-5], [10]), groups_unread=GroupCurves([curve(n=3), small()]))

@pytest.mark.parametrize('name', CURVES)
def test_any_curve_is_shown_and_clicked(name):
    c = CURVES[name]
    p = LRPicker(c)
    f = Front(p)
    assert not p._error.value and p._sentence_box.value and (f.pixels()==fresh(p)).all()
    first = c[0] if isinstance(c, GroupCurves) else c
    if not suggest(first): assert choice_of(p) is None and p.code=='' and escape(suggest(first).reason).replace('`', '') in re.sub('</?code>', '', p._sentence_box.value) and '`' not in p._sentence_box.value and unescape(p._alt.value).count(suggest(first).reason)
    f.press(*f.share(.5)); f.release(*f.share(.5))
    lr = choice_of(p)
    assert p._lim[0]<lr<p._lim[1] and f.at(lr)[0]==pytest.approx(f.share(.5)[0], abs=10)
    agree(p)
    f.swipe(f.share(.3), f.share(.7)); f.key('kArrowLeft'); f.key('shift+kArrowRight'); send(p._beta, value=90); f.move(*f.share(.2)); f.leave(); send(p._width, value='300'); f.pump()
    assert not p._error.value and (f.pixels()==fresh(p)).all()
    agree(p, .03)
    click(p._undo); click(p._redo)
    assert p.still() and not p._error.value
    agree(p, .03)

def test_nothing_chosen():
    p = LRPicker(CURVES['declined'])
    f = Front(p)
    f.key('kArrowRight')
    assert p.lr and p._lim[0]<p.lr<p._lim[1]                          # the first nudge begins in the middle
    p.lr = None
    assert p.code=='' and 'choose a rate' in p._code_box.value and (f.pixels()==fresh(p)).all()
    agree(p)
    p.undo()
    assert p.lr

@pytest.mark.parametrize('bad,error', [(None, TypeError), (3, TypeError), ('curve', TypeError), (GroupCurves([]), ValueError), ([ONE], TypeError)], ids=str)
def test_what_is_no_curve(bad, error):
    with pytest.raises(error, match='curve'): LRPicker(bad)
    with pytest.raises(TypeError, match='learn'): LRPicker(ONE, learn=3)

def test_a_picker_that_is_refused_leaves_nothing():
    before = set(_instances)
    with pytest.raises(ValueError, match='n_epoch'): LRPicker(ONE, n_epoch=0)
    left = set(_instances)-before
    for b in list(lrtools.box._open): b.close()
    for k in set(_instances)-before: _instances[k].close()
    assert not left

# ---- leaks

def test_reruns_of_a_cell(shell):
    def run():
        p = LRPicker(ONE)
        f = Front(p)
        f.click(1e-3)
        return weakref.ref(p),weakref.ref(p.fig),weakref.ref(p.canvas)
    def size(): gc.collect(); return len(lrtools.box._open),len(_instances),sum(type(o).__name__=='Figure' for o in gc.get_objects()),len(gc.get_objects())
    for _ in range(3): shell.cell(run)
    early = size()
    for _ in range(5): refs = shell.cell(run)
    late = size()
    assert late[:3]==early[:3] and late[0]==1 and late[3]<early[3]+100, (early, late)
    shell.cell(lambda: None, None)
    list(lrtools.box._open)[0].close(); gc.collect()
    assert [r() for r in refs]==[None]*3

def test_a_closed_picker_can_be_read_and_shown(shell):
    p = LRPicker(ONE)
    p.lr = slice(1e-4, 1e-2)
    png = p.still()
    p.close()
    assert p.lr==slice(1e-4, 1e-2) and run(p.code)==(3, p.lr) and repr(p)=='LRPicker(slice(1e-4, 1e-2))'
    p._ipython_display_()
    assert pictures(shell.shown)==[png]
    p.lr = 1e-3; p.undo(); p.beta = .5; p.n_epoch = 2
    assert p.lr==slice(1e-4, 1e-2) and p.code=='learn.fit_one_cycle(2, slice(1e-4, 1e-2))'

# ---- for all

def controls(p):
    from lrtools.box import _tree
    return [w for w in _tree(p) if isinstance(w, (W.Button, W.Text, W.Dropdown, W.ToggleButtons, W.IntSlider, W.IntRangeSlider, W.BoundedIntText)) and w.layout.display!='none']

@pytest.mark.parametrize('c', [ONE, GROUPS], ids=['one', 'groups'])
def test_every_control_has_a_name(c, tmp_path):
    p = LRPicker(c, plain(tmp_path))
    ws = controls(p)
    assert len(ws)>=9 and all(w.description for w in ws) and all(w.tooltip for w in ws if isinstance(w, W.Button))

@pytest.mark.parametrize('c', [ONE, GROUPS], ids=['one', 'groups'])
def test_no_two_controls_have_one_name(c):
    names = [w.description for w in controls(LRPicker(c))]
    assert len(set(names))==len(names)

def test_the_words_name_rate_and_zone():
    "By name, not by colour alone, and as it changes"
    p = LRPicker(ONE)
    f,seen = Front(p),set()
    for v in np.geomspace(2e-5, 1, 12):
        f.click(v)
        zone = classify(ONE, p.lr)
        seen.add(zone.name)
        assert f'Chosen {fmt_lr(p.lr)}. {zone.sentence}' in unescape(p._alt.value) and p._sentence_box.value.startswith(f'<b>{zone.name}</b>')
    assert len(seen)>=3
    f.press(*f.at(1e-4)); f.move(*f.at(1e-2))
    assert classify(ONE, p.lr).name in p._sentence_box.value             # while dragging, too
    f.release(*f.at(1e-2))

# ---- with a learner

@pytest.fixture
def learn(tmp_path):
    torch.manual_seed(0)
    l = plain(tmp_path)
    yield l
    fault.arm()

def swept(learn, **kw): return lr_range_test(learn, **{**dict(num_it=40, progress=False), **kw})

ASKED = dict(plain=dict(), ends=dict(start_lr=1e-4, end_lr=[.1, 1.], stop_div=None), linear=dict(mode='linear', start_lr=0, end_lr=.5), group=dict(groups=[1], hold=1e-3), first=dict(groups=0, hold=[0, 1e-3], end_lr=.1),
             valid=dict(valid=5, end_lr=1e-2, stop_div=None), each=dict(groups='each', hold=[1e-4, 2e-4], start_lr=[1e-5, 1e-4], end_lr=1.), steps=dict(num_it=31, stop_div=2.),
             valid_cut=dict(valid=12, end_lr=1e6, stop_div=1.5))

@pytest.mark.parametrize('name', [k if k=='valid_cut' else k for k in ASKED])
def test_rerun_asks_the_same_again(name, learn, monkeypatch):
    kw = ASKED[name]
    c = swept(learn, **kw)
    p = LRPicker(c, learn)
    asked = []
    monkeypatch.setattr(lrtools.picker, 'lr_range_test', lambda l, *a, **k: asked.append(k) or lr_range_test(l, *a, **k))
    send(p._repeats, value=1)
    click(p._again)
    assert not p._error.value and 'done' in p._task.value and p.curve is not c
    old,new = [list(o) if isinstance(o, GroupCurves) else [o] for o in (c, p.curve)]
    assert len(old)==len(new)
    for a,b in zip(old, new):
        assert {k: getattr(a, k) for k in ('num_it','start_lr','end_lr','mode','stop_div','swept')}=={k: getattr(b, k) for k in ('num_it','start_lr','end_lr','mode','stop_div','swept')}
        n = min(len(a), len(b))
        assert np.allclose(a.group_lrs[:n], b.group_lrs[:n])
        assert list(a.sweeps[0].valid_its)==list(b.sweeps[0].valid_its)
    if 'valid' in kw: assert asked[0]['valid']==kw['valid']

@pytest.mark.parametrize('kind', ['one', 'groups'])
def test_rerun_and_probe_leave_the_learner(kind, learn, tmp_path):
    p = LRPicker(swept(learn, groups=None if kind=='one' else 'each'), learn)
    Front(p)
    p.lr = slice(1e-4, 1e-2) if kind=='one' else [1e-4, 1e-2]
    send(p._repeats, value=1)
    c,lr,was = p.curve,p.lr,state(learn, tmp_path)
    for button,what in ((p._again, 'Range test'), (p._ask, 'Probe')):
        click(button)
        assert changes(was, state(learn, tmp_path))==[] and not p._error.value and p._task.value.startswith(f'{what}: done')
        assert p._progress.layout.visibility=='hidden' and not p._again.disabled and not p._ask.disabled
    assert p.curve is not c and p.lr==lr and p._undo.disabled==(not p._past) and p._table.value.startswith('<table>') and image(p._picture.value).size and p.runs
    agree(p)

def test_progress_goes_up_and_ends_full(learn, clock, monkeypatch):
    p,seen = LRPicker(swept(learn), learn),[]
    p.lr = 1e-3
    send(p._repeats, value=1)
    clock.monotonic = lambda: setattr(clock, 'now', clock.now+1) or clock.now
    for button in (p._again, p._ask):
        seen.clear()
        f = lambda x: seen.append((p._progress.value, p._progress.max, p._again.disabled and p._ask.disabled, p._progress.layout.visibility))
        p._progress.observe(f, 'value')
        click(button)
        p._progress.unobserve(f, 'value')
        values = [v for v,_,busy,shown in seen if busy and shown=='visible']
        assert len(values)>3 and values==sorted(values) and seen[-1][0]==seen[-1][1]

STOPS = dict(again=('_again', 7), again_late=('_again', 100), ask=('_ask', 9), ask_late=('_ask', 55))
@pytest.mark.parametrize('name,action', [('again', ctrl_c), ('again_late', boom), ('again_late', ctrl_c), ('ask', boom), ('ask_late', ctrl_c)])
def test_what_stops_the_work_stops_nothing_else(name, action, learn, tmp_path):
    "Ctrl-C at a step, or an exception of the learner: learner, curve, choice and buttons are as they were, and it is said"
    button,at = STOPS[name]
    p = LRPicker(swept(learn, stop_div=None, end_lr=.1), learn)
    f = Front(p)
    p.lr = slice(1e-4, 1e-2)
    picture,c,was = f.pixels(),p.curve,state(learn, tmp_path)
    fault.arm('after_batch', at, action)
    click(getattr(p, button))
    assert fault.count==at
    fault.arm()
    assert changes(was, state(learn, tmp_path))==[] and p.curve is c and p.lr==slice(1e-4, 1e-2) and not p._again.disabled and not p._ask.disabled and p._progress.layout.visibility=='hidden'
    assert (f.pixels()==picture).all() and not p._table.value and not p._picture.value
    if action is ctrl_c: assert 'stopped' in p._task.value and not p._error.value
    else: assert 'Boom' in p._error.value and not p._task.value
    agree(p)
    click(getattr(p, button))
    assert 'done' in p._task.value and not p._error.value

def test_a_thread_and_an_interrupt(learn, shell):
    "The press comes on another thread, as on ipykernel 7.0 to 7.3, and is stopped on the main one"
    shell.serve()
    p = LRPicker(swept(learn), learn)
    c,old = p.curve,signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        fault.arm('after_batch', 5, ctrl_c)
        elsewhere(lambda: click(p._again))
        assert not p._task.value
        shell.turn()
        assert 'stopped' in p._task.value and p.curve is c and signal.getsignal(signal.SIGINT)==signal.SIG_IGN
    finally: signal.signal(signal.SIGINT, old)

@pytest.mark.parametrize('how', ['ctrl_c', 'observer'])
def test_a_rerun_is_taken_over_as_a_whole(how, learn, monkeypatch):
    p = LRPicker(swept(learn), learn)
    c = p.curve
    if how=='ctrl_c': monkeypatch.setattr(lrtools.picker, 'suggest', lambda *_: ctrl_c())
    else: p.observe(lambda _: boom(), 'curve')
    click(p._again)
    assert p.curve is p._curves[0] and (how!='ctrl_c' or p.curve is c)

def test_a_picker_of_a_learner_tests_it(learn, tmp_path, capsys):
    was = state(learn, tmp_path)
    p = LRPicker(learn)
    assert changes(was, state(learn, tmp_path))==[] and len(p.curve.sweeps)==3 and p.learn is learn and p._repeats.value==3
    click(p._again)
    assert not p._error.value and len(p.curve.sweeps)==3 and p.curve.num_it==100

def test_a_rerun_keeps_the_choice_and_takes_the_repeats(learn):
    p = LRPicker(swept(learn), learn)
    p.lr = 1.2345e-3
    send(p._repeats, value=4)
    click(p._again)
    assert p.lr==1.2345e-3 and len(p.curve.sweeps)==4
    p.lr = None
    click(p._again)
    assert p.lr==(lrtools.picker._round(suggest(p.curve).lr) if suggest(p.curve) else None)
    agree(p)

def test_a_probe_of_nothing_says_so(learn):
    p = LRPicker(CURVES['declined'], learn)
    if suggest(p.curve).range is None:
        click(p._ask)
        assert 'nothing to probe' in p._error.value and not p._ask.disabled
    q = LRPicker(CURVES['three'], learn)
    click(q._ask)
    assert 'nothing to probe' in q._error.value

def test_groups_have_a_tab_and_a_choice_each(learn):
    p = LRPicker(GROUPS, learn)
    f = Front(p)
    f.click(1e-3); first = p.lr
    pick(p._tabs, 1); f.pump()
    assert p.group==1 and (f.pixels()==fresh(p)).all() and 'Group 1' in unescape(p._alt.value) and p.lr==first
    f.drag(1e-3, 1e-2)
    assert p.lr[0]==first[0] and p.lr[1]==pytest.approx(1e-2, rel=.1)       # a drag moves the one rate
    agree(p)
    pick(p._tabs, 0)
    p.undo()
    assert p.group==1 and p.lr==first                                      # it shows what it undoes
    click(p._ask)
    assert not p._error.value and p.runs.groups and len(p.runs.runs)==1 and list(p.runs.runs[0].lr)==p.lr
    p.lr = np.array([1e-3, 1e-4])
    assert p.lr==[1e-3, 1e-4] and p.code=='learn.fit_one_cycle(3, [1e-3, 1e-4])'

def test_the_kept_picture_follows_the_choice(monkeypatch):
    "Each cell renews it, as in a saved notebook"
    import IPython.display
    shown = []
    monkeypatch.setattr(IPython.display, 'display', lambda data, **kw: shown.append((data, kw)))
    p = LRPicker(ONE)
    p._ipython_display_()
    p.lr = 1e-5
    lrtools.box._renew_stills()
    data,kw = shown[-1]
    assert kw['update'] and data['text/plain']==p.words() and (image(base64.b64decode(data['image/png']))==fresh(p)).all()

# ---- shown, and no more

@pytest.mark.parametrize('lr', [1.234e-3, 7.77e-5, slice(1.01e-5, 3.3e-3), slice(None, 2.34e-3), slice(1e-12, 50.), .010878819198710363])
def test_a_choice_is_not_changed_by_being_shown_whatever_its_value(lr):
    p = LRPicker(ONE)
    p.lr,p.beta = lr,1/3
    past = list(p._past)
    for width in ('720', '480'): send(p._width, value=width); answer(p)
    assert p.lr==lr and p.beta==1/3 and p._past==past and not p._error.value
    send(p._beta, value=34); assert (p.lr, p.beta)==(lr, .34)
    answer(p); assert (p.lr, p.beta)==(lr, .34)

def test_choices_of_groups_are_not_changed_by_being_shown():
    p = LRPicker(GROUPS)
    p.lr = rates = [1.111e-3*10**-i for i in range(len(GROUPS))]
    for p.group in range(len(GROUPS)): answer(p); assert p.lr==rates

def test_what_is_refused_is_named_and_short(tmp_path):
    from torch import nn
    model = nn.Sequential(*[nn.Linear(3, 3) for _ in range(200)])
    for o in (model, 'x'*5000, 5, [ONE]*50, 10**400):
        with pytest.raises(TypeError, match='^curve=') as e: LRPicker(o)
        assert len(str(e.value))<=300
        with pytest.raises(TypeError, match='^learn=') as e: LRPicker(ONE, o)
        assert len(str(e.value))<=300
    for c in (ONE, GROUPS):
        p = LRPicker(c)
        was = p.lr
        for o in (model, 'x'*5000, 10**400, [10**400]*len(GROUPS), slice(10**400), slice(1, 2, 3), slice(None), -1., float('nan')):
            with pytest.raises((TypeError, ValueError), match='^lr=') as e: p.lr = o
            assert len(str(e.value))<=300
        for name in ('n_epoch','beta','group'):
            for o in ('x'*5000, -10**400, None, float('nan')):
                with pytest.raises((TypeError, ValueError), match=f'^{name}=') as e: setattr(p, name, o)
                assert len(str(e.value))<=300
        with pytest.raises(ValueError, match='^name=') as e: p.take('x'*5000)
        assert len(str(e.value))<=300 and p.lr==was

def test_digits_that_nobody_typed_are_not_shown_and_what_runs_has_all_of_them():
    p = LRPicker(ONE)
    lr = .010878819198710363
    p.lr = slice(lr/100, lr)
    assert 'fit_one_cycle(3, slice(1.09e-4, 0.0109))' in p._code_box.value and escape(p.code, quote=True) in p._code_box.value and str(lr/100) not in re.sub('<[^>]*>', '', p._code_box.value)
    assert run(p.code)==(3, slice(lr/100, lr))

def test_a_picker_of_groups_says_what_it_can_do_and_shows_code_as_code():
    p = LRPicker(GROUPS)
    assert 'range' not in p._readout.value and 'range' in LRPicker(ONE)._readout.value
    for group in range(len(GROUPS)):
        p.group = group
        was = p.lr
        assert ('lrtools-unset' in p._slider._dom_classes)==(p._choice is None)
        assert '`' not in p._sentence_box.value
    flat = LRCurve([Sweep(np.geomspace(1e-6, 1e-1, 30)[:,None], 1+0*np.arange(30))], 30, (1e-6,), (1e-1,))
    none = LRPicker(flat)
    assert none.lr is None and 'lrtools-unset' in none._slider._dom_classes and '`' not in re.sub('<[^>]*>', '', none._sentence_box.value)
    if '`' in none._sentence()[1]: assert '<code>' in none._sentence_box.value
    none.lr = 1e-3; assert 'lrtools-unset' not in none._slider._dom_classes
    none.undo(); none.lr = None; assert 'lrtools-unset' in none._slider._dom_classes
