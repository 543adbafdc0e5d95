"What trains, told from the truth: against models counted by hand, against a direct walk, and against fastai itself"
import math, random
from dataclasses import replace
from functools import partial

import numpy as np, pytest, torch
from torch import nn
from fastai.basics import Adam, Callback, L, Learner, MSELossFlat, OptimWrapper, RMSProp, SGD, params, ranger, trainable_params
from fastai.callback.schedule import combined_cos
from fastai.callback.training import BnFreeze
from fastai.vision.models.unet import DynamicUnet

from learners import CONFIGS, Tied, deep, plain, quiet, rows
from state import changes, state
from lrtools.freezing import HoldNorm, _Frozen, freeze_report, freeze_to, param_groups, preflight, preview_freeze
from lrtools.groups import FreezeReport, freeze_diff, frozen_to, spike_risks

def bare(path, model, splitter=trainable_params, **kw):
    "A learner without the traps of `learners`"
    return Learner(rows(path), model, MSELossFlat(), splitter=splitter, path=path, **kw)

def counts(groups): return [(g.n_params, g.n_trainable, g.state) for g in groups]
def named(groups): return {l.name: l for g in groups for l in g.layers}
def truth(report): return replace(report, date='')

# ---------------------------------------------------------------- counted by hand

class Mixed(nn.Module):
    "A module with parameters of its own beside a child"
    def __init__(self):
        super().__init__()
        self.scale,self.lin = nn.Parameter(torch.ones(3, 5)),nn.Linear(4, 1)
        self.lin.bias.requires_grad_(False)
    def forward(self, x): return self.lin(x)*self.scale.mean()

def test_mixed_layer_and_bare_parameter(tmp_path):
    gs = param_groups(bare(tmp_path, Mixed(), splitter=params_of))
    assert counts(gs)==[(15+4+1, 15+4, 'partly trainable')]
    assert {n:(l.kind, l.n_params, l.trains) for n,l in named(gs).items()}=={'': ('Mixed', 15, 'all'), 'lin': ('Linear', 5, 'part')}

def params_of(m): return L([[*m.parameters()]])

class Embedded(nn.Module):
    "Tied embeddings, as in a language model"
    def __init__(self):
        super().__init__()
        self.enc,self.mid,self.dec = nn.Embedding(7, 4),nn.Linear(4, 4),nn.Linear(4, 7)
        self.dec.weight = self.enc.weight
    def forward(self, x): return self.dec(self.mid(self.enc(x.long().clamp(0, 6)))).mean(1)[:,:1]

def test_tied_embeddings(tmp_path):
    learn = bare(tmp_path, Embedded(), splitter=lambda m: L([*m.enc.parameters()], [*m.mid.parameters()], [*m.dec.parameters()]))
    gs = param_groups(learn)
    assert [g.n_params for g in gs]==[28, 20, 7]
    assert named(gs)['dec'].shared==('weight',) and [p.name for p in named(gs)['dec'].params]==['bias']
    assert 'dec.weight' in repr(freeze_report(learn))
    freeze_to(learn, 1)
    assert [g.trains for g in param_groups(learn)]==['none','all','all'] and not learn.model.dec.weight.requires_grad

def test_shared_layer_counts_once(tmp_path):
    gs = param_groups(bare(tmp_path, Tied()))
    assert sum(g.n_params for g in gs)==sum(p.numel() for p in Tied().parameters())
    assert named(gs)['twin'].shared==('weight',)

def test_batchnorm_of_every_kind(tmp_path):
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(6, affine=False), nn.BatchNorm1d(6, track_running_stats=False), nn.BatchNorm1d(6, momentum=0.), nn.BatchNorm1d(6, momentum=None),
                          nn.GroupNorm(2, 6), nn.LayerNorm(6), nn.Linear(6, 1))
    learn = bare(tmp_path, model, splitter=lambda m: L([*m[:8].parameters()], [*m[8].parameters()]))
    freeze_to(learn, 1)
    ls = named(param_groups(learn))
    assert {i:(l.n_params, l.trains, l.norm.affine, l.norm.tracks, l.norm.moves) for i,l in ls.items() if l.norm}=={
        '1': (12, 'all', True, True, True), '2': (0, '', False, True, True), '3': (12, 'all', True, False, False), '4': (12, 'all', True, True, False), '5': (12, 'all', True, True, True),
        '6': (12, 'none', True, False, False), '7': (12, 'all', True, False, False)} # fastai's train_bn knows LayerNorm, not GroupNorm
    before = {n:m.running_mean.clone() for n,m in model.named_modules() if getattr(m, 'running_mean', None) is not None}
    quiet(learn)
    assert {n for n,v in before.items() if not torch.equal(v, model.get_submodule(n).running_mean)}=={n for n,l in ls.items() if l.norm and l.norm.moves}

def test_norm_without_weights_belongs_to_its_neighbour(tmp_path):
    model = nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False), nn.Linear(3, 1))
    learn = bare(tmp_path, model, splitter=lambda m: L([*m[1].parameters()], [*m[3].parameters()]))
    assert [[l.name for l in g.layers] for g in param_groups(learn)]==[['0','1','2'], ['3']]

def test_unet(tmp_path):
    body = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU()), nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()))
    model = DynamicUnet(body, 2, (32, 32))
    learn = bare(tmp_path, model, splitter=lambda m: L(m[0][0], m[0][1], m[1:]).map(params))
    freeze_to(learn, -1)
    gs = param_groups(learn)
    assert [g.n_params for g in gs[:2]]==[8*27+8+16, 16*72+16+32]
    assert sum(g.n_params for g in gs)==sum(p.numel() for p in model.parameters())
    assert [g.state for g in gs]==['frozen but norm','frozen but norm','trainable'] and [g.n_trainable for g in gs[:2]]==[16, 32]

def test_text(tmp_path):
    learn = CONFIGS['text'](tmp_path)
    quiet(learn)
    gs = param_groups(learn)
    stepped = {id(p) for ps in learn.opt.param_lists for p in ps}
    assert sum(g.n_params for g in gs)==sum(p.numel() for ps in learn.opt.param_lists for p in {id(p):p for p in ps}.values())
    weights = {n:p for n,p in learn.model.named_parameters() if id(p) in stepped}
    assert {f'{l.name}.{p.name}' for g in gs for l in g.layers for p in l.params}=={*weights}
    assert all(g.memory=='present' and g.steps==len(learn.dls.train) for g in gs)

