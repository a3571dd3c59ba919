# make demo               train, evaluate, plot, export and serve in one run
# make demo DATA=folder   the same on KuaiRand files
# make check              lint, tests of parts, one family: for daily work
# make test               lint, tests on TensorFlow and on JAX, tutorials
# make lint / format / notebooks / clean
#
# Each target makes the virtual environment that it needs. Other Python:
# make test PYTHON=python3.12 VENV=.venv312

PYTHON ?= python3
VENV ?= .venv
DATA ?=
# Processes that test side by side; each takes up to 3 GB.
JOBS ?= 2
OUT ?= demo_output
DEMO_ARGS := $(if $(DATA),--data "$(DATA)")

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo check test lint format notebooks clean

BIN := $(abspath $(VENV))/bin
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# One line per package while pip works: a silent minute looks like a hang.
PROGRESS := { grep --line-buffered -oE \
	'^Collecting [^ ]+|^Installing collected packages' || test $$? = 1; }
install = $(BIN)/python -m pip install --progress-bar off -e $(1) | $(PROGRESS)

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "keras_unirec needs Python 3.11 or newer;" \
			"$(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "No virtual environment: is the venv module installed?" \
			"(Debian, Ubuntu: apt install python3-venv)"; exit 1; }

$(VENV)/.demo-installed: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (TensorFlow alone is 600 MB to download)"
	@$(call install,'.[plot]')
	@touch $@

$(VENV)/.dev-installed: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV) (TensorFlow alone is 600 MB to download)"
	@$(call install,'.[dev]')
	@touch $@ $(VENV)/.demo-installed

demo: $(VENV)/.demo-installed
	$(BIN)/python examples/demo.py --out "$(OUT)" $(DEMO_ARGS)

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What tests of one family share is made in one process.
pytest = $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup

check: lint
	KERAS_BACKEND=tensorflow $(pytest) \
		tests/layers tests/project_test.py tests/imports_test.py \
		tests/applications/state_test.py tests/applications/outputs_test.py \
		tests/applications/ranking_model_test.py::RankingModelTest::test_end_to_end \
		tests/applications/invariants_test.py::Invariants_mixformer_tiny

test: lint
	KERAS_BACKEND=tensorflow $(pytest) tests
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 \
		$(pytest) tests/layers tests/applications

notebooks: $(VENV)/.dev-installed
	KERAS_BACKEND=tensorflow $(BIN)/python tutorials/build.py

clean:
	rm -rf $(VENV) demo_output tutorials/*_output
