# make demo: set up, then build the demo recipe.   make test: set up, then run all the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A worker may hold a gigabyte; files stay together, since their tests share what is built once. They stay in order,
# too: else those of few tests come last, which are the slowest, and one worker waits for the other.
PARALLEL ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: demo test check fuzz chaos mutants coverage format lock bench-training clean help

demo: $(INSTALLED)  ## train, compress, export and measure LeNet-5 on MNIST
	$(BIN)/edgecnn build recipes/mnist_lenet5_int8.yaml

test: $(INSTALLED)  ## all the tests, on two cores or more
	$(BIN)/python -m pytest $(PARALLEL)

check: $(INSTALLED)  ## lint, format, types, import contracts, the files for CI
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/check-jsonschema --builtin-schema vendor.github-actions action.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows docs/ci/github.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.gitlab-ci docs/ci/gitlab.yml
	$(BIN)/shellcheck --severity=warning .ci/run .ci/arm-systems .ci/nightly edgecnn/counting/*.sh tests/emulated_pi/*.sh

fuzz: $(INSTALLED)  ## 200,000 damaged files, read by everything that reads files
	$(BIN)/python tools/fuzz.py

chaos: $(INSTALLED)  ## 30 builds killed at random moments and resumed; a full disk at 20 points of each command
	$(BIN)/python tools/chaos.py
	$(BIN)/python tools/full_disk.py

mutants: $(INSTALLED)  ## break gate, quantization arithmetic and converter in small ways: do the tests notice?
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'cosmic-ray>=8.4'
	$(BIN)/python tools/mutants.py

coverage: $(INSTALLED)  ## the tests once more: which lines and branches of edgecnn they run
	rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest $(PARALLEL)
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

format: $(INSTALLED)  ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(INSTALLED)  ## resolve the dependencies anew (needs the interpreters on the PATH)
	$(BIN)/python tools/lock.py python3.11 python3.12 python3.13

bench-training: $(INSTALLED)  ## training speed against a Dataset of PIL images and a DataLoader
	$(BIN)/python benchmarks/training.py

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "edgecnn needs Python 3.11 or newer; this is %d.%d. Name another: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	# Not compiled: that takes a minute, and most of it is never imported.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:  ## remove the virtual environment and the caches; artifacts stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/'
