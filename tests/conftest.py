import os, subprocess, sys
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')   # small networks: threads cost more than they give, and more so on a busy machine

import pytest

import browser

ROOT = Path(__file__).resolve().parent.parent

@pytest.fixture(scope='session')
def root(): return ROOT

@pytest.fixture(scope='session')
def chromium():
    "The path of a browser; without one the test is skipped, or fails where CI is set"
    if found := browser.find(): return found
    why = 'no Chromium or Chrome on this machine (`make test` tries to install one)'
    if os.environ.get('CI'): pytest.fail(why)
    pytest.skip(why)

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
def demo_run(tmp_path_factory):
    "The folder that one run of tools/demo.py on the real quickstart left, and what it printed"
    out = tmp_path_factory.mktemp('demo')
    r = subprocess.run([sys.executable, 'tools/demo.py', '--out', str(out)], cwd=ROOT, capture_output=True, text=True, timeout=1200)
    assert r.returncode==0, f'tools/demo.py failed:\n{r.stdout}{r.stderr}'
    return out,r.stdout
