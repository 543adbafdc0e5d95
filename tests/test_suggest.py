"Rules, suggestions and zones: pure functions over curves"
import math

import numpy as np, pytest, torch
from hypothesis import given, settings, strategies as st
from fastai.callback.schedule import minimum, slide, steep, valley

from curves import curve, cut
from lrtools.curve import Divergence, LRCurve, Sweep
from lrtools.suggest import RULES, ZONES, classify, fastai_rules, landmarks, suggest, zones

# ---- fastai's rules

@pytest.mark.parametrize('seed', range(300))
def test_rules_answer_as_fastais(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(17, 130))
    losses = torch.tensor(rng.normal(size=n).cumsum()*rng.choice([1e-3, .1, 1, 1e4]) + rng.choice([0, -50, 3]), dtype=torch.float32)
    lrs = torch.logspace(-7, 1, n)
    for name,rule in zip(RULES, (valley, slide, minimum, steep)):
        assert RULES[name](lrs.numpy(), losses.numpy())==rule(lrs, losses, n)[0], name

@pytest.mark.parametrize('seed', range(50))
def test_valley_with_ties(seed):
    rng = np.random.default_rng(seed)
    losses = torch.tensor(rng.integers(0, 6, 40), dtype=torch.float32)
    lrs = torch.logspace(-7, 1, 40)
    assert RULES['valley'](lrs.numpy(), losses.numpy())==valley(lrs, losses, 40)[0]

def test_rules_on_the_losses_of_lr_find():
    "What `fastai_rules` reads is what `lr_find` reads: first tenth and last five dropped, smoothed with 0.98, single precision"
    c = curve()
    s = c.sweeps[0]
    smooth,v = [],0.
    for i,l in enumerate(s.losses): v = .98*v+.02*l; smooth.append(v/(1-.98**(i+1)))
    lrs,losses = torch.tensor(s.lrs[10:-5,0], dtype=torch.float32),torch.tensor(smooth[10:-5], dtype=torch.float32)
    for name,rule in zip(RULES, (valley, slide, minimum, steep)):
        assert fastai_rules(c)[name][0]==pytest.approx(rule(lrs, losses, 100)[0], rel=1e-6), name

def test_a_rule_without_an_answer_is_nan():
    short = LRCurve([Sweep(np.geomspace(1e-7,1e-6,8)[:,None], np.ones(8))], 100, [1e-7], [10])
    assert all(np.isnan(v).all() for v in fastai_rules(short).values())

# ---- suggest

def test_suggestion_is_plain_and_inside():
    s = suggest(curve())
    assert s and type(s.lr) is float and all(type(o) is float for o in s.interval)   # fastai refuses numpy's floats
    assert s.interval[0]<s.lr<s.interval[1] and s.range.start*10==pytest.approx(s.range.stop)
    assert s.ranges['before unfreezing'].stop==s.lr and s.reason

@pytest.mark.parametrize('k', [1e-2, 1e-1, 10.])
def test_moves_with_the_rates(k):
    a = suggest(curve())
    b = suggest(curve(centre=1e-3*k, blow=.3*k, start=1e-7*k, end=10*k))
    assert b.lr==pytest.approx(a.lr*k, rel=.02)

@pytest.mark.parametrize('scale', [1e-3, 1e4])
def test_does_not_depend_on_the_unit_of_the_loss(scale):
    a,b = suggest(curve()),suggest(curve(scale=scale))
    assert b.lr==pytest.approx(a.lr, rel=1e-6) and b.interval==pytest.approx(a.interval, rel=1e-6)

@pytest.mark.parametrize('shift', [-2.3, -5, -100, 100])
def test_a_negative_or_large_loss_is_no_obstacle(shift):
    assert .25<suggest(curve(shift=shift)).lr/suggest(curve()).lr<4

def test_well_below_divergence():
    for seed in range(40):
        c = curve(noise=.2, seed=seed)
        assert suggest(c).lr < landmarks(c).lr_break/6

def test_range_is_never_above_the_suggestion():
    for seed in range(20):
        s = suggest(curve(noise=.3, seed=seed))
        if s and s.range: assert s.range.stop<=s.lr and classify(curve(noise=.3, seed=seed), s.range).name!='diverging'

def test_suggestion_and_zones_agree():
    "Where the noise is moderate; beyond that the reason says that the suggestion is past the lowest point"
    for seed in range(30):
        c = curve(noise=.2, seed=seed)
        s = suggest(c)
        if s: assert classify(c, s.lr).name in ('descending', 'edge') or 'beyond the lowest point' in s.reason

