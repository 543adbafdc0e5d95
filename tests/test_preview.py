"The schedule preview without a browser: what is dragged, slid, typed and pressed, and the plan that comes of it"
import base64, gc, math, random, re, sys, warnings, weakref
from functools import partial
from html import escape, unescape
from io import BytesIO

import numpy as np, pytest
from PIL import Image

from front import Front, answer, click, fresh, pick, send
from learners import CONFIGS, deep, quiet
from names import DRAWN
from state import changes, state
from lrtools import box
from lrtools.continuation import jump
from lrtools.curve import GroupCurves, LRCurve, Sweep
from lrtools.fit_plan import fit_plan
from lrtools.history import LRHistory
from lrtools.plan import Phase, Plan, fine_tune_plan, gradual_unfreeze_plan, lesson2_plan
from lrtools.preview import SchedulePreview, _get, _kinds, _leaves, _other, _put, _top
from lrtools.schedule import _KINDS, clip, constant, cyclical, flat_cos, inverse_sqrt, join, ladder, one_cycle, poly, sampled, scale, sgdr, slanted_triangular, step, warmup_cos, warmup_stable_decay
from lrtools.suggest import zone_shares, zones
from lrtools.views import few_digits

TWO = Plan([Phase(one_cycle(slice(1e-5, 1e-2), div=5), 2, freeze_to=-1, name='head'), Phase(flat_cos(slice(1e-4, 1e-3)), 3, freeze_to=0)])

def image(png): return np.asarray(Image.open(BytesIO(png)).convert('RGBA'))
def text(w): return unescape(re.sub('<[^>]*>', ' ', w.value))
def knob(p, path, kind=None):
    "The control for `path` of the chosen phase"
    return next(w for q,_,w,_,_ in (*p._fixed, *p._knobs) if q==path and kind in (None, type(w).__name__))

def turn(p, path, v, name=None):
    "A hand brings the slider for `path`, or that which is called `name`, to the place of `v`"
    w,show = next((w,show) for q,_,w,show,_ in p._knobs if q==path and hasattr(w, 'step') and name in (None, w.description))
    send(w, value=show(v))

def run(code):
    "The plan that the lines of `code` hand to `fit_plan`"
    got = []
    exec(code, dict(Plan=Plan, Phase=Phase, learn='learn', fit_plan=lambda learn, plan: got.append(plan), ladder=ladder, **{k: getattr(sys.modules[f.__module__], k) for k,f in _KINDS.items()}))
    return got[0]

def agree(p):
    "Everything that the preview shows says the same as its plan"
    assert not p._error.value, text(p._error)
    assert run(p.code)==p.plan and few_digits(p.code) in text(p._code_box) and f'data-code="{escape(p.code, quote=True)}"' in p._code_box.value
    phase = p.plan[p.phase]
    assert p._tabs.value==p.phase and len(p._tabs.options)==len(p.plan) and p._kind.value==phase.sched.kind
    for path,_,w,show,read in (*p._fixed, *p._knobs): assert w.value==show(_get(phase, path)) or hasattr(w, 'step') and read(w.value, _get(phase, path))==_get(phase, path), (path, w.value)
    have = {q for q,*_ in p._knobs}
    for path,o,_,_ in _leaves(phase.sched):
        for k in o.args: assert (*path, k) in have or any(q[:len(path)+1]==(*path, k) for q in have) or o.args[k] is None or k in ('num_it','sched','scheds') or o.kind=='sampled', (path, k)
    assert p._undo.disabled==(not p._done) and p._redo.disabled==(not p._undone)
    # the lines are the numbers
    x0 = p._starts[-1]
    want = p.plan.drawn(p._n_iter, p._n)
    for line,gs in zip(p._parts['lines'], p._sets()):
        x,y = line.get_data()
        ok = np.isfinite(x)
        assert np.array_equal(x[ok], x0+np.concatenate([t for t,*_ in want])) and np.array_equal(y[ok], np.concatenate([r[:,gs[0]] for _,r,_ in want])) and (~ok).sum()==len(p.plan)
    # so are the dots: those of the chosen phase are filled
    n = sum(any(k in o.args for k in ('lr','lr_max')) for _,o,_,_ in _leaves(phase.sched))
    assert len(p._parts['dots'].get_xdata())==n
    a,b = x0+p.plan.starts[p.phase],x0+p.plan.starts[p.phase+1]
    assert all(a<=x<=b for x in p._parts['dots'].get_xdata())
    lo,hi = p._ax.get_ylim()
    y = p._data()[0][1]
    assert hi>=np.nanmax(y)

def dot(p, i=None, k=0):
    "Device pixels of dot `k` of phase `i`"
    d = [d for d in p._dots() if d[0]==(p.phase if i is None else i)][k]
    return tuple(p._ax.transData.transform((d[6], d[7])))
def place(p, epoch, lr): return tuple(p._ax.transData.transform((p._starts[-1]+epoch, lr)))

# ---------------------------------------------------------------- shown, and no more

GIVEN = dict(rate=one_cycle(3e-3), flat=constant(3e-4), high=one_cycle(7.6e-2), third=one_cycle(1e-3, pct_start=1/3), seven=one_cycle(1e-3, div=7, div_final=123.), mult=sgdr(1e-3, 2, 1, 1.3), slice=one_cycle(slice(1e-5, 3e-4)),
             tenth=one_cycle(slice(1.234e-3)), list=flat_cos([1.1e-5, 1.01e-4, 1.001e-3], pct_start=.7234), within=join([scale(one_cycle(3.3e-3, pct_start=.123), .17), clip(constant(4.4e-4), 1.2e-5, 3.4e-4)], [1, 2.7]),
             low=constant(1e-12), over=one_cycle(50., div=3e5), still=constant(0.), steps=cyclical(1.23e-5, 4.56e-3, step_size=33.3, num_it=300), long=sgdr(1e-3, 25, 1, 5.), ladder=ladder(1.3e-5, 2.7e-4, 1.9e-3),
             noise=one_cycle(slice(.010878819198710363/100, .010878819198710363)), stable=warmup_stable_decay(2.2e-3, pct_start=.0123, pct_decay=.777, lr_start=3.7e-6))

