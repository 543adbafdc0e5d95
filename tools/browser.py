"""Find a Chromium or Chrome for the browser tests, or install one.

    python tools/browser.py          # says in one line which browser the tests will use, or why none"""
import os, shutil, subprocess, sys
from functools import lru_cache
from pathlib import Path

NAMES = 'chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome'
FLAGS = '--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync'.split()

def candidates():
    "Where a browser may be: on the path, else where `playwright install` puts its own"
    yield from filter(None, map(shutil.which, NAMES))
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p: yield p.chromium.executable_path

@lru_cache(None)
def find():
    "The path of a browser that starts, or `None`"
    for path in candidates():
        if Path(path).exists() and succeeds([path, '--headless', '--version']): return path

def succeeds(command):
    try: return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=900).returncode==0
    except (OSError, subprocess.TimeoutExpired): return False

def apt():
    "Install Debian's chromium; needs root or passwordless sudo"
    if not shutil.which('apt-get'): return False
    root = [] if os.geteuid()==0 else ['sudo', '-n']
    quiet = ['env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-qq', '-y']
    succeeds([*root, *quiet, 'update'])
    return succeeds([*root, *quiet, 'install', '--no-install-recommends', 'chromium'])

def ensure():
    "A browser, installed if need be, and a line on how it came; or `None` and why"
    if find(): return find(),f'browser: {find()}'
    print('No Chromium or Chrome found: installing one.', flush=True)
    apt() or succeeds([sys.executable, '-m', 'playwright', 'install', 'chromium'])
    find.cache_clear()
    if find(): return find(),f'browser: {find()}, installed just now'
    return None,'browser: none. Neither `apt-get install chromium` nor `playwright install chromium` worked here, so the browser tests are skipped (where CI is set, they fail).'

if __name__=='__main__': print(ensure()[1])
