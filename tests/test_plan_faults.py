"A plan that fails, is stopped or goes on leaves the learner its callbacks, and the source of its rates"
import math, random
from contextlib import contextmanager
from functools import partial

import numpy as np, pytest, torch
from fastai.basics import Callback, CancelEpochException, CancelFitException, CancelTrainException, CancelValidException, L, Learner, SkipToEpoch, mae
import fastai.callback.schedule # gives learners their fits
from fastai.callback.progress import CSVLogger, ProgressCallback, ShowGraphCallback
from fastai.callback.tracker import EarlyStoppingCallback, ReduceLROnPlateau, SaveModelCallback, TerminateOnNaNCallback
from fastai.callback.training import GradientClip

from learners import Notes, deep, quiet
from state import changes, state
from lrtools.compare import compare
from lrtools.fit_plan import adding_cbs, fit_plan
from lrtools.history import LRHistory
from lrtools.plan import Phase, Plan
from lrtools.recording import Recording, record
from lrtools.schedule import constant, one_cycle, sgdr
from lrtools.snapshot import preserved

small = partial(deep, n_groups=3)
PLAN = Plan([Phase(one_cycle(7.3e-3), 1, freeze_to=-1, clip=.37), Phase(one_cycle(slice(1.1e-5, 2.7e-3)), 2, freeze_to=0, clip=.9)])

class Needs(Callback):
    def __init__(self, path): self.path_given = path
class NoFile(Callback):
    def __init__(self): open('/nowhere/at/all')
class Raises(Callback):
    "At the `at`-th visit of `event`"
    def __init__(self, event, error, at=1):
        self.count = 0
        def visit():
            self.count += 1
            if self.count==at: raise error
        setattr(self, event, visit)

def on(learn):
    "What a learner has of callbacks, and what sets its rates"
    named = {k:id(v) for k,v in vars(learn).items() if isinstance(v, Callback)}
    return [id(cb) for cb in learn.cbs], named, [cb.learn is learn for cb in learn.cbs], learn.logger, '_do_fit' in vars(learn)

def next_rates(learn):
    "Rates of a fit of fastai's own"
    h = record(learn)
    quiet(learn, 1, .1)
    return h[-1].lrs

# ---------------------------------------------------------------- D5: a failure leaves nothing of the plan

NOT_MADE = dict(wants_arguments=([Needs], TypeError, 'class Needs'), fails_in_init=([NoFile], FileNotFoundError, 'nowhere'), no_callback=([SaveModelCallback(), 3], TypeError, 'holds 3'), name=('SaveModelCallback', TypeError, 'SaveModel'),
                after_a_good_one=([GradientClip(1.), Needs], TypeError, 'Needs'), other_class=([dict], TypeError, 'dict'), learner=(L(Learner), TypeError, 'Learner'))

@pytest.mark.parametrize('name', NOT_MADE)
def test_callbacks_that_cannot_be_made_change_nothing(name, tmp_path):
    cbs,error,words = NOT_MADE[name]
    learn = small(tmp_path)
    before = state(learn)
    with pytest.raises(error, match=words) as e: fit_plan(learn, PLAN, cbs=cbs)
    assert not changes(before, state(learn)) and len(str(e.value))<=300
    assert (next_rates(learn)==.1).all()

STOPS = dict(error=RuntimeError('own'), ctrl_c=KeyboardInterrupt(), exit=SystemExit(3), cancel=CancelFitException())

@pytest.mark.parametrize('stop', STOPS)
@pytest.mark.parametrize('event,at', [('before_fit', 1), ('before_fit', 2), ('before_epoch', 2), ('before_train', 1), ('after_pred', 9), ('before_validate', 2), ('after_epoch', 1), ('after_fit', 1), ('after_fit', 2)])
def test_a_callback_that_fails_leaves_no_trace_of_the_plan(event, at, stop, tmp_path, capsys):
    learn = small(tmp_path, cbs=[GradientClip(3.3), Notes()])
    record(learn)
    before = on(learn)
    bad = Raises(event, STOPS[stop], at)
    cbs = [EarlyStoppingCallback(patience=99), *([CSVLogger()] if stop!='cancel' else []), bad, Needs('x')] # a logger of fastai fails by itself when a fit is cancelled before it began
    if stop=='cancel' and event!='after_fit': fit_plan(learn, PLAN, cbs=cbs)
    else:
        with pytest.raises(type(STOPS[stop])): fit_plan(learn, PLAN, cbs=cbs)
    assert on(learn)==before and bad.learn is None
    if stop=='ctrl_c': assert capsys.readouterr().out.count('Interrupted')==1
    learn.unfreeze()
    assert (next_rates(learn)==.1).all()

