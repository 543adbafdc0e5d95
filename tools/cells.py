"What the other tools read off a notebook's cells: directives, sections, pictures and their descriptions."
import re

PICTURES = {'image/png': 'png', 'image/jpeg': 'jpg'}
_directive = re.compile(r'#\s*\|\s*([^\s:]+)\s*:?\s*(.*)')

def only_widget(output):
    "Is `output` the view of a widget, which needs a kernel, without a picture beside it?"
    return 'application/vnd.jupyter.widget-view+json' in output.get('data', {}) and not any(m in output['data'] for m in PICTURES)

def join(x): return ''.join(x) if isinstance(x, list) else x

def split(cell):
    "The directives of `cell` as a dict, and its source without them"
    lines,opts = join(cell['source']).strip('\n').split('\n'),{}
    while lines and (m := _directive.match(lines[0])):
        opts[m[1]] = m[2].strip() or 'true'
        lines.pop(0)
    return opts,'\n'.join(lines).strip('\n')

def hidden(cell):
    "Is `cell` only for tests and exports?"
    opts,_ = split(cell)
    return 'hide' in opts or opts.get('include')=='false'

def heading(md):
    "The last heading of the Markdown text `md`, or `None`"
    md = re.sub(r'^```.*?^```', '', md, flags=re.M|re.S)
    found = re.findall(r'^#{1,6}\s+(.+?)\s*#*$', md, re.M)
    plain = re.sub(r'\[(.*?)\]\(.*?\)|\{#.*?\}', r'\1', found[-1]) if found else ''
    return re.sub(r'[`*]', '', plain).strip() or None

def sections(nb):
    "For each cell of `nb`, the heading that it stands under"
    now,res = '',[]
    for c in nb['cells']:
        if c['cell_type']=='markdown': now = heading(join(c['source'])) or now
        res.append(now)
    return res

def describe(cell, output, section):
    "The alternative text of the picture in `output`: what its author wrote, else its section"
    meta = output.get('metadata', {})
    said = [meta[m]['alt'] for m in PICTURES if isinstance(meta.get(m), dict) and meta[m].get('alt')]
    return (said or [split(cell)[0].get('fig-alt', '').strip('"\'') or section or 'Picture'])[0]

def slug(text): return re.sub(r'[^a-z0-9]+', '-', text.lower()).strip('-')[:50].strip('-') or 'picture'
