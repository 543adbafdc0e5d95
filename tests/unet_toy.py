"A U-Net whose head was trained on a pretrained, frozen body: three set-ups, of which two spike when they are unfrozen, each for another reason"
from contextlib import contextmanager

from torch import nn
from fastai.basics import BCEWithLogitsLossFlat, CrossEntropyLossFlat, L, Learner, params, set_seed
from fastai.vision.models.unet import DynamicUnet
import fastai.callback.schedule # gives learners their fits

from benchmarks.tasks import digits_on_textures, loaders, mnist, resnet_body
from lrtools.freezing import freeze_to
from lrtools.recording import record

SIZE = 32

@contextmanager
def quiet(learn):
    with learn.no_bar(), learn.no_logging(): yield

def body(path):
    "A small ResNet that has learned digits"
    set_seed(0)
    x,y = mnist()
    x = nn.functional.pad(x, (2, 2, 2, 2))
    enc = resnet_body()
    learn = Learner(loaders((x, y), 4500, bs=64, n_valid=500), nn.Sequential(enc, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)), CrossEntropyLossFlat(), path=path)
    with quiet(learn): learn.fit_one_cycle(2, 1e-2)
    return enc

def unet(path, norm='as is', n_train=1600):
    "A learner whose head was trained for six epochs, on photographs that nobody has normalised"
    enc = body(path)
    set_seed(1)
    model = DynamicUnet(enc, 1, (SIZE, SIZE), norm_type=None)
    x,y = digits_on_textures(n_train+400, SIZE)
    learn = Learner(loaders((2+x, y), n_train, bs=64, n_valid=400), model, BCEWithLogitsLossFlat(), splitter=lambda m: L(m[0], m[1:]).map(params), path=path)
    record(learn)
    freeze_to(learn, -1, norm=norm)
    with quiet(learn): learn.fit_one_cycle(6, 5e-3)
    return learn
