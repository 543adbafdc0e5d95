"The figure box: there at once, live, one thread, no leaks, and the user's world as it was"
import base64, gc, io, signal, sys, threading, types, weakref
from importlib.abc import MetaPathFinder

import ipywidgets as W
import matplotlib.text, numpy as np, pytest
import traitlets as T
from IPython.core.events import EventManager, available_events
from ipywidgets.widgets.widget import _instances
from PIL import Image

import lrtools.box
from front import Front, click, custom, fresh, loser, send, update
from lrtools.box import FigureBox, guarded

HOOKS = 'press','drag','release','hover','leave','key'

class Toy(FigureBox):
    "A line that follows pointer, keys and slider. `broken` names the hooks that raise"
    at = T.Float(.5)
    def __init__(self, broken=()):
        super().__init__()
        self.broken,self.seen = set(broken),[]
        self.slider,self.button = W.FloatSlider(.5, max=1, description='at'),W.Button(description='Go')
        self.slider.observe(self._slid, 'value')
        self.button.on_click(lambda _: self._go())
        self.assemble(below=[self.slider, self.button])
    def trip(self, hook):
        self.seen.append((hook, threading.current_thread()))
        if hook in self.broken: raise RuntimeError(f'<b>{hook}</b> & "more"')
    def plot(self, fig):
        self.trip('plot')
        self._ax = fig.add_subplot(xlim=(0,1), ylim=(0,1), xticks=[0,1], yticks=[])
        return [self._ax.axvline(.5, lw=5, zorder=10), self._ax.text(.5, .5, '', zorder=11)]
    def move(self, line, text):
        self.trip('move')
        line.set_xdata([self.at]*2); text.set(text=f'{self.at:.3f}', x=self.at)
    def words(self): return f'<A line> at {self.at:.3f}'
    def _to(self, event): self.at = float(np.clip(self._ax.transData.inverted().transform((event.x, event.y))[0], 0, 1))
    def press(self, e): self.trip('press'); self._to(e)
    def drag(self, e): self.trip('drag'); self._to(e)
    def release(self, e): self.trip('release')
    def hover(self, e): self.trip('hover')
    def leave(self): self.trip('leave')
    def key(self, k): self.trip('key'); self.at = .25
    @guarded
    def _slid(self, change): self.acted(); self.at = change['new']
    @guarded
    def _go(self): self.acted(); self.trip('go')
    @T.observe('at')
    def _at(self, _):
        if self.children: self.refresh(); self.describe()

class Shell:
    "As much of IPython as a box meets: events, the running cell, a kernel with a loop. `shown` is what was displayed"
    def __init__(self): self.events,self.parent,self.runs,self.shown,self.kernel,self.queue = EventManager(self, available_events),{},0,[],None,[]
    def get_parent(self): return self.parent
    def cell(self, f, id='a', name='cellId'):
        "Run `f` as the cell `id`"
        self.runs += 1
        self.parent = dict(header=dict(msg_id=str(self.runs)), metadata={name: id} if id else {})
        self.events.trigger('pre_run_cell', None)
        try: return f()
        finally: self.events.trigger('post_run_cell', None)
    def display(self, data, **kw): self.shown.append((data, kw))
    def showtraceback(self): raise
    def serve(self):
        self.kernel = types.SimpleNamespace(io_loop=types.SimpleNamespace(add_callback=lambda f, *a: self.queue.append((f, a))))
        return self
    def turn(self):
        "What the main thread's loop does when it is free"
        while self.queue: f,a = self.queue.pop(0); f(*a)

@pytest.fixture
def shell(monkeypatch):
    lrtools.box._ipympl()
    s = Shell()
    monkeypatch.setattr('IPython.get_ipython', lambda: s)
    monkeypatch.setattr('IPython.display.display', s.display)
    return s

@pytest.fixture(autouse=True)
def nothing_is_left():
    "Every test: what it made is gone from ipywidgets once its boxes are closed"
    before = set(_instances)
    yield
    for b in list(lrtools.box._open): b.close()
    assert [type(w).__name__ for k,w in _instances.items() if k not in before]==[]

def image(png): return np.asarray(Image.open(io.BytesIO(bytes(png))).convert('RGBA'))
def elsewhere(f):
    t = threading.Thread(target=f)
    t.start(); t.join()