def some_schedule(rng):
    "A schedule with values that are on no grid"
    rate = lambda lo=-7, hi=1: 10**rng.uniform(lo, hi)
    top = rng.choice([rate(), slice(rate()), slice(rate(-8, -5), rate(-4, 0)), [rate() for _ in range(3)]])
    at = rng.uniform(.02, .45)
    return rng.choice([lambda: one_cycle(top, div=rng.uniform(1, 300), div_final=rate(0, 7), pct_start=at), lambda: flat_cos(top, pct_start=at), lambda: warmup_cos(top, pct_start=at, lr_start=rate(-9, -7)), lambda: sgdr(top, rng.randint(1, 30), 1, rng.uniform(.6, 6)),
                       lambda: slanted_triangular(top, cut_frac=at, ratio=rng.uniform(1, 90)), lambda: poly(top, power=rng.uniform(.2, 9)), lambda: inverse_sqrt(top, pct_start=at), lambda: step(top, rng.randint(1, 30), rng.uniform(.02, .98))])()

ALL_GIVEN = GIVEN|{f'seed {i}': some_schedule(random.Random(i)) for i in range(10)}

@pytest.mark.parametrize('name', ALL_GIVEN)
def test_a_plan_is_not_changed_by_being_shown_whatever_its_values(name):
    "Nothing that a page sends of itself is an act of a hand; what a hand then turns is changed, and nothing else"
    plan = Plan([Phase(ALL_GIVEN[name], 13), Phase(constant(1.7e-3), 1)])
    p = SchedulePreview(plan)
    answer(p); send(p._width, value='620'); answer(p)
    assert p.plan is plan and p._undo.disabled and not p._error.value; agree(p)
    for p.phase in (1, 0): answer(p)
    assert p.plan is plan and not p._done
    for path,_,w,*_ in list(p._knobs):
        if not hasattr(w, 'step'): continue
        before = p.plan
        w = next(v for q,_,v,*_ in p._knobs if q==path and v.description==w.description)
        send(w, value=w.value+1 if w.value<w.max else w.value-1)
        if p._error.value: p._error.value = ''; assert p.plan is before; continue # it does not fit the other arguments
        assert p.plan!=before and p.plan==Plan([_put(before[0], path, _get(p.plan[0], path)), before[1]]), path
        after = p.plan
        answer(p); assert p.plan is after
        click(p._undo); assert p.plan is before
    assert p.plan is plan and p._undo.disabled; agree(p)

def test_a_plan_set_in_python_is_not_changed_by_what_the_page_still_answers():
    p = SchedulePreview(one_cycle(3e-3))
    for sched in (one_cycle(4.4e-3, div=7.7), one_cycle(5.5e-7), one_cycle(6.6e-1, pct_start=.111)):
        old = [(w, w.value) for w in box._tree(p) if hasattr(w, 'step')]
        p.plan = plan = Plan([Phase(sched, 3)])
        answer(p); assert p.plan is plan
        assert all(w.comm is not None for w,_ in old) # the same controls: no row jumps from under the hand

# ---------------------------------------------------------------- gestures

def test_starts_as_it_is():
    p = SchedulePreview(TWO)
    f = Front(p)
    assert p.plan is TWO and p.phase==0 and not p._done and (p._n, p._n_iter)==(3, 100) and (f.pixels()==fresh(p)).all()
    assert '5 epochs of 100 batches, 500 steps' in text(p._told) and 'assumed' in text(p._told)
    agree(p)

@pytest.mark.parametrize('dpr', [1, 2])
def test_drag_up_and_aside(dpr):
    p,seen = SchedulePreview(TWO),[]
    f = Front(p, dpr)
    p.observe(lambda ch: seen.append(ch['new']), 'plan')
    f.swipe(dot(p), place(p, 1., 2e-3)) # sideways too
    o = p.plan[0].sched
    assert .9*2e-3<o.args['lr_max'].stop<1.1*2e-3 and abs(o.args['pct_start']-.5)<.02 and math.isclose(o.args['lr_max'].stop/o.args['lr_max'].start, 1e3, rel_tol=.06)
    assert (o.args['div'], p.plan[1], p.plan[0].n_epoch)==(5, TWO[1], 2) and len(seen)>1 and seen[-1]==p.plan and len(p._done)==1
    assert (f.pixels()==fresh(p)).all(); agree(p)
    before = o.args['pct_start']
    f.swipe(dot(p), np.array(dot(p))+(0, 40*dpr)) # straight up: the place stays
    assert p.plan[0].sched.args['pct_start']==before and p.plan[0].sched.args['lr_max'].stop>2.2e-3
    before = p.plan[0].sched.args['lr_max']
    f.swipe(dot(p), np.array(dot(p))+(60*dpr, 0))
    assert p.plan[0].sched.args['lr_max']==before and p.plan[0].sched.args['pct_start']>.52
    end = p.plan
    for n in (2, 1, 0): click(p._undo); assert len(p._done)==n; agree(p)
    assert p.plan==TWO and (f.pixels()==fresh(p)).all()
    for _ in range(3): click(p._redo)
    assert p.plan==end; agree(p)

