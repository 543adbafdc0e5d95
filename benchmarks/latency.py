"""From the pointer to new pixels: LRPicker in a real JupyterLab beside a bare label and `interact`."""
import sys, tempfile, time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.report import stamp, table

ROOT = Path(__file__).resolve().parent.parent
sys.path += [str(ROOT/'tests'), str(ROOT/'tools')]         # the harness of the browser tests

ROUNDS, DRAGS = 4, 2                                        # of single moves, of drags that go on
MOVES, PAUSE = 8, .15                                      # per round and variant; seconds between them
SECONDS, HZ = 3, 60                                        # of a drag that goes on
COLOUR = 123, 45, 142                                      # of the edge that is looked for


# -- what is moved

SETUP = """
%config InlineBackend.print_figure_kwargs = {'bbox_inches': None}
%matplotlib inline
import sys; sys.path.insert(0, r'ROOT/tests')
import ipywidgets as W, numpy as np
from unittest import mock
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from curves import curve
from lrtools import box
from lrtools.picker import LRPicker
from lrtools.views import plot_lr_curve
c = curve(repeats=3)
pickers, sliders = [], []
def reset():
    for p in pickers: p.lr = slice(1e-4, 10**-2.5)
    for s in sliders: s.value = -4, -2.5
def named(w, name):
    if isinstance(w, box.FigureBox): pickers.append(w)
    return w.add_class(f'lat-{name}')
""".replace('ROOT', str(ROOT))

CELLS = {
    'picker': "pick = named(LRPicker(c), 'picker'); pick",
    'fallback': "with mock.patch.object(box, '_live_canvas', side_effect=ImportError('not here')): still = named(LRPicker(c), 'fallback')\nstill",
    'mouse': """
fig = Figure(figsize=np.array(pick._size)/100, dpi=100)
plot_lr_curve(c, fig.add_subplot())
canvas,label = box._live_canvas(fig),W.HTML()
canvas.mpl_connect('motion_notify_event', lambda e: setattr(label, 'value', f'{e.x/canvas.device_pixel_ratio:.1f}'))
named(W.VBox([label, canvas]), 'mouse')""",
    'slider': """
a,b = map(float, np.log10(pick._lim))
def slider():
    sliders.append(W.FloatRangeSlider(value=(-4, -2.5), min=a, max=b, step=.01, description='rate', readout=False, style=dict(description_width='34px'), layout=dict(width=pick._slider.layout.width)))
    return sliders[-1]
rate,text = slider(),W.HTML()
rate.observe(lambda ch: setattr(text, 'value', f'{(ch["new"][1]-a)/(b-a)*pick._ax.bbox.width/pick.fig.dpi*100:.1f}'), 'value')
named(W.VBox([text, rate]), 'slider')""",
    'interact': """
def show(r):
    lo,hi = 10**r[0],10**r[1]
    ax = plot_lr_curve(c, plt.figure(figsize=np.array(pick._size)/100, dpi=100, layout='constrained').add_subplot())
    ax.axvspan(lo, hi, color='#7b2d8e', alpha=.16, lw=0, zorder=10)
    for x in (lo, hi): ax.axvline(x, color='#7b2d8e', lw=2, zorder=11)
    plt.show()
named(W.interactive(show, r=slider()), 'interact')"""}

# name: (cell, what the pointer holds, where the answer is seen)
VARIANTS = {
    'mouse on a plot → label': ('mouse', 'canvas', 'text'),
    'LRPicker, drag on the plot': ('picker', 'canvas', 'canvas'),
    'slider → label': ('slider', 'slider', 'text'),
    'LRPicker, slider': ('picker', 'slider', 'canvas'),
    'LRPicker without ipympl, slider': ('fallback', 'slider', 'img'),
    '`interact`, `plt.show()`, slider': ('interact', 'slider', 'img')}
FLOOR = {'canvas': 'mouse on a plot → label', 'slider': 'slider → label'}


# -- the clock, in the page

