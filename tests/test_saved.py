"Snapshots in files: what comes back trains on as it would have, and no file is ever half or harmful"
import os, pickle
from pathlib import Path

import pytest, torch
import fastai.callback.schedule # gives learners their fits

from learners import CONFIGS, deep, quiet
from state import changes, state
from test_faults import build
from lrtools.freezing import freeze_to
from lrtools.snapshot import Snapshot, preserved

def weights(learn): return [p.detach().clone() for p in learn.model.parameters()]
def same(a, b): return all(torch.equal(x, y) for x,y in zip(a, b))

@pytest.mark.parametrize('name', ['plain','norm_dropout','frozen','adamw','clipping','no_optimizer','accumulation','tied'])
def test_it_trains_on_as_it_would_have(name, tmp_path):
    learn = build(name, tmp_path) if name!='plain' else quiet(deep(tmp_path, 3))
    path = tmp_path/'s.pt'
    before = state(learn)
    snap = Snapshot(learn, 'now')
    assert snap.save(path)==path and not changes(before, state(learn)) # to save is to look
    kept = weights(learn)
    hypers = lambda: None if learn.opt is None else [dict(h) for h in learn.opt.hypers]
    was = hypers()
    quiet(learn, 1, 1e-2); assert not same(kept, weights(learn))
    saved = Snapshot.load(path)
    assert saved.restore(learn) is learn and same(kept, weights(learn)) and saved.name=='now' and 'now' in repr(saved)
    if name!='no_optimizer': assert hypers()==was
    # the step that follows is the same: the same gradients, and the optimizer's memory
    def one_step(l):
        with preserved(l):
            l.model.eval()
            for m in l.model.modules():
                if hasattr(m, 'plain'): m.plain.zero_() # a tensor that no state knows
            xb = torch.randn(8, 4, generator=torch.Generator().manual_seed(3))
            for p in l.model.parameters(): p.grad = None
            l.model(xb).sum().backward()
            l.opt.step()
            return weights(l)
    if name!='no_optimizer':
        twin_state = one_step(learn)
        with preserved(learn):
            snap.restore()
            assert same(twin_state, one_step(learn))

def test_into_another_learner(tmp_path):
    a,b = quiet(deep(tmp_path, 3)),deep(tmp_path, 3)
    freeze_to(a, -1)
    a.opt.set_hyper('lr', [1e-5, 1e-4, 1e-3])
    saved = Snapshot(a).saved()
    assert b.opt is None
    saved.restore(b)
    assert same(weights(a), weights(b)) and [p.requires_grad for p in a.model.parameters()]==[p.requires_grad for p in b.model.parameters()]
    assert [h['lr'] for h in b.opt.hypers]==[1e-5, 1e-4, 1e-3] and b.opt.frozen_idx==2 and torch.rand(1).item()==(saved.restore(b), torch.rand(1).item())[1]
    quiet(a, 1, 1e-2) # the saved one is a copy
    assert not same(weights(a), weights(saved.restore(b)))

def test_another_model_is_refused(tmp_path):
    saved = Snapshot(quiet(deep(tmp_path, 3))).saved()
    for other,match in ((deep(tmp_path, 4), 'another model'), (quiet(deep(tmp_path, 3, opt_func=CONFIGS['adamw'](tmp_path).opt_func)), 'optimizer')):
        before = state(other)
        with pytest.raises(ValueError, match=match): saved.restore(other)
        assert not changes(before, state(other))
    two = deep(tmp_path, 3)
    two.splitter = lambda m: [[*m.parameters()]]
    two.create_opt()
    before = state(two)
    with pytest.raises(ValueError, match='same splitter'): saved.restore(two)
    assert not changes(before, state(two))

def test_files_are_whole_and_harmless(tmp_path, monkeypatch):
    learn = quiet(deep(tmp_path, 3))
    path = Snapshot(learn, 'one').save(tmp_path/'s.pt')
    with pytest.raises(FileExistsError, match='s.pt exists'): Snapshot(learn).save(path)
    old = path.read_bytes()
    monkeypatch.setattr(os, 'replace', lambda *a: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError): Snapshot(learn).save(path, overwrite=True)
    monkeypatch.undo()
    assert path.read_bytes()==old and [f.name for f in tmp_path.iterdir() if 's.pt' in f.name]==['s.pt']
    Snapshot(learn, 'two').save(path, overwrite=True); assert Snapshot.load(path).name=='two'
    class Evil:
        def __reduce__(self): return (Path.touch, (tmp_path/'touched',))
    torch.save(dict(kind='Snapshot', version=1, name=Evil()), tmp_path/'evil.pt')
    with pytest.raises(pickle.UnpicklingError): Snapshot.load(tmp_path/'evil.pt')
    assert not (tmp_path/'touched').exists()
    torch.save(dict(kind='Other'), tmp_path/'other.pt')
    with pytest.raises(ValueError, match="kind='Other'"): Snapshot.load(tmp_path/'other.pt')
    with pytest.raises(TypeError, match='name=3'): Snapshot(learn, 3)