def test_a_dot_of_another_phase_chooses_it():
    p = SchedulePreview(TWO)
    f = Front(p)
    f.swipe(dot(p, 1), place(p, 2+1.5, 1e-4))
    o = p.plan[1].sched
    assert p.phase==1 and abs(o.args['pct_start']-.5)<.02 and .9e-4<o.args['lr'].stop<1.1e-4 and p.plan[0]==TWO[0]
    agree(p); assert (f.pixels()==fresh(p)).all()
    f.press(*place(p, .2, 1e-6)); f.release(*place(p, .2, 1e-6)) # elsewhere: a phase is chosen, and no more
    assert p.phase==0 and len(p._done)==1; agree(p)

def test_escape_and_edges():
    p = SchedulePreview(TWO)
    f = Front(p)
    f.press(*dot(p)); f.move(*place(p, 1.2, 1e-4)); assert p.plan!=TWO
    f.key('kEscape'); assert p.plan==TWO and not p._done
    f.release(*place(p, 1.2, 1e-4)); assert p.plan==TWO; agree(p)
    f.press(*dot(p)); f.move(*place(p, 1., 1e-3)); f.key('ctrl+kz') # in a drag it takes the drag back
    assert p.plan==TWO and not p._done; f.release(0, 0)
    hi = p._ax.get_ylim()[1]
    f.swipe(dot(p), (5000, 5000)) # far outside: as far as the axes go
    o = p.plan[0].sched
    assert o.args['pct_start']==1 and o.args['lr_max'].stop<=hi*1.05; agree(p); assert (f.pixels()==fresh(p)).all()
    assert p._ax.get_ylim()[1]>hi # and there is room again
    p.plan = Plan([Phase(one_cycle(1e-3, three_phase=True), 1)])
    f.pump(); f.swipe(dot(p), place(p, .9, 1e-3)); assert p.plan[0].sched.args['pct_start']==.5; agree(p)
    p.plan = Plan([Phase(warmup_stable_decay(1e-3), 1)])
    f.pump(); f.swipe(dot(p), place(p, .95, 1e-3)); agree(p) # over .8 is refused; the drag stays where it can be
    assert .6<p.plan[0].sched.args['pct_start']<=.8

@pytest.mark.parametrize('kind', _kinds())
def test_every_kind_is_dragged(kind):
    sched = _other(kind, one_cycle(slice(1e-4, 1e-3)))
    p = SchedulePreview(sched, n_epoch=4)
    f = Front(p)
    agree(p)
    tops = [k for k in ('lr_max','lr') if k in sched.args]
    if not tops: return
    old = _top(sched.args[tops[0]])
    f.swipe(dot(p), np.array(dot(p))-(0, 30))
    new = p.plan[0].sched.args[tops[0]]
    assert _top(new)<.8*old and math.isclose(new.stop/new.start, 10, rel_tol=.06) and {k:v for k,v in p.plan[0].sched.args.items() if k!=tops[0]}=={k:v for k,v in sched.args.items() if k!=tops[0]}
    agree(p); assert (f.pixels()==fresh(p)).all()

def test_schedules_within_schedules():
    sched = join([scale(warmup_cos(1e-2), .1), clip(one_cycle(1e-3), 0., 5e-4)], [1, 3])
    p = SchedulePreview(sched, n_epoch=4)
    f = Front(p)
    agree(p)
    f.swipe(dot(p, 0, 0), np.array(dot(p, 0, 0))+(0, 25))
    assert p.plan[0].sched.args['scheds'][0].args['sched'].args['lr_max']>1.2e-2 and p.plan[0].sched.args['scheds'][1]==sched.args['scheds'][1]
    f.swipe(dot(p, 0, 1), place(p, 1+1.5, 5e-4))
    assert abs(p.plan[0].sched.args['scheds'][1].args['sched'].args['pct_start']-.5)<.02
    agree(p); assert (f.pixels()==fresh(p)).all()
    send(knob(p, ('sched','pcts')), value='[2, 2]'); assert p.plan[0].sched.args['pcts']==[2, 2]; agree(p)
    send(knob(p, ('sched','scheds',0,'by')), value='.5'); assert p.plan[0].sched.args['scheds'][0].args['by']==.5; agree(p)

def test_keys():
    p = SchedulePreview(TWO)
    f = Front(p)
    f.key('kArrowUp'); assert p.plan[0].sched.args['lr_max']==slice(1.1e-5, 1.1e-2)
    f.key('shift+kArrowDown'); assert p.plan[0].sched.args['lr_max']==slice(6.2e-6, 6.2e-3)
    f.key('kArrowRight'); assert p.plan[0].sched.args['pct_start']==.26
    f.key('shift+kArrowLeft'); assert p.plan[0].sched.args['pct_start']==.16
    agree(p); assert (f.pixels()==fresh(p)).all()
    while p._done: f.key('ctrl+kz')
    assert p.plan==TWO; agree(p)
    f.key('ctrl+ky'); assert p.plan!=TWO

def test_hover_tells_the_step():
    p = SchedulePreview(TWO)
    f = Front(p)
    f.move(*place(p, 2.505, 1e-6))
    assert re.match(r'Step 2(49|50|51): lr 1e-3 \(first group 1e-4\)', p._readout.value)
    f.move(*place(p, .5, 1e-6)); assert 'momentum 0.85' in p._readout.value
    f.move(*dot(p)); assert 'lr_max=slice(1e-5, 1e-2), pct_start=0.25' in unescape(p._readout.value)
    f.leave(); assert p._readout.value==p._hint

# ---------------------------------------------------------------- controls

def far(w):
    "Another value that the hand could give to the control `w`"
    if hasattr(w, 'options'): return w.options[(w.index+1)%len(w.options)]
    if isinstance(w.value, bool): return not w.value
    if isinstance(w.value, str): return None
    return w.value+2 if w.value+2<=w.max else w.value-2

