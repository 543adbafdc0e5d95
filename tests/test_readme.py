"README.md from the index notebook: on toys, and the real one."
import base64

import pytest

import readme

PNG = base64.b64encode(b'\x89PNG one').decode()
DOCS = {'LRCurve': 'https://x.org/curve.html#lrcurve', 'LRCurve.at': 'https://x.org/curve.html#lrcurve.at'}

def md(source): return dict(cell_type='markdown', metadata={}, source=source)
def code(source, *outputs): return dict(cell_type='code', metadata={}, source=source, outputs=list(outputs))
def shows(**data): return dict(output_type='display_data', metadata={}, data={k.replace('_', '/', 1): v for k,v in data.items()})
def says(text, name='stdout'): return dict(output_type='stream', name=name, text=text)
def make(*cells): return readme.readme(dict(cells=cells, metadata={}), 'https://x.org', DOCS)
def text(*cells): return make(*cells)[0]

def test_prose_code_and_output():
    assert text(md('# lrtools\n\n> Rates.'), code('print(1)', says('1\n'))) == '# lrtools\n\n> Rates.\n\n```python\nprint(1)\n```\n\n```\n1\n```\n'

@pytest.mark.parametrize('source,expected', [
    ('#| hide\nx = 1', ''), ('#|hide\nx', ''), ('#| include: false\nx', ''), ('#| echo: false\nx', '```\nout\n```'),
    ('#| output: false\nx', '```python\nx\n```'), ('#| eval: false\n#| notest\nx', '```python\nx\n```\n\n```\nout\n```')])
def test_directives(source, expected): assert text(code(source, says('out'))).strip()==expected

def test_hidden_prose_and_raw_cells_are_left_out():
    assert text(md('#| hide\nsecret'), dict(cell_type='raw', metadata={}, source='---\nx: 1\n---')).strip()==''

def test_richest_output_is_shown():
    assert text(code('', shows(text_plain='p', text_markdown='**m**'))).strip()=='**m**'
    assert text(code('', shows(text_plain='p', text_html=['<b>', 'h</b>']))).strip()=='<b>h</b>'
    assert text(code('', shows(text_plain='p'))).strip()=='```\np\n```'
    assert text(code('', says('warned', 'stderr'))).strip()==''

def test_pictures_are_named_after_their_sections_and_described():
    pic = shows(image_png=PNG, text_plain='<Figure>')
    txt,files = make(md('## See the curve'), code('', pic), code('#| echo: false\n#| fig-alt: "Loss against rate"\nx', pic), md('## Next'), code('', pic))
    assert txt=='## See the curve\n\n![See the curve](images/readme-see-the-curve.png)\n\n![Loss against rate](images/readme-see-the-curve-2.png)\n\n## Next\n\n![Next](images/readme-next.png)\n'
    assert files['images/readme-next.png']==b'\x89PNG one' and len(files)==3

def test_names_link_to_their_pages_but_not_in_code_links_and_headings():
    assert text(md('`LRCurve` and `LRCurve.at()`, not `other`'))=='[`LRCurve`](https://x.org/curve.html#lrcurve) and [`LRCurve.at()`](https://x.org/curve.html#lrcurve.at), not `other`\n'
    for same in '# `LRCurve`', '[`LRCurve`](https://y.org)', '```\n`LRCurve`\n```', '    `LRCurve`': assert text(md(same))==same+'\n'

def test_links_lead_from_the_root():
    assert text(md('[a](01_curve.ipynb#x) [b](tutorials/02a_deep.ipynb) ![c](images/c.png) [d](https://z.org/e.ipynb) [e](#here) [f](../LICENSE)'))==\
        '[a](https://x.org/curve.html#x) [b](https://x.org/tutorials/deep.html) ![c](nbs/images/c.png) [d](https://z.org/e.ipynb) [e](#here) [f](LICENSE)\n'

def test_fences_in_output_do_not_break_out(): assert text(code('', says('a\n```\nb'))).strip()=='````\na\n```\nb\n````'

def test_errors_and_attachments_are_refused():
    with pytest.raises(ValueError, match='holds an error'): text(code('x', dict(output_type='error', ename='E', evalue='v', traceback=[])))
    with pytest.raises(ValueError, match='save the picture as a file'): text(md('![x](attachment:x.png)'))

def test_the_same_notebook_gives_the_same_readme():
    cells = md('# A'), code('x', shows(image_png=PNG))
    assert make(*cells)==make(*cells)

@pytest.fixture
def toy(tmp_path):
    import json
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs/index.ipynb').write_text(json.dumps(dict(cells=[md('# A'), code('x', shows(image_png=PNG))], metadata={}, nbformat=4, nbformat_minor=5)))
    (tmp_path/'pyproject.toml').write_text('[project]\nname = "x"\n[project.urls]\nDocumentation = "https://x.org"\n[tool.nbdev]\n')
    return tmp_path

def test_stale_readme_and_pictures_are_seen_and_mended(toy):
    assert '+# A' in readme.stale(toy)
    readme.write(toy); assert not readme.stale(toy)
    (toy/'images/readme-old.png').write_bytes(b'')
    (toy/'images/readme-a.png').write_bytes(b'')
    assert readme.stale(toy)=='images/readme-a.png is stale\nimages/readme-old.png is stale'
    readme.write(toy); assert not readme.stale(toy) and not (toy/'images/readme-old.png').exists()

def test_readme_is_in_step(root):
    assert not (diff := readme.stale(root)), f'{diff}\nRun `make readme`.'
