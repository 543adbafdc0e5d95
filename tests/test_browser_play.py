"The player of the documentation in a real browser: its formulas against Python's, its controls, and what stays where it cannot run"
import itertools, json, random

import numpy as np, pytest
from matplotlib.colors import to_rgb

import lab
from lrtools import plan as plans, schedule as scheds
from lrtools.schedule import Schedule, sgdr_epochs
from lrtools.views import _dark, _light

pytestmark = pytest.mark.browser

URL = 'https://play.test/'
KINDS = 'one_cycle flat_cos sgdr cyclical slanted_triangular warmup_cos warmup_stable_decay poly exponential step inverse_sqrt constant'.split()
PAGE = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><title>play</title><link rel="stylesheet" href="play.css"><script src="play.js" defer></script><body{}>{}'

def div(kind='one_cycle', args={'lr_max': 3e-3}, epochs=5, **kw):
    "The element that an author writes"
    data = dict(kind=kind, args=args if isinstance(args, str) else json.dumps(args), epochs=epochs, **kw)
    return '<div class="lrtools-play" '+' '.join(f"data-{k}='{v}'" for k,v in data.items())+'><p class="static">a still picture</p></div>'

@pytest.fixture
def site(browser, root):
    "`site(body)` opens a page of its own and returns a `Site`; at the end it must have asked for nothing else, and written no error that `site.allow` does not name"
    sites = []
    def go(body, attrs='', before='', missing=(), **kw):
        s = Site(browser.new_context(**{**dict(viewport=dict(width=1280, height=900), permissions=['clipboard-read','clipboard-write']), **kw}), root, PAGE.format(attrs, body), before, missing)
        sites.append(s)
        return s
    yield go
    for s in sites:
        s.context.close()
        assert not s.strangers
        assert not [e for e in s.errors if not any(a in e for a in s.allow)]

class Site:
    def __init__(self, context, root, html, before, missing):
        self.context,self.page,self.errors,self.strangers,self.allow = context,context.new_page(),[],[],[]
        kinds = dict(html='text/html', js='text/javascript', css='text/css')
        def answer(route):
            name = route.request.url.removeprefix(URL) or 'index.html'
            if name in missing: return route.fulfill(status=404, body='')
            if name not in ('index.html','play.js','play.css'): self.strangers.append(route.request.url); return route.abort()
            route.fulfill(content_type=kinds[name.split('.')[1]], body=html if name=='index.html' else (root/'docs/static'/name).read_text())
        context.route('**/*', answer)
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))
        self.page.on('console', lambda m: m.type in ('error','warning') and self.errors.append(m.text))
        if before: self.page.add_init_script(before)
        self.page.goto(URL)

    def player(self, i=0):
        self.page.wait_for_selector(f'.lrtools-play >> nth={i} >> .lrtools-player')
        return Player(self.page, self.page.locator('.lrtools-play').nth(i))

