# Two commands matter: `make demo` and `make test`. Both set up what they need.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# A contract has its own home: lake, MLflow, Dagster and BentoML state of one never mix with another's.
export CHURN_CONTRACT ?= telecom
CHURN_HOME ?= .churn/$(basename $(notdir $(CHURN_CONTRACT)))
override CHURN_HOME := $(abspath $(CHURN_HOME))
export CHURN_HOME
export DAGSTER_HOME := $(CHURN_HOME)/dagster
export BENTOML_HOME := $(CHURN_HOME)/bentoml
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR := false
export MLFLOW_UV_AUTO_DETECT := false
export PYTHONWARNINGS ?= ignore

# The service: its predictions are kept in the home as well, and the key of the pseudonyms in them.
# Once there is a file of API keys it asks for them; until then it is open, to this machine only.
KEYS := $(CHURN_HOME)/keys.json
override KEYS := $(abspath $(KEYS))
ROLE := predict
DAYS := 90
export CHURN_API_PREDICTION_LOG ?= $(CHURN_HOME)/predictions
export CHURN_API_ID_KEY_FILE ?= $(CHURN_HOME)/id.key
ifneq ($(wildcard $(KEYS)),)
export CHURN_API_KEYS_FILE ?= $(KEYS)
endif

PYTHON ?= python3

# The simulated operator: what befalls it, and since which month, is written down once in a home, so
# that it does not become another one next month. The environment wins.
OPERATOR := $(CHURN_HOME)/operator.mk
ifeq ($(CHURN_CONTRACT),telecom)
ifneq ($(filter demo dev env,$(MAKECMDGOALS)),)
-include $(OPERATOR)
endif
endif

PORT ?= $(if $(filter serve,$(MAKECMDGOALS)),3001,3000)
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := .venv/bin

.PHONY: help setup home demo dev serve api-key test test-long lint format bench loadtest docs env clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: .venv/.synced ## Install everything into .venv, as uv.lock says

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .uv && .uv/bin/pip install --quiet uv

.venv/.synced: uv.lock pyproject.toml | $(if $(findstring .uv,$(UV)),.uv/bin/uv)
	$(UV) sync --frozen --quiet --extra ibm-telco --python $(PYTHON)
	@touch $@

home: setup
	@mkdir -p $(DAGSTER_HOME) $(BENTOML_HOME) && cp dagster.yaml $(DAGSTER_HOME)/
	@test -s $(CHURN_HOME)/id.key || (umask 077; $(RUN)/python -c 'import secrets; print(secrets.token_hex(32))' > $(CHURN_HOME)/id.key)

# From the month before the latest closed one on, so that the demo has two months to tell of.
$(OPERATOR):
	@mkdir -p $(@D)
	@month=$$($(PYTHON) -c 'from datetime import *; first = lambda day: day.replace(day=1) - timedelta(1); print(first(first(datetime.now(timezone.utc))).strftime("%Y-%m"))') && \
	printf 'export CHURN_SIMULATED__%s ?= %s\n' \
	  SCENARIO "$${CHURN_SIMULATED__SCENARIO:-price_shock}" \
	  SCENARIO_MONTH "$${CHURN_SIMULATED__SCENARIO_MONTH:-$$month}" > $@

demo: home ## Tell what becomes of a simulated operator, from its first model to a checked bento
	@$(RUN)/python -m churn_assets.demo

dev: home ## Dagster UI and daemon on http://127.0.0.1:$(PORT)
	$(RUN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(PORT)

serve: home ## Serve the newest bento on http://127.0.0.1:$(PORT)
	$(RUN)/bentoml serve churn_$(basename $(notdir $(CHURN_CONTRACT))):latest --host 127.0.0.1 --port $(PORT)

api-key: home ## Make an API key (ROLE=predict or admin, DAYS=90, ID=crm) and show it, this once
	@PYTHONPATH=bento $(RUN)/python -m churn_service.access.api_keys new --role $(ROLE) --days $(DAYS) $(if $(ID),--id $(ID)) --file $(KEYS)

# The pure core is covered by its own tests, which are quick: to trace the others takes minutes.
PURE := churn_assets_tests/core churn_assets_tests/contracts

test: setup ## Run the tests, but for those of test-long
	@PYTHONWARNINGS= $(RUN)/pytest $(PURE) --cov
	@PYTHONWARNINGS= $(RUN)/pytest -m 'not long' $(PURE:%=--ignore %)

test-long: setup ## The daemon left to itself, and two years of it by a simulated clock: ten minutes
	@PYTHONWARNINGS= $(RUN)/pytest -m long

lint: setup ## Lint, check format and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

format: setup ## Mend what ruff can mend
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench: setup ## Measure everything the README claims
	@for name in scorer accuracy hazard validation graph promotion serving; do $(RUN)/python -m benchmarks.$$name || exit 1; done

loadtest: setup ## 100 users ask the service of a bento for a minute
	@$(RUN)/python -m benchmarks.loadtest

docs: setup ## Make the generated documents again
	$(RUN)/python -m churn_assets.contracts.dictionary > docs/data-dictionary.md
	$(RUN)/python -m churn_assets.operations > docs/automation.md

env: home ## Print what native commands need: eval "$$(make -s env)"
	@for name in CHURN_CONTRACT CHURN_HOME DAGSTER_HOME BENTOML_HOME BENTOML_DO_NOT_TRACK $(filter CHURN_API_% CHURN_SIMULATED__%,$(.VARIABLES)); do printf 'export %s=%q\n' "$$name" "$${!name}"; done
	@printf 'export MLFLOW_TRACKING_URI=%q\n' "sqlite:///$(CHURN_HOME)/mlflow.db"
	@echo "export PATH=$(CURDIR)/.venv/bin:\$$PATH"

clean: ## Remove all local state, of every contract
	rm -rf .churn
