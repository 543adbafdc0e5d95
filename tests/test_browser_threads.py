"Cells, presses and interrupts: the picker on ipykernel 6, 7.3 and 7.4"
import lab, pytest
from test_browser import SETUP, SHOWN, Picker

pytestmark = pytest.mark.browser

LEARN = SETUP+'''
import threading, time
from fastai.basics import *
from state import changes, record
pause = [0.]
class Slow(Callback):
    def before_batch(self): time.sleep(pause[0])
x = torch.randn(64, 4); data = DataLoader(L(zip(x, x.sum(1, keepdim=True))), bs=8)
learn = Learner(DataLoaders(data, data), nn.Linear(4, 1), MSELossFlat(), cbs=Slow())
with learn.no_bar(), learn.no_logging(): learn.fit(1)
log = []
def wait(name):
    print('running', end='')
    while not Path(name).exists(): time.sleep(.01)'''
PICK = '''
pick = LRPicker(curve(), learn)
pick.observe(lambda c: log.append(threading.current_thread().name), 'lr')
pick'''

# What the user sees of the figure, at each frame: how long nothing
WATCH = '''window.blank = []; (function look() {
    const f = document.querySelector('.lrtools-figure'), i = f?.querySelector('img'), c = f?.querySelector('canvas');
    const drawn = c => c.width && new Uint32Array(c.getContext('2d').getImageData(c.width/4|0, c.height/4|0, 50, 50).data.buffer).some(p => p >>> 24);
    window.blank.push([performance.now(), !!(i?.checkVisibility() && i.complete && i.naturalWidth || c && drawn(c))]); window.looking = requestAnimationFrame(look); })()'''

@pytest.fixture(scope='module')
def nb(browser, lab_server, ipykernel):
    page = browser.new_page(viewport=dict(width=1100, height=1000))
    nb = Picker.open(page, lab_server, [LEARN, PICK, "wait('go')"], kernel=ipykernel)
    yield nb
    nb.close()

def during(nb, code):
    "Start a cell of `code` and wait until it printed 'running'; returns its number"
    i = nb.js("const m = panel.content.model.sharedModel; m.insertCell(m.cells.length, {cell_type: 'code', source: arg}); return m.cells.length-1", code)
    nb.start_run(i); running(nb, i)
    return i

def running(nb, i): nb.until(lambda: nb.text(i).startswith('running'), 60)
def ended(nb, i): nb.until(lambda: nb.js('return cells.get(arg).executionCount', i)); nb.no_error(i)

def test_run_all_with_a_busy_cell_after_it(nb):
    nb.start_run_all(); running(nb, 2)
    # the image; or the canvas, where the page was quick enough to get its first frame before the last cell began
    seen = nb.until(lambda: nb.page.evaluate(SHOWN) or nb.page.locator('.jupyter-matplotlib-canvas-div').count() and nb.wait_canvas().bounding_box())
    w,h = (seen['width'], seen['height']) if isinstance(seen, dict) else seen[:2]
    assert w>500 and h>300
    assert nb.js('return cells.get(2).executionCount') is None
    nb.page.evaluate(WATCH)
    (nb.folder/'go').touch(); nb.wait_size(lambda w: w>720)
    frames = nb.page.evaluate('cancelAnimationFrame(looking); window.blank'); assert len(frames)>5
    gaps = [b[0]-a[0] for a,b in zip(frames, frames[1:]) if not a[1]]; assert sum(gaps)<400, f'blank for {sum(gaps):.0f} ms'
    assert not nb.page.locator('.lrtools-figure').first.locator('img').count()
    nb.drag_to(1e-5, 1e-3); nb.shows(1e-5, 1e-3)

def test_presses_while_a_cell_runs_wait_for_it(nb):
    nb.wait_comms(); nb.exec('log.clear(); pick.lr = slice(1e-5, 1e-2); pick.lr = 1e-4; log.clear()'); nb.shows(1e-4)
    a,b = nb.spot(1e-4),nb.spot(1e-2)
    i = during(nb, "wait('go2'); time.sleep(.5); log.append('cell ended')")
    nb.button('Undo').click(); nb.drag(nb.canvas(), a, b)
    (nb.folder/'go2').touch(); nb.choice(1e-3, 1); ended(nb, i) # in their order: the drag moved the band
    log = nb.eval('log'); assert log[0]=='cell ended' and len(log)>2 and {*log[1:]}=={'MainThread'}

