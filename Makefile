# `make help` lists what can be made. Everything is installed into $(VENV); a second call installs nothing.

PYTHON ?= python3
VENV ?= .venv
# Passed on to the demonstration: make demo ARGS="--device cuda --n-neighbors 10"
ARGS ?=
# Passed on to the tests: make test PYTEST_ARGS="-k retriever"; PYTEST_ARGS="-n 0" runs them in one process
PYTEST_ARGS ?=
# A process a core, as far as memory goes: most tests keep one core busy.
PYTEST := -m pytest -n auto --maxprocesses 4 --dist worksteal

RUN := $(VENV)/bin/python
# The environment of the shell that called make must not decide what is imported here.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-lowest lint docs bench clean

help:
	@echo "make demo    search the photographs that installed packages bring; writes demo/index.html"
	@echo "make demo IMAGES=~/Pictures QUERY=cat.jpg    the same on a folder of your own"
	@echo "make test    run the tests"
	@echo "make test-lowest    run them with the lowest allowed version of every dependency, in $(VENV)-lowest"
	@echo "make lint    check style, walls, types, docstrings and the code in docstrings and user guide"
	@echo "make docs    build the documentation: docs/_build/html/index.html"
	@echo "make bench   run the benchmarks"
	@echo "make clean   remove what was made, $(VENV) included"
	@echo "Another Python than $(PYTHON): make demo PYTHON=python3.12"

# IMAGES and QUERY reach the shell through the environment: names may hold spaces and quotes. The command expands ~.
export IMAGES QUERY
demo: $(VENV)/.installed-demo
ifneq ($(IMAGES)$(QUERY),)
	@test -n "$$IMAGES" || { echo "make demo: QUERY also needs IMAGES, the folder to search" >&2; exit 2; }
	@test -n "$$QUERY" || { echo "make demo: IMAGES also needs QUERY, the image to search for" >&2; exit 2; }
	$(RUN) -m sklearn_psp search --output demo/index.html $(ARGS) -- "$$IMAGES" "$$QUERY"
else
	$(RUN) -m sklearn_psp demo --output demo/index.html $(ARGS)
endif

test: $(VENV)/.installed-test
	$(RUN) $(PYTEST) $(PYTEST_ARGS)

test-lowest: $(VENV)-lowest/.installed
	$(VENV)-lowest/bin/python $(PYTEST) $(PYTEST_ARGS)

$(VENV)-lowest/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --disable-pip-version-check uv
	$(VENV)-lowest/bin/uv pip install --python $(VENV)-lowest/bin/python --resolution lowest-direct -e '.[test]'
	@touch $@

lint: $(VENV)/.installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports
	$(RUN) -m mypy
	$(RUN) -m towncrier build --draft --version 0 >/dev/null
	$(RUN) -m pytest -q tests/test_docstrings.py
	$(RUN) -m pytest -q --doctest-modules --doctest-glob='*.rst' --ignore=docs/conf.py --ignore=docs/_build \
		--ignore=docs/auto_examples --ignore=docs/generated sklearn_psp $(wildcard docs)

docs: $(VENV)/.installed-docs
	$(RUN) -m sphinx -W --keep-going -b html docs docs/_build/html

bench: $(VENV)/.installed-bench
	@set -e; for script in $(filter-out benchmarks/_%,$(wildcard benchmarks/*.py)); do \
		echo "== $$script"; $(RUN) "$$script"; done

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist demo docs/_build docs/auto_examples docs/generated docs/gen_modules docs/sg_execution_times.rst *.egg-info \
		.pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .numba_cache

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo "there is no $(PYTHON): name one with make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1):" \
			"make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# One stamp an extra: an install happens when pyproject.toml has changed since, and never otherwise.
$(VENV)/.installed-%: $(VENV)/.created pyproject.toml
	$(RUN) -m pip install --disable-pip-version-check -e '.[$*]'
	@touch $@