def test_tabular(tmp_path):
    gs = param_groups(CONFIGS['tabular'](tmp_path))
    ls = named(gs)
    assert sum(l.kind=='Embedding' for l in ls.values())>=2 and sum(g.n_params for g in gs)==sum(p.numel() for p in CONFIGS['tabular'](tmp_path).model.parameters())
    assert [g.trains for g in gs]==['all']

def test_lazy(tmp_path):
    learn = bare(tmp_path, nn.Sequential(nn.LazyLinear(5), nn.LazyBatchNorm1d(), nn.Linear(5, 1)), splitter=lambda m: L([*m[:2].parameters()], [*m[2].parameters()]))
    r = freeze_report(learn)
    assert [(g.n_params, g.n_lazy) for g in r.groups]==[(0, 4), (6, 0)] and 'without a shape yet' in repr(r)
    for f in (lambda: freeze_to(learn, 1), lambda: preview_freeze(learn, 1), lambda: freeze_report(learn, measure=True)):
        with pytest.raises(ValueError, match='without a shape'): f()
    assert learn.opt is None and all(p.requires_grad for p in learn.model.parameters())
    learn.model(learn.dls.one_batch()[0])
    freeze_to(learn, 1)
    assert [(g.n_params, g.n_trainable) for g in param_groups(learn)]==[(25+10, 10), (6, 6)]

def test_not_in_a_group(tmp_path):
    learn = bare(tmp_path, nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), splitter=lambda m: L([[*m[1].parameters()]]))
    r = freeze_report(learn)
    assert r.n_params==5 and [l.name for l in r.outside]==['0'] and 'In no group' in repr(r)

def test_all_frozen_before_the_optimizer(tmp_path):
    learn = bare(tmp_path, nn.Linear(4, 1))
    learn.model.requires_grad_(False)
    assert freeze_report(learn).groups==() and learn.opt is None
    with pytest.raises(ValueError, match='no parameter groups'): freeze_to(learn, 0)

# ---------------------------------------------------------------- against a direct walk

def random_model(rng, depth=0):
    kinds = [lambda: nn.Linear(4, 4, bias=rng.random()<.7), lambda: nn.BatchNorm1d(4, affine=rng.random()<.7), lambda: nn.LayerNorm(4), lambda: nn.GroupNorm(2, 4), nn.ReLU]
    parts = [random_model(rng, depth+1) if depth<2 and rng.random()<.4 else rng.choice(kinds)() for _ in range(rng.randint(1, 4))]
    m = nn.Sequential(*parts)
    if rng.random()<.3: m.register_parameter('extra', nn.Parameter(torch.zeros(rng.randint(1, 5))))
    linears = [o for o in m.modules() if isinstance(o, nn.Linear)]
    if len(linears)>1 and rng.random()<.4: linears[-1].weight = linears[0].weight
    return m

@pytest.mark.parametrize('seed', range(40))
def test_random_models_and_patterns(seed, tmp_path):
    rng = random.Random(seed)
    model = nn.Sequential(nn.Linear(4, 4), random_model(rng), random_model(rng), nn.Linear(4, 1))
    own = {id(p):p for p in model.parameters()}
    cut = sorted(rng.sample(range(1, len(own)), min(len(own)-1, rng.randint(0, 3))))
    split = lambda m: L([*m.parameters()][a:b] for a,b in zip([0, *cut], [*cut, None]))
    learn = bare(tmp_path, model, splitter=split)
    if rng.random()<.7: learn.create_opt()
    for p in model.parameters(): p.requires_grad_(rng.random()<.5)
    r,lists = freeze_report(learn),split(model)
    assert [g.n_params for g in r.groups]==[sum(p.numel() for p in ps) for ps in lists]
    assert [g.n_trainable for g in r.groups]==[sum(p.numel() for p in ps if p.requires_grad) for ps in lists]
    assert [g.trains for g in r.groups]==[{(True,): 'all', (False,): 'none'}.get(tuple({p.requires_grad for p in ps}), 'part') for ps in lists]
    name = {id(p):n for n,p in model.named_parameters()}
    assert [sorted(f'{l.name}.{p.name}' for l in g.layers for p in l.params) for g in r.groups]==[sorted(name[id(p)] if '.' in name[id(p)] else '.'+name[id(p)] for p in ps) for ps in lists]
    norms = [n for n,m in model.named_modules() if isinstance(m, (nn.BatchNorm1d, nn.LayerNorm, nn.GroupNorm))]
    assert sorted(l.name for g in r.groups for l in g.layers if l.norm)==sorted(norms)
    assert FreezeReport.from_json(r.to_json())==r
    for n in range(-len(lists), len(lists)+1):
        p = preview_freeze(learn, n)
        freeze_to(learn, n)
        assert p.after.groups==param_groups(learn)

# ---------------------------------------------------------------- what is previewed is what comes

OPTIMIZERS = dict(adam=Adam, sgd=SGD, momentum=partial(SGD, mom=.9), adamw=partial(OptimWrapper, opt=torch.optim.AdamW), torch_sgd=partial(OptimWrapper, opt=torch.optim.SGD), rmsprop=RMSProp, ranger=ranger)

@pytest.mark.parametrize('keep_state', [False, True])
@pytest.mark.parametrize('norm', ['as is', 'train', 'eval'])
@pytest.mark.parametrize('name', ['no_optimizer', 'frozen', 'adamw', 'tabular', 'text', 'tied', 'autocast', 'mixup'])
def test_preview_is_what_freezing_does(name, norm, keep_state, tmp_path):
    learn = CONFIGS[name](tmp_path)
    for fitted in (False, True):
        if fitted: learn.model.requires_grad_(True); quiet(learn)
        for n in range(-len(param_groups(learn)), len(param_groups(learn))+1):
            before = freeze_report(learn)
            p = preview_freeze(learn, n, keep_state, norm)
            assert truth(p.before)==truth(before)
            freeze_to(learn, n, keep_state, norm)
            now = freeze_report(learn)
            assert now.groups==p.after.groups and truth(now)==truth(p.after)

