# The .venv is made on first use; nothing else has to be installed.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
DOCS_INSTALLED := $(VENV)/.docs-installed
export PATH := $(abspath $(VENV)/bin):$(PATH)

# the image that the pipeline's tasks run in; podman or docker builds it
ENGINE ?= $(shell command -v podman || command -v docker)
IMAGE ?= localhost/fxnorm-automix:0.1.0
COMMIT = $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null)

# the listening test's page and the musicians'; their bundles are committed, so that nobody needs npm who does not change them
PAGES := fxnorm/listening_test/page fxnorm/page/client

.PHONY: help demo default-mixer quick test test-all test-containers lint docs bench image install page check-page check-folder check-repository

help:
	@echo "make demo    demo data, the whole pipeline, and where to find what it made"
	@echo "make quick   unit tests alone: no servers, browsers, pipelines or whole songs (two to three minutes)"
	@echo "make test    the test suite, but for the slow tests"
	@echo "make test-all   with the slow tests too: a song of 20 minutes, empty environments, the tutorial, experiments"
	@echo "make lint    ruff, mypy, the order of imports, declared dependencies"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make bench   speed and memory"
	@echo "make image   the container image of the pipeline's tasks (podman or docker; TORCH_INDEX=URL for a CPU build)"
	@echo "make test-containers   the whole pipeline in containers of that image"
	@echo "make default-mixer   the Mixer that comes with the package, anew, in artifacts/default"
	@echo "make page    bundle the listening test's page and that of fxnorm page anew (npm); make check-page: are they what their sources give?"

install: $(INSTALLED)

# an environment names its folder in each of its programs: in a project that was moved or copied they are those of before
ifeq ($(shell test ! -e $(INSTALLED) || grep -qsF "$$(realpath $(VENV))/bin/" $(VENV)/bin/pip || echo moved),moved)
$(warning $(VENV) was made in another folder; 'rm -r $(VENV)' has it made anew)
endif

# Said before the minutes of an installation. Links that lead out of fxnorm/ make serving, components and pipeline part of
# the package; tools that do not keep links leave small text files in their place.
check-folder:
	@for name in serving components pipeline; do test -d fxnorm/$$name || { \
		echo "fxnorm/$$name: expected a link to ../$$name, found none; unpack the archive with tar or unzip, which keep" \
			"links, or clone the repository with 'git clone -c core.symlinks=true'" >&2; exit 1; }; done
	@test -e $(INSTALLED) || { command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON): not found; expected Python 3.11 or newer, as in 'make demo PYTHON=python3.11'" >&2; exit 1; }; \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$$($(PYTHON) --version): expected Python 3.11 or newer, as in 'make demo PYTHON=python3.11'" >&2; exit 1; }; \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON): cannot make a virtual environment; Debian has what is missing in python3-venv" >&2; exit 1; }; }

# a downloaded archive is no git repository: DVC does without one where it is told to, in a file that git ignores
IS_REPOSITORY := git rev-parse --git-dir >/dev/null 2>&1
check-repository: check-folder
	@$(IS_REPOSITORY) || echo "no git repository here: DVC will do without one (core.no_scm in .dvc/config.local)"

$(INSTALLED): pyproject.toml constraints.txt | check-folder
	$(PYTHON) -m venv $(VENV)
	pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	python -m fxnorm.components.warm_up
	touch $@

demo: check-repository $(INSTALLED)
	@$(IS_REPOSITORY) || dvc config --local core.no_scm true
	fxnorm demo-data data
	dvc add --quiet data
	dvc repro
	@echo
	@echo "Mixes to hear   reports/mixes/test_dry and reports/mixes/test_wet"
	@echo "The report      reports/report.html"
	@echo "Experiments     .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db"
	@echo "The endpoint    .venv/bin/fxnorm serve"

# the Mixer that comes with the package, anew: songs, normalization, training, comparison; goes on where it was interrupted
DEFAULT := artifacts/default
DEFAULT_PARAMS := --params configs/default_mixer.yaml
SHIPPED := fxnorm/default_mixer

default-mixer: $(INSTALLED)
	fxnorm demo-data $(DEFAULT)/records --style records --songs train=96 --songs val=0 --songs test=0 --songs dry=0 --seconds 20 28
	fxnorm demo-data $(DEFAULT)/check --style records-check --songs train=0 --songs val=8 --songs test=10 --songs dry=0 --seconds 20 24
	mkdir -p $(DEFAULT)/songs
	ln -sfn ../records/wet/train $(DEFAULT)/songs/train
	ln -sfn ../check/wet/val $(DEFAULT)/songs/val
	ln -sfn ../check/wet/test $(DEFAULT)/songs/test
	fxnorm normalize $(DEFAULT)/songs $(SHIPPED)/statistics.npz $(DEFAULT)/normalized $(DEFAULT_PARAMS) \
		--impulse-responses $(DEFAULT)/records/impulse_responses/pre_reverb \
		--pre-impulse-responses $(DEFAULT)/records/impulse_responses/pre_reverb
	fxnorm train $(DEFAULT)/normalized $(DEFAULT)/mixer $(DEFAULT_PARAMS)
	fxnorm evaluate $(DEFAULT)/mixer $(DEFAULT)/songs $(DEFAULT)/report $(DEFAULT_PARAMS)

# one process more than there are cores, because tests wait for servers; four at most, which take some gigabytes
PROCESSES := $(shell cores=$$(env -u OMP_NUM_THREADS nproc); echo $$((cores < 4 ? cores + 1 : 4)))
PYTEST = pytest --numprocesses $(PROCESSES) --no-loadscope-reorder

# these wait for nothing, and each process takes seconds to import what they use
quick: PROCESSES := $(shell cores=$$(env -u OMP_NUM_THREADS nproc); echo $$((cores < 4 ? cores : 4)))
quick: $(INSTALLED)
	$(PYTEST) -m "not slow and not system" --durations 10

test: $(INSTALLED)
	$(PYTEST) -m "not slow" --durations 25

test-all: $(INSTALLED)
	$(PYTEST) --durations 40

test-containers: $(INSTALLED) image
	pytest tests/containers.py

image:
	$(ENGINE) build --file components/Containerfile --tag $(IMAGE) --build-arg COMMIT=$(COMMIT) --build-arg TORCH_INDEX=$(TORCH_INDEX) .

lint: $(INSTALLED)
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	deptry .

$(DOCS_INSTALLED): $(INSTALLED)
	pip install --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	touch $@

docs: $(DOCS_INSTALLED)
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

bench: $(INSTALLED)
	for file in benchmarks/*.py; do python "$$file"; done

page:
	set -e; for page in $(PAGES); do (cd $$page && npm ci --ignore-scripts && npm run check && npm run build); done

check-page:
	set -e; for page in $(PAGES); do (cd $$page && npm ci --ignore-scripts && npm run check && npm run build -- node_modules/.built \
		&& diff -r built node_modules/.built); done