def test_press_while_a_cell_builds_a_figure(nb):
    nb.wait_comms(); nb.choose('slice(1e-5, 1e-3)'); nb.shows(1e-5, 1e-3); a,b = nb.spot(1e-3),nb.spot(1e-1)
    i = during(nb, r"""
        from matplotlib import pyplot as plt
        fig,axs = plt.subplots(2, 2, figsize=(5, 4)); n = 0
        print('running', end='')
        while not Path('go3').exists():
            for ax in axs.flat: ax.clear(); ax.plot([1, 10, 100]); ax.set(yscale='log', title=r'$\alpha^{%d}$' % n, xlabel=r'$\sqrt{x}$')
            fig.tight_layout(); fig.canvas.draw(); n += 1
            assert plt.get_fignums()==[fig.number] and plt.gcf() is fig and [len(ax.lines) for ax in axs.flat]==[1]*4
        axs[0,0].plot([3, 2, 1])""")
    nb.drag(nb.canvas(), a, b); nb.button('Undo').click(); nb.button('after unfreezing').click(); nb.drag(nb.canvas(), b, a)
    (nb.folder/'go3').touch(); ended(nb, i)
    assert [o for o in nb.outputs(i) if 'image/png' in o.get('data', {})], 'the figure is lost'
    nb.until(lambda: nb.eval('[pick._gesture, len(pick._past)>3]')==[None, True])
    assert not nb.page.locator('.lrtools-error').count() and nb.eval('matplotlib.get_backend()==used')
    nb.shows(*nb.chosen())

def test_interrupt_of_a_long_rerun(nb):
    nb.exec('pick.lr = slice(1e-5, 1e-3); pause[0] = .03; before = record(learn); curve0,rng = pick.curve,torch.get_rng_state()'); nb.shows(1e-5, 1e-3)
    nb.page.get_by_label('repeats').fill('50'); nb.page.get_by_label('repeats').press('Enter'); nb.until(lambda: nb.eval('pick._repeats.value')==50)
    nb.button('Rerun').click(); task = nb.page.locator('.lrtools-task')
    nb.until(lambda: 'step' in task.inner_text() and int(task.inner_text().split()[3])>5)
    assert 'of 5000' in task.inner_text() and nb.button('Rerun').is_disabled() and nb.page.locator('.lrtools [role=progressbar], .lrtools .progress').first.is_visible()
    nb.interrupt()
    nb.page.locator('.lrtools-task', has_text='Range test stopped. Learner, curve and choice are as they were.').wait_for(timeout=10_000)
    assert nb.eval('changes(before, record(learn))', timeout=10)==[] and nb.eval('pick.curve is curve0 and bool((rng==torch.get_rng_state()).all())')
    nb.until(lambda: nb.button('Rerun').is_enabled()); nb.shows(1e-5, 1e-3)
    nb.drag_to(1e-3, 1e-1); nb.shows(1e-5, 1e-1)
    nb.exec('pause[0] = 0.'); nb.page.get_by_label('repeats').fill('2'); nb.page.get_by_label('repeats').press('Enter'); nb.until(lambda: nb.eval('pick._repeats.value')==2)
    nb.button('Rerun').click(); nb.page.locator('.lrtools-task', has_text='Range test: done').wait_for()
    assert nb.eval('pick.curve is not curve0 and len(pick.curve.sweeps)==2 and changes(before, record(learn))==[]') and nb.chosen()==nb.choice(1e-5, 1e-1)
    nb.add_and_run('learn.fit_one_cycle(1, pick.lr)'); assert nb.eval('max(learn.recorder.lrs)')==pytest.approx(nb.chosen()[1], rel=.05)
    nb.same_pixels(); assert not nb.errors
