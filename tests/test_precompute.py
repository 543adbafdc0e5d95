"`precompute`: the same head as frozen training, the learner left alone, what is different told, what cannot be refused"
import gc, os
from collections import namedtuple
from functools import partial

import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from fastai.basics import CrossEntropyLossFlat, DataLoaders, Datasets, L, Learner, MSELossFlat, OptimWrapper, SGD, accuracy, params, set_seed
from fastai.callback.training import GradientClip
from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, RandomResizedCrop, RandomSplitter, aug_transforms, resnet18, vision_learner
import fastai.callback.data, fastai.callback.schedule # give data sets their weighted loaders, learners their fits

from learners import CONFIGS, Boom, Rows, boom, ctrl_c, fault, learner, quiet, rows
from state import changes, state, writes
from test_faults import build, calm
from lrtools.compare import compare
from lrtools.freezing import freeze_to
from lrtools.plan import Phase
from lrtools.precompute import precompute
from lrtools.range_test import lr_range_test
from lrtools.schedule import one_cycle
from lrtools.snapshot import Snapshot

HEADS = dict(text='1', tabular='layers', tied='out') # of the kinds of learners that are no `nn.Sequential`
REFUSED = dict(text='cannot be asked', torch_loader='expected fastai', torch_workers='expected fastai')
go = partial(precompute, progress=False)

# ---------------------------------------------------------------- the same head

class Plain:
    "Items that are the same each time"
    def __init__(self, n, seed): self.x = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed)); self.y = (self.x.mean((1, 2, 3))>0).long()
    def __len__(self): return len(self.x)
    def __getitem__(self, i): return self.x[i],self.y[i]

def block(i, o): return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())
def pooled(): return nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.BatchNorm1d(32), nn.Dropout(.3), nn.Linear(32, 16), nn.ReLU(), nn.Dropout(.3), nn.Linear(16, 2))
def two(m): return L(m[0], m[1]).map(params)
def three(m): return L(m[0], m[1][:5], m[1][5:]).map(params)

def pictures(path, splitter=two, dls=None, norm='eval', **kw):
    set_seed(3)
    dls = DataLoaders.from_dsets(Plain(90, 1), Plain(30, 2), bs=16, device='cpu', num_workers=0) if dls is None else dls
    learn = Learner(dls, nn.Sequential(nn.Sequential(block(3, 8), block(8, 8)), pooled()), CrossEntropyLossFlat(), splitter=splitter, metrics=accuracy, path=path, **kw)
    quiet(learn, 1, 1e-3)
    freeze_to(learn, 1, norm=norm)
    return learn

def weighted_dls():
    ds = Plain(120, 1)
    dsets = Datasets(range(120), [[lambda i: ds.x[i]], [lambda i: ds.y[i]]], splits=[range(90), range(90, 120)])
    return dsets.weighted_dataloaders(np.linspace(.1, 1, 90), bs=16, device='cpu', num_workers=0)

KINDS = dict(adam={}, sgd=dict(opt_func=partial(SGD, mom=.9), wd=.1), torch_adamw=dict(opt_func=partial(OptimWrapper, opt=torch.optim.AdamW)), two_groups_of_the_head=dict(splitter=three), moms=dict(moms=(.9, .8, .9)), weighted=dict(dls=weighted_dls))
@pytest.mark.parametrize('kind', KINDS)
def test_the_head_is_that_of_frozen_training(tmp_path, kind):
    "Bit by bit the same batches in the same order; losses, metrics and weights to rounding"
    kw = dict(KINDS[kind])
    if 'dls' in kw: kw['dls'] = kw['dls']()
    learn = pictures(tmp_path, **kw)
    learn.opt = None # a memory of the head would be no part of the new learner
    head,start = go(learn),Snapshot(learn)
    def trained(l):
        set_seed(5)
        with l.no_bar(), l.no_logging(): l.fit_one_cycle(3, 1e-2)
        return l.recorder.losses,L(l.recorder.values),[v.detach().clone() for v in learn.model[1].state_dict().values()]
    freeze_to(learn, 1, norm='eval')
    losses,values,weights = trained(learn)
    body = [v.clone() for v in learn.model[0].state_dict().values()]
    start.restore()
    freeze_to(learn, 1, norm='eval')
    quick_losses,quick_values,quick_weights = trained(head)
    assert torch.allclose(torch.stack(quick_losses), torch.stack(losses), 1e-4, 1e-5) and np.allclose(quick_values, values, 1e-4, 1e-5) and len(losses)==15
    assert all(torch.allclose(a.float(), b.float(), 1e-3, 1e-5) for a,b in zip(quick_weights, weights))
    assert all(map(torch.equal, body, learn.model[0].state_dict().values()))
    # what was trained there is trained here
    assert head.validate()[0]==pytest.approx(learn.validate()[0], rel=1e-4)