@pytest.mark.parametrize('name', OPTIMIZERS)
def test_memory_of_any_optimizer(name, tmp_path):
    learn = plain(tmp_path, opt_func=OPTIMIZERS[name])
    keeps = name not in ('sgd','torch_sgd')
    assert [g.memory for g in param_groups(learn)]==['never stepped' if keeps else 'none kept']*2 and learn.opt is None
    quiet(learn)
    gs = param_groups(learn)
    assert [g.memory for g in gs]==['present' if keeps else 'none kept']*2
    if name in ('adam','adamw','rmsprop','ranger'): assert all(g.steps in (None, 5) for g in gs)
    if name in ('adam','adamw'): assert [g.steps for g in gs]==[5, 5]
    state = learn.opt.opt.state if isinstance(learn.opt, OptimWrapper) else learn.opt.state
    assert [g.n_memory for g in gs]==[sum(t.numel()*t.element_size() for p in ps for t in state[p].values() if isinstance(t, torch.Tensor)) for ps in learn.opt.param_lists]
    p = preview_freeze(learn, 1)
    learn.freeze()
    assert [g.memory for g in param_groups(learn)]==['cleared' if keeps else 'none kept']*2==[g.memory for g in p.after.groups]
    assert any('clears' in s for s in p.sentences)==keeps

def test_weight_decay_and_who_is_exempt(tmp_path):
    learn = plain(tmp_path)
    assert {f'{l.name}.{p.name}' for g in param_groups(learn) for l in g.layers for p in l.params if p.no_wd}=={'0.0.bias','0.1.weight','0.1.bias','1.2.bias','1.4.bias'}
    assert not any(p.no_wd for g in param_groups(plain(tmp_path, opt_func=OPTIMIZERS['adamw'])) for l in g.layers for p in l.params) # torch decays them all
    assert not any(p.no_wd for g in param_groups(plain(tmp_path, wd_bn_bias=True)) for l in g.layers for p in l.params)

def test_a_sweep_is_no_fit(tmp_path):
    learn = plain(tmp_path)
    learn.recorder.lrs = list(np.geomspace(1e-7, 1, 20))
    learn.create_opt()
    assert freeze_report(learn).n_steps==0 and freeze_report(learn).last_lr==()
    learn.recorder.lrs = [1e-3]*20
    assert freeze_report(learn).n_steps==20

def test_last_rates_of_every_group(tmp_path):
    learn = plain(tmp_path)
    used = []
    watch = Callback(after_loss=lambda self: used.append([h['lr'] for h in self.learn.opt.hypers]) if self.training else None)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, slice(1e-5, 1e-3), cbs=watch)
    r = freeze_report(learn)
    assert r.n_steps==len(used) and np.allclose(r.last_lr, used[-1]) and np.allclose(r.top_lr, np.max(used, 0))

# ---------------------------------------------------------------- it only looks

@pytest.mark.parametrize('look', [freeze_report, lambda l: freeze_report(l, measure=True), param_groups, lambda l: preview_freeze(l, 0), lambda l: preflight(l, 1e-2), lambda l: preflight(l, 1e-2, freeze_to=0, norm='eval')],
                         ids=['report','measure','groups','preview','preflight','preflight of a freezing'])
@pytest.mark.parametrize('name', ['no_optimizer','frozen','adamw','autocast','text','tabular','tied'])
def test_only_looks(name, look, tmp_path):
    learn = CONFIGS[name](tmp_path)
    learn.dls.one_batch() # fills caches of fastai's transforms
    for fitted in (False, True):
        if fitted: quiet(learn)
        before = state(learn)
        look(learn)
        assert not changes(before, state(learn))

def test_asking_twice_makes_no_entries(tmp_path):
    learn = plain(tmp_path)
    learn.create_opt()
    n = len(learn.opt.state)
    freeze_report(learn)
    assert len(learn.opt.state)==n

# ---------------------------------------------------------------- what a batch costs

def test_measure_counts_what_autograd_keeps(tmp_path):
    learn = bare(tmp_path, nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1)), splitter=lambda m: L([*m[0].parameters()], [*m[2].parameters()]))
    r = freeze_report(learn, measure=True)
    a,b = (g.layers[0] for g in r.groups)
    assert r.bs==8 and r.seconds>0
    assert a.n_saved==8*4*4+8*32*4 and a.n_grad==(4*32+32)*4 and b.n_grad==33*4 # its input, and the ReLU's result, which the next layer keeps too
    freeze_to(learn, 1)
    r = freeze_report(learn, measure=True)
    assert r.groups[0].layers[0].n_grad==0 and r.groups[0].layers[0].n_saved==0

def test_measure_needs_something_to_train(tmp_path):
    learn = bare(tmp_path, nn.Linear(4, 1))
    learn.create_opt()
    learn.model.requires_grad_(False)
    with pytest.raises(ValueError, match='trainable'): freeze_report(learn, measure=True)

# ---------------------------------------------------------------- freezing

def weights(learn): return {n:p.detach().clone() for n,p in learn.model.named_parameters()}
def stats(learn): return {n:b.clone() for n,b in learn.model.named_buffers() if 'running' in n}
def moved(a, b): return {k for k in a if not torch.equal(a[k], b[k])}

def test_eval_holds_through_fits(tmp_path):
    learn = plain(tmp_path)
    freeze_to(learn, -1, norm='eval')
    w,s = weights(learn),stats(learn)
    quiet(learn, 2)
    assert not moved(s, stats(learn)) and all(k.startswith('1.') for k in moved(w, weights(learn)))
    freeze_to(learn, 0)
    s = stats(learn)
    quiet(learn)
    assert not moved(s, stats(learn)) # the body's statistics stay, its weights train
    freeze_to(learn, 0, norm='train')
    assert not any(isinstance(cb, HoldNorm) for cb in learn.cbs)
    quiet(learn)
    assert moved(s, stats(learn))

