// Schedules of the learning rate to play with in a page: the formulas of lrtools/schedule.py, and a player in the place of
// each <div class="lrtools-play" data-kind="one_cycle" data-args='{"lr_max": 3e-3}' data-epochs="5">; what the div holds stays where no script runs
(() => {
'use strict'

// Checks: they refuse what schedule.py refuses
const no = text => { throw new RangeError(text) }
function num(k, v, lo = -Infinity, hi = Infinity, over = false, under = false) {
  if (typeof v !== 'number') no(`${k}=${text(v)}: expected a number`)
  if (!Number.isFinite(v) || v < lo || v > hi || over && v === lo || under && v === hi)
    no(`${k}=${v}: expected a number ${over ? 'over' : 'from'} ${lo}${hi === Infinity ? '' : ` ${under ? 'and under' : 'to'} ${hi}`}`)
}
const over0 = (k, v) => num(k, v, 0, Infinity, true), from0 = (k, v) => num(k, v, 0), share = (k, v) => num(k, v, 0, 1)
const rates = zero => Object.assign((k, v) => {
  if (typeof v !== 'number') no(`${k}=${text(v)}: ${text(v)} is not a number`)
  if (!Number.isFinite(v) || v < 0 || v === 0 && !zero) no(`${k}=${v}: a rate here is ${zero ? '0 or more' : 'more than 0'}, and finite`)
}, {spread: true}) // it may be a slice for several groups
const rate = rates(false), rate0 = rates(true)
const count = lo => Object.assign((k, v) => { if (!Number.isInteger(v)) no(`${k}=${text(v)}: expected an int`); if (v < lo) no(`${k}=${v}: expected at least ${lo}`) }, {whole: true})
const flag = (k, v) => { if (typeof v !== 'boolean') no(`${k}=${text(v)}: expected True or False`) }
const one_of = (...options) => Object.assign((k, v) => { if (!options.includes(v)) no(`${k}=${text(v)}: expected one of ${options.map(o => text(o)).join(', ')}`) }, {options})
const maybe = check => Object.assign((k, v) => { if (v !== null) check(k, v) }, check)
const three = (k, v) => {
  if (!Array.isArray(v) || v.length !== 3) no(`${k}=${text(v)}: expected three momenta, at the start, in the middle and at the end, or None`)
  v.forEach(m => num(k, m, 0, 1, false, true))
}

// Pieces: from a to b while x goes from 0 to 1; the ends are exact
const flat = a => () => a, lin = (a, b) => x => a*(1-x) + b*x, cos = (a, b) => x => x >= 1 ? b : a + (1 + Math.cos(Math.PI*(1-x)))*(b-a)/2
const marked = (f, marks) => Object.assign(f, {marks}) // positions of its corners and jumps
function pieces(shares, fs) {
  let at = 0
  const sum = shares.reduce((a, b) => a+b), ends = [0, ...shares.map(s => (at += s)/sum)]
  ends[fs.length] = 1
  return marked(pos => {
    let i = fs.length-1
    while (i > 0 && (ends[i] > pos || ends[i+1] === ends[i])) i--
    return fs[i]((pos-ends[i])/(ends[i+1]-ends[i]))
  }, ends)
}
const steps = n => Array.from({length: n+1}, (_, i) => i/n)

// Kinds: arguments as [check, default], in the order of Python's; `make` gives the rate of one group, and perhaps the momentum
const KINDS = {
  one_cycle: [{lr_max: [rate], div: [over0, 25], div_final: [over0, 1e5], pct_start: [share, .25], moms: [maybe(three), [.95, .85, .95]],
      three_phase: [flag, false], anneal: [one_of('cos', 'linear'), 'cos'], num_it: [maybe(count(2)), null]},
    ({lr_max, div, div_final, pct_start: up, moms, three_phase, anneal, num_it: n}) => {
      num('pct_start', up, 0, three_phase ? .5 : 1)
      if (n !== null && n*up <= 1) no(`pct_start=${up}: of ${n} steps that leaves none for the way up`)
      const go = (a, b, mid, c) => {
        const vs = three_phase ? [a, b, mid, c] : [a, b, c], fs = vs.slice(1).map((v, i) => (anneal === 'cos' ? cos : lin)(vs[i], v))
        if (n === null) return pieces(three_phase ? [up, up, 1-2*up] : [up, 1-up], fs)
        const ends = three_phase ? [0, up*n-1, 2*up*n-2, n-1] : [0, up*n-1, n-1], f = pieces(ends.slice(1).map((e, i) => e-ends[i]), fs)
        return marked(pos => f(Math.min(pos*n/(n-1), 1)), f.marks.map(p => p*(n-1)/n))
      }
      return [go(lr_max/div, lr_max, lr_max/div, lr_max/div_final), moms && go(moms[0], moms[1], moms[2], moms[2])]
    }],
  flat_cos: [{lr: [rate], div_final: [over0, 1e5], pct_start: [share, .75]},
    ({lr, div_final, pct_start: p}) => [pieces([p, 1-p], [flat(lr), cos(lr, lr/div_final)])]],
  sgdr: [{lr_max: [rate], n_cycles: [count(1), 3], cycle_len: [count(1), 1], cycle_mult: [over0, 2], lr_min: [from0, 0]},
    a => [pieces(Array.from({length: a.n_cycles}, (_, i) => a.cycle_len*a.cycle_mult**i), Array(a.n_cycles).fill(cos(a.lr_max, a.lr_min)))]],
  cyclical: [{lr_min: [rate0], lr_max: [rate], n_cycles: [maybe(over0), null], step_size: [maybe(over0), null], num_it: [maybe(count(1)), null],
      mode: [one_of('triangular', 'triangular2', 'exp_range', 'cosine'), 'triangular'], gamma: [(k, v) => num(k, v, 0, 1, true), 1], end_low: [flag, true]},
    ({lr_min: lo, lr_max: hi, n_cycles, step_size, num_it, mode, gamma, end_low}) => {
      if (lo > hi) no(`lr_min=${lo} is over lr_max=${hi}`)
      if ((n_cycles === null) === (step_size === null)) no(`n_cycles=${text(n_cycles)}, step_size=${text(step_size)}: give one of them`)
      if (num_it === null && (step_size !== null || mode === 'exp_range')) no(`num_it=None: ${step_size !== null ? 'step_size' : 'exp_range'} counts steps; say how many there are in all`)
      const n = step_size === null ? n_cycles : num_it/(2*step_size), shift = end_low ? (-n%1 + 1)%1 : 0
      return [marked(pos => {
        const x = n*pos + shift, up = mode === 'cosine' ? (1-Math.cos(2*Math.PI*x))/2 : 1-Math.abs(2*(x-Math.floor(x))-1)
        return lo + (hi-lo)*up*(mode === 'triangular2' ? .5**Math.floor(x) : mode === 'exp_range' ? gamma**(pos*num_it) : 1)
      }, n > 200 ? [] : steps(Math.ceil(2*n+1)).map((_, i) => (i/2-shift)/n).filter(p => p >= 0 && p <= 1))]
    }],
  slanted_triangular: [{lr_max: [rate], cut_frac: [(k, v) => num(k, v, 0, 1, true, true), .1], ratio: [(k, v) => num(k, v, 1), 32]},
    ({lr_max, cut_frac, ratio}) => [pieces([cut_frac, 1-cut_frac], [lin(lr_max/ratio, lr_max), lin(lr_max, lr_max/ratio)])]],
  warmup_cos: [{lr_max: [rate], pct_start: [share, .1], lr_start: [from0, 0], lr_end: [from0, 0]},
    ({lr_max, pct_start: p, lr_start, lr_end}) => [pieces([p, 1-p], [lin(lr_start, lr_max), cos(lr_max, lr_end)])]],
  warmup_stable_decay: [{lr_max: [rate], pct_start: [share, .05], pct_decay: [share, .2], lr_start: [from0, 0], lr_end: [from0, 0], decay: [one_of('sqrt', 'linear', 'cos'), 'sqrt']},
    ({lr_max: top, pct_start: a, pct_decay: b, lr_start, lr_end, decay}) => {
      if (b+a > 1) no(`pct_start=${a} and pct_decay=${b} make more than 1`)
      const down = {sqrt: x => lr_end + (top-lr_end)*(1-Math.sqrt(x)), linear: lin(top, lr_end), cos: cos(top, lr_end)}[decay]
      return [pieces([a, 1-a-b, b], [lin(lr_start, top), flat(top), down])]
    }],
  poly: [{lr: [rate], power: [over0, 1], lr_end: [from0, 0]}, ({lr, power, lr_end}) => [x => lr_end + (lr-lr_end)*(1-x)**power]],
  exponential: [{lr: [rate], lr_end: [rate]}, ({lr, lr_end}) => [x => lr**(1-x) * lr_end**x]],
  step: [{lr: [rate], n_steps: [count(1), 3], gamma: [over0, .1]},
    ({lr, n_steps: n, gamma}) => [marked(x => lr*gamma**Math.min(Math.floor(x*n + 1e-9), n-1), steps(n))]],
  inverse_sqrt: [{lr_max: [rate], pct_start: [(k, v) => num(k, v, 0, 1, true), .1]},
    ({lr_max, pct_start: k}) => [marked(x => lr_max*Math.min(x/k, Math.sqrt(k/Math.max(x, 1e-300))), [k])]],
  constant: [{lr: [rate0]}, ({lr}) => [flat(lr)]],
}

// A slice of rates is {slice: [lowest or null, highest]}, as in the JSON of a Schedule
const sliced = v => Array.isArray(v?.slice)
const top_of = v => sliced(v) ? v.slice[1] : v
const waits = a => Object.values(a).some(sliced)

function bind(kind, args = {}) {
  const [sig] = Object.hasOwn(KINDS, kind) ? KINDS[kind] : no(`kind=${text(kind)}: expected one of ${Object.keys(KINDS).join(', ')}`)
  for (const k in args) if (!Object.hasOwn(sig, k)) no(`${k}: ${kind} has no such argument`)
  return Object.fromEntries(Object.entries(sig).map(([k, [check, otherwise]]) => {
    const v = Object.hasOwn(args, k) ? args[k] : otherwise === undefined ? no(`${k}: ${kind} needs it`) : otherwise
    if (!sliced(v)) check(k, v)
    else if (!check.spread || v.slice.length !== 2 || v.slice[1] === null) no(`${k}=${text(v)}: expected ${check.spread ? 'slice(lowest, highest) or slice(highest)' : 'a number'}`)
    else v.slice.forEach(o => o === null || rate(k, o))
    return [k, v]
  }))
}

// fastai's rule: evenly in the logarithm, or a tenth for all but the last
function spread(v, g, n) {
  if (!sliced(v)) return v
  const [lo, hi] = v.slice
  return g === n-1 ? hi : lo === null ? hi/10 : lo*(hi/lo)**(g/(n-1))
}
function made(kind, args, n) {
  const a = bind(kind, args)
  return Array.from({length: n}, (_, g) => KINDS[kind][1](Object.fromEntries(Object.entries(a).map(([k, v]) => [k, spread(v, g, n)]))))
}
const place = p => typeof p === 'number' && p >= -1e-9 && p <= 1+1e-9 ? Math.min(Math.max(p, 0), 1) : no(`pos=${p}: a position is in [0, 1]`)

// The rate as a function of the position in [0, 1]; with a slice of rates it gives an array, for `n` parameter groups
function schedule(kind, args, n) {
  const wait = waits(bind(kind, args))
  if (wait && n === undefined) no(`${code(kind, args)} has a slice of rates: say for how many parameter groups`)
  if (n !== undefined) count(1)('n', n)
  const fs = made(kind, args, wait ? n : 1).map(o => o[0])
  return marked(p => fs.length > 1 ? fs.map(f => f(place(p))) : fs[0](place(p)), fs[0].marks || [])
}
// The momentum as such a function, or null where the schedule leaves it alone
function mom(kind, args) {
  const f = made(kind, args, waits(bind(kind, args)) ? 2 : 1)[0][1]
  return f ? marked(p => f(place(p)), f.marks) : null
}

// Python's text of a value, and of the whole Schedule; a whole number is an int there
const shown = v => v === 0 || v >= .1 && v < 1e4 || Number.isInteger(v) && Math.abs(v) < 1e4 ? String(v) : v.toExponential().replace('e+', 'e')
function text(v, whole) {
  if (v === null || typeof v === 'boolean') return {null: 'None', true: 'True', false: 'False'}[v]
  if (sliced(v)) return `slice(${v.slice.filter(o => o !== null).map(o => text(o)).join(', ')})`
  return Array.isArray(v) ? `[${v.map(o => text(o)).join(', ')}]` : typeof v === 'string' ? `'${v}'` : typeof v !== 'number' ? JSON.stringify(v) : whole ? String(v) : shown(v)
}
function code(kind, args) {
  const a = bind(kind, args)
  return `${kind}(${Object.entries(KINDS[kind][0]).map(([k, [check, otherwise]]) =>
    otherwise === undefined ? text(a[k]) : text(a[k]) !== text(otherwise) ? `${k}=${text(a[k], check.whole)}` : '').filter(Boolean).join(', ')})`
}

// The player
const TIPS = {lr_max: 'Highest rate', lr: 'The rate; where it falls, the first one', lr_min: 'Lowest rate', lr_start: 'First rate', lr_end: 'Last rate', div: 'The first rate is the highest one over this',
  div_final: 'The last rate is the highest one over this', ratio: 'The lowest rate is the highest one over this', pct_start: 'Share of the first part', pct_decay: 'Share of the decay', cut_frac: 'Share of the way up',
  moms: 'Momentum at the start, at the highest rate, and at the end; None leaves it alone', three_phase: 'Down to the first rate in as many steps as up, and then to the last one', anneal: 'Along a cosine or a straight line',
  n_cycles: 'How many cycles', cycle_len: 'Epochs of the first cycle', cycle_mult: 'Each cycle is so many times as long as the one before', step_size: 'Steps of half a cycle', mode: 'Shape of the cycles; triangular2: each half as high as the one before',
  gamma: 'The rate falls to this share each time', end_low: 'Where there are half cycles, begin high and end low', decay: 'How it decays; sqrt: 1 minus the square root', power: '1 is a straight line', n_steps: 'Parts of equal length',
  n_epoch: 'Epochs of the phase', groups: 'Parameter groups of the learner, each with a rate of its own', rates: "How fastai spreads a rate over the groups: a slice's ends are the first and the last group"}
const SPANS = {pct_start: [0, 1, .01], pct_decay: [0, 1, .01], cut_frac: [.01, .99, .01], n_cycles: [.5, 10, .5], cycle_mult: [.5, 4, .5], power: [.1, 5, .1], gamma: [.01, 1, .01], step_size: [1, 1000, 1]}
const LOGS = {div: 4, div_final: 8, ratio: 4} // highest power of ten
const LOW = -7, HIGH = 1, GRID = .05, MOST = 1000 // powers of ten, and step, of sliders for rates; epochs and counts at most
const HINT = 'Turn a slider; the curve follows.'

const maker = ns => (tag, attrs = {}, ...kids) => {
  const e = document.createElementNS(ns, tag)
  for (const [k, v] of Object.entries(attrs)) typeof v === 'function' ? e.addEventListener(k, v) : v !== undefined && e.setAttribute(k, v)
  e.append(...kids)
  return e
}
const html = maker('http://www.w3.org/1999/xhtml'), svg = maker('http://www.w3.org/2000/svg')
const two = v => +v.toPrecision(2)
const fmt = v => v === 0 || v >= .1 && v < 99.5 ? String(two(v)) : v.toExponential(1).replace('.0e', 'e').replace('e+', 'e')
const tick = v => v === 0 || v >= .1 && v < 100 ? String(+v.toPrecision(6)) : fmt(v)
const plural = (n, what) => `${n} ${what}${n > 1 ? 's' : ''}`

function number(k, typed) {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(typed.trim())) no(`${k}: '${typed}' is no number; type one such as 0.25 or 1e-3`)
  return Number(typed)
}
function momenta(k, typed) {
  const inner = typed.trim().replace(/^[[(]|[\])]$/g, '')
  return inner === 'None' ? null : inner.split(',').map(o => number(k, o))
}
function even(lo, hi, n) { // round ticks, about n of them
  const raw = (hi-lo)/n, p = 10**Math.floor(Math.log10(raw)), by = [1, 2, 5, 10].find(m => m*p >= raw*(1-1e-9))*p, first = Math.ceil(lo/by-1e-9)
  return Array.from({length: Math.max(Math.floor(hi/by+1e-9)-first+1, 0)}, (_, i) => +((first+i)*by).toPrecision(12))
}
function decades(lo, hi) {
  const a = Math.floor(Math.log10(lo)), b = Math.ceil(Math.log10(hi)), by = Math.ceil((b-a)/8)
  const ticks = ms => Array.from({length: b-a+1}, (_, i) => a+i).filter(e => e%by === 0).flatMap(e => ms.map(m => +`${m}e${e}`)).filter(v => v >= lo && v <= hi)
  return [[1], [1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9]].map(ticks).find((t, i) => t.length > 2 || i === 2)
}
function same(rows) { // neighbours among the groups with the same rates
  const sets = [[0]]
  for (let g = 1; g < rows[0].length; g++) rows.every(r => r[g] === r[g-1]) ? sets.at(-1).push(g) : sets.push([g])
  return sets
}

// Another kind with the same rates, and with what was set and both have
function other(kind, old, args) {
  const rates = args.lr_max ?? args.lr, top = top_of(rates) ? rates : 1e-3, lower = v => sliced(v) ? {slice: v.slice.map(o => o && two(o/10))} : two(v/10)
  const given = {lr: top, lr_max: top, lr_min: lower(top), lr_end: two(top_of(top)/100)}, [sig] = KINDS[kind]
  const res = bind(kind, {...Object.fromEntries(Object.keys(sig).filter(k => sig[k].length < 2).map(k => [k, given[k]])), ...kind === 'cyclical' && {n_cycles: 2}})
  const kept = ['pct_start', 'div', 'div_final', 'moms'].filter(k => k in sig && k in args && text(args[k]) !== text(KINDS[old][0][k][1]))
  try { const both = {...res, ...Object.fromEntries(kept.map(k => [k, args[k]]))}; made(kind, both, 2); return both } catch { return res }
}

let players = 0
function play(host) {
  const d = host.dataset, id = `lrtools-play-${++players}-`, kind = d.kind ?? 'one_cycle', args = bind(kind, JSON.parse(d.args ?? '{}'))
  const whole = (k, v) => { v = number(k, v); count(1)(k, v); return v }
  const s = {kind, args, n_epoch: whole('data-epochs', d.epochs ?? '5'), n: whole('data-groups', d.groups ?? (waits(args) ? '3' : '1')), log: d.log !== 'false', moms: d.moms === 'true'}
  if (s.n > 3) no(`data-groups=${s.n}: expected 1, 2 or 3`)

  let knobs = [], built
  const legend = html('div', {class: 'lrtools-legend', 'aria-hidden': 'true'}), picture = svg('svg', {role: 'img'}), box = html('div', {class: 'lrtools-knobs'})
  const told = html('p', {class: 'lrtools-told'}, HINT), wrong = html('p', {class: 'lrtools-wrong', role: 'alert', id: id+'wrong'}), line = html('code', {class: 'lrtools-line'})

  // Change the state; what cannot be is refused with a sentence, and all stays
  function turn(input, change) {
    const old = {...s}
    try { change(); draw(); wrong.textContent = ''; sync() }
    catch (e) {
      Object.assign(s, old)
      input.closest('.lrtools-knob').after(wrong)
      wrong.textContent = e.message
      sync(input)
      if (input.type === 'text') { input.setAttribute('aria-invalid', 'true'); input.setAttribute('aria-describedby', wrong.id) }
    }
  }
  const good = field => { field.removeAttribute('aria-invalid'); field.removeAttribute('aria-describedby') }
  const set = (k, v) => { s.args = {...s.args, [k]: v}; if (s.kind === 'sgdr') keep_pace(k) }
  function keep_pace(k) { // the epochs that make the first cycle cycle_len long
    const {n_cycles, cycle_len, cycle_mult} = s.args, n = Array.from({length: n_cycles}, (_, i) => cycle_len*cycle_mult**i).reduce((a, b) => a+b, 0)
    if (['n_cycles', 'cycle_len', 'cycle_mult'].includes(k) && Number.isInteger(n) && n > 0 && n <= MOST) s.n_epoch = n
  }

  // Controls: each {row, show}; `show` brings it to the state
  const tipped = (k, e) => Object.assign(e, {title: TIPS[k] ?? ''})
  const row = (name, label, ...inputs) => html('div', {class: 'lrtools-knob'}, html('label', {for: id+name}, label), ...inputs)
  function slider(name, label, get, put, [lo, hi, by], {log, zero, whole} = {}) {
    const fits = v => whole && v > MOST ? no(`${label}=${v}: here up to ${MOST}`) : v, value = x => log ? zero && x <= lo ? 0 : two(10**x) : +x.toFixed(4)
    const bar = tipped(name.split('-')[0], html('input', {type: 'range', id: id+name, min: lo, max: hi, step: by, input: () => turn(bar, () => put(value(+bar.value)))}))
    const field = tipped(name.split('-')[0], html('input', {type: 'text', class: 'lrtools-exact', autocomplete: 'off', spellcheck: 'false', 'aria-label': `${label}, exact`, change: () => turn(field, () => put(fits(number(label, field.value))))}))
    const show = skip => {
      const v = get(), x = log ? Math.log10(Math.max(v, 10**lo)) : v
      if (whole && v > bar.max) bar.max = 2*v
      if (value(+bar.value) !== v) bar.value = x
      const t = log ? shown(v) : String(v)
      bar.setAttribute('aria-valuetext', t)
      if (field !== skip) { field.value = t; good(field) }
    }
    return {row: row(name, label, bar, field), show}
  }
  function select(name, label, options, get, put) {
    const e = tipped(name, html('select', {id: id+name, change: () => turn(e, () => put(e.value))}, ...options.map(([v, t]) => html('option', {value: v}, t))))
    return {row: row(name, label, e), show: () => { e.value = get() }, e}
  }
  function tickbox(name, label, get, put) {
    const e = tipped(name, html('input', {type: 'checkbox', id: id+name, change: () => turn(e, () => put(e.checked))}))
    return {row: row(name, label, e), show: () => { e.checked = get() && !e.disabled }, e}
  }
  function typed(name, get, put) {
    const e = tipped(name, html('input', {type: 'text', id: id+name, autocomplete: 'off', spellcheck: 'false', change: () => turn(e, () => put(e.value))}))
    return {row: row(name, name, e), show: skip => { if (e !== skip) { e.value = get(); good(e) } }}
  }
  function rate_sliders(k, zero) {
    const get = () => s.args[k], span = v => [Math.min(LOW, v ? Math.floor(Math.log10(v)) : LOW), Math.max(HIGH, v ? Math.ceil(Math.log10(v)) : LOW), GRID]
    const to_top = v => { const o = get(); return sliced(o) ? {slice: [o.slice[0] && two(o.slice[0]*v/o.slice[1]), v]} : v }
    const res = [slider(k, k, () => top_of(get()), v => set(k, to_top(v)), span(top_of(get())), {log: true, zero})]
    if (sliced(get()) && get().slice[0] !== null) res.push(slider(k+'-first', `${k}, group 0`, () => get().slice[0], v => set(k, {slice: [v, get().slice[1]]}), span(get().slice[0]), {log: true}))
    return res
  }
  function controls_of(k, [check]) {
    const v = s.args[k], get = () => s.args[k], put = v => set(k, v)
    if (k.startsWith('lr')) return rate_sliders(k, check !== rate)
    if (k === 'moms') return [typed(k, () => text(get()).replace(/[[\]]/g, ''), t => put(momenta(k, t)))]
    if (v === null || k === 'num_it' || k === 'gamma' && s.kind === 'cyclical' && s.args.num_it === null) return []
    if (check === flag) return [tickbox(k, k, get, put)]
    if (check.options) return [select(k, k, check.options.filter(o => o !== 'exp_range' || s.args.num_it).map(o => [o, o]), get, put)]
    if (k in LOGS) return [slider(k, k, get, put, [Math.min(0, Math.floor(Math.log10(v))), Math.max(LOGS[k], Math.ceil(Math.log10(v))), GRID], {log: true})]
    if (check.whole) return [slider(k, k, get, put, [1, Math.max(10, 2*v), 1], {whole: true})]
    const [lo, hi, by] = SPANS[k]
    return [slider(k, k, get, put, [Math.min(k === 'pct_start' && s.kind === 'inverse_sqrt' ? by : lo, v), Math.max(hi, v), by])]
  }
  function form() { return ['lr_max', 'lr'].map(k => s.args[k]).filter(sliced).map(v => v.slice[0] === null ? 'tenth' : 'slice')[0] ?? 'one' }
  function respread(to) {
    const v = top => to === 'one' || !top ? top : {slice: [to === 'tenth' ? null : two(top/100), top]}
    s.args = {...s.args, ...Object.fromEntries(['lr_max', 'lr', ...s.kind === 'cyclical' ? ['lr_min'] : []].filter(k => k in s.args).map(k => [k, v(top_of(s.args[k]))]))}
  }
  const log = tickbox('log', 'log axis', () => s.log, v => { s.log = v }), moms = tickbox('moms-shown', 'momentum', () => s.moms, v => { s.moms = v })
  const kinds = select('kind', 'schedule', Object.keys(KINDS).map(k => [k, k]), () => s.kind, k => { s.args = other(k, s.kind, s.args); s.kind = k; if (k === 'sgdr') keep_pace('n_cycles') })
  const epochs = slider('n_epoch', 'n_epoch', () => s.n_epoch, v => { count(1)('n_epoch', v); s.n_epoch = v }, [1, Math.max(10, 2*s.n_epoch), 1], {whole: true})
  const groups = select('groups', 'groups', [[1, '1'], [2, '2'], [3, '3']], () => s.n, v => { s.n = +v; if (s.n === 1) respread('one'); else if (form() === 'one') respread('slice') })
  const spreads = select('rates', 'rates', [['one', 'one for all'], ['tenth', 'slice(highest)'], ['slice', 'slice(lowest, highest)']], form, respread)

  function sync(skip) { // bring the controls to the state
    const shape = [s.kind, ...Object.values(s.args).map(v => sliced(v) ? v.slice[0] === null : '')].join()
    if (shape !== built) { built = shape; knobs = Object.entries(KINDS[s.kind][0]).flatMap(([k, spec]) => controls_of(k, spec)); box.replaceChildren(...knobs.map(k => k.row)) }
    spreads.e.disabled = s.n === 1
    moms.e.disabled = !mom(s.kind, s.args)
    for (const c of [log, moms, kinds, epochs, groups, spreads, ...knobs]) c.show(skip)
  }

  let look // from the pointer's place to what is there
  function draw() {
    const f = schedule(s.kind, s.args, s.n), m = mom(s.kind, s.args), lr = p => { const v = f(p); return Array.isArray(v) ? v : Array(s.n).fill(v) }
    const pos = [...new Set([...steps(600), ...f.marks.flatMap(p => p > 0 ? [p-1e-9, p] : [p])])].sort((a, b) => a-b), rows = pos.map(lr), sets = same(rows)
    const all = rows.flat(), hi = Math.max(...all), log = s.log && hi > 0, shows = s.moms && m
    const power = (round, v) => 10**round(Math.log10(v)), round_up = v => { const p = power(Math.floor, v); return p*[1, 1.2, 1.5, 2, 3, 4, 6, 8, 10].find(m => m*p >= v) }
    const lim = log ? [power(Math.floor, Math.max(Math.min(...all.filter(v => v > 0)), hi/1e6)/1.2), power(Math.ceil, hi*1.2)] : [0, hi ? round_up(hi*1.04) : 1] // round ones, so that the curve moves and not the axis
    // pixels
    const W = Math.max(Math.round(picture.getBoundingClientRect().width) || host.clientWidth-34, 240), H = Math.round(Math.min(Math.max(.4*W, 210), 290)), left = 46, right = shows ? 42 : 12, top = 8, low = H-36, w = W-left-right
    const scale = log ? Math.log10 : v => v, X = p => left + p*w, Y = v => v > 0 || !log ? Math.min(low - (scale(v)-scale(lim[0]))/(scale(lim[1])-scale(lim[0]))*(low-top), H+9) : H+9
    const path = (ys, attrs) => svg('path', {fill: 'none', d: 'M' + pos.map((p, i) => `${X(p).toFixed(2)} ${ys(i).toFixed(2)}`).join('L'), ...attrs})
    const label = (x, y, t, attrs) => svg('text', {x: x.toFixed(2), y: y.toFixed(2), fill: 'currentColor', ...attrs}, t)
    const name = gs => gs.length === s.n ? s.n > 1 ? 'all groups' : 'lr' : gs.length > 1 ? `groups ${gs[0]}-${gs.at(-1)}` : `group ${gs[0]}`
    const colour = gs => s.n > 1 ? `color-mix(in srgb, var(--lrtools-main) ${Math.round(15+85*gs.at(-1)/(s.n-1))}%, var(--lrtools-faint))` : 'var(--lrtools-main)'
    const ys = (log ? decades(...lim) : even(...lim, 6)).flatMap(v => [svg('line', {class: 'grid', x1: left, x2: left+w, y1: Y(v).toFixed(2), y2: Y(v).toFixed(2)}), label(left-7, Y(v)+4, tick(v), {class: 'y', 'text-anchor': 'end'})])
    const xs = even(0, s.n_epoch, Math.min(10, w/40)).filter(Number.isInteger).flatMap(e => [svg('line', {class: 'axis', x1: X(e/s.n_epoch), x2: X(e/s.n_epoch), y1: low, y2: low+4}), label(X(e/s.n_epoch), low+18, e, {class: 'x', 'text-anchor': 'middle'})])
    const lines = sets.map(gs => path(i => Y(rows[i][gs[0]]), {class: 'lr', style: 'stroke: ' + colour(gs)}))
    const mv = shows ? pos.map(m) : [0], mlim = [Math.min(...mv)-.02, Math.max(...mv)+.02], M = v => low - (v-mlim[0])/(mlim[1]-mlim[0])*(low-top)
    if (shows) lines.push(path(i => M(mv[i]), {class: 'mom', 'stroke-dasharray': '5 4'}))
    const ms = shows ? even(...mlim, 4).map(v => label(left+w+7, M(v)+4, tick(v), {class: 'm'})) : []
    const hair = svg('line', {class: 'hair', y1: top, y2: low, visibility: 'hidden'})
    picture.replaceChildren(...ys, svg('line', {class: 'axis', x1: left, x2: left+w, y1: low, y2: low}), ...xs, label(left+w, H-2, 'epoch', {'text-anchor': 'end'}), ...ms, hair,
      svg('svg', {class: 'lrtools-curves', x: left-2, y: top-2, width: w+4, height: low-top+2, viewBox: `${left-2} ${top-2} ${w+4} ${low-top+2}`}, ...lines)) // a picture in the picture cuts lines off at the axis
    for (const [k, v] of Object.entries({viewBox: `0 0 ${W} ${H}`, height: H})) picture.setAttribute(k, v)
    const key = (t, style, more = '') => html('span', {class: 'lrtools-key' + more, style}, t)
    legend.replaceChildren(...s.n > 1 ? ['learning rate', ...sets.map(gs => key(name(gs), 'border-color: ' + colour(gs)))] : [key('learning rate')], ...shows ? [key('momentum', undefined, ' mom')] : [])
    // words
    const when = (v, g) => `epoch ${+(pos[rows.findIndex(r => r[g] === v)]*s.n_epoch).toPrecision(3)}`, peak = g => Math.max(...rows.map(r => r[g]))
    const course = gs => { const g = gs[0], [a, b, t] = [rows[0][g], rows.at(-1)[g], peak(g)]; return a === b && b === t ? `${fmt(a)} all the time` : `begins at ${fmt(a)}, is highest at ${when(t, g)} with ${fmt(t)}, ends at ${fmt(b)}` }
    picture.setAttribute('aria-label', `Learning rate over ${plural(s.n_epoch, 'epoch')} of ${code(s.kind, s.args)}, ${log ? 'logarithmic' : 'linear'} axis: ${sets.map(gs => `${name(gs)} ${course(gs)}`).join('; ')}.`
      + (shows ? ` Momentum, dashed: begins at ${fmt(m(0))}, is ${fmt(m(pos[rows.findIndex(r => r.at(-1) === peak(rows[0].length-1))]))} where the rate is highest, ends at ${fmt(m(1))}.` : ''))
    line.replaceChildren(...`fit_plan(learn, Plan([Phase(${code(s.kind, s.args)}, ${s.n_epoch})]))`.replace(/[([]/g, '$&\n').split('\n').flatMap(t => [t, html('wbr')]))
    look = x => {
      const p = Math.min(Math.max((x*W-left)/w, 0), 1), o = lr(p)
      for (const [k, v] of Object.entries({x1: X(p), x2: X(p), visibility: 'visible'})) hair.setAttribute(k, v)
      return `Epoch ${(p*s.n_epoch).toFixed(2)}: lr ${o.map(fmt).join(', ')}${m ? `, momentum ${m(p).toFixed(3)}` : ''}`
    }
  }

  picture.addEventListener('pointermove', e => { const b = picture.getBoundingClientRect(); told.textContent = look((e.clientX-b.left)/b.width) })
  picture.addEventListener('pointerleave', () => { picture.querySelector('.hair').setAttribute('visibility', 'hidden'); told.textContent = HINT })
  const copy = html('button', {type: 'button', class: 'lrtools-copy', title: 'Copy this line', 'aria-live': 'polite', click: async () => {
    try { await navigator.clipboard.writeText(line.textContent) } catch { getSelection().selectAllChildren(line); if (!document.execCommand('copy')) return }
    copy.textContent = 'Copied'; setTimeout(() => { copy.textContent = 'Copy' }, 1500)
  }}, 'Copy')
  const whole_thing = html('div', {class: 'lrtools-player', role: 'group', 'aria-label': 'A learning-rate schedule to play with',
    focusin: e => { told.textContent = e.target.title || HINT }, focusout: () => { told.textContent = HINT }},
    html('div', {class: 'lrtools-head'}, legend, log.row, moms.row), picture, told, html('div', {class: 'lrtools-knobs'}, kinds.row, epochs.row), box, html('div', {class: 'lrtools-knobs'}, groups.row, spreads.row), html('div', {class: 'lrtools-code'}, line, copy))
  draw(); sync()
  let width
  new ResizeObserver(([e]) => { if (e.contentRect.width && e.contentRect.width !== width) { width = e.contentRect.width; draw() } }).observe(whole_thing)
  host.replaceChildren(whole_thing) // only now: before, anything may have failed
}

window.lrtools = {kinds: Object.keys(KINDS), schedule, mom, code, play}
const begin = () => document.querySelectorAll('.lrtools-play').forEach(host => { try { play(host) } catch (e) { console.error('lrtools-play:', e) } })
document.readyState === 'loading' ? document.addEventListener('DOMContentLoaded', begin) : begin()
})()