# ---- live

def test_a_picture_first_then_the_canvas():
    b = Toy()
    b._ipython_display_()
    assert not b.live and b._view.children==(b._image,) and (image(b._image.value)==fresh(b)).all()
    send(b.slider, value=.7)
    assert (image(b._image.value)==fresh(b)).all()
    f = Front(b)
    assert b.live and b._view.children==(b.canvas,) and (f.pixels()==fresh(b)).all() and not b.canvas.toolbar_visible and not b.canvas.header_visible
    kept = b._image.value
    send(b.slider, value=.1)
    assert (f.pixels()==fresh(b)).all() and b._image.value==kept        # one of the two is fed

@pytest.mark.parametrize('width,dpr', [('200', 2), ('320', 1), ('720', 1.5), ('720', 2), ('1500', 1)])
def test_sizes_and_device_pixels(width, dpr):
    b = Toy()
    f = Front(b, dpr)
    before = b.still()
    send(b._width, value=width); f.pump()
    w,h = b._size
    assert w==min(max(int(width), 300), 960) and f.frame.size==(int(w*dpr), int(h*dpr)) and image(b.still()).shape[:2]==(h, w)
    f.press(*f.at(.8)); f.release(*f.at(.8))
    assert b.at==pytest.approx(.8, abs=.005) and (f.pixels()==fresh(b)).all()
    send(b._width, value='720'); f.pump()
    b.at = .5; f.leave()
    assert np.abs(image(b.still())-image(before).astype(float)).mean()<1     # text is laid out anew, to the pixel of the screen

@pytest.mark.parametrize('junk', ['', 'wide', '1e3', '-5', '0', '7'])
def test_a_width_that_is_none(junk):
    b = Toy()
    send(b._width, value=junk)
    assert not b._error.value and b._size[0]>=300

def test_the_width_before_it_is_live():
    b = Toy()
    b._ipython_display_()
    send(b._width, value='400')
    assert image(b._image.value).shape==(300, 400, 4) and (Front(b).pixels()==fresh(b)).all()

def test_the_corner_of_the_canvas():
    b = Toy()
    f = Front(b, 2)
    f.corner(500, 350)
    assert b._size==(500, 350) and f.frame.size==(1000, 700) and (f.pixels()==fresh(b)).all() and image(b.still()).shape[:2]==(350, 500)

def test_the_page_is_opened_again():
    b = Toy()
    Front(b).press(*Front(b).at(.2))
    assert (Front(b, 2).pixels()==fresh(b)).all() and b.at==pytest.approx(.2, abs=.005) and b.live

@pytest.mark.parametrize('seed', range(4))
def test_frames_may_be_lost(seed):
    "Runs of less than `memory` of them leave no trace"
    b = Toy()
    f = Front(b).settle()
    f.lose = loser(seed, b.canvas.memory-1)
    for v in np.random.default_rng(seed).random(40): b.at = v
    assert f.lost>20 and (f.pixels()==fresh(b)).all()

@pytest.mark.parametrize('n', [0, 2, 9])
def test_whole_frames_may_be_lost(n):
    "The first `n` after a change of size"
    b = Toy()
    f = Front(b).settle()
    left = iter([True]*n)
    f.lose = lambda: next(left, False)
    send(b._width, value='440'); f.pump()
    for v in np.linspace(.1, .9, n+2): b.at = v
    assert f.lost==n and (f.pixels()==fresh(b)).all()

def test_what_does_not_change_is_not_sent():
    "A move costs a few bytes, and no frame is drawn anew"
    b = Toy()
    f = Front(b)
    draws = []
    b.canvas.draw = lambda: draws.append(1)
    sizes,receive = [],f._receive
    def weigh(content, buffers=None): sizes.append(len(buffers[0]) if buffers else 0); receive(content, buffers)
    b.canvas.send = weigh
    for v in np.linspace(0, 1, 30): b.at = v
    assert not draws and len(sizes)==30 and (f.pixels()==fresh(b)).all()

def test_nothing_but_the_left_button():
    b = Toy()
    f = Front(b)
    for button in (1, 2):
        f.mouse('button_press', *f.at(.9), button=button); f.mouse('button_release', *f.at(.9), button=button)
    assert b.at==.5 and not {'press','release'} & {k for k,_ in b.seen}