def test_without_dropout_and_pooling_the_head_is_the_module_itself(tmp_path):
    learn = learner(rows(tmp_path), tmp_path, model=nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1)))
    head = go(learn)
    assert head.model is learn.model[1] and len(head.dls.train)==len(learn.dls.train) and len(head.dls.valid)==len(learn.dls.valid)

def test_layers_with_nothing_to_learn_belong_to_the_body(tmp_path):
    learn = pictures(tmp_path)
    head = go(learn)
    assert [type(m).__name__ for m in head.model]==['BatchNorm1d','Dropout','Linear','ReLU','Dropout','Linear'] and head.model[0] is learn.model[1][2]
    assert head.dls.one_batch()[0].shape==(16, 32) and head.dls.train.drop_last==learn.dls.train.drop_last

def test_a_head_by_name(tmp_path):
    learn = pictures(tmp_path)
    head = go(learn, '1.7')
    assert head.model is learn.model[1][7] and head.dls.one_batch()[0].shape==(16, 16)
    class Net(nn.Module):
        def __init__(self): super().__init__(); self.conv,self.fc = nn.Conv2d(3, 4, 3),nn.Linear(4, 2)
        def forward(self, x): return self.fc(self.conv(x).mean((2, 3)))
    learn = Learner(learn.dls, Net(), CrossEntropyLossFlat(), path=tmp_path)
    assert go(learn, 'fc').model is go(learn, learn.model.fc).model is learn.model.fc

# ---------------------------------------------------------------- it only looks

@pytest.mark.parametrize('name', CONFIGS)
def test_every_kind_of_learner_is_left_alone(tmp_path, name):
    learn = build(name, tmp_path)
    before = state(learn, tmp_path)
    with writes() as written:
        if name in REFUSED:
            with pytest.raises((ValueError, TypeError), match=REFUSED[name]): go(learn, HEADS.get(name))
        else: head = go(learn, HEADS.get(name))
    assert changes(before, state(learn, tmp_path))==[] and written==[]
    if name in REFUSED: return
    quiet(head)
    assert len(head.recorder.losses)==len(head.dls.train)

@pytest.mark.parametrize('how', [boom, ctrl_c])
@pytest.mark.parametrize('place', ['loss', 'loader'])
def test_left_alone_when_it_fails(tmp_path, place, how):
    learn = build('norm_dropout', tmp_path)
    before = state(learn, tmp_path)
    fault.arm(place, 3, how)
    with pytest.raises((Boom, KeyboardInterrupt)): go(learn)
    fault.arm()
    assert changes(before, state(learn, tmp_path))==[]

def test_the_new_learner_is_one_like_any_other(tmp_path):
    head = go(pictures(tmp_path, splitter=three))
    before = state(head, tmp_path)
    curve = lr_range_test(head, num_it=10, progress=False)
    runs = compare(head, dict(a=Phase(one_cycle(slice(1e-3, 1e-2)), 2), b=lambda l: l.fit(1, 1e-2)), seeds=(0, 1), progress=False)
    assert changes(before, state(head, tmp_path))==[] and len(curve.sweeps[0].losses)==10 and not any(r.error for r in runs)
    assert runs['a'][0].history.lrs.shape[1]==2 and runs['a'][1].history.losses.tolist()!=runs['a'][0].history.losses.tolist()

# ---------------------------------------------------------------- what is told

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    path = tmp_path_factory.mktemp('photos')
    r = np.random.RandomState(0)
    for i in range(24): Image.fromarray(r.randint(0, 255, (40, 48, 3), dtype='uint8')).save(path/f'{i%2}_{i}.png')
    return path

def photo_dls(path):
    block = DataBlock((ImageBlock, CategoryBlock), get_items=lambda p: sorted(p.glob('*.png')), get_y=lambda p: p.name[0], splitter=RandomSplitter(.25, seed=1), item_tfms=RandomResizedCrop(32), batch_tfms=aug_transforms())
    return block.dataloaders(path, bs=6, num_workers=0, device='cpu')

