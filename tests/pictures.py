"Figures drawn for a test"
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

def drawn(f, *args, size=(7.2, 3.4), dark=False, **kw):
    "Figure and axes of what `f` draws; it must give back its axes"
    face = 'black' if dark else 'white'
    fig = Figure(figsize=size, dpi=100, layout='constrained', facecolor=face)
    ax = fig.add_subplot(facecolor=face)
    assert f(*args, ax, **kw) is ax
    FigureCanvasAgg(fig).draw()
    return fig,ax