def test_ipympls_own_keys_and_coordinates_are_off():
    b = Toy()
    f = Front(b)
    messages = []
    receive,b.canvas.send = b.canvas.send,lambda c, buffers=None: (messages.append(c['data']), receive(c, buffers))
    f.move(*f.at(.4))
    for k in ('kl', 'kk', 'kq', 'kg', 'kf', 'kp', 'ks'): f.key(k)
    assert b._ax.get_xscale()=='linear' and b._ax.get_yscale()=='linear' and b.fig.canvas is b.canvas and b.comm and not b.canvas._message and not any('"message"' in m for m in messages)

def test_colab(monkeypatch):
    "The models of what is not displayed are not made there: the canvas is in the page, hidden, until it answers"
    on,google,colab = [],types.ModuleType('google'),types.ModuleType('google.colab')
    colab.output = types.SimpleNamespace(enable_custom_widget_manager=lambda: on.append(1))
    google.colab = colab
    monkeypatch.setitem(sys.modules, 'google', google); monkeypatch.setitem(sys.modules, 'google.colab', colab)
    b = Toy()
    assert on and b.canvas in b._view.children and b._image in b._view.children and b.canvas.layout.display=='none'
    Front(b)
    assert b._view.children==(b.canvas,) and b.canvas.layout.display is None

# ---- stills and outputs

def test_the_still_is_of_the_present_state():
    b = Toy()
    first = b.still()
    b.at = .8
    assert b.still()!=first and b.still()==b.still()
    b.at = .5
    assert b.still()==first
    Front(b, 2)
    assert b.still()==first                              # also when the page has twice the pixels
    assert b.fig.dpi==2*lrtools.box.DPI and b.fig.canvas is b.canvas and all(a.get_animated() for a in b._moving)

def test_the_mimebundle():
    b = Toy()
    b.at = .8
    data,meta = b._repr_mimebundle_()
    assert data['application/vnd.jupyter.widget-view+json']['model_id']==b.model_id and (image(base64.b64decode(data['image/png']))==fresh(b)).all()
    assert data['text/plain']==b.words()==meta['image/png']['alt'] and b.canvas._data_url=='data:image/png;base64,'+data['image/png']

def pictures(shown): return [base64.b64decode(d['image/png']) for d,_ in shown if 'image/png' in d]

def test_two_outputs(shell):
    b = shell.cell(Toy)
    shell.cell(b._ipython_display_)
    (one,_),(two,kw) = shell.shown
    view = 'application/vnd.jupyter.widget-view+json'
    assert one[view]['model_id']==b.model_id and 'image/png' not in one and view not in two and kw['display_id'] and not kw.get('update') # a view would be preferred to the picture where there is no network
    assert pictures(shell.shown)==[b.still()] and kw['metadata']['image/png']['alt']==b.words()

@pytest.mark.parametrize('name', ['VSCODE_PID','PYCHARM_HOSTED'])
def test_where_outputs_are_kept_apart_the_picture_is_beside_an_empty_view(shell, name, monkeypatch):
    monkeypatch.setenv(name, '1')
    b = shell.cell(Toy)
    shell.cell(b._ipython_display_)
    b.at = .8; shell.cell(lambda: None, 'b')
    (one,_),*pictures = shell.shown
    view = 'application/vnd.jupyter.widget-view+json'
    assert one[view]['model_id']==b.model_id and len(pictures)==2 and all(d[view]['model_id']==b._ghost.model_id and 'image/png' in d for d,_ in pictures)

@pytest.mark.parametrize('live', [False, True])
def test_the_kept_picture_follows(shell, live):
    "Renewed by the next cell that is run, when there is something new"
    b = shell.cell(Toy)
    if live: f = Front(b)
    shell.cell(lambda: shell.cell(b._ipython_display_))
    n = len(shell.shown)
    for _ in range(3): shell.cell(lambda: None, 'b')
    assert len(shell.shown)==n                           # nothing had changed
    if live: f.press(*f.at(.8)); f.release(*f.at(.8))
    else: send(b.slider, value=.8)
    shell.cell(lambda: None, 'b')
    (data,kw), = shell.shown[n:]
    assert kw['update'] and kw['display_id']==shell.shown[1][1]['display_id'] and base64.b64decode(data['image/png'])==b.still()
    shell.cell(lambda: setattr(b, 'at', .3), 'b')        # a change in the cell is told at its end
    assert pictures(shell.shown[n+1:])==[b.still()]
    shell.cell(lambda: None, 'b')
    assert len(shell.shown)==n+2