class Player:
    def __init__(self, page, root): self.page,self.root = page,root
    def input(self, name): return self.root.get_by_label(name, exact=True)
    def labels(self): return self.root.locator('label').all_inner_texts()
    def sliders(self): return self.root.locator('input[type=range]').evaluate_all('es => es.map(e => e.labels[0].textContent)')
    def press(self, name, *keys):
        for k in keys: self.input(name).press(k)
    def type(self, name, text): self.input(name).fill(text); self.input(name).press('Enter')
    @property
    def code(self): return self.root.locator('.lrtools-line').text_content()
    @property
    def wrong(self): return self.root.locator('.lrtools-wrong').text_content() if self.root.locator('.lrtools-wrong').count() else ''
    @property
    def words(self): return self.root.locator('svg[role=img]').get_attribute('aria-label')
    @property
    def paths(self): return self.root.locator('path.lr').evaluate_all("es => es.map(e => e.getAttribute('d'))")

    def until(self, check): return lab.until(check, page=self.page)

    @property
    def plan(self):
        "What the shown line makes in Python"
        return eval(self.code, {**vars(scheds), **vars(plans), 'learn': None, 'fit_plan': lambda learn, plan: plan})

    def agrees(self):
        "The drawn curves, read off with the ticks, are those of the shown line"
        o = self.root.evaluate(DRAWN)
        (phase,),log = self.plan,o['log']
        assert f'fit_plan(learn, {self.plan!r})'==self.code and repr(phase.sched) in o['words']
        (x0,px0),*_,(x1,px1) = sorted(o['x'])
        (y0,py0),*_,(y1,py1) = sorted((np.log10(v) if log else v, p) for v,p in o['y'])
        want,lines = phase.sched.for_groups(o['n']),[np.array([xy.split() for xy in d[1:].split('L')], float) for d in o['paths']]
        room = .02 if log else .002*np.max(want(np.linspace(0, 1, 500)))
        def fits(line, g):
            line = line[line[:,1]<o['floor']] # the rest is cut off
            pos = ((line[:,0]-px0)*(x1-x0)/(px1-px0)+x0)/phase.n_epoch
            near = want(np.clip(pos+np.linspace(-1e-5, 1e-5, 41)[:,None], 0, 1)) # coordinates have two digits
            near = near[...,g] if near.ndim==3 else near
            y,lo,hi = y0+(line[:,1]-py0)*(y1-y0)/(py1-py0),near.min(0),near.max(0)
            return ((lo*(1-room)<=10**y)&(10**y<=hi*(1+room)) if log else (lo-room<=y)&(y<=hi+room)).all()
        for g in range(o['n']): assert any(fits(l, g) for l in lines), f'group {g} of {self.code} is not what is drawn'
        for l in lines: assert (l[[0,-1],0]-px0)*(x1-x0)/(px1-px0)+x0==pytest.approx((0, phase.n_epoch), abs=1e-4*phase.n_epoch)

DRAWN = """e => { const all = (c, f) => [...e.querySelectorAll(c)].map(f), of = (c, a, by) => all(c, t => [+t.textContent, t.getAttribute(a)-by]), [log] = all('input[type=checkbox]', c => c.checked);
    return {x: of('text.x', 'x', 0), y: of('text.y', 'y', 4), log, n: +all('select', c => c).find(c => c.labels[0].textContent === 'groups').value, words: e.querySelector('svg[role=img]').getAttribute('aria-label'),
            paths: all('path.lr', p => p.getAttribute('d')), floor: Math.max(...all('line.axis', l => +l.getAttribute('y1')))} }""" # a label is 4 pixels below its line

# ---------------------------------------------------------------- the formulas

RATES,SOME = (1e-3, slice(1e-5, 1e-2), slice(3e-3), slice(2e-3, 1e-4)),(0, 1e-6, 1e-3, .5)
GRID = dict(
    one_cycle=dict(lr_max=(*RATES, 2), div=(25., 5, .5), div_final=(1e5, 1, 3e4), pct_start=(.25, 0, .3, .5, .77, 1), moms=([.95, .85, .95], None, [.9, .8, .99], [0, .5, 0]), three_phase=(False, True), anneal=('cos', 'linear'), num_it=(None, 2, 100, 20000)),
    flat_cos=dict(lr=RATES, div_final=(1e5, 7, .1), pct_start=(.75, 0, .33, 1)),
    sgdr=dict(lr_max=RATES, n_cycles=(3, 1, 6), cycle_len=(1, 2), cycle_mult=(2, 1, 3, 1.5, .5), lr_min=(0., 1e-5)),
    cyclical=dict(lr_min=(0, 1e-5, slice(1e-6, 1e-5)), lr_max=RATES, n_cycles=(None, 1, 2.5, 4, .3), step_size=(None, 20, 33.3), num_it=(None, 200), mode=('triangular', 'triangular2', 'exp_range', 'cosine'), gamma=(1., .99), end_low=(True, False)),
    slanted_triangular=dict(lr_max=RATES, cut_frac=(.1, .01, .5, .99), ratio=(32., 1, 5.5, 2e4)),
    warmup_cos=dict(lr_max=RATES, pct_start=(.1, 0, .37, 1), lr_start=SOME, lr_end=SOME),
    warmup_stable_decay=dict(lr_max=RATES, pct_start=(.05, 0, .7, .8, 1), pct_decay=(.2, 0, .3, 1), lr_start=SOME, lr_end=SOME, decay=('sqrt', 'linear', 'cos')),
    poly=dict(lr=RATES, power=(1., .5, 2, 5.5), lr_end=SOME),
    exponential=dict(lr=RATES, lr_end=(1e-6, 1, slice(1e-7, 1e-5))),
    step=dict(lr=RATES, n_steps=(3, 1, 7, 10), gamma=(.1, .5, 1, 2)),
    inverse_sqrt=dict(lr_max=RATES, pct_start=(.1, .01, 1)),
    constant=dict(lr=(*RATES, 0, 1e-12)))

