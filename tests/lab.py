"""JupyterLab, Notebook 7 and Voila in a real browser: one server, one page per test.

A test waits for a condition, never for a time; the only fixed pauses are those that ipympl's throttle of mouse moves needs."""
import ast, base64, contextlib, io, itertools, json, os, shutil, signal, socket, subprocess, sys, tempfile, time, urllib.request
from pathlib import Path

import nbformat, numpy as np
from PIL import Image
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from nbformat.v4 import new_code_cell, new_notebook

import kernels

ROOT = Path(__file__).resolve().parent.parent
URLS = dict(lab='doc/tree/{}?reset', notebook='notebooks/{}', voila='voila/render/{}')
OPTIONS = dict(ServerApp=dict(ip='127.0.0.1', port_retries=0, open_browser=False, allow_root=True, disable_check_xsrf=True, terminals_enabled=False,
                              jpserver_extensions=dict(jupyter_lsp=False, jupyter_server_terminals=False, jupyterlab_jupytext=False)),
               IdentityProvider=dict(token=''), LabApp=dict(expose_app_in_browser=True, extension_manager='readonly'),
               JupyterNotebookApp=dict(expose_app_in_browser=True), KernelManager=dict(shutdown_wait_time=1), VoilaConfiguration=dict(show_tracebacks=True))
QUIET = dict(fetchNews='false', checkForUpdates=False, doNotDisturbMode=True)
NOISE = "(reading 'schema')", "'filebrowser:open-path' not registered"   # page errors of Notebook 7 itself, alone and without any widget
THROTTLE = 40   # ms; ipympl passes on one mouse move in 33 ms

def until(check, timeout=30, page=None):
    "Ask `check()` until it returns something true, and return that; with `page` the browser's events go on meanwhile"
    end = time.monotonic()+timeout
    while not (r := check()):
        assert time.monotonic()<end, f'not within {timeout} s: {getattr(check, "__doc__", None) or check}'
        page.wait_for_timeout(50) if page else time.sleep(.05)
    return r

# ---------------------------------------------------------------- a fit to be watched

WATCHED = '''
import tempfile, time, torch; torch.set_num_threads(1)
from pathlib import Path
from torch import nn
from fastai.basics import Callback, DataLoaders, L, Learner, MSELossFlat, params
from lrtools.fit_plan import fit_plan
import lrtools.live; lrtools.live._SHARE = 0 # a picture at each batch
from lrtools.live import LiveSchedule
from lrtools.plan import Phase, Plan
x = torch.randn(80, 4)
dls = DataLoaders.from_dsets(list(zip(x[:72], x[:72,:1])), list(zip(x[72:], x[72:,:1])), bs=8, device='cpu', num_workers=0)
learn = Learner(dls, nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), MSELossFlat(), splitter=lambda m: L(m[0], m[2]).map(params), path=tempfile.mkdtemp())
class Slow(Callback):
    "Waits in epoch `hold` until there is a file `go`"
    run_valid = False
    def __init__(self, hold): self.hold = hold
    def after_batch(self):
        while self.epoch==self.hold and not Path('go').exists(): time.sleep(.01)
        time.sleep(.1)
'''

# ---------------------------------------------------------------- the server

class Server:
    "A running Jupyter server: its `url`, the folder `root` it serves, its `log()`"
    def __init__(self, root, tmp):
        self.root,self.tmp,self.names = Path(root),tmp,map(str, itertools.count(1))
        with socket.socket() as s: s.bind(('127.0.0.1', 0)); self.port = s.getsockname()[1]
        self.url = f'http://127.0.0.1:{self.port}'

    def ask(self, path, method='GET'):
        "What the server's REST interface answers"
        with urllib.request.urlopen(urllib.request.Request(f'{self.url}/api/{path}', method=method), timeout=30) as r:
            return json.loads(r.read() or 'null')

    def log(self, lines=60): return '\n'.join((self.tmp/'log').read_text(errors='replace').splitlines()[-lines:])

    def up(self):
        assert self.process.poll() is None, f'the Jupyter server ended:\n{self.log()}'
        with contextlib.suppress(OSError): return self.ask('status')

    def write(self, cells, kernel='python3'):
        "Write a notebook of code `cells` into a folder of its own; returns its path within `root`"
        nb = new_notebook(cells=[new_code_cell(c) for c in cells])
        nb.metadata.kernelspec = dict(name=kernel, display_name=kernel, language='python')
        path = Path(next(self.names))/'test.ipynb'
        (self.root/path).parent.mkdir(); nbformat.write(nb, self.root/path)
        return path.as_posix()

    def kernels(self): return {k['id'] for k in self.ask('kernels')}

    def shut_down(self, ids):
        for i in ids:
            with contextlib.suppress(OSError): self.ask(f'kernels/{i}', 'DELETE')

