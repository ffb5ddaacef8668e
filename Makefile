# make demo    the paper's alpha ablation on digits: trains, tracks, prints the table (about 3 minutes)
# make paper   the paper's suite on digits, and the verdicts on its claims (under an hour on two cores)
# make test    lint, types, import contract, tests (about 12 minutes on two cores)
# All set up .venv first: the exact versions of pins.txt, and this project, editable.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
# uv leaves packages uncompiled. Where this is set, every process compiles all of torch anew, in seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo paper test test-slow slow-tests slow-tests-on-slurm lint types contract tests benchmarks benchmarks-on-slurm benchmarks-on-gpu mutation format pins clean

demo: $(READY)
	$(BIN)/ear sweep run sweeps/quickstart.yaml
	$(BIN)/ear report quickstart
	@echo "Next:  source $(VENV)/bin/activate, then ear ui: every run in MLflow's pages"

paper: $(READY)
	$(BIN)/ear paper run
	$(BIN)/ear paper report

test: lint types contract tests

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

contract: $(READY)
	$(BIN)/lint-imports

# Three workers on two cores, a file at a time each (tests/conftest.py): Slurm's and Ray's tests mostly wait. After 15
# minutes in one test a worker says where it hangs, and ends.
tests: $(READY)
	$(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder \
	  -o faulthandler_timeout=900 -o faulthandler_exit_on_timeout=true

# On SLURM most of the time is waiting: with -j2 the two halves run side by side. Benchmarks run by themselves.
# A slow test that can't run here (no root for Slurm, say) fails; `make test` skips it, and its last lines say why.
test-slow: slow-tests slow-tests-on-slurm
	$(MAKE) -j1 mutation benchmarks benchmarks-on-slurm

slow-tests: $(READY)
	tests/install_debian_packages dataset-fashion-mnist chromium texlive-latex-recommended texlive-science
	EAR_NO_SKIPS=1 $(BIN)/pytest -m slow --ignore=tests/slurm

slow-tests-on-slurm: $(READY)
	EAR_NO_SKIPS=1 $(BIN)/pytest -m slow tests/slurm

benchmarks: $(READY)
	$(BIN)/python tests/benchmarks/run.py

benchmarks-on-slurm: $(READY)
	$(BIN)/python tests/benchmarks/slurm_benchmark.py

# On a machine with a GPU; needs the base dependencies only, some six minutes a half.
benchmarks-on-gpu: $(READY)
	$(BIN)/python tests/benchmarks/gpu.py --only training --out gpu_training.json
	$(BIN)/python tests/benchmarks/gpu.py --only sampling --out gpu_sampling.json

# Puts some hundreds of small faults, one at a time, into the modules that guard data and access, and fails where no test
# notices one (tests/mutation/guards.yaml names the modules, their tests, and the faults that change nothing). It changes
# no file, and takes some minutes on two cores.
mutation: $(READY)
	$(BIN)/python tests/mutation/run.py

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Resolves the newest versions that pyproject.toml admits, for Python 3.11 to 3.13.
pins: $(READY)
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev pyproject.toml \
	  --no-header --no-annotate --no-emit-index-url --output-file pins.txt

# uv installs in a minute what pip installs in ten; it comes into the venv at the version that pins.txt names.
$(READY): pyproject.toml pins.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "Python 3.11 to 3.13 is needed, $(PYTHON) is another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV): the packages of pins.txt, 6 GB, a minute or a few ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet $$(grep '^uv==' pins.txt)
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python pins.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(READY)

clean:
	rm -rf $(VENV)
