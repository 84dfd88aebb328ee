# make help lists what one can do.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Many processes import the package, and pytest the tests: what Python compiles is kept.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

.PHONY: setup
setup: $(INSTALLED)  ## Make .venv with the pinned packages (a few minutes, about 3 GB)

# Without compiling every module of every package, which takes as long again: Python compiles what
# is imported.
$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is too old; Python 3.11 or newer is needed: make setup PYTHON=..."; exit 2; }
	@echo "installing into $(VENV) ..."
	@"$(PYTHON)" -m venv $(VENV)
	@$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: demo
demo: setup  ## Make a film and scans, train on them, and show where everything is (under 4 minutes on two cores)
	@$(BIN)/python jobs/demo.py

PYTEST := $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: test
test: setup  ## Run the tests, two files at a time, without those of make slow and make faults
	@$(PYTEST) -m "not slow and not heavy"

.PHONY: slow
slow: setup  ## Run the longer tests: trainings on workers, whole jobs, a recipe
	@$(PYTEST) -m "slow and not heavy"

.PHONY: faults
faults: setup  ## Run what takes longest: killed jobs, lost nodes, recipes, demo, tutorial, benchmarks (two hours)
	@$(BIN)/pytest -m heavy

.PHONY: check
check: setup  ## Run the linters (imports' too), the format check and the type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

.PHONY: bench
bench: setup  ## Measure every part of the work beside its best alternative; one table of targets
	@$(BIN)/python benchmarks/performance.py

.PHONY: cluster-up
cluster-up: setup  ## Start a Ray cluster on this machine, with S3 storage and an MLflow server
	@$(BIN)/python deploy/local_cluster.py up

.PHONY: cluster-down
cluster-down: setup  ## End it, and delete what it kept
	@$(BIN)/python deploy/local_cluster.py down

.PHONY: audit
audit: setup  ## Look up known vulnerabilities of the pinned packages (deploy/audit.txt: exceptions)
	@$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict --progress-spinner off \
		$$(sed -E '/^(#|$$)/d; s/^([A-Z0-9-]+).*/--ignore-vuln \1/' deploy/audit.txt)

.PHONY: clean
clean:  ## Remove .venv and the folder demo
	rm -rf $(VENV) demo