def test_no_augmentation_and_it_is_said(photos, capsys):
    learn = vision_learner(photo_dls(photos), resnet18, pretrained=False, metrics=accuracy, path=photos)
    head = precompute(learn)
    said = capsys.readouterr().out
    assert all(n in said for n in head.notes) and '1024 numbers' in said
    note = next(n for n in head.notes if 'No augmentation' in n)
    assert 'RandomResizedCrop' in note and 'Flip' in note and 'Normalize' not in note and 'ToTensor' not in note
    assert any('20 normalisation layers of the body stand still' in n for n in head.notes) and not any('at random' in n for n in head.notes)
    # the activations are those of the validation transforms
    valid = learn.dls.valid.new(dataset=learn.dls.train.dataset)
    with learn.dls.train.dataset.set_split_idx(1): xs = torch.cat([learn.model[1][:2](learn.model.eval()[0](b[0])).detach() for b in valid])
    assert torch.allclose(torch.Tensor(xs), head.dls.train.dataset.columns[0], 1e-3, 1e-4)
    assert learn.dls.train.dataset.split_idx==0 and not torch.equal(learn.dls.train.one_batch()[0], learn.dls.train.one_batch()[0])
    learn.freeze(); quiet(head)
    assert head.recorder.values[-1][1]==pytest.approx(learn.validate()[0], rel=1e-3)

def test_items_that_are_drawn_at_random_are_told(tmp_path):
    learn = learner(rows(tmp_path), tmp_path)
    assert any('at random' in n for n in go(learn).notes)

def test_what_belongs_to_other_training_is_told(tmp_path):
    learn = pictures(tmp_path, norm='as is', cbs=GradientClip(.1))
    learn.unfreeze()
    notes = ' '.join(go(learn).notes)
    assert '2 normalisation layers of the body stand still' in notes and 'weights of the body would train' in notes and 'gradient_clip' in notes
    learn = pictures(tmp_path)
    assert len(go(learn).notes)==1 # nothing is different

# ---------------------------------------------------------------- memory and disk

def test_on_disk(tmp_path):
    learn = pictures(tmp_path)
    folder = tmp_path/'kept'
    folder.mkdir()
    a,b = go(learn),go(learn, folder=folder)
    assert any('on disk' in n for n in b.notes) and list(folder.iterdir())==[] # nothing to be left behind
    for dl,like in zip(b.dls.loaders, a.dls.loaders): assert all(map(torch.equal, dl.dataset.columns, like.dataset.columns))
    def mapped():
        gc.collect()
        with open('/proc/self/maps') as f: return sum(str(folder) in l for l in f)
    if os.path.exists('/proc/self/maps'):
        assert mapped()>0
        del b,dl
        assert mapped()==0

def test_bounded(tmp_path, monkeypatch):
    learn = pictures(tmp_path)
    before = state(learn, tmp_path)
    with pytest.raises(ValueError, match=r'max_gb=1e-05: 120 items of 136 bytes need 1.52e-05 GiB; keep them on disk'): go(learn, max_gb=1e-5)
    with pytest.raises(ValueError, match='need 1.52e-05 GiB; allow more'): go(learn, max_gb=1e-5, folder=tmp_path)
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr('shutil.disk_usage', lambda p: usage(1000, 900, 100))
    with pytest.raises(ValueError, match='100 bytes free, and 15.9 KiB'): go(learn, folder=tmp_path)
    assert changes(before, state(learn, tmp_path))==[]

# ---------------------------------------------------------------- what is refused

class After(nn.Module):
    "Something comes after the last layer; the head runs twice; the head gets more than tensors"
    def __init__(self, how): super().__init__(); self.how,self.body,self.fc = how,nn.Sequential(nn.Flatten(), nn.Linear(192, 4)),Given()
    def forward(self, x):
        x = self.body(x)
        return dict(after=lambda: 2*self.fc(x), twice=lambda: self.fc(self.fc(x)[:,:2].repeat(1, 2)), keyword=lambda: self.fc(x, scale=2), never=lambda: x[:,:2])[self.how]()
class Given(nn.Linear):
    def __init__(self): super().__init__(4, 2)
    def forward(self, x, scale=1): return scale*super().forward(x)

WRONG = dict(after='something comes after', twice='2 times', keyword='more than tensors', never='0 times')
@pytest.mark.parametrize('how', WRONG)
def test_heads_that_are_none(tmp_path, how):
    learn = Learner(pictures(tmp_path).dls, After(how), CrossEntropyLossFlat(), path=tmp_path)
    before = state(learn, tmp_path)
    with pytest.raises(ValueError, match=WRONG[how]): go(learn, 'fc')
    assert changes(before, state(learn, tmp_path))==[]

def test_a_unet_is_refused(tmp_path):
    from fastai.vision.models.unet import DynamicUnet
    learn = Learner(pictures(tmp_path).dls, DynamicUnet(nn.Sequential(block(3, 8), nn.MaxPool2d(2), block(8, 8)), 2, (8, 8)), MSELossFlat(), path=tmp_path)
    with pytest.raises(ValueError, match='say which part'): go(learn)

