"`python -m lrtools`: in a terminal, in kernels of several kinds, with packages that are missing, broken or old"
import json, os, subprocess, sys

import pytest
from nbformat.v4 import new_code_cell, new_notebook

import demo
from lrtools import __version__

LIGHT = {'torch.py': 'from types import SimpleNamespace as S\ncuda = S(is_available=lambda: False)\nbackends = S(mps=S(is_available=lambda: False))',
         'fastai/__init__.py': '', 'fastai/basics.py': ''} # in the place of what takes seconds to import
MANAGER,IPYMPL = 'labextensions/@jupyter-widgets/jupyterlab-manager/package.json','labextensions/jupyter-matplotlib/package.json'
BLOCK = """import sys
class Missing:
    def find_spec(name, *_):
        if name==%r: raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Missing)"""
PLACES = 'COLAB', 'KAGGLE', 'VSCODE', 'JPY', 'MPLBACKEND', 'VIRTUAL_ENV'

@pytest.fixture
def told(tmp_path, root):
    "What it says, as a dict, with `files` before all that is installed, `env` around it and `first` run before it"
    def run(files=LIGHT, first='', env={}):
        for name,text in {**files, 'sitecustomize.py': first}.items():
            p = tmp_path/'fakes'/name; p.parent.mkdir(parents=True, exist_ok=True); p.write_text(text)
        env = {**{k:v for k,v in os.environ.items() if not k.startswith(PLACES)}, 'PYTHONPATH': f'{tmp_path/"fakes"}{os.pathsep}{root}', **env}
        r = subprocess.run([sys.executable, '-m', 'lrtools'], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
        assert r.returncode==0 and not r.stderr, r.stderr
        return lines(r.stdout)
    return run

def lines(text):
    "The names and words of aligned lines"
    assert all(o[12]==' '!=o[13] for o in text.splitlines()), text
    return {o[:13].strip(): o[13:] for o in text.splitlines()}

def test_versions_and_a_plain_yes(told):
    said = told({})
    assert list(said)==['lrtools', 'Python', 'platform', 'numpy', 'matplotlib', 'torch', 'fastai', 'ipywidgets', 'ipympl', 'jupyterlab', 'notebook', 'ipykernel', 'runs in', 'live widgets']
    assert said['lrtools']==__version__ and said['matplotlib'].endswith(', backend not chosen yet') and ', with' in said['torch']
    assert (said['runs in'], said['live widgets'])==('a terminal', 'yes, in the notebooks of this environment')

@pytest.mark.parametrize('env,where,live', [
    (dict(COLAB_RELEASE_TAG='x', KAGGLE_USERNAME='me'), 'Colab', "yes: lrtools switches Colab's support for them on"), (dict(KAGGLE_KERNEL_RUN_TYPE='Interactive', COLAB_RELEASE_TAG='x'), 'Kaggle', 'yes; should'),
    (dict(VSCODE_PID='1', JPY_PARENT_PID='2'), 'VS Code', 'yes: VS Code finds'), (dict(JPY_PARENT_PID='2'), 'a Jupyter kernel', 'yes')])
def test_places(told, env, where, live):
    said = told(env=env)
    assert said['runs in']==where and said['live widgets'].startswith(live)

@pytest.mark.parametrize('env', [{}, dict(COLAB_RELEASE_TAG='x')])
def test_without_ipympl(told, env):
    said = told(first=BLOCK % 'ipympl', env=env)
    assert said['ipympl']=='not installed'
    assert said['live widgets']=='no: ipympl is not installed. `pip install ipympl`, then restart the kernel and reload the page. Until then an image and sliders do the same'

def test_with_a_broken_ipympl(told):
    said = told({**LIGHT, 'ipympl/__init__.py': 'raise OSError("two\\nlines, "+"long "*50)'})
    assert ', broken (OSError: two lines, long' in said['ipympl'] and len(said['ipympl'])<130
    assert 'pip install -U ipympl`' in said['live widgets'] and said['live widgets'].endswith('an image and sliders do the same')

@pytest.mark.parametrize('name', ['numpy', 'matplotlib', 'torch', 'fastai', 'ipywidgets'])
def test_the_first_that_is_missing_is_named(told, name):
    said = told(first=BLOCK % name)
    assert said[name]=='not installed' and said['live widgets']==f'no: {name} is not installed. `pip install {name}`, then restart the kernel and reload the page'

def test_a_gpu(told):
    assert told({**LIGHT, 'torch.py': LIGHT['torch.py'].replace('False', 'True', 1)})['torch'].endswith(', with CUDA')
    assert told({**LIGHT, 'torch.py': 'raise RuntimeError("driver")'})['torch'].endswith(', broken (RuntimeError: driver)')

def manager(version, lab): return json.dumps({'version': version, 'dependencies': {'@jupyterlab/application': lab}})
def dist(name, version): return {f'{name}-{version}.dist-info/METADATA': f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'}

@pytest.mark.parametrize('widgets,lab,there,says', [
    ('8.1.9', '4.6.6', {MANAGER: manager('5.0.17', '^4.0.0'), IPYMPL: '{}'}, 'yes'),
    ('8.1.9', '4.6.6', {MANAGER: manager('5.0.17', '^4.0.0')}, 'pip install --force-reinstall --no-deps ipympl'),
    ('8.1.9', '4.6.6', {IPYMPL: '{}'}, 'JupyterLab 4.6.6 does not show ipywidgets 8.1.9 here: `pip install -U ipywidgets jupyterlab_widgets`'),
    ('7.7.1', '4.6.6', {MANAGER: manager('5.0.17', '^4.0.0'), IPYMPL: '{}'}, 'JupyterLab 4.6.6 does not show ipywidgets 7.7.1'),
    ('7.7.1', '4.6.6', {MANAGER: manager('3.1.4', '^3.0.0'), IPYMPL: '{}'}, 'JupyterLab 4.6.6 does not show ipywidgets 7.7.1'),
    ('7.8.5', '4.6.6', {MANAGER: manager('3.1.11', '^3 || ^4'), IPYMPL: '{}'}, 'yes'),
    ('7.7.1', '3.6.8', {MANAGER: manager('3.1.4', '^3.0.0'), IPYMPL: '{}'}, 'yes'),
    ('8.1.9', '4.6.6', {MANAGER: '{"name": "x"}', IPYMPL: '{}'}, 'yes')])  # of a form that is not known: nothing is said against it
def test_the_files_of_the_page(told, tmp_path, widgets, lab, there, says):
    files = {f'share/{k}': v for k,v in there.items()}|dist('ipywidgets', widgets)|dist('jupyterlab', lab)
    paths = {'jupyter_core/__init__.py': '', 'jupyter_core/paths.py': f'def jupyter_path(*names): return ["/nowhere", {str(tmp_path/"fakes/share")!r}+"/"+names[0]]'}
    live = told({**LIGHT, **files, **paths}, env=dict(JPY_PARENT_PID='1'))['live widgets']
    assert live=='yes' if says=='yes' else live.startswith('no: ') and says in live

def test_an_ipykernel_with_two_threads(told):
    assert told({**LIGHT, **dist('ipykernel', '7.2.0')})['ipykernel'].startswith('7.2.0, which handles widgets on a second thread')
    assert told({**LIGHT, **dist('ipykernel', '7.4.0')})['ipykernel']=='7.4.0'

@pytest.mark.slow
def test_in_a_notebook(tmp_path):
    "By `%run` and by `!`; nothing stays behind"
    cells = ['import sys, matplotlib, comm\nbefore = set(globals()), dict.get(matplotlib.rcParams, "backend"), {*comm.get_comm_manager().comms}', '%run -m lrtools', '!{sys.executable} -W ignore -m lrtools',
             'public = lambda names: {o for o in names if not o.startswith("_")}\n'
             'public(globals())-before[0]-{"before", "public"}, dict.get(matplotlib.rcParams, "backend")==before[1], {*comm.get_comm_manager().comms}==before[2]']
    nb = new_notebook(cells=[new_code_cell(c) for c in cells])
    error = demo.run(nb, tmp_path)[1]
    assert not error, error
    for c in nb.cells[1:3]:
        said = lines(''.join(o.text for o in c.outputs if o.name=='stdout'))
        assert said['runs in']=='a Jupyter kernel' and said['live widgets']=='yes' and said['matplotlib'].endswith('matplotlib_inline.backend_inline')
    new,*same = eval(nb.cells[3].outputs[0].data['text/plain'])
    assert same==[True, True] and new<={'importlib', 'json', 'os', 'pathlib', 'platform', 're', 'sys', 'textwrap', 'warnings'}
