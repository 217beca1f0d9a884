# Two commands matter: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
BARS   ?=
PIP    := $(BIN)/python -m pip --disable-pip-version-check
READY  := $(VENV)/.ready

.PHONY: help demo rogues test test-host drills bundle quick check lint types imports bench mutants setup system clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

# Torch first and alone: where a CPU build is offered pip takes it, and nothing later replaces it.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Python 3.11 to 3.13 is needed; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV) (downloads packages once; later runs skip this)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --constraint constraints.txt torch
	@$(PIP) install --quiet --only-binary :all: --constraint constraints.txt setuptools
	@$(PIP) install --quiet --only-binary :all: --constraint constraints.txt --no-build-isolation --editable '.[alerts,analysis,market,release,train,dev]'
	@touch $@

setup: $(READY) ## Make the virtual environment from the pinned versions

demo: $(READY) ## Train four models, run the real service on the rest of the bars, judge, report (BARS=file for real bars)
	@$(BIN)/quantum demo $(if $(BARS),--bars $(BARS))

rogues: $(READY) ## Measure how often the gates err, about half an hour, resumable, into docs (BARS=file adds real returns)
	@$(BIN)/quantum rogues --page docs/gates-error-rates.md $(if $(BARS),--bars $(BARS))

check: lint types imports quick ## Format, lint, types, import contracts and the quick tests

lint: $(READY)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(READY)
	@$(BIN)/mypy

imports: $(READY)
	@$(BIN)/lint-imports --no-cache

quick: $(READY) ## Tests that take seconds
	@$(BIN)/pytest -q -m 'not slow' -n 2

test: $(READY) lint types imports ## Everything: lint, types, import contracts, all tests
	@$(BIN)/pytest -n 2

test-host: $(READY) ## The whole story on a real Debian host that is built and booted here (root; see docs/how-to/set-up-a-host.md)
	@STORY_FILE=dist/story.md $(BIN)/pytest -s -q tests/host

drills: $(READY) ## Deploy and roll back on the test host with a fault each, every way back timed (DRILLS=100 SEED=1 JSON=file)
	@$(BIN)/python -m tests.host.drills $(or $(DRILLS),100) --seed $(or $(SEED),1) $(if $(JSON),--json $(JSON))

bundle: $(READY) ## Everything that a host needs, in dist/host, for `quantum host init`
	@mkdir -p dist && sh ops/make-bundle.sh dist/host $(BIN)/python

bench: $(READY) ## Print the benchmark tables of benchmarks/README.md
	@$(BIN)/python -m benchmarks $(BENCH)

mutants: $(READY) ## Change the gates one place at a time; their tests must notice (a quarter of an hour)
	@nice -n 19 $(BIN)/python -m tests.mutation

system: ## Install the optional real parts that need root (Debian: redis-server, chromium, the test host's)
	@sh ops/install-system-parts.sh

clean: ## Remove the environment and everything generated
	rm -rf $(VENV) demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
