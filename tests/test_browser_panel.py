"The freeze panel in a real browser"
import base64
from io import BytesIO

import numpy as np, pytest
from PIL import Image

import lab

pytestmark = pytest.mark.browser

SETUP = '''
import tempfile, torch, warnings; torch.set_num_threads(1)
from unittest import mock
from torch import nn
from fastai.basics import DataLoaders, L, Learner, MSELossFlat, params
from lrtools import box
from lrtools.panel import FreezePanel
torch.manual_seed(0)
x = torch.randn(40, 4)
dls = DataLoaders.from_dsets(list(zip(x[:32], x[:32,:1])), list(zip(x[32:], x[32:,:1])), bs=8, device='cpu', num_workers=0)
block = lambda i,o: nn.Sequential(nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU())
learn = Learner(dls, nn.Sequential(block(4, 30), block(30, 20), nn.Linear(20, 1)), MSELossFlat(), splitter=lambda m: L(*m).map(params), path=tempfile.mkdtemp())
learn.freeze()
with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
def trains(): return [all(p.requires_grad for p in ps) for ps in learn.opt.param_lists]
def edge(n):
    ax = panel._ax; w,h = panel.fig.bbox.size
    return [ax.transAxes.transform((.6, 0))[0]/w, 1-ax.transData.transform((0, panel._bars.rows.edges[n]))[1]/h]
def bar(g, x=.02):
    ax = panel._ax; w,h = panel.fig.bbox.size
    return [ax.transAxes.transform((x, 0))[0]/w, 1-ax.transData.transform((0, sum(panel._bars.rows.bars[g])/2))[1]/h]'''
PANEL = 'panel = FreezePanel(learn); panel'
PLAIN = "with mock.patch.object(box, '_live_canvas', side_effect=ImportError('not here')): panel = FreezePanel(learn)\npanel"
BLUE,PURPLE = (0x00,0x72,0xB2),(0x7b,0x2d,0x8e)

class Panel(lab.Notebook):
    "A notebook whose kernel has a panel"
    def edge(self, n): return self.eval(f'edge({n})')
    def button(self, name): return self.page.locator('.lrtools').first.locator('button', has_text=name)
    def said(self, part): return self.page.locator(f'.lrtools-{part}').first.inner_text()
    def image(self):
        "What the page shows of the figure"
        if self.eval('panel.live'): return self.canvas_array()
        png = self.page.evaluate('''async () => { const i = document.querySelector('.lrtools-figure img'), c = document.createElement('canvas'); await i.decode(); c.width = i.naturalWidth;
            c.height = i.naturalHeight; c.getContext('2d').drawImage(i, 0, 0); return c.toDataURL().split(',')[1] }''')
        return np.array(Image.open(BytesIO(base64.b64decode(png))).convert('RGBA'))

    def blue(self):
        "Share of each group's bar, in its length, that the page shows in the colour of what trains"
        image = self.image(); h,w = image.shape[:2]
        rows = [image[int(self.eval(f'bar({g})')[1]*h),:,:3].astype(int) for g in range(3)]
        near = lambda row, colour: (abs(row-colour)<40).all(-1).sum()
        return [near(r, BLUE)/self.eval(f'panel.report.groups[{g}].n_params/max(o.n_params for o in panel.report.groups)')/w for g,r in enumerate(rows)]

    def shows(self, n):
        "The page shows bars and boundary of `freeze_to(n)`"
        self.until(lambda: self.eval('(panel.freeze_to, bool(panel._gesture))')==[n, False], 10)
        self.until(lambda: [b>.8 for b in self.blue()]==[g>=n for g in range(3)], 10)
        def line():
            image = self.image(); h,w = image.shape[:2]
            found = np.flatnonzero(((abs(image[...,:3].astype(int)-PURPLE)<30).all(-1)).sum(1)>.7*w)
            return len(found) and abs(found.mean()/h-self.edge(n)[1])<.02
        self.until(line, 10)
        self.until(lambda: self.said('code').startswith(self.eval('panel.code')), 10)

