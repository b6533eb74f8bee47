# Set-up and the daily commands. Every target makes and fills .venv by itself where it is missing.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

# A .venv whose interpreter was removed, or that moved with its folder, still looks installed:
# its scripts name paths that are gone. The stamp holds the folder, and is remade where it differs.
USABLE := $(shell $(BIN)/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null)
ifneq ($(USABLE),$(CURDIR))
.PHONY: $(STAMP)
endif

.PHONY: train test test-all test-processors test-oldest newcomer bench bench-report lint docs clean

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 15) else "fastcnn needs Python 3.11 to 3.14: make PYTHON=python3.12")'
	if ! $(BIN)/python -c '' 2>/dev/null || { [ -s $@ ] && [ "$$(cat $@)" != '$(CURDIR)' ]; }; then $(PYTHON) -m venv --clear .venv; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	printf '%s\n' '$(CURDIR)' >$@

.venv/installed-test: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs,test]'
	touch $@

.venv/installed-peers: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[peers]' torch==2.13.0 onnxruntime
	touch $@

train: $(STAMP)
	$(BIN)/fastcnn train $(ARGS)

# Two processes share the tests, and take the compiled kernels from the disk. ARGS=-n0: one process.
PARALLEL := -n 2 --dist worksteal

# Where PYTHONDONTWRITEBYTECODE is set, each command that a test starts would compile the package, and
# each run rewrite the assertions of all tests: 4 of the 9 s that it takes to collect them.
test test-all: export PYTHONDONTWRITEBYTECODE =

test: .venv/installed-test
	$(BIN)/fastcnn warmup
	$(BIN)/python -m pytest -q -m 'not slow' $(PARALLEL) $(ARGS)

test-all: .venv/installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[torch]' torch==2.13.0
	$(BIN)/fastcnn warmup
	$(BIN)/python -m pytest -q $(PARALLEL) $(ARGS)

# The engine as other processors would run it: 8 floats a register, and 4.
PROCESSORS := haswell x86-64

test-processors: .venv/installed-test
	for name in $(PROCESSORS); do \
	    export NUMBA_CPU_NAME=$$name NUMBA_CPU_FEATURES=; \
	    $(BIN)/fastcnn warmup && $(BIN)/python -m pytest -q -m 'not slow' $(PARALLEL) tests/backends || exit 1; \
	done

# The oldest versions that pyproject.toml allows, numba's among them, in an environment of their own.
.venv-oldest/installed: pyproject.toml scripts/oldest_requirements.py
	$(PYTHON) -m venv --clear .venv-oldest
	$(PYTHON) scripts/oldest_requirements.py >.venv-oldest/requirements.txt
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check \
	    --requirement .venv-oldest/requirements.txt pytest pytest-xdist hypothesis
	.venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/fastcnn train --help >/dev/null
	.venv-oldest/bin/fastcnn warmup
	.venv-oldest/bin/python -m pytest -q -m 'not slow' $(PARALLEL) tests/backends $(ARGS)

# A newcomer's first hour from a wheel in an empty environment.
newcomer:
	PYTHON='$(PYTHON)' tests/newcomer.sh

bench: .venv/installed-test
	$(BIN)/fastcnn bench $(ARGS)

# Measures all figures of docs/benchmarks.md and README again, in less than 20 minutes on two cores.
# ARGS=--quick tries it out.
bench-report: .venv/installed-peers
	$(BIN)/python -m bench all --out docs/benchmarks $(ARGS)
	for model in report_cnn lenet5 vgg_small resnet8; do \
	    $(BIN)/fastcnn profile $$model --out docs/benchmarks $(ARGS) || exit 1; \
	done
	$(BIN)/python -m bench.write_page

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/check_words.py
	$(BIN)/mypy

docs: .venv/installed-test
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html docs build/docs
	@echo 'built: build/docs/index.html'

clean:
	rm -rf .venv .venv-oldest .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
