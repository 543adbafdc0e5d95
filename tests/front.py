"The browser's half of a figure box, without a browser: asks for frames, composites them as ipympl's script does, and sends what mouse, keys and controls would"
import io, json

import ipywidgets as W
import numpy as np
from PIL import Image
from matplotlib.backends.backend_agg import FigureCanvasAgg

from lrtools.box import _tree

def update(widget, **state): return dict(content=dict(data=dict(method='update', state=state, buffer_paths=[])), buffers=[])
def custom(**content): return dict(content=dict(data=dict(method='custom', content=content)), buffers=[])

def send(widget, **state):
    "A control was moved: the message goes the way of a real one. Lists of options are told by `index`"
    widget.comm.handle_msg(update(widget, **state))

def pick(widget, value):
    "Choose `value` of a widget with options"
    send(widget, index=[o[1] if isinstance(o, (tuple, list)) else o for o in widget.options].index(value))

def click(button):
    if not button.disabled: button.comm.handle_msg(custom(event='click'))

def fresh(box):
    "The pixels of the figure of `box`, drawn from nothing: what a page must show"
    fig,canvas = box.fig,box.fig.canvas
    for a in box._moving: a.set_animated(False)
    try:
        plain = FigureCanvasAgg(fig)
        plain.draw()
        return np.asarray(plain.buffer_rgba()).copy()
    finally:
        fig.set_canvas(canvas)
        for a in box._moving: a.set_animated(True)

def loser(seed, most):
    "For `Front`: loses frames by chance, at most `most` in a row"
    rng,run = np.random.default_rng(seed),0
    def lose():
        nonlocal run
        run = run+1 if run<most and rng.random()<.8 else 0
        return run>0
    return lose

class Front:
    "A page that shows the canvas of `box`. `lose()` tells whether a frame comes before the last one is decoded, which drops that; `settle` ends the burst"
    def __init__(self, box, dpr=1, lose=None):
        self.box,self.canvas,self.dpr,self.lose = box,box.canvas,dpr,lose
        self.frame,self.image,self.new,self.queue,self.waiting,self.held,self.frames,self.lost = None,None,False,[],False,0,0,0
        self.canvas.send = self._receive
        if dpr!=1: self.send('set_dpi_ratio', dpi_ratio=dpr); self.send('set_device_pixel_ratio', device_pixel_ratio=dpr)
        for t in ('refresh', 'send_image_mode', 'initialized'): self.send(t)
        self.pump()

    def send(self, type, **kw): self.canvas.comm.handle_msg(custom(type=type, **kw))

    def _receive(self, content, buffers=None):
        m = json.loads(content['data'])
        if m['type']=='binary':
            self.waiting = False
            if self.new and self.lose and self.lose(): self.new,self.lost = False,self.lost+1
            self._decode()
            self.image,self.new = Image.open(io.BytesIO(bytes(buffers[0]))).convert('RGBA'),True
            if not self.lose: self._decode()
        elif m['type']=='draw' and not self.waiting: self.waiting = True; self.queue.append('draw')
        elif m['type']=='resize':
            self.frame = Image.new('RGBA', tuple(int(o*self.dpr) for o in m['size']))
            if self.image: self.frame.alpha_composite(self.image)
            self.queue.append('refresh')

    def _decode(self):
        "The picture has come in: draw it on what is there. Whether it is a whole one is asked now, not when it was sent"
        if not self.new: return
        self.new,self.frames = False,self.frames+1
        if self.canvas._image_mode=='full' or self.frame is None: self.frame = Image.new('RGBA', self.frame.size if self.frame else self.image.size)
        self.frame.alpha_composite(self.image)

    def pump(self):
        "What the page does until nothing is left to do"
        while self.queue: self.send(self.queue.pop(0))

    def settle(self): self.pump(); self._decode(); return self

    def pixels(self): return np.asarray(self.settle().frame).copy()

    # positions are (rate, height in axes) or device pixels
    def at(self, lr, height=.3):
        ax = self.box._ax
        return ax.transData.transform((lr, 0))[0], ax.transAxes.transform((0, height))[1]

    def share(self, x, height=.3):
        "Where the share `x` of the width of the axes is"
        return tuple(self.box._ax.transAxes.transform((x, height)))

    def mouse(self, type, x, y, button=0):
        self.send(type, x=x, y=self.box.fig.bbox.height-y, button=button, buttons=self.held, step=None, modifiers=[], guiEvent={})
        self.pump()
    def press(self, x, y): self.mouse('motion_notify', x, y); self.held = 1; self.mouse('button_press', x, y)
    def move(self, x, y): self.mouse('motion_notify', x, y)
    def release(self, x, y): self.held = 0; self.mouse('button_release', x, y)
    def leave(self): self.mouse('figure_leave', 0, 0)
    def swipe(self, p, q, steps=4, between=None):
        "Press at `p`, move to `q`, release there; `between` happens at half the way"
        p,q = np.array(p),np.array(q)
        self.press(*p)
        for k in range(1, steps+1):
            self.move(*(p+(q-p)*k/steps))
            if between and k==steps//2: between()
        self.release(*q)
    def drag(self, a, b, height=.3, steps=4):
        "From rate `a` to rate `b`"
        self.swipe(self.at(a, height), self.at(b, height), steps)
    def click(self, lr, height=.3): self.press(*self.at(lr, height)); self.release(*self.at(lr, height))
    def double(self, x, y):
        "As the page tells it: two clicks, and one more press that nothing releases"
        for _ in range(2): self.press(x, y); self.release(x, y)
        self.mouse('dblclick', x, y)
    def key(self, name):
        for t in ('key_press', 'key_release'): self.send(t, key=name, guiEvent={})
        self.pump()
    def corner(self, width, height):
        "The corner of the canvas was dragged"
        self.send('resize', width=width, height=height); self.pump()

# what a page sends of itself

def snapped(w):
    "The value of the slider `w`, brought to its steps, as a page does that shows it"
    lo,hi,step,log = w.min,w.max,w.step or 1e-9,hasattr(w, 'base')
    v = np.log(w.value)/np.log(w.base) if log else np.asarray(w.value)
    at = np.clip(lo+np.round((v-lo)/step)*step, lo, hi)
    if isinstance(w.value, tuple): return at.tolist()
    return type(w.value)(w.base**at if log else at)

def answer(box):
    "The controls of `box` are shown: each slider sends where its page has put it, and each field and option what it is"
    for w in _tree(box):
        if hasattr(w, 'step') and hasattr(w, 'max'): send(w, value=snapped(w))
        elif hasattr(w, 'index'): send(w, index=w.index)
        elif isinstance(w, (W.Text, W.Checkbox)): send(w, value=w.value)
