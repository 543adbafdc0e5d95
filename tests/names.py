"Names that people, or those who wish them ill, give to modules, phases and arms; and what a page makes of a Markdown text with such names in it"
from html.parser import HTMLParser

MATH = ['$', 'loss $x$', '$\\frac{', 'a_b^c', '\\alpha', '100 %', '{x}', '_private', 'x\\', '$$', '😀 done', 'two\nlines', 'n'*400, '#1', '~ &', '\\$5 and $6']
MARKUP = ['<img src=x onerror=alert(1)>', '<script>alert(1)</script>', 'a|b', 'a\nb', 'a\r\n\r\n# b', '`code`', '``', '[a](javascript:alert(1))', '![a](http://a.test/x.png)', '<http://a.test>', '**b** _i_', '$x$ and $y$', '\\', 'a\\|b', '&lt;b&gt;', '- item', '|---|']
NAMES = MATH+MARKUP
DRAWN = [*MATH[:12], MARKUP[0]] # for pictures, which take longer

class Page(HTMLParser):
    "Tags, cells and links of a page"
    def __init__(self, text):
        super().__init__()
        self.tags,self.rows,self.text = [],[],''
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag=='tr': self.rows.append([])
        if tag in ('td','th'): self.rows[-1].append('')
    def handle_data(self, data):
        self.text += data
        if self.rows and self.rows[-1]: self.rows[-1][-1] += data

def page_of(markdown):
    "What nbconvert makes of a Markdown output"
    from nbconvert.filters import markdown2html
    return Page(markdown2html(markdown))

HARMLESS = {'table','thead','tbody','tr','th','td','p','ul','li','span','code','strong'}

def check_table(markdown, columns, names=()):
    "The table has `columns` in each row, no tag of anybody else, no formula, and the `names` in it as they were given"
    page = page_of(markdown)
    assert set(page.tags)<=HARMLESS, set(page.tags)-HARMLESS
    assert page.rows and {*map(len, page.rows)}=={columns}, [len(r) for r in page.rows]
    flat = ' '.join(page.text.split())
    for n in names: assert ' '.join(n.split()) in flat, n
    return page
