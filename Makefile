# Both `make test` and `make sweep` set up everything they need; run again, they cost nothing.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SHARED_DATA := ../shared/data
SITE := NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs

# One thread a process: oversubscribed cores are 40 times slower (docs/threads.md).
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export NUMBA_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: sweep test test-portable bench test-sb3 test-contrib test-avalanche test-slurm test-gpu slow check format docs docs-serve notebooks pictures lock test-release dist clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version.split()[0] + ": make PYTHON=python3.11")'
	@echo "Setting up .venv (once; a few minutes) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' 2>.venv/install.log \
		|| { cat .venv/install.log >&2; exit 1; }
	@touch $@

sweep: $(READY)
	@$(BIN)/dst sweep run quickstart

test: $(READY)
	@$(BIN)/python -m pytest -n 2

# The tests again under settings that stand for other processors; ARGS goes to pytest.
test-portable: $(READY)
	@$(BIN)/python -m tests.portable $(ARGS)

# Speed against dense layers and others; ARGS="--json FILE --quick --cases layer" for each of the two.
bench: $(READY)
	@$(BIN)/dst bench kernels $(ARGS)
	@$(BIN)/dst bench layers $(ARGS)

# Stable-Baselines3's own tests with sparse policies; ARGS="tests/test_run.py -k SAC" chooses some.
test-sb3: $(READY)
	@$(BIN)/python -m tests.sb3.run stable-baselines3 $(ARGS)

# sb3-contrib's, as above.
test-contrib: $(READY)
	@$(BIN)/python -m tests.sb3.run sb3-contrib $(ARGS)

# Avalanche's own tests, as they are and then with TaskMasks as their models; ARGS as above.
test-avalanche: $(READY)
	@$(BIN)/python -m tests.avalanche.run $(ARGS)

# Sweeps on a Slurm of one node, made of Debian's packages (tests/slurm/cluster.py) and stopped afterwards.
test-slurm: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[slurm]'
	@$(BIN)/python -m pytest -n 0 -m slow tests/sweeps/launchers/test_real_engines.py -k slurm $(ARGS)

# All tests of what runs on a GPU, on the one that is there; without one Triton interprets kernels.
test-gpu: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[gpu]'
	@$(BIN)/python -m pytest -n 0 -m "slow or not slow" tests/sparse_core/kernels/gpu tests/sparse_core/devices \
		tests/sparse_core/export/test_semi_structured.py $(ARGS)

# First steps with the wheel in a fresh environment, outside the repository; ARGS="--oldest" and more.
test-release: $(READY)
	@$(BIN)/python -m tests.release.smoke $(ARGS)

# Wheel and source distribution in dist/, README's links leading to REPOSITORY=https://...
dist: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	@$(BIN)/python -m handbook.release "$(REPOSITORY)"

# Resolve uv.lock anew after a change of dependencies.
lock: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv lock

slow: $(READY)
	@$(BIN)/python -m pytest -m slow

# The site, strictly, in site/: a broken link or reference fails. Pages open from the folder; search needs `make docs-serve`.
docs: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@$(SITE) build

docs-serve: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@$(SITE) serve

# Execute the notebooks, which keep what comes out for the site (minutes); ARGS="sb3 speed" some of them.
notebooks: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs,data]' nbclient ipykernel
	@$(BIN)/python -m handbook.notebooks $(ARGS)

# The site's pictures; ARGS="update mask" draws some. `report` needs Chromium.
pictures: $(READY)
	@$(BIN)/python -m handbook.pictures $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache site
