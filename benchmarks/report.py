"""Tables in markdown, and the file that keeps the last ones."""
import os, platform, re
from datetime import date
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent/'results.md'
HEAD = "# Benchmarks\n\nWritten by `python -m benchmarks`; every section says when and with what it was made.\n"


def versions():
    return f"Python {platform.python_version()}, " + ', '.join(f'{name} {version(name)}' for name in ('torch', 'fastai', 'lrtools'))


def stamp():
    return f'{date.today()}, {versions()}, {os.cpu_count()} CPUs, one thread.'


def table(header, rows):
    "A markdown table; the first column is text, the others are aligned right"
    lines = [header, ['---'] + ['---:']*(len(header)-1), *rows]
    return '\n'.join(f"| {' | '.join(map(str, line))} |" for line in lines)


def sections(text):
    "name -> text of each `## name` section"
    parts = re.split(r'^## (\w+)\n', text, flags=re.M)[1:]
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2])))


def write_results(new, order):
    "Replace the sections of `new` in `results.md`; the others stay as they were"
    old = sections(RESULTS.read_text()) if RESULTS.exists() else {}
    both = {**old, **new}
    RESULTS.write_text(HEAD + ''.join(f'\n## {name}\n\n{both[name]}\n' for name in order if name in both))
