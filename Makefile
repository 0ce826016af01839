# Two commands matter: `make demo` and `make test`. Both set up what they need.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# A path may have blanks, quotes and dollar signs: `value` keeps dollar signs, make's functions see
# blanks as bars, and recipes get paths in quotes. A path that cannot be used is left as it is, for
# the target `home` to refuse.
empty :=
blank := $(empty) $(empty)
one-word = $(subst $(blank),|,$1)
odd = $(or $(if $(strip $1),,empty),$(findstring |,$1),$(word 2,$(call one-word,$1)))
absolute = $(if $(call odd,$1),$1,$(subst |,$(blank),$(abspath \
  $(patsubst ~/%,$(call one-word,$(HOME))/%,$(call one-word,$1)))))
quoted = '$(subst ','\'',$1)'

# Every contract has its own home, so that its lake, MLflow, Dagster and BentoML state is separate.
export CHURN_CONTRACT ?= telecom
NAME := $(subst |,$(blank),$(basename $(notdir $(call one-word,$(value CHURN_CONTRACT)))))
ifeq ($(origin CHURN_HOME),undefined)
CHURN_HOME := .churn/$(NAME)
endif
override CHURN_HOME := $(call absolute,$(value CHURN_HOME))
export CHURN_HOME
export DAGSTER_HOME := $(CHURN_HOME)/dagster
export BENTOML_HOME := $(CHURN_HOME)/bentoml
export BENTOML_DO_NOT_TRACK := True
export MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR := false
export MLFLOW_UV_AUTO_DETECT := false
export PYTHONWARNINGS ?= ignore

# The service keeps its prediction log in the home too, with the key of the pseudonyms in that log.
# It requires API keys once the file of keys exists; until then it serves only this machine.
KEYS := $(CHURN_HOME)/keys.json
override KEYS := $(call absolute,$(value KEYS))
ROLE := predict
DAYS := 90
export CHURN_API_PREDICTION_LOG ?= $(CHURN_HOME)/predictions
export CHURN_API_ID_KEY_FILE ?= $(CHURN_HOME)/id.key
ifneq ($(shell test -e $(call quoted,$(KEYS)) && echo exists),)
export CHURN_API_KEYS_FILE ?= $(KEYS)
endif

PYTHON ?= python3

# The scenario of the simulated operator, and its first month, are stored once in a home, so that
# they stay the same next month. Variables of the environment take precedence. The scenario starts
# in the month before the latest closed one, so that the demo shows two months.
ifeq ($(CHURN_CONTRACT),telecom)
ifneq ($(filter demo dev env,$(MAKECMDGOALS)),)
KEEP_SCENARIO := --keep-scenario
OPERATOR := $(shell sed 's/ /|/g' $(call quoted,$(CHURN_HOME)/operator.mk) 2>/dev/null)
$(foreach line,$(OPERATOR),$(eval $(subst |,$(blank),$(line))))
export CHURN_SIMULATED__SCENARIO ?= price_shock
ifeq ($(origin CHURN_SIMULATED__SCENARIO_MONTH),undefined)
export CHURN_SIMULATED__SCENARIO_MONTH := $(shell $(PYTHON) -c 'from datetime import *; first = lambda day: day.replace(day=1) - timedelta(1); print(first(first(datetime.now(timezone.utc))).strftime("%Y-%m"))')
endif
endif
endif

PORT ?= $(if $(filter serve,$(MAKECMDGOALS)),3001,3000)
UV := $(shell command -v uv || echo .uv/bin/uv)
RUN := .venv/bin

.PHONY: help setup home demo dev serve api-key images platform-image test test-long test-charts test-cluster lint format bench loadtest docs env clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

setup: .venv/.synced ## Install everything into .venv, with the versions of uv.lock

.uv/bin/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .uv && .uv/bin/pip install --quiet uv

.venv/.synced: uv.lock pyproject.toml | $(if $(findstring .uv,$(UV)),.uv/bin/uv)
	$(UV) sync --frozen --quiet --extra ibm-telco --python $(PYTHON)
	@touch $@

home: setup
	@$(RUN)/python -m churn_assets.home $(KEEP_SCENARIO)