MORE = dict(join=join([one_cycle(1e-3), constant(1e-4)]), scale=scale(one_cycle(slice(1e-5, 1e-3)), .5), clip=clip(one_cycle(1e-3), 1e-5, 1e-3), sampled=sampled([1e-3, 1e-4, 1e-5]),
            lists=one_cycle([1e-5, 1e-4, 1e-3]), by_steps=cyclical(1e-5, 1e-3, step_size=100, num_it=300), range=cyclical(1e-5, 1e-3, 2, num_it=300, mode='exp_range', gamma=.999), torch=one_cycle(1e-3, num_it=300),
            all_three=one_cycle(1e-3, three_phase=True), no_moms=one_cycle(1e-3, moms=None), zero=constant(0.), ladder=ladder(1e-5, 1e-4, 1e-3))

@pytest.mark.parametrize('name', [*_kinds(), *MORE])
def test_every_control(name):
    sched = MORE[name] if name in MORE else _other(name, one_cycle(1e-3))
    p = SchedulePreview(Phase(sched, 3))
    f = Front(p)
    agree(p)
    for path in dict.fromkeys(q for q,*_ in p._knobs):
        for w,show in [(w, show) for q,_,w,show,_ in p._knobs if q==path]:
            new = far(w)
            if new is None or w.description=='lowest': continue
            before = p.plan
            (pick if hasattr(w, 'options') else lambda w, v: send(w, value=v))(w, new)
            if p._error.value: assert p.plan==before and name in ('warmup_stable_decay','torch','clip','cyclical','range','by_steps'), text(p._error); p._error.value = ''; continue
            got = _get(p.plan[0], path)
            assert p.plan!=before and show(got)==new, (path, got, new)
            agree(p)
            click(p._undo); assert p.plan==before; agree(p)
    assert (f.pixels()==fresh(p)).all()

def test_what_is_typed_is_exact():
    p = SchedulePreview(one_cycle(1e-3))
    exact = lambda: knob(p, ('sched','lr_max'), 'Text')
    send(exact(), value='1.13e-6'); assert p.plan[0].sched.args['lr_max']==1.13e-6; agree(p)
    send(exact(), value='slice(1.5e-5, 1.234e-3)'); assert p.plan[0].sched.args['lr_max']==slice(1.5e-5, 1.234e-3); agree(p)
    turn(p, ('sched','lr_max'), slice(1e-4, 1.), 'lowest'); assert p.plan[0].sched.args['lr_max']==slice(1e-4, 1.234e-3); agree(p)
    send(exact(), value='[1e-5, 2e-5]'); assert 'for 2 parameter groups, the learner has 1' in text(p._error) and p.plan[0].sched.args['lr_max']==slice(1e-4, 1.234e-3); agree_after(p)
    for bad in ('fast', '-1', '[]', '0'): send(exact(), value=bad); assert p._error.value and p.plan[0].sched.args['lr_max']==slice(1e-4, 1.234e-3); agree_after(p)
    send(knob(p, ('sched','div'), 'Text'), value='17.5'); assert p.plan[0].sched.args['div']==17.5; agree(p)
    send(knob(p, ('sched','moms')), value='None'); assert p.plan[0].sched.args['moms'] is None; agree(p)
    send(knob(p, ('sched','moms')), value='.9, .8, .9'); assert p.plan[0].sched.args['moms']==[.9, .8, .9]; agree(p)
    send(knob(p, ('sched','moms')), value='.9, 1.8, .9'); assert 'moms=1.8' in text(p._error); agree_after(p)

def agree_after(p): p._error.value = ''; agree(p)

def test_turns_in_a_row_are_one_step():
    p = SchedulePreview(TWO)
    aside = partial(turn, p, ('sched','pct_start'))
    for v in (.3, .31, .32): aside(v)
    turn(p, ('sched','div'), 10.)
    assert len(p._done)==2
    click(p._undo); assert p.plan[0].sched.args['pct_start']==.32 and p.plan[0].sched.args['div']==5
    click(p._undo); assert p.plan==TWO; click(p._undo); assert p.plan==TWO
    p._turned = p._turned[0],-math.inf
    for v in (.3, .31): aside(v); p._turned = p._turned[0],-math.inf # with pauses
    assert len(p._done)==2

def test_a_turn_moves_artists():
    p = SchedulePreview(TWO)
    f = Front(p)
    drawn = []
    plot = p.plot
    p.plot = lambda fig: (drawn.append(1), plot(fig))[1]
    turn(p, ('sched','pct_start'), .4)
    for v in (1.1e-2, 1.3e-2): turn(p, ('sched','lr_max'), slice(1e-5, v))
    p.phase = 1
    assert not drawn and (f.pixels()==fresh(p)).all()
    send(p._epochs, value=5); assert drawn and (f.pixels()==fresh(p)).all() # another axis

def test_other_kinds():
    p = SchedulePreview(TWO)
    f = Front(p)
    for kind in _kinds():
        pick(p._kind, kind)
        assert p.plan[0].sched.kind==kind and p.plan[0].sched.for_groups(3)(np.linspace(0, 1, 50)).max()==pytest.approx(1e-2, rel=.3) and (p.plan[0].n_epoch, p.plan[0].freeze_to)==(2, -1)
        agree(p)
    assert (f.pixels()==fresh(p)).all()
    while p._done: click(p._undo)
    assert p.plan==TWO
    p.plan = Plan([Phase(sampled([1e-3, 1e-4]), 2)])
    assert p._kind.value=='sampled'; pick(p._kind, 'constant'); assert p.plan[0].sched==constant(1e-3); agree(p)