def grid(kind, most=150):
    "Arguments of many combinations; defaults of Python stay as Python has them, 0. and not 0"
    rnd,sig = random.Random(kind),scheds.inspect.signature(scheds._KINDS[kind]).parameters
    alls = list(itertools.product(*GRID[kind].values()))
    for vs in alls if len(alls)<=most else rnd.sample(alls, most):
        yield {k: sig[k].default if sig[k].default is not sig[k].empty and not isinstance(v, (bool, slice)) and v==sig[k].default else v for k,v in zip(GRID[kind], vs)}

def places(args):
    "Positions, with the ends, where pieces meet, and right beside that"
    vs = [v for v in args.values() if isinstance(v, float) and 0<v<1]
    at = {*np.linspace(0, 1, 201), *(k/n for n in (3, 7, 10) for k in range(n)), *(f(v) for v in vs for f in (lambda v: v, lambda v: 1-v, lambda v: 2*v)), .1+.05, 1-.8, 1e-12, 1-1e-12}
    if 'cycle_mult' in args: at |= {*(np.cumsum(ws := [args['cycle_len']*args['cycle_mult']**i for i in range(args['n_cycles'])])/sum(ws))}
    if args.get('num_it'): at |= {k/args['num_it'] for k in range(min(args['num_it'], 40))}
    return sorted(float(min(p, 1)) for v in at for p in (v, v+1e-9, v-1e-9) if 0<=p and v<=1)

def python(kind, args):
    try: return Schedule(kind, args)
    except (ValueError, TypeError): return None

ASK = '''cases => JSON.stringify(JSON.parse(cases).map(([kind, args, n, at]) => {
    try { const f = lrtools.schedule(kind, args, n), m = lrtools.mom(kind, args), ys = at.map(f);
          return {rates: ys.flat(), groups: Array.isArray(ys[0]) ? ys[0].length : null, moms: m && at.map(m), code: lrtools.code(kind, args)} }
    catch (e) { return {refused: e.message} } }))'''
def ask(site, cases):
    "What the page answers for each (kind, arguments, groups, positions); by way of JSON, which is fast"
    return json.loads(site('').page.evaluate(ASK, json.dumps([[kind, {k: scheds._to_plain(v) for k,v in args.items()}, n, at] for kind,args,n,at in cases])))

@pytest.mark.parametrize('kind', KINDS)
def test_formulas(site, kind):
    "Rates, momenta, code and what is refused: the same as Python's"
    cases = []
    for i,args in enumerate(grid(kind)):
        n,sched,at = i%3+1,python(kind, args),places(args)
        if sched is not None:
            try: sched = sched.for_groups(n)
            except ValueError: sched = None # rates of cycles that cross for so many groups
        cases.append((args, n, at, sched))
    answers = ask(site, [(kind, *o[:3]) for o in cases])
    good = 0
    for (args,n,at,sched),a in zip(cases, answers):
        assert (sched is None)==('refused' in a), (kind, args, n, a.get('refused'))
        if sched is None: continue
        y,m,code = sched(np.array(at)),sched.mom(np.array(at)),repr(Schedule(kind, args))
        assert a['groups']==(y.shape[1] if y.ndim==2 else None)
        np.testing.assert_allclose(np.reshape(a['rates'], y.shape), y, rtol=1e-12, atol=1e-15*y.max(), err_msg=code) # a cosine that ends at 0 is known to its rounding
        assert (a['moms'] is None)==(m is None)
        if m is not None: np.testing.assert_allclose(a['moms'], m, rtol=1e-12, atol=1e-15, err_msg=code)
        assert a['code']==code and repr(eval(code, vars(scheds).copy()))==code
        good += 1
    assert good>=6