def test_repeats_narrow_the_interval():
    width = lambda s: s.interval[1]/s.interval[0]
    assert width(suggest(curve(noise=.2, repeats=6))) < width(suggest(curve(noise=.2)))**.75

def test_the_interval_keeps_its_promise():
    "Nine of ten; asserted with room for chance"
    for repeats in (1, 3):
        ss = [suggest(curve(noise=.25, repeats=repeats, seed=i)) for i in range(80)]
        assert np.mean([a.interval[0]<=b.lr<=a.interval[1] for a,b in zip(ss, ss[1:])]) > .85

def test_same_curve_same_answer_and_no_global_random_numbers():
    c,state = curve(repeats=2),np.random.get_state()[1].copy()
    a,b = suggest(c),suggest(c)
    assert (a.lr,a.interval,a.reason)==(b.lr,b.interval,b.reason) and (np.random.get_state()[1]==state).all()

lrs = np.geomspace(1e-7, 10, 100)
few = LRCurve([Sweep(lrs[:12,None], curve().sweeps[0].losses[:12])], 12, [1e-7], [1e-6])
at_once = LRCurve([cut(lrs[-30:], 2.3+np.geomspace(.01, 1e4, 30))], 100, [lrs[-30]], [10])
nan_at_once = LRCurve([Sweep([[1.]], [math.nan], 'non-finite')], 100, [1.], [10])
DECLINED = {'flat, then diverged': (curve(fall=0, noise=.2), '`probe(learn, ['), 'flat': (curve(fall=0, blow=1e9, noise=.2, seed=1), 'flat up to'),
            'still falling': (curve(blow=1e9, centre=30), 'end_lr='), 'too few points': (few, 'num_it=100'),
            'diverged at once': (at_once, 'start_lr='), 'NaN at once': (nan_at_once, 'no rate can help'),
            'low from the start': (LRCurve([Sweep(lrs[:60,None]*1e3, np.linspace(1, 5, 60))], 60, [1e-4], [1.]), 'start_lr=1e-7')}

@pytest.mark.parametrize('name', DECLINED)
def test_declines_with_a_reason_and_a_way_out(name):
    c,says = DECLINED[name]
    s = suggest(c)
    assert not s and s.lr is None and s.interval is None and says in s.reason and 'No suggestion' in s._repr_markdown_()

def test_flat_curves_rarely_get_an_answer():
    assert np.mean([bool(suggest(curve(fall=0, noise=.2, seed=i))) for i in range(60)]) < .25

def test_declining_keeps_the_rule_for_after_unfreezing():
    s = suggest(curve(fall=0, noise=.2))
    assert s.range.stop*9<landmarks(curve(fall=0, noise=.2)).lr_break

def test_a_linear_sweep_from_zero():
    "A rate of 0 has no place on a log axis: it is left out, and nothing absurd comes of it"
    lin = np.linspace(0, 1, 100)
    c = LRCurve([cut(lin, 2.3-1.8*lin/(lin+.05)+(lin/.8)**8)], 100, [0.], [1.], mode='linear')
    s = suggest(c)
    assert (s.lr is None or s.lr>1e-4) and classify(c, .1).name in ZONES and landmarks(c).lrs[0]==pytest.approx(lin[1])

def test_empty_sweeps_are_left_out():
    full,none = curve(),Sweep(np.zeros((0,1)), [], 'cancelled')
    c = LRCurve([none, *full.sweeps], 100, [1e-7], [10])
    assert suggest(c).lr==suggest(full).lr and LRCurve.from_json(c.to_json())==c
    assert 'callback' in suggest(LRCurve([none], 100, [1e-7], [10])).reason

@pytest.mark.parametrize('text', ['[]', '3', '{}', '{"kind": "LRCurve"}'])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match='kind|version'): LRCurve.from_json(text)

def test_nan_at_the_end_is_handled():
    c = curve(blow=1e9)
    losses = c.sweeps[0].losses.copy()
    losses[85:] = math.nan
    s = suggest(LRCurve([Sweep(c.sweeps[0].lrs[:86], losses[:86], 'non-finite')], 100, [1e-7], [10]))
    assert s and s.lr<lrs[85]

