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
.PHONY: help install install-dev verify data demo test test-module status next check watch \
        hint reset validate lint format clean

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

test: install ## all tests (of the exercises: the solutions)
	@$(PY) -m pytest -q --solutions -n auto --maxprocesses 4 --dist loadfile

test-module: install ## the tests of one lesson, on what you wrote (MODULE=01_attention)
	@$(PY) tools/module_tests.py "$(MODULE)"

status: install ## where you stand: every lesson, and the next step
	@$(PY) tools/learn.py status "$(MODULE)"

next: install ## the next exercise, and why it matters
	@$(PY) tools/learn.py next

check: install ## judge your exercises now: all, or one (EX=1.3)
	@$(PY) tools/learn.py check "$(or $(EX),$(MODULE))"

watch: install ## judge them at each save, one after the other
	@$(PY) tools/learn.py watch "$(MODULE)"

hint: install ## one hint more each time (EX=1.3; else the next exercise)
	@$(PY) tools/learn.py hint "$(EX)"

reset: install ## put one stub back (EX=1.3); your version is kept aside
	@$(PY) tools/learn.py reset "$(EX)"

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