BAD = [('one_cycle', {}), ('one_cycle', dict(lr_max=-1)), ('one_cycle', dict(lr_max=0)), ('one_cycle', dict(lr_max='1e-3')), ('one_cycle', dict(lr_max=None)), ('one_cycle', dict(lr_max=1e-3, div=0)), ('one_cycle', dict(lr_max=1e-3, moms=[.9, .8])),
       ('one_cycle', dict(lr_max=1e-3, moms=[.9, .8, 1])), ('one_cycle', dict(lr_max=1e-3, three_phase=1)), ('one_cycle', dict(lr_max=1e-3, anneal='exp')), ('one_cycle', dict(lr_max=1e-3, pct_start=.6, three_phase=True)),
       ('one_cycle', dict(lr_max=1e-3, num_it=1)), ('one_cycle', dict(lr_max=1e-3, num_it=4)), ('one_cycle', dict(lr_max=slice(0, 1e-3))), ('one_cycle', dict(lr_max=slice(1e-3, None))), ('one_cycle', dict(lr_max=1e-3, pct_start=slice(.1, .2))),
       ('one_cycle', dict(lr_max=1e-3, what=1)), ('sgdr', dict(lr_max=1e-3, n_cycles=0)), ('sgdr', dict(lr_max=1e-3, n_cycles=1.5)), ('sgdr', dict(lr_max=1e-3, n_cycles=True)), ('sgdr', dict(lr_max=1e-3, lr_min=-1e-9)), ('cyclical', dict(lr_min=1e-2, lr_max=1e-3, n_cycles=2)),
       ('cyclical', dict(lr_min=0, lr_max=1e-3)), ('cyclical', dict(lr_min=0, lr_max=1e-3, n_cycles=1, mode='exp_range')), ('cyclical', dict(lr_min=0, lr_max=1e-3, n_cycles=1, gamma=1.1)), ('slanted_triangular', dict(lr_max=1e-3, cut_frac=1)),
       ('slanted_triangular', dict(lr_max=1e-3, ratio=.5)), ('warmup_stable_decay', dict(lr_max=1e-3, pct_start=.6, pct_decay=.5)), ('poly', dict(lr=1e-3, power=0)), ('exponential', dict(lr=1e-3, lr_end=0)), ('inverse_sqrt', dict(lr_max=1e-3, pct_start=0)), ('constant', dict(lr=-1e-9)), ('nothing', {})]

def test_refusals(site):
    "What Python refuses is refused with a sentence that names the argument"
    answers = ask(site, [(kind, args, 2, [0]) for kind,args in BAD])
    for (kind,args),a in zip(BAD, answers):
        with pytest.raises((ValueError, TypeError)): (getattr(scheds, kind)(**args) if kind in KINDS else Schedule(kind, args)).for_groups(2)
        assert any(k in a.get('refused', '') for k in ('kind', *GRID.get(kind, ()), *args)), (kind, args, a)

def test_positions(site):
    "A position is in [0, 1], a slice waits for its groups, and there are as many of these as one says"
    ask = site('').page.evaluate
    assert ask("lrtools.schedule('one_cycle', {lr_max: {slice: [1e-5, 1e-3]}}, 1)(.25)")==1e-3 and ask("lrtools.kinds")==KINDS
    for js in ("('constant', {lr: 1})(1.1)", "('constant', {lr: 1})('0')", "('constant', {lr: {slice: [null, 1]}})(0)", "('constant', {lr: 1}, 0)", "('constant', {lr: 1}, 1.5)"):
        assert ask(f"(() => {{ try {{ return lrtools.schedule{js} }} catch (e) {{ return e.message }} }})()").count(':')

# ---------------------------------------------------------------- the player

def test_keys_move_the_curve(site):
    "Arrow keys on a slider change curve, code and words together"
    p = site(div()).player()
    assert p.code=='fit_plan(learn, Plan([Phase(one_cycle(3e-3), 5)]))'
    p.agrees()
    for name,key in (('lr_max','ArrowRight'), ('div','ArrowLeft'), ('div_final','Home'), ('pct_start','ArrowRight'), ('n_epoch','ArrowUp')):
        path,code,words = p.paths,p.code,p.words
        p.press(name, key, key)
        p.until(lambda: p.code!=code and p.words!=words)
        assert name=='n_epoch' or p.paths!=path
        p.agrees()
    assert p.input('lr_max').get_attribute('aria-valuetext')==p.input('lr_max, exact').input_value() and p.plan.n_epoch==7
    assert not p.wrong

