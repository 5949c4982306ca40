PYTHON ?= python3
BIN := .venv/bin

.PHONY: run setup test lint bench docs faults lock format

run: .venv/.installed ## set up, start the server, print its address
	$(BIN)/lastseen serve

setup: .venv/.installed ## leaves .venv/bin/lastseen

test: .venv/.dev-installed ## every test, with real PostgreSQL, real web servers and a real browser
	$(BIN)/python scripts/run_tests.py

lint: .venv/.dev-installed ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev-installed ## figures against limits and peers, written to docs/performance.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks

docs: .venv/.dev-installed ## the documentation, built into site/
	$(BIN)/mkdocs build --strict

faults: .venv/.dev-installed ## the long fault runs
	$(BIN)/python -m pytest -m faults tests

format: .venv/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/.dev-installed ## renew the locked versions after a change of pyproject.toml
	$(BIN)/python -m pip freeze --exclude-editable > requirements-dev.lock

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "lastseen needs Python 3.11 or later; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml requirements-dev.lock
	@echo "installing into .venv, once; this takes a minute or so"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements-dev.lock -e '.[server,postgres]'
	@touch $@

.venv/.dev-installed: .venv/.installed scripts/install_browser.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements-dev.lock -e '.[dev]'
	$(BIN)/python scripts/install_browser.py
	@touch $@
