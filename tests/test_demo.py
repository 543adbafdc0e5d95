"The demo: the real quickstart once, its page in a browser without network, and what happens when a cell fails."
import re, subprocess, sys
from pathlib import Path

import nbformat, pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import browser

pytestmark = pytest.mark.slow

DEMO = Path(__file__).resolve().parent.parent/'tools/demo.py'

def toy(tmp_path, *cells):
    "Run tools/demo.py on a notebook of `cells`; returns the finished process and the folder it wrote to"
    path,out = tmp_path/'toy.ipynb',tmp_path/'out'
    nbformat.write(new_notebook(cells=list(cells)), path)
    before = path.read_bytes()
    r = subprocess.run([sys.executable, DEMO, path, '--out', out], capture_output=True, text=True, timeout=300)
    assert path.read_bytes()==before, 'tools/demo.py changed the notebook'
    return r,out

PLOT = 'from matplotlib import pyplot as plt\nplt.plot([1,2]); plt.show()'

def test_toy_leaves_notebook_page_and_pictures(tmp_path):
    r,out = toy(tmp_path, new_markdown_cell('# Toy\n\n## See it'), new_code_cell('#| hide\nsecret = 1'), new_code_cell('import warnings\nwarnings.warn("old" "fashioned")'), new_code_cell('#| fig-alt: A rising line\n'+PLOT),
        new_code_cell('#| eval: false\n1/0'), new_markdown_cell('## Sum up'), new_code_cell(PLOT), new_code_cell('#| echo: false\nprint("points: 2\\nlr: 1e-3")'))
    assert r.returncode==0, r.stderr
    assert sorted(p.name for p in (out/'pictures').iterdir())==['01-see-it.png', '02-sum-up.png']
    assert re.search(r'3/6 +\d+\.\d s  See it\n', r.stdout) and '\npoints: 2\nlr: 1e-3\n' in r.stdout and 'total: ' in r.stdout
    page = (out/'toy.html').read_text()
    assert 'alt="A rising line"' in page and 'alt="Sum up"' in page
    assert 'secret' not in page and 'oldfashioned' not in page and 'fig-alt' not in page and not re.search(r'<script[^>]*src=', page)
    nb = nbformat.read(out/'toy.ipynb', as_version=4)
    assert len(nb.cells)==8 and not any(c.metadata.get('tags') for c in nb.cells)

def test_failing_cell_is_shown(tmp_path):
    r,out = toy(tmp_path, new_code_cell('a = 0'), new_code_cell('b = 1\nb/a'), new_code_cell('never = 1'))
    assert r.returncode==1 and 'b = 1\nb/a' in r.stderr and 'ZeroDivisionError: division by zero' in r.stderr and 'never' not in r.stderr
    assert (out/'toy.ipynb').exists()

def test_a_dead_kernel_is_no_mystery(tmp_path):
    r,_ = toy(tmp_path, new_code_cell('import os; os._exit(3)'))
    assert r.returncode==1 and 'os._exit(3)' in r.stderr and 'DeadKernelError' in r.stderr

def test_quickstart_leaves_notebook_page_and_pictures(demo_run):
    out,printed = demo_run
    nb = nbformat.read(out/'quickstart.ipynb', as_version=4)
    assert all(c.execution_count for c in nb.cells if c.cell_type=='code' and 'eval: false' not in c.source)
    assert (out/'quickstart.html').stat().st_size>10_000
    pics = sorted((out/'pictures').iterdir())
    assert len(pics)>=2 and all(p.read_bytes().startswith(b'\x89PNG') and re.fullmatch(r'\d\d-[a-z0-9-]+\.png', p.name) for p in pics)
    assert re.search(r'^[\w ]+: \S', printed, re.M), 'the last cell of the quickstart prints no "key: value" line'

@pytest.fixture(scope='module')
def page(chromium, demo_run):
    "The quickstart's page in Chromium at 1280 px, with `page.said` (errors) and `page.asked` (requests to hosts)"
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=chromium, args=browser.FLAGS)
        context = b.new_context(viewport=dict(width=1280, height=900))
        page = context.new_page(); page.said,page.asked = [],[]
        page.on('console', lambda m: page.said.append(m.text) if m.type=='error' else None)
        page.on('pageerror', lambda e: page.said.append(str(e)))
        def answer(route):
            if route.request.url.startswith(('file:', 'data:', 'blob:')): return route.continue_()
            page.asked.append(route.request.url); route.abort()
        context.route('**/*', answer)
        page.goto((demo_run[0]/'quickstart.html').as_uri(), wait_until='load')
        page.wait_for_function('[...document.images].every(i => i.complete)')
        yield page
        b.close()

@pytest.mark.browser
def test_pictures_show_and_are_described(page):
    pics = page.evaluate('[...document.images].map(i => ({alt: i.alt.trim(), width: i.naturalWidth}))')
    assert len(pics)>=2 and all(p['width']>0 and p['alt'] and not p['alt'].startswith('No description') for p in pics), pics

@pytest.mark.browser
def test_page_is_quiet_and_asks_no_host(page): assert not page.said and not page.asked

@pytest.mark.browser
def test_page_does_not_overflow(page):
    wide = page.evaluate('document.documentElement.scrollWidth - document.documentElement.clientWidth')
    assert wide<=0, f'the page is {wide} px wider than the window'
