"Reads from the source every line of code that a sentence of lrtools advises, and takes such advice"
import ast, re
from collections import namedtuple

HOLE = '\0' # where a value is put into a sentence
SPAN = re.compile(r'`([^`]+)`')
BARE = re.compile(r'(?<![\w.`])(?:learn\.\w+|fit_plan|freeze_to|compare|probe|preflight|record|Snapshot\.load)\(')

CAUSES = {'torch.no_grad()', 'torch.inference_mode()', '.item()', '.detach()'} # code that a sentence names as what is wrong

Advice = namedtuple('Advice', 'where text codes') # of a sentence with HOLEs: its place, itself, the code in it

def docstrings(tree):
    "The constants that document a module, a class or a function"
    bodies = [n.body for n in ast.walk(tree) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef)) and n.body]
    return [b[0].value for b in bodies if isinstance(b[0], ast.Expr) and isinstance(b[0].value, ast.Constant) and isinstance(b[0].value.value, str)]

def sentences(source):
    "`(line, text with HOLEs)` of each string of a module that is no docstring; and of the docstrings"
    tree = ast.parse(source)
    docs = docstrings(tree)
    own,parts = [],{id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
    for n in ast.walk(tree):
        if isinstance(n, ast.JoinedStr): own.append((n.lineno, ''.join(v.value if isinstance(v, ast.Constant) else HOLE for v in n.values)))
        elif isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in parts and not any(n is d for d in docs): own.append((n.lineno, n.value))
    return own,[(d.lineno, d.value) for d in docs]

def is_code(span):
    "Whether what stands between backticks can be run: a call, an assignment, an option"
    if not re.search(r'[(=]', span): return False
    try: ast.parse(span.replace(HOLE, '0'))
    except SyntaxError: return False
    return True

def bare_calls(text):
    "Calls that stand in `text` without backticks, up to the bracket that closes them"
    res,text = [],SPAN.sub('', text)
    for m in BARE.finditer(text):
        depth = 0
        for i in range(m.end()-1, len(text)):
            depth += (text[i] in '([')-(text[i] in ')]')
            if not depth: res.append(text[m.start():i+1]); break
    return res

def codes(text): return [s for s in SPAN.findall(text) if is_code(s) and s not in CAUSES]+[c for c in bare_calls(text) if is_code(c)]

def advices(path):
    "The `Advice` in the sentences of a module, and the one in its docstrings"
    own,docs = sentences(path.read_text())
    read = lambda found: [Advice(f'{path.name}:{line}', text, codes(text)) for line,text in found if codes(text)]
    return read(own),read(docs)

def is_said(advice, text):
    "Whether `text` is, or has in it, the sentence of `advice`"
    return re.search('.*?'.join(map(re.escape, advice.text.split(HOLE))), text, re.S) is not None

def take(text, ns):
    "Run the code that `text` advises, in the namespace `ns`; an option is given to `again` in it. Returns what was run"
    todo = codes(text)
    assert todo, f'no code in {text!r}'
    for code in todo:
        tree = ast.parse(code)
        option = len(tree.body)==1 and isinstance(tree.body[0], ast.Assign) and isinstance(tree.body[0].targets[0], ast.Name)
        if option: ns['again'](**eval(f'dict({code})', ns))
        else: exec(compile(tree, '<advice>', 'exec'), ns)
    return todo