@contextlib.contextmanager
def server(root):
    "A `Server` of JupyterLab, Notebook 7 and Voila with folders of its own; ends only the process group it started"
    tmp = Path(tempfile.mkdtemp(prefix='lrtools-lab-')); s = Server(root, tmp)
    # with MPLBACKEND a kernel would not show figures; with VIRTUAL_ENV IPython adds that environment's packages to ours
    env = {k:v for k,v in os.environ.items() if k not in ('MPLBACKEND', 'VIRTUAL_ENV') and not k.startswith('JUPYTER')}
    env |= {f'JUPYTER_{k}_DIR': str(tmp/k) for k in ('CONFIG', 'RUNTIME', 'DATA')}
    env |= {f'JUPYTERLAB_{k}_DIR': str(tmp/k) for k in ('SETTINGS', 'WORKSPACES')}
    env |= dict(IPYTHONDIR=str(tmp/'ipython'), JUPYTER_PATH=str(kernels.HOME), OMP_NUM_THREADS='1', JUPYTER_PLATFORM_DIRS='1',
                PYTHONPATH=os.pathsep.join([str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]))
    settings = tmp/'SETTINGS/@jupyterlab/apputils-extension/notification.jupyterlab-settings'
    settings.parent.mkdir(parents=True); settings.write_text(json.dumps(QUIET))
    (tmp/'CONFIG').mkdir(); (tmp/'CONFIG/jupyter_server_config.json').write_text(json.dumps(OPTIONS))
    with open(tmp/'log', 'wb') as log:
        s.process = p = subprocess.Popen([sys.executable, '-m', 'jupyterlab', f'--ServerApp.port={s.port}', f'--ServerApp.root_dir={root}'],
                                         env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        try: until(s.up, 120)
        except AssertionError as e: raise RuntimeError(f'{e}\n{s.log()}') from None
        yield s
    finally:
        for sig in signal.SIGTERM, signal.SIGKILL:
            with contextlib.suppress(ProcessLookupError): os.killpg(p.pid, sig)
            with contextlib.suppress(subprocess.TimeoutExpired): p.wait(20); break
        shutil.rmtree(tmp, ignore_errors=True)

# ---------------------------------------------------------------- what every page has

class View:
    "A page with widgets; `errors` collects its page errors. Canvases are those of ipympl, counted in document order"
    def __init__(self, page, server, path):
        self.page,self.server,self.folder,self.errors = page,server,(server.root/path).parent,[]
        page.on('pageerror', lambda e: any(n in str(e) for n in NOISE) or self.errors.append(str(e)))

    def until(self, check, timeout=30): return until(check, timeout, self.page)
    def screenshot(self, path): self.page.screenshot(path=path)

    def canvas(self, n=0):
        "The `n`-th canvas that takes the mouse"
        return self.page.locator('.jupyter-matplotlib-canvas-div').nth(n).locator('canvas').nth(1)

    def wait_canvas(self, n=0, timeout=30):
        "Wait until the `n`-th canvas has pixels that stay, at the size it is shown at; returns the canvas that takes the mouse"
        check = '''n => {
            const c = document.querySelectorAll('.jupyter-matplotlib-canvas-div > canvas:first-child')[n], was = c?.seen;
            if (!c || c.clientWidth < 50 || Math.abs(c.width - c.clientWidth*devicePixelRatio) > 1) return false;
            const d = new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer);
            let now = c.width, pixels = new Set();
            for (let i = 0; i < d.length; i++) { now = (Math.imul(now, 31) + d[i]) | 0; if (pixels.size < 3 && d[i] >>> 24) pixels.add(d[i]); }
            c.seen = {sum: now, times: was?.sum === now ? was.times+1 : 0};
            return pixels.size > 2 && c.seen.times > 2; }'''
        try: self.page.wait_for_function(check, arg=n, timeout=timeout*1000, polling=60)
        except Exception as e:
            seen = self.page.evaluate("[...document.querySelectorAll('.jupyter-matplotlib-canvas-div > canvas:first-child')].map(c => [c.width, c.height, c.clientWidth, c.seen])")
            raise AssertionError(f'canvas {n} does not settle; the page has (width, height, CSS width, seen): {seen}') from e
        return self.canvas(n)

    def canvas_array(self, n=0):
        "The pixels of the `n`-th canvas, height × width × RGBA"
        url = self.page.evaluate("n => document.querySelectorAll('.jupyter-matplotlib-canvas-div > canvas:first-child')[n].toDataURL()", n)
        return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(',')[2]))).convert('RGBA'))

    def at(self, canvas, where):
        "Page coordinates of `where`, given in fractions of `canvas` from its left and top"
        canvas.scroll_into_view_if_needed(); b = canvas.bounding_box()
        return b['x']+where[0]*b['width'],b['y']+where[1]*b['height']

    def drag(self, canvas, start, end, steps=8):
        "Drag over `canvas` from `start` to `end`, each (x, y) in fractions from its left and top"
        def move(f): self.page.mouse.move(*self.at(canvas, [a+(b-a)*f for a,b in zip(start, end)])); self.page.wait_for_timeout(THROTTLE)
        move(0); self.page.mouse.down()
        for i in range(steps): move((i+1)/steps)
        self.page.wait_for_timeout(THROTTLE)   # else the release overtakes the last move
        self.page.mouse.up()

    def click(self, canvas, where, **kw):
        "Click on `canvas` at (x, y) in fractions from its left and top"
        self.page.mouse.move(*self.at(canvas, where)); self.page.wait_for_timeout(THROTTLE)
        self.page.mouse.click(*self.at(canvas, where), **kw)

