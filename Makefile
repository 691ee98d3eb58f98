# make train        .venv, installation, and GPAE on smax/2s3z in some minutes; e.g. make train ARGS="--seeds 3"
# make test         the same, then the tests; make test-slow: those that train or take long
# make lint         style, formatting, types, and which room may import which
# make docs         the documentation site, strictly, into site/
# make benchmarks   every script in benchmarks/, results in results/
# make clean        removes what is made by this file and by tools; never runs/

VENV ?= .venv
PRESET ?= quickstart
ENV ?= smax/2s3z
ALGORITHM ?= gpae
ARGS ?=
WORKERS ?= 2

# The first Python that is new enough and can make virtual environments; say PYTHON=... for another.
CANDIDATES := python3 python3.12 python3.11 python3.13 python
NEW_ENOUGH := import sys, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do if $$p -c '$(NEW_ENOUGH)' 2>/dev/null; then echo $$p; break; fi; done)

.DELETE_ON_ERROR:
.PHONY: train test test-slow lint docs benchmarks clean

train: $(VENV)/.installed
	$(VENV)/bin/gpae train --preset $(PRESET) --env $(ENV) --algorithm $(ALGORITHM) $(ARGS)

# One worker per core and files kept together: workers compile one thing at a time, and share it on disk.
test: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(ARGS)

# Those that train, or start, kill and resume whole programs.
test-slow: $(VENV)/.installed-dev
	$(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile -m slow $(ARGS)

lint: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict
	@echo "site/index.html"

benchmarks: $(VENV)/.installed
	mkdir -p results
	for script in benchmarks/[!_]*.py; do \
	  echo "$$script"; $(VENV)/bin/python "$$script" --out "results/$$(basename "$$script" .py).json" || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist site .pytest_cache .mypy_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@if [ -z "$(PYTHON)" ]; then \
	  echo "gpae needs Python 3.11 or newer with the venv module; none was found (say PYTHON=/path/to/python)" >&2; exit 1; fi
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "$(PYTHON) is not Python 3.11 or newer with the venv module" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing gpae and what it needs into $(VENV): a minute or two ..."
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing gpae and what it needs into $(VENV): a minute or two ..."
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@ $(VENV)/.installed