CLOCK = """
([cell, held, seen, row, colour]) => {
  const root = document.querySelector('.lat-'+cell), scratch = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const edge = (data, width, scale) => {            // the last column of the edge's colour, in CSS pixels
    for (let x = width-1; x >= 0; x--) if ([0, 1, 2].every(i => Math.abs(data[4*x+i]-colour[i]) < 40) && data[4*x+3] > 200) return x/scale;
    return NaN; };
  const shown = {
    text: () => parseFloat(root.querySelector('.widget-html-content').textContent),
    canvas: () => { const c = root.querySelector('.jupyter-matplotlib-canvas-div > canvas'), y = Math.round(row*c.height);
      return edge(c.getContext('2d').getImageData(0, y, c.width, 1).data, c.width, c.width/c.clientWidth); },
    img: () => { const im = root.querySelector(cell === 'interact' ? '.jp-OutputArea-output img' : '.lrtools-figure img'), w = im?.naturalWidth;
      if (!im?.complete || !w) return NaN;
      scratch.canvas.width = w; scratch.canvas.height = 1;
      scratch.drawImage(im, 0, Math.round(row*im.naturalHeight), w, 1, 0, 0, w, 1);
      return edge(scratch.getImageData(0, 0, w, 1).data, w, w/im.clientWidth); }}[seen];
  const lat = window.lat = {shown, log: null};
  lat.arm = dx => { const before = shown(); lat.heard = null;
    lat.done = new Promise((yes, no) => { const end = performance.now()+10000, look = () => {
      if ((shown()-before)/dx > .6) return yes([performance.now()-lat.heard, performance.now()-lat.stamp, shown()]);
      performance.now() > end ? no(new Error(`no answer: ${before} to ${shown()}, asked for ${dx}`)) : requestAnimationFrame(look); }; requestAnimationFrame(look); }); };
  // a drag that goes on: moves at a steady rate, then the age of what each new frame shows
  lat.drag = async (el, x0, y, span, seconds, hz) => { const moves = [], frames = []; let last = NaN, on = true;
    const look = () => { const x = shown(); if (x !== last && !isNaN(x)) frames.push([performance.now(), last = x]); if (on) requestAnimationFrame(look); }; requestAnimationFrame(look);
    const send = x => { moves.push([performance.now(), x]);
      el.dispatchEvent(new MouseEvent('mousemove', {clientX: x, clientY: y, buttons: 1, bubbles: true})); };
    const start = performance.now();
    for (let k = 1; performance.now()-start < 1000*seconds; k++) { const f = (k/hz) % 2; send(x0+span*(f < 1 ? f : 2-f)); await new Promise(r => setTimeout(r, start+1000*k/hz-performance.now())); }
    send(x0+span/2+.25); await new Promise(r => setTimeout(r, 2500)); on = false;
    return [moves, frames]; };
  addEventListener('pointermove', e => { if (lat.heard === null) { lat.heard = performance.now(); lat.stamp = e.timeStamp; } }, true);
}"""


class Bench:
    "The notebook with every variant, in one page"
    def __init__(self, nb):
        self.nb, self.page = nb, nb.page
        for i, name in enumerate(['setup', *CELLS]):
            nb.run(i, 120)
            if name == 'picker': nb.wait_canvas(); nb.until(lambda: nb.eval('pick.live')); time.sleep(1)
        time.sleep(1)

    def held(self, variant):
        "The element that the pointer takes, and where: x and y on the page, room to the right"
        cell, held, _ = VARIANTS[variant]
        self.page.mouse.move(2, 2)
        root = self.page.locator(f'.lat-{cell}')
        if held == 'slider':
            handle = root.locator('.noUi-handle').nth(1)
            handle.scroll_into_view_if_needed()
            box, track = handle.bounding_box(), root.locator('.noUi-connects').first.bounding_box()
            return handle, box['x']+box['width']/2, box['y']+box['height']/2, track['x']+.9*track['width']
        canvas = root.locator('.jupyter-matplotlib-canvas-div > canvas').nth(1)
        canvas.scroll_into_view_if_needed()
        x, y = self.nb.at(canvas, self.nb.where('pick._ax', '10**-2.5', self.height))
        return canvas, x, y, self.nb.at(canvas, self.nb.where('pick._ax', .25, self.height))[0]

    @contextmanager
    def hold(self, variant):
        "Press; gives the element, x and y of the pointer and how far right it may go. The choice begins where it always does"
        cell, _, seen = VARIANTS[variant]
        self.nb.exec('reset()'); time.sleep(.5)
        self.height = self.nb.eval('(lambda a, b: a+.92*pick._top*(b-a))(*pick._ax.get_ylim())') # the trend is not there, nor its dot
        el, x, y, end = self.held(variant)
        row = self.nb.where('pick._ax', 1e-3, self.height)[1]
        self.page.evaluate(CLOCK, [*VARIANTS[variant], row, COLOUR])
        self.page.mouse.move(x, y); time.sleep(.3)
        self.page.mouse.down(); time.sleep(.3)
        self.page.mouse.move(x+6, y); time.sleep(.6)
        try: yield el, x+6, y, end
        finally: self.page.mouse.up(); time.sleep(.4)

    def moves(self, variant, rng, n=MOVES):
        "(ms since the page heard of the move, ms since it happened), for `n` single moves"
        out = []
        with self.hold(variant) as (_, x, y, end):
            low = x
            for _ in range(n+1):
                to = x
                while abs(to-x) < 20: to = rng.uniform(low, end)
                self.page.evaluate('dx => lat.arm(dx)', to-x)
                self.page.mouse.move(to, y)
                out.append(self.page.evaluate('() => lat.done'))
                x = to
                time.sleep(PAUSE)
        return np.array(out[1:])[:, :2]                    # the first warms up

    def drag(self, variant):
        "Frames per second, median age of what they show, age of the last when it came: ms"
        with self.hold(variant) as (el, x, y, end):
            span = end-x-10
            moves, frames = map(np.array, self.page.evaluate('([el, ...a]) => lat.drag(el, ...a)', [el.element_handle(), x, y, span, SECONDS, HZ]))
            self.page.mouse.move(x+span/2, y); time.sleep(.3)
        off = frames[-1, 1]-moves[-1, 1]                   # of the picture in the page, after everything has settled
        ages = []
        for t, shown in frames:
            near = moves[(moves[:, 0] < t) & (abs(moves[:, 1]+off-shown) < 6)]
            if len(near): ages.append(t-near[-1, 0])
        during = frames[frames[:, 0] < moves[-1, 0]]
        return len(during)/SECONDS, np.median(ages), frames[-1, 0]-moves[-1, 0], len(moves)/SECONDS


