# make demo: the main job on data and a model it makes itself, offline.   make test: every fast test.   make slow: the others.
# make faults: every fault a recorder meets in the field, with a table of what was lost.   make docs: the documentation site.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= $(shell nproc 2>/dev/null || echo 1)
# One thread each: torch's own would only get in the way of the other tests.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --durations=10

.PHONY: demo test slow faults docs lint clean

demo: $(VENV)/.installed
	$(BIN)/edgeprune demo -o runs/demo

test: $(VENV)/.installed
	$(PYTEST) -n $(JOBS) $(PYTEST_ARGUMENTS)

slow: $(VENV)/.installed
	$(PYTEST) -n $(JOBS) -m "slow and not hardware and not emulation" $(PYTEST_ARGUMENTS)

# The faults a recorder meets in the field, the slow ones too; prints what each tried and lost.
faults: $(VENV)/.installed
	$(PYTEST) -n $(JOBS) -m "fault and not hardware and not emulation" --faults-out faults.json $(PYTEST_ARGUMENTS)

# The site in docs/_build/html, offline; a warning is an error. docs/generate.py writes the generated parts.
docs: $(VENV)/.installed
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m sphinx -q -n -W --keep-going -b html docs docs/_build/html

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# torch comes first and by name, so that one build of it is chosen: the one pip is configured to find. Where that is
# PyPI, a Linux machine gets CUDA and gigabytes; PIP_INDEX_URL=https://download.pytorch.org/whl/cpu for torch avoids it.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) runs dist build docs/_build .pytest_cache .mypy_cache .ruff_cache