def test_a_failing_phase_leaves_no_trace_of_the_plan(tmp_path, monkeypatch):
    import lrtools.fit_plan as mod
    learn = small(tmp_path)
    before = on(learn)
    def broken(*a, **kw): raise RuntimeError('cannot freeze')
    calls = []
    def second(*a, **kw): calls.append(1); return broken() if len(calls)==2 else None
    monkeypatch.setattr(mod, 'freeze_to', second)
    with pytest.raises(RuntimeError, match='cannot freeze'), learn.no_logging(): fit_plan(learn, PLAN)
    monkeypatch.undo()
    assert on(learn)==before and len(learn.lr_history)==1
    learn.opt_func,good = broken,learn.opt_func
    with pytest.raises(RuntimeError, match='cannot freeze'), learn.no_logging(): fit_plan(learn, Plan([Phase(constant(1e-3), 1), Phase(constant(1e-3), 1, reset_opt=True)]))
    assert on(learn)==before and learn.opt is not None
    learn.opt_func = good
    assert (next_rates(learn)==.1).all()

def test_a_plan_within_a_fit_is_refused(tmp_path):
    learn = small(tmp_path)
    class Inner(Callback):
        def before_epoch(self): fit_plan(self.learn, PLAN)
    before = on(learn)
    for outer in (lambda: fit_plan(learn, PLAN, cbs=Inner()), lambda: learn.fit(1, cbs=Inner())):
        with pytest.raises(ValueError, match='being fitted'), learn.no_bar(), learn.no_logging(): outer()
    learn.remove_cbs([cb for cb in learn.cbs if isinstance(cb, Inner)])
    assert [type(cb) for cb in learn.cbs if not isinstance(cb, ProgressCallback)]==[type(cb) for cb in small(tmp_path).cbs if not isinstance(cb, ProgressCallback)] and len(before[0])==len(learn.cbs)

def test_callbacks_of_the_same_name_come_back(tmp_path):
    "A phase that clips, and `cbs` of a class that the learner has, take away neither the learner's own callback nor its name"
    clip,again,stop = GradientClip(3.3),Notes(),TerminateOnNaNCallback()
    learn = small(tmp_path, cbs=[clip, again, stop])
    before = on(learn)
    with learn.no_logging(): fit_plan(learn, PLAN, cbs=[TerminateOnNaNCallback, again, again, GradientClip(.2)])
    assert on(learn)==before and learn.gradient_clip is clip and len(again.notes['losses'])==15

def test_what_callbacks_take_and_bring_during_a_good_plan_stays(tmp_path):
    class Swap(Callback):
        def after_fit(self):
            self.learn.remove_cb(TerminateOnNaNCallback)
            if not hasattr(self.learn, 'needs'): self.learn.add_cb(Needs(1))
    learn = small(tmp_path, cbs=[TerminateOnNaNCallback()])
    with learn.no_bar(), learn.no_logging(): fit_plan(learn, PLAN, cbs=Swap)
    assert {type(cb).__name__ for cb in learn.cbs}>={'Needs'} and not hasattr(learn, 'terminate_on_na_n') and not any(isinstance(cb, (TerminateOnNaNCallback, Swap, Recording)) for cb in learn.cbs)

def test_adding_callbacks_is_undone_when_one_of_them_cannot_be_added(tmp_path):
    class NoName(Callback):
        @property
        def name(self): return 'x' # a property of learners, which cannot be set
    learn = small(tmp_path)
    before = on(learn)
    with pytest.raises(AttributeError):
        with adding_cbs(learn, [Needs(1), NoName()]): raise AssertionError('not here')
    assert on(learn)==before

