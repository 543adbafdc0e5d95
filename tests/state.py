"Everything that can be read from a learner and its process, as flat `{path: value}`: the tests' own measure of 'as it was', which shares no code with lrtools"
import array as arrays, functools, gc, io, itertools, os, random, signal, struct, sys, types, weakref
from collections import deque
from contextlib import contextmanager
from enum import Enum
from pathlib import Path, PurePath

import numpy as np
import plum
import torch

ATOMS = (bool, int, str, bytes, complex, slice, range, type(None), PurePath, Enum, torch.dtype, torch.device, torch.layout)
CODE = (type, types.ModuleType)
HOLDS_SELF = (types.BuiltinFunctionType, types.MethodWrapperType)
STEPS = (itertools.count, *(type(iter(v)) for v in ([], (), range(0), ''))) # cannot be set back: another one in its place is as good
OPAQUE = {'multiprocessing', 'threading', '_thread', 'queue', '_queue', 'weakref', 'pandas', 'concurrent', 'matplotlib', 'socket', 'subprocess'}

class Record(dict):
    "`{path: value}`; keeps what it saw alive, so that an `id` stays one object's"
    def __init__(self): self.keep = []

# ---------------------------------------------------------------- one object: what it holds itself, and its parts by name

def attributes(o):
    "Instance attributes in `__dict__` and `__slots__`, past properties and `__getattr__`"
    try: res = {f'.{k}': v for k,v in object.__getattribute__(o, '__dict__').items()}
    except AttributeError: res = {}
    for c in type(o).__mro__:
        for s in np.atleast_1d(c.__dict__.get('__slots__', ())):
            name = f"_{c.__name__.lstrip('_')}{s}" if s.startswith('__') and not s.endswith('__') else s
            if s not in ('__dict__','__weakref__') and hasattr(o, name): res[f'.{c.__name__}.{s}'] = getattr(o, name)
    return res

def in_bytes(t): return t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if t.numel() else b''

def tensor(t):
    t = t.coalesce() if t.is_sparse else t
    if t.is_sparse: return ('sparse', t.dtype, tuple(t.shape), in_bytes(t.indices()), in_bytes(t.values()), t.requires_grad), {}
    hooks = {k: getattr(t, k, None) for k in ('_backward_hooks','_post_accumulate_grad_hooks')}
    parts = {f'.{k}': v if isinstance(v, dict) else dict(v) for k,v in hooks.items() if v}
    if t.is_leaf: parts['.grad'] = t.grad
    return (t.dtype, tuple(t.shape), t.stride(), t.requires_grad, t.is_leaf, in_bytes(t)), parts | attributes(t)

def array(a):
    if a.dtype==object: return (a.shape,), {f'[{i}]': o for i,o in enumerate(a.ravel())}
    return (str(a.dtype), a.shape, a.tobytes()), attributes(a)

def generator(o):
    if isinstance(o, torch.Generator): return in_bytes(o.get_state())
    if isinstance(o, np.random.Generator): return repr(o.bit_generator.state)
    if isinstance(o, np.random.BitGenerator): return repr(o.state)
    return repr(o.get_state() if isinstance(o, np.random.RandomState) else o.getstate())

def mapping(d):
    names = {k: f'[{k!r}]' if isinstance(k, ATOMS) else f'[key {i}]' for i,k in enumerate(d)}
    return tuple(names.values()), {n: d[k] for k,n in names.items()} | {f'key{n}': k for k,n in names.items() if not isinstance(k, ATOMS)} | attributes(d)

def function(f):
    "Variables of the function around it, defaults, attributes"
    cells = zip(f.__code__.co_freevars, f.__closure__ or ())
    held = {f'.cell {k}': c.cell_contents for k,c in cells if c!=types.CellType()}
    return '', held | {'.defaults': f.__defaults__, '.kwdefaults': f.__kwdefaults__} | attributes(f)

def script(m):
    "A module of TorchScript, by torch's own means"
    parts = {f'.parameters.{k}': p for k,p in m.named_parameters()} | {f'.buffers.{k}': b for k,b in m.named_buffers()}
    return m._c.dump_to_str(False, True, False).split('object at')[0], parts | attributes(m)