class Sizes(Rows):
    "Items of two lengths, a batch each"
    def __getitem__(self, i): return torch.ones(4 if i<8 else 6, 4)*i,torch.tensor(float(i))
class Nested(Rows):
    def __getitem__(self, i): return torch.ones(4),['a', 1.]

def test_data_that_cannot_be_kept(tmp_path):
    net = lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    dls = lambda ds: DataLoaders.from_dsets(ds, ds, bs=8, device='cpu', num_workers=0, shuffle=False)
    with pytest.raises(ValueError, match='other shapes in other batches'): go(Learner(dls(Sizes(16)), net(), lambda p,y: p.mean(), path=tmp_path))
    with pytest.raises(ValueError, match='targets that are not tensors'): go(Learner(dls(Nested(16)), net(), lambda p,*y: p.mean(), path=tmp_path))

BAD = [(dict(learn=1), TypeError, 'int'), (dict(head=3), TypeError, 'head=3'), (dict(head='nowhere'), ValueError, "'nowhere'"), (dict(head=nn.Linear(2, 2)), ValueError, 'no part'), (dict(max_gb=0), ValueError, 'max_gb=0'), (dict(max_gb='1'), ValueError, 'max_gb'),
       (dict(folder='/not/here'), ValueError, 'not there'), (dict(head='1.0'), ValueError, 'trainable')]
@pytest.mark.parametrize('kw,error,match', BAD, ids=lambda o: str(o)[:30])
def test_bad_arguments_change_nothing(tmp_path, kw, error, match):
    learn = pictures(tmp_path)
    before = state(learn, tmp_path)
    with pytest.raises(error, match=match): go(**{**dict(learn=learn), **kw})
    assert changes(before, state(learn, tmp_path))==[]

def test_a_frozen_head_is_refused(tmp_path):
    learn = pictures(tmp_path)
    for p in learn.model[1].parameters(): p.requires_grad_(False)
    with pytest.raises(ValueError, match='freeze_to'): go(learn)

# ---------------------------------------------------------------- items that are no tensors, and buffers that move

class Named:
    "Items are words, or a word and numbers; `drawn` at random, or not"
    def __init__(self, n, drawn=False): self.n,self.drawn = n,drawn
    def __len__(self): return self.n
    def __getitem__(self, i):
        k = int(torch.randint(99, (1,))) if self.drawn else i
        return 'w'*(k%7+1),torch.tensor(float(i%5))

class ByName(nn.Module):
    "A body that takes words"
    def __init__(self): super().__init__(); self.table = nn.Embedding(9, 4)
    def forward(self, words): return self.table(torch.tensor([len(w) for w in words]))

@pytest.mark.parametrize('bs,n', [(8, 24), (1, 3), (5, 17)])
def test_batches_of_words_are_counted_by_their_targets(tmp_path, bs, n):
    learn = Learner(DataLoaders.from_dsets(Named(n), Named(6), bs=bs, device='cpu', num_workers=0), nn.Sequential(ByName(), nn.Linear(4, 1)), lambda p,y: ((p[:,0]-y)**2).mean(), splitter=two, path=tmp_path)
    learn.freeze()
    before = state(learn, tmp_path)
    got = go(learn)
    assert changes(before, state(learn, tmp_path))==[] and got.dls.train.n==n and not any('drawn at random' in s for s in got.notes)
    words = torch.stack([learn.model[0]([Named(n)[i][0]])[0] for i in range(n)])
    assert torch.equal(got.dls.train.dataset.columns[0], words.detach())

def test_words_drawn_at_random_are_told(tmp_path):
    learn = Learner(DataLoaders.from_dsets(Named(24, True), Named(6), bs=8, device='cpu', num_workers=0), nn.Sequential(ByName(), nn.Linear(4, 1)), lambda p,y: ((p[:,0]-y)**2).mean(), splitter=two, path=tmp_path)
    learn.freeze()
    assert any('drawn at random' in s for s in go(learn).notes)

@pytest.mark.parametrize('kind', ['hook','parametrization'])
def test_moving_buffers_of_the_body_are_told(tmp_path, kind):
    norm = torch.nn.utils.spectral_norm if kind=='hook' else torch.nn.utils.parametrizations.spectral_norm
    learn = Learner(rows(tmp_path), nn.Sequential(norm(nn.Linear(4, 8)), nn.Linear(8, 1)), MSELossFlat(), splitter=two, path=tmp_path)
    freeze_to(learn, 1)
    said = [s for s in go(learn).notes if 'buffers' in s]
    assert len(said)==1 and ('weight_u, weight_v' if kind=='hook' else '_u, _v') in said[0] and "norm='eval'" in said[0]
    freeze_to(learn, 1, norm='eval')
    assert not any('buffers' in s for s in go(learn).notes)
