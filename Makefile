# `make demo` runs the main job; `make check` runs every check. Both set themselves up, and work offline afterwards.
# Other targets: setup, lint, types, imports, test, consistency, differential, bench, peers, fuzz, lock, clean.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo check setup format lint types imports test consistency differential bench peers fuzz lock clean

help: ## Lists the targets.
	@sed -n 's/^\([a-z0-9]*\):.*## /  \1	/p' $(MAKEFILE_LIST) | expand -t 12

demo: setup ## The main job: 49,097 sensor readings over WebSocket, Kafka, a model, and back.
	@$(BIN)/streamproc demo $(ARGS)

check: setup ## Lint, types, import contracts, all tests.
	@$(MAKE) --no-print-directory lint types imports test

setup: $(STAMP) ## The virtual environment with the locked dependencies.

$(STAMP): requirements.lock pyproject.toml scripts/setup.sh
	@PYTHON="$(PYTHON)" bash scripts/setup.sh $(VENV)
	@touch $@

format: setup ## Formats the code.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

imports: setup
	$(BIN)/lint-imports

# A process a core, each with a Kafka of its own; a file's tests stay together, since they share what they start.
test: setup ## All tests; ARGS go to pytest, for example ARGS="-m 'not e2e'".
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

consistency: setup ## Everything happens to three workers and three brokers, 52 times; ARGS="--cycles 10 --seed 1".
	$(BIN)/python -m tests.consistency $(ARGS)

differential: setup ## Kafka Streams beside the worker on the same topics: the same final results; ARGS="--short" for fewer events.
	@$(BIN)/python -m tests.differential $(ARGS)

bench: setup ## The worker on all jobs, every result checked; ARGS="--short" for a quick look.
	@$(BIN)/streamproc bench $(ARGS)

peers: setup ## Other engines beside it on the same topics; they install themselves. ARGS="--short": Flink and Kafka Streams.
	@$(BIN)/python -m tests.bench.peers $(ARGS)

fuzz: setup ## Damaged batches against every way of reading; ARGS="--minutes 10 --seed 1".
	@$(BIN)/python -m tests.fuzz $(ARGS)

lock: setup ## Resolves the dependencies anew.
	$(BIN)/python -m pip install --quiet "uv>=0.9,<1"
	$(BIN)/uv pip compile pyproject.toml --extra fast --extra disk --group dev --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --quiet --upgrade --output-file requirements.lock

clean: ## Removes the virtual environment and caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
