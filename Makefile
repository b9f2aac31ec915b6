# `make help` lists the targets. Each works from a bare clone: .venv is made from requirements.lock on the way.

PYTHON  ?= python3
RUNTIME ?= auto
NAME    ?= default
RUN     ?= runs/$(NAME)/latest
ARGS    ?=

VENV := .venv
BIN  := $(VENV)/bin
LAB  := LAB_NAME=$(NAME) $(BIN)/lab
# What came along in a bundle is installed from there, and the network is not asked.
CARRIED  := carried
PIP_FROM := $(if $(wildcard $(CARRIED)/wheels),PIP_NO_INDEX=1 PIP_FIND_LINKS=$(CURDIR)/$(CARRIED)/wheels)
# Parallel tests: they wait more than they compute, so three workers keep two cores busy. Every test keeps to ports and
# names of its own.
WORKERS ?= 3
PAIRS   ?= 1000000
POINTS  ?= 200
INPUTS  ?= 1000000
ROUNDS  ?= 10

.DEFAULT_GOAL := help
.PHONY: help lab-up lab-down engine h2load postgres test audit fuzz fuzz-inputs kill9 scenarios smoke pages refusals-page bench report notebooks lint format lock protos bundle compose-file clean notebooks-html docs figures

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  RUNTIME=auto|process|compose   how units run (auto: compose where a Docker engine answers)"
	@echo "  NAME=default           keeps labs on one machine apart"
	@echo "  RUN=runs/NAME/latest   the run to report"
	@echo "  ADVISORIES=            folder with advisories in OSV's format, for make audit without the network"
	@echo "  PAIRS=1000000          how many to compare in make fuzz"
	@echo "  INPUTS=1000000         how many to try in make fuzz-inputs"
	@echo "  POINTS=200             at which to kill in make kill9"
	@echo "  ROUNDS=10              of each bench in make figures"
	@echo "  ARGS=…                 passed on, e.g. make test ARGS='-k routing'"

lab-up: $(VENV)/ready  ## Bring the lab up; ends with a verified call per topology
	@$(LAB) up --runtime $(RUNTIME) $(ARGS)

lab-down: $(VENV)/ready  ## Take it down; leaves nothing behind
	@$(LAB) down $(ARGS)

engine:  ## Make a bare Debian ready for labs of containers (as root); else say what to install
	@compose/engine.sh

h2load:  ## Install h2load on a Debian (as root), for the benches' second opinion; else say what to install
	@command -v h2load >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null; } || { echo "make h2load: install nghttp2-client, or run this as root on Debian" >&2; exit 1; }
	@command -v h2load >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nghttp2-client >/dev/null; }

# What the package brings into being by itself, a server for all of this machine, no test needs.
postgres:  ## Install PostgreSQL on a Debian (as root), for the tests' own servers; else say what to install
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null; } || { echo "make postgres: install postgresql, or run this as root on Debian" >&2; exit 1; }
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql-common >/dev/null \
	  && sed -i 's/^#* *create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql >/dev/null; }

# What lint finds is printed as it comes, so that pytest's closing line is the last on standard output. A line that names
# MAKE itself would be run by `make -n`, too.
AGAIN = $(MAKE)
test: $(VENV)/ready  ## Run the whole test suite, and lint beside it
	@$(AGAIN) --no-print-directory lint >&2 & lint=$$!; $(BIN)/pytest tests -n $(WORKERS) $(ARGS); status=$$?; \
	  wait $$lint || { echo "make test: lint has found something: see above, or run make lint" >&2; exit 1; }; exit $$status

audit: $(VENV)/ready  ## Ask whether anything that is pinned is known to be vulnerable; needs the network, or ADVISORIES
ifeq ($(ADVISORIES),)
	@$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict --progress-spinner off
else
	@$(BIN)/python -m tests.advisories $(ADVISORIES)
endif

fuzz: $(VENV)/ready  ## Hold the two interpreters of the rules against each other on PAIRS tables and requests
	@$(BIN)/python -m tests.routing.fuzz --pairs $(PAIRS) $(ARGS)

fuzz-inputs: $(VENV)/ready  ## Give all that reads files, messages and headers INPUTS wrong ones; what is found joins the corpus
	@$(BIN)/python -m tests.fuzz.guided --inputs $(INPUTS) $(ARGS)

kill9: $(VENV)/ready  ## Kill the control plane at POINTS steps of a publish, and hold what is left against what was acknowledged
	@$(BIN)/python -m tests.controlplane.kill9 --points $(POINTS) $(ARGS)

# Each of their workers has a lab of its own.
scenarios smoke: WORKERS = 2

scenarios: $(VENV)/ready  ## Run the scenarios, each on every topology that it is about; ARGS='--topology gateway,mesh' on these
	@$(BIN)/pytest scenarios -v -n $(WORKERS) --runtime $(RUNTIME) $(ARGS)

