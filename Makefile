# What developers and checks run. Everything happens in .venv; once it is there, nothing here needs the network but `lab` and `e2e`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
BIN := .venv/bin
# Named by what is to be installed: other changes to pyproject.toml do not install again.
STAMP := .venv/.installed-$(shell sed '/^\[tool\./,$$d' pyproject.toml | sha256sum | cut -c1-12)
# kapicorp-reclass is the engine that ours is held against; its own requirements break Python 3, ours stand in pyproject.toml.
REFERENCE_ENGINE := kapicorp-reclass==2.0.0

.PHONY: help venv demo test golden options lint format lab e2e e2e-full bench

help: ## This list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP) ## .venv with everything for development
$(STAMP):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is older than 3.11: name another with make PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || \
	  { echo "no virtual environment could be made: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into .venv: some minutes the first time"
	$(BIN)/pip install --quiet --editable '.[dev,salt]'
	$(BIN)/pip install --quiet --no-deps '$(REFERENCE_ENGINE)'
	@# Where Python may not write its bytecode itself, every command would compile us anew: a third of its time.
	@$(BIN)/python -m compileall -q -x kubernetes_formula/formula cli kubernetes_formula openstack_images reclass_model
	@rm -f .venv/.installed-* && touch $@

demo: venv ## The main job, offline: model → states → images → manifests → the plan of an upgrade
	@tests/demo/run

test: venv ## Unit, formula and golden tests (no root, no Docker)
	$(BIN)/pytest -q -n auto -m 'not e2e' $(wildcard tests/unit tests/formula tests/golden)

golden: venv ## Write the golden files anew; read the diff before you commit it
	GOLDEN_WRITE=1 $(BIN)/pytest -q -m 'not e2e' tests/golden tests/formula/test_readme.py

options: venv ## Which options each release knows, asked of its packages anew; read the diff (Docker)
	@tests/demo/options

lint: venv ## Style, types, the direction of imports, YAML, states
	$(BIN)/ruff check
	$(BIN)/ruff format --check --quiet || { echo "run: make format" >&2; exit 1; }
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/yamllint --strict .
	git ls-files 'kubernetes_formula/formula/*.sls' | xargs $(BIN)/salt-lint

format: venv ## Mend what can be mended by itself
	$(BIN)/ruff check --fix --quiet || true
	$(BIN)/ruff format --quiet

lab: venv ## The all-in-one machine of a new model as a container, deployed for real (root, Docker)
	@tests/demo/lab

e2e: venv ## The gate: real components (root, Docker, about an hour from nothing)
	$(BIN)/pytest -v -m 'e2e and not full' --timeout 5400 tests/e2e

e2e-full: venv ## Every fault and both releases
	$(BIN)/pytest -v -m e2e --timeout 14400 tests/e2e

bench: venv ## Times as ratios against a peer in the same run
	$(BIN)/pytest -q -s --timeout 1800 tests/bench