def test_exact_number(site):
    "A typed number is taken as it is, within and beyond the slider"
    p = site(div()).player()
    for text,want in (('2.345e-3', '2.345e-3'), ('.0123456789', '1.23456789e-2'), ('50', '50'), ('1e-9', '1e-9')):
        p.type('lr_max, exact', text)
        p.until(lambda: f'one_cycle({want})' in p.code)
        assert p.plan[0].sched.args['lr_max']==float(text) and p.input('lr_max').get_attribute('aria-valuetext')==want
        p.agrees()
    p.type('n_epoch, exact', '30'); p.type('moms', '0.9, 0.8, 0.99')
    p.until(lambda: 'moms=[0.9, 0.8, 0.99]' in p.code and p.plan.n_epoch==30)
    p.type('moms', 'None')
    p.until(lambda: 'moms=None' in p.code)
    assert p.input('momentum').is_disabled()

@pytest.mark.parametrize('name,text', [('lr_max, exact','abc'), ('lr_max, exact','-1'), ('lr_max, exact',''), ('lr_max, exact','1e999'), ('lr_max, exact','0,003'), ('div, exact','0'), ('pct_start, exact','1.5'), ('n_epoch, exact','2.5'),
                                       ('n_epoch, exact','1e9'), ('moms','.9, x, .9'), ('moms','.9, .8'), ('moms','.9, .8, 1')])
def test_rubbish(site, name, text):
    "What cannot be is refused with a sentence beside its field; curve and code stay; what comes next is taken"
    p = site(div()).player()
    path,code,words = p.paths,p.code,p.words
    p.type(name, text)
    p.until(lambda: name.split(',')[0] in p.wrong)
    assert (p.paths,p.code,p.words)==(path,code,words) and p.input(name).input_value()==text
    assert p.input(name).get_attribute('aria-invalid')=='true' and p.root.locator('.lrtools-wrong').get_attribute('role')=='alert' and p.root.locator('.lrtools-wrong').is_visible()
    p.press('pct_start', 'ArrowRight')
    p.until(lambda: p.code!=code)
    assert not p.wrong and p.input(name).get_attribute('aria-invalid') is None and p.input(name).input_value()!=text
    p.agrees()

def test_what_does_not_fit_together(site):
    "An option that another argument forbids goes back, with a sentence"
    p = site(div(args=dict(lr_max=1e-3, pct_start=.7))).player()
    code = p.code
    p.input('three_phase').click()
    p.until(lambda: 'pct_start' in p.wrong)
    assert p.code==code and not p.input('three_phase').is_checked()
    p.type('pct_start, exact', '.4'); p.input('three_phase').click()
    p.until(lambda: 'three_phase=True' in p.code)
    p.agrees()

def test_kinds(site):
    "Every kind, from every other, on both axes and for 1 to 3 groups, is drawn as its line says"
    p = site(div()).player()
    for n,log,kind in ((n,log,kind) for n in (1,2,3) for log in (True,False) for kind in (KINDS if log else KINDS[::-1])):
        p.input('groups').select_option(str(n)); p.input('log axis').set_checked(log); p.input('schedule').select_option(kind)
        p.until(lambda: f'Phase({kind}(' in p.code)
        assert not p.wrong and len(p.paths)==n and p.plan[0].sched.kind==kind
        if kind=='sgdr': assert p.plan.n_epoch==sgdr_epochs(3)
        p.agrees()
        assert not [t for t in p.root.locator('svg text').all_text_contents() if not (t=='epoch' or float(t)>=0)] # ticks as people write them

@pytest.mark.parametrize('kind', KINDS)
def test_every_control(site, kind):
    "Every slider from end to end, every option: the line and the curve agree, or a sentence says why not"
    p = site(div(groups=3)).player()
    p.input('schedule').select_option(kind)
    for form in ('one','tenth','slice'):
        p.input('rates').select_option(form)
        names = p.sliders()
        assert len(names)==len(set(names)) and any(', group 0' in n for n in names)==(form=='slice')
        for name in names if form=='slice' else [n for n in names if n.startswith('lr')]:
            for key in ('Home','End','ArrowLeft'):
                p.press(name, key)
                assert p.wrong or p.input(name).get_attribute('aria-valuetext')==p.input(f'{name}, exact').input_value()
                assert repr(p.plan[0].sched) in p.words
            p.agrees()
    for i in range(p.root.locator('select').count()):
        for value in p.root.locator('select').nth(i).locator('option').evaluate_all('es => es.map(e => e.value)'):
            if value in KINDS or p.root.locator('select').nth(i).is_disabled(): continue
            p.root.locator('select').nth(i).select_option(value)
            p.agrees()

