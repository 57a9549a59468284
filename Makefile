# Needs Python 3.10 to 3.13 and make, nothing else. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

OLDEST ?= .venv-oldest
TIER ?= second_tier

# Number of processes that run tests, each with a TensorFlow of its own, which takes 1.5 GB. One of them runs the tests
# that share a Ray, which mostly wait.
JOBS ?= 3
PARALLEL := -n $(JOBS)

# Tests start hundreds of processes, which would all compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-second-tier test-all test-oldest check install clean

demo: install  ## train, evaluate and score on synthetic reviews; minutes
	$(BIN)/lstm-ray demo --output demo

test: check  ## format, lint, types, unit tests, training and scoring once on Ray; some 8 minutes on two cores
	$(BIN)/python -m pytest -m "not second_tier" $(PARALLEL) tests/integration tests/unit

test-second-tier: $(VENV)/.test  ## faults, long runs, S3, jobs, several hosts
	$(BIN)/python -m pytest -m "$(TIER)"

test-all: test test-second-tier test-oldest  ## everything

# With warnings shown but no errors: old packages warn of what newer ones beside them deprecate.
test-oldest: $(OLDEST)/.test  ## unit tests and a training on Ray with the oldest versions that pyproject.toml allows
	$(OLDEST)/bin/python -m pytest -m "not second_tier" -o filterwarnings=default --disable-warnings $(PARALLEL) tests/unit
	$(OLDEST)/bin/python -m pytest -o filterwarnings=default --disable-warnings \
		"tests/integration/test_train_on_ray.py::test_ray_workers_learn_what_one_process_learns[lstm-2]"

$(OLDEST)/.test: pyproject.toml constraints-oldest.txt
	test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --disable-pip-version-check --quiet --constraint constraints-oldest.txt \
		--editable . pytest pytest-timeout pytest-xdist hypothesis scikit-learn
	touch $@

check: $(VENV)/.test  ## format, lint, types
	BIN=$(BIN) scripts/check

install: $(VENV)/.install

$(VENV)/.install: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing lstm-ray and what it needs into $(VENV): about 3 GB, a few minutes"
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.install
	$(INSTALL) --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) $(OLDEST) demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