def test_what_is_not_shown_is_not_renewed(shell):
    b = shell.cell(Toy)
    b.at = .9
    shell.cell(lambda: None, 'b')
    assert shell.shown==[] and len(shell.events.callbacks['post_run_cell'])==1==len(shell.events.callbacks['pre_run_cell'])
    shell.cell(Toy, 'c')
    assert len(shell.events.callbacks['post_run_cell'])==1

def test_shown_after_close_is_a_picture(shell):
    b = shell.cell(Toy)
    b.at = .8
    png = b.still()
    b.close()
    b._ipython_display_()
    (data,kw), = shell.shown
    assert pictures(shell.shown)==[png] and not any('widget' in k for k in data) and data['text/plain']==b.words()
    assert b.still()==png
    b.at = .2                                            # state stays usable
    b.close()
    assert b.still()!=png and not b._error.value

def test_in_ipython(python):
    "A real shell: two outputs, and an update after a cell that changes the state"
    code = '''
import sys; sys.path[:0] = ['tests']
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config
c = Config(); c.HistoryManager.enabled = False
ip = InteractiveShell.instance(config=c)
ip.run_cell('from test_box import Toy; b = Toy()')
with capture_output() as out: ip.run_cell('b')
with capture_output() as later: ip.run_cell('b.at = .9'); ip.run_cell('1')
print(len(out.outputs), len(later.outputs), out.outputs[1]._repr_mimebundle_()[0].keys()>={'image/png','text/plain'}, later.outputs[0].update, later.outputs[0].transient==out.outputs[1].transient)'''
    assert python(code).splitlines()[-1]=='2 1 True True True'

# ---- without a canvas

class Broken(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0]=='ipympl': raise OSError('<broken> here')

def missing(m): m.setitem(sys.modules, 'ipympl', None)
def broken(m):
    for k in [k for k in sys.modules if k.partition('.')[0]=='ipympl']: m.delitem(sys.modules, k)
    m.setattr(sys, 'meta_path', [Broken(), *sys.meta_path])
def refuse(*args): raise TypeError('an <argument> too many')
def no_canvas(m):
    import ipympl.backend_nbagg as nbagg
    m.setattr(nbagg, 'Canvas', type('Canvas', (nbagg.Canvas,), dict(__init__=refuse)))
def no_manager(m):
    import ipympl.backend_nbagg as nbagg
    m.setattr(nbagg, 'FigureManager', refuse)

WITHOUT = dict(missing=(missing, 'ModuleNotFoundError'), broken=(broken, 'OSError: &lt;broken&gt;'), no_canvas=(no_canvas, 'TypeError: an &lt;argument&gt;'))

@pytest.mark.parametrize('name', WITHOUT)
def test_without_a_canvas(name, monkeypatch, shell):
    "A picture that follows slider and width, and one line that says why"
    spoil,says = WITHOUT[name]
    spoil(monkeypatch)
    b = shell.cell(Toy)
    assert says in b._said.value and 'ipympl' in b._said.value and '\n' not in b._said.value and not b._error.value and b.canvas is None
    shell.cell(b._ipython_display_)
    first = b._image.value
    said = b._said.value
    send(b.slider, value=.8)
    assert b.at==.8 and b._image.value==b.still()!=first and b._said.value==said and b._view.children==(b._image,)
    send(b._width, value='400')
    assert image(b._image.value).shape[1]==400 and (image(b._image.value)==fresh(b)).all()
    shell.cell(lambda: None, 'b')
    assert pictures(shell.shown)[-1]==b.still()

def test_a_canvas_that_came_halfway_is_closed(monkeypatch):
    before = set(_instances)
    no_manager(monkeypatch)
    Toy().close()
    left = set(_instances)-before
    for k in left: _instances[k].close()
    assert not left

def test_a_page_that_never_answers():
    "One line when a control is used; gone when the canvas comes"
    b = Toy()
    b._ipython_display_()
    assert not b._said.value
    send(b.slider, value=.8)
    assert 'ipympl' in b._said.value and b._image.value==b.still()
    Front(b)
    assert not b._said.value
    send(b.slider, value=.3)
    assert not b._said.value

