"""python -m benchmarks [speed] [valley] [regret] [latency] [freezing] [schedules] [experiments] [precompute]: print tables and keep them in `benchmarks/results.md`."""
import importlib, sys, warnings

import torch

from benchmarks.report import write_results

PARTS = 'speed', 'valley', 'regret', 'latency', 'freezing', 'schedules', 'experiments', 'precompute'


def main(names):
    unknown = set(names) - set(PARTS)
    if unknown: sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for name in names or PARTS:
        text = importlib.import_module(f'benchmarks.{name}').report()
        print(f'\n## {name}\n\n{text}', flush=True)
        write_results({name: text}, PARTS)


if __name__ == '__main__':
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    main(sys.argv[1:])
