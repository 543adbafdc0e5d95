"Why it spikes: the right cause for learners that were made to have it, and none where there is none"
import math

from dataclasses import replace

import numpy as np, pytest

from learners import deep, quiet
from state import changes, state, writes
from unet_toy import unet
from lrtools.experiments import CAUSES, ArmRun, Runs, UnfreezeStudy
from lrtools.history import FitRecord, LRHistory
from lrtools.plan import Phase
from lrtools.schedule import constant, one_cycle
from lrtools.unfreeze_study import unfreeze_study

pytestmark = pytest.mark.slow

ARMS = [*CAUSES.values(), 'all rates 0']

@pytest.fixture(scope='module')
def usual(tmp_path_factory): return unet(tmp_path_factory.mktemp('a'))
@pytest.fixture(scope='module')
def held(tmp_path_factory): return unet(tmp_path_factory.mktemp('b'), 'eval')

def test_cleared_memory_without_a_warm_up(usual):
    "Flat rate after unfreezing: Adam begins anew, at full speed; the encoder has no part in it"
    before = state(usual)
    s = unfreeze_study(usual, 3e-3, arms=ARMS, progress=False)
    assert not changes(before, state(usual))
    assert s.spike['as asked'] and set(s.causes)=={'optimizer memory','warm-up','head rate'} and min(s.spike['as asked'].valid)>1.5
    assert max(s.removes('encoder rate 0'), s.removes('BatchNorm held'))<.4 and not s.spike['all rates 0']
    said = ' '.join(s.verdict)
    assert 'over 3 seeds' in said and 'keep_state=True' in said and 'What alone takes it away' in said and 'memory kept' in said.split('What has little')[0]
    assert UnfreezeStudy.from_json(s.to_json())==s and s._repr_markdown_().count('\n')>12

def test_batchnorm_alone(held):
    "A body held in eval while it was frozen, and rates too small to do harm: the loss rises with no learning at all"
    s = unfreeze_study(held, [3e-7, 3e-5], arms=ARMS, progress=False)
    assert s.causes==['batchnorm'] and s.spike['all rates 0'] and not s.spike['BatchNorm held'] and max(min(s.spike['as asked'].valid), min(s.spike['as asked'].train))>1.3
    said = ' '.join(s.verdict)
    assert 'even with all rates 0' in said and "norm='eval'" in said.split('What to do')[1].split('`, or')[0]

def test_a_healthy_one_cycle(usual):
    s = unfreeze_study(usual, slice(1e-5, 1e-3), sched=one_cycle, arms=['memory kept','BatchNorm held','all rates 0'], progress=False)
    assert not s.spike['as asked'] and s.causes==[] and s.verdict[0].startswith('No spike') and any('begins low' in n for n in s.runs.notes)
    assert list(s.runs.arms)==['as asked','memory kept','BatchNorm held','all rates 0']

# ---------------------------------------------------------------- what is told, from made-up runs

def made(arm, seed, losses, valid0=math.nan, dense=(), error=''):
    f = FitRecord(1, len(losses), [True])
    for i,v in enumerate(losses): f.add(i, v, [dict(lr=1e-3)])
    f.stop = 'end'
    return ArmRun(arm, seed, LRHistory([f]), valid0, dense, 1., error)

def study(arms, noise=.05, n=30, **kw):
    "`arms`: name → rise of the loss at the start, as a factor of 1"
    rng = [np.random.default_rng(s) for s in range(3)]
    batches = [1+noise*r.normal(size=n) for r in rng]
    y = lambda up, l: (l*(1+(up-1)*np.exp(-np.arange(n)/8))).tolist()
    runs = [made(k, s, y(up, batches[s]), 1., ((1, up), (5, 1.)), **kw) for k,up in arms.items() for s in range(3)]
    still = [made('still', s, batches[s].tolist(), 1., ((1, 1.), (5, 1.))) for s in range(3)]
    return UnfreezeStudy(Runs(runs, {k: '' for k in arms}), still, n, {'memory kept': 'A', 'warm-up': 'B'})