demo: home ## Run the platform on a simulated operator, from the first model to a checked bento
	@$(RUN)/python -m churn_assets.demo

# The links of alerts lead to this webserver, unless the environment names another one.
dev: export CHURN_ALERTS__UI_URL ?= http://127.0.0.1:$(PORT)
dev: home ## Dagster UI and daemon on http://127.0.0.1:3000, or at PORT=...
	$(RUN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(PORT)

serve: home ## Serve the newest bento on http://127.0.0.1:3001, or at PORT=...
	$(RUN)/bentoml serve $(call quoted,churn_$(NAME):latest) --host 127.0.0.1 --port $(PORT)

api-key: home ## Make an API key (ROLE=predict or admin, DAYS=90, ID=crm) and show it once
	@PYTHONPATH=bento $(RUN)/python -m churn_service.access.api_keys new --role $(ROLE) --days $(DAYS) $(if $(ID),--id $(call quoted,$(ID))) --file $(call quoted,$(KEYS))

# Images are built with docker, podman or buildah. BENTO is an archive, or a folder of archives.
BENTO ?= $(CHURN_HOME)/archives
IMAGE_PREFIX ?= churn-
BUILD = $(RUN)/python containers/build_images.py --prefix=$(call quoted,$(IMAGE_PREFIX)) \
  --base-image=$(call quoted,$(BASE_IMAGE)) --tag=$(call quoted,$(TAG)) --options=$(call quoted,$(BUILD_OPTIONS))

images: setup ## Build the service's images: the runtime, the service with the newest bento, the fetcher
	@$(BUILD) $(call quoted,$(BENTO))

platform-image: setup ## Build the image of the graph: webserver, daemon, code location, runs, MLflow
	@$(BUILD)

# Coverage is of the pure core by its own quick tests: tracing the other tests takes minutes.
PURE := churn_assets_tests/core churn_assets_tests/contracts

test: setup ## Run the tests, except those of test-long
	@PYTHONWARNINGS= $(RUN)/pytest $(PURE) --cov
	@PYTHONWARNINGS= $(RUN)/pytest -m 'not long and not charts and not cluster' $(PURE:%=--ignore %)

test-long: setup ## Run the long tests (ten minutes): a real daemon, and two years by a simulated clock
	@PYTHONWARNINGS= $(RUN)/pytest -m long

test-charts: setup ## Test the Helm charts; helm is taken from the PATH, or installed by go into .tools/
	@PYTHONWARNINGS= $(RUN)/pytest -m charts -n 0 -rs churn_assets_tests/charts

test-cluster: setup ## Test service and platform on the Kubernetes cluster of KUBECONFIG; see docs/deployment.md
	@PYTHONWARNINGS= $(RUN)/pytest -m cluster -n 0 churn_assets_tests/cluster

lint: setup ## Lint, check format and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

format: setup ## Fix what ruff can fix
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench: setup ## Measure every number that the README claims
	@for name in scorer accuracy hazard validation graph promotion serving; do $(RUN)/python -m benchmarks.$$name || exit 1; done

loadtest: setup ## Load a bento's service with 100 users for a minute
	@$(RUN)/python -m benchmarks.loadtest

docs: setup ## Generate the documents that are derived from code
	$(RUN)/python -m churn_assets.contracts.dictionary > docs/data-dictionary.md
	$(RUN)/python -m churn_assets.operations > docs/automation.md

env: home ## Print the environment of native commands: eval "$$(make -s env)"
	@for name in CHURN_CONTRACT CHURN_HOME DAGSTER_HOME BENTOML_HOME BENTOML_DO_NOT_TRACK $(filter CHURN_API_% CHURN_SIMULATED__%,$(.VARIABLES)); do printf 'export %s=%q\n' "$$name" "$${!name}"; done
	@printf 'export MLFLOW_TRACKING_URI=%q\n' "sqlite:///$$CHURN_HOME/mlflow.db"
	@printf 'export PATH=%q:"$$PATH"\n' $(call quoted,$(CURDIR)/.venv/bin)

clean: ## Remove all local state, of every contract
	rm -rf .churn