def test_groups_and_momentum(site):
    "The lines of groups, their names, the momentum as a second, dashed line"
    p = site(div(args=dict(lr_max=dict(slice=[1e-5, 1e-3])), moms='true')).player()
    legend = p.root.locator('.lrtools-key')
    assert legend.all_inner_texts()==['group 0','group 1','group 2','momentum'] and 'group 0' in p.words and 'Momentum' in p.words
    assert p.root.locator('path.mom').get_attribute('stroke-dasharray')
    p.input('momentum').click()
    p.until(lambda: not p.root.locator('path.mom').count())
    p.input('rates').select_option('tenth')
    p.until(lambda: legend.all_inner_texts()==['groups 0-1','group 2'])
    p.input('rates').select_option('one')
    p.until(lambda: legend.all_inner_texts()==['all groups'] and 'slice' not in p.code)
    p.agrees()

def test_given_by_the_author(site):
    "All that the element says is where the player begins"
    p = site(div('cyclical', dict(lr_min=1e-5, lr_max=1e-2, step_size=50, num_it=300, mode='exp_range', gamma=.99, end_low=False), 3, log='false')).player()
    assert p.code=='fit_plan(learn, Plan([Phase(cyclical(1e-5, 1e-2, step_size=50, num_it=300, mode=\'exp_range\', gamma=0.99, end_low=False), 3)]))' and not p.input('log axis').is_checked()
    p.agrees()
    p.press('step_size', 'ArrowRight'); p.input('mode').select_option('triangular2')
    p.until(lambda: 'triangular2' in p.code)
    p.agrees()

def test_two_players(site):
    "Two on one page go their own ways, and their labels lead to their own inputs"
    s = site(div()+div('flat_cos', dict(lr=1e-3), 4))
    a,b = s.player(0),s.player(1)
    old = b.paths,b.code,b.words
    a.press('lr_max', 'ArrowRight'); a.input('schedule').select_option('poly'); a.input('log axis').click()
    a.until(lambda: 'poly(' in a.code)
    assert (b.paths,b.code,b.words)==old and b.input('log axis').is_checked()
    code = a.code
    b.root.locator('label', has_text='pct_start').click(); s.page.keyboard.press('ArrowRight')
    b.until(lambda: 'pct_start=0.76' in b.code)
    assert a.code==code
    ids = s.page.locator('[id]').evaluate_all('es => es.map(e => e.id)')
    assert len(ids)==len(set(ids))
    assert s.page.evaluate("[...document.querySelectorAll('input, select')].every(e => e.labels.length || e.getAttribute('aria-label'))")
    a.agrees(); b.agrees()

def test_keyboard_alone(site):
    "Tab comes to every control, each one shows that it has the focus and says what it is for, and the button copies the line"
    s = site(div())
    p,seen,words = s.player(),[],set()
    for _ in range(p.root.locator('input:not(:disabled), select:not(:disabled), button').count()):
        s.page.keyboard.press('Tab')
        seen.append(s.page.evaluate('document.activeElement.id || document.activeElement.getAttribute("aria-label") || document.activeElement.textContent'))
        words.add(p.root.locator('.lrtools-told').inner_text())
        assert s.page.evaluate('getComputedStyle(document.activeElement).outlineWidth')=='2px'
    assert len(seen)==len(set(seen)) and seen[-1]=='Copy' and len(words)>6
    s.page.keyboard.press('Enter')
    p.until(lambda: p.root.locator('.lrtools-copy').text_content()=='Copied')
    assert s.page.evaluate('navigator.clipboard.readText()')==p.code

def test_pointer(site):
    "Over the picture it says the rate and the momentum there"
    s = site(div())
    p = s.player()
    s.page.evaluate('document.activeElement.blur()')
    axis = p.root.locator('line.axis').first.bounding_box()
    s.page.mouse.move(axis['x']+axis['width']/4, axis['y']-50)
    p.until(lambda: 'Epoch 1.2' in p.root.locator('.lrtools-told').inner_text())
    assert 'lr 3e-3, momentum 0.85' in p.root.locator('.lrtools-told').inner_text() and p.root.locator('.hair').get_attribute('visibility')=='visible'

