"""Kernels of several ipykernel versions that share everything else with this environment, for the browser tests.

    python tools/kernels.py          # installs what is missing; says in one line which there are

Each is a folder with one ipykernel, which its kernelspec puts first on PYTHONPATH. A Jupyter server finds them with
JUPYTER_PATH=HOME; without it (`make lab`) they are not in the way."""
import json, shutil, subprocess, sys
from pathlib import Path

HOME = Path(sys.prefix)/'ipykernels'
VERSIONS = {'ipykernel6': '6.31.*', 'ipykernel73': '7.3.0', 'ipykernel74': '7.4.0'}
BESIDE = 'nest-asyncio', 'nest-asyncio2', 'psutil'   # what one of these ipykernels needs and another does not

def spec(name):
    "The kernelspec `name`; also tells whether what is installed is what is wanted"
    return dict(argv=[sys.executable, '-m', 'ipykernel_launcher', '-f', '{connection_file}'], display_name=f'ipykernel {VERSIONS[name]}',
                language='python', env=dict(PYTHONPATH=f'{HOME/name}:${{PYTHONPATH}}'), metadata=dict(needs=[f'ipykernel=={VERSIONS[name]}', *BESIDE]))

def file(name): return HOME/'kernels'/name/'kernel.json'

def there(name):
    "Is the kernel `name` installed as wanted?"
    try: return json.loads(file(name).read_text())==spec(name)
    except (OSError, ValueError): return False

def install(name):
    "Install the kernel `name` unless it is there; returns why not, or `None`"
    if there(name): return
    shutil.rmtree(HOME/name, ignore_errors=True)
    pip = [sys.executable, '-m', 'pip', 'install', '-qq', '--disable-pip-version-check', '--retries', '1', '--no-deps', '--target', HOME/name]
    r = subprocess.run([*pip, *spec(name)['metadata']['needs']], capture_output=True, text=True)
    if r.returncode: return (r.stderr.strip().splitlines() or ['pip failed'])[-1]
    file(name).parent.mkdir(parents=True, exist_ok=True)
    file(name).write_text(json.dumps(spec(name), indent=1))   # last: what was broken off is done again

def ensure():
    "Install what is missing; returns a line on what there is"
    whys = {name: why for name in VERSIONS if (why := install(name))}
    if not whys: return f'kernels: {", ".join(VERSIONS)}'
    return f'kernels: no {", ".join(whys)}, so their tests are skipped (where CI is set, they fail). {next(iter(whys.values()))}'

if __name__=='__main__': print(ensure())