def test_phases():
    p = SchedulePreview(TWO)
    f = Front(p)
    add,remove,earlier,later = p._ops
    click(add); assert len(p.plan)==3 and p.phase==1 and p.plan[1].sched==TWO[0].sched and p.plan[1].freeze_to is None; agree(p)
    click(earlier); assert p.phase==0 and p.plan[1]==TWO[0]; agree(p); assert earlier.disabled
    click(later); click(later); assert p.phase==2 and later.disabled; agree(p)
    pick(p._tabs, 0); assert p.phase==0 and p._kind.value=='one_cycle'; agree(p)
    click(remove); click(remove); assert len(p.plan)==1 and p.phase==0 and remove.disabled; agree(p)
    with pytest.raises(ValueError, match='at least one phase'): p.remove()
    p.add(Phase(constant(1e-4), 1, name='more')); assert p.plan[1].name=='more' and p.phase==1; agree(p)
    with pytest.raises(TypeError, match='expected a Phase'): p.add(3)
    p.phase = 1
    p.plan = Plan([TWO[0]]); assert p.phase==0; agree(p) # the chosen one is gone
    while p._done: click(p._undo); agree(p)
    assert p.plan==TWO and (f.pixels()==fresh(p)).all()
    for _ in range(20): click(p._redo)
    assert p.plan==Plan([TWO[0]]); agree(p)

def test_what_a_phase_does():
    p = SchedulePreview(TWO)
    Front(p)
    pick(p._freeze, 1); assert p.plan[0].freeze_to==1; agree(p)
    pick(p._norm, 'eval'); send(p._keep, value=True); send(p._reset, value=True); send(p._wd, value='.1'); send(p._clip, value='1.'); send(p._name, value='a b'); agree(p)
    assert p.plan[0]==Phase(TWO[0].sched, 2, 1, .1, 'eval', True, 1., True, 'a b')
    pick(p._freeze, -1); assert 'give freeze_to' in text(p._error) and p.plan[0].freeze_to==1; agree_after(p)
    send(p._wd, value='[.1, .1]'); assert 'wd=[0.1, 0.1] for 2' in text(p._error); agree_after(p)
    pick(p._norm, 'as is'); pick(p._freeze, -1); assert p.plan[0].freeze_to is None; agree(p)
    send(p._epochs, value=4); assert p.plan[0].n_epoch==4; agree(p)

def test_schedules_that_count_steps_keep_pace():
    p = SchedulePreview(cyclical(1e-5, 1e-3, step_size=50, num_it=300), n_epoch=3)
    send(p._epochs, value=6); assert p.plan[0].sched.args['num_it']==600; agree(p)
    p.plan = Plan([Phase(cyclical(1e-5, 1e-3, step_size=50, num_it=250), 3)])
    assert 'has 300 steps, its schedule was made for num_it=250' in text(p._told)
    send(p._epochs, value=6); assert p.plan[0].sched.args['num_it']==250

def test_traits_refuse():
    p = SchedulePreview(TWO)
    for name,bad,error in (('plan', None, TypeError), ('plan', one_cycle(1e-3), TypeError), ('plan', Plan([Phase(one_cycle([1e-3, 1e-3]), 1)]), ValueError), ('plan', Plan([Phase(constant(1.), 1, freeze_to=4)]), ValueError),
                           ('phase', 2, ValueError), ('phase', -1, ValueError), ('phase', 1.5, TypeError), ('phase', None, TypeError), ('log', 1, TypeError), ('moms', None, TypeError)):
        was = getattr(p, name)
        with pytest.raises(error): setattr(p, name, bad)
        assert getattr(p, name)==was; agree(p)
    with pytest.raises(Exception): p.code = 'x'
    p.plan = Phase(constant(1e-3), 2); assert p.plan==Plan([Phase(constant(1e-3), 2)]); agree(p)

def test_bad_arguments(tmp_path):
    learn = deep(tmp_path)
    quiet(learn)
    before = state(learn)
    for bad,error,match in ((dict(plan=3), TypeError, 'expected a Plan'), (dict(plan=TWO, n_epoch=3), ValueError, 'a phase has its own'), (dict(plan=one_cycle(1e-3), n_epoch=1.5), ValueError, 'whole epochs'), (dict(plan=TWO, learn='learn'), TypeError, 'learn'),
                            (dict(plan=TWO, curve='c'), TypeError, 'curve='), (dict(plan=TWO, history=[]), TypeError, 'LRHistory'), (dict(plan=TWO, history=LRHistory()), ValueError, 'no steps'), (dict(plan=TWO, n_iter=0), ValueError, 'n_iter=0'),
                            (dict(plan=one_cycle([1e-3]*3), learn=learn), (ValueError, TypeError), '.'), (dict(plan=Plan([Phase(one_cycle([1e-3]*3), 1)]), learn=learn), ValueError, 'the learner has 4'),
                            (dict(plan=TWO, learn=learn, curve=curves()[0]), ValueError, 'curve has 3 parameter groups, the learner has 4')):
        with pytest.raises(error, match=match): SchedulePreview(**bad)
    assert not changes(before, state(learn))

# ---------------------------------------------------------------- learner, curve, history

def test_the_learner_is_only_looked_at(tmp_path):
    for name in ('no_optimizer','frozen','adamw'):
        learn = CONFIGS[name](tmp_path)
        before = state(learn)
        p = SchedulePreview(one_cycle(slice(1e-5, 1e-3)), learn)
        f = Front(p)
        assert (p._n, p._n_iter)==(2, len(learn.dls.train)) and 'assumed' not in text(p._told)
        f.swipe(dot(p), place(p, 1., 1e-4)); p._renew_still(); p.follow(); p.words()
        agree(p); assert not changes(before, state(learn))