def test_another_line_is_not_taken_away():
    b = Toy()
    b.say('<mine>')
    send(b.slider, value=.8)
    Front(b)
    assert b._said.value=='&lt;mine&gt;'

# ---- the user's world

def test_backend_rcparams_and_pyplot(python):
    "In a process that has matplotlib and not yet ipympl; also when the backend is not chosen yet"
    code = '''
import sys; sys.path[:0] = ['tests']
import matplotlib
rc = matplotlib.rcParams
auto = dict.__getitem__(rc, 'backend')
import ipywidgets
from test_box import Toy, Front, send
assert 'ipympl' not in sys.modules, 'it must be made by the box'
def use():
    b = Toy(); f = Front(b, 2); f.press(*f.at(.8)); f.release(*f.at(.8)); send(b._width, value='400'); f.pump(); b.still(); b._repr_mimebundle_(); return b
b = use()
assert 'ipympl' in sys.modules and dict.__getitem__(rc, 'backend') is auto
b.close()
import matplotlib.pyplot as plt
from matplotlib._pylab_helpers import Gcf
plt.switch_backend('agg')
plt.rcParams['lines.linewidth'] = 7
mine = plt.figure(); plt.plot([1,2])
was = dict(rc), list(Gcf.figs), Gcf.get_active(), plt.isinteractive(), matplotlib.get_backend(), mine.canvas
b = use()
assert plt.gcf() is mine
b.close()
now = dict(rc), list(Gcf.figs), Gcf.get_active(), plt.isinteractive(), matplotlib.get_backend(), mine.canvas
assert was==now and plt.gcf() is mine
print('ok')'''
    assert python(code)=='ok'

def used():
    "A box that was used and closed, and weak references to what it had"
    b = Toy()
    f = Front(b)
    f.press(*f.at(.8)); f.release(*f.at(.8))
    refs = [weakref.ref(o) for o in (b.canvas, b.canvas.manager, b.canvas.toolbar, b.fig, b)]
    b.close()
    return b,refs

def test_nothing_is_held_after_close():
    refs = used()[1]
    gc.collect()
    assert [r() for r in refs]==[None]*5

def test_a_closed_box_lets_its_canvas_go():
    b,refs = used()
    gc.collect()
    assert [r() for r in refs[:3]]==[None]*3

def test_a_box_that_was_dropped_keeps_its_page():
    "Python may forget it; the page does not"
    f = Front(Toy())
    gc.collect()
    f.press(*f.at(.8))
    assert f.box.at==pytest.approx(.8, abs=.005)

class Bare(Toy):
    def plot(self, fig):
        self._ax = fig.add_axes([0, 0, 1, 1], frameon=False, xlim=(0,1), ylim=(0,1), xticks=[], yticks=[])
        return [self._ax.axvline(.5), self._ax.text(.5, .5, '')]

def test_a_hundred_runs_of_a_cell(shell, monkeypatch):
    monkeypatch.setattr(lrtools.box, 'WIDTH', 300)
    def run():
        b = Bare()
        b._ipython_display_()
        f = Front(b)
        f.press(*f.at(.3)); f.release(*f.at(.3))
    def size():
        shell.shown.clear()
        for o in vars(matplotlib.text).values(): getattr(o, 'cache_clear', int)() # matplotlib keeps the sizes of thousands of words
        gc.collect()
        return len(lrtools.box._open),len(_instances),sum(type(o).__name__=='Figure' for o in gc.get_objects()),sum(map(len, shell.events.callbacks.values())),len(gc.get_objects())
    for _ in range(10): shell.cell(run)
    early = size()
    for _ in range(90): shell.cell(run)
    late = size()
    assert late[0]==1 and late[:4]==early[:4] and late[4]<early[4]+1800, (early, late) # a box that stays has thousands

@pytest.mark.parametrize('name', ['cellId', 'cell_id'])
def test_the_run_before_is_closed_and_nothing_else(shell, name):
    a1,a2 = shell.cell(lambda: (Toy(), Toy()), 'a', name)
    b = shell.cell(Toy, 'b', name)
    loose = shell.cell(Toy, None)
    assert all(o.comm for o in (a1, a2, b, loose))      # two of one run, two cells
    a3 = shell.cell(Toy, 'a', name)
    assert [o.comm is not None for o in (a1, a2, b, loose, a3)]==[False, False, True, True, True]
    shell.cell(Toy, None)
    assert all(o.comm for o in (b, loose, a3))