smoke: $(VENV)/ready  ## Run the scenarios that continuous integration runs on every change, on gateway and mesh
	@$(BIN)/pytest scenarios -v -n $(WORKERS) --runtime $(RUNTIME) -m smoke --topology gateway,mesh $(ARGS)

pages: $(VENV)/ready  ## Write every table and page that is derived from code: topologies, faults, scenarios, figures …
	@$(BIN)/python -m docs.site.tables
	@$(BIN)/python -m docs.site.figures --quote
	@$(BIN)/python -m scenarios

refusals-page: $(VENV)/ready  ## Try all that must not work, and write docs/refusals.md: who refused it, and why
	@$(BIN)/python -m tests.negative.page

bench: $(VENV)/ready  ## Run the benches: interleaved A/B, ratios with intervals
	@$(BIN)/lab bench $(ARGS)

report: $(VENV)/ready  ## Write what a run shows as one HTML file
	@$(LAB) report $(RUN) $(ARGS)

# On a lab of their own, lest moving its models disturb another. JupyterLab answers this machine only, which is why root
# may start it; notebooks/.jupyter keeps it from asking the network for news.
notebooks: NAME := notebook
notebooks: $(VENV)/ready  ## Open JupyterLab; the notebooks bring their lab up
	@LAB_NAME=$(NAME) JUPYTER_CONFIG_PATH=notebooks/.jupyter $(BIN)/jupyter lab --ip=127.0.0.1 --allow-root $(ARGS)

notebooks-html: NAME := notebook-html
notebooks-html: $(VENV)/ready  ## Run all notebooks, and write them with what they show to docs/notebooks (ARGS=FILE: one)
	@LAB_NAME=$(NAME) $(BIN)/jupyter nbconvert --log-level=WARN --execute --ExecutePreprocessor.timeout=120 --to html \
	  --TemplateExporter.extra_template_basedirs=notebooks/.html --template published \
	  --output-dir docs/notebooks $(if $(ARGS),$(ARGS),notebooks/*.ipynb)

docs: $(VENV)/ready  ## Build the documentation's pages, which need no network: docs/_build/html/index.html
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env --builder html --doctree-dir docs/_build/doctrees \
	  docs docs/_build/html
	@echo docs/_build/html/index.html

figures: $(VENV)/ready  ## Measure every figure that README and docs quote anew, in ROUNDS rounds; says which have moved
	@$(BIN)/python -m docs.site.figures --rounds $(ROUNDS) $(ARGS)

# Without its cache: which modules are the project's own depends on other files than the one that is looked at.
lint: $(VENV)/ready  ## Check style, types and floors
	@$(BIN)/ruff check --quiet --no-cache .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

format: $(VENV)/ready  ## Put the code into its form
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .
	@$(BIN)/jupyter nbconvert --log-level=WARN --inplace --clear-output --ClearMetadataPreprocessor.enabled=True \
	  --ClearMetadataPreprocessor.preserve_nb_metadata_mask='{"kernelspec", ("language_info", "name")}' \
	  --ClearMetadataPreprocessor.preserve_cell_metadata_mask='{"tags"}' notebooks/*.ipynb

lock: $(VENV)/ready  ## Pin the newest versions that pyproject.toml allows
	@$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
	  --quiet --output-file requirements.lock
	@$(BIN)/uv pip compile compose/requirements.in --constraint requirements.lock --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
	  --upgrade --quiet --output-file compose/requirements.lock

protos: $(VENV)/ready  ## Generate the code of models/proto
	@$(BIN)/python -m models.proto.generate

bundle: $(VENV)/ready  ## One archive that stands the lab up where there is no network
	@compose/bundle.sh $(BIN)/python $(ARGS)

compose-file: $(VENV)/ready  ## Write compose/compose.yaml, the default lab for Docker Compose alone
	@$(BIN)/python -m lab.runtime.compose

clean: lab-down  ## Take the lab down and remove .venv and caches
	@rm -rf $(VENV) .lab .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache docs/_build

$(VENV)/ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	  f"Python {v.major}.{v.minor} found, 3.11 or newer needed: make PYTHON=python3.12 …")'
	@test ! -e $(CARRIED)/wheels.txt || $(PYTHON) -c 'import sys; v = sys.version_info; has = f"python{v[0]}.{v[1]}"; \
	  got = open("$(CARRIED)/wheels.txt").read().split("-")[0]; sys.exit(0 if has == got else \
	  f"the packages that came along are for {got}, found {has}: make PYTHON={got} …")'
	@echo "Making $(VENV) from requirements.lock (once; a minute or so) …"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	@$(PIP_FROM) $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(PIP_FROM) $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
