"Sphinx's settings for the pages that tools/docs.py makes of the notebooks"
import sys
from pathlib import Path

import latex2mathml.converter
from docutils.nodes import SkipNode

project = html_title = 'lrtools'
extensions = ['myst_nb', 'sphinx_design', 'sphinx_copybutton']
root_doc = 'index'
exclude_patterns = ['static', 'extra']

nb_execution_mode = 'off'
nb_merge_streams = True
nb_render_markdown_format = 'myst' # tables in outputs, too
nb_ipywidgets_js = {'widgets/require.js': {}, 'widgets/embed-amd.js': {'crossorigin': 'anonymous'}}
myst_enable_extensions = ['colon_fence', 'dollarmath', 'attrs_inline']
myst_heading_anchors = 4
suppress_warnings = ['myst.header'] # a page of the library goes from its title to the heading of a function

html_theme = 'furo'
html_static_path = ['static']
html_extra_path = ['extra']
html_favicon = 'static/icon.svg'
html_css_files = ['site.css', 'play.css']
html_js_files = [(None, dict(body="var require = {baseUrl: document.documentElement.dataset.content_root+'_static/widgets'}", priority=100)), # where widgets' scripts are
                 ('play.js', dict(defer='defer'))]
html_copy_source = False
html_show_sphinx = html_show_copyright = False
html_theme_options = dict(source_repository='https://github.com/lrtools/lrtools', source_branch='main', source_directory='nbs/', top_of_page_buttons=[])
html_math_renderer = 'mathml'

sys.path.insert(0, str(Path(__file__).parent))
myst_heading_slug_func = 'slugs.slug' # Sphinx keeps settings in a file, which functions of this one cannot be written to

def mathml(display):
    "Formulas as MathML, which browsers show without a script"
    def visit(self, node):
        self.body.append(latex2mathml.converter.convert(node.astext(), display=display))
        raise SkipNode
    return visit

def setup(app): app.add_html_math_renderer('mathml', (mathml('inline'), None), (mathml('block'), None))
