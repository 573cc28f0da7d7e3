# make demo: environment, install, the main job on examples/raw/.   make test: what CI runs.
PYTHON ?= python3.11
PYTHON := $(shell command -v $(PYTHON) || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test quick slow lint bench soak clean

demo: $(VENV)/base.stamp
	@rm -rf demo demo.work
	$(BIN)/unif2ace-data build --src examples/raw --out demo/shards --subjects adults
	$(BIN)/unif2ace-data verify demo/shards
	$(BIN)/unif2ace-data stats demo/shards
	@echo
	@echo "demo passed. What came out:"
	@echo "  demo/shards/report.html       the report (travels with the dataset)"
	@echo "  $$($(BIN)/unif2ace-data report demo/shards)  the private one, with what was dropped"
	@echo "  demo/shards/                  shards, ledger, index, datasheet"

test: lint quick slow
	@echo "all checks passed: ruff, mypy, quick and slow tests"

quick: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m "not slow" --durations=5

slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m slow --durations=5

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/build_vs_loop.py --photos $(PHOTOS)

soak: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/soak.py --photos $(PHOTOS)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	$(PIP) -e ".[dev,nsfw]"
	@touch $@

clean:
	rm -rf demo $(VENV)
