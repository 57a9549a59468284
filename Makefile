# Needs Python 3.10 to 3.13 and make, nothing else. PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

OLDEST ?= .venv-oldest
TIER ?= second_tier

# Unit tests run in several processes, each with a TensorFlow of its own, which takes 1.5 GB.
# A file stays in one process, which builds its models once.
UNIT := -n auto --maxprocesses 4 --dist loadfile tests/unit
WITHOUT_RAY := tests/integration/test_score_faults.py tests/integration/test_score_wild_inputs.py

.PHONY: demo test test-second-tier test-all test-oldest check install clean

demo: install  ## train, evaluate and score on synthetic reviews; minutes
	$(BIN)/lstm-ray demo --output demo

test: check  ## format, lint, types, unit tests, training and scoring once on Ray; some 8 minutes on two cores
	$(BIN)/python -m pytest -m "not second_tier" $(UNIT) $(WITHOUT_RAY)
	$(BIN)/python -m pytest -m "not second_tier" tests/integration $(WITHOUT_RAY:%=--ignore=%)

test-second-tier: $(VENV)/.test  ## faults, long runs, S3, jobs, several hosts
	$(BIN)/python -m pytest -m "$(TIER)"

test-all: test test-second-tier test-oldest  ## everything

# With warnings shown but no errors: old packages warn of what newer ones beside them deprecate.
test-oldest: $(OLDEST)/.test  ## unit tests and a training on Ray with the oldest versions that pyproject.toml allows
	$(OLDEST)/bin/python -m pytest -m "not second_tier" -o filterwarnings=default --disable-warnings $(UNIT)
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
