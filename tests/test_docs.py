"The docs site: built from the notebooks without a warning, and every page of it in a real browser"
import html, http.server, re, subprocess, sys, threading
from functools import partial
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from slugs import slug

pytestmark = [pytest.mark.browser, pytest.mark.slow]

class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@pytest.fixture(scope='module')
def site(root):
    "The folder that `make docs` leaves"
    r = subprocess.run([sys.executable, 'tools/docs.py'], cwd=root, capture_output=True, text=True, timeout=600)
    assert r.returncode==0, r.stdout[-3000:]+r.stderr[-3000:]
    assert 'WARNING' not in r.stdout+r.stderr
    return root/'_docs'

@pytest.fixture(scope='module')
def url(site):
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}/'
        server.shutdown()

def pages(site): return sorted(p for p in site.rglob('*.html') if not p.relative_to(site).parts[0].startswith('_'))

def test_every_notebook_has_its_page(site, root):
    "With the title that the notebook has"
    import json
    for p in (root/'nbs').rglob('*.ipynb'):
        if '.ipynb_checkpoints' in p.parts: continue
        title = re.match(r'# (.*)', ''.join(json.loads(p.read_text())['cells'][0]['source']))[1]
        page = site/p.relative_to(root/'nbs').with_name(re.sub(r'^\d+[a-z]*_', '', p.stem)+'.html')
        assert page.exists() and html.escape(title, quote=False).replace("'", '’') in page.read_text().replace('&#39;', '’').replace("'", '’').replace('<code class="docutils literal notranslate"><span class="pre">', '`').replace('</span></code>', '`'), p

def test_no_link_leads_nowhere(site):
    "Pages, anchors and files that are linked are there"
    texts = {p: p.read_text() for p in pages(site)}
    ids = {p: {*re.findall(r'\bid="([^"]+)"', t)} for p,t in texts.items()}
    lost = []
    for p,t in texts.items():
        for link in {html.unescape(m) for m in re.findall(r'\b(?:href|src)="([^"]+)"', t)}:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc: continue
            to = (p.parent/unquote(parts.path)).resolve() if parts.path else p
            if not to.exists() or to in ids and parts.fragment and unquote(parts.fragment) not in ids[to]: lost.append((p.name, link))
    assert not lost

def test_no_markup_is_left(site):
    "Markdown that no renderer has read, such as a link in a link"
    left = []
    for p in pages(site):
        article = re.search(r'<article.*?</article>', p.read_text(), re.S)
        words = html.unescape(re.sub(r'<(pre|code|script|style|math)\b.*?</\1>|<[^>]+>', '', article[0] if article else '', flags=re.S))
        left += [(p.name, m) for m in re.findall(r'.{0,40}(?:\]\(|`|\*|\|).{0,40}', words)]
    assert not left

def test_what_help_links_to_is_there(site, root):
    "The page as Markdown, which nbdev names in the docstring of each module"
    links = {p.name: m[1] for p in (root/'lrtools').glob('*.py') if (m := re.search(r'^Docs: https://[^/]+/lrtools/(.+)"""$', p.read_text(), re.M))}
    assert len(links)>30
    for module,link in links.items():
        text = (site/link).read_text()
        assert link.endswith('.html.md') and text.startswith('# ') and '```python' in text and not re.search(r'\]\((?![a-z]+:)[^)]*\.ipynb', text), module

def test_anchors_are_those_of_nbdev():
    assert slug('LRCurve.smooth')=='lrcurve.smooth' and slug('As a user types it')=='as-a-user-types-it' and slug("What it cannot say?")=='what-it-cannot-say'