@pytest.mark.parametrize('run', ['fit_rates','compare'])
def test_a_callback_that_fails_in_short_trainings_is_gone_too(run, tmp_path):
    from lrtools.compare import compare
    from lrtools.range_test import fit_rates
    from lrtools.snapshot import preserved
    learn = small(tmp_path, cbs=[Raises('before_batch', RuntimeError('own'), 3)])
    before = on(learn)
    if run=='compare':
        assert all('own' in r.error for r in compare(learn, {'a': Plan([Phase(constant(1e-3), 1)])}, seeds=(0,), progress=False))
    else:
        with pytest.raises(RuntimeError, match='own'), preserved(learn): fit_rates(learn, np.full((9, 3), 1e-3))
    assert on(learn)==before

# ---------------------------------------------------------------- the line that is printed can be run

@pytest.mark.parametrize('event,at,start', [('before_fit', 1, '(0, 0)'), ('before_train', 1, '(0, 0)'), ('after_epoch', 1, '(1, 0)'), ('after_fit', 1, '(1, 0)'), ('before_fit', 2, '(1, 0)'), ('before_epoch', 3, '(1, 1)'), ('after_fit', 2, None)])
def test_an_interrupt_advises_what_can_be_run(event, at, start, tmp_path, capsys):
    learn = small(tmp_path)
    quiet(learn)
    record(learn)
    bad = Raises(event, KeyboardInterrupt(), at)
    bad.order = 2000
    with learn.no_bar(), learn.no_logging():
        quiet(learn, 3)
        with pytest.raises(KeyboardInterrupt): fit_plan(learn, PLAN, cbs=bad)
        said = capsys.readouterr().out
        assert (f'start={start})' in said) if start else 'all epochs of the plan have been done' in said and 'start=' not in said
        if start: eval(said[said.index('fit_plan('):].strip(), dict(fit_plan=fit_plan, learn=learn, plan=PLAN))

def test_an_interrupt_while_freezing_tells_of_this_plan_and_not_of_an_earlier_fit(tmp_path, capsys, monkeypatch):
    import lrtools.fit_plan as mod
    learn = small(tmp_path)
    record(learn)
    quiet(learn, 3)
    monkeypatch.setattr(mod, 'freeze_to', lambda *a: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt): fit_plan(learn, PLAN)
    assert 'phase 0, epoch 0' in capsys.readouterr().out
    empty = small(tmp_path)
    with pytest.raises(KeyboardInterrupt): fit_plan(empty, PLAN)
    assert 'phase 0, epoch 0' in capsys.readouterr().out

def test_a_fit_that_a_callback_refuses_ends_the_plan(tmp_path):
    "No batch was trained, so there is no record of it: the record of an earlier fit is not taken for it"
    learn = small(tmp_path)
    with learn.no_bar(), learn.no_logging(): assert len(fit_plan(learn, PLAN, cbs=Raises('before_fit', CancelFitException())))==0

# ---------------------------------------------------------------- B9: going on in the middle of a phase

class Epochs(Callback):
    "A callback that reads what each epoch left in the recorder"
    order = 55
    def __init__(self): self.seen = []
    def before_epoch(self): self.seen.append(('before', self.epoch))
    def after_epoch(self): self.seen.append((self.epoch, self.n_epoch, round(float(self.pct_train), 6), self.recorder.values[-1][1]))

TRACKERS = dict(early=lambda: EarlyStoppingCallback(patience=9), save=SaveModelCallback, each=lambda: SaveModelCallback(every_epoch=True, fname='m'), plateau=ReduceLROnPlateau, graph=ShowGraphCallback, csv=CSVLogger, own=Epochs,
                every=lambda: [EarlyStoppingCallback(patience=9), SaveModelCallback(with_opt=True), ReduceLROnPlateau(), CSVLogger(), Epochs()])

@pytest.mark.parametrize('standing', [False, True])
@pytest.mark.parametrize('name', TRACKERS)
def test_going_on_within_a_phase_with_trackers(name, standing, tmp_path):
    learn,cbs = small(tmp_path),L(TRACKERS[name]())
    if standing: learn.add_cbs(cbs)
    before = on(learn)
    plan = Plan([Phase(one_cycle(slice(1.3e-5, 3.1e-3)), 4), Phase(sgdr(7e-4, 1), 1)])
    h = fit_plan(learn, plan, cbs=None if standing else cbs, start=(0, 3))
    assert np.array_equal(h.lrs, plan.rates(5, 3)[15:]) and on(learn)==before
    assert (h[0].start_epoch, h[0].n_epoch, len(h[0].epochs), h[0].epochs[0]['epoch'])==(3, 4, 1, 3) and h[0]['step'].tolist()==[*range(15, 20)]
    for cb in cbs:
        if isinstance(cb, Epochs): assert [s[0] for s in cb.seen]==['before', 3, 'before', 0] and cb.seen[1][1:3]==(4, 1.)
    if name=='each': assert sorted(p.name for p in (tmp_path/'models').iterdir())==['m_0.pth','m_3.pth']

