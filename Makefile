# Two commands do everything: `make up` and `make test`. Both install what they need.
SHELL := /bin/bash
PY := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help up test interop lint bench lock setup setup-test clean

help: ## What can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

up: setup ## Set up, start the bank behind Rempart, play the flows, stay in the foreground
	@.venv/bin/rempart up examples/bank --demo

test: setup-test ## Set up and run every test
	@$(PY) -m pytest -m "not interop" $(PYTEST_ARGS)

interop: setup-test ## Tests against clients of other projects that take minutes to build (Go)
	@$(PY) -m pytest -m interop $(PYTEST_ARGS)

lint: setup ## ruff, mypy --strict, import-linter, bandit
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-cache
	@.venv/bin/bandit -q -r src examples -c pyproject.toml

bench: setup-test ## Ratios against peers and raw limits, measured in one run
	@$(PY) -m benchmarks

setup: .venv/.complete

.venv/.complete: requirements/dev.txt requirements/uv.txt pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh

setup-test: setup
	@.venv/bin/uv pip install -q --python .venv/bin/python --require-hashes -r requirements/models.txt
	@bash scripts/system-packages.sh
	@bash scripts/node-packages.sh

lock: ## Resolve requirements/*.in again: hashes, no download addresses
	@for f in uv dev models; do .venv/bin/uv pip compile -q --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11 --universal requirements/$$f.in -o requirements/$$f.txt; done

clean: ## Remove what was installed here; state in .rempart stays
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
