"Two real processes that train one model: they see one curve, end together, and never wait for each other without end"
import json, os, subprocess, sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PAIR = Path(__file__).parent/'pair.py'

@pytest.fixture(scope='module')
def pair(tmp_path_factory):
    "What each of two processes said, case by case, and all that each printed"
    file = tmp_path_factory.mktemp('pair')/'store'
    env = {**os.environ, 'PYTHONPATH': str(PAIR.parent.parent), 'PYTHONWARNINGS': 'ignore'}
    ps = [subprocess.Popen([sys.executable, str(PAIR), str(r), str(file)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for r in (0, 1)]
    try: outs = [p.communicate(timeout=300) for p in ps]
    finally:
        for p in ps: p.kill()
    assert not any(p.returncode for p in ps), '\n'.join(out[-500:]+err[-2000:] for out,err in outs)
    lines = [[l for l in out.splitlines() if l.startswith('{')] for out,_ in outs]
    said = [{k: v for l in ls for k,v in json.loads(l).items()} for ls in lines]
    return lambda case: ([o[case] for o in said], [out for out,_ in outs])

def check_studied(a, b):
    assert a.pop('same') and b.pop('same')
    assert a==b
    assert a['stops']!=['end', 'end'] and all(len(l)<60 for l in a['losses']) and a['steps']>0

def test_curve_and_probe_are_the_same_in_both_processes(pair):
    (a,b),out = pair('alike')
    check_studied(a, b)
    assert a['losses'][0]!=a['losses'][1]
    assert '%' in out[0] and '%' not in out[1] # one bar

def test_curve_and_probe_under_distrib_ctx_of_fastai(pair):
    (a,b),_ = pair('fastai')
    check_studied(a, b)
    assert len(a['plain'][0])==5

def test_other_numbers_of_batches_never_hang(pair):
    (a,b),_ = pair('uneven')
    assert a['losses']==b['losses'] and len(a['losses'][0])==20
    assert a['refused'][0]==b['refused'][0] and '8 and 3 batches' in a['refused'][0] and '6 and 3 batches' in a['refused'][0] and a['refused'][1]<10

def test_where_one_refuses_both_do(pair):
    (a,b),_ = pair('one_refuses')
    for mine,other in zip(a['refused'], b['refused']):
        assert 'has no items' in mine[0] and other[0].startswith('process 0 of 2 cannot begin: learn.dls.train has no batches')

def test_one_that_comes_alone_is_told(pair):
    (a,b),_ = pair('one_comes_alone')
    assert 'not all of them have begun this within 2 s' in a['alone'][0]
    assert a['losses']==b['losses'] and len(a['losses'][0])==5

def test_other_arguments_are_refused(pair):
    (a,b),_ = pair('other_arguments')
    assert a['refused'][0]==b['refused'][0] and 'num_it=5' in a['refused'][0] and 'num_it=6' in a['refused'][0]

def test_a_model_that_is_not_shared_is_tested_alone(pair):
    (a,b),_ = pair('each_its_own')
    assert len(a['losses'][0])==5 and b['losses'] is None
