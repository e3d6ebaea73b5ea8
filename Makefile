# Each target runs a Python command that also works without make, and on Windows.
# GNU make 3.81 (macOS) is enough.

ifeq ($(OS),Windows_NT)
PYTHON ?= python
PY = .venv/Scripts/python.exe
EXEC =
else
PYTHON ?= python3
PY = .venv/bin/python
EXEC = exec
endif

# With PYTHONOPTIMIZE set, Python skips every assert, and tests that check nothing would pass.
unexport PYTHONOPTIMIZE

.DEFAULT_GOAL := help
.PHONY: help install install-dev verify data demo serve test test-module status next check watch \
        hint solution reset update validate lint format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

install: ## install the packages of the course into .venv
	@$(PYTHON) tools/install.py

install-dev: ## install the development tools as well
	@$(PYTHON) tools/install.py --dev

verify: install ## check that this machine is ready: [OK] or [FAIL]
	@$(PY) setup/verify_environment.py

data: install ## download and prepare the training text of the capstone
	@$(PY) 09_capstone/data/prepare_data.py --data shakespeare

demo: install ## train a small model and sample (ARGS="--parts mine": yours)
	@$(PY) tools/demo.py $(ARGS)

# The server needs a few packages more; a stamp in .venv makes the second time quick.
serve: ## serve the newest model: API and chat page (ARGS="--port 80")
	@$(PYTHON) tools/install.py --extra serve
	@$(EXEC) $(PY) 09_capstone/serve.py $(ARGS)

test: install ## run all tests (on the solutions, not on your exercises)
	@$(PY) -m pytest -q --solutions -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

test-module: install ## run one lesson's tests on your exercises (MODULE=01_attention)
	@$(PY) tools/module_tests.py "$(MODULE)"

status: install ## show your progress in every lesson, and the next step
	@$(PY) tools/learn.py status "$(MODULE)" $(ARGS)

next: install ## show the next exercise (ARGS=--core: of the shortest path)
	@$(PY) tools/learn.py next "$(MODULE)" $(ARGS)

# "|| exit 0": the verdict is printed; make would add "*** Error 1" to it.
check: install ## check your exercises now: all, or one (EX=1.3)
	@$(PY) tools/learn.py check "$(or $(EX),$(MODULE))" || exit 0

# exec: a shell in between would be interrupted by Ctrl-C, and make would report that.
watch: install ## check your exercise on every save (ARGS=--core as above)
	@$(EXEC) $(PY) tools/learn.py watch "$(MODULE)" $(ARGS)

hint: install ## show one more hint (EX=1.3 or EX=softmax; default: the next)
	@$(PY) tools/learn.py hint "$(EX)" $(ARGS)

solution: install ## show the solution of an exercise that you have solved (EX=1.3)
	@$(PY) tools/learn.py solution "$(EX)" $(ARGS) || exit 0

reset: install ## restore one stub (EX=1.3); your version is kept as a backup
	@$(PY) tools/learn.py reset "$(EX)"

update: install ## bring in a newer release; keep every answer (ARGS=--dry-run)
	@$(PY) tools/update.py $(ARGS)

validate: install-dev ## run every check of the course (ARGS=--fast: without tests)
	@$(PY) tools/validate_all.py $(ARGS)

lint: install-dev ## check style, format and types, as CI does
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

format: install-dev ## fix style and format automatically
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

clean: ## remove caches, but no runs or data (ARGS=--all: .venv too)
	@$(PYTHON) tools/clean.py $(ARGS)
