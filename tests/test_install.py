"Installing as users do: environments of exactly what is required, hard-linked from the one that runs the tests"
import email, importlib.metadata, json, os, re, shutil, subprocess, sys, sysconfig, tempfile, venv, warnings, zipfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cells
from conftest import ROOT, missing

pytestmark = pytest.mark.slow

SITE = Path(sysconfig.get_path('purelib'))
COLAB = 'fastai', 'torch', 'torchvision', 'ipywidgets', 'ipykernel', 'ipython' # of what Colab has, what lrtools stands on
AROUND = 'PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV', 'COLAB', 'KAGGLE', 'VSCODE', 'JPY' # variables that tell where the tests run
NOTEBOOKS = [ROOT/'nbs/quickstart.ipynb', *sorted(ROOT.glob('nbs/tutorials/*.ipynb'))[:1]]
CORE = 'test_schedule test_suggest test_range_test test_freezing test_fit_plan test_faults' # what fastai's oldest is tried on, and of it what depends on fastai and is quick
PART = '(as_fastai or range_test or freezing or fit_plan or preserved or test_memory or restore_many) and not (transformers or timm or workers or rates_per_group or non_finite or never_ending or random_models or avoids_it)'

# ---------------------------------------------------------------- environments

@cache
def installed():
    "`{name: distribution}` of the environment that runs the tests"
    return {canonicalize_name(d.metadata['Name']): d for d in importlib.metadata.distributions(path=[str(SITE)])}

def closure(*reqs):
    "The names of the distributions that `reqs` bring"
    found,todo = set(),[Requirement(r) for r in reqs]
    while todo:
        r = todo.pop()
        for key in ((canonicalize_name(r.name), extra) for extra in ('', *r.extras)):
            if key in found: continue
            found.add(key)
            needs = map(Requirement, installed()[key[0]].requires or [])
            todo += [q for q in needs if not q.marker or q.marker.evaluate({'extra': key[1]})]
    return {name for name,_ in found}

def lay(src, to):
    try: os.link(src, to)
    except (FileNotFoundError, FileExistsError): pass # a RECORD may name bytecode that is gone, or a file twice
    except OSError: shutil.copy2(src, to)

def link(names, folder):
    "Lay the distributions `names` under `folder`, without their scripts, which would start the Python of the tests; returns their site-packages"
    site,scripts,made = folder/SITE.relative_to(sys.prefix),os.path.join(folder, 'bin'),set()
    for f in (f for n in names for f in installed()[n].files):
        to = os.path.normpath(os.path.join(site, f)); parent = os.path.dirname(to)
        if parent==scripts: continue
        if parent not in made: os.makedirs(parent, exist_ok=True); made.add(parent)
        lay(SITE/f, to)
    return site

def run(*command, cwd=None, **env):
    "Run a command, without the repository and the environment of the tests on its paths"
    env = {**{k:v for k,v in os.environ.items() if not k.startswith(AROUND)}, 'PYTHONDONTWRITEBYTECODE': '1', 'MPLBACKEND': 'agg', **env}
    return subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)

def good(r):
    assert r.returncode==0, f'{r.stdout[-4000:]}\n{r.stderr[-4000:]}'
    return r.stdout

def pip(python, *args): return run(sys.executable, '-m', 'pip', '--python', python, '--disable-pip-version-check', *args)

@contextmanager
def environment(names):
    "The Python of a virtual environment of the distributions `names`, without pip; beside our own, where links are possible"
    folder = Path(tempfile.mkdtemp(prefix='install-', dir=sys.prefix))
    try:
        venv.create(folder, symlinks=True)
        link(names, folder)
        yield folder/'bin/python'
    finally: shutil.rmtree(folder)

@pytest.fixture(scope='module', autouse=True)
def untouched():
    "Nothing is written through a link into the environment that runs the tests"
    files = [os.path.join(SITE, f) for n in closure(*COLAB, 'ipympl', 'pytest') for f in installed()[n].files]
    def state(): return {p: (s.st_size, s.st_mtime_ns) for p in files if os.path.exists(p) for s in [os.stat(p)]}
    before = state()
    yield
    assert state()==before

@pytest.fixture(scope='module')
def required(built):
    "What the wheel requires without an extra"
    with zipfile.ZipFile(built[1]) as z: m = email.message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('/METADATA'))))
    return [r for r in m.get_all('Requires-Dist') if 'extra ==' not in r]

@pytest.fixture(scope='module')
def index(tmp_path_factory):
    "An index of packages answers; where none does the test is skipped, or fails where CI is set"
    r = run(sys.executable, '-m', 'pip', 'download', '-q', '--retries', '1', '--no-deps', '--dest', tmp_path_factory.mktemp('index'), 'ipympl')
    if r.returncode: missing(f'no index of packages: {(r.stderr.strip().splitlines() or ["pip failed"])[-1]}')

# ---------------------------------------------------------------- a user of the wheel

