# Everything is set up by these; nothing else is needed but Python 3.11 with venv.
PYTHON ?= python3
BIN := .venv/bin
DEMO ?= demo

.PHONY: install demo test test-slow check wheel-test wheel-test-quick docs docs-executed services slurm snakemake format clean

install: .venv/.installed

# Modules are compiled when they are first imported; pip would compile every module of every library.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(PIP_INSTALL) torch==2.13.0
	$(PIP_INSTALL) --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/connectome-tl demo --out $(DEMO)

PYTEST := pytest --dist worksteal
# Style and types need one core for a while: they are checked beside the first tests, and their result is printed last.
CHECKS := ( $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports )

# Coverage is that of pytest's workers: lines that only the programs they start run count as missed.
COVERED := .venv/covered.json
test: install
	@$(CHECKS) >.venv/check.log 2>&1 & check=$$!; trap 'kill $$check' INT TERM; \
	rm -f $(COVERED); \
	OMP_NUM_THREADS=1 $(BIN)/python -m slipcover --out $(COVERED) -m $(PYTEST) -n auto -m "not slow"; tests=$$?; \
	wait $$check; style=$$?; cat .venv/check.log; \
	$(BIN)/python tests/covered.py $(COVERED); covered=$$?; exit $$((tests || style || covered))

# Whole pipelines, killed processes, tutorials, without coverage. Many of them wait, hence a worker more than cores.
SLOW_WORKERS ?= $(shell echo $$(($$(nproc) + 1)))
test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m $(PYTEST) -n $(SLOW_WORKERS) -m slow \
		$$(grep --recursive --files-with-matches 'mark\.slow' tests --include='test_*.py')

check: install
	$(CHECKS)

# The wheel in empty environments (base, [learn], [voxel]), tried from another folder. Takes some minutes.
wheel-test: install
	$(BIN)/python tests/release/try_wheel.py

wheel-test-quick: install
	$(BIN)/python tests/release/try_wheel.py --quick

docs: install
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# The guide with the outputs of the tutorials: executes them with small settings, once for each change (some minutes).
docs-executed: install
	CONNECTOME_TL_EXECUTE=1 CONNECTOME_TL_SMALL=1 $(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/executed

# For tests that skip without them: a PostgreSQL server (many tuning workers), and Chromium with axe (the pages).
# The packages need root on Debian, axe needs npm.
AXE_PACKAGE := axe-core@4.14.1
APT := apt-get install --yes --quiet --no-install-recommends
services:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		command -v chromium >/dev/null || apt-get update --quiet >/dev/null 2>&1; \
		for package in postgresql chromium; do \
			$(APT) $$package >/dev/null 2>&1 || echo "$$package could not be installed: its tests will skip"; \
		done; \
	else echo "Root on Debian installs them: $(APT) postgresql chromium"; fi
	@if command -v npm >/dev/null; then \
		npm install --prefix . --no-save --no-package-lock --no-audit --no-fund --silent $(AXE_PACKAGE) \
		|| echo "axe could not be installed: pages are tested without it"; \
	else echo "npm installs axe: npm install --prefix . --no-save --no-package-lock $(AXE_PACKAGE)"; fi

# A Slurm for the tests of the guide's job scripts, which take some minutes; they skip without one. Needs root on Debian.
slurm:
	apt-get install --yes --quiet --no-install-recommends slurm-wlm

# Snakemake with its Slurm plugin, in an environment of its own: the tests of configs/snakemake skip without it.
SNAKEMAKE := snakemake==9.27.0 snakemake-executor-plugin-slurm==2.8.0
snakemake: install
	$(PYTHON) -m venv .venv/snakemake
	.venv/snakemake/bin/python -m pip install --quiet $(SNAKEMAKE)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build dist demo docs/_build docs/tutorials
