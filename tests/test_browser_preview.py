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

MANY = '''
import random
from IPython.display import display
from lrtools.schedule import constant, poly, sgdr, warmup_cos
from lrtools.curve import LRCurve, Sweep
from lrtools.panel import FreezePanel
from lrtools.picker import LRPicker
rng = random.Random(5)
def some():
    rate,at = lambda lo=-7, hi=0: 10**rng.uniform(lo, hi), rng.uniform(.02, .45)
    top = rng.choice([rate(), slice(rate()), slice(rate(-8, -5), rate(-4, 0)), [rate(), rate()]])
    return rng.choice([lambda: one_cycle(top, div=rng.uniform(1, 300), div_final=rate(0, 7), pct_start=at), lambda: flat_cos(top, pct_start=at), lambda: warmup_cos(top, pct_start=at, lr_start=rate(-9, -7)),
                       lambda: sgdr(top, rng.randint(1, 30), 1, rng.uniform(.6, 6)), lambda: poly(top, power=rng.uniform(.2, 9))])()
scheds = [one_cycle(3e-3), constant(3e-4), one_cycle(7.6e-2), one_cycle(1e-3, pct_start=1/3), one_cycle(1e-3, div=7), sgdr(1e-3, 2, 1, cycle_mult=1.3), one_cycle(slice(1e-5, 3e-4)), *(some() for _ in range(10))]
plans = [Plan([Phase(s, 13)]) for s in scheds]
prevs = []
def show(i, n=4): # controls and a picture: twenty canvases would take their time, and so many messages at once a server drops
    with mock.patch.object(box, '_live_canvas', side_effect=ImportError('not here')): prevs.extend(SchedulePreview(p) for p in plans[i:i+n])
    display(*prevs[i:])
with learn.no_bar(), learn.no_logging(): learn.fit(1, 1/300)
panel = FreezePanel(learn, slice(1.01e-5, 1/3e3))
import numpy as np
lrs = np.geomspace(1e-5, 1., 80)
picker = LRPicker(LRCurve([Sweep(lrs[:,None], 2-1.5/(1+np.exp(-4*(np.log10(lrs)+2.3)))+8*np.clip(np.log10(lrs)+.6, 0, None)**2)], 80, (1e-5,), (1.,)))
picker.lr,picker.beta = slice(1.234e-4, 5.67e-3),1/3
hand = SchedulePreview(one_cycle(4.4e-3, pct_start=1/7, div=7))
def untouched():
    "Names of what is not as it was given"
    odd = [repr(p) for p,q in zip(prevs, plans) if p.plan is not q or p._done or not p._undo.disabled or p._error.value]
    if (picker.lr, picker.beta)!=(slice(1.234e-4, 5.67e-3), 1/3): odd.append(repr((picker, picker.beta)))
    if panel.lr!=slice(1.01e-5, 1/3e3) or panel._chosen: odd.append(repr((panel, panel.lr)))
    return odd
'''

