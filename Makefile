# Everything runs in .venv, which is made on first use from settings.ini. PYTHON picks the interpreter for it.
PYTHON ?= python3
BIN := .venv/bin
PY := $(BIN)/python
READY := .venv/.ready-dev
BENCH := .venv/.ready-bench
SOURCES := settings.ini pyproject.toml setup.py

# IPython adds the packages of an environment that is active in the shell to those of .venv
unexport VIRTUAL_ENV

.DEFAULT_GOAL := help
.PHONY: help demo test lab docs docs-serve bench readme clean

help: ## List these targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

demo: $(READY) ## Run the quickstart and leave its notebook, page and pictures in _demo/
	@OMP_NUM_THREADS=1 $(PY) tools/demo.py

test: export OMP_NUM_THREADS := 1
test: $(READY) ## Run every check: modules in step, notebooks, README, tests
	@$(PY) tools/browser.py
	@$(PY) tools/kernels.py
	@echo 'Running the notebooks'
	@$(BIN)/nbdev-test --n-workers 2 --skip-file-glob 'quickstart*' # the tests run it as the demo
	@$(PY) -m pytest -m browser # alone: the browser and its kernels want both cores
	@$(PY) -m pytest -m 'not browser' -n 2 --dist loadfile --no-loadscope-reorder

lab: $(READY) ## Open the quickstart in JupyterLab
	@$(BIN)/jupyter lab nbs/quickstart.ipynb

docs: $(READY) ## Build the docs site in _docs/
	@$(PY) tools/docs.py

docs-serve: $(READY) ## Build the docs site and show it on a port of this machine
	@$(PY) tools/docs.py --serve

bench: $(BENCH) ## Run the benchmarks
	@$(PY) -m benchmarks

readme: $(READY) ## Make README.md from nbs/index.ipynb
	@$(PY) tools/readme.py

clean: ## Remove what demos, tests and builds left (.venv stays)
	rm -rf _demo _docs _proc build dist *.egg-info .pytest_cache .hypothesis

$(READY): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info<(3,10) and "lrtools needs Python 3.10 or newer: for example make PYTHON=python3.12")'
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv || (echo 'No environment could be made: is the venv module there? (Debian: apt install python3-venv)'; exit 1)
	@echo 'Installing lrtools and its tools into .venv (minutes, the first time)'
	@$(PY) -m pip install -qq -e '.[dev,docs]'
	@touch $@

$(BENCH): $(READY)
	@$(PY) -m pip install -qq -e '.[bench]'
	@touch $@
