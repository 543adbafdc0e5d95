"""Make the saved pictures of notebooks small: 256 colours are enough for a plot, and take a third of the space.

    python tools/shrink.py nbs/tutorials/*.ipynb"""
import base64, io, sys

import nbformat
from PIL import Image

def small(png):
    "The bytes of a PNG with at most 256 colours, or what was given where that is no smaller"
    im,buf = Image.open(io.BytesIO(png)),io.BytesIO()
    if im.mode=='P': return png
    flat = Image.new('RGB', im.size, 'white')
    flat.paste(im.convert('RGBA'), mask=im.convert('RGBA').getchannel('A'))
    flat.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(buf, 'PNG', optimize=True)
    return min(png, buf.getvalue(), key=len)

def text(png): return base64.b64encode(small(base64.b64decode(png))).decode()

def shrink(path):
    "Pictures in the outputs of a notebook, and in the saved state of its widgets"
    nb,url = nbformat.read(path, 4),'data:image/png;base64,'
    for c in nb.cells:
        for o in c.get('outputs', []):
            if 'image/png' in o.get('data', {}): o.data['image/png'] = text(o.data['image/png'])
    for model in nb.metadata.get('widgets', {}).get('application/vnd.jupyter.widget-state+json', {}).get('state', {}).values():
        for b in model.get('buffers', []):
            if b['data'].startswith('iVBOR'): b['data'] = text(b['data'])
        if model['state'].get('_data_url', '').startswith(url): model['state']['_data_url'] = url+text(model['state']['_data_url'].removeprefix(url))
    nbformat.write(nb, path)

if __name__=='__main__':
    for p in sys.argv[1:]: shrink(p)
