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

PYTHON ?= python3
PORT ?= $(if $(filter serve,$(MAKECMDGOALS)),3001,3000)
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := .venv/bin

.PHONY: help setup home demo dev serve test lint format bench docs env clean

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

demo: home ## Materialise the graph for the last six months, and say what came of it
	@$(RUN)/python -m churn_assets.demo

dev: home ## Dagster UI and daemon on http://127.0.0.1:$(PORT)
	$(RUN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(PORT)

serve: home ## Serve the newest bento on http://127.0.0.1:$(PORT)
	$(RUN)/bentoml serve churn_$(basename $(notdir $(CHURN_CONTRACT))):latest --host 127.0.0.1 --port $(PORT)

test: setup ## Run all tests
	@PYTHONWARNINGS= $(RUN)/pytest --cov

lint: setup ## Lint, check format and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

format: setup ## Mend what ruff can mend
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench: setup ## Measure everything the README claims
	@for name in scorer accuracy hazard validation graph; do $(RUN)/python -m benchmarks.$$name || exit 1; done

docs: setup ## Make the generated documents again
	$(RUN)/python -m churn_assets.contracts.dictionary > docs/data-dictionary.md

env: home ## Print what native commands need: eval "$$(make -s env)"
	@for name in CHURN_CONTRACT CHURN_HOME DAGSTER_HOME BENTOML_HOME BENTOML_DO_NOT_TRACK; do echo "export $$name=$${!name}"; done
	@echo "export MLFLOW_TRACKING_URI=sqlite:///$(CHURN_HOME)/mlflow.db"
	@echo "export PATH=$(CURDIR)/.venv/bin:\$$PATH"

clean: ## Remove all local state, of every contract
	rm -rf .churn