def open_voila(page, server, cells, kernel='python3', timeout=60):
    "Let Voila run and show a notebook of `cells`"
    view = View(page, server, path := server.write(cells, kernel))
    page.goto(f'{server.url}/{URLS["voila"].format(path)}', timeout=timeout*1000)
    page.wait_for_selector('#rendered_cells', timeout=timeout*1000)   # hidden until all cells ran
    return view

# ---------------------------------------------------------------- notebooks

class Notebook(View):
    "A notebook in JupyterLab or Notebook 7"
    @classmethod
    def open(cls, page, server, cells, kernel='python3', app='lab', timeout=60):
        "Write a notebook of `cells`, open it alone in the page, wait until its kernel is idle. A kernel that Jupyter itself does not bring up (seen once with ipykernel 7.3) is started again, before anything of ours has run"
        before,self = server.kernels(),cls(page, server, path := server.write(cells, kernel))
        def go(timeout): page.goto(f'{server.url}/{URLS[app].format(path)}', timeout=timeout*1000); self.wait_ready(timeout)
        try: go(timeout)
        except PlaywrightTimeout: server.shut_down(server.kernels()-before); go(timeout)
        self.kernel_id = self.js('return kernel.id')
        return self

    def wait_ready(self, timeout=60):
        "Wait until the notebook is alone in the page and its kernel idle"
        self.page.wait_for_function('''() => { const p = window.jupyterapp?.shell?.currentWidget, s = p?.sessionContext, k = s?.session?.kernel;
            return p?.context?.isReady && s.isReady && k?.status === 'idle' && k.connectionStatus === 'connected' }''', timeout=timeout*1000)

    def reload(self):
        "Save, and load the page anew; the kernel lives on"
        self.save(); self.page.reload(); self.wait_ready()

    def js(self, body, arg=None, timeout=60):
        "Run JavaScript in the page, with `app`, `panel`, `cells`, `kernel`, `arg` and `await`; returns what it returns"
        return self.page.evaluate('''([body, arg, ms]) => {
            const app = window.jupyterapp, panel = app.shell.currentWidget, kernel = panel.sessionContext.session?.kernel, cells = panel.content.model.cells;
            const f = Object.getPrototypeOf(async () => {}).constructor('app', 'panel', 'cells', 'kernel', 'arg', body);
            return Promise.race([f(app, panel, cells, kernel, arg), new Promise((_, no) => setTimeout(() => no(new Error(`no end after ${ms/1000} s`)), ms))]) }''',
            [body, arg, timeout*1000])

    # cells, as a user runs them

    def start_run_all(self): self.js("app.commands.execute('notebook:run-all-cells')")

    def start_run(self, i):
        "Run cell `i` and do not wait for its end"
        self.js("panel.content.deselectAll(); panel.content.activeCellIndex = arg; app.commands.execute('notebook:run-cell')", i)

    def run_all(self, timeout=60):
        "Run all cells; fails where one does"
        self.js("await app.commands.execute('notebook:run-all-cells')", timeout=timeout); self.no_error()

    def run(self, i, timeout=60):
        "Run cell `i`; returns its text"
        self.js("panel.content.deselectAll(); panel.content.activeCellIndex = arg; await app.commands.execute('notebook:run-cell')", i, timeout)
        self.no_error(i)
        return self.text(i)

    def add_and_run(self, code, timeout=60):
        "Add a cell at the end and run it; returns its text"
        i = self.js("const m = panel.content.model.sharedModel; m.insertCell(m.cells.length, {cell_type: 'code', source: arg}); return m.cells.length-1", code)
        return self.run(i, timeout)

    def outputs(self, i=None):
        "The outputs of cell `i`, or of all cells, as in a saved notebook"
        return self.js('return [...cells].flatMap((c, j) => arg === null || arg === j ? c.outputs?.toJSON() ?? [] : [])', i)

    def text(self, i):
        "What cell `i` printed and the plain text of what it showed"
        joined = lambda t: t if isinstance(t, str) else ''.join(t)
        return ''.join(joined(o.get('text') or o.get('data', {}).get('text/plain', '')) for o in self.outputs(i))

    def no_error(self, i=None):
        bad = [o for o in self.outputs(i) if o['output_type']=='error']
        assert not bad, '\n'.join(bad[0]['traceback']) or bad[0]['ename']

    # the kernel, past the notebook

    def request(self, content, timeout):
        "Ask the kernel to execute, after what runs there; returns its reply and what it printed"
        return self.js("""for (;;) {
            let out = ''; const f = kernel.requestExecute({store_history: false, allow_stdin: false, ...arg});
            f.onIOPub = m => { if (m.header.msg_type === 'stream') out += m.content.text };
            const r = (await f.done).content; if (r.status !== 'aborted') return [r, out]; }""", content, timeout)   # aborted: it waited for a cell that failed

    def exec(self, code, timeout=60):
        "Run statements in the notebook's kernel; returns what they printed"
        reply,out = self.request(dict(code=code), timeout)
        assert reply['status']=='ok', '\n'.join(reply['traceback'])
        return out

    def eval(self, expr, wait=True, timeout=60):
        "The value of a Python expression in the notebook's kernel, by way of JSON; a busy kernel is waited for, or with `wait=False` an error"
        assert wait or self.status()=='idle', 'the kernel is busy'
        code = f"__import__('json').dumps({expr}, default=lambda o: o.tolist() if hasattr(o, 'tolist') else repr(o))"
        reply,_ = self.request(dict(code='', silent=True, user_expressions=dict(value=code)), timeout); r = reply['user_expressions']['value']
        assert r['status']=='ok', f'{expr}: {r["ename"]}: {r["evalue"]}'
        return json.loads(ast.literal_eval(r['data']['text/plain']))

    def where(self, ax, x, y):
        "The data point (x, y) of the axes that expression `ax` gives, in fractions of its canvas from left and top"
        fx,fy = self.eval(f'(lambda ax: ax.transData.transform(({x}, {y}))/ax.figure.bbox.size)({ax})')
        return fx,1-fy

    def wait_comms(self):
        "Wait until widgets have the subshells that JupyterLab gives them where a kernel has any; before that a press is sent to the main shell"
        self.js('if (kernel.supportsSubshells) for (const c of kernel._comms.values()) await (await c).subshellStarted')

    def watch(self, i):
        "Wait until the picture of the fit in cell `i` has moved, while the cell runs, and let the fit go on to its end; returns the pictures that were seen"
        seen = set()
        def look():
            seen.update(self.page.evaluate("[...document.querySelectorAll('.jp-OutputArea-output img')].filter(i => i.checkVisibility() && i.clientWidth > 300).map(i => i.src)"))
            return len(seen)>2
        self.until(look, 90)
        assert self.js(f'return cells.get({i}).executionCount') is None # it runs still
        (self.folder/'go').touch()
        return seen
    def interrupt(self): self.js("await app.commands.execute('notebook:interrupt-kernel')")

    def status(self):
        "What the page takes for the kernel's status; messages on a subshell can make a busy kernel look idle"
        return self.js('return kernel.status')

    def save(self):
        "Save the notebook; returns it as saved"
        self.js('await panel.context.save()')
        return nbformat.read(self.folder/'test.ipynb', as_version=4)

    def close(self):
        "Leave the page and shut the kernel down"
        self.page.close(); self.server.shut_down([self.kernel_id])