def test_it_follows(tmp_path):
    from fastai.basics import L, params
    learn = deep(tmp_path)
    history = fit_quiet(learn, Phase(one_cycle(1e-3), 1))
    p = SchedulePreview(one_cycle(slice(1e-5, 1e-3)), learn, history=history)
    f = Front(p)
    version = p._version
    p.follow(); assert p._version==version
    fit_quiet(learn, p.plan)
    p.follow(); f.pump(); assert p._starts[-1]==1; agree(p) # the past is that of the plan
    p.reread(); f.pump() # when it is shown again
    assert p._starts[-1]==4 and p._parts['lines'][0].get_xdata()[0]==4 and (f.pixels()==fresh(p)).all(); agree(p)
    learn.dls.train.bs = 4
    p.follow(); assert p._n_iter==len(learn.dls.train) and f'{3*p._n_iter} steps' in text(p._told); agree(p)
    p.plan = Plan([Phase(one_cycle([1e-5, 1e-4, 1e-3, 1e-2]), 1)])
    learn.opt,learn.splitter = None,lambda m: L(m[:2], m[2:]).map(params)
    p.follow(); assert 'the learner has 2' in text(p._said)

def fit_quiet(learn, plan):
    with learn.no_bar(), learn.no_logging(): return fit_plan(learn, plan)

def test_what_it_shows_is_what_trains(tmp_path):
    learn = deep(tmp_path, 3)
    p = SchedulePreview(TWO, learn)
    f = Front(p)
    f.swipe(dot(p), place(p, 1.3, 3e-3)); turn(p, ('sched','div'), 12.)
    p.add(Phase(sgdr(1e-3, 2, 1, 1), 2, freeze_to=1))
    history = fit_quiet(learn, p.plan)
    x,y = p._data()[0][:2]
    assert np.array_equal(history.lrs, y[np.isfinite(x)]) and [list(f.trains) for f in history]==p.plan.trains(3).tolist()

def curves():
    "A curve of three groups with a clear edge zone, and one for each group"
    lrs = np.geomspace(1e-5, 1., 80)
    def loss(x): return 2-1.5/(1+np.exp(-4*(np.log10(x)+2.3)))+8*np.clip(np.log10(x)+.6, 0, None)**2+.004*np.sin(37*np.log10(x))
    ratios = np.array([.01, .1, 1.])
    return one_curve(lrs, ratios, loss, 2),[one_curve(lrs, np.ones(3), lambda x, k=k: loss(x*k), g) for g,k in enumerate((.1, 1., 3.))]

def one_curve(lrs, ratios, loss, group):
    own = lrs[:,None]*ratios
    return LRCurve([Sweep(own, loss(own[:,group]))], len(lrs), own[0].tolist(), own[-1].tolist(), stop_div=None, swept=(group,))

def test_the_edge_zone_is_shaded_and_counted():
    curve,_ = curves()
    lo,hi = zones(curve)['edge']
    plan = Plan([Phase(one_cycle(slice(hi/300, hi*1.5)), 3), Phase(constant(hi*.9), 1), Phase(constant(hi*.9), 1, freeze_to=3)]) # the last trains nothing
    p = SchedulePreview(plan, curve=curve, n_iter=50)
    f = Front(p)
    rates = plan.rates(50, 3)[:200,2]
    want = zone_shares(curve, rates)
    assert p.shares==[pytest.approx(want, abs=1e-12)] and want['edge']==((rates>lo)&(rates<=hi)).mean() and .2<want['edge']<.8
    assert f"{want['edge']:.0%} of the steps are in the edge zone" in text(p._told) and f"{sum(want.get(k, 0) for k in ('past the minimum','diverging','above the test')):.0%} are above it" in text(p._told)
    pixels,x = f.pixels()[...,:3].astype(int),int(place(p, 3.9, 1)[0]) # an empty place of the axes
    row = lambda lr: int(p.fig.bbox.height-place(p, 0, lr)[1])
    x = int(place(p, 4.5, 1)[0])
    assert abs(pixels[row(math.sqrt(lo*hi)),x]-pixels[row(lo/3),x]).sum()>15 and abs(pixels[row(lo/3),x]-pixels[row(lo/9),x]).sum()<5
    f.swipe(dot(p), place(p, 1., lo/5)); assert p.shares[0]['edge']==pytest.approx(.25) # what the second phase has

def test_a_curve_for_each_group():
    each = GroupCurves(curves()[1])
    p = SchedulePreview(one_cycle([1e-3, 1e-2, 3e-2]), curve=each, n_iter=40)
    rates = p.plan.rates(40, 3)
    assert p.shares==[pytest.approx(zone_shares(c, rates[:,c.group]), abs=1e-12) for c in each]
    assert all(f'Group {g}:' in text(p._told) for g in range(3)); agree(p)

def test_a_curve_without_an_edge():
    c = one_curve(np.geomspace(1e-5, 1, 80), np.ones(1), lambda x: 1+0*x, 0)
    p = SchedulePreview(one_cycle(1e-3), curve=c)
    assert 'no edge zone' in text(p._told); agree(p)

