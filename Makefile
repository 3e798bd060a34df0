# Plain verbs. Each one sets up what it needs; a second run is quick.
PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: install demo lab test lint docs build bench clean

install: $(STAMP)          ## a virtual environment with everything in it

$(STAMP): pyproject.toml agentos_jupyter/__init__.py $(wildcard agentos_jupyter/kernelspec/*)
	@$(PYTHON) -c 'import sys; sys.exit("AgentOS needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": name another one, as in: make PYTHON=python3.12 $(MAKECMDGOALS)" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: install              ## the main job: an agent finds and repairs a bug, in a notebook
	$(BIN)/agentos demo

lab: install               ## JupyterLab with the AgentOS kernel in its launcher
	$(BIN)/jupyter lab

test: install             ## every test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile

lint: install              ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: install              ## what docs/ promises: every command runs, every name is there
	$(BIN)/python -m pytest tests/docs

build: install             ## wheel and source distribution in dist/
	$(BIN)/python -m build

bench: install             ## the table of measures
	$(BIN)/python -m tests.bench

clean:                     ## what the verbs above made
	rm -rf $(VENV) build dist out .mypy_cache .pytest_cache .ruff_cache
