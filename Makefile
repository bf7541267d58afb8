# One command checks everything, the same here and in CI: `make test`.

.DEFAULT_GOAL := help
.NOTPARALLEL:
SHELL := /bin/sh
PYTHON := .venv/bin/python
WORKERS ?= 3
SCRIPTS := opscenter $(wildcard .ci/run .ci/environment .ci/image deploy/*.sh)
LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -q

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

test: format-check lint types files bench-smoke micro tests ## Everything that CI checks

environment: ## The Python environment in .venv, made once from .ci/dev.lock
	@.ci/environment

format: environment ## Format the code
	$(PYTHON) -m ruff check --fix --select I .
	$(PYTHON) -m ruff format .

format-check: environment
	$(PYTHON) -m ruff format --check .

lint: environment ## ruff
	$(PYTHON) -m ruff check .

types: environment ## mypy, strict
	$(PYTHON) -m mypy

files: environment ## Compose file, Dockerfile, shell scripts, generated pages
	.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	.venv/bin/hadolint Dockerfile
	@if command -v shellcheck >/dev/null; then echo shellcheck $(SCRIPTS); shellcheck $(SCRIPTS); \
		else echo "shellcheck is not here: shell scripts are not checked"; fi
	$(PYTHON) -m docs.generate --check

tests: environment ## pytest; one file: make tests ARGS=tests/test_house.py
	$(PYTHON) -m pytest -n $(WORKERS) $(ARGS)

bench-smoke: environment ## Seconds of load over a whole Ops-Center; every charge is compared
	$(PYTHON) -m bench.run --smoke

micro: environment ## What the pure pieces cost, against recorded ratios: seconds; make micro ARGS=--record
	$(PYTHON) -m pytest bench/micro -q --benchmark-disable-gc --benchmark-columns=min,median,rounds $(ARGS)

bench: environment ## Beside nginx and LiteLLM: minutes, on a quiet machine; make bench ARGS=--quick
	$(PYTHON) -m bench.compare $(ARGS)

SEED ?= 1
SECONDS_OF_CHAOS ?= 90

chaos: environment ## Kills, wipes and cuts under load, then an independent check: make chaos SEED=7
	$(PYTHON) -m bench.chaos --seed $(SEED) --seconds $(SECONDS_OF_CHAOS) $(ARGS)

MINUTES ?= 30

soak: environment ## Memory over a long mixed load on a whole Ops-Center: make soak MINUTES=30
	$(PYTHON) -m bench.soak --minutes $(MINUTES) $(ARGS)

clients: environment ## Real clients against a running gateway: minutes, installs them; make clients ARGS=--write
	$(PYTHON) -m bench.clients $(ARGS)

docs: environment ## Generate the generated pages anew
	$(PYTHON) -m docs.generate

lock: ## Resolve both lock files (needs uv); newer versions: make lock ARGS=--upgrade
	$(LOCK) $(ARGS) --extra build pyproject.toml -o requirements.lock
	$(LOCK) $(ARGS) --extra dev --extra build -c requirements.lock pyproject.toml -o .ci/dev.lock

image: ## Build the container image with podman
	.ci/image build

image-check: ## Build the image and really start it: locked down, without a network
	.ci/image check

clean: ## Remove what tools left here, the environment too
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

.PHONY: help test environment format format-check lint types files tests bench-smoke soak micro bench clients docs lock image image-check clean
