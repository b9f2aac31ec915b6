# `make help` lists the targets. Each works from a bare clone: it creates .venv from requirements.lock if needed, and
# installs more packages when a target first needs them.

PYTHON  ?= python3
RUNTIME ?= auto
NAME    ?= $(or $(LAB_NAME),default)
RUN     ?= runs/$(NAME)/latest
ARGS    ?=

VENV := .venv
BIN  := $(VENV)/bin
LAB  := LAB_NAME=$(NAME) $(BIN)/lab
# In an unpacked bundle, packages are installed from it, without the network.
BUNDLED  := carried
PIP_FROM := $(if $(wildcard $(BUNDLED)/wheels),PIP_NO_INDEX=1 PIP_FIND_LINKS=$(CURDIR)/$(BUNDLED)/wheels)
# Tests wait more than they compute, so three workers keep two cores busy. Each test uses its own ports and names.
WORKERS ?= 3
PAIRS   ?= 1000000
POINTS  ?= 200
N       ?= 1000000
ROUNDS  ?=
MINUTES ?= 30
SEED    ?= 1
COVER   ?= not slow
REV     ?=

# Images of Python often set it. Without bytecode each process compiles all that it imports, at every start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help lab-up lab-down kind-up kind-down k3d-up k3d-down engine kustomize prometheus podman h2load proxies postgres grpc-js render-schemas chromium curl jq test test-unit test-all coverage audit fuzz fuzz-inputs mutants stresses kill9 scenarios smoke pages long-scenarios-page refusals-page floods clock soak console-frames console-soak bench bench-aa bench-pickers bench-since bench-since-planted console report notebooks lint format hooks lock protos bundle compose-file clean notebooks-html docs figures

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1m%-22s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  RUNTIME=auto           runtime of the units: auto, process, compose or kubernetes (auto: compose with a Docker engine)"
	@echo "  NAME=default           name of the lab; labs of different names run side by side"
	@echo "  RUN=runs/NAME/latest   run that make report shows"
	@echo "  REV=COMMIT             commit that make bench-since compares with"
	@echo "  ADVISORIES=FOLDER      advisories in OSV format, for make audit without the network"
	@echo "  PAIRS=1000000          number of tables and requests in make fuzz"
	@echo "  N=1000000              number of inputs in make fuzz-inputs"
	@echo "  MINUTES=30 SEED=1      length of make soak and console-soak, and seed of attacks and faults"
	@echo "  POINTS=200             number of kills in make kill9"
	@echo "  ROUNDS=3               rounds of each bench in make figures, instead of its own"
	@echo "  ARGS=…                 more arguments for the command, e.g. make test ARGS='-k routing'"

lab-up: $(VENV)/ready  ## Start the lab; ready after one verified call per topology
	@$(LAB) up --runtime $(RUNTIME) $(ARGS)

lab-down: $(VENV)/ready  ## Stop the lab; leaves nothing behind
	@$(LAB) down $(ARGS)

kind-up:  ## Make a Kubernetes cluster of two nodes by kind, with the lab's image, for RUNTIME=kubernetes
	@lab/plugins/kubernetes/local_cluster.sh kind up

kind-down:  ## Remove that cluster
	@lab/plugins/kubernetes/local_cluster.sh kind down

k3d-up:  ## Make such a cluster by k3d
	@lab/plugins/kubernetes/local_cluster.sh k3d up

k3d-down:  ## Remove that cluster
	@lab/plugins/kubernetes/local_cluster.sh k3d down

ROUTER_LOCKS := lab/plugins/foreign_pickers/smg.txt lab/plugins/foreign_pickers/vllm-router.txt
SETUP := engine h2load postgres proxies kustomize prometheus podman grpc-js render-schemas chromium curl jq
engine:          ## Install Docker, for labs of containers, on a Debian as root; elsewhere say what to install, as all of these
h2load:          ## Install h2load, a second opinion for benches
postgres:        ## Install PostgreSQL, for tests
proxies: $(VENV)/with-proxies  ## Install NGINX, HAProxy, Traefik and Caddy
kustomize:       ## Install kustomize, for tests
prometheus:      ## Install Prometheus, for tests
podman:          ## Install podman, which runs pods in tests
grpc-js:         ## Install Node.js and grpc-js, for tests
render-schemas:  ## Install Node.js and schemas of Gateway API and Istio, for tests
chromium:        ## Install Chromium, for tests of pages
curl:            ## Install curl, for tests of pages
jq:              ## Install jq, for tests of pages
$(SETUP):
	@.ci/setup $@