@pytest.mark.parametrize('width', [390, 1280])
def test_width(site, width):
    "Nothing leaves the page at the side, and no tick is written over another"
    s = site(div(args=dict(lr_max=dict(slice=[1e-5, 1e-3])), moms='true')+div('warmup_stable_decay', dict(lr_max=1e-3)), viewport=dict(width=width, height=844))
    p = s.player()
    boxes = lambda c: [o for o in p.root.locator(f'text.{c}').evaluate_all('es => es.map(e => { const b = e.getBoundingClientRect(); return [b.left, b.right, b.top, b.bottom] })')]
    for kind in KINDS:
        p.input('schedule').select_option(kind)
        for n in (1, 7, 300, 1000):
            p.type('n_epoch, exact', str(n))
            p.until(lambda: p.plan.n_epoch==n)
            xs,ys = sorted(boxes('x')),sorted(boxes('y'), key=lambda b: b[2])
            assert len(xs)>1 and all(a[1]<b[0] for a,b in zip(xs, xs[1:])) and len(ys)>1 and all(a[3]<=b[2]+4 for a,b in zip(ys, ys[1:]))
            assert min(b[0] for b in (*xs, *ys))>=0 and max(b[1] for b in (*xs, *boxes('m')))<=width
        assert s.page.evaluate('document.documentElement.scrollWidth')<=width
    s.page.set_viewport_size(dict(width=700, height=800))
    p.until(lambda: abs(p.root.locator('svg[role=img]').bounding_box()['width']-float(p.root.locator('svg[role=img]').get_attribute('viewBox').split()[2]))<1.5) # drawn again for the new width
    p.agrees()

@pytest.mark.parametrize('theme,pal', [('light',_light), ('dark',_dark)])
def test_colours(site, theme, pal):
    "Those of the package's figures; the reader's choice goes before the system's"
    rgb = lambda c: f"rgb({', '.join(str(round(255*v)) for v in to_rgb(c))})"
    for attrs,scheme in ((f' data-theme="{theme}"', 'light'), (' data-theme="auto"', theme)):
        p = site(div(moms='true'), attrs, color_scheme=scheme).player()
        colour = lambda css: p.root.locator(css).evaluate('e => getComputedStyle(e).stroke')
        assert (colour('path.lr'),colour('path.mom'))==(rgb(pal.main),rgb(pal.pick))

def still(site, i=0): return site.page.locator('.lrtools-play').nth(i).locator('.static')

@pytest.mark.parametrize('bad', [div('nothing'), div(args='{"lr_max": '), div(args=dict(lr_max=-1)), div(args={}), div(args=dict(lr_max=1e-3, what=1)), div(epochs='many'), div(epochs=0), div(groups=4), div(args='null')])
def test_wrong_element_stays(site, bad):
    "What an element asks wrongly leaves its picture there, says so in the console, and does no harm to the next one"
    s = site(bad+div())
    s.allow = ['lrtools-play:']
    s.player(1).agrees()
    assert still(s).is_visible() and not s.page.locator('.lrtools-play').nth(0).locator('.lrtools-player').count() and s.errors

@pytest.mark.parametrize('broken', ["document.createElementNS = () => { throw new Error('injected') }", "SVGElement.prototype.setAttribute = () => { throw new Error('injected') }", 'delete window.ResizeObserver',
                                    "Math.log10 = () => { throw new Error('injected') }", "JSON.parse = () => { throw new Error('injected') }"])
def test_broken_page(site, broken):
    "Where anything throws, the picture stays"
    s = site(div(), before=broken)
    s.allow = ['injected','ResizeObserver']
    s.page.wait_for_load_state()
    lab.until(lambda: s.errors, page=s.page)
    assert still(s).is_visible() and not s.page.locator('.lrtools-player').count()

@pytest.mark.parametrize('kw', [dict(java_script_enabled=False), dict(missing=('play.js',))])
def test_no_script(site, kw):
    "Without the script the picture stays"
    s = site(div(), **kw)
    s.allow = ['404']
    s.page.wait_for_load_state()
    assert still(s).is_visible()
