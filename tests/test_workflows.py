"The workflows of GitHub: what they run exists, on every Python that is supported, with no more rights than they need"
import configparser, re

import pytest, yaml

from conftest import ROOT

FILES = {p.stem: p for p in sorted((ROOT/'.github/workflows').glob('*.yml'))}
FLOWS = {name: yaml.safe_load(p.read_text()) for name,p in FILES.items()}
PYTHONS = 10, 13 # minor versions, from the oldest that is supported to the newest that is tried
MAY = {'docs': {'pages', 'id-token'}, 'publish': {'id-token'}} # what a job may write
each = pytest.mark.parametrize('name', FLOWS)

def steps(flow): return [s for job in flow['jobs'].values() for s in job['steps']]
def triggers(flow): return flow[True] # YAML takes `on` for a yes
def writes(job): return {k for k,v in job.get('permissions', {}).items() if v=='write'}

def test_there_are_three(): assert [*FLOWS]==['docs', 'publish', 'test']

@each
def test_what_is_made_can_be_made(name, root):
    targets = set(re.findall(r'^([\w-]+):', (root/'Makefile').read_text(), re.M))
    asked = {t for s in steps(FLOWS[name]) for t in re.findall(r'\bmake ([\w-]+)', s.get('run', ''))}
    assert asked<=targets and bool(asked)==(name!='publish')

@each
def test_actions_are_pinned_by_major_version(name):
    used = [s['uses'] for s in steps(FLOWS[name]) if 'uses' in s]
    assert used and all(re.fullmatch(r'actions/[\w-]+@v\d+|pypa/gh-action-pypi-publish@release/v\d+', u) for u in used)

@each
def test_rights(name):
    flow = FLOWS[name]
    assert flow['permissions']=={'contents': 'read'} and 'secrets' not in FILES[name].read_text()
    jobs = {n: writes(j) for n,j in flow['jobs'].items() if writes(j)}
    assert set().union(*jobs.values())==MAY.get(name, set()) and len(jobs)==(name in MAY)
    for n in jobs: assert not any('run' in s for s in flow['jobs'][n]['steps']), 'nothing of ours runs in a job that may write'

def test_every_python(root):
    cp = configparser.ConfigParser(delimiters='='); cp.read(root/'settings.ini')
    lo,hi = PYTHONS
    assert cp['DEFAULT']['min_python']==f'3.{lo}'
    job = FLOWS['test']['jobs']['test']
    assert job['strategy']['matrix']['python']==[f'3.{o}' for o in range(lo, hi+1)]
    test, = [s for s in job['steps'] if s.get('run')=='make test']
    assert test['env']=={'CI': 'true'}

def test_the_docs_go_to_pages():
    build,deploy = FLOWS['docs']['jobs'].values()
    assert triggers(FLOWS['docs'])=={'push': {'branches': ['main']}} and deploy['environment']['name']=='github-pages'
    assert [s['with']['path'] for s in build['steps'] if s.get('uses', '').startswith('actions/upload-pages-artifact')]==['_docs']

def test_a_release_is_published_without_a_secret():
    flow = FLOWS['publish']
    build,publish = flow['jobs'].values()
    assert triggers(flow)=={'release': {'types': ['published']}} and publish['needs']=='build' and publish['environment']=='pypi'
    assert [s['run'].split()[:4] for s in build['steps'] if 'run' in s][1:]==[['python', '-m', 'build'], ['python', '-m', 'twine', 'check']]
    assert publish['permissions']=={'id-token': 'write'} and publish['steps'][-1]=={'uses': 'pypa/gh-action-pypi-publish@release/v1'}
