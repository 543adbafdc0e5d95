"The browser harness of tests/lab.py itself, and the one defect of kernels that it must be able to see."
import numpy as np, pytest

import kernels, lab

pytestmark = pytest.mark.browser

BUTTON = '''
import threading, time, ipywidgets as W
from pathlib import Path
log,label,button = [],W.Label('start'),W.Button(description='PRESS')
def press(_): log.append(threading.current_thread().name); label.value = 'pressed'
button.on_click(press)
W.VBox([button, label])'''
FIGURE = '''
%matplotlib widget
from matplotlib import pyplot as plt
fig,ax = plt.subplots(figsize=(4, 3)); ax.set(xlim=(0, 10), ylim=(0, 10)); fig.patch.set_color('#fff')
spot,= ax.plot([5], [5], 's', c='#00f', ms=20); path = []
def follow(e): path.append((e.name, e.xdata, e.ydata))
for name in 'button_press_event', 'motion_notify_event', 'button_release_event': fig.canvas.mpl_connect(name, follow)'''
BUSY = '''
label.value = 'running'
while not Path('go').exists(): time.sleep(.01)
log.append('cell ended'); label.value = 'ended' '''

def press(view): view.page.get_by_role('button', name='PRESS').click()
def labelled(view, text): view.page.locator('.widget-label', has_text=text).wait_for()

@pytest.fixture(scope='module')
def nb(browser, lab_server):
    "A notebook in JupyterLab with a button, a figure and a busy cell"
    nb = lab.Notebook.open(browser.new_page(), lab_server, [BUTTON, FIGURE, BUSY])
    nb.run(0); nb.run(1)
    yield nb
    nb.close()

def test_button_and_label(nb):
    press(nb); labelled(nb, 'pressed')
    assert nb.eval('(label.value, log)')==['pressed', ['MainThread']] and not nb.errors

def test_values_and_cells(nb):
    assert nb.eval("dict(a=1/3, b=float('inf'), c=__import__('numpy').arange(3), d=None, e='é\\n\"', f=W)")==dict(
        a=1/3, b=float('inf'), c=[0,1,2], d=None, e='é\n"', f=nb.eval('repr(W)'))
    assert nb.exec('x = 41; print(x)\nx += 1')=='41\n' and nb.add_and_run('print(x); x')=='42\n42'
    with pytest.raises(AssertionError, match='NameError'): nb.eval('nowhere')
    with pytest.raises(AssertionError, match='ZeroDivisionError'): nb.exec('1/0')
    with pytest.raises(AssertionError, match='ZeroDivisionError'): nb.add_and_run('1/0')
    assert nb.save().cells[3].outputs[0].text=='42\n'

def test_pixels_and_mouse(nb):
    canvas = nb.wait_canvas(); pixels = nb.canvas_array()
    assert pixels.shape==(300, 400, 4) and (pixels[0,0]==255).all()
    blue = lambda: (nb.canvas_array()[...,:3]==(0,0,255)).all(-1).nonzero()
    (x,y),(row,col) = nb.where('ax', 5, 5),blue()
    assert np.allclose((col.mean()/400, row.mean()/300), (x, y), atol=.01)
    nb.drag(canvas, nb.where('ax', 2, 2), nb.where('ax', 8, 4))
    assert nb.until(lambda: nb.eval('path[-1][0]')=='button_release_event')
    down = [e for e in nb.eval('path') if e[0]=='button_press_event'][0]
    moves = [e for e in nb.eval('path') if e[0]=='motion_notify_event']
    assert np.allclose(down[1:], (2, 2), atol=.1) and np.allclose(moves[-1][1:], (8, 4), atol=.1) and len(moves)>4
    nb.exec('spot.set_ydata([8]); fig.canvas.draw_idle()')
    assert nb.until(lambda: blue()[0].mean()<row.mean()-20)

def test_interrupt(nb):
    nb.start_run(2); labelled(nb, 'running')
    with pytest.raises(AssertionError, match='busy'): nb.eval('1', wait=False)
    nb.interrupt()
    assert nb.eval('label.value')=='running' and nb.outputs(2)[-1]['ename']=='KeyboardInterrupt'

def test_notebook_7(open_notebook):
    nb = open_notebook([BUTTON], app='notebook')
    nb.run_all(); press(nb); labelled(nb, 'pressed')
    assert '/notebooks/' in nb.page.url and nb.eval('log')==['MainThread'] and not nb.errors

def test_voila(page, lab_server):
    view = lab.open_voila(page, lab_server, [BUTTON, FIGURE])
    press(view); labelled(view, 'pressed'); view.wait_canvas()
    assert view.canvas_array().shape==(300, 400, 4) and not view.errors

def test_press_while_a_cell_runs(open_notebook, ipykernel):
    "Without care a callback runs beside a cell, on another thread, in ipykernel 7.3; in 6.31 and 7.4 it waits for the cell"
    nb = open_notebook([BUTTON, BUSY], kernel=ipykernel)
    version = nb.eval("__import__('ipykernel').__version__")
    assert version.startswith(kernels.VERSIONS[ipykernel].rstrip('*'))
    nb.run(0); nb.wait_comms()
    nb.start_run(1); labelled(nb, 'running'); press(nb)
    beside = ipykernel=='ipykernel73'
    if beside: labelled(nb, 'pressed')
    (nb.folder/'go').touch(); labelled(nb, 'ended' if beside else 'pressed')
    log = nb.eval('log')
    assert len(log)==2 and log.index('cell ended')==beside and (log[not beside]!='MainThread')==beside
