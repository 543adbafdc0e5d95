"Files that are cut, flipped, mixed up or left half: refused with their name and the way out, and the learner as it was"
import json, multiprocessing, os, pickle, random, subprocess, sys, time
from functools import partial
from pathlib import Path

import pytest, torch
import fastai.callback.schedule # gives learners their fits

from learners import CONFIGS, deep, quiet
from state import changes, record, state
from lrtools.compare import compare
from lrtools.plan import Phase, Plan
from lrtools.schedule import constant, one_cycle
from lrtools.snapshot import SavedSnapshot, Snapshot, _host, _state_of, _write, load_sealed

TOLD = ValueError, TypeError, pickle.UnpicklingError

def whole_state(learn):
    "All that a restore may write, in bytes"
    s = _state_of(learn)
    return {k:v for k,v in record(s, ids=False).items()}

def refused(f, *words):
    with pytest.raises(TOLD) as e: f()
    said = str(e.value)
    assert len(said)<=300 and all(w in said for w in words), said
    return said

def flip(data, rng):
    data,i = bytearray(data),rng.randrange(len(data))
    data[i] ^= 1<<rng.randrange(8)
    return bytes(data)
def cut_off(data, rng): return data[:rng.randrange(len(data))]
def burst(data, rng):
    i = rng.randrange(len(data))
    return data[:i]+rng.randbytes(rng.randrange(1, 64))+data[i+7:]
def longer(data, rng): return data+rng.randbytes(rng.randrange(1, 99))
def zeros(data, rng):
    i = rng.randrange(len(data))
    return data[:i]+bytes(min(512, len(data)-i))+data[i+512:]

# ---------------------------------------------------------------- files of snapshots

@pytest.fixture(scope='module', params=['fastai','torch'])
def saved(request, tmp_path_factory):
    path = tmp_path_factory.mktemp('s')
    learn = quiet(deep(path, 3, **(dict(opt_func=CONFIGS['adamw'](path).opt_func) if request.param=='torch' else {})))
    file = Snapshot(learn, 'good').save(path/'good.pt')
    old = path/'old.pt' # as before there were seals
    torch.save(dict(kind='Snapshot', version=1, **Snapshot(learn, 'old').saved()._state), old)
    return learn,file,old

@pytest.mark.parametrize('damage', [flip, cut_off, burst, longer, zeros], ids=lambda f: f.__name__)
def test_every_damaged_file_is_refused_by_name(damage, saved, tmp_path):
    learn,file,_ = saved
    data,rng,bad = file.read_bytes(),random.Random(5),tmp_path/'bad.pt'
    before = whole_state(learn)
    for _ in range(60):
        broken = damage(data, rng)
        if broken==data: continue
        bad.write_bytes(broken)
        refused(lambda: Snapshot.load(bad), 'bad.pt')
    assert before==whole_state(learn) and Snapshot.load(file).restore(learn) is learn