def test_going_on_tells_callbacks_of_no_epoch_that_is_left_out(tmp_path):
    "What each callback is told is the tail of what it was told of the whole"
    told = lambda start: [fit_plan(l, Plan([Phase(one_cycle(1e-3), 5)]), cbs=cb, start=start) and cb.seen for l,cb in [(small(tmp_path), Epochs())]][0]
    def events(seen): return [s if s[0]=='before' else s[:3] for s in seen]
    whole = events(told((0,0)))
    for e in range(1, 5): assert events(told((0,e)))==whole[2*e:]

def test_a_learner_with_its_own_loop_goes_on_by_start_epoch(tmp_path):
    class Own(Learner):
        def _do_fit(self):
            self.looped = True
            super()._do_fit()
    learn = small(tmp_path)
    learn.__class__ = Own
    with learn.no_bar(), learn.no_logging(): h = fit_plan(learn, Plan([Phase(one_cycle(1e-3), 3)]), start=(0, 2))
    assert learn.looped and len(h.lrs)==5 and h[0].start_epoch==2 and not any(isinstance(cb, SkipToEpoch) for cb in learn.cbs)

def test_resumed_equals_uninterrupted_to_the_bit(tmp_path):
    "With the random numbers of the moment, weights, optimizer and validation losses are those of the whole"
    plan = Plan([Phase(one_cycle(slice(1.3e-5, 3.1e-3)), 4, clip=.9)])
    class Keep(Callback):
        "Random numbers at the beginning of an epoch"
        order = 2000
        def before_epoch(self):
            if self.epoch==2: self.kept = random.getstate(),np.random.get_state(),torch.get_rng_state(),self.dls.rng.getstate()
    def seeded():
        random.seed(1); np.random.seed(1); torch.manual_seed(1)
        return small(tmp_path)
    def fit(learn, **kw):
        with learn.no_bar(), learn.no_logging(): fit_plan(learn, plan, **kw)
    whole,part,keep = seeded(),seeded(),Keep()
    for learn in (whole, part): learn.dls.rng.seed(7)
    random.seed(1); np.random.seed(1); torch.manual_seed(1)
    fit(whole, cbs=[keep, TerminateOnNaNCallback()])
    random.seed(1); np.random.seed(1); torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt): fit(part, cbs=[Raises('before_epoch', KeyboardInterrupt(), 3), TerminateOnNaNCallback()])
    python,numpy,of_torch,of_loader = keep.kept
    random.setstate(python); np.random.set_state(numpy); torch.set_rng_state(of_torch); part.dls.rng.setstate(of_loader)
    fit(part, cbs=[EarlyStoppingCallback(patience=9)], start=(0, 2))
    assert all(torch.equal(a, b) for a,b in zip(whole.model.state_dict().values(), part.model.state_dict().values()))
    assert [e['valid_loss'] for e in part.lr_history[-1].epochs]==[e['valid_loss'] for e in whole.lr_history[0].epochs[2:]]

# ---------------------------------------------------------------- nothing is said of going on where the learner is put back

@contextmanager
def silent(learn):
    with learn.no_bar(), learn.no_logging(): yield

INNER = Plan([Phase(constant(1.3e-3), 2)])
def stopped_plan(learn, *_):
    with silent(learn): fit_plan(learn, INNER, cbs=[Raises('before_epoch', KeyboardInterrupt(), 2)])
def in_compare(learn): compare(learn, {'own': stopped_plan}, seeds=(0,), progress=False)
def in_partial(learn): compare(learn, {'own': partial(stopped_plan)}, seeds=(0,), progress=False)
def in_preserved(learn):
    with preserved(learn): stopped_plan(learn)
def in_two(learn):
    with preserved(learn):
        with preserved(learn): pass
        stopped_plan(learn)
def in_decorated(learn): preserved(learn)(stopped_plan)(learn)

