# Everything a newcomer needs: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

BENCH := benchmarks/results

.PHONY: demo test lint types unit setup clean docs golden fuzz pictures
.PHONY: experiments initializations
.PHONY: results results-table check-results results-compare
.PHONY: bench bench-channels bench-coders bench-constraints bench-epoch bench-quantization bench-streaming

demo: setup  ## train, prune, share, code and test LeNet-300-100 on bundled digits
	$(BIN)/featherweight demo --output demo --force

test: lint types unit  ## lint, types, tests

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

unit: setup  ## on two processes; the tests of a file share what they set up
	$(BIN)/pytest -n 2 --dist loadfile

docs: setup  ## the site, in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: setup  ## of the methods' pages, from networks trained on the bundled digits: a few minutes
	$(BIN)/python docs/pictures

golden: setup  ## write the golden files of the current format version anew
	$(BIN)/python tests/golden/make_golden.py

N ?= 1000000
fuzz: setup  ## attack the reader with N hostile files
	$(BIN)/python fuzz/run.py --inputs $(N)
	$(BIN)/pytest -m slow

experiments: setup  ## needs MNIST and about 25 minutes on one core; docs/experiments.md and its figures
	$(BIN)/python docs/make_experiments.py --output runs/experiments

initializations: setup  ## needs MNIST and about 20 minutes on one core; docs/initializations.md and its figure
	$(BIN)/python docs/make_initializations.py --output runs/initializations

results: setup  ## every recipe without a result, one command a row; ROWS="NAME ..." SEEDS="0 1 2"; resumable
	$(BIN)/python benchmarks/results.py run $(ROWS) $(if $(SEEDS),--seeds $(SEEDS))

results-table: setup  ## RESULTS.md and the README's table, from results/
	$(BIN)/python benchmarks/results.py table

check-results: setup  ## test every file of results/, and fail where a claim does not come out
	$(BIN)/python benchmarks/results.py check $(ROWS)

results-compare: setup  ## RUN="runs/NAME ...": their networks as safetensors, zip, int8 and by NNCodec
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps nncodec==2.1.3 \
		|| echo "NNCodec could not be built, it needs a C++ compiler: measured without it"
	$(BIN)/python benchmarks/compare.py $(RUN)

bench: bench-channels bench-coders bench-constraints bench-epoch bench-quantization bench-streaming  ## side by side with peers; tables and JSON

bench-channels: setup
	mkdir -p $(BENCH) && $(BIN)/python benchmarks/channels.py --json $(BENCH)/channels.json

bench-coders: setup  ## RUN="DIR ...": of these runs' networks; results/*.fwt or short runs unless given
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]" \
		|| echo "constriction and zstandard could not be installed: measured without those that are missing"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps nncodec==2.1.3 \
		|| echo "DeepCABAC (nncodec) could not be built, it needs a C++ compiler: measured without it"
	mkdir -p $(BENCH) && $(BIN)/python benchmarks/coders.py --json $(BENCH)/coders.json $(if $(RUN),--run $(RUN))

bench-constraints: setup
	mkdir -p $(BENCH) && $(BIN)/python benchmarks/constraints.py --json $(BENCH)/constraints.json

bench-epoch: setup  ## needs MNIST: FEATHERWEIGHT_DATA, or it is downloaded to ./data
	mkdir -p $(BENCH) && $(BIN)/python benchmarks/epoch.py --json $(BENCH)/epoch.json

bench-quantization: setup
	mkdir -p $(BENCH) && $(BIN)/python benchmarks/quantization.py --json $(BENCH)/quantization.json

bench-streaming: setup  ## needs 13 GB of disk for a while: checkpoints of 4 GiB in TMPDIR
	mkdir -p $(BENCH) && $(BIN)/python benchmarks/streaming.py --json $(BENCH)/streaming.json

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
