# `make demo` and `make test` install what they need; on a fresh machine no other command is necessary.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IMAGES := $(wildcard images/*/package.json)
MODULES := $(IMAGES:package.json=node_modules/.package-lock.json)
SIMULATOR := tests/simulator/node_modules/.package-lock.json
TOOLS := tests/tools/node_modules/.package-lock.json

# Python keeps what it has compiled: tests start thousands of processes, of which each would compile boto3 again.
unexport PYTHONDONTWRITEBYTECODE

# Two at a time, each output in one piece; make 3.81, which macOS has, cannot keep them apart.
TOGETHER := $(if $(filter output-sync,$(.FEATURES)),--jobs=2 --output-sync=target)

# Not compiled now: most modules are never imported. Without setuptools' warning that folders can hide editable packages.
INSTALL := -m pip install --quiet --no-compile --disable-pip-version-check --constraint
PIP := PYTHONWARNINGS=ignore $(BIN)/python $(INSTALL) constraints.txt
CHECKOV_PIP := $(VENV)/checkov/bin/python $(INSTALL) constraints-checkov.txt

.PHONY: demo demo-rnr test checks compiled nightly docs record bench lint ruff mypy imports checkov validate unit e2e \
	node-test servers clean help
.DEFAULT_GOAL := help

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.local ## Set up, then run the pipeline end to end once on this machine
	$(BIN)/refinerctl demo

demo-rnr: $(VENV)/.local ## Set up, then run stack rnr end to end once; needs RabbitMQ and Redis
	$(BIN)/refinerctl demo --stack rnr

# End-to-end tests mostly wait for queues and begin first, six files at once; unit tests use the processor meanwhile.
test: ## Set up, then run every check and test
	@$(MAKE) --no-print-directory $(TOGETHER) checks
	$(BIN)/pytest tests/e2e tests/integration images tests/unit -m 'not nightly' --numprocesses 6 --dist loadfile --no-loadscope-reorder

checks: servers mypy node-test ruff imports $(MODULES) $(SIMULATOR) $(TOOLS) compiled

# Test modules: once here, and not in each process of pytest.
compiled: $(VENV)/.dev
	@$(BIN)/pytest --collect-only --quiet --no-header > $(VENV)/collected.txt || { cat $(VENV)/collected.txt; exit 1; }

lint: ruff mypy imports checkov

ruff: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

mypy: $(VENV)/.dev
	$(BIN)/mypy

imports: $(VENV)/.dev
	$(BIN)/lint-imports --no-logo

checkov: $(VENV)/checkov/.installed
	$(VENV)/checkov/bin/checkov

# Offline and in a copy: with the provider of this machine's mirror, and without a data folder in the tree.
validate: $(VENV)/.dev
	$(BIN)/pytest tests/integration/terraform/test_modules.py -k 'formatted or valid'

node-test: $(MODULES)
	@for image in $(dir $(IMAGES)); do (cd $$image && npm test --silent) || exit 1; done

unit: $(VENV)/.dev $(MODULES) $(SIMULATOR) $(TOOLS) servers
	$(BIN)/pytest tests/unit tests/integration images --numprocesses 2 --dist loadfile

nightly: checkov $(VENV)/.dev $(MODULES) $(SIMULATOR) $(TOOLS) servers ## Run variants and long tests, property tests with new random examples, stack rnr under faults in a new order
	$(BIN)/pytest tests/unit tests/integration images -m hypothesis --hypothesis-profile nightly --timeout 1800 --numprocesses 2
	$(BIN)/pytest tests/e2e tests/integration images tests/unit -m nightly
	RNR_LEDGER_SEED=$${RNR_LEDGER_SEED:-$$(date +%s)} RNR_LEDGER_ROUNDS=5 $(BIN)/pytest -s tests/e2e/rnr_ledger -k faults

docs: $(VENV)/.dev ## Write the generated pages of docs/
	$(BIN)/python -m docs.generate

record: $(VENV)/.dev $(MODULES) ## Record the demo for docs/demo.svg
	$(BIN)/python -m docs.record

.PHONY: dist
dist: $(VENV)/.dev ## Build the source distribution and the wheel in dist/, and check them
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

bench: $(VENV)/.dev $(MODULES) servers ## Run the benchmarks: refinerctl, boto3, s5cmd, aws, skopeo, docker
	$(BIN)/python benchmarks/upload.py
	$(BIN)/python -m benchmarks.many_files
	$(BIN)/python -m benchmarks.wait
	$(BIN)/python -m benchmarks.sync
	$(BIN)/python -m benchmarks.dlq
	$(BIN)/python -m benchmarks.status
	$(BIN)/python -m benchmarks.verify
	PYTHONPATH=images $(BIN)/python -m benchmarks.rnr.worker
	PYTHONPATH=images $(BIN)/python -m benchmarks.rnr.producer
	PYTHONPATH=images $(BIN)/python -m benchmarks.rnr.autoscaler docs/autoscaler.svg

e2e: $(VENV)/.dev $(MODULES) $(TOOLS) servers
	# Most of the time is spent waiting for queues: three files at once take half the time.
	$(BIN)/pytest tests/e2e --numprocesses 3 --dist loadfile

# Servers that tests start; without them these tests are skipped, with the reason.
servers:
	@sh tests/install-servers

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "refinerctl needs Python 3.11 or newer: make PYTHON=python3.11 …" >&2; exit 1; }
	@echo "setting up: Python environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade pip  # Python's own may need twice the time

$(VENV)/.local: setup.cfg constraints.txt | $(VENV)/bin/python
	@echo "setting up: Python packages"
	@$(PIP) --editable '.[local,docker]'
	@touch $@

$(VENV)/.dev: setup.cfg constraints.txt | $(VENV)/bin/python
	@echo "setting up: Python packages for tests"
	@$(PIP) --editable '.[local,docker,dev,provenance]'
	@touch $@ $(VENV)/.local

$(VENV)/checkov/.installed: constraints-checkov.txt | $(VENV)/bin/python
	@echo "setting up: checkov"
	@$(BIN)/python -m venv $(VENV)/checkov
	@$(CHECKOV_PIP) --upgrade pip
	@$(CHECKOV_PIP) checkov
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	@echo "setting up: npm packages of $*"
	@cd $* && npm ci --silent --no-audit --no-fund
	@touch $@

# Purged and edited messages, journals of redrives, and states that Terraform could not save exist nowhere else.
ONLY_COPIES := -path '.refinerctl/dlq/*' -o -path '.refinerctl/edits/*' -o -path '.refinerctl/redrives/*' -o -name errored.tfstate

clean: ## Remove everything that these targets created, except data that exists nowhere else
	-$(BIN)/refinerctl local down
	rm -rf $(VENV) images/*/node_modules tests/simulator/node_modules tests/tools/node_modules build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@test ! -d .refinerctl || { find .refinerctl ! -type d ! \( $(ONLY_COPIES) \) -delete; find .refinerctl -type d -empty -delete; }
	@test ! -d .refinerctl || { echo "kept, because no other copy exists:"; find .refinerctl -type f; }
