import os, shutil, subprocess, sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')   # small networks: threads cost more than they give, and more so on a busy machine

import pytest

import browser, kernels

ROOT = Path(__file__).resolve().parent.parent

@pytest.fixture(scope='session')
def root(): return ROOT

def missing(why):
    "Skip the test, or fail it where CI is set"
    if os.environ.get('CI'): pytest.fail(why)
    pytest.skip(why)

@pytest.fixture(scope='session')
def chromium():
    "The path of a browser; without one the test is skipped, or fails where CI is set"
    return browser.find() or missing('no Chromium or Chrome on this machine (`make test` tries to install one)')

@pytest.fixture(scope='session')
def lab_server(chromium, tmp_path_factory):
    "A Jupyter server (`lab.Server`) with JupyterLab, Notebook 7 and Voila; a test that fails shows its log"
    import lab
    with lab.server(tmp_path_factory.mktemp('lab')) as s: yield s

@pytest.fixture(scope='module', name='browser')
def running_browser(chromium):
    "A headless browser; not for the whole session, as Playwright's event loop would be in the way of other tests"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=browser.FLAGS)
        yield b
        b.close()

@pytest.fixture
def page(browser, lab_server):
    "A page of its own for one test; kernels that the test started end with it"
    before,page = lab_server.kernels(),browser.new_page(viewport=dict(width=1280, height=900))
    yield page
    page.close(); lab_server.shut_down(lab_server.kernels()-before)

@pytest.fixture
def open_notebook(page, lab_server):
    "`open_notebook(cells, kernel='python3', app='lab')` opens a notebook in `page`; returns a `lab.Notebook`"
    import lab
    return lambda cells, **kw: lab.Notebook.open(page, lab_server, cells, **kw)

@pytest.fixture(scope='module', params=kernels.VERSIONS)
def ipykernel(request):
    "The name of a kernel, for each of the ipykernel versions in turn"
    if kernels.there(request.param): return request.param
    missing(f'no kernel {request.param} (`make test` tries to install it)')

def pytest_collection_modifyitems(items):
    "What is slow comes first, so that no process is left alone with it at the end"
    items.sort(key=lambda item: item.get_closest_marker('slow') is None)

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    server = getattr(item, 'funcargs', {}).get('lab_server')
    if report.failed and server: report.sections.append(('Jupyter server', server.log()))
    return report

@pytest.fixture(scope='session')
def python():
    "Run Python code in a process of its own at the repository's root; returns what it printed"
    def run(code, cwd=ROOT):
        env = {**os.environ, 'PYTHONPATH': str(cwd)}
        r = subprocess.run([sys.executable, '-c', code], cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
        assert r.returncode==0, r.stderr[-3000:]
        return r.stdout.strip()
    return run

@pytest.fixture(scope='session')
def built(tmp_path_factory):
    "The sdist, and the wheel built from it"
    skip = shutil.ignore_patterns('.*', '_demo', '_proc', '_docs', '__pycache__', 'build', 'dist', '*.egg-info')
    src = shutil.copytree(ROOT, tmp_path_factory.mktemp('package')/'src', ignore=skip)
    r = subprocess.run([sys.executable, '-m', 'build', '--no-isolation'], cwd=src, capture_output=True, text=True, timeout=600)
    assert r.returncode==0, r.stdout[-2000:]+r.stderr[-2000:]
    return next((src/'dist').glob('*.tar.gz')),next((src/'dist').glob('*.whl'))

@pytest.fixture(scope='session')
def demo_run(tmp_path_factory):
    "The folder that one run of tools/demo.py on the real quickstart left, and what it printed"
    out = tmp_path_factory.mktemp('demo')
    r = subprocess.run([sys.executable, 'tools/demo.py', '--out', str(out)], cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert r.returncode==0, f'tools/demo.py failed:\n{r.stdout}{r.stderr}'
    return out,r.stdout
