# Two commands: `make bench` runs the main job, `make test` passes all tests. Both create .venv first.
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python
PIP_ARGS ?=
WORKERS ?= 2
ARGS ?=

.PHONY: bench test slurm lint types check setup clean

bench: setup
	$(PY) -m pytest tests/perf $(ARGS)

test: setup
	$(PY) -m pytest tests/correctness -m 'not slurm' -n $(WORKERS) --dist loadfile $(ARGS)

# jobs on a Slurm that is started on this machine; skipped, with the reason, where Slurm is not installed
slurm: setup
	$(PY) -m pytest tests/correctness/slurm -m slurm $(ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: setup
	$(PY) -m mypy

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml tools/find_python.sh
	python="$$(bash tools/find_python.sh)" && "$$python" -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip $(PIP_ARGS)
	$(PY) -m pip install --quiet $(PIP_ARGS) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build
