# The .venv is made on first use; nothing else has to be installed.
PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(abspath $(VENV)/bin):$(PATH)

# the image that the pipeline's tasks run in; podman or docker builds it
ENGINE ?= $(shell command -v podman || command -v docker)
IMAGE ?= localhost/fxnorm-automix:0.1.0
COMMIT = $(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null)

# the page of the listening test; its bundle is committed, so that nobody needs npm who does not change it
PAGE := fxnorm/listening_test/page

.PHONY: help demo quick test test-all test-containers lint bench image install page check-page

help:
	@echo "make demo    demo data, the whole pipeline, and where to find what it made"
	@echo "make quick   unit tests alone: no servers, browsers or pipelines (a minute)"
	@echo "make test    the test suite (ten minutes on two cores)"
	@echo "make test-all   with the slow tests too: a song of 20 minutes, a model in an empty environment"
	@echo "make lint    ruff, mypy, the order of imports, declared dependencies"
	@echo "make bench   speed and memory"
	@echo "make image   the container image of the pipeline's tasks (podman or docker; TORCH_INDEX=URL for a CPU build)"
	@echo "make test-containers   the whole pipeline in containers of that image"
	@echo "make page    bundle the listening test's page anew (npm); make check-page: is it what its sources give?"

install: $(INSTALLED)

# an environment names its folder in each of its programs: in a project that was moved or copied they are those of before
ifeq ($(shell test ! -e $(INSTALLED) || grep -qsF "$$(realpath $(VENV))/bin/" $(VENV)/bin/pip || echo moved),moved)
$(warning $(VENV) was made in another folder; 'rm -r $(VENV)' has it made anew)
endif

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	pip install --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	fxnorm demo-data data
	dvc add --quiet data
	dvc repro
	@echo
	@echo "Mixes to hear   reports/mixes/test_dry and reports/mixes/test_wet"
	@echo "The report      reports/report.html"
	@echo "Experiments     .venv/bin/mlflow ui --backend-store-uri sqlite:///mlflow.db"
	@echo 'The endpoint    PATH="$$PWD/.venv/bin:$$PATH" MLFLOW_TRACKING_URI=sqlite:///mlflow.db mlflow models serve --env-manager local --timeout 600 -m models:/fxnorm-automix@champion'

PYTEST = pytest --numprocesses auto --maxprocesses 4 --no-loadscope-reorder

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

bench: $(INSTALLED)
	for file in benchmarks/*.py; do python "$$file"; done

page:
	cd $(PAGE) && npm ci --ignore-scripts && npm run check && npm run build

check-page:
	cd $(PAGE) && npm ci --ignore-scripts && npm run check && node build.mjs node_modules/.built && diff -r built node_modules/.built