def test_noise_is_no_spike():
    s = study({'as asked': 1., 'memory kept': 1.}, noise=.5)
    assert not s.spike['as asked'] and s.causes==[] and 'noise of batches' in ' '.join(s.verdict) and max(s.spike['as asked'].single)>1.8

@pytest.mark.parametrize('noise', [0., .05, .3])
def test_causes_by_strength(noise):
    s = study({'as asked': 4., 'memory kept': 1.3, 'warm-up': 1., 'BatchNorm held': 3.9, 'encoder rate 0': 2.5, 'head rate 0': 6.}, noise)
    assert s.causes==['warm-up','optimizer memory']
    said = ' '.join(s.verdict)
    assert "What makes it smaller: 'encoder rate 0' (2." in said and "What has little effect: 'BatchNorm held' (3." in said and "What makes it worse: 'head rate 0' (" in said and '`A`, or `B`' in said

def test_more_than_one_reason():
    s = study({'as asked': 4., **{k: 3. for k in CAUSES.values()}})
    assert s.causes==[] and 'No single change' in ' '.join(s.verdict)

def test_explosions_and_failures():
    s = study({'as asked': 4., 'memory kept': 1.})
    runs = [replace(r, history=made('x', 0, [1., math.nan]*15).history) if r.arm=='as asked' else r for r in s.runs]
    t = UnfreezeStudy(Runs(runs, s.runs.arms), s.still, 30, {})
    assert t.spike['as asked'] and t.spike['as asked'].train==(math.inf,)*3 and t.causes==['optimizer memory'] and UnfreezeStudy.from_json(t.to_json())==t
    runs = [replace(r, error='Boom: no') if r.arm=='memory kept' else r for r in s.runs]
    t = UnfreezeStudy(Runs(runs, s.runs.arms), s.still, 30, {})
    assert t.causes==[] and "Failed, and not counted: 'memory kept' (Boom: no)" in ' '.join(t.verdict) and 'failed' in t._repr_markdown_()
    assert '(over 3 seeds' in t.verdict[0]
    runs = [replace(r, error='Boom: no') if r.arm=='as asked' else r for r in s.runs]
    t = UnfreezeStudy(Runs(runs, s.runs.arms), s.still, 30, {})
    assert t.verdict==["Nothing can be said: no run of 'as asked' went through.", "Failed, and not counted: 'as asked' (Boom: no)."] and repr(t)=='UnfreezeStudy(failed)' and '| failed |' in t._repr_markdown_()
    runs = [replace(r, error='Boom: no') if r.arm=='as asked' and r.seed else r for r in s.runs]
    assert 'one seed only' in UnfreezeStudy(Runs(runs, s.runs.arms), s.still, 30, {}).verdict[0]

def test_negative_losses():
    s = study({'as asked': 4., 'memory kept': 1.})
    low = lambda r: replace(r, history=made('x', 0, (r.history.losses-20).tolist()).history, valid0=r.valid0-20, dense=tuple((i, v-20) for i,v in r.dense))
    t = UnfreezeStudy(Runs([low(r) for r in s.runs], s.runs.arms), tuple(low(r) for r in s.still), 30, {})
    assert all(1<v<1.3 for v in t.spike['as asked'].train) and all(abs(v-1)<.02 for v in t.spike['memory kept'].train)

# ---------------------------------------------------------------- arguments

