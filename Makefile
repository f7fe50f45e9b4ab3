# Front door. `make` alone lists the targets; all of them use .venv, which the first one builds.
# PYTHON=python3.11 picks an interpreter; otherwise config/find_python.sh takes the first that works.

.DEFAULT_GOAL := help
.PHONY: help install demo demo-venv demo-clean test lint types unit browser bench soak chaos clean
.DELETE_ON_ERROR:

BIN := .venv/bin
PIP := $(BIN)/pip -qq --disable-pip-version-check --no-input install --no-deps
PYTEST_ARGS ?=
SECONDS ?= 600
SEED ?= 1

# An interpreter asked for by name that did not build .venv: build it again.
ifneq ($(strip $(PYTHON)),)
export PYTHON
ifneq ($(shell $(BIN)/python -V 2>/dev/null),$(shell $(PYTHON) -V 2>/dev/null))
$(shell rm -f .venv/.stamp-*)
endif
endif

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.stamp-requirements-dev ## build .venv with everything: piker, tests, checks

.venv/.stamp-%: %.lock requirements-build.lock pyproject.toml
	@python="$$(sh config/find_python.sh)" && \
	echo "Installing $< into .venv with $$python (once; a minute at most on a good line)" && \
	sh config/make_venv.sh "$$python"
	@$(PIP) --require-hashes -r requirements-build.lock
	@$(PIP) --require-hashes --no-build-isolation -r $<
	@rm -rf .venv/lib/python3.*/site-packages/trio-stubs
	@$(PIP) --no-build-isolation -e .
	@touch $@

# The demo needs the users' lock only; the larger one serves when it is there already.
demo-venv: $(firstword $(wildcard .venv/.stamp-requirements-dev) .venv/.stamp-requirements)
	@:

demo: ## a live chart of a made-up market, from nothing; Ctrl-C ends it
	@echo "This market is made up: a seeded simulation on this machine. No money moves."
	@$(MAKE) --no-print-directory demo-venv
	@$(BIN)/piker -c .demo demo --no-banner

demo-clean: ## forget the demo's market, history and settings
	rm -rf .demo

test: lint types browser unit ## everything that a change must pass

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: install
	$(BIN)/mypy

browser: install
	@sh config/install_browser.sh

unit: install
	@sh config/run_tests.sh $(PYTEST_ARGS)

bench: install ## ratios against peers: a table and build/bench.json
	$(BIN)/python tests/benches

soak: install browser ## the long forms: the same tests with larger numbers (hours)
	PIKER_SOAK=1 $(BIN)/python -m pytest --soak -m "soak or tree or browser" --timeout 14400 -o faulthandler_timeout=3600 $(PYTEST_ARGS)

chaos: install ## seeded faults against a running tree: make chaos SECONDS=600 SEED=1
	PIKER_CHAOS_SECONDS=$(SECONDS) PIKER_CHAOS_SEED=$(SEED) \
	$(BIN)/python -m pytest tests/system/test_chaos.py $(PYTEST_ARGS)

clean: demo-clean ## remove .venv and everything that was built
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