def test_one_flipped_bit_anywhere_is_refused(saved, tmp_path):
    "In the weights, in the frame of the file, in its own checksum"
    _,file,_ = saved
    data,bad = file.read_bytes(),tmp_path/'bad.pt'
    for i in [*range(0, len(data), max(1, len(data)//150)), *range(len(data)-70, len(data))]:
        broken = bytearray(data)
        broken[i] ^= 1<<(i%8)
        bad.write_bytes(broken)
        refused(lambda: load_sealed(bad), 'bad.pt')

def test_files_of_before_are_read(saved):
    learn,_,old = saved
    s = Snapshot.load(old)
    before = whole_state(learn)
    s.restore(learn)
    assert s.name=='old' and whole_state(learn)==before

def damaged(d, rng):
    "A copy of the nested `d` with one part dropped, or of another kind, shape, type or length"
    d = pickle.loads(pickle.dumps(d))
    o = d
    for _ in range(rng.randrange(5)):
        k = rng.choice(list(o) if isinstance(o, dict) else range(len(o)))
        if not isinstance(o[k], (dict, list)) or not o[k]: break
        o = o[k]
    if not o: return d
    k = rng.choice(list(o) if isinstance(o, dict) else range(len(o)))
    how = rng.randrange(5)
    if how==0: del o[k]
    elif how==1: o[k] = rng.choice([None, 3, 'three', [1, 2], {'a': 1}, torch.zeros(2), True, -1.5])
    elif how==2 and isinstance(o[k], torch.Tensor): o[k] = o[k].new_zeros((*o[k].shape, 2))
    elif how==3 and isinstance(o[k], torch.Tensor): o[k] = o[k].to(torch.float16 if o[k].dtype!=torch.float16 else torch.int8)
    elif how==4 and isinstance(o, dict): o[f'{k}_'] = o.pop(k)
    return d

def test_a_damaged_state_changes_nothing_or_all(saved):
    "Whatever is missing or of another kind in a state without a checksum: it is refused with the learner as it was, or it can be trained from"
    learn,_,old = saved
    good,rng = torch.load(old, weights_only=True),random.Random(11)
    Snapshot.load(old).restore(learn)
    before,n = whole_state(learn),0
    for _ in range(110):
        d = {k:v for k,v in damaged(good, rng).items() if k not in ('kind','version')}
        try: SavedSnapshot(d).restore(learn)
        except TOLD as e:
            assert len(str(e))<=300, e
            n += 1
            assert whole_state(learn)==before, e
        else: Snapshot.load(old).restore(learn)
    assert n>40 and whole_state(learn)==before

def test_damaged_states_of_other_models_change_nothing(tmp_path):
    "Buffers that are not saved, frozen layers, no optimizer"
    for name in ('norm_dropout','frozen','no_optimizer'):
        learn = CONFIGS[name](tmp_path)
        if name!='no_optimizer': quiet(learn)
        good,rng,before = Snapshot(learn, 'a').saved()._state,random.Random(3),whole_state(learn)
        for _ in range(40):
            try: SavedSnapshot(damaged(good, rng)).restore(learn)
            except TOLD: assert whole_state(learn)==before
            else: SavedSnapshot(good).restore(learn)

def test_a_file_that_is_none_is_refused(tmp_path):
    for data in (b'', b'PK', b'{"kind": "Snapshot"}', os.urandom(500), pickle.dumps(dict(kind='Snapshot', version=1))):
        (tmp_path/'x.pt').write_bytes(data)
        refused(lambda: Snapshot.load(tmp_path/'x.pt'), 'x.pt')
    for o in ([1], 'text', dict(kind='Snapshot', version=1), dict(kind='Snapshot', version=99), dict(kind='Snapshot', version=1, name='n', date='d')):
        torch.save(o, tmp_path/'x.pt')
        refused(lambda: Snapshot.load(tmp_path/'x.pt'), 'x.pt')
    with pytest.raises(FileNotFoundError): Snapshot.load(tmp_path/'none.pt')
    for bad in (5, None, [tmp_path]): refused(lambda: Snapshot.load(bad), 'path=')

# ---------------------------------------------------------------- the folder of a comparison

ARMS = {'a': Plan([Phase(one_cycle(1e-3), 1)]), 'b|c': Plan([Phase(constant(2e-3), 1)])}
run = partial(compare, arms=ARMS, seeds=(0, 1), progress=False)

@pytest.fixture
def folder(tmp_path):
    learn = quiet(deep(tmp_path, 2))
    runs = run(learn, folder=tmp_path/'runs')
    return learn,tmp_path/'runs',runs

@pytest.mark.parametrize('damage', [flip, cut_off, burst, zeros], ids=lambda f: f.__name__)
def test_a_damaged_run_file_is_refused_by_name_and_its_way_out_works(damage, folder):
    learn,path,runs = folder
    before,rng,file = state(learn),random.Random(2),sorted(path.glob('a-*-1.json'))[0]
    data = file.read_bytes()
    was = json.loads(data)
    for _ in range(30):
        file.write_bytes(damage(data, rng))
        try: same = json.loads(file.read_bytes())==was
        except ValueError: same = False
        if not same: refused(lambda: run(learn, folder=path), file.name, 'delete it')
    assert not changes(before, state(learn))
    file.unlink()
    again = run(learn, folder=path)
    assert [r.history.losses.tolist() for r in again]==[r.history.losses.tolist() for r in runs] and file.exists()

def test_the_file_of_another_run_is_refused(folder, tmp_path):
    learn,path,_ = folder
    a0,a1,b0 = (sorted(path.glob(g))[0] for g in ('a-*-0.json','a-*-1.json','b*-0.json'))
    data = a0.read_bytes()
    for other in (a1, b0):
        a0.write_bytes(other.read_bytes())
        refused(lambda: run(learn, folder=path), a0.name, 'another run')
    elsewhere = quiet(deep(tmp_path, 2))
    run(elsewhere, folder=tmp_path/'other')
    a0.write_bytes((tmp_path/'other'/a0.name).read_bytes()) # the same arm and seed, from another start
    refused(lambda: run(learn, folder=path), a0.name, 'another start')
    a0.write_bytes(data)
    assert len(run(learn, folder=path))==4

def test_weights_that_are_damaged_or_of_another_run_are_refused(folder):
    learn,path,runs = folder
    learn.opt.set_hyper('lr', .123)
    before = whole_state(learn)
    file = Path(runs['a'][0].state)
    data,rng = file.read_bytes(),random.Random(4)
    for broken in (*(flip(data, rng) for _ in range(20)), data[:-100], b''):
        file.write_bytes(broken)
        refused(lambda: runs['a'][0].restore(learn), file.name, 'delete it')
    file.write_bytes(Path(runs['b|c'][0].state).read_bytes())
    refused(lambda: runs['a'][0].restore(learn), file.name, 'another run', 'delete it')
    assert whole_state(learn)==before

def test_the_way_out_of_damaged_weights_makes_the_run_again(folder):
    learn,path,runs = folder
    file = Path(runs['a'][0].state)
    good = torch.load(file, weights_only=True)['model']
    file.unlink()
    again = run(learn, folder=path)
    again['a'][0].restore(learn)
    assert all(torch.equal(good[k], v) for k,v in learn.model.state_dict().items())

def test_run_files_of_before_are_read(folder):
    "Without a checksum, the arm's text and the start"
    learn,path,runs = folder
    for f in path.glob('*.json'):
        d = json.loads(f.read_text())
        f.write_text(json.dumps({k:v for k,v in d.items() if k not in ('check','does') and (k!='start' or f.name=='compare.json')}))
    for f in path.glob('*.pt'): torch.save({k:v for k,v in torch.load(f, weights_only=True).items() if k not in ('run','sealed')}, f)
    again = run(learn, folder=path)
    assert [r.date for r in again.runs[0].history]==[r.date for r in runs.runs[0].history]
    assert again['a'][0].restore(learn) is learn

def test_a_damaged_note_of_a_folder_is_named(folder):
    learn,path,_ = folder
    note = path/'compare.json'
    good = note.read_text()
    for bad in ('', good[:-9], '[]', 'null', '{}', good.replace('"start": "', '"start": "0')):
        note.write_text(bad)
        refused(lambda: run(learn, folder=path), 'compare.json')
    note.unlink()
    assert len(run(learn, folder=path))==4

# ---------------------------------------------------------------- parts that a kill leaves

def part(folder, name, pid, host=''): return folder/f".{name}.{host+'-' if host else ''}{pid}-139.part"

def test_only_parts_of_dead_processes_are_removed(folder):
    learn,path,_ = folder
    child = subprocess.Popen([sys.executable, '-c', 'pass'])
    child.wait()
    gone = [part(path, 'a-00000000-0.json', child.pid), part(path, 'a-00000000-0.pt', child.pid, _host()), part(path, 'compare.json', child.pid, _host())]
    live = [part(path, 'a-00000000-1.json', os.getpid(), _host()), part(path, 'a-0-1.json', child.pid, 'otherhost'), path/'.mine.part', path/'notes.1-1.part', path/'.x.12-y.part']
    old = part(path, 'b-0-0.json', child.pid, 'otherhost2')
    for p in (*gone, *live, old): p.touch()
    os.utime(old, (time.time()-90000,)*2)
    run(learn, folder=path)
    assert not any(p.exists() for p in (*gone, old)) and all(p.exists() for p in live)

def test_what_a_killed_save_left_goes_with_the_next_save(tmp_path):
    began,never = multiprocessing.get_context('fork').Event(),lambda p: p.write_text('half') and began.set() or time.sleep(600)
    child = multiprocessing.get_context('fork').Process(target=_write, args=(tmp_path/'s.pt', never))
    child.start()
    assert began.wait(60) and len(list(tmp_path.glob('.s.pt.*.part')))==1
    _write(tmp_path/'s.pt', lambda p: p.write_text('whole')) # the other one is still writing
    assert len(list(tmp_path.glob('.s.pt.*.part')))==1
    child.kill(); child.join()
    _write(tmp_path/'s.pt', lambda p: p.write_text('whole'))
    assert [p.name for p in tmp_path.iterdir()]==['s.pt']