def test_bn_freeze_is_told_for_what_it_does(tmp_path):
    learn = plain(tmp_path, cbs=[BnFreeze()])
    freeze_to(learn, 1)
    assert [l.norm.moves for g in param_groups(learn) for l in g.norms]==[True] # train_bn keeps its weights trainable, so it does nothing
    learn = plain(tmp_path, cbs=[BnFreeze()], train_bn=False)
    freeze_to(learn, 1)
    assert [(l.norm.moves, l.norm.held) for g in param_groups(learn) for l in g.norms]==[(False, 'BnFreeze')]
    s = stats(learn)
    quiet(learn)
    assert not moved(s, stats(learn))
    p = preview_freeze(learn, 0)
    assert any('start to move' in o for o in p.sentences)
    freeze_to(learn, 0)
    assert param_groups(learn)==p.after.groups

class Stubborn(nn.Sequential):
    def train(self, mode=True):
        super().train(mode)
        for m in self.modules():
            if isinstance(m, nn.BatchNorm1d): m.training = False
        return self

def test_a_module_that_holds_its_own(tmp_path):
    learn = bare(tmp_path, Stubborn(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))
    modes = [m.training for m in learn.model.modules()]
    assert [(l.norm.moves, l.norm.held) for g in param_groups(learn) for l in g.norms]==[(False, 'its module')]
    assert modes==[m.training for m in learn.model.modules()]

@pytest.mark.parametrize('keep_state', [False, True])
@pytest.mark.parametrize('opt_func', [Adam, partial(SGD, mom=.9), OPTIMIZERS['adamw']], ids=['adam','momentum','adamw'])
def test_frozen_weights_stay(opt_func, keep_state, tmp_path):
    "fastai steps whatever has a gradient, and leaves one behind: weight decay and momentum would go on"
    learn = plain(tmp_path, opt_func=opt_func, train_bn=False, wd=.1)
    quiet(learn)
    freeze_to(learn, 1, keep_state=keep_state)
    w = weights(learn)
    quiet(learn)
    assert all(k.startswith('1.') for k in moved(w, weights(learn)))

def test_gradients_left_over_are_told(tmp_path):
    learn = plain(tmp_path, train_bn=False, wd=.1)
    quiet(learn)
    learn.freeze()
    r,w = freeze_report(learn),weights(learn)
    assert 'left over' in repr(r)
    quiet(learn)
    assert any(k.startswith('0.') for k in moved(w, weights(learn))) # it is true
    freeze_to(learn, -1)
    assert 'left over' not in repr(freeze_report(learn))

def test_keep_state_keeps(tmp_path):
    learn = plain(tmp_path)
    quiet(learn)
    memory = {id(p):{k:v.clone() if isinstance(v, torch.Tensor) else v for k,v in learn.opt.state[p].items()} for ps in learn.opt.param_lists for p in ps}
    freeze_to(learn, 1, keep_state=True)
    for ps in learn.opt.param_lists:
        for p in ps: assert all(torch.equal(v, memory[id(p)][k]) if isinstance(v, torch.Tensor) else v==memory[id(p)][k] for k,v in learn.opt.state[p].items())
    quiet(learn)
    assert param_groups(learn)[1].steps==10

@pytest.mark.parametrize('n', [3, -3, 2.5, True, None, '1'])
def test_wrong_index_changes_nothing(n, tmp_path):
    learn = plain(tmp_path)
    before = state(learn)
    with pytest.raises(ValueError if isinstance(n, int) and n is not True else TypeError, match='n='): freeze_to(learn, n)
    assert not changes(before, state(learn))

def test_wrong_words(tmp_path):
    learn = plain(tmp_path)
    with pytest.raises(ValueError, match="norm='no'"): freeze_to(learn, 0, norm='no')
    with pytest.raises(TypeError, match='Learner'): freeze_report(learn.model)
    with pytest.raises(ValueError, match='give `freeze_to`'): preflight(learn, 1e-3, norm='eval')
    with pytest.raises(ValueError, match='2 parameter groups'): preflight(learn, [1e-3]*3)
    with pytest.raises(ValueError, match='gives'): preflight(learn, lambda pos: -1e-3)
    with pytest.raises(ValueError, match='gives'): preflight(learn, lambda pos: [1e-3]*3)

# ---------------------------------------------------------------- taking it back

@pytest.mark.parametrize('norm', ['as is', 'train', 'eval'])
@pytest.mark.parametrize('keep_state', [False, True])
@pytest.mark.parametrize('name', ['no_optimizer','frozen','adamw','clipping','tabular','text','tied'])
def test_undo_is_bit_for_bit(name, keep_state, norm, tmp_path):
    learn = CONFIGS[name](tmp_path)
    for fitted in (False, True):
        if fitted: quiet(learn)
        for n in range(len(param_groups(learn))+1):
            before,undo = state(learn),_Frozen(learn, n, keep_state, norm)
            assert undo.restore()
            assert not changes(before, state(learn))

def test_undo_after_training_keeps_the_new_memory(tmp_path):
    learn = plain(tmp_path)
    quiet(learn)
    undo = _Frozen(learn, 1)
    quiet(learn)
    assert not undo.restore() and param_groups(learn)[1].steps==5 and freeze_report(learn).freeze_to==0
    undo = _Frozen(learn, 1)
    learn.create_opt()
    assert not undo.restore() and all(p.requires_grad for p in learn.model.parameters())

# ---------------------------------------------------------------- preflight

def causes(*args, **kw): return [f.cause for f in preflight(*args, **kw)]

@pytest.fixture
def cycled(tmp_path):
    learn = plain(tmp_path)
    learn.freeze()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 1e-2)
    return learn

def test_each_cause(cycled):
    learn,top = cycled,np.array([1e-4, 1e-2])
    cycle = combined_cos(.25, top/25, top, top/1e5)
    assert set(causes(learn, 1e-2, freeze_to=0))=={'optimizer memory','rate jump','head rate','flat fit'}
    assert causes(learn, cycle, freeze_to=0)==[] and causes(learn, cycle)==['re-warming']
    assert 'optimizer memory' not in causes(learn, 1e-2, freeze_to=0, keep_state=True)
    assert causes(learn, .2)==['rate jump']
    assert causes(learn, 4e-7)==[]
    assert causes(learn, 4e-7, wd=.5)==['weight decay']
    learn.unfreeze()
    assert causes(learn, 1e-2)[0]=='optimizer memory'
    assert 'flat fit' in causes(learn, 1e-2) and 'head rate' in causes(learn, 1e-2)

