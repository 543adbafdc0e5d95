"""Run the quickstart in a kernel of this environment and leave what it made.

    python tools/demo.py                 # nbs/quickstart.ipynb -> _demo/
    python tools/demo.py NOTEBOOK --out DIR

The notebook itself is not changed. What its last code cell prints is shown as the summary."""
import argparse, base64, copy, os, sys, time
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from traitlets import default

from cells import PICTURES, describe, hidden, only_widget, sections, slug, split

ROOT = Path(__file__).resolve().parent.parent

# MathJax, Mermaid and require.js would come from other hosts; text and pictures need none of them.
TEMPLATE = """{% extends 'lab/index.html.j2' %}
{% block html_head_js_requirejs %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}
{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_css %}<style>
body.jp-Notebook { max-width: 60rem; margin: 0 auto; }
.jp-OutputArea-output img { max-width: 100%; height: auto; }
</style>{% endblock %}"""
PICTURE = """{% block BLOCK scoped %}<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:MIME;base64,{{ output.data['MIME'] }}" alt="{{ output | get_metadata('alt', 'MIME') | escape_html }}">
</div>{% endblock %}"""   # nbconvert's own block drops the alternative text
for mime,block in ('image/png', 'data_png'), ('image/jpeg', 'data_jpg'): TEMPLATE += PICTURE.replace('MIME', mime).replace('BLOCK', block)

class OwnKernel(AsyncKernelManager):
    "The kernel of this environment, whatever kernels are registered on the machine"
    @default('kernel_spec_manager')
    def _no_registered_kernels(self): return KernelSpecManager(parent=self, kernel_dirs=[])

class Progress:
    "Prints a line for each code cell that has run"
    def __init__(self, nb):
        self.sections,self.start,self.cell = sections(nb),time.time(),None
        self.code = [i for i,c in enumerate(nb.cells) if c.cell_type=='code']

    def begin(self, cell, cell_index): self.cell,self.began = cell,time.time()
    def end(self, cell, cell_index, execute_reply):
        at = self.code.index(cell_index)+1
        print(f'{at:3d}/{len(self.code)} {time.time()-self.began:6.1f} s  {self.sections[cell_index]}', flush=True)

def run(nb, folder):
    "Execute `nb` in place, in `folder`; returns its `Progress` and the error, if any"
    progress = Progress(nb)
    # with MPLBACKEND the kernel would not show figures; with VIRTUAL_ENV IPython adds that environment's packages to ours
    env = {k:v for k,v in os.environ.items() if k not in ('MPLBACKEND', 'VIRTUAL_ENV')}
    env['PYTHONPATH'] = os.pathsep.join([str(ROOT), *filter(None, [env.get('PYTHONPATH')])])
    for c in nb.cells:
        if split(c)[0].get('eval')=='false': c.metadata['tags'] = ['skip-execution']
    client = NotebookClient(nb, timeout=900, kernel_name='python3', kernel_manager_class=OwnKernel, store_widget_state=False, resources={'metadata': {'path': str(folder)}},
                            extra_arguments=['--IPKernelApp.log_level=40'],   # else it warns of its local port
                            on_cell_start=progress.begin, on_cell_executed=progress.end)
    try: client.execute(env=env)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as e: return progress,e
    finally:
        for c in nb.cells: c.metadata.pop('tags', None)
    return progress,None

def pictures(nb):
    "`(name, bytes)` of every picture in `nb`, in order"
    found = [(s, mime, o.data[mime]) for c,s in zip(nb.cells, sections(nb)) for o in c.get('outputs', [])
             for mime in PICTURES if mime in o.get('data', {})]
    return [(f'{i:02d}-{slug(s)}.{PICTURES[m]}', base64.b64decode(d)) for i,(s,m,d) in enumerate(found, 1)]

def presentable(nb):
    "A copy of `nb` for readers: without hidden cells, directives and warnings, each picture with an alternative text"
    nb = copy.deepcopy(nb)
    for c,s in zip(nb.cells, sections(nb)):
        for o in c.get('outputs', []):
            for m in PICTURES:
                if m in o.get('data', {}): o.metadata[m] = {**o.metadata.get(m, {}), 'alt': describe(c, o, s)}
    nb.cells = [c for c in nb.cells if not hidden(c)]
    for c in nb.cells:
        if c.cell_type!='code': continue
        opts,c.source = split(c)
        if opts.get('echo')=='false': c.metadata['transient'] = {'remove_source': True}
        c.outputs = [o for o in c.outputs if opts.get('output')!='false' and o.get('name')!='stderr' and not only_widget(o)]
    return nb

def html(nb, title, folder):
    "`nb` as one HTML page that asks no host for anything"
    exporter = HTMLExporter(raw_template=TEMPLATE, embed_images=True)
    return exporter.from_notebook_node(presentable(nb), {'metadata': {'name': title, 'path': str(folder)}})[0]

def printed(nb):
    "What the last code cell of `nb` printed"
    last = [c for c in nb.cells if c.cell_type=='code'][-1:]
    return ''.join(o.text for c in last for o in c.outputs if o.get('name')=='stdout').strip()

def save(nb, name, out, folder):
    "Write notebook, page and pictures under `out`; returns the paths of notebook and page and the folder of pictures"
    pics = out/'pictures'; pics.mkdir(parents=True, exist_ok=True)
    for p in pics.iterdir(): p.unlink()
    for f,b in pictures(nb): (pics/f).write_bytes(b)
    nbformat.write(nb, out/f'{name}.ipynb')
    (out/f'{name}.html').write_text(html(nb, name, folder), encoding='utf-8')
    return out/f'{name}.ipynb',out/f'{name}.html',pics

def failure(cell, error):
    "The cell that failed and why"
    why = f'{error.ename}: {error.evalue}' if isinstance(error, CellExecutionError) else f'{type(error).__name__}: {error}'
    return f'\nThis cell failed:\n\n{cell.source if cell else "(none: the kernel did not start)"}\n\n{why}'

def main(notebook, out):
    if not notebook.exists(): return f'There is no notebook {notebook}.'
    nb,began = nbformat.read(notebook, as_version=4),time.time()
    print(f'Running {notebook.name}', flush=True)
    progress,error = run(nb, notebook.parent)
    left = save(nb, notebook.stem, out, notebook.parent)
    if error: return f'{failure(progress.cell, error)}\n\nThe traceback is in {left[0]}.'
    print(f'\n{printed(nb)}\n' if printed(nb) else '')
    for what,p in zip(('notebook', 'page', 'pictures'), left): print(f'{what}: {os.path.relpath(p)}')
    print(f'total: {time.time()-began:.1f} s')

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('notebook', nargs='?', type=Path, default=ROOT/'nbs/quickstart.ipynb')
    p.add_argument('--out', type=Path, default=ROOT/'_demo')
    a = p.parse_args()
    sys.exit(main(a.notebook.resolve(), a.out.resolve()))