def test_plans_are_not_changed_by_being_shown_whatever_their_values(start):
    "Shown, saved, loaded anew and in a page of another width: every value is the one that was given, to the bit; a key that is pressed changes its argument and nothing else"
    cells = [f'show({i})' for i in range(0, 17, 4)]+['display(picker, panel, hand)']
    nb = start(MANY, cells)
    for i in range(len(cells)): nb.run(2+i)
    given = nb.eval("[f'{p.plan!r}' for p in prevs]")
    turned = 0
    def seen(): # what a page sends of itself it has sent before what a hand does afterwards
        nonlocal turned
        handles = nb.page.locator('.lrtools .noUi-handle')
        nb.until(lambda: handles.count()>=nb.eval("sum(hasattr(w, 'step') for p in (*prevs, picker, panel, hand) for w in box._tree(p))"), 90)
        mine = nb.page.locator('.lrtools').last.locator('.widget-inline-hbox', has=nb.page.get_by_text('pct_start', exact=True)).locator('.noUi-handle')
        mine.focus(); nb.page.keyboard.press('ArrowRight'); turned += 1
        nb.until(lambda: nb.eval("hand.plan[0].sched.args['pct_start']")==round(.14+turned/100, 2), 60)
        nb.until(lambda: mine.get_attribute('aria-valuetext')==str(round(.14+turned/100, 2)), 60) # said as it is shown
        assert nb.eval('untouched()')==[] and nb.eval("[f'{p.plan!r}' for p in prevs]")==given
        assert nb.eval("hand.plan==Plan([Phase(one_cycle(4.4e-3, pct_start=hand.plan[0].sched.args['pct_start'], div=7), 3)])")
    seen()
    wide = nb.eval('hand._wide')
    nb.page.set_viewport_size(dict(width=760, height=900))
    nb.until(lambda: nb.eval('hand._wide')<wide, 60)
    for i in range(nb.page.locator('.lrtools').count()): nb.page.locator('.lrtools').nth(i).scroll_into_view_if_needed()
    seen()
    nb.reload(); seen()
    # a plan that comes from Python, and back to what was given by hand
    nb.exec('plans[0] = prevs[0].plan = Plan([Phase(one_cycle(1.7e-4, div=33), 2)]); prevs[0]._done.clear(); prevs[0]._sync()'); given[0] = nb.eval("f'{prevs[0].plan!r}'"); seen()
    undo = nb.page.locator('.lrtools').last.locator('button', has_text='Undo')
    while nb.eval('len(hand._done)'):
        n = nb.eval('len(hand._done)')
        undo.click(); nb.until(lambda: nb.eval('len(hand._done)')<n)
    assert nb.eval('hand.plan==Plan([Phase(one_cycle(4.4e-3, pct_start=1/7, div=7), 3)])')

NAMES = '''
from IPython.display import Markdown, display
from lrtools.words import md_code, md_table, md_text
odd = ['$x$ and $y$', '$$z$$', '<img src=x onerror=alert(1)>', 'a|b', '`c`', 'http://a.test/b', '\\\\(u\\\\)', '\\\\[w\\\\]', '\\\\begin{equation}v\\\\end{equation}']
from lrtools.words import Md
display(Markdown(md_table(['name','code'], [(o, Md(md_code(o))) for o in odd])))'''

def test_names_in_tables_are_no_formulas_and_a_restarted_kernel_leaves_the_picture(start, tmp_path):
    nb = start(PREVIEW, [NAMES]); ready(nb)
    nb.run(2)
    table = nb.page.locator('.jp-RenderedMarkdown table').last; table.wait_for()
    cells = lambda: [r.locator('td').all_inner_texts() for r in table.locator('tr').all()[1:]]
    odd = nb.eval('odd')
    nb.until(lambda: cells()==[[o, o] for o in odd], 20)
    nb.exec("display(Markdown('$q$'))") # a formula, so that the page's typesetter is there
    nb.add_and_run("display(Markdown('so is $q$'))"); nb.page.locator('mjx-container').first.wait_for(timeout=60_000)
    nb.js("await app.commands.execute('notebook:render-all-markdown')")
    assert cells()==[[o, o] for o in odd] and table.locator('mjx-container, img, a').count()==0
    nb.screenshot(tmp_path/'names.png')
    widget,picture = nb.page.locator('.jp-OutputArea-child', has=nb.page.locator('.lrtools')),nb.page.locator('.jp-OutputArea-child', has=nb.page.locator('img[src^="data:image/png"]')).last
    nb.js("panel.content.scrollToItem(1)")
    assert widget.first.is_visible()
    nb.screenshot(tmp_path/'live.png')
    nb.js('await panel.sessionContext.restartKernel()')
    nb.until(lambda: not widget.first.is_visible() and nb.page.evaluate("[...document.querySelectorAll('.jp-OutputArea-child img')].some(i => i.checkVisibility() && i.clientWidth > 300 && i.src.startsWith('data:image/png'))"), 60)
    nb.screenshot(tmp_path/'restarted.png')