def test_batchnorm_is_worst(tmp_path):
    learn = plain(tmp_path)
    freeze_to(learn, -1, norm='eval')
    quiet(learn)
    found = preflight(learn, 0., freeze_to=0, norm='train')
    assert [(f.cause, f.severity) for f in found]==[('batchnorm', 3)] and "norm='eval'" in found[0].avoid
    assert not preflight(learn, 0., freeze_to=0) and 'No known cause' in repr(preflight(learn, 0., freeze_to=0))
    assert [f.severity for f in preflight(learn, 1., freeze_to=0, norm='train')]==sorted((f.severity for f in preflight(learn, 1., freeze_to=0, norm='train')), reverse=True)

def test_what_avoids_it_runs(cycled):
    learn = cycled
    for f in preflight(learn, 1e-1, freeze_to=0, wd=.5):
        with learn.no_bar(), learn.no_logging(): exec(f.avoid, dict(learn=learn, freeze_to=freeze_to))

def test_a_first_fit_has_no_known_cause(tmp_path): assert causes(plain(tmp_path), 1e-3)==[]

def test_diff_of_other_learners(tmp_path):
    with pytest.raises(ValueError, match='different groups'): freeze_diff(freeze_report(plain(tmp_path)), freeze_report(CONFIGS['tied'](tmp_path)))
    with pytest.raises(TypeError, match='before'): freeze_diff(plain(tmp_path), freeze_report(plain(tmp_path)))

def test_diff_of_hand_made_patterns(tmp_path):
    learn = plain(tmp_path)
    learn.create_opt()
    a = freeze_report(learn)
    learn.model[0][0].bias.requires_grad_(False)
    assert freeze_diff(a, freeze_report(learn)).sentences==('freezes group 0 (8 parameters, 1 of 2 layers)',)
    learn.opt.set_hyper('lr', [1e-5, 1e-3])
    assert 'rate of group 0: 1e-3 → 1e-5' in freeze_diff(a, freeze_report(learn)).sentences

# ---------------------------------------------------------------- many groups

def test_three_hundred_groups(tmp_path):
    learn = bare(tmp_path, nn.Sequential(*(nn.Linear(4, 4) for _ in range(299)), nn.Linear(4, 1)), splitter=lambda m: L(*m).map(params))
    r = freeze_report(learn)
    assert len(r.groups)==300 and len(r.table())<=17 and frozen_to(r, 280).freeze_to==280
    assert [row[0] for row in frozen_to(r, 280).table()[1:]]==['0-279: 0 to 279', '280-299: 280 to 299']

def held(undo): return [v for _,_,entries in undo.states for _,_,items in entries for v in items.values() if isinstance(v, torch.Tensor)]

def test_undo_holds_no_memory_that_it_cannot_use(tmp_path):
    learn = plain(tmp_path)
    quiet(learn)
    undo = _Frozen(learn, 1)
    assert held(undo) # on the CPU, and of use
    quiet(learn)
    undo.spare(); assert not held(undo)
    assert not undo.restore() and freeze_report(learn).freeze_to==0

def test_undo_brings_memory_back_from_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr('lrtools.freezing._far', lambda t: True) # as on a GPU
    learn = plain(tmp_path)
    quiet(learn)
    before,undo = state(learn),_Frozen(learn, 1)
    assert undo.away and not any(isinstance(v, torch.Tensor) for _,_,entries in undo.states for _,d,_ in entries for v in d.values())
    assert undo.restore()
    values = lambda s: {k: v[2] if isinstance(v, tuple) and len(v)==3 else v for k,v in s.items()}
    assert not changes(values(before), values(state(learn)))

@pytest.mark.parametrize('name', ['adam','momentum','adamw','ranger','rmsprop'])
@pytest.mark.parametrize('keep_state', [False, True])
def test_undo_after_training(name, keep_state, tmp_path):
    "The memory that the training left stays, whole"
    learn = plain(tmp_path, opt_func=OPTIMIZERS[name])
    quiet(learn, 2)
    undo = _Frozen(learn, 1, keep_state)
    quiet(learn)
    after = [(m.memory, m.steps) for m in param_groups(learn)]
    assert not undo.restore() and freeze_report(learn).freeze_to==0
    assert [(m.memory, m.steps) for m in param_groups(learn)]==after
    undo = _Frozen(learn, 1, keep_state)
    before = state(learn)
    assert undo.restore()
    _Frozen(learn, 0, keep_state).restore()
    quiet(learn)

def test_undo_of_every_optimizer(tmp_path):
    for f in [*OPTIMIZERS.values(), partial(OptimWrapper, opt=torch.optim.Adagrad)]:
        for fitted in (False, True):
            learn = plain(tmp_path, opt_func=f)
            if fitted: quiet(learn, 2)
            before = state(learn)
            for keep in (False, True):
                assert _Frozen(learn, 1, keep).restore()
                assert not changes(before, state(learn))

def test_undo_leaves_no_gradient_behind(tmp_path):
    learn = plain(tmp_path, train_bn=False, wd=.1)
    learn.freeze()
    quiet(learn)
    undo = _Frozen(learn, 0)
    quiet(learn)
    undo.restore()
    w = weights(learn)
    quiet(learn, 1, 1e-2)
    assert all(k.startswith('1.') for k in moved(w, weights(learn)))

# ---------------------------------------------------------------- defaults, and what the record cannot tell

def test_default_rates(tmp_path):
    for kw,want in ((dict(opt_func=partial(SGD, lr=.5)), (.5,.5)), (dict(lr=slice(1e-4,1e-2)), (1e-4,1e-2)), (dict(lr=[1e-5,1e-3]), (1e-5,1e-3)), (dict(lr=slice(1e-2)), (1e-3,1e-2))):
        learn = plain(tmp_path, **kw)
        before = state(learn)
        assert freeze_report(learn).lr==pytest.approx(want) and preflight(learn).lrs[0]==pytest.approx(want)
        assert not changes(before, state(learn))
        p = preview_freeze(learn, 1)
        if 'opt_func' in kw: freeze_to(learn, 1); assert truth(freeze_report(learn))==truth(p.after)
    learn = plain(tmp_path, wd=[.01, .1])
    assert freeze_report(learn).wd==(.01, .1)

