"The picker in a real browser: JupyterLab, where nothing else is said"
import base64, contextlib, re
from io import BytesIO

import numpy as np, pytest
from PIL import Image

import lab

pytestmark = pytest.mark.browser

HERE = lab.ROOT/'tests'
SETUP = f'''
import matplotlib, sys, numpy as np; sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from curves import curve
from lrtools.box import _open
from lrtools.picker import LRPicker
used = matplotlib.get_backend()
def chosen(): return [pick.lr.start, pick.lr.stop] if isinstance(pick.lr, slice) else pick.lr
def spot(lr, height=.3):
    ax = pick.fig.axes[0]; w,h = pick.fig.bbox.size
    return [ax.transData.transform((lr, 1))[0]/w, 1-ax.transAxes.transform((0, height))[1]/h]'''
PICK = 'pick = LRPicker(curve()); pick'

class Picker(lab.Notebook):
    "A notebook whose kernel has a picker, `pick`; places on it are (rate, height in axes)"
    def spot(self, lr, height=.3): return self.eval(f'spot({lr}, {height})')
    def chosen(self): return self.eval('chosen()')
    def drag_to(self, a, b, height=.3, **kw): self.drag(self.canvas(), self.spot(a, height), self.spot(b, height), **kw)
    def click_at(self, lr, height=.3): self.click(self.canvas(), self.spot(lr, height))
    def choose(self, lr): self.exec(f'pick.lr = {lr}')
    def button(self, name): return self.page.locator('.lrtools').first.locator('button', has_text=name)
    def said(self, part): return self.page.locator(f'.lrtools-{part}').first.inner_text()
    def handle(self, n): return self.page.locator('.lrtools .noUi-handle').nth(n)
    def away(self): self.page.mouse.move(5, 5); self.page.locator('.lrtools-readout', has_not_text='pointer').wait_for()

    def wait_size(self, wanted=lambda w: True):
        "Wait until the figure has a size that is `wanted` and the page shows it at that"
        self.wait_canvas()
        self.until(lambda: wanted(w := self.eval('pick._size[0]')) and self.canvas().bounding_box()['width']==w, 20); self.wait_canvas()

    def choice(self, *ends):
        "Wait until the choice is this rate, or this range, as near as a pixel and two digits go"
        near = lambda got, gesture: got and not gesture and len(np.atleast_1d(got))==len(ends) and np.allclose(np.log10(np.float64(got)), np.log10(ends), atol=.045)
        try: self.until(lambda: near(*self.eval('(chosen(), bool(pick._gesture))')), 10)
        except AssertionError: raise AssertionError(f'{self.chosen()}, not {ends}') from None
        return self.chosen()

    def edges(self):
        "Where the canvas shows edges of the choice, in fractions of its width"
        image = self.canvas_array(); purple = (abs(image[...,:3].astype(int)-(0x7b,0x2d,0x8e))<24).all(-1)
        columns = np.flatnonzero(purple[:purple.shape[0]*3//4].sum(0)>.3*purple.shape[0])
        return [c.mean()/purple.shape[1] for c in np.split(columns, np.flatnonzero(np.diff(columns)>2)+1)]

    def shows(self, *ends):
        "Canvas, sentence and code agree with the choice of Python"
        at = [self.spot(e)[0] for e in self.choice(*ends)] if len(ends)>1 else [self.spot(self.choice(*ends))[0]]
        self.until(lambda: len(e := self.edges())==len(at) and np.allclose(e, at, atol=.004), 10)
        self.until(lambda: self.said('code').startswith(self.eval('pick.code')), 10)
        assert self.said('sentence').startswith(self.eval("__import__('lrtools.suggest').suggest.classify(pick.curve, pick.lr).name"))

    def same_pixels(self):
        "The page has what the kernel drew, and that is what it draws from nothing"
        drawn = lambda: (self.exec("np.save('drawn.npy', np.asarray(pick.canvas.get_renderer().buffer_rgba()))"), np.load(self.folder/'drawn.npy'))[1]
        def same():
            kernel = drawn(); self.wait_canvas(); page[:] = [self.canvas_array()]
            return page[0].shape==kernel.shape and (page[0]==kernel).all()
        page = []
        try: self.until(same, 10)
        except AssertionError: raise AssertionError(f'{(page[0]!=drawn()).any(-1).sum()} pixels of the page are not those of the kernel') from None
        self.exec('pick.canvas.draw()'); assert (drawn()==page[0]).all(), 'what moved left traces in the kernel'

def new_picker(browser, server, **kw):
    context = browser.new_context(**dict(viewport=dict(width=1100, height=1000), permissions=['clipboard-read', 'clipboard-write']) | kw)
    nb = Picker.open(context.new_page(), server, [SETUP, PICK]); nb.run(0)
    return nb

@pytest.fixture(scope='module')
def one_notebook(browser, lab_server):
    nb = new_picker(browser, lab_server)
    yield nb
    nb.close(); nb.page.context.close()

@pytest.fixture
def nb(one_notebook):
    "A fresh picker, live, in a notebook that the tests share"
    nb = one_notebook; nb.errors.clear()
    nb.js('const m = panel.content.model.sharedModel; m.deleteCellRange(2, m.cells.length)')
    nb.page.set_viewport_size(dict(width=1100, height=1000))
    nb.page.mouse.move(5, 5)
    nb.run(1); nb.wait_size(lambda w: w>720)
    yield nb
    assert not nb.errors

# ---------------------------------------------------------------- gestures

def test_drag_chooses_a_range(nb):
    nb.drag_to(1e-5, 1e-3); nb.shows(1e-5, 1e-3)
    nb.drag_to(3e-2, 1e-4); nb.shows(1e-4, 3e-2) # backwards, over an edge

def test_press_at_once_after_a_move(nb):
    "ipympl delays moves: the last one, without a button, arrives after the press"
    a,b = [nb.at(nb.canvas(), nb.spot(lr)) for lr in (1e-6, 1e-4)]
    nb.page.mouse.move(a[0]-30, a[1]); nb.page.mouse.move(*a); nb.page.mouse.down(); nb.page.wait_for_timeout(2*lab.THROTTLE)
    nb.page.mouse.move(*b, steps=20); nb.page.mouse.up()
    nb.shows(1e-6, 1e-4)

def test_edges_and_band_are_dragged(nb):
    nb.choose('slice(1e-4, 1e-2)')
    nb.drag_to(1e-4, 1e-6); nb.shows(1e-6, 1e-2)
    nb.drag_to(1e-2, 1e-3, height=.05); nb.shows(1e-6, 1e-3)
    nb.drag_to(3e-5, 3e-3); nb.shows(1e-4, 1e-1) # the band, grabbed in its middle
    nb.drag_to(1e-4, 1); nb.shows(1e-1, 1) # one edge past the other

def test_click_chooses_one_rate(nb):
    nb.click_at(2e-5); nb.shows(2e-5)
    nb.drag_to(2e-5, 1e-3); nb.shows(1e-3) # its line is dragged
    nb.choose('slice(1e-5, 1e-2)'); nb.click_at(3e-4); nb.shows(3e-4) # in the band

def test_press_on_a_suggestion(nb):
    rows = nb.eval("(lambda s: [[t.get_text(), *(s.transData.transform((1, i))/pick.fig.bbox.size)] for i,t in enumerate(s.texts[::2])])(pick.fig.axes[0].child_axes[0])")
    offers = nb.eval('{k: lr for k,lr,*_ in pick._rows[0]}'); assert len(rows)>2 and rows[0][0]=='lrtools' and len(offers)==len(rows)
    nb.choose(1e-6)
    for name,_,y in rows[::-1]:
        nb.click(nb.canvas(), (.5, 1-y))
        nb.until(lambda: f'Suggested by {name}' in nb.said('sentence'))
        assert nb.chosen()==float(f'{offers[name]:.2g}')
    nb.shows(nb.chosen())
    assert 'with other batch orders' in nb.said('sentence')

def test_keys_after_a_click(nb):
    nb.click_at(1e-3); a = nb.choice(1e-3); key = nb.page.keyboard
    nb.exec('steps = [pick.lr]; pick.observe(lambda c: steps.append(c["new"]), "lr")')
    key.press('ArrowRight'); nb.choice(a*10**.05)
    key.press('Shift+ArrowUp'); nb.choice(a*10**.3)
    key.press('ArrowDown'); key.press('Shift+ArrowLeft'); nb.choice(a)
    for _ in range(8): key.down('ArrowRight') # held: after the first they are repeats
    key.up('ArrowRight'); nb.shows(a*10**.4)
    key.press('Control+z'); nb.choice(a*10**.35)
    key.press('Control+y'); nb.shows(a*10**.4)
    moves = np.diff(np.log10(nb.eval('steps'))); wanted = [.05, .25, -.05, -.25, *[.05]*8, -.05, .05]
    assert len(moves)==len(wanted) and np.allclose(moves, wanted, atol=.045)

def test_python_keeps_its_digits(nb):
    "The page's slider can only show round numbers"
    for lr in (1e-6, 9.7e-4, 1.2345e-3, 0.0333):
        at = nb.handle(0).get_attribute('aria-valuenow'), nb.handle(0).bounding_box()
        nb.choose(lr); nb.until(lambda: (nb.handle(0).get_attribute('aria-valuenow'), nb.handle(0).bounding_box())!=at)
        nb.shows(lr); assert nb.chosen()==lr
    nb.choose('slice(1.2345e-4, 1.2345e-2)'); nb.shows(1.2345e-4, 1.2345e-2)
    nb.handle(1).press('ArrowRight'); nb.until(lambda: nb.chosen()[1]!=1.2345e-2); assert nb.chosen()[0]==1.2345e-4
    assert nb.eval('len(pick._past)')==6

def test_tab_leaves_the_canvas(nb):
    where = lambda: nb.page.evaluate("document.activeElement.closest('.jupyter-matplotlib-canvas-div') ? 'canvas' : document.activeElement.closest('.lrtools') ? 'picker' : 'elsewhere'")
    nb.click_at(1e-3); nb.until(lambda: where()=='canvas')
    nb.page.keyboard.press('Tab'); assert where()=='picker'
    nb.page.keyboard.press('Shift+Tab'); assert where()=='canvas'
    canvas = nb.page.locator('.jupyter-matplotlib-canvas-div')
    assert canvas.get_attribute('role') and 'Loss against learning rate' in canvas.get_attribute('aria-label')

def test_words_for_those_who_do_not_see(nb):
    nb.drag_to(1e-5, 1e-4); nb.shows(1e-5, 1e-4)
    alt = nb.page.locator('.lrtools-alt'); box = alt.bounding_box()
    assert nb.eval("pick.words()")==alt.text_content() and 'Chosen' in alt.text_content() and box['width']*box['height']<=1

def test_controls_have_names(nb):
    unnamed = nb.page.locator('.lrtools').evaluate("""box => [...box.querySelectorAll('input, select, button, [role=slider]')].filter(e => e.checkVisibility()).filter(e => { e.focus();
        return !(e.getAttribute('aria-label') || e.textContent.trim() || e.title || e.labels?.length) }).map(e => e.outerHTML)""")
    assert not unnamed

def test_undo_and_redo(nb):
    was = nb.chosen()
    assert nb.button('Undo').is_disabled() and nb.button('Redo').is_disabled()
    nb.drag_to(1e-5, 1e-3); a = nb.choice(1e-5, 1e-3)
    nb.drag_to(1e-3, 1e-2); nb.choice(1e-5, 1e-2)
    nb.button('Undo').click(); nb.until(lambda: nb.chosen()==a); nb.shows(*a)
    nb.button('Undo').click(); nb.until(lambda: nb.chosen()==was); assert nb.button('Undo').is_disabled()
    nb.button('Redo').click(); nb.until(lambda: nb.chosen()==a); nb.shows(*a)

def test_typed_numbers(nb):
    high,low = nb.page.get_by_label('highest'),nb.page.get_by_label('lowest')
    high.fill('3e-4'); high.press('Enter'); nb.shows(3e-4); assert nb.chosen()==3e-4
    low.fill('1e-5'); low.press('Enter'); nb.shows(1e-5, 3e-4); assert nb.chosen()==[1e-5, 3e-4]
    low.fill('1e-'); low.press('Enter')
    nb.page.locator('.lrtools-error', has_text="'1e-' is not a number").wait_for()
    nb.until(lambda: low.input_value()=='1e-5'); assert nb.chosen()==[1e-5, 3e-4]

def test_slider_by_keyboard(nb):
    nb.choose('slice(1e-4, 1e-2)'); nb.shows(1e-4, 1e-2)
    low,high = nb.handle(0),nb.handle(1)
    for _ in range(30): low.press('ArrowLeft')
    nb.until(lambda: nb.chosen()[0]<6e-5); nb.shows(nb.chosen()[0], 1e-2)
    for _ in range(5): high.press('ArrowRight') # fewer may be too little for two digits
    nb.until(lambda: nb.chosen()[1]>1e-2); nb.shows(*nb.chosen())
    track,axis = nb.page.locator('.lrtools .noUi-target').first.bounding_box(),nb.eval('pick.fig.axes[0].bbox.extents')
    assert abs(track['x']-nb.canvas().bounding_box()['x']-axis[0])<8 and abs(track['width']-(axis[2]-axis[0]))<8 # it lies under the axis

def test_slider_by_mouse(nb):
    "The choice follows the hand"
    nb.choose('slice(1e-5, 1e-3)'); nb.shows(1e-5, 1e-3); b,mouse = nb.handle(1).bounding_box(),nb.page.mouse
    x,y = b['x']+b['width']/2,b['y']+b['height']/2; mouse.move(x, y); mouse.down(); mouse.move(x+60, y, steps=5)
    nb.until(lambda: nb.chosen()[1]>2e-3); held = nb.chosen()
    mouse.move(x+120, y, steps=5); nb.until(lambda: nb.chosen()[1]>2*held[1]); mouse.up()
    last = nb.chosen(); assert last[0]==1e-5; nb.shows(*last)

def test_presets_and_dropdown(nb):
    offer = nb.eval('{k: v if isinstance(v, float) else [v.start, v.stop] for k,v in pick._suggestions[0].ranges.items()}')
    nb.button('before unfreezing').click(); nb.until(lambda: nb.chosen()[0] is None)
    assert nb.chosen()[1]==pytest.approx(offer['before unfreezing'][1], rel=.06)
    nb.until(lambda: re.match(r'learn.fit_one_cycle\(3, slice\([^,]+\)\)', nb.said('code')))
    nb.button('after unfreezing').click(); nb.shows(*offer['after unfreezing'])
    take = nb.page.get_by_label('take')
    option = next(t for t in take.locator('option').all_inner_texts() if t.startswith('valley'))
    take.select_option(option); nb.until(lambda: 'Suggested by valley' in nb.said('sentence')); nb.shows(nb.chosen())

def test_copy_then_train(nb):
    nb.exec('''
        from fastai.basics import *
        x = torch.randn(256, 4); data = DataLoader(L(zip(x, x.sum(1, keepdim=True))), bs=8)
        learn = Learner(DataLoaders(data, data), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), MSELossFlat(), splitter=lambda m: [params(m[0]), params(m[1])], cbs=[])''')
    nb.exec('pick.n_epoch = 1'); nb.drag_to(1e-4, 1e-2); low,high = nb.choice(1e-4, 1e-2)
    nb.until(lambda: nb.said('code').startswith('learn.fit_one_cycle(1, slice('))
    nb.page.get_by_label('Copy this line').click(); nb.button('Copied').wait_for()
    code = nb.page.evaluate('navigator.clipboard.readText()')
    assert code==nb.eval('pick.code')
    nb.add_and_run(code)
    assert max(nb.eval('learn.recorder.lrs'))==pytest.approx(high, rel=.01)
    rates = nb.eval("[h['lr'] for h in learn.opt.hypers]"); assert rates[0]/rates[1]==pytest.approx(low/high)

# ---------------------------------------------------------------- pixels

@contextlib.contextmanager
def busy(nb):
    "The kernel is, for as long as this lasts; what comes in waits"
    nb.js("kernel.requestExecute({code: arg}); for (; kernel.status !== 'busy';) await new Promise(r => setTimeout(r, 10))", "import time\nwhile not Path('go').exists(): time.sleep(.01)\nPath('go').unlink()")
    yield
    (nb.folder/'go').touch()

def sweep(nb, *rates, steps=30):
    "A drag over the band and out of it, and hovering, without a pause"
    mouse,places = nb.page.mouse,[nb.at(nb.canvas(), nb.spot(lr)) for lr in rates]
    mouse.move(*places[0]); mouse.down(); nb.page.wait_for_timeout(2*lab.THROTTLE)
    for p in places[1:]: mouse.move(*p, steps=steps)
    mouse.up(); mouse.move(p[0]-80, p[1]+30, steps=steps//2); mouse.move(5, 5)

def test_no_ghosts_after_fast_drags(nb):
    sweep(nb, 1e-6, 1e-1, 1e-6, 1e-2); nb.same_pixels(); nb.shows(1e-6, 1e-2)
    a,b = nb.spot(1e-5),nb.spot(1e-1)
    for _ in range(2): # all frames at once: most are never shown
        with busy(nb): nb.drag(nb.canvas(), a, b, steps=30); nb.page.mouse.move(5, 5)
        nb.same_pixels()
    nb.button('Undo').click(); nb.same_pixels()

def test_hover_reads_out_and_leaves(nb):
    nb.page.mouse.move(*nb.at(nb.canvas(), nb.spot(1e-5)))
    nb.page.locator('.lrtools-readout', has_text=re.compile(r'^Under the pointer: (1|9\.\d)e-\d, loss \d')).wait_for(); nb.same_pixels()
    nb.away(); assert 'Click the plot' in nb.said('readout'); nb.same_pixels()
    assert len(nb.edges())==1

# ---------------------------------------------------------------- fallback

SHOWN = '''() => { const i = document.querySelector('.lrtools-figure img'); if (!i?.checkVisibility() || !i.complete || i.clientWidth < 100) return;
    const c = document.createElement('canvas'); c.width = i.naturalWidth; c.height = i.naturalHeight; const x = c.getContext('2d'); x.drawImage(i, 0, 0);
    const d = new Uint32Array(x.getImageData(0, 0, c.width, c.height).data.buffer); return new Set(d).size > 50 ? [i.clientWidth, i.clientHeight, d.reduce((a, b) => Math.imul(a, 31) + b | 0)] : null }'''

def works_as_an_image(nb):
    "Image, slider and fields without a canvas; returns the line that says so"
    assert not nb.eval('pick.live') and not nb.page.locator('.jupyter-matplotlib-canvas-div').count()
    nb.choose('slice(1e-4, 1e-2)'); before = nb.until(lambda: nb.page.evaluate(SHOWN))
    for _ in range(30): nb.handle(0).press('ArrowLeft')
    nb.until(lambda: nb.chosen()[0]<6e-5 and (i := nb.page.evaluate(SHOWN)) and i[2]!=before[2])
    high = nb.page.get_by_label('highest'); high.fill('2e-3'); high.press('Enter'); nb.choice(nb.chosen()[0], 2e-3)
    figure = nb.page.locator('.lrtools-figure').first; assert figure.evaluate('e => e.scrollWidth <= e.clientWidth && e.clientWidth <= innerWidth')
    lines = nb.page.locator('.lrtools-said').all_inner_texts(); assert len(lines)==1 and '\n' not in lines[0]
    return lines[0]

def test_without_ipympl(nb):
    nb.exec("kept = sys.modules['ipympl']; sys.modules['ipympl'] = None")
    try:
        nb.run(1); line = works_as_an_image(nb)
        assert line.startswith('The live plot needs ipympl, which did not start here (')
        nb.page.set_viewport_size(dict(width=420, height=900)); nb.until(lambda: nb.eval('pick._size[0]')<400)
        w,h,_ = nb.until(lambda: nb.page.evaluate(SHOWN)); assert w<=nb.page.locator('.lrtools').evaluate('e => e.clientWidth') and w/h<1.4
    finally: nb.exec("sys.modules['ipympl'] = kept")

def test_without_the_page_s_half_of_ipympl(nb):
    nb.page.route('**/extensions/jupyter-matplotlib/**', lambda r: r.abort())
    try:
        nb.reload(); nb.run(1)
        assert works_as_an_image(nb).startswith('No live plot has come up: is ipympl installed where Jupyter itself runs?')
    finally: nb.page.unroute('**/extensions/jupyter-matplotlib/**'); nb.reload()

# ---------------------------------------------------------------- the notebook

def pictures(nb): return [o for o in nb.outputs(1) if 'image/png' in o.get('data', {})]

def test_saved_notebook_shows_the_choice(nb, tmp_path):
    nb.drag_to(1e-6, 1e-4); nb.choice(1e-6, 1e-4); nb.away()
    nb.add_and_run('1+1'); nb.until(lambda: len(pictures(nb))==1); saved = nb.save(); still = nb.eval("__import__('base64').b64encode(pick.still()).decode()")
    view = 'application/vnd.jupyter.widget-view+json'
    first,second = saved.cells[1].outputs
    assert 'image/png' not in first.data and view in first.data and view not in second.data
    assert second.data['image/png'].strip()==still and second.metadata['image/png'].alt==nb.eval('pick.words()') and 'Chosen' in nb.eval('pick.words()')
    areas = nb.page.locator('.jp-Notebook .jp-Cell').nth(1).locator('.jp-OutputArea-child'); assert areas.count()==2
    assert areas.nth(0).is_visible() and not areas.nth(1).is_visible()
    from nbconvert import HTMLExporter
    page = tmp_path/'saved.html'; page.write_text(HTMLExporter().from_notebook_node(saved)[0])
    sheet = nb.page.context.new_page()
    try:
        sheet.route(re.compile('^(?!file:|data:)'), lambda r: r.abort()); sheet.goto(page.as_uri())
        shown = sheet.evaluate("[...document.images].filter(i => i.complete && i.checkVisibility() && i.clientWidth > 300 && i.src.includes('png')).map(i => i.src)")
        text = sheet.inner_text('body'); sheet.screenshot(path=str(tmp_path/'saved.png'))
    finally: sheet.close()
    assert [base64.b64decode(s.partition(',')[2]) for s in shown]==[base64.b64decode(still)]
    assert 'oading widget' not in text and 'rror' not in text

def test_saved_text_agrees_with_the_picture(nb):
    "The widget's own output cannot be renewed, as the page would build the widget anew"
    nb.choose('slice(1e-6, 1e-4)'); nb.add_and_run('1+1')
    assert not re.search(r'\de-\d', nb.outputs(1)[0]['data']['text/plain']) or nb.eval('repr(pick)')==nb.outputs(1)[0]['data']['text/plain']

def test_rerun_of_the_cell_leaves_nothing_behind(nb):
    counts = []
    for _ in range(20):
        nb.run(1); counts.append(nb.eval('(len(get_ipython().kernel.comm_manager.comms), len(_open))'))
    assert len({tuple(c) for c in counts})==1 and counts[0][1]==1, counts
    nb.wait_canvas(); assert nb.page.locator('.jupyter-matplotlib-canvas-div').count()==nb.page.locator('.lrtools').count()==1
    nb.drag_to(1e-5, 1e-3); nb.shows(1e-5, 1e-3)

def test_two_cells_keep_theirs(nb):
    nb.add_and_run('other = LRPicker(curve(seed=1)); other'); nb.wait_canvas(1)
    nb.run(1); nb.wait_canvas(); nb.wait_canvas(1)
    assert nb.eval('(len(_open), other.live)')==[2, True]
    was = nb.eval('other.lr'); nb.drag_to(1e-5, 1e-3); nb.shows(1e-5, 1e-3); assert nb.eval('other.lr')==was
    nb.click(nb.canvas(1), nb.spot(1e-5)); nb.until(lambda: abs(np.log10(nb.eval('other.lr')/1e-5))<.1); nb.shows(1e-5, 1e-3)

@pytest.mark.parametrize('width', [420, 800, 1400])
def test_width_of_the_window(nb, width):
    nb.page.set_viewport_size(dict(width=width, height=900))
    box = nb.page.locator('.lrtools')
    nb.wait_size(lambda w: 0<=box.evaluate('e => e.clientWidth')-w<40 or w in (300, 960))
    fits = nb.page.locator('.lrtools-figure').first.evaluate("e => [e.scrollWidth - e.clientWidth, e.closest('.jp-OutputArea-output').getBoundingClientRect().right - e.querySelector('canvas').getBoundingClientRect().right]")
    assert fits[0]<=0 and fits[1]>=0
    wide = box.evaluate("e => [...e.querySelectorAll('*')].filter(o => o.checkVisibility() && !o.closest('.lrtools-hidden') && o.getBoundingClientRect().right > e.getBoundingClientRect().right+1).map(o => o.outerHTML.slice(0, 200))")
    assert not wide
    nb.drag_to(1e-5, 1e-3); nb.shows(1e-5, 1e-3); nb.away(); nb.same_pixels()

def test_reload_of_the_page(nb):
    nb.drag_to(1e-5, 1e-3); a = nb.choice(1e-5, 1e-3)
    nb.reload(); nb.wait_size()
    assert nb.chosen()==a; nb.shows(*a); nb.drag_to(a[1], 1e-2); nb.shows(1e-5, 1e-2)
    nb.button('Undo').click(); nb.shows(*a)

def brightness(nb):
    "Of the figure's ground, as it is on the screen"
    return np.median(Image.open(BytesIO(nb.page.locator('.lrtools-figure').first.screenshot())).convert('L'))

def test_dark_theme(nb):
    theme = lambda name: nb.js("await app.commands.execute('apputils:change-theme', {theme: arg})", name)
    assert brightness(nb)>200
    theme('JupyterLab Dark')
    try:
        nb.until(lambda: brightness(nb)<60); nb.drag_to(1e-5, 1e-3); nb.choice(1e-5, 1e-3)
        text,ground = nb.page.locator('.lrtools-sentence').evaluate("""e => [getComputedStyle(e.querySelector('.widget-html-content')).color, getComputedStyle(e.closest('.jp-Notebook')).backgroundColor]""")
        light = lambda c: sum(map(float, re.findall(r'[\d.]+', c)[:3]))/3
        assert light(text)-light(ground)>120
    finally: theme('JupyterLab Light')
    nb.until(lambda: brightness(nb)>200); nb.shows(1e-5, 1e-3)

def test_error_of_an_observer(nb):
    nb.exec('pick.observe(lambda c: 1/0, "lr")')
    nb.drag_to(1e-5, 1e-3); error = nb.page.locator('.lrtools-error'); error.wait_for()
    assert 'ZeroDivisionError' in error.inner_text() and not error.locator('pre').is_visible()
    error.locator('summary').click(); assert 'Traceback' in error.locator('pre').inner_text()
    nb.shows(1e-5, 1e-3); nb.exec('pick.unobserve_all("lr")')
    nb.drag_to(1e-3, 1e-2); nb.shows(1e-5, 1e-2); assert not error.count()
    nb.button('Undo').click(); nb.shows(1e-5, 1e-3); nb.same_pixels()

# ---------------------------------------------------------------- other places

@pytest.fixture(scope='module')
def phone(browser, lab_server):
    "A narrow page with touch and two device pixels to a CSS pixel"
    nb = new_picker(browser, lab_server, viewport=dict(width=480, height=900), device_scale_factor=2, has_touch=True)
    nb.run(1); nb.wait_size(lambda w: w<480)
    yield nb
    assert not nb.errors
    nb.close(); nb.page.context.close()

def test_no_ghosts_on_two_device_pixels(phone):
    phone.wait_canvas(); assert phone.canvas_array().shape[1]==2*phone.eval('pick._size[0]')
    sweep(phone, 1e-6, 1e-1, 1e-6, 1e-2); phone.same_pixels(); phone.shows(1e-6, 1e-2)

def test_touch(phone):
    cdp = phone.page.context.new_cdp_session(phone.page)
    def touch(*points):
        for i,p in enumerate(points): cdp.send('Input.dispatchTouchEvent', dict(type='touchMove' if i else 'touchStart', touchPoints=[dict(x=p[0], y=p[1])])); phone.page.wait_for_timeout(lab.THROTTLE)
        cdp.send('Input.dispatchTouchEvent', dict(type='touchEnd', touchPoints=[]))
    at = lambda lr, height=.3: phone.at(phone.canvas(), phone.spot(lr, height))
    between = lambda p, q, n=10: [np.add(p, np.subtract(q, p)*k/n).tolist() for k in range(n+1)]
    phone.choose('slice(1e-3, 1e-2)')
    touch(at(1e-5)); phone.shows(1e-5)
    touch(*between(at(1e-4), at(1e-2))); phone.shows(1e-4, 1e-2)
    touch(*between(at(1e-2), at(1e-1))); a = phone.choice(1e-4, 1e-1); phone.shows(*a) # an edge
    x,y = at(1e-6); touch(*between((x, y), (x+3, y-150)))
    phone.until(lambda: phone.eval('pick._gesture') is None); assert phone.chosen()==a; phone.shows(*a)
    touch(at(1e-6)); phone.shows(1e-6)

def test_notebook_7(page, lab_server):
    nb = Picker.open(page, lab_server, [SETUP, PICK], app='notebook')
    nb.run_all(); nb.wait_size(lambda w: w>720)
    nb.drag_to(1e-5, 1e-3); nb.shows(1e-5, 1e-3); assert not nb.errors

def test_voila(page, lab_server):
    view = lab.open_voila(page, lab_server, [SETUP, PICK]); canvas = view.wait_canvas()
    sentence,code = page.locator('.lrtools-sentence').inner_text(),page.locator('.lrtools-code').inner_text()
    view.drag(canvas, (.2, .5), (.3, .5))
    view.until(lambda: page.locator('.lrtools-sentence').inner_text()!=sentence and re.match(r'learn.fit_one_cycle\(3, slice\(', page.locator('.lrtools-code').inner_text()))
    assert not view.errors

# ---------------------------------------------------------------- pages without a kernel and without a network

ALL_WIDGETS = ['''
import numpy as np, tempfile, torch
from torch import nn
from fastai.basics import DataLoaders, L, Learner, MSELossFlat, params
from lrtools.box import FigureBox
from lrtools.curve import LRCurve, Sweep
from lrtools.panel import FreezePanel
from lrtools.picker import LRPicker
from lrtools.preview import SchedulePreview
from lrtools.schedule import one_cycle
lrs = np.geomspace(1e-5, 1., 80)
curve = LRCurve([Sweep(lrs[:,None], 2-1.5/(1+np.exp(-4*(np.log10(lrs)+2.3)))+8*np.clip(np.log10(lrs)+.6, 0, None)**2)], 80, (1e-5,), (1.,))
x = torch.randn(80, 4)
dls = DataLoaders.from_dsets(list(zip(x, x[:,:1])), list(zip(x, x[:,:1])), bs=8, device='cpu', num_workers=0)
learn = Learner(dls, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), MSELossFlat(), splitter=lambda m: L(m[0], m[2]).map(params), path=tempfile.mkdtemp())
class Plain(FigureBox):
    def __init__(self): super().__init__(); self.assemble()
    def plot(self, fig): fig.add_subplot().plot([1, 2, 4]); return []
''', 'pick = LRPicker(curve); pick', 'FreezePanel(learn)', 'SchedulePreview(one_cycle(3e-3), learn)', 'Plain()', 'pick.lr = 1.2e-3']

@pytest.fixture(scope='module')
def executed():
    "A notebook of all widgets that no page has ever shown, with the state of its widgets"
    from nbclient import NotebookClient
    from nbformat.v4 import new_code_cell, new_notebook
    nb = new_notebook(cells=[new_code_cell(c) for c in ALL_WIDGETS])
    NotebookClient(nb, kernel_name='python3', timeout=300).execute()
    assert nb.metadata.widgets['application/vnd.jupyter.widget-state+json']['state']
    return nb

@pytest.mark.parametrize('template', ['lab','classic','basic'])
def test_an_executed_notebook_shows_every_widget_without_a_network(executed, template, browser, tmp_path):
    "With the state of the widgets embedded nbconvert takes the view of a widget, which needs scripts of another host"
    from nbconvert import HTMLExporter
    page = tmp_path/f'{template}.html'
    page.write_text(HTMLExporter(template_name=template).from_notebook_node(executed)[0])
    sheet = browser.new_page()
    try:
        sheet.route(re.compile('^(?!file:|data:)'), lambda r: r.abort()); sheet.goto(page.as_uri())
        shown = sheet.evaluate("[...document.images].filter(i => i.complete && i.checkVisibility() && i.clientWidth > 300).map(i => [i.alt, i.src])")
        sheet.screenshot(path=str(tmp_path/f'{template}.png'), full_page=True)
    finally: sheet.close()
    saved = [o.data['image/png'].strip() for c in executed.cells for o in c.outputs if 'image/png' in o.get('data', {})]
    assert [s.partition(',')[2].strip() for _,s in shown]==saved and len(saved)==4
    if template=='classic': assert 'Chosen 1.2e-3' in shown[0][0] # the state at the end, in words, too
