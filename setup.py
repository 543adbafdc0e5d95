"Package metadata from settings.ini; the name, description, URLs and version come from pyproject.toml."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

cp = ConfigParser(delimiters='=')
cp.read_string((Path(__file__).parent/'settings.ini').read_text(encoding='utf-8'))
cfg = cp['DEFAULT']
statuses = '', '1 - Planning', '2 - Pre-Alpha', '3 - Alpha', '4 - Beta', '5 - Production/Stable', '6 - Mature', '7 - Inactive'

setup(
    author=cfg['author'], license_expression=cfg['license'],
    keywords=cfg['keywords'].split(), python_requires='>='+cfg['min_python'],
    classifiers=[f'Development Status :: {statuses[int(cfg["status"])]}', 'Framework :: Jupyter', 'Intended Audience :: Science/Research',
                 'Programming Language :: Python :: 3', 'Topic :: Scientific/Engineering :: Artificial Intelligence'],
    install_requires=cfg['requirements'].split(),
    extras_require={k.removesuffix('_requirements'): v.split() for k,v in cfg.items() if k.endswith('_requirements')},
    packages=find_packages(include=['lrtools', 'lrtools.*']),
)
