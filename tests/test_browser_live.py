"A fit that is watched in a real browser, after Run All, with the kernel busy"
import pytest

pytestmark = pytest.mark.browser

SETUP = '''
import tempfile, time, torch; torch.set_num_threads(1)
from pathlib import Path
from torch import nn
from fastai.basics import Callback, DataLoaders, L, Learner, MSELossFlat, params
from lrtools.fit_plan import fit_plan
import lrtools.live; lrtools.live._SHARE = 0 # a picture at each batch
from lrtools.live import LiveSchedule
from lrtools.plan import Phase, Plan
from lrtools.schedule import one_cycle
x = torch.randn(80, 4)
dls = DataLoaders.from_dsets(list(zip(x[:72], x[:72,:1])), list(zip(x[72:], x[72:,:1])), bs=8, device='cpu', num_workers=0)
learn = Learner(dls, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), MSELossFlat(), splitter=lambda m: L(m[0], m[2]).map(params), path=tempfile.mkdtemp())
class Slow(Callback):
    run_valid = False
    def after_batch(self):
        while self.epoch==2 and not Path('go').exists(): time.sleep(.01)
        time.sleep(.1)
plan = Plan([Phase(one_cycle(1e-3), 1, freeze_to=-1, name='head'), Phase(one_cycle(slice(1e-5, 1e-3)), 3, freeze_to=0)])'''
FIT = "with learn.no_bar(), learn.no_logging(): fit_plan(learn, plan, cbs=[Slow(), LiveSchedule(.05)])"

def test_it_moves_while_the_cell_runs(open_notebook):
    nb = open_notebook([SETUP, FIT, 'len(learn.lr_history.lrs)'])
    nb.start_run_all()
    seen = set()
    def look():
        seen.update(nb.page.evaluate("[...document.querySelectorAll('.jp-OutputArea-output img')].filter(i => i.checkVisibility() && i.clientWidth > 300).map(i => i.src)"))
        return len(seen)>2
    nb.until(look, 90)
    assert nb.js('return cells.get(1).executionCount') is None # it runs still
    (nb.folder/'go').touch()
    nb.until(lambda: nb.js('return cells.get(2).executionCount'), 60); nb.no_error()
    pngs = [o for o in nb.save().cells[1].outputs if 'image/png' in o.get('data', {})]
    assert len(pngs)==1 and pngs[0].data['image/png'].strip() not in {s.partition(',')[2] for s in list(seen)[:2]} and 'after 27 of 27 steps' in pngs[0].data['text/plain']
    assert nb.text(2)=='36' and nb.eval('learn.lr_history.lrs.tolist()==plan.rates(9, 2).tolist()') and not nb.errors