def test_the_past_is_joined(tmp_path):
    learn = deep(tmp_path, 3)
    history = fit_quiet(learn, Plan([Phase(one_cycle(slice(1e-5, 1e-3)), 2, freeze_to=-1, name='head')]))
    p = SchedulePreview(TWO, learn, history=history)
    f = Front(p)
    ax = p._ax
    assert ax.get_xlim()==(0, 7) and jump(history, p.plan) in text(p._told) and p._parts['gap'].get_visible() and 'x' in p._parts['leap'].get_text()
    assert [*p._parts['gap'].get_ydata()]==pytest.approx(sorted([history.last_lr[-1], p._data()[0][1][0,-1]])) and set(p._parts['gap'].get_xdata())=={2}
    past = [l for l in ax.lines if len(l.get_xdata())==len(history[0])]
    assert {tuple(l.get_ydata()) for l in past}=={tuple(c) for c in history.lrs.T}
    agree(p); assert (f.pixels()==fresh(p)).all()
    p.plan = Plan([Phase(constant([float(v) for v in history.last_lr]), 1)]); assert not p._parts['gap'].get_visible() # goes on without a jump
    assert ax is not p._ax and p._ax.get_xlim()==(1, 3); agree(p) # as much of the past as there is to come
    f.pump(); f.swipe(dot(p), np.array(dot(p))+(0, 60)); assert p._parts['gap'].get_visible(); agree(p); assert (f.pixels()==fresh(p)).all()

# ---------------------------------------------------------------- pictures and words

def test_momentum():
    p = SchedulePreview(TWO)
    f = Front(p)
    send(p._momenta, value=True)
    f.pump(); assert p.moms and (f.pixels()==fresh(p)).all(); agree(p)
    x,y = p._parts['mom'].get_data()
    lo,hi = p._mom_lim()
    ok = np.isfinite(y)
    assert np.allclose(lo+y[ok]*(hi-lo), p.plan.moms(100)[:200]) and ok.sum()==200
    send(knob(p, ('sched','moms')), value='[.6, .5, .6]'); assert p._mom_lim()[0]<.5 and (f.pixels()==fresh(p)).all(); agree(p)
    send(p._logs, value=False); assert p._ax.get_yscale()=='linear' and (f.pixels()==fresh(p)).all(); agree(p)
    f.swipe(dot(p), np.array(dot(p))-(0, 80)); agree(p); assert (f.pixels()==fresh(p)).all()

def test_without_a_canvas(monkeypatch):
    monkeypatch.setattr(box, '_live_canvas', lambda fig: (_ for _ in ()).throw(ImportError('not here')))
    p = SchedulePreview(TWO)
    p._appear()
    assert 'ipympl' in p._said.value and 'sliders' in p._readout.value
    for act in (lambda: turn(p, ('sched','pct_start'), .5), lambda: send(p._epochs, value=4), lambda: pick(p._tabs, 1), lambda: click(p._ops[0]), lambda: click(p._undo), lambda: send(p._logs, value=False), lambda: send(p._momenta, value=True)):
        before = p._image.value
        act()
        assert p._image.value!=before and (image(p._image.value)==fresh(p)).all()
        p.catch_words(); agree(p)

def test_picture_and_words_of_the_state():
    p = SchedulePreview(TWO)
    p.plan = Plan([Phase(one_cycle(2e-3), 2)])
    data,meta = p._repr_mimebundle_()
    assert (image(base64.b64decode(data['image/png']))==fresh(p)).all() and 'one_cycle(2e-3)' in meta['image/png']['alt'] and 'one_cycle(2e-3)' in unescape(p._alt.value)
    p.close()
    assert image(p.still()).shape==image(base64.b64decode(data['image/png'])).shape and p.plan==Plan([Phase(one_cycle(2e-3), 2)])

@pytest.mark.parametrize('width', [300, 420, 960])
@pytest.mark.parametrize('plan', [TWO, fine_tune_plan(3), gradual_unfreeze_plan(3), lesson2_plan()], ids=['two','tune','gradual','lesson'])
def test_words_do_not_overlap(plan, width):
    p = SchedulePreview(plan)
    f = Front(p)
    send(p._width, value=str(width)); f.pump()
    p.moms = True
    assert (f.pixels()==fresh(p)).all()
    names = [t.get_window_extent() for t in p._ax.texts if t.get_text() and t.get_visible() and t.get_text() in {q.name or f'phase {i}' for i,q in enumerate(p.plan)}]
    assert all(not a.overlaps(b) for i,a in enumerate(names) for b in names[:i]), width
    legend = p._ax.get_legend().get_window_extent()
    assert legend.x0>=0 and legend.y1<=p.fig.bbox.y1+1 and all(not legend.overlaps(n) for n in names)
    flag = p._parts['flag'].get_window_extent()
    assert p._ax.bbox.x0-1<=flag.x0 and flag.x1<=p.fig.bbox.x1, 'the rate at a dot lies over the axis'

def test_a_million_steps():
    plan = Plan([Phase(one_cycle(slice(1e-5, 1e-3)), 3), *(Phase(sgdr(slice(1e-5, 1e-3)), 7, freeze_to=0) for _ in range(20))])
    p = SchedulePreview(plan, n_iter=10_000)
    assert all(len(l.get_xdata())<6000 for l in p._parts['lines']) and '1,430,000 steps' in text(p._told); agree(p)

def test_rates_of_another_scheduler():
    p = SchedulePreview(sampled(np.linspace(1e-3, 0, 5000).tolist()), n_epoch=2)
    assert len(p.code)<200 and 'prev.plan' in p.code and [k for k,*_ in p._knobs]==[]
    send(p._epochs, value=3); assert p.plan[0].n_epoch==3 and not p._error.value

def test_many_groups():
    p = SchedulePreview(one_cycle(np.geomspace(1e-6, 1e-2, 300)))
    f = Front(p)
    assert len(p._parts['lines'])==8 and (f.pixels()==fresh(p)).all(); agree(p)
    f.swipe(dot(p), place(p, 1.5, 1e-3)); agree(p)