def look(o):
    "(what `o` itself holds, its parts by name)"
    if isinstance(o, float): return struct.pack('d', o), {}
    if isinstance(o, np.generic): return (str(o.dtype), o.tobytes()), {}
    if isinstance(o, torch.Tensor): return tensor(o)
    if isinstance(o, np.ndarray): return array(o)
    if isinstance(o, random.SystemRandom): return '', attributes(o)
    if isinstance(o, (random.Random, np.random.Generator, np.random.BitGenerator, np.random.RandomState, torch.Generator)): return generator(o), attributes(o)
    if isinstance(o, torch.jit.ScriptModule): return script(o)
    if isinstance(o, types.FunctionType): return function(o)
    if isinstance(o, plum.Function): return '', {f'.{i}': m.implementation for i,m in enumerate(o.methods)} # what it caches is no state
    if isinstance(o, HOLDS_SELF): return '', {'.self': o.__self__} if not isinstance(o.__self__, (types.ModuleType, type)) else {}
    if isinstance(o, (bytearray, arrays.array)): return bytes(o), attributes(o)
    if isinstance(o, (io.BytesIO, io.StringIO)): return (o.tell(), o.getvalue()) if not o.closed else 'closed', {}
    if isinstance(o, STEPS): return repr(o) if isinstance(o, itertools.count) else repr(o.__reduce__()[1:]), {}
    if isinstance(o, weakref.ref): return o() is None, {'.target': o()}
    if isinstance(o, (weakref.WeakKeyDictionary, weakref.WeakValueDictionary)): return mapping(dict(o.items()))
    if isinstance(o, types.MethodType): return '', {'.self': o.__self__, '.func': o.__func__}
    if isinstance(o, functools.partial): return '', {'.func': o.func, '.args': o.args, '.keywords': o.keywords} | attributes(o)
    if isinstance(o, (dict, types.MappingProxyType)): return mapping(o)
    if isinstance(o, (list, tuple, deque)): return len(o), {f'[{i}]': v for i,v in enumerate(o)} | attributes(o)
    if isinstance(o, (set, frozenset)): return sorted(repr(v) if isinstance(v, ATOMS) else str(id(v)) for v in o), {f'[{id(v)}]': v for v in o if not isinstance(v, ATOMS)} | attributes(o)
    if isinstance(o, CODE) or type(o).__module__.partition('.')[0] in OPAQUE: return '', {}
    if hasattr(o, 'closed') and hasattr(o, 'fileno'): return o.closed, {}
    return '', attributes(o)

def record(o, path='', ids=True):
    "Everything reachable from `o`; with `ids` also which object each thing is"
    res,seen,todo = Record(),{},[(path, o)]
    while todo:
        p,o = todo.pop()
        if isinstance(o, ATOMS): res[p] = repr(o); continue
        method = isinstance(o, types.MethodType) # a new object at each look
        if id(o) in seen and not method: res[p] = ('is', seen[id(o)] if ids else ''); continue
        seen[id(o)] = p
        res.keep.append(o)
        mine,parts = look(o)
        res[p] = (type(o).__name__, id(o) if ids and not method and not isinstance(o, STEPS) else 0, mine)
        todo += [(p+k, v) for k,v in reversed(parts.items())]
    return res

# ---------------------------------------------------------------- the process and the disk

def depth():
    n = torch.autocast_increment_nesting()
    torch.autocast_decrement_nesting()
    return n-1

def process():
    "What belongs to no learner: generators, autocast, modes, hooks for all modules, the collector of garbage, the handler of Ctrl-C"
    m = torch.nn.modules.module
    return dict(python=random.getstate(), numpy=np.random.get_state(), torch=torch.get_rng_state(), grad=torch.is_grad_enabled(),
                autocast={d: (torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ('cpu','cuda')},
                depth=depth(), cache=torch.is_autocast_cache_enabled(), dtype=torch.get_default_dtype(), gc=gc.isenabled(),
                hooks={k: dict(v) for k,v in vars(m).items() if k.startswith('_global_') and isinstance(v, dict)}, sigint=repr(signal.getsignal(signal.SIGINT)))

def folder(path):
    "Names, times and bytes of all that is below `path`"
    return {str(p.relative_to(path)): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in sorted(Path(path).rglob('*'))}

def state(learn, path=None):
    "All of contract 1"
    res = record(learn, 'learn')
    for k,v in process().items(): res.update(record(v, f'process.{k}', ids=False))
    if path is not None: res.update({f'folder/{k}': v for k,v in folder(path).items()})
    return res

def changes(before, after, n=12):
    "What differs, in words"
    def short(v): return repr(v) if len(repr(v))<160 else repr(v)[:100]+'...'
    return [f'{k}: {short(before.get(k, "absent"))} -> {short(after.get(k, "absent"))}' for k in {**before, **after} if before.get(k)!=after.get(k)][:n]

WRITING = {'os.mkdir', 'os.remove', 'os.rename', 'os.rmdir', 'os.truncate', 'os.link', 'os.symlink', 'tempfile.mkdtemp', 'tempfile.mkstemp', 'shutil.rmtree'}
_written = []

def _audit(event, args):
    if not _written or '__pycache__' in str(args[:1]): return
    if event in WRITING: _written[-1].append((event, str(args[0])))
    if event=='open' and isinstance(args[2], int) and args[2]&(os.O_WRONLY|os.O_RDWR|os.O_CREAT|os.O_TRUNC) and not str(args[0]).startswith('/dev/'):
        _written[-1].append((event, str(args[0])))

sys.addaudithook(_audit)

@contextmanager
def writes():
    "List of the (event, path) of each attempt of this process to write a file or folder"
    _written.append([])
    try: yield _written[-1]
    finally: _written.pop()