@pytest.fixture
def nb(page, lab_server):
    nb = Panel.open(page, lab_server, [SETUP, PANEL]); nb.run(0, 120)
    yield nb
    assert not nb.errors

def wait_size(nb):
    nb.wait_canvas()
    nb.until(lambda: nb.eval('panel._size[0]')>720 and nb.canvas().bounding_box()['width']==nb.eval('panel._size[0]'), 20); nb.wait_canvas()

def test_drag_apply_undo(nb):
    nb.run(1); wait_size(nb); nb.shows(2)
    assert nb.button('Apply').is_disabled()
    nb.drag(nb.canvas(), nb.edge(2), nb.edge(0)); nb.shows(0)
    assert nb.eval('trains()')==[False, False, True] # nothing is changed yet
    nb.until(lambda: 'unfreezes groups 0-1' in nb.said('diff') and "clears Adam's memory" in nb.said('diff'))
    nb.until(lambda: 'Known causes' in nb.said('risks'))
    nb.button('Apply').click()
    nb.until(lambda: nb.eval('trains()')==[True]*3); nb.shows(0)
    nb.until(lambda: nb.button('Apply').is_disabled() and nb.button('Undo').is_enabled())
    nb.button('Undo').click()
    nb.until(lambda: nb.eval('trains()')==[False, False, True]); nb.shows(2)
    # what is saved is what is on the screen
    nb.drag(nb.canvas(), nb.edge(2), nb.edge(1)); nb.shows(1)
    nb.add_and_run('pass')
    def saved():
        pngs = [o.data['image/png'] for c in nb.save().cells for o in c.get('outputs', []) if 'image/png' in o.get('data', {})]
        return np.array(Image.open(BytesIO(base64.b64decode(pngs[-1]))).convert('RGBA'))
    assert saved().shape==nb.image().shape and (abs(saved().astype(int)-nb.image())<2).mean()>.995
    # and it follows what a cell does
    nb.add_and_run('learn.unfreeze()'); nb.until(lambda: nb.eval('panel.report.freeze_to')==0)

def test_click_keys_and_layers(nb):
    nb.run(1); wait_size(nb); nb.shows(2)
    nb.click(nb.canvas(), nb.eval('bar(1, .5)')); nb.shows(1)
    nb.page.keyboard.press('ArrowUp'); nb.shows(0)
    nb.page.keyboard.press('End'); nb.until(lambda: nb.eval('panel.freeze_to')==3)
    nb.page.keyboard.press('ArrowUp'); nb.shows(2)
    high = nb.canvas().bounding_box()['height']
    nb.click(nb.canvas(), nb.eval('bar(0, .01)')); nb.until(lambda: nb.eval('panel.unfolded')==0)
    nb.until(lambda: nb.canvas().bounding_box()['height']>high); nb.wait_canvas(); nb.shows(2)
    nb.page.locator('.lrtools-layers summary').click()
    assert '0.1' in nb.said('layers') and 'BatchNorm1d' in nb.said('layers')
    nb.page.locator('.lrtools-slider .noUi-handle').focus(); nb.page.keyboard.press('ArrowLeft'); nb.shows(1)

def test_without_ipympl(page, lab_server):
    nb = Panel.open(page, lab_server, [SETUP, PLAIN]); nb.run(0, 120); nb.run(1)
    nb.page.locator('.lrtools-figure img').wait_for(); nb.shows(2)
    assert 'ipympl' in nb.said('said')
    nb.page.locator('.lrtools-slider .noUi-handle').focus(); nb.page.keyboard.press('ArrowLeft'); nb.shows(1)
    nb.button('Apply').click(); nb.until(lambda: nb.eval('trains()')==[False, True, True]); nb.shows(1)
    nb.button('Undo').click(); nb.until(lambda: nb.eval('trains()')==[False, False, True]); nb.shows(2)
    assert not nb.errors
