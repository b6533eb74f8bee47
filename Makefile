# Set-up and the daily commands. Every target makes and fills .venv by itself where it is missing.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-all bench lint clean

.venv/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 15) else "fastcnn needs Python 3.11 to 3.14: make PYTHON=python3.12")'
	$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/installed-test: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,bench]'
	touch $@

train: .venv/installed
	$(BIN)/fastcnn train $(ARGS)

test: .venv/installed-test
	$(BIN)/python -m pytest -q $(ARGS)

test-all: .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pytest -q $(ARGS)

bench: .venv/installed-test
	$(BIN)/python -m pytest bench -q --benchmark-only $(ARGS)

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
