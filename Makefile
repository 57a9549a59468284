# Needs Python 3.10 to 3.13 and make, nothing else. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

OLDEST ?= .venv-oldest

.PHONY: demo test test-all test-oldest check install clean

demo: install  ## train, evaluate and score on synthetic reviews; minutes
	$(BIN)/lstm-ray demo --output demo

test: $(VENV)/.test  ## format, lint, types and all tests but the long ones; under 20 minutes on two cores
	BIN=$(BIN) scripts/check
	$(BIN)/python -m pytest -m "not long"

test-all: $(VENV)/.test  ## the long tests too
	BIN=$(BIN) scripts/check
	$(BIN)/python -m pytest

# With warnings shown but no errors: old packages warn of what newer ones beside them deprecate.
test-oldest: $(OLDEST)/.test  ## unit tests and a training on Ray with the oldest versions that pyproject.toml allows
	$(OLDEST)/bin/python -m pytest -m "not long" -o filterwarnings=default --disable-warnings tests/unit \
		"tests/integration/test_train_on_ray.py::test_ray_workers_learn_what_one_process_learns[lstm-1]"

$(OLDEST)/.test: pyproject.toml constraints-oldest.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints-oldest.txt \
		--editable . pytest pytest-timeout hypothesis scikit-learn
	touch $@

check: $(VENV)/.test  ## format, lint, types
	BIN=$(BIN) scripts/check

install: $(VENV)/.install

$(VENV)/.install: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing lstm-ray and what it needs into $(VENV): about 2 GB, a few minutes"
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.install
	$(INSTALL) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
