# `make run` is all it takes: a virtual environment, then everything in one terminal. Needs Python 3.11 or later, nothing else.
PY := $(or $(PYTHON),python3)
BIN := .venv/bin/python
COMPILE = $(BIN) -m uv pip compile pyproject.toml --universal --generate-hashes --no-header --no-annotate -q
.DEFAULT_GOAL := run
.PHONY: run test faults soak bench bench-flat bench-history check clean lock

run: .venv/.stamp
	@$(BIN) -m app dev

# The browser's tests come after the others: beside them, two cores keep processes waiting beyond their time limits.
test: .venv/.stamp
	$(BIN) -m pytest $(ARGS)
	$(if $(ARGS),,$(BIN) -m pytest tests/browser -n 2)

faults: .venv/.stamp
	$(BIN) -m pytest tests/faults tests/model -n 2 --dist load --timeout 180 $(ARGS)

soak: .venv/.stamp
	$(BIN) -m tests.faults.soak --minutes $(or $(MINUTES),10) $(ARGS)

bench: .venv/.stamp
	$(BIN) -m benchmarks $(ARGS)

bench-flat: .venv/.stamp
	$(BIN) -m benchmarks --flat $(ARGS)

bench-history: .venv/.stamp
	$(BIN) -m benchmarks.history --rows $(or $(ROWS),10000000) $(ARGS)

check: .venv/.stamp
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m mypy
	.venv/bin/lint-imports

clean:
	rm -rf benchmarks/peer/node_modules benchmarks/peer/prisma/node_modules
	rm -rf .venv .tidings .tidings-bench .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: .venv/.stamp
	$(COMPILE) --group dev -o requirements-dev.txt
	$(COMPILE) --constraints requirements-dev.txt -o requirements.txt

.venv/.stamp: requirements-dev.txt pyproject.toml
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Tidings needs Python 3.11 or later; $(PY) is not. Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN) || $(PY) -m venv .venv || \
	  { rm -rf .venv; echo "$(PY) cannot make a virtual environment: install python3-venv" >&2; exit 1; }
	@echo "installing what requirements-dev.txt names into .venv"
	@{ $(BIN) -m pip install -q --disable-pip-version-check uv && \
	  $(BIN) -m uv pip install -q --python $(BIN) --require-hashes -r requirements-dev.txt; } || \
	  $(BIN) -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN) -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