def test_without_ipython_nothing_is_closed():
    a,b = Toy(),Toy()
    assert a.comm and b.comm

def test_a_box_that_fails_to_start_leaves_nothing(monkeypatch):
    before = set(_instances)
    monkeypatch.setattr(Toy, 'plot', refuse)
    with pytest.raises(TypeError): Toy()
    left = set(_instances)-before,len(lrtools.box._open)
    for b in list(lrtools.box._open): b.close()
    for k in set(_instances)-before: _instances[k].close()
    assert left==(set(), 0)

# ---- errors

def act(b, f, hook):
    dict(press=lambda: f.press(*f.at(.9)), drag=lambda: f.swipe(f.at(.2), f.at(.9)), release=lambda: f.swipe(f.at(.2), f.at(.9)), hover=lambda: f.move(*f.at(.9)), leave=f.leave,
         key=lambda: f.key('kArrowLeft'), move=lambda: send(b.slider, value=.9), plot=lambda: (send(b._width, value='400'), f.pump()), go=lambda: click(b.button))[hook]()

@pytest.mark.parametrize('hook', [*HOOKS, 'move', 'go', 'plot'])
def test_what_a_hook_raises_is_shown(hook):
    "Escaped, with its traceback folded; the next action takes it away, and the picture is as the state"
    b = Toy()
    f = Front(b)
    b.broken = {hook}
    act(b, f, hook)
    e = b._error.value
    assert f'<b>RuntimeError</b>: &lt;b&gt;{hook}&lt;/b&gt; &amp; &quot;more&quot;<details>' in e and 'trip' in e and '</details>' in e and 'role="alert"' in e and f'<b>{hook}' not in e
    b.broken = set()
    f.held = 0
    f.press(*f.at(.8)); f.release(*f.at(.8))
    send(b.slider, value=.1)
    if hook=='plot': send(b._width, value='500'); f.pump()
    assert not b._error.value and b.at==.1 and (f.pixels()==fresh(b)).all()

def test_a_plot_that_failed_is_made_up_for():
    "The next replot draws it, at the new size"
    b = Toy()
    f = Front(b)
    b.broken = {'plot'}
    send(b._width, value='400'); f.pump()
    b.broken = set()
    b.replot(); f.pump()
    assert (f.pixels()==fresh(b)).all() and f.frame.size==b._size

@pytest.mark.parametrize('live', [True, False])
def test_an_error_of_an_observer(live):
    b = Toy()
    b._ipython_display_()
    if live: f = Front(b)
    def boom(change): raise ValueError('mine')
    b.observe(boom, 'at')
    send(b.slider, value=.8)
    shown = f.pixels() if live else image(b._image.value)
    assert 'ValueError' in b._error.value and 'mine' in b._error.value and 'boom' in b._error.value and b.at==.8 and (shown==fresh(b)).all()
    b.unobserve(boom, 'at')
    send(b.slider, value=.2)
    assert not b._error.value
    b.observe(boom, 'at')
    with pytest.raises(ValueError, match='mine'): b.at = .4           # from Python it is the cell's
    assert (fresh(b)==(f.pixels() if live else image(b._image.value))).all()

def test_messages_after_close_do_nothing():
    b = Toy()
    f = Front(b)
    b.close()
    b._measured(dict(new='400')); b._slid(dict(new=.9)); b.refresh(); b.replot()
    assert not b._error.value and b.at==.5

# ---- one thread

def test_every_widget_is_pinned(shell):
    "Canvas, toolbar, layouts and styles too: a message that comes on another thread waits for the loop"
    shell.serve()
    before = set(_instances)
    b = Toy()
    ours = [w for k,w in _instances.items() if k not in before]
    kinds = {type(w).__name__ for w in ours}
    assert {'Live', 'Toolbar', 'Layout', 'SliderStyle', 'Toy', 'Image', 'HTML', 'Text'}<=kinds
    for w in ours:
        elsewhere(lambda: w.comm.handle_msg(update(w)))
        assert len(shell.queue)==1, type(w).__name__
        shell.turn()