def test_after_lr_find(cycled, tmp_path):
    learn = cycled
    learn.unfreeze()
    assert causes(learn, 1e-2)[0]=='optimizer memory'
    with learn.no_bar(): learn.lr_find(show_plot=False, num_it=10, suggest_funcs=())
    assert [g.memory for g in param_groups(learn)]==['empty']*2 and 'No fit is recorded' in repr(preflight(learn, 1e-2))
    learn = plain(tmp_path)
    quiet(learn)
    learn.recorder.lrs = []
    p = preview_freeze(learn, 1)
    freeze_to(learn, 1)
    assert [g.memory for g in param_groups(learn)]==['empty']*2==[g.memory for g in p.after.groups]

def test_built_optimizer_is_left(tmp_path):
    learn = plain(tmp_path)
    opt = OptimWrapper(opt=torch.optim.Adam(learn.model.parameters(), lr=1e-3))
    a = Learner(learn.dls, learn.model, MSELossFlat(), opt_func=opt, path=tmp_path)
    quiet(a)
    b = Learner(learn.dls, learn.model, MSELossFlat(), opt_func=opt, path=tmp_path)
    n,m = len(opt.opt.state),len(opt.state)
    freeze_report(b)
    assert n>0 and (len(opt.opt.state), len(opt.state))==(n, m) and b.opt is None

class Merging(nn.Linear):
    "As LoRA's layers: evaluation merges, training takes it apart"
    merged = False
    def train(self, mode=True):
        super().train(mode)
        if mode==self.merged: self.merged = not mode; self.weight.data = self.weight.data+(-1. if mode else 1.)
        return self

def test_modules_that_act_in_train(tmp_path):
    learn = bare(tmp_path, nn.Sequential(Merging(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))
    learn.model.eval()
    before = state(learn)
    freeze_report(learn)
    assert not changes(before, state(learn)) and learn.model[0].merged

def test_whole_numbers_are_refused(tmp_path):
    learn = plain(tmp_path)
    learn.model[1].register_parameter('whole', nn.Parameter(torch.zeros(3, dtype=torch.long), requires_grad=False))
    before = state(learn)
    for f in (freeze_to, preview_freeze):
        with pytest.raises(ValueError, match='whole numbers'): f(learn, 1)
    assert not changes(before, state(learn))

def test_only_batchnorm_in_a_group(tmp_path):
    learn = bare(tmp_path, nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), splitter=lambda m: L(*m).map(params))
    for n in range(4):
        freeze_to(learn, n)
        assert freeze_report(learn).freeze_to==n

# ---------------------------------------------------------------- findings in use

def one_cycle(*tops): return combined_cos(.25, np.array(tops)/25, np.array(tops), np.array(tops)/1e5)

@pytest.mark.parametrize('opt_func', [Adam, SGD, OPTIMIZERS['adamw']], ids=['adam','sgd','adamw'])
def test_what_avoids_it_avoids_it(opt_func, tmp_path):
    "The advice for a finding does not bring that finding, or a worse one, back"
    def learners():
        for fit in (lambda l: l.fit(2, 1e-3), lambda l: l.fit_one_cycle(4, 1e-3), lambda l: l.fit_one_cycle(4, slice(1e-5, 1e-3))):
            for frozen in (True, False):
                learn = deep(tmp_path, 3, opt_func=opt_func)
                if frozen: freeze_to(learn, -1, norm='eval')
                with learn.no_bar(), learn.no_logging(): fit(learn)
                yield learn
    lrs = [1e-3, .1, [1e-5,1e-4,1e-3], [1e-3,1e-2,.1], one_cycle(1e-3, 1e-3, 1e-3), one_cycle(1e-5, 1e-4, 1e-3)]
    kws = [dict(), dict(freeze_to=0), dict(freeze_to=0, norm='train'), dict(freeze_to=0, keep_state=True, norm='train'), dict(freeze_to=1, norm='eval')]
    for learn in learners():
        for lr in lrs:
            for kw in kws:
                for f in preflight(learn, lr, **kw):
                    if f.avoid.startswith('freeze_to'):
                        got = {}
                        eval(f.avoid, dict(learn=learn, freeze_to=lambda l, n, keep_state=False, norm='as is': got.update(freeze_to=n, keep_state=keep_state, norm=norm)))
                        assert not kw.get('keep_state') or got['keep_state']
                        new = preflight(learn, lr, **got)
                    else:
                        tops = eval(f.avoid.partition('(')[2][:-1].split(', ', 1)[1].split(', wd=')[0])
                        tops = np.geomspace(tops.start, tops.stop, 3) if isinstance(tops, slice) else np.full(3, tops)
                        new = preflight(learn, one_cycle(*tops), wd=0. if f.cause=='weight decay' else None, **kw)
                    assert f.cause not in [o.cause for o in new], (lr, kw, f, new)
                    if f.avoid.startswith('learn'): assert max([o.severity for o in new], default=0)<=max(o.severity for o in preflight(learn, lr, **kw)), (lr, kw, f, new)

def test_no_alarm_in_ordinary_use(tmp_path):
    learn = deep(tmp_path, 3)
    assert causes(learn, one_cycle(1e-3, 1e-3, 1e-3))==[]==causes(learn, 1e-3)
    learn.freeze()
    assert causes(learn, one_cycle(1e-3, 1e-3, 1e-3))==[]
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(4, 1e-3)
    assert causes(learn, one_cycle(1e-5, 1e-4, 1e-3), freeze_to=0)==[]
    learn.unfreeze()
    assert causes(learn, one_cycle(1e-5, 1e-4, 1e-3))==[]
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(4, slice(1e-5, 1e-3))
    assert causes(learn, one_cycle(1e-6, 1e-5, 1e-4))==[]
    many = deep(tmp_path, 13)
    freeze_to(many, -1)
    with many.no_bar(), many.no_logging(): many.fit_one_cycle(2, 1e-3)
    assert causes(many, one_cycle(*np.geomspace(1e-5, 1e-3, 13)), freeze_to=0)==[]

