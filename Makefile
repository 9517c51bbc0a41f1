# make setup   everything into .venv       make demo   the tutorial, end to end
# make test    linters, types, tests       make bench  measurements against other tools
# make lint    all checks but the tests    make test-fast  the tests that start no daemon

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Debian's packages that each needs, with what proves that they are there. All that the goals need is looked for at once,
# before anything is made.
SETUP_PACKAGES := gcc:gcc libc6-dev:/usr/include/stdlib.h libfuse3-dev:/usr/include/fuse3/fuse.h fuse3:fusermount3 \
	pkg-config:pkg-config python3-venv:python:stdlib/ensurepip/__init__.py python3-dev:python:include/Python.h
DEMO_PACKAGES := file:file
TEST_PACKAGES := attr:setfattr rsync:rsync procps:ps
BENCH_PACKAGES := attr:setfattr
# How many processes test at once.
PROCESSES := 2
# Tests without daemons and mounts, for between edits.
FAST_TESTS := tests/pfsd/trees tests/pfsd/chunks tests/pfsd/model tests/pfsd/filesystem tests/ppsd/specs \
	$(addprefix tests/pfsd/names/,test_ancestry.py test_paths.py) tests/pachctl/test_format.py tests/tools/test_layout.py

# Where pipelines show their data; only root can make it.
PIPELINE_DIRECTORIES := /pfs
PACKAGES := $(SETUP_PACKAGES) $(if $(filter demo test,$(MAKECMDGOALS)),$(DEMO_PACKAGES)) \
	$(if $(filter test,$(MAKECMDGOALS)),$(TEST_PACKAGES)) $(if $(filter bench,$(MAKECMDGOALS)),$(BENCH_PACKAGES)) \
	$(if $(filter demo test bench,$(MAKECMDGOALS)),$(PIPELINE_DIRECTORIES))

.PHONY: setup demo test test-fast lint bench clean packages

setup: .venv/stamp-setup

packages:
	@lacking=; PYTHON=$(PYTHON) tools/debian-packages $(PACKAGES) || lacking=yes; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { lacking=yes; \
		echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11" >&2; }; \
	[ -z "$$lacking" ]

.venv/stamp-python: | packages
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt setuptools
	@touch $@

# pyfuse3 comes as source and needs more to be built than this project does: it is left to pip's isolated builds.
.venv/stamp-pyfuse3: .venv/stamp-python constraints.txt
	$(PIP) install -c constraints.txt pyfuse3
	@touch $@

.venv/stamp-setup: .venv/stamp-pyfuse3 setup.py setup.cfg pyproject.toml constraints.txt $(wildcard csrc/*.c csrc/*/*.c csrc/*/*.h)
	$(PIP) install -c constraints.txt --no-build-isolation --editable .
	@touch $@

# Programs that the tests run over a mount, as users do.
.venv/stamp-test: .venv/stamp-setup
	$(PIP) install -c constraints.txt --no-build-isolation --editable '.[test]'
	@touch $@

.venv/stamp-demo: .venv/stamp-setup
	$(PIP) install -c constraints.txt --no-build-isolation --editable '.[demo]'
	@touch $@

# The sample photographs that come inside scikit-image are all that is wanted of it. Beside the other packages it would be
# one that lacks what it needs, and pip would say so whenever it installs something.
.venv/stamp-photographs: .venv/stamp-setup
	$(PIP) install -c constraints.txt --no-deps --upgrade --target .venv/photographs scikit-image
	@touch $@

demo: .venv/stamp-demo .venv/stamp-photographs
	@$(BIN)/python -m tools.demo

lint: .venv/stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m tools.layout

test-fast: .venv/stamp-test
	$(BIN)/python -m pytest $(FAST_TESTS)

test: .venv/stamp-test .venv/stamp-demo .venv/stamp-photographs lint
	PYTHON=$(BIN)/python tests/sanitize.sh
	$(BIN)/python -m pytest -n $(PROCESSES) --no-loadscope-reorder

bench: .venv/stamp-setup
	@$(BIN)/python -m tools.bench

clean:
	rm -rf .venv build demo-output *.egg-info pfsd/_*.so fuse/pfsfuse/_*.so ppsd/worker/pfs-runner
