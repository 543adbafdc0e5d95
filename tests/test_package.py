"The source distribution and the wheel, built from a copy of the repository."
import email, re, tarfile, zipfile
from configparser import ConfigParser

import pytest

pytestmark = pytest.mark.slow

@pytest.fixture(scope='module')
def settings(root):
    cp = ConfigParser(delimiters='='); cp.read(root/'settings.ini')
    return cp['DEFAULT']

def metadata(wheel):
    with zipfile.ZipFile(wheel) as z: return email.message_from_bytes(z.read(next(n for n in z.namelist() if n.endswith('/METADATA'))))

def test_metadata(built, settings, root):
    m = metadata(built[1])
    version = re.search(r'__version__ = "(.+?)"', (root/'lrtools/__init__.py').read_text())[1]
    assert (m['Name'], m['Version'], m['License-Expression'], m['Author'])==('lrtools', version, 'Apache-2.0', settings['author'])
    assert m['Requires-Python']=='>='+settings['min_python'] and len(m['Summary'])>20
    assert {u.split(', ')[0] for u in m.get_all('Project-URL')}=={'Repository', 'Documentation'}
    assert m['Description-Content-Type']=='text/markdown' and m.get_payload().strip()
    needs = m.get_all('Requires-Dist')
    assert [n for n in needs if 'extra ==' not in n]==settings['requirements'].split()
    assert set(m.get_all('Provides-Extra'))=={'dev', 'docs', 'bench'}

def test_wheel_holds_the_library_and_nothing_else(built, root):
    with zipfile.ZipFile(built[1]) as z: names = z.namelist()
    mods = {p.relative_to(root).as_posix() for p in (root/'lrtools').rglob('*.py')}
    assert mods<=set(names), f'missing: {mods-set(names)}'
    assert {n.split('/')[0] for n in names}=={'lrtools', next(n for n in names if n.endswith('/METADATA')).split('/')[0]}
    assert any(n.endswith('licenses/LICENSE') for n in names)

def test_sdist_can_be_built_from(built):
    with tarfile.open(built[0]) as t: names = {n.partition('/')[2] for n in t.getnames()}
    assert {'settings.ini', 'pyproject.toml', 'setup.py', 'README.md', 'LICENSE', 'CHANGELOG.md', 'lrtools/__init__.py'}<=names

def test_nbdev_finds_the_library(built):
    with zipfile.ZipFile(built[1]) as z: entry = z.read(next(n for n in z.namelist() if n.endswith('entry_points.txt'))).decode()
    assert entry.split()==['[nbdev]', 'lrtools', '=', 'lrtools._modidx:d']

def test_wheel_imports_on_its_own(built, tmp_path, python):
    with zipfile.ZipFile(built[1]) as z: z.extractall(tmp_path)
    assert python('import lrtools; print(lrtools.__file__)', tmp_path).startswith(str(tmp_path))