@pytest.mark.parametrize('how', ['fastai', 'ours', 'kept'])
@pytest.mark.parametrize('opt_func', [Adam, SGD, OPTIMIZERS['adamw']], ids=['adam','sgd','adamw'])
def test_freezing_before_or_after_asking(opt_func, how, tmp_path):
    "What begins to train is found when it has been unfrozen already"
    learn = deep(tmp_path, 3, opt_func=opt_func)
    learn.freeze()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(4, 1e-3)
    kept = how=='kept'
    want = causes(learn, 1e-3, freeze_to=0, keep_state=kept)
    learn.unfreeze() if how=='fastai' else freeze_to(learn, 0, keep_state=kept)
    if opt_func is OPTIMIZERS['adamw'] and not kept: want = [c for c in want if c not in ('head rate','flat fit')] # torch leaves neither gradients nor, cleared, a memory
    assert causes(learn, 1e-3)==want

def test_nothing_begins_to_train_that_always_did(tmp_path):
    learn = deep(tmp_path, 3)
    quiet(learn)
    learn.unfreeze()
    assert not {'head rate','flat fit'}&{*causes(learn, 1e-3)}

@pytest.mark.parametrize('bad', [float('nan'), -1, 'x', [1, 2, 3]])
def test_wrong_weight_decay(bad, tmp_path):
    with pytest.raises((ValueError, TypeError), match='wd'): preflight(plain(tmp_path), wd=bad)

def test_wrong_kinds(tmp_path):
    learn = plain(tmp_path)
    for f in (freeze_to, preview_freeze):
        with pytest.raises(TypeError, match='keep_state'): f(learn, 1, keep_state='no')
    with pytest.raises(TypeError, match='gives'): preflight(learn, lambda pos: 'x')
    preflight(learn, lambda pos: torch.ones(1, requires_grad=True)*1e-3)
    r = freeze_report(learn)
    for f in (lambda: frozen_to('r', 1), lambda: spike_risks('r', 'r', [[1]]), lambda: spike_risks(r, freeze_report(deep(tmp_path, 3)), [[1]]), lambda: FreezeReport.from_json('{"kind":"FreezeReport","version":1}'), lambda: spike_risks(r, r, [[math.nan]*2])):
        with pytest.raises((ValueError, TypeError), match='report|Report|groups|finite'): f()

# ---------------------------------------------------------------- with schedules and a record of ours

def test_schedules_of_ours(cycled):
    from lrtools.schedule import constant, one_cycle as cycle
    assert causes(cycled, cycle(slice(1e-4, 1e-2)), freeze_to=0)==[] and causes(cycled, cycle([1e-4, 1e-2]), freeze_to=0)==[]
    assert causes(cycled, constant(1e-2), freeze_to=0)==causes(cycled, 1e-2, freeze_to=0)
    with pytest.raises(ValueError, match='gives'): preflight(cycled, cycle([1e-4]*3))

def test_a_record_outlives_lr_find(tmp_path):
    from lrtools.recording import record
    learn = plain(tmp_path)
    record(learn)
    learn.freeze()
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, slice(1e-4, 1e-2))
    learn.unfreeze()
    before = causes(learn, 1e-2)
    with learn.no_bar(): learn.lr_find(show_plot=False, num_it=10, suggest_funcs=())
    r = freeze_report(learn)
    assert r.n_steps==10 and r.top_lr==pytest.approx((1e-4, 1e-2), rel=.1) and [g.memory for g in r.groups]==['cleared']*2 and all('optimizer memory' in c for c in (before, causes(learn, 1e-2)))

# ---------------------------------------------------------------- buffers that move without `running_mean`

old_norm,new_norm = torch.nn.utils.spectral_norm,torch.nn.utils.parametrizations.spectral_norm

class Codebook(nn.Module):
    "Averages of a vector quantizer, which are no parameters"
    def __init__(self):
        super().__init__()
        for k,v in dict(embed=torch.randn(3, 8), cluster_size=torch.ones(3), embed_avg=torch.zeros(3, 8)).items(): self.register_buffer(k, v)
    def forward(self, x):
        near = torch.cdist(x, self.embed).argmin(1)
        if self.training:
            for i in range(3): self.cluster_size[i].lerp_((near==i).sum().float(), .1); self.embed_avg[i].lerp_(x.detach()[near==i].sum(0), .1)
            self.embed.copy_(self.embed_avg/self.cluster_size[:,None])
        return x+(self.embed[near]-x).detach()

class Tallied(nn.Module):
    "A count that is a buffer, one that is put in anew, one that is there and stays"
    def __init__(self): super().__init__(); self.register_buffer('n', torch.zeros(1)); self.register_buffer('last', torch.zeros(1)); self.register_buffer('table', torch.tensor([float('nan'), 1.]))
    def forward(self, x):
        if self.training: self.n += 1; self.last = self.n*2
        return x

MOVING = dict(hook=(lambda: old_norm(nn.Linear(4, 8)), {'0.0': ('weight_u','weight_v')}), parametrization=(lambda: new_norm(nn.Linear(4, 8)), {'0.0.parametrizations.weight.0': ('_u','_v')}),
              hook_of_another_name=(lambda: old_norm(nn.Bilinear(4, 4, 8), 'weight'), {'0.0': ('weight_u','weight_v')}), codebook=(lambda: nn.Sequential(nn.Linear(4, 8), Codebook()), {'0.0.1': ('embed','cluster_size','embed_avg')}))
STILL = dict(weight_norm=lambda: torch.nn.utils.parametrizations.weight_norm(nn.Linear(4, 8)), old_weight_norm=lambda: torch.nn.utils.weight_norm(nn.Linear(4, 8)), plain=lambda: nn.Linear(4, 8), vector=lambda: nn.Sequential(nn.Linear(4, 8), new_norm(nn.LayerNorm(8))))

