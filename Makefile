# `make run` and `make test` do all the set-up themselves: each makes .venv if it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

QUICK := $(addprefix tests/,test_structure.py test_api.py test_packaging.py test_docs.py test_plugins.py test_budget.py \
  test_layers.py test_network.py cells recipe generation architectures tasks training leaderboard)

.PHONY: help run check test lint bench leaderboard screenshots clean

help:
	@echo "make run          install, run the grid 'lowbudget', show the board"
	@echo "make check        install with the dev extra, lint, and run the tests that show most in two minutes"
	@echo "make test         install with the dev extra, run the whole test suite"
	@echo "make lint         ruff and mypy --strict"
	@echo "make bench        step time and memory of generated networks against plain ones: half an hour"
	@echo "make leaderboard  make leaderboard.db anew from results/*.jsonl"
	@echo "make screenshots  draw the pictures of docs/dashboard.md anew; needs Chromium"
	@echo "make clean        remove .venv and caches; results stay"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "npas-bench needs Python 3.11 or newer; say which with make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,postgres]'
	@touch $(VENV)/.installed $@

run: $(VENV)/.installed
	@status=0; $(BIN)/npas-bench run --grid lowbudget || status=$$?; \
	  $(BIN)/npas-bench leaderboard; exit $$status
	@echo "This board again: $(BIN)/npas-bench leaderboard"
	@echo "In a browser:     $(BIN)/npas-bench dashboard"
	@echo "One run in full:  $(BIN)/npas-bench show 1"
	@echo "What else runs:   $(BIN)/npas-bench list methods|tasks|architectures|grids"

# What each change should pass before it is shown to others: the rules of the code, and what no change may alter.
check: lint
	$(BIN)/python -m pytest -q --numprocesses auto --dist worksteal -m "not slow and not exhaustive" $(QUICK)

# Every test computes on one thread; two at a time fill two cores.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q --numprocesses auto --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/memory.py

leaderboard: $(VENV)/.installed
	$(BIN)/python -m npas_bench.leaderboard.published build results leaderboard.db

screenshots: $(VENV)/.installed-dev
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
