"A fit that is watched: the same numbers, few pictures, one place for them"
import numpy as np, pytest
from fastai.basics import Callback, CancelFitException

import fastai.callback.schedule
import lrtools.live
from learners import plain
from lrtools.fit_plan import fit_plan
from lrtools.live import LiveSchedule
from lrtools.plan import Phase, Plan
from lrtools.recording import Recording, record
from lrtools.schedule import one_cycle

@pytest.fixture
def screen(monkeypatch):
    "What a notebook would show: (data, display_id, update)"
    import IPython.display
    shown = []
    monkeypatch.setattr(IPython.display, 'display', lambda data, **kw: shown.append((data, kw['display_id'], kw['update'])))
    monkeypatch.setattr(lrtools.live, '_kernel', lambda: True)
    monkeypatch.setattr(lrtools.live, '_running', lambda: ('cell', 1))
    return shown

def quiet(learn, f):
    with learn.no_bar(), learn.no_logging(): f()

def every_step(monkeypatch): monkeypatch.setattr(lrtools.live, '_SHARE', 0)

def test_one_picture_that_moves(tmp_path, screen, monkeypatch):
    every_step(monkeypatch)
    learn = plain(tmp_path)
    quiet(learn, lambda: learn.fit_one_cycle(2, slice(1e-4, 1e-2), cbs=LiveSchedule(1e-9)))
    assert len(screen)==11 and len({i for _,i,_ in screen})==1 and [u for *_,u in screen]==[False]+[True]*10 # ten steps, and the end
    assert len({d['image/png'] for d,*_ in screen})>=10 and 'after 10 of 10 steps' in screen[-1][0]['text/plain']
    assert learn.lr_history[0].lrs[:,-1].tolist()==learn.recorder.lrs and not any(isinstance(cb, Recording) for cb in learn.cbs)

def test_a_plan_of_phases_has_one_picture(tmp_path, screen, monkeypatch):
    every_step(monkeypatch)
    learn,plan = plain(tmp_path),Plan([Phase(one_cycle(1e-3), 1, freeze_to=-1, name='head'), Phase(one_cycle(slice(1e-5, 1e-3)), 2, freeze_to=0)])
    quiet(learn, lambda: fit_plan(learn, plan, cbs=LiveSchedule(1e-9)))
    assert len({i for _,i,_ in screen})==1 and np.array_equal(learn.lr_history.lrs, plan.rates(5, 2)) and len(learn.lr_history)==2
    monkeypatch.setattr(lrtools.live, '_running', lambda: ('cell', 2))
    live = LiveSchedule(1e-9)
    learn.add_cb(live); record(learn)
    quiet(learn, lambda: learn.fit(1)); n = len(screen)
    monkeypatch.setattr(lrtools.live, '_running', lambda: ('cell', 3))
    quiet(learn, lambda: learn.fit(1))
    assert screen[n][1]!=screen[n-1][1] and screen[n][2] is False and len(learn.lr_history)==4 # recorded once each

@pytest.mark.parametrize('recorded', [False, True])
def test_the_last_picture_is_of_the_end(recorded, tmp_path, screen, monkeypatch):
    seen,picture = [],LiveSchedule.picture
    def spy(self, end=False):
        fig = picture(self, end)
        said = {t.get_text() for ax in fig.axes for t in ax.texts}
        seen.append((end, self._fit.stop, len(self._fit), 'was interrupted' in said))
        return fig
    monkeypatch.setattr(LiveSchedule, 'picture', spy)
    learn,plan = plain(tmp_path),Plan([Phase(one_cycle(1e-3), 1), Phase(one_cycle(1e-3), 2)])
    if recorded: record(learn)
    quiet(learn, lambda: fit_plan(learn, plan, cbs=LiveSchedule(1000.)))
    assert seen==[(False, 'interrupted', 1, False), (True, 'end', 5, False), (False, 'interrupted', 1, False), (True, 'end', 10, False)] # while it runs it is not said to be interrupted
    class Stop(Callback):
        def after_batch(self):
            if self.epoch==1: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): quiet(learn, lambda: fit_plan(learn, plan, cbs=[Stop(), LiveSchedule(1000.)]))
    assert seen[-1]==(True, 'interrupted', 6, True) and 'after 6 of 10 steps' in screen[-1][0]['text/plain']
    if not recorded: quiet(learn, lambda: learn.fit(1, cbs=LiveSchedule(1000.))); assert seen[-1]==(True, 'end', 5, True) # the one before was