def test_left_alone_and_refused(tmp_path):
    learn = deep(tmp_path, 3)
    learn.freeze()
    with pytest.raises(ValueError, match='never trained'): unfreeze_study(learn, 1e-3)
    quiet(learn)
    before = state(learn)
    for kw,error,match in ((dict(lr=-1.), ValueError, 'lr=-1'), (dict(lr='x'), TypeError, 'lr='), (dict(lr=[1e-3]*2), ValueError, '2 rates'), (dict(n_epoch=0), ValueError, 'n_epoch=0'), (dict(arms=['no']), ValueError, "arms=\\['no'\\]"), (dict(arms=[]), ValueError, 'arms'),
                           (dict(arms={}), ValueError, 'arms is empty'), (dict(sched=3), TypeError, 'sched=3'), (dict(sched=lambda r: 3), TypeError, 'sched gave 3'), (dict(seeds=()), ValueError, 'seeds')):
        with pytest.raises(error, match=match): unfreeze_study(learn, **(dict(lr=1e-3)|kw))
    with pytest.raises(TypeError, match='learn'): unfreeze_study('learn', 1e-3)
    with writes() as written: s = unfreeze_study(learn, slice(1e-4, 1e-2), n_epoch=2, seeds=(0,), progress=False)
    assert not changes(before, state(learn)) and written==[] and 'one seed only' in ' '.join(s.verdict)
    own = unfreeze_study(learn, slice(1e-4, 1e-2), arms={'mine': Phase(constant([0., 0., 1e-2]), 1, freeze_to=0, norm='train')}, seeds=(0,), progress=False) # beside the others
    assert len(own.spike['mine'].train)==1 and len(own.runs.arms)==11 and any('lower encoder rates' in n and 'that low already' in n for n in own.runs.notes)
    assert s==replace(unfreeze_study(learn, slice(1e-4, 1e-2), n_epoch=2, seeds=(0,), progress=False), date=s.date, runs=s.runs, still=s.still)

def test_the_arms_change_one_thing(tmp_path):
    from lrtools.unfreeze_study import _arms
    arms,notes = _arms([1e-5, 1e-4, 1e-3], constant, 2)
    base = arms['as asked'][0]
    assert base==Phase(constant([1e-5, 1e-4, 1e-3]), 2, freeze_to=0, norm='train') and notes==[]
    rates = lambda k: arms[k].rates(10, 3)
    assert arms['memory kept'][0]==replace(base, keep_state=True) and arms['BatchNorm held'][0]==replace(base, norm='eval')
    assert np.array_equal(rates('encoder rate 0'), base.sched(0.)*[0, 0, 1]+np.zeros((20, 1))) and not rates('all rates 0').any() and np.array_equal(rates('head rate 0')[0], [1e-5, 1e-4, 0])
    w = rates('warm-up'); assert w[0,2]==pytest.approx(1e-3/25) and np.allclose(w[5:], rates('as asked')[5:]) and (np.diff(w[:,2])>=0).all()
    assert np.allclose(rates('a tenth'), rates('as asked')/10) and sorted(set(rates('ladder')[:,0].round(9)))==[1e-5, 1e-4, 1e-3, 1e-2]
    one,notes = _arms([1e-3], one_cycle, 1)
    assert not {'encoder rate 0','head rate 0','warm-up'}&{*one} and len(notes)==4

# ---------------------------------------------------------------- at once, or step by step

def test_unfreeze_at_once(tmp_path):
    from lrtools.unfreeze_study import unfreeze_at_once_study
    learn = deep(tmp_path, 3)
    before = state(learn)
    with writes() as written: runs = unfreeze_at_once_study(learn, 1e-3, 4, seeds=(0, 1), progress=False)
    assert not changes(before, state(learn)) and written==[] and all(r.status=='finished' for r in runs)
    n = len(learn.dls.train)
    assert len(runs.arms)==7 and {r.history.n_steps for r in runs}=={4*n} and not runs.notes
    first = lambda k: runs[k][0].history
    assert [f.trains for f in first('gradual')]==[(False, False, True), (False, True, True), (True,)*3] and [f.trains for f in first('head first')]==[(False, False, True), (True,)*3]
    assert [f.trains for f in first('head only')]==[(False, False, True)] and first('all at once, discriminative').lrs.max(0).tolist()==[1e-5, 1e-4, 1e-3]
    few = unfreeze_at_once_study(learn, 1e-3, 1, seeds=(0,), progress=False)
    assert set(few.arms)=={'head only', 'all at once', 'all at once, discriminative'} and len(few.notes)==2
    with pytest.raises(ValueError, match='1 parameter group'): unfreeze_at_once_study(deep(tmp_path, 1), 1e-3)
    for bad,error in ((dict(lr=slice(1e-3)), TypeError), (dict(lr=-1.), ValueError), (dict(n_epoch=0), ValueError)):
        with pytest.raises(error): unfreeze_at_once_study(learn, **(dict(lr=1e-3)|bad))
