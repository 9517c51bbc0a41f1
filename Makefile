# make setup   everything into .venv       make demo   the tutorial, end to end
# make test    linters, types, tests       make bench  measurements against other tools

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: setup demo test bench clean

setup: .venv/stamp-setup

.venv/stamp-python: tools/debian-packages
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@tools/debian-packages gcc:gcc libfuse3-dev:/usr/include/fuse3/fuse.h fuse3:fusermount3 pkg-config:pkg-config
	$(PYTHON) -m venv .venv
	$(PIP) install -c constraints.txt setuptools
	@touch $@

# pyfuse3 comes as source and needs more to be built than this project does: it is left to pip's isolated builds.
.venv/stamp-pyfuse3: .venv/stamp-python constraints.txt
	$(PIP) install -c constraints.txt pyfuse3
	@touch $@

.venv/stamp-setup: .venv/stamp-pyfuse3 setup.py setup.cfg pyproject.toml constraints.txt $(wildcard csrc/*.c)
	$(PIP) install -c constraints.txt --no-build-isolation --editable .
	@touch $@

# Programs that the tests run over a mount, as users do.
.venv/stamp-test: .venv/stamp-setup
	@tools/debian-packages attr:setfattr rsync:rsync
	$(PIP) install -c constraints.txt --no-build-isolation --editable '.[test]'
	@touch $@

# The sample photographs that come inside scikit-image are all that is wanted of it.
.venv/stamp-demo: .venv/stamp-setup
	@tools/debian-packages file:file
	$(PIP) install -c constraints.txt --no-build-isolation --editable '.[demo]'
	$(PIP) install -c constraints.txt --no-deps scikit-image
	@touch $@

demo: .venv/stamp-demo
	@$(BIN)/python -m tools.demo

test: .venv/stamp-test .venv/stamp-demo
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHON=$(BIN)/python tests/sanitize.sh
	$(BIN)/python -m pytest

bench: .venv/stamp-setup
	@tools/debian-packages attr:setfattr
	@$(BIN)/python -m tools.bench

clean:
	rm -rf .venv build demo-output *.egg-info pfsd/_*.so ppsd/pfs-runner
