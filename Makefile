# `make bench` runs the main job, `make test` passes all tests, `make check` is what a change must pass.
# All create .venv first, with the versions of constraints.txt (CONSTRAINTS=/dev/null: the newest that fit).
SHELL := /bin/bash
VENV ?= .venv
PY := $(VENV)/bin/python
PIP_ARGS ?=
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 8 ? n : 8)))
ARGS ?=
CONSTRAINTS ?= constraints.txt
EXTRAS ?= dev

.NOTPARALLEL:
.PHONY: bench test bench-suite slurm exact cluster format lint types check setup clean

bench: setup
	$(PY) -m pytest tests/perf $(ARGS)

test: setup
	$(PY) -m pytest tests/correctness -m 'not slurm' -n $(WORKERS) --dist loadfile $(ARGS)

# format, lint, types, tests; ends with the tests' own summary
check: lint types test

# how fast the suite itself is: figures, no limits
bench-suite: setup
	$(PY) -m pytest tests/speed $(ARGS)

# jobs on a Slurm that is started on this machine; skipped, with the reason, where Slurm is not installed
slurm: setup
	$(PY) -m pytest tests/correctness/slurm -m slurm $(ARGS)

# scenarios at their exact 96 and 128 ranks as real processes on this machine's processors, whatever their number;
# without nixl, of which megatron gives each rank a thread that never sleeps
EXACT ?= s1 s2 s3 s4 s5 s6 s7
EXACT_ENGINES ?= megatron packed direct delta
exact: setup
	CUDA_VISIBLE_DEVICES= $(PY) -m pytest tests/perf --ranks 128 --twin 1,1 --model kimi-k2-mini --warmup 0 \
	  --iterations 1 --deadline 900 -k 'not nixl' $(EXACT:%=--scenario %) $(EXACT_ENGINES:%=--engine %) $(ARGS)

# the users' batch job, all seven scenarios (REFIT_SCENARIOS="s2;s6": some), on a Slurm of hosts of this machine;
# tasks share what they import; 128 ranks take 13 GiB of memory (TASKS=2: 5)
HOSTS ?= 16
TASKS ?= 8
REFIT_ENGINES ?= packed
cluster: setup
	REFIT_MODEL=kimi-k2-mini REFIT_ENGINES="$(REFIT_ENGINES)" REFIT_WARMUP=0 REFIT_ITERATIONS=1 \
	  REFIT_PYTEST_ARGS="--deadline 900" $(PY) -m tools cluster --hosts $(HOSTS) sbatch --wait \
	  --nodes=$(HOSTS) --ntasks-per-node=$(TASKS) benchmark_refit_kimi_k2.sh $(ARGS)

format: setup
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

lint: setup
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

types: setup
	$(PY) -m mypy

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt tools/find_python.sh
	@echo "creating $(VENV): a few minutes and some 6 GB, most of it torch"
	@python="$$(bash tools/find_python.sh)" && "$$python" -m venv $(VENV)
	@$(PY) -m pip install --quiet --upgrade pip $(PIP_ARGS)
	@PYTHONWARNINGS=ignore $(PY) -m pip install --quiet $(PIP_ARGS) --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build