finite_or_not = st.floats(allow_nan=True, allow_infinity=True, width=32) | st.floats(-10, 10)
@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(finite_or_not, min_size=1, max_size=60), min_size=1, max_size=3))
def test_any_losses_get_an_answer_or_a_reason(losses):
    c = LRCurve([cut(np.geomspace(1e-7, 10, len(l)) if len(l)>1 else np.array([1e-7]), np.array(l)) for l in losses], 60, [1e-7], [10])
    s = suggest(c)
    assert s.reason and (s.lr is None or 0<s.interval[0]<=s.lr<=s.interval[1]<math.inf)
    assert LRCurve.from_json(c.to_json())==c
    if len(c.finite())>=5: assert classify(c, 1e-3).name in ZONES

# ---- zones

@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1000), st.lists(st.floats(-8, 2), min_size=2, max_size=8))
def test_zones_come_in_order(seed, exponents):
    c = curve(noise=.15, seed=seed)
    order = [ZONES.index(classify(c, 10**e).name) for e in sorted(exponents)]
    assert order==sorted(order)

def test_zones_cover_the_curve():
    zs = list(zones(curve()).values())
    assert all(a[1]==b[0] for a,b in zip(zs, zs[1:])) and zs[0][0]==pytest.approx(1e-7)

def test_a_sentence_has_its_numbers():
    z = classify(curve(), slice(1e-5, 1.5e-2))
    assert z.lr==1.5e-2 and z.name=='edge' and '1.5e-2' in str(z) and f'{z.done:.0%}' in str(z)

def test_beyond_the_test_it_says_so():
    assert 'test ended at' in str(classify(curve(), 50)) and 'test began at 1e-7' in str(classify(curve(), 1e-9))
    assert 'beyond the test' in str(classify(curve(blow=1e9), 50))

@pytest.mark.parametrize('lr,error', [(-1, ValueError), (0, ValueError), (math.nan, ValueError), ('1e-3', TypeError), (None, TypeError), (True, TypeError), (slice(1e-3, None), TypeError)])
def test_bad_rates_are_refused(lr, error):
    with pytest.raises(error, match='lr='): classify(curve(), lr)

# ---- divergence

@pytest.mark.parametrize('shift', [0, -2, -1.2, -30])
def test_divergence_for_any_sign(shift):
    full = 2.3+shift - 1.8/(1+(1e-3/lrs)**.8) + (lrs/.3)**2
    judge = Divergence()
    at = next(i for i,l in enumerate(full) if judge.update(l))
    assert lrs[at]>.3

@settings(max_examples=50, deadline=None)
@given(st.floats(-5, 5), st.floats(.01, 5), st.integers(0, 10**6))
def test_a_falling_loss_never_diverges(end, fall, seed):
    judge,rng = Divergence(),np.random.default_rng(seed)
    assert not any(judge.update(l) for l in np.linspace(end+fall, end, 200)+rng.normal(0, fall/20, 200))

# ---------------------------------------------------------------- losses without a floor

def own(start, low, high, noise=.02, seed=0, repeats=1):
    "A curve that falls from `start` to `low` and ends at `high`"
    from lrtools.curve import LRCurve
    lrs,rng = np.geomspace(1e-6, 3., 100),np.random.RandomState(seed)
    rows = [np.interp(np.log10(lrs), [-6, -4, -1.3, -.6, .5], [start, start, low, low, high])+noise*rng.randn(100) for _ in range(repeats)]
    return LRCurve.of(lrs, rows)

@pytest.mark.parametrize('start,low,high', [(0., -2., -9.), (.02, -.7, 5.), (1.3, -4., 90.), (-1., -2.3, 6.), (.3, -.6, -.6)])
@pytest.mark.parametrize('seed', range(3))
def test_a_loss_that_falls_below_0_comes_with_a_caution(start, low, high, seed):
    "A GAN's critic, a likelihood: both signs, falling without bound, turning up again or not"
    s = suggest(own(start, low, high, seed=seed))
    assert not s or 'falls below 0' in s.reason
    if high>0: assert s

@pytest.mark.parametrize('start,low,high', [(2.3, .4, 9.), (2.3, .01, 9.), (.7, 0., 5.), (1e-3, 1e-4, 1.), (30., 2., 900.)])
@pytest.mark.parametrize('seed', range(3))
def test_ordinary_losses_have_none_even_where_their_noise_goes_below_0(start, low, high, seed):
    assert 'below 0' not in suggest(own(start, low, high, noise=.02*(start-low), seed=seed)).reason

@pytest.mark.parametrize('bad', [([1e-3], [1.]), np.zeros(3), None, {'lrs': [1.]}])
def test_what_is_no_curve_is_told_how_to_become_one(bad):
    with pytest.raises(TypeError, match=r'curve=.*LRCurve\.of\(lrs, losses\)'): suggest(bad)