# They only compute: a third worker would find nothing free.
test-unit: WORKERS = 2
test-unit: $(VENV)/with-dev  ## Run the tests that start no server and no process
	@$(BIN)/pytest tests -n $(WORKERS) -m unit $(ARGS)

# Lint writes to standard error, so that pytest's closing line is the last on standard output. `make -n` runs every line
# that contains MAKE; AGAIN avoids that.
AGAIN = $(MAKE)
test: TIERS = -m "not slow"
test-all: $(VENV)/with-foreign-pickers
test:  ## Run all tests but those of browsers, containers, notebooks, benches, …, with lint in parallel
test-all:  ## Run the whole test suite, with lint in parallel
test test-all: $(VENV)/with-dev
	@$(AGAIN) --no-print-directory lint >&2 & lint=$$!; $(BIN)/pytest tests -n $(WORKERS) $(TIERS) $(ARGS); status=$$?; \
	  wait $$lint || { echo "make $@: lint failed: see above, or run make lint" >&2; exit 1; }; exit $$status

coverage: $(VENV)/with-dev  ## Run the tests of make test and show which lines they cover; COVER=unit, server, lab or all
	@rm -f .coverage*; $(BIN)/coverage run -m pytest tests -n $(WORKERS) $(if $(filter all,$(COVER)),,-m "$(COVER)") $(ARGS); \
	  status=$$?; $(BIN)/coverage combine --quiet; $(BIN)/coverage report --skip-covered --sort=cover; exit $$status

audit: $(VENV)/with-dev  ## Check the pinned packages for known vulnerabilities; needs the network, or ADVISORIES
ifeq ($(ADVISORIES),)
	@$(BIN)/pip-audit --requirement requirements.lock --require-hashes --disable-pip --strict --progress-spinner off
else
	@$(BIN)/python -m tests.advisories $(ADVISORIES)
endif

fuzz: $(VENV)/with-dev  ## Compare the two interpreters of the rules on PAIRS tables and requests
	@$(BIN)/python -m tests.routing.fuzz --pairs $(PAIRS) $(ARGS)

mutants: $(VENV)/with-dev $(VENV)/with-foreign-pickers  ## Plant every bug of tests/mutants, or those with ONLY in their name, and see who catches it
	@$(BIN)/python -m tests.mutants $(ONLY) $(ARGS)

stresses: N = 10
stresses: $(VENV)/with-proxies  ## Put labs without a bug under each of twelve stresses, N times, or those with ONLY in their name
	@$(BIN)/python -m tests.stresses $(ONLY) --times $(N) $(ARGS)

fuzz-inputs: $(VENV)/with-dev  ## Feed N malformed files, arguments and messages to every reader and server; failures join the corpus
	@$(BIN)/python -m tests.fuzz.guided --inputs $(N) $(ARGS)

kill9: $(VENV)/with-dev  ## Kill the control plane at POINTS steps of a publish; check that acknowledged revisions survive
	@$(BIN)/python -m tests.controlplane.kill9 --points $(POINTS) $(ARGS)

# Each worker has its own lab, and one under load takes most of two cores.
scenarios smoke: WORKERS = $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) + 1) / 2 )))

scenarios: $(VENV)/with-dev  ## Run the scenarios on their topologies; ARGS='--topology gateway,mesh' on these only
	@$(BIN)/pytest scenarios -v -n $(WORKERS) --runtime $(RUNTIME) $(ARGS)

smoke: $(VENV)/with-dev  ## Run the scenarios for continuous integration, on gateway and mesh
	@$(BIN)/pytest scenarios -v -n $(WORKERS) --runtime $(RUNTIME) -m smoke --topology gateway,mesh $(ARGS)