def test_pictures_are_few(tmp_path, screen):
    learn = plain(tmp_path)
    quiet(learn, lambda: learn.fit(3, cbs=LiveSchedule(1000.)))
    assert len(screen)==2 # the first step and the end

def test_a_script_only_records(tmp_path, monkeypatch):
    monkeypatch.setattr(LiveSchedule, 'picture', lambda *a: pytest.fail('drawn'))
    learn = plain(tmp_path)
    quiet(learn, lambda: learn.fit(1, cbs=LiveSchedule()))
    assert len(learn.lr_history[0])==5

def test_interrupted_and_cancelled(tmp_path, screen):
    learn,seen = plain(tmp_path),[]
    class Stop(Callback):
        run_valid = False
        def after_batch(self):
            seen.append(0)
            if len(seen)==3: raise KeyboardInterrupt
            if len(seen)==6: raise CancelFitException
    with pytest.raises(KeyboardInterrupt): quiet(learn, lambda: learn.fit(2, cbs=[Stop(), LiveSchedule()]))
    quiet(learn, lambda: learn.fit(2, cbs=[Stop(), LiveSchedule()]))
    assert [(f.stop, len(f)) for f in learn.lr_history]==[('interrupted', 3), ('cancelled', 3)]

@pytest.mark.parametrize('bad', [0, -1, float('nan'), 'often'])
def test_refused(bad):
    with pytest.raises((ValueError, TypeError), match='every'): LiveSchedule(bad)

class Clock:
    "A clock that goes when it is told: `fit` seconds for a batch, and for a picture the next of `pictures`, (clock, processor)"
    def __init__(self, pictures): self.now,self.cpu,self.pictures = 0.,0.,list(pictures)
    def monotonic(self): return self.now
    def thread_time(self): return self.cpu
    def monotonic_ns(self): return int(1e9*self.now)
    def draw(self):
        wall,cpu = self.pictures.pop(0) if len(self.pictures)>1 else self.pictures[0]
        self.now,self.cpu = self.now+wall,self.cpu+cpu

@pytest.mark.parametrize('pictures', [[(1.08, .9), (.1, .05)], [(1.08, .06), (.1, .05)], [(.4, .3)], [(30., .05), (.05, .04)], [(.1, .05), (5., .06), (.1, .05)]], ids=['cold','crowded','slow','stalled','one_stall'])
@pytest.mark.parametrize('batch', [.05, .3])
def test_a_new_picture_comes_every_two_seconds_whatever_one_picture_took(pictures, batch, tmp_path, screen, monkeypatch):
    clock,at,gaps = Clock(pictures),[],[]
    monkeypatch.setattr(lrtools.live, 'time', clock)
    def picture(self, end=False):
        at.append(clock.now); clock.draw()
        from matplotlib.figure import Figure
        return Figure()
    monkeypatch.setattr(LiveSchedule, 'picture', picture)
    class Batch(Callback):
        order,run_valid = 0,False
        def after_batch(self): clock.now += batch
    learn = plain(tmp_path)
    quiet(learn, lambda: learn.fit(12, cbs=[Batch(), LiveSchedule(.5)]))
    took = [pictures[min(i, len(pictures)-1)][0] for i in range(len(at))]
    for a,b,spent in zip(at, at[1:-1], took):
        assert .5-1e-9<=b-a<=max(2., spent)+batch+1e-9
    cheap = min(c for _,c in pictures)
    assert b-a<=max(.5, min(2., 20*cheap), took[-1])+batch+1e-9 # by what the cheapest cost, however long it lasted

def test_pictures_are_as_rare_as_one_asks(tmp_path, screen, monkeypatch):
    clock,at = Clock([(.1, .05)]),[]
    monkeypatch.setattr(lrtools.live, 'time', clock)
    monkeypatch.setattr(LiveSchedule, 'picture', lambda self, end=False: (at.append(clock.now), clock.draw(), __import__('matplotlib.figure').figure.Figure())[-1])
    class Batch(Callback):
        run_valid = False
        def after_batch(self): clock.now += .1
    learn = plain(tmp_path)
    quiet(learn, lambda: learn.fit(40, cbs=[Batch(), LiveSchedule(7.)]))
    assert len(at)>=3 and all(7<=b-a<7.3 for a,b in zip(at, at[1:-1]))