@pytest.fixture(scope='module')
def walked(site, url, browser):
    "What went wrong on each page, wide and narrow, light and dark: {page: [complaint]}"
    res,loads = {},'() => document.readyState=="complete" && [...document.images].every(i => i.complete)'
    context = browser.new_context()
    page,now = context.new_page(),[]
    page.on('console', lambda m: now.append(f'{m.type}: {m.text}') if m.type=='error' else None)
    page.on('pageerror', lambda e: now.append(f'error: {e}'))
    page.on('request', lambda r: None if r.url.startswith((url, 'data:', 'blob:')) else now.append(f'request: {r.url}'))
    page.on('response', lambda r: now.append(f'{r.status}: {r.url}') if r.status>=400 else None)
    for p in pages(site):
        now = res[p.relative_to(site).as_posix()] = []
        for width,scheme in ((1280, 'light'), (390, 'dark'), (1280, 'dark'), (390, 'light')):
            page.set_viewport_size(dict(width=width, height=900)); page.emulate_media(color_scheme=scheme)
            if (width, scheme) in ((1280, 'light'), (390, 'dark')): page.goto(urljoin(url, p.relative_to(site).as_posix()))
            page.evaluate('() => document.querySelectorAll("img[loading=lazy]").forEach(i => i.loading = "eager")')
            page.wait_for_function(loads)
            seen = page.evaluate('''() => ({wide: document.documentElement.scrollWidth-innerWidth,
                broken: [...document.images].filter(i => i.checkVisibility() && !i.naturalWidth).map(i => i.src.slice(0, 100)),
                mute: [...document.images].filter(i => i.checkVisibility() && !i.alt.trim() && !i.closest('[role=figure][aria-label]')).map(i => i.src.slice(0, 100)),
                dark: getComputedStyle(document.body).backgroundColor})''')
            if seen['wide']>0: now.append(f"{width}: {seen['wide']} pixels wider than the screen")
            now += [f'broken: {i}' for i in seen['broken']]+[f'no alternative text: {i}' for i in seen['mute']]
            light = sum(map(int, re.findall(r'\d+', seen['dark'])[:3]))>384
            if light!=(scheme=='light'): now.append(f"{scheme}: the background is {seen['dark']}")
    context.close()
    return res

def test_every_page_is_sound(walked):
    "No error in the console, no request to another host, no picture broken or without words, nothing wider than the screen, light and dark"
    assert len(walked)>30
    assert {k:v for k,v in walked.items() if v}=={}

def test_tutorials_show_their_widgets(site, root):
    "A picture for each output that is a widget"
    import json
    for p in (root/'nbs/tutorials').glob('*.ipynb'):
        nb = json.loads(p.read_text())
        widgets = sum('application/vnd.jupyter.widget-view+json' in o.get('data', {}) for c in nb['cells'] for o in c.get('outputs', []))
        pngs = sum('image/png' in o.get('data', {}) for c in nb['cells'] for o in c.get('outputs', []))
        page = (site/'tutorials'/(re.sub(r'^\d+_', '', p.stem)+'.html')).read_text()
        assert widgets and len(re.findall(r'<img[^>]*_images/', page))>=pngs, p.name

def test_a_saved_widget_is_seen_once(url, browser):
    "Alive where scripts run, else as a picture; and no picture without a widget is lost"
    seen = """() => [...document.querySelectorAll('.cell_output')].map(o => [[...o.querySelectorAll('.lrtools')], [...o.querySelectorAll(':scope > img')]].map(all => all.filter(e => e.checkVisibility()).length).join())"""
    alive = browser.new_page()
    alive.goto(url+'gallery.html')
    alive.wait_for_function("() => document.querySelectorAll('.cell_output > .widget-subarea:has(.lrtools-figure :is(canvas, img))').length==3")
    assert alive.evaluate(seen)==['1,0']*3+['0,1'] # three widgets, and what `LiveSchedule` left
    alive.close()
    context = browser.new_context(java_script_enabled=False)
    still = context.new_page()
    still.goto(url+'gallery.html')
    assert still.locator('.cell_output > img').count()==4 and all(i.is_visible() for i in still.locator('.cell_output > img').all())
    context.close()

def test_search_finds(url, browser):
    page = browser.new_page()
    page.goto(url+'search.html?q=discriminative')
    page.wait_for_selector('#search-results li a')
    page.close()

def test_what_the_readme_says_the_landing_page_says(site, root):
    "Each heading and each first sentence of the README stands on the landing page"
    text = re.sub(r'\s+', ' ', html.unescape(re.sub(r'<[^>]+>', '', (site/'index.html').read_text()))).replace('’', "'")
    for h in re.findall(r'^#+ (.+)$', re.sub(r'```.*?```', '', (root/'README.md').read_text(), flags=re.S), re.M): assert h in text, h