def test_another_thread_waits_for_the_main_one(shell):
    shell.serve()
    b = Toy()
    f = Front(b)
    b.seen.clear()
    elsewhere(lambda: (send(b.slider, value=.7), f.mouse('button_press', *f.at(.3)), click(b.button)))
    assert b.at==.5 and not b.seen and len(shell.queue)==3
    shell.turn()
    assert b.at==pytest.approx(.3, abs=.005) and {t for _,t in b.seen}=={threading.main_thread()} and [k for k,_ in b.seen if k!='move']==['press', 'go']
    f.pump()
    assert (f.pixels()==fresh(b)).all()

def test_without_a_loop_it_runs_where_it_is(shell):
    for kernel in (None, types.SimpleNamespace(), types.SimpleNamespace(io_loop=None)):
        shell.kernel = kernel
        b = Toy()
        elsewhere(lambda: send(b.slider, value=.7))
        assert b.at==.7

def ctrl_c(*_): signal.raise_signal(signal.SIGINT)

@pytest.mark.parametrize('handler', [signal.SIG_IGN, signal.default_int_handler], ids=['ignored', 'default'])
def test_an_interrupt_stops_the_callback_and_nothing_else(shell, handler):
    "ipykernel ignores SIGINT between cells; what escaped into its loop would end the kernel"
    shell.serve()
    b,after = Toy(),[]
    old = signal.signal(signal.SIGINT, handler)
    try:
        b.slider.observe(lambda c: (ctrl_c(), after.append(1)), 'value')
        elsewhere(lambda: send(b.slider, value=.7))
        shell.turn()
        assert not after and signal.getsignal(signal.SIGINT)==handler
        b.trip = ctrl_c                                  # in a hook: said
        elsewhere(lambda: click(b.button))
        shell.turn()
        assert 'Stopped' in b._said.value and signal.getsignal(signal.SIGINT)==handler
    finally: signal.signal(signal.SIGINT, old)
    del b.trip
    elsewhere(lambda: send(b.slider, value=.2)); shell.turn()
    assert b.at==.2

def test_an_exception_on_the_loop_is_shown_and_the_handler_returns(shell):
    shell.serve()
    b = Toy(broken=['go'])
    old = signal.getsignal(signal.SIGINT)
    elsewhere(lambda: click(b.button)); shell.turn()
    assert 'RuntimeError' in b._error.value and signal.getsignal(signal.SIGINT)==old

# ---- those who do not see it

def test_the_words_follow():
    b = Toy()
    assert b._alt.value=='&lt;A line&gt; at 0.500' and {'lrtools-alt', 'lrtools-hidden'}<=set(b._alt._dom_classes)
    send(b.slider, value=.8)
    assert b._alt.value=='&lt;A line&gt; at 0.800'

def test_nothing_is_fetched():
    "The style and script are in the page: they work offline"
    page = Toy()._page.value
    assert 'http' not in page and '@import' not in page and page.count('<style>')==1

# ---------------------------------------------------------------- what cells do elsewhere

class Follower(FigureBox):
    "Shows a number that cells change, on a figure that grows with it"
    def __init__(self, there):
        super().__init__()
        self.there,self.seen = there,None
        self.follow()
        self.assemble()
    def size_in(self, width): return super().size_in(width)[0],300+10*self.seen
    def follow(self):
        if self.there['n']<0: raise ValueError('less than nothing')
        if self.there['n']!=self.seen:
            self.seen = self.there['n']
            if self.children: self.resize()
    def plot(self, fig):
        fig.add_subplot().set_title(str(self.seen))
        return ()
    def words(self): return f'Number {self.seen}.'

def test_a_box_follows_what_cells_do():
    there = dict(n=1)
    b = Follower(there)
    f = Front(b)
    assert b._size[1]==310
    there['n'] = 9
    lrtools.box._renew_stills(); f.pump()
    assert b._size[1]==390 and 'Number 9' in b._alt.value and (f.pixels()==fresh(b)).all()
    send(b._width, value='400'); f.pump()
    assert b._size==(400, 390) and (f.pixels()==fresh(b)).all()
    there['n'] = -1
    lrtools.box._renew_stills()
    assert 'less than nothing' in b._error.value
    b.close(); lrtools.box._renew_stills()
