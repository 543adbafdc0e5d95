"A fit that is watched in a real browser, after Run All, with the kernel busy"
import pytest

import lab

pytestmark = pytest.mark.browser

SETUP = lab.WATCHED+'''
from lrtools.schedule import one_cycle
plan = Plan([Phase(one_cycle(1e-3), 1, freeze_to=-1, name='head'), Phase(one_cycle(slice(1e-5, 1e-3)), 3, freeze_to=0)])'''
FIT = "with learn.no_bar(), learn.no_logging(): fit_plan(learn, plan, cbs=[Slow(2), LiveSchedule(.05)])"

def test_it_moves_while_the_cell_runs(open_notebook):
    nb = open_notebook([SETUP, FIT, 'len(learn.lr_history.lrs)'])
    nb.start_run_all()
    seen = nb.watch(1)
    nb.until(lambda: nb.js('return cells.get(2).executionCount'), 60); nb.no_error()
    pngs = [o for o in nb.save().cells[1].outputs if 'image/png' in o.get('data', {})]
    assert len(pngs)==1 and pngs[0].data['image/png'].strip() not in {s.partition(',')[2] for s in list(seen)[:2]} and 'after 27 of 27 steps' in pngs[0].data['text/plain']
    assert nb.text(2)=='36' and nb.eval('learn.lr_history.lrs.tolist()==plan.rates(9, 2).tolist()') and not nb.errors