pages: $(VENV)/with-dev  ## Regenerate every table and page that is derived from code
	@$(BIN)/python -m docs.site.tables
	@$(BIN)/python -m docs.site.figures --quote
	@$(BIN)/python -m scenarios

long-scenarios-page: $(VENV)/with-dev  ## Write docs/records/long-scenarios.md from the results of make scenarios ARGS=--long
	@$(BIN)/python -m scenarios --long

refusals-page: $(VENV)/with-dev  ## Try every attack, with its guard and without, and write docs/records/refusals.md
	@$(BIN)/python -m tests.negative.page $(ARGS)

floods: $(VENV)/with-dev  ## Try every flood of HTTP/2, gRPC and REST against each role, and write docs/records/floods.md
	@$(BIN)/python -m tests.negative.floods $(ARGS)

clock: $(VENV)/with-dev  ## Set the clock of a lab back by an hour and forth again, under load; needs gcc
	@$(BIN)/python -m tests.clock $(ARGS)

soak: $(VENV)/with-dev  ## Load, attackers, faults and starvation for MINUTES, by SEED: answers, memory, files, audit log
	@$(BIN)/python -m tests.negative.soak --minutes $(MINUTES) --seed $(SEED) $(ARGS)

console-frames: $(VENV)/with-dev  ## Frames a second of the console beside 30 callers and 600 clusters, and its share of a core
	@$(BIN)/python -m tests.plugins.console.frames $(ARGS)

# Undecided on a busy machine, 2, is no failure here; memory that grows is one on any machine.
console-soak: $(VENV)/with-dev  ## The console open for MINUTES beside 30 callers: memory of tab and server, frames
	@$(BIN)/python -m tests.plugins.console.frames --seconds $$(( 60 * $(MINUTES) )) --rate 100 --name console-soak $(ARGS) || [ $$? = 2 ]

bench: $(VENV)/ready  ## Run the benches: interleaved A/B, ratios with confidence intervals
	@$(BIN)/lab bench $(ARGS)

bench-aa: $(VENV)/ready  ## Measure one path against itself in 20 runs: the tool must find no difference
	@$(BIN)/lab bench aa $(ARGS)

# Undecided, 2, is no failure here: the map says so itself.
bench-pickers: $(VENV)/ready  ## Measure the whole crossover map of pickers: 3 shares, 3 loads, 2 ages, in 5 rounds
	@$(BIN)/lab bench pickers --shares 0.1,0.5,0.9 --loads 50,90,130 --ages 50,1000 --seconds 4 --rounds 5 $(ARGS) || [ $$? = 2 ]

bench-since: $(VENV)/ready  ## Compare this checkout's speed and memory with REV; the accepted commit by default
	@$(BIN)/lab bench since $(REV) $(ARGS)

bench-since-planted: $(VENV)/with-dev  ## Plant slowdowns in a copy of this checkout, which lab bench since must find
	@$(BIN)/python -m tests.plugins.bench.planted_slowdowns $(ARGS)

console: $(VENV)/ready  ## Start the lab, and show it live in the browser, where a click breaks a unit; Ctrl-C ends the page
	@$(LAB) up --runtime $(RUNTIME)
	@$(LAB) console --control $(ARGS)

report: $(VENV)/ready  ## Write the report of a run as one HTML file
	@$(LAB) report $(RUN) $(ARGS)

# Notebooks move models, so they use their own lab. JupyterLab listens on 127.0.0.1 only, so root may start it;
# notebooks/.jupyter turns off its requests for news.
notebooks: NAME := notebook
notebooks: $(VENV)/with-notebooks  ## Open JupyterLab; the notebooks start their lab
	@LAB_NAME=$(NAME) JUPYTER_CONFIG_PATH=notebooks/.jupyter $(BIN)/jupyter lab --ip=127.0.0.1 --allow-root $(ARGS)