@pytest.mark.parametrize('way', [in_compare, in_partial, in_preserved, in_two, in_decorated], ids=lambda f: f.__name__)
def test_ctrl_c_promises_no_going_on_inside_what_puts_the_learner_back(way, tmp_path, capsys):
    learn = small(tmp_path)
    before = state(learn)
    with pytest.raises(KeyboardInterrupt): way(learn)
    assert not changes(before, state(learn)) and 'To go on' not in capsys.readouterr().out
    with silent(learn), pytest.raises(KeyboardInterrupt): stopped_plan(learn)
    assert 'To go on: fit_plan(learn, plan, start=(0, 1))' in capsys.readouterr().out

def test_another_learner_is_no_reason_for_silence_on_ctrl_c(tmp_path, capsys):
    one,other = small(tmp_path),small(tmp_path)
    with preserved(other), silent(one), pytest.raises(KeyboardInterrupt): stopped_plan(one)
    assert 'To go on' in capsys.readouterr().out

# ---------------------------------------------------------------- what is recorded of an epoch that was cancelled

class Cancels(Callback):
    "Raises at `event` in epoch 1, in the second batch of events of batches"
    order = 70 # after the recorder, before the record
    def __init__(self, event, error, training=None):
        self.event,self.error,self.of = event,error,training
        setattr(self, event, self.visit)
    def visit(self):
        if self.epoch==1 and self.of in (None, self.training) and not (self.event.endswith('batch') and self.iter<1): raise self.error()

ALL = {'epoch', 'train_loss', 'valid_loss', 'mae', 'time'}
VALID,TRAIN = {'valid_loss', 'mae'},{'train_loss'}
CANCELLED = dict(train=(('after_batch', CancelTrainException, True), TRAIN), before_train=(('before_train', CancelTrainException), TRAIN), validation=(('after_batch', CancelValidException, False), VALID),
                 before_validate=(('before_validate', CancelValidException), VALID), epoch=(('after_batch', CancelEpochException, True), TRAIN|VALID), epoch_later=(('after_batch', CancelEpochException, False), VALID),
                 after_train=(('after_train', CancelEpochException), VALID), after_validate=(('after_validate', CancelEpochException), set()), before_epoch=(('before_epoch', CancelEpochException), TRAIN|VALID))

@pytest.mark.parametrize('add_time', [True, False])
@pytest.mark.parametrize('train_metrics', [False, True])
@pytest.mark.parametrize('kind', CANCELLED)
def test_a_cancelled_epoch_is_recorded_under_the_right_names(kind, train_metrics, add_time, tmp_path):
    "Names go with their values as fastai's recorder has them in its parts, and only those with values"
    args,lacks = CANCELLED[kind]
    learn = small(tmp_path)
    learn.metrics = L(mae)
    learn.recorder.train_metrics,learn.recorder.add_time = train_metrics,add_time
    seen = {}
    class Sees(Callback):
        order,run_valid = 60,True
        def after_train(self): seen.setdefault(self.epoch, {})['train_loss'] = float(self.smooth_loss)
        def after_validate(self): seen.setdefault(self.epoch, {})['valid_loss'] = math.nan if self.recorder.loss.value is None else float(self.recorder.loss.value)
    record(learn)
    with silent(learn): learn.fit(3, 1e-3, cbs=[Cancels(*args), Sees()])
    named = lambda k: {f'train_{k}', f'valid_{k}'} if train_metrics and k=='mae' else {k}
    each = lambda ks: {n for k in ks for n in named(k)}
    for i,e in enumerate(learn.lr_history[0].epochs):
        gone = each(lacks) if i==1 else set()
        if i==1 and train_metrics: gone = (gone-each({'mae'}))|({'train_mae'} if 'train_loss' in lacks else set())|({'valid_mae'} if 'mae' in lacks else set())
        assert set(e)==each(ALL)-gone-(set() if add_time else {'time'})
        assert e['epoch']==i and (not add_time or ':' in e['time'])
        for k in {'train_loss', 'valid_loss'} & set(e): assert e[k]==pytest.approx(seen[i][k], rel=1e-6), k
        assert all(isinstance(e[k], float) for k in set(e)-{'time'})
    assert LRHistory.from_json(learn.lr_history.to_json())[0].epochs==learn.lr_history[0].epochs
