"The schedule preview in a real browser: slide, drag, read the plan in Python, fit it and watch"
import base64
from io import BytesIO

import numpy as np, pytest
from PIL import Image

import lab

pytestmark = pytest.mark.browser

SETUP = lab.WATCHED+'''
from unittest import mock
from lrtools import box
from lrtools.preview import SchedulePreview
from lrtools.schedule import flat_cos, one_cycle
plan = Plan([Phase(one_cycle(1e-3), 2, freeze_to=-1, name='head'), Phase(flat_cos(slice(1e-5, 1e-3)), 1, freeze_to=0)])
def where(epoch, lr):
    ax = prev._ax; w,h = prev.fig.bbox.size; px = ax.transData.transform((epoch, lr))
    return [px[0]/w, 1-px[1]/h]
def dot(i): return where(*next(d[6:] for d in prev._dots() if d[0]==i))
def arg(k): return prev.plan[prev.phase].sched.args[k]'''
PREVIEW = 'prev = SchedulePreview(plan, learn); prev'
PLAIN = "with mock.patch.object(box, '_live_canvas', side_effect=ImportError('not here')): prev = SchedulePreview(plan, learn)\nprev"
FIT = "with learn.no_bar(), learn.no_logging(): fit_plan(learn, prev.plan, cbs=[Slow(1), LiveSchedule(.05)])"

class Preview(lab.Notebook):
    def handle(self, name): return self.page.locator('.lrtools .widget-inline-hbox', has=self.page.get_by_text(name, exact=True)).locator('.noUi-handle')
    def said(self, part): return self.page.locator(f'.lrtools-{part}').first.inner_text()
    def press(self, name, key, n=1):
        self.handle(name).focus()
        for _ in range(n): self.page.keyboard.press(key)

    def agrees(self):
        "Page and kernel show the same: the lines to run, and every pixel"
        self.until(lambda: self.said('code').replace('Copy', '').split()==self.eval('prev.code').split(), 10)
        def same():
            want = np.array(Image.open(BytesIO(base64.b64decode(self.eval("__import__('base64').b64encode(prev.still()).decode()")))).convert('RGBA')).astype(int)
            have = self.canvas_array().astype(int)
            return have.shape==want.shape and (abs(have-want)<3).mean()>.999
        self.until(same, 10)

@pytest.fixture
def start(page, lab_server):
    def go(cell, more=()):
        nb = Preview.open(page, lab_server, [SETUP, cell, *more]); nb.run(0, 120); nb.run(1)
        opened.append(nb); return nb
    opened = []
    yield go
    assert all(not nb.errors for nb in opened)

def ready(nb):
    nb.wait_canvas()
    nb.until(lambda: nb.eval('prev._size[0]')>720 and nb.canvas().bounding_box()['width']==nb.eval('prev._size[0]'), 20); nb.wait_canvas(); nb.agrees()

def test_slide_drag_and_fit(start):
    nb = start(PREVIEW, [FIT]); ready(nb)
    nb.press('pct_start', 'ArrowRight', 3)
    nb.until(lambda: nb.eval("arg('pct_start')")==.28); nb.agrees()
    nb.press('lr_max', 'ArrowRight', 2)
    nb.until(lambda: nb.eval("arg('lr_max')")==1.3e-3); nb.agrees()
    nb.drag(nb.canvas(), nb.eval('dot(0)'), nb.eval('where(1., 3e-3)'))
    nb.until(lambda: nb.eval("abs(arg('pct_start')-.5)<.02 and abs(arg('lr_max')/3e-3-1)<.1 and not prev._gesture")); nb.agrees()
    nb.until(lambda: float(nb.page.locator('.lrtools input[type=text]').first.input_value())==nb.eval("arg('lr_max')")) # the field followed
    # the other phase, by its dot
    nb.drag(nb.canvas(), nb.eval('dot(1)'), nb.eval('where(2.5, 1e-3)'))
    nb.until(lambda: nb.eval("(prev.phase, abs(arg('pct_start')-.5)<.02)")==[1, True]); nb.agrees()
    assert nb.eval('[prev.plan[0].n_epoch, prev.plan[0].freeze_to, prev.plan[1].sched.kind, plan!=prev.plan]')==[2, -1, 'flat_cos', True]
    # fit it and watch
    nb.start_run(2)
    nb.watch(2)
    nb.until(lambda: nb.js('return cells.get(2).executionCount'), 60); nb.no_error()
    assert nb.eval('learn.lr_history.lrs.tolist()==prev.plan.rates(9, 2).tolist()')
    # what is saved is what is on the screen
    nb.add_and_run('pass')
    saved = [o.data['image/png'] for o in nb.save().cells[1].outputs if 'image/png' in o.get('data', {})]
    assert (abs(np.array(Image.open(BytesIO(base64.b64decode(saved[-1]))).convert('RGBA')).astype(int)-nb.canvas_array())<3).mean()>.999

def test_phases_kinds_and_keys(start):
    nb = start(PREVIEW); ready(nb)
    button = lambda name: nb.page.locator('.lrtools button', has_text=name).first
    button('Add').click(); nb.until(lambda: nb.eval('(len(prev.plan), prev.phase)')==[3, 1]); nb.agrees()
    nb.page.locator('.lrtools select').first.select_option('poly'); nb.until(lambda: nb.eval('prev.plan[1].sched.kind')=='poly'); nb.agrees()
    nb.handle('power').wait_for(); assert nb.handle('pct_start').count()==0 # the controls are those of this schedule
    nb.press('power', 'ArrowRight', 5); nb.until(lambda: nb.eval("arg('power')")==1.5); nb.agrees()
    button('Later').click(); nb.until(lambda: nb.eval('(prev.plan[2].sched.kind, prev.phase)')==['poly', 2]); nb.agrees()
    nb.click(nb.canvas(), nb.eval('where(.3, 3e-5)')); nb.until(lambda: nb.eval('prev.phase')==0)
    nb.page.keyboard.press('ArrowUp'); nb.until(lambda: nb.eval("arg('lr_max')")==1.1e-3); nb.agrees()
    nb.page.keyboard.press('Shift+ArrowRight'); nb.until(lambda: nb.eval("arg('pct_start')")==.35); nb.agrees()
    field = nb.page.locator('.lrtools input[type=text]').first
    field.fill('[1e-5'); field.press('Enter')
    nb.page.locator('.lrtools-error').wait_for(); assert 'is no rate' in nb.page.locator('.lrtools-error').inner_text() and nb.eval("arg('lr_max')")==1.1e-3
    nb.until(lambda: field.input_value()=='1.1e-3')
    def back():
        if button('Undo').is_enabled(): button('Undo').click()
        return nb.eval('len(prev._done)==0 and prev.plan==plan')
    nb.until(back); nb.agrees()

def test_without_ipympl(start):
    nb = start(PLAIN)
    image = nb.page.locator('.lrtools-figure img'); image.wait_for()
    assert 'ipympl' in nb.said('said')
    before = image.get_attribute('src')
    nb.press('pct_start', 'ArrowLeft', 2); nb.until(lambda: nb.eval("arg('pct_start')")==.23); nb.until(lambda: image.get_attribute('src')!=before)
    before = image.get_attribute('src')
    nb.press('n_epoch', 'ArrowRight'); nb.until(lambda: nb.eval('prev.plan[0].n_epoch')==3); nb.until(lambda: image.get_attribute('src')!=before)