@contextmanager
def bench():
    "A `Bench` in a JupyterLab of its own"
    import browser, lab
    from playwright.sync_api import sync_playwright
    with tempfile.TemporaryDirectory() as root, lab.server(root) as server, sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser.find(), args=browser.FLAGS)
        page = chromium.new_page(viewport=dict(width=1000, height=900))
        nb = lab.Notebook.open(page, server, [SETUP, *CELLS.values()])
        try: yield Bench(nb)
        finally:
            nb.close()
            chromium.close()


# -- tables

def measure(rounds=ROUNDS, drags=DRAGS):
    "Single moves and drags of each variant, by turns: arrays of (ms since heard, ms since happened) and of what `drag` gives"
    rng, names = np.random.default_rng(0), list(VARIANTS)
    single, steady = {v: [] for v in names}, {v: [] for v in names}
    with bench() as b:
        for i in range(rounds):
            for j in np.roll(range(len(names)), -i): single[names[j]].append(b.moves(names[j], rng))
        for i in range(drags):
            for j in np.roll(range(len(names)), -i): steady[names[j]].append(b.drag(names[j]))
        assert not b.nb.errors, b.nb.errors
    return {v: np.array(single[v]) for v in names}, {v: np.array(steady[v]) for v in names}


def tables():
    single, steady = measure()
    rows = []
    for v, (_, held, _) in VARIANTS.items():
        of = lambda v: np.median(single[v][..., 1], 1)                      # one per round
        ms, ratio = single[v][..., 1], of(v)/of(FLOOR[held])
        fps, age, last, _ = np.median(steady[v], 0)
        rows.append([v, f'{np.median(ms):.0f}', f'{np.quantile(ms, .9):.0f}', f'{np.median(ratio):.2f}x', f'{ratio.min():.2f}–{ratio.max():.2f}',
                     f'{fps:.0f}', f'{age:.0f}', f'{last:.0f}'])
    return table(['', 'median, ms', 'p90', 'to its label', 'lowest–highest', 'frames per s', 'behind, ms', 'last, ms'], rows)


ABOUT = f"""From a move of the pointer to the first animation frame in which a canvas, picture or label of the page shows it; pixels are read, not state.
JupyterLab {version('jupyterlab')}, ipykernel {version('ipykernel')}, ipympl {version('ipympl')} and a headless Chromium without GPU, kernel and browser on the same machine.
All variants are in one notebook and take turns, {ROUNDS} rounds of {MOVES} moves; the clock starts with the time stamp of the browser's `pointermove`.
Moves come more than {1000*PAUSE:.0f} ms after the last answer, so that ipympl's throttle (one move in 33 ms) lets them pass at once. A ratio is that of the
medians of one round, to a label moved by the same kind of event: by the mouse on an ipympl canvas that does not draw, or by the same slider.
The last three columns are a drag of {SECONDS} s with {HZ} moves per second (made in the page), median of {DRAGS}: frames per second, how long ago the pointer was where
a frame shows it, and when the last frame came after the last move."""


def report():
    return '\n\n'.join([stamp(), ABOUT, tables()])