notebooks-html: NAME := notebook-html
notebooks-html: $(VENV)/with-notebooks  ## Run all notebooks and write them with output to docs/notebooks (ARGS=FILE: one)
	@LAB_NAME=$(NAME) LAB_GUESSES=skip $(BIN)/jupyter nbconvert --log-level=WARN --execute --ExecutePreprocessor.timeout=120 --to html \
	  --TemplateExporter.extra_template_basedirs=notebooks/.html --template published \
	  --output-dir docs/notebooks $(if $(ARGS),$(ARGS),notebooks/*.ipynb)

docs: $(VENV)/with-docs  ## Build the documentation for offline reading: docs/_build/html/index.html
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env --builder html --doctree-dir docs/_build/doctrees \
	  docs docs/_build/html
	@echo docs/_build/html/index.html

figures: $(VENV)/with-dev $(VENV)/with-foreign-pickers  ## Measure every figure that README and docs quote, and fail if a claim does not hold; ROUNDS=3 is quicker
	@$(BIN)/python -m docs.site.figures $(if $(ROUNDS),--rounds $(ROUNDS)) $(ARGS)

# No cache: whether an import is first-party depends on other files than the one that is checked.
lint: $(VENV)/with-dev  ## Check style, types and the floors between packages
	@$(BIN)/ruff check --quiet --no-cache .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

hooks: $(VENV)/with-dev  ## Make git run the checks of make lint at each commit and push
	@$(BIN)/pre-commit install

format: $(VENV)/with-dev  ## Format the code, and remove the notebooks' output
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format --quiet .
	@$(BIN)/jupyter nbconvert --log-level=WARN --inplace --clear-output --ClearMetadataPreprocessor.enabled=True \
	  --ClearMetadataPreprocessor.preserve_nb_metadata_mask='{"kernelspec", ("language_info", "name")}' \
	  --ClearMetadataPreprocessor.preserve_cell_metadata_mask='{"tags"}' notebooks/*.ipynb

lock: $(VENV)/with-dev  ## Pin the newest versions that pyproject.toml allows
	@$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --upgrade --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" \
	  --quiet --output-file requirements.lock

protos: $(VENV)/with-dev  ## Generate the Python code of models/proto
	@$(BIN)/python -m models.proto.generate

bundle: $(VENV)/ready  ## Write one archive that starts the lab without a network
	@compose/bundle.sh $(BIN)/python $(ARGS)

compose-file: $(VENV)/ready  ## Write compose/compose.yaml, the default lab for plain Docker Compose
	@$(BIN)/python -m lab.runtime.compose

clean: lab-down  ## Stop the lab; remove .venv and caches
	@rm -rf $(VENV) .lab .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache docs/_build

$(VENV)/ready: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else \
	  f"Python {v.major}.{v.minor} found, 3.11 or newer needed: make PYTHON=python3.12 …")'
	@test ! -e $(BUNDLED)/wheels.txt || $(PYTHON) -c 'import sys; v = sys.version_info; has = f"python{v[0]}.{v[1]}"; \
	  got = open("$(BUNDLED)/wheels.txt").read().split("-")[0]; sys.exit(0 if has == got else \
	  f"the packages of this bundle are for {got}, found {has}: make PYTHON={got} …")'
	@echo "Creating $(VENV) from requirements.lock (once; about 20 s) …"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	@$(PIP_FROM) .ci/install.sh $(BIN)/python
	@touch $@

# Routers in environments of their own, as they need other versions of the lab's packages.
$(VENV)/with-foreign-pickers: $(VENV)/ready $(ROUTER_LOCKS)
	@for lock in $(ROUTER_LOCKS); do router=$(VENV)/routers/$$(basename $$lock .txt) && rm -rf $$router && \
	  $(BIN)/python -m venv $$router && $(PIP_FROM) $$router/bin/python -m pip install --quiet \
	  --disable-pip-version-check --require-hashes --requirement $$lock || exit 1; done
	@touch $@

# An extra of pyproject.toml that only some targets need.
$(VENV)/with-%: $(VENV)/ready
	@$(PIP_FROM) .ci/install.sh $(BIN)/python $*
	@touch $@
