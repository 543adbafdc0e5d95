"""Make README.md, and the pictures it shows, from the saved outputs of nbs/index.ipynb.

    python tools/readme.py           # write them
    python tools/readme.py --check   # exit 1, with a diff, when they are stale

Nothing is executed. Back-ticked names of this library link to their documentation."""
import base64, difflib, json, os, re, runpy, sys
from pathlib import Path
from urllib.parse import urljoin

from nbdev.config import get_config

from cells import PICTURES, describe, hidden, join, only_widget, sections, slug, split

ROOT = Path(__file__).resolve().parent.parent
IMAGES = 'images/readme-'

def names(root):
    "The documentation page of each name that the library exports"
    index = root/'lrtools/_modidx.py'
    if not index.exists(): return {}
    d = runpy.run_path(str(index))['d']
    base = urljoin(d['settings']['doc_host'], d['settings']['doc_baseurl'].rstrip('/')+'/')
    return {full.removeprefix(f'{mod}.'): urljoin(base, page) for mod,syms in d['syms'].items() for full,(page,_) in syms.items()}

def prose(md, docs, target):
    "Markdown `md` with back-ticked names linked, and the links in it replaced by `target(link)`"
    def name(m): return f'[{m[0]}]({docs[m[1]]})' if m[1] in docs else m[0]
    out,fence = [],False
    for l in md.split('\n'):
        if l.lstrip().startswith('```'): fence = not fence
        elif not fence and not l.startswith('    '):
            l = re.sub(r'(?<=\]\()[^)\s]+', lambda m: target(m[0]), l)
            if not l.startswith('#'): l = re.sub(r'(?<![\[`])`([\w.]+)(?:\(\))?`(?![\]`])', name, l)
        out.append(l)
    return '\n'.join(out)

def page(link, url):
    "Where a link of the index leads from README.md: notebooks to their pages, files to where they lie, the rest unchanged"
    path,mark,frag = link.partition('#')
    if link.startswith('attachment:'): raise ValueError(f'README.md cannot show {link}: save the picture as a file and link that.')
    if re.match(r'[a-z]+:|/', link) or not path: return link
    if not path.endswith('.ipynb'): return os.path.normpath(f'nbs/{path}')+mark+frag
    folder,file = os.path.split(path)
    return url.rstrip('/')+'/'+os.path.join(folder, re.sub(r'^\d+[a-z]*_', '', file)[:-5]+'html')+mark+frag

def fenced(text, lang=''):
    ticks = '`'*max([3, *(len(t)+1 for t in re.findall(r'^`{3,}', text, re.M))])
    return f'{ticks}{lang}\n{text}\n{ticks}'

def shown(data, picture, md):
    "Markdown for one output's `data`, in the richest form that a README can show"
    if any(m in data for m in PICTURES): return picture()
    if 'text/markdown' in data: return md(data['text/markdown'])
    if 'text/html' in data: return data['text/html'].strip()
    if 'text/plain' in data: return fenced(data['text/plain'].rstrip())

def readme(nb, url='', docs={}):
    "The text of README.md, and `{path: bytes}` of its pictures, for the notebook dict `nb`"
    parts,files = [],{}
    def md(s): return prose(s, docs, lambda link: page(link, url))
    def picture(cell, output, section):
        mime = next(m for m in PICTURES if m in output['data'])
        stem = IMAGES+slug(section); same = sum(f.startswith(stem+'.') or f.startswith(stem+'-') for f in files)
        path = f'{stem}{f"-{same+1}" if same else ""}.{PICTURES[mime]}'
        files[path] = base64.b64decode(join(output['data'][mime]))
        return f'![{describe(cell, output, section)}]({path})'
    for c,s in zip(nb['cells'], sections(nb)):
        opts,src = split(c)
        if hidden(c) or c['cell_type']=='raw': continue
        if c['cell_type']=='markdown': parts.append(md(src)); continue
        if src and opts.get('echo')!='false': parts.append(fenced(src, 'python'))
        for o in [] if opts.get('output')=='false' else c['outputs']:
            if only_widget(o): continue
            if o['output_type']=='error': raise ValueError(f'nbs/index.ipynb holds an error: {o["ename"]}: {o["evalue"]}')
            if o['output_type']=='stream': parts.append(fenced(join(o['text']).rstrip()) if o['name']=='stdout' else None)
            else: parts.append(shown({k:join(v) for k,v in o['data'].items() if isinstance(v, (str,list))}, lambda: picture(c, o, s), md))
    return '\n\n'.join(p for p in parts if p).rstrip()+'\n',files

def build(root):
    "The text and pictures of `root`'s README.md, as they should be"
    nb = json.loads((root/'nbs/index.ipynb').read_text(encoding='utf-8'))
    return readme(nb, get_config(root).doc_url, names(root))

def saved(root):
    "The text and pictures of `root`'s README.md, as they are"
    f = root/'README.md'
    return f.read_text(encoding='utf-8') if f.exists() else '', {p.relative_to(root).as_posix(): p.read_bytes() for p in root.glob(IMAGES+'*')}

def stale(root):
    "What differs between README.md and its notebook, as text; empty when nothing does"
    (new,pics),(old,have) = build(root),saved(root)
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), 'README.md', 'nbs/index.ipynb', lineterm=''))
    return '\n'.join(lines + [f'{p} is stale' for p in sorted(pics.keys()|have.keys()) if pics.get(p)!=have.get(p)])

def write(root):
    "Write README.md and its pictures, and remove pictures that it no longer shows"
    text,pics = build(root)
    for p in saved(root)[1].keys()-pics.keys(): (root/p).unlink()
    for p,b in pics.items(): (root/p).parent.mkdir(exist_ok=True); (root/p).write_bytes(b)
    (root/'README.md').write_text(text, encoding='utf-8')

if __name__=='__main__':
    if not (ROOT/'nbs/index.ipynb').exists(): sys.exit('README.md is made from nbs/index.ipynb, which is missing.')
    if '--check' not in sys.argv: write(ROOT)
    elif diff := stale(ROOT): sys.exit(f'{diff}\n\nREADME.md is not what nbs/index.ipynb says: run `make readme`.')
