"""Is lrtools/ what nbdev would export from the notebooks, and are the notebooks clean?

    python tools/in_step.py          # exit 1, naming the files, when not"""
import os, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIG = 'pyproject.toml', 'settings.ini', 'README.md'

def nbdev(command, folder):
    "Run nbdev's `command` in `folder`"
    env = {k:v for k,v in os.environ.items() if k!='IN_TEST'}   # nbdev-export does nothing under nbdev-test
    r = subprocess.run([Path(sys.executable).with_name(command)], cwd=folder, env=env, capture_output=True, text=True)
    if r.returncode: raise RuntimeError(f'{command} failed:\n{r.stdout}{r.stderr}')

def copy(root, to):
    "A copy of what nbdev reads in `root`, without the generated modules"
    for f in CONFIG:
        if (root/f).exists(): shutil.copy(root/f, to)
    shutil.copytree(root/'nbs', to/'nbs', ignore=shutil.ignore_patterns('.*', '_proc', '_docs'))
    (to/'lrtools').mkdir()
    shutil.copy(root/'lrtools/__init__.py', to/'lrtools')

def files(folder, pattern):
    "The contents of the files under `folder` that match `pattern`, by relative path"
    found = (p.relative_to(folder) for p in sorted(folder.rglob(pattern)))
    return {p.as_posix(): (folder/p).read_bytes() for p in found if '.ipynb_checkpoints' not in p.parts}

def differing(a, b): return [f for f in sorted(a.keys()|b.keys()) if a.get(f)!=b.get(f)]

def not_exported(root):
    "The modules of `root` that `nbdev-export` would change, add or no longer write"
    with tempfile.TemporaryDirectory() as d:
        copy(root, Path(d)); nbdev('nbdev-export', d)
        return differing(files(root/'lrtools', '*.py'), files(Path(d)/'lrtools', '*.py'))

def not_clean(root):
    "The notebooks of `root` that `nbdev-clean` would change"
    with tempfile.TemporaryDirectory() as d:
        copy(root, Path(d)); before = files(Path(d)/'nbs', '*.ipynb'); nbdev('nbdev-clean', d)
        return differing(before, files(Path(d)/'nbs', '*.ipynb'))

def main(root):
    stale,dirty = not_exported(root),not_clean(root)
    said = [f'lrtools/{f} is not what its notebook exports: run `nbdev-export`, or delete it if its notebook is gone.' for f in stale]
    said += [f'nbs/{f} is not clean: run `nbdev-clean`.' for f in dirty]
    return '\n'.join(said)

if __name__=='__main__': sys.exit(main(ROOT) or None)
