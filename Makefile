# Each target is a thin line over a Python command that works without make, on Windows as well.
# GNU make 3.81 (macOS) is enough.

ifeq ($(OS),Windows_NT)
PYTHON ?= python
PY = .venv/Scripts/python.exe
else
PYTHON ?= python3
PY = .venv/bin/python
endif

.DEFAULT_GOAL := help
.PHONY: help install install-dev verify data demo test test-module validate lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: ## put what the course needs into .venv (nothing to do: silent)
	@$(PYTHON) tools/install.py

install-dev: ## the same, with the tools for changing the course
	@$(PYTHON) tools/install.py --dev

verify: install ## is this machine ready? [OK] and [FAIL], line by line
	@$(PY) setup/verify_environment.py

data: install ## fetch and prepare the text that the capstone learns from
	@$(PY) 09_capstone/data/prepare_data.py --data shakespeare

demo: install ## train a small model in minutes and let it talk
	@$(PY) tools/demo.py

test: install ## all tests
	@$(PY) -m pytest -q

test-module: install ## the tests of one lesson (MODULE=01_attention)
	@$(PY) tools/module_tests.py "$(MODULE)"

validate: install-dev ## all that must hold, in a table (ARGS=--fast: without tests)
	@$(PY) tools/validate_all.py $(ARGS)

lint: install-dev ## style, format and types, as CI checks them
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

format: install-dev ## mend style and format where a program can
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove caches, never runs or data (ARGS=--all: .venv as well)
	@$(PYTHON) tools/clean.py $(ARGS)