def with_body(path, layer):
    class Twice(nn.Module):
        def __init__(self): super().__init__(); self.m = layer
        def forward(self, x): return self.m(x, x) if isinstance(self.m, nn.Bilinear) else self.m(x)
    body = layer if not isinstance(layer, nn.Bilinear) else Twice()
    return bare(path, nn.Sequential(nn.Sequential(body), nn.Linear(8, 1)), splitter=lambda m: L(m[0], m[1]).map(params))

def told(report): return {l.name:l.moving for g in report.groups for l in g.layers if l.moving}
def buffers(learn): return {n:b.clone() for n,b in learn.model.named_buffers()}

@pytest.mark.parametrize('kind', MOVING)
def test_buffers_of_a_known_kind_are_told_and_held(kind, tmp_path):
    make,want = MOVING[kind]
    learn = with_body(tmp_path, make())
    if kind=='hook_of_another_name': want = {'0.0.m': ('weight_u','weight_v')}
    said = lambda r: 'Buffers of frozen layers move in training, and with them' in repr(r)
    assert told(freeze_report(learn))==want and not said(freeze_report(learn))
    p = preview_freeze(learn, 1)
    freeze_to(learn, 1)
    r = freeze_report(learn)
    assert r.groups==p.after.groups and told(r)==want and said(r) and any('go on moving, though it is frozen' in s for s in p.sentences)
    assert told(freeze_report(learn, measure=True))==want
    before = buffers(learn)
    quiet(learn)
    assert moved(before, buffers(learn))=={f'{n}.{k}' for n,ks in want.items() for k in ks}
    p = preview_freeze(learn, 1, norm='eval')
    assert any('stop moving' in s for s in p.sentences) and "norm='eval'" in repr(r)
    exec(repr(r).split('`')[1], dict(learn=learn, freeze_to=freeze_to))
    r = freeze_report(learn)
    assert r.groups==p.after.groups and not told(r) and not said(r) and 'held by HoldNorm' in repr(r) and not told(freeze_report(learn, measure=True))
    before = buffers(learn)
    quiet(learn)
    assert not moved(before, buffers(learn))
    freeze_to(learn, 0)
    quiet(learn)
    assert moved(before, buffers(learn)) # what trains is not held: its norm has to follow its weights

@pytest.mark.parametrize('kind', STILL)
def test_layers_without_moving_buffers_are_not_told(kind, tmp_path):
    learn = with_body(tmp_path, STILL[kind]())
    assert not told(freeze_report(learn)) and not told(freeze_report(learn, measure=True))

def test_buffers_of_any_kind_are_measured(tmp_path):
    learn = with_body(tmp_path, nn.Sequential(nn.Linear(4, 8), Tallied(), nn.BatchNorm1d(8)))
    freeze_to(learn, 1)
    assert not told(freeze_report(learn)) # it cannot be known
    r = freeze_report(learn, measure=True)
    assert told(r)=={'0.0.1': ('n','last')} and 'frozen layers move in training: 0.0.1 (n, last).' in repr(r) and "norm='eval'" not in repr(r)
    assert ['n, last move' in row[5] for row in r.table(0)[1:]]==[False, True, False]
    assert not freeze_diff(freeze_report(learn), freeze_report(learn))
    freeze_diff(freeze_report(learn), r)
    assert FreezeReport.from_json(r.to_json())==r

def test_a_part_that_never_trains_holds_its_own_buffers(tmp_path):
    class Off(nn.Sequential):
        def train(self, mode=True): return super().train(False)
    learn = with_body(tmp_path, Off(new_norm(nn.Linear(4, 8)), Codebook()))
    freeze_to(learn, 1)
    before = buffers(learn)
    assert not told(freeze_report(learn)) and 'held by its module' in repr(freeze_report(learn)) and not told(freeze_report(learn, measure=True))
    quiet(learn)
    assert not moved(before, buffers(learn))

# ---------------------------------------------------------------- compiled models

def compiled(learn, how):
    if how=='module': learn.model = torch.compile(learn.model, backend='eager')
    elif how=='aot': learn.model = torch.compile(learn.model, backend='aot_eager')
    elif how=='in place': learn.model.compile(backend='eager')
    elif how=='a part': learn.model[0] = torch.compile(learn.model[0], backend='eager')
    return learn

@pytest.mark.parametrize('how', ['module','aot','in place','a part'])
def test_a_compiled_model_is_measured_layer_by_layer(how, tmp_path):
    def make(): torch.manual_seed(0); return bare(tmp_path, nn.Sequential(nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU()), nn.Linear(32, 1)))
    costs = lambda r: [(l.kind, l.n_saved, l.n_grad, l.norm and l.norm.moved) for g in r.groups for l in g.layers]
    want,learn = costs(freeze_report(make(), measure=True)),compiled(make(), how)
    before = state(learn.model._orig_mod if hasattr(learn.model, '_orig_mod') else learn.model)
    assert costs(freeze_report(learn, measure=True))==want # never run before
    assert not changes(before, state(learn.model._orig_mod if hasattr(learn.model, '_orig_mod') else learn.model))
    quiet(learn)
    assert costs(freeze_report(learn, measure=True))==want
    quiet(learn) # and it is compiled still

def test_a_compiled_model_is_not_measured_where_torch_cannot_run_it_plainly(tmp_path, monkeypatch):
    learn = compiled(bare(tmp_path, nn.Linear(4, 1)), 'in place')
    monkeypatch.delattr(torch.compiler, 'set_stance')
    with pytest.raises(ValueError, match='measure=True: learn.model is compiled'): freeze_report(learn, measure=True)
    assert freeze_report(learn).n_params==5

def test_buffers_of_layers_in_no_group_are_told(tmp_path):
    learn = bare(tmp_path, nn.Sequential(old_norm(nn.Linear(4, 8)), nn.Linear(8, 1)), splitter=lambda m: [params(m[1])])
    before = buffers(learn)
    for r in (freeze_report(learn), freeze_report(learn, measure=True)):
        assert 'move in training, and with them what these layers give: 0 (weight_u, weight_v).' in repr(r) and "norm='eval'" not in repr(r)
    quiet(learn)
    assert moved(before, buffers(learn))=={'0.weight_u','0.weight_v'}