@pytest.mark.parametrize('seed', range(6))
def test_any_order_of_hands(seed):
    "Whatever is pressed, dragged and slid, the widget is of one mind, and Undo leads back to the beginning"
    rng = random.Random(seed)
    p = SchedulePreview([TWO, lesson2_plan(), Plan([Phase(join([one_cycle(1e-3), ladder(1e-5, 1e-4)]), 2)])][seed%3])
    f,first = Front(p),p.plan
    for _ in range(40):
        what = rng.choice(['drag','knob','knob','kind','op','op','tab','epochs','freeze','undo','redo','key','log'])
        if what=='drag': f.swipe(dot(p, rng.choice(p._dots())[0]) if p._dots() else (0, 0), (rng.uniform(0, 720), rng.uniform(0, 420)))
        elif what=='knob' and p._knobs:
            w = rng.choice(p._knobs)[2]
            if far(w) is not None: (pick if hasattr(w, 'options') else lambda w, v: send(w, value=v))(w, far(w))
        elif what=='kind': pick(p._kind, rng.choice(p._kind.options))
        elif what=='op': click(rng.choice(p._ops))
        elif what=='tab': pick(p._tabs, rng.randrange(len(p.plan)))
        elif what=='epochs': send(p._epochs, value=rng.randint(1, 6))
        elif what=='freeze': pick(p._freeze, rng.choice(p._freeze.options)[1])
        elif what in ('undo','redo'): click(getattr(p, f'_{what}'))
        elif what=='key': f.key(rng.choice(['kArrowUp','kArrowLeft','shift+kArrowRight','ctrl+kz']))
        elif what=='log': send(p._logs, value=not p.log)
        f.pump()
        if p._error.value: assert 'ValueError' in text(p._error), text(p._error); p._error.value = ''
        agree(p)
    assert (f.pixels()==fresh(p)).all()
    while p._done: click(p._undo)
    assert p.plan==first; agree(p)

def test_closing_lets_go():
    p = SchedulePreview(TWO)
    Front(p)
    for kind in ('cyclical','poly'): pick(p._kind, kind)
    n = len(box._tree(p))
    from ipywidgets.widgets.widget import _instances
    before = len(_instances)
    p.close()
    assert len(_instances)<=before-n
    ref = weakref.ref(p); del p; gc.collect()
    assert ref() is None

# ---------------------------------------------------------------- names, digits, groups that stand still, and what is no argument

@pytest.mark.parametrize('name', DRAWN)
def test_a_name_of_a_phase_is_shown_as_it_is_whatever_it_holds(name):
    p = SchedulePreview(Plan([Phase(one_cycle(1e-3), 30, name=name), Phase(constant(1e-3), 1)]))
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph')
        assert p.still()
        send(p._name, value=f'{name} 2'); assert p.plan[0].name==f'{name} 2' and not p._error.value and p.still()
    assert not [t for t in p._ax.texts if t.get_text().startswith(name[:5]) and t.get_parse_math()]
    tags = {t for w in (p._alt, p._told, p._readout) for t in re.findall(r'<(\w+)', w.value)}
    assert not tags, tags

def test_digits_that_nobody_typed_are_not_shown_and_what_runs_has_all_of_them():
    lr = .010878819198710363
    p = SchedulePreview(Plan([Phase(one_cycle(slice(lr/100, lr), pct_start=1/3), 3)]))
    assert 'one_cycle(slice(1.09e-4, 0.0109), pct_start=0.333)' in text(p._code_box) and 'Copy takes all digits' in text(p._code_box)
    assert run(p.code)==p.plan and 'slice(1.09e-4, 0.0109)' in p.words() and str(lr) not in p.words()
    p.plan = Plan([Phase(one_cycle(3e-3), 3)])
    assert 'Copy takes' not in text(p._code_box)

@pytest.mark.parametrize('rates', [[0., 0., 1e-2], [0., 1e-4, 1e-2], [1e-2, 1e-4, 0.]])
def test_groups_that_stand_still_stay_so_whatever_is_dragged(rates):
    p = SchedulePreview(Plan([Phase(constant(rates), 2), Phase(constant(slice(1e-4, 1e-2)), 1)]))
    f = Front(p)
    answer(p); agree(p); assert (f.pixels()==fresh(p)).all()
    still = [v==0 for v in rates]
    top = lambda: p.plan[0].sched.args['lr']
    f.swipe(dot(p, 0), np.array(dot(p, 0))+(0, 30)); assert not p._error.value
    assert [v==0 for v in top()]==still and (max(top())>1.2e-2 or rates[-1]==0); agree(p)
    f.key('kArrowUp'); f.key('shift+kArrowDown'); assert [v==0 for v in top()]==still; agree(p)
    turn(p, ('sched','lr'), [0., 0., 3.2e-2]); assert [v==0 for v in top()]==still and max(top())==3.2e-2; agree(p)
    send(p._logs, value=False); assert (f.pixels()==fresh(p)).all(); agree(p)
    assert p.still() and p.words()

def test_what_is_refused_is_named_and_short():
    model = __import__('torch').nn.Sequential(*[__import__('torch').nn.Linear(3, 3) for _ in range(200)])
    many = [model, 'x'*5000, {i: i for i in range(999)}, 5, 10**400]
    for make in (lambda o: SchedulePreview(TWO, curve=o), lambda o: SchedulePreview(TWO, n_epoch=o)):
        for o in many:
            with pytest.raises((TypeError, ValueError), match='^(curve|n_epoch)=') as e: make(o)
            assert len(str(e.value))<=300
    p = SchedulePreview(TWO)
    for name in ('log','moms','phase'):
        for o in many:
            with pytest.raises((TypeError, ValueError), match=name) as e: setattr(p, name, o)
    for o in many:
        with pytest.raises(TypeError, match='^phase=') as e: p.add(o)
        assert len(str(e.value))<=300
    assert p.plan is TWO and not p._done