@pytest.fixture(scope='module')
def user(built, required):
    "The Python of an environment as `pip install lrtools` makes it"
    with environment(closure(*required)) as python:
        good(pip(python, 'install', '--no-deps', '--no-index', built[1]))
        yield python

def test_nothing_is_missing_and_nothing_more_is_there(user, tmp_path):
    assert 'No broken requirements' in good(pip(user, 'check'))
    there = good(run(user, '-c', 'import importlib.util as u; print([n for n in ("lrtools", "ipympl", "nbdev", "pytest", "jupyterlab", "ipykernel") if u.find_spec(n)])', cwd=tmp_path))
    assert there.strip()=="['lrtools', 'ipympl']"

def test_the_library_imports_and_tells(user, tmp_path):
    assert good(run(user, '-c', 'from lrtools.all import *\nprint(lr_range_test.__code__.co_filename)', cwd=tmp_path)).startswith(str(user.parent.parent))
    said = good(run(user, '-m', 'lrtools', cwd=tmp_path))
    assert 'live widgets yes, where Jupyter itself has ipympl as well: no JupyterLab or Notebook is installed here' in said

CELLS = '''import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for source in json.load(open(sys.argv[1])): shell.run_cell(source).raise_error()'''

def code(path):
    "The cells of a notebook to run, and what it has pip install besides lrtools"
    nb = json.loads(path.read_text())
    text = '\n'.join(cells.join(c['source']) for c in nb['cells'])
    names = {w for line in re.findall(r'%pip install ([^`\n]+)', text) for w in line.split() if w[0]!='-' and 'lrtools' not in w}
    parts = [cells.split(c) for c in nb['cells'] if c['cell_type']=='code']
    return [s for opts,s in parts if opts.get('eval')!='false' and '%pip' not in s],names

@pytest.mark.parametrize('path', sorted(ROOT.glob('nbs/tutorials/*.ipynb')), ids=lambda p: p.stem)
def test_a_tutorial_installs_what_it_imports(required, path):
    sources,names = code(path)
    imported = {m for s in sources for m in re.findall(r'^(?:from|import) (\w+)', s, re.M)}-{'lrtools', *sys.stdlib_module_names}
    there = {f.parts[0].removesuffix('.py') for n in closure(*required, *names) for f in installed()[n].files}
    assert imported and imported<=there, imported-there

@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(user, tmp_path, required, path):
    sources,names = code(path)
    site = link(closure(*names)-closure(*required), tmp_path/'extra')
    (tmp_path/'cells.json').write_text(json.dumps(sources)); (tmp_path/'here').mkdir()
    good(run(user, '-c', CELLS, tmp_path/'cells.json', cwd=tmp_path/'here', PYTHONPATH=str(site), IPYTHONDIR=str(tmp_path)))

# ---------------------------------------------------------------- into what is there already

def test_colab_keeps_its_versions(built, index):
    "Installing adds lrtools and ipympl and changes nothing"
    with environment(closure(*COLAB)) as python:
        report = json.loads(good(pip(python, 'install', '--dry-run', '--quiet', '--report', '-', built[1])))
        assert {canonicalize_name(o['metadata']['name']) for o in report['install']}=={'lrtools', 'ipympl'}

# ---------------------------------------------------------------- fastai, from the oldest to the newest

def test_the_oldest_fastai(required, index, tmp_path):
    "With the newest of fastai's own small packages that it allows. Its bound on torch is left aside: torch stays as it is"
    oldest = next(Requirement(r) for r in required if r.startswith('fastai'))
    oldest = next(s.version for s in oldest.specifier if s.operator=='>=')
    names = closure(*required)
    small = {n for n in names if 'fastcore' in closure(n)}|{'plum-dispatch'}
    with environment(names-small|closure('pytest', 'hypothesis')) as python:
        pins = tmp_path/'pins'; pins.write_text('\n'.join(f'{n}=={installed()[n].version}' for n in names-small))
        good(pip(python, 'install', '-q', '--no-deps', f'fastai=={oldest}'))
        version,needs = json.loads(good(run(python, '-c', 'import json; from importlib.metadata import requires, version; print(json.dumps([version("fastai"), requires("fastai")]))')))
        assert version==oldest
        good(pip(python, 'install', '-q', '-c', pins, *(r for r in needs if canonicalize_name(Requirement(r).name) in small and 'extra' not in r)))
        good(run(python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-k', PART, *(ROOT/f'tests/{t}.py' for t in CORE.split()), cwd=ROOT, HYPOTHESIS_STORAGE_DIRECTORY=str(tmp_path)))

def test_a_newer_fastai_is_told(index):
    "The newest fastai is the one that the suite runs with. A release of yesterday is no failure, but is worth a word"
    new = json.loads(good(run(sys.executable, '-m', 'pip', 'install', '--dry-run', '--quiet', '--report', '-', '--no-deps', '--upgrade', 'fastai')))['install']
    for o in new: warnings.warn(f'fastai {o["metadata"]["version"]} is out; these tests ran with {installed()["fastai"].version}')
