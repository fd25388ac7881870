# `make` or `make help` lists the targets.

PYTHON ?= python3.11
HOST ?= 127.0.0.1
PORT ?= 8080
PROFILES ?= cpu

VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
LOAD := $(VENV)/.load
TRAIN_VENV := .venv-train
TRAIN := $(TRAIN_VENV)/.train
BENCH := $(TRAIN_VENV)/.bench
COMPARE_VENV := .venv-compare
COMPARE := $(COMPARE_VENV)/.compare
INFINITY_VENV := .venv-infinity
INFINITY := $(INFINITY_VENV)/.infinity
ANALYZER_VENV := .venv-analyzer
ANALYZER := $(ANALYZER_VENV)/.analyzer
TORCH ?= torch==2.13.0
# Without a GPU the CPU build will do, 0.2 GB instead of several.
TORCH_CPU := https://download.pytorch.org/whl/cpu
GPU := $(shell command -v nvidia-smi)
PIP_FLAGS := --quiet --disable-pip-version-check --no-input
PINS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: $(DEV) ## make .venv with all that serving and testing need (PYTHON=python3.11)

.PHONY: serve
serve: $(RUNTIME) ## serve the search bar (HOST=127.0.0.1 PORT=8080)
	@exec $(BIN)/searchbar serve --host "$(HOST)" --port "$(PORT)"

# Training keeps one core busy for minutes: types are checked and most tests run beside it. What is held to a clock or drives a
# browser runs after both, alone. Output comes job by job.
CLOCKED := tests/api tests/browser tests/integration

.PHONY: test
test: test-tools ## lint, check types, run every test, training included (PYTEST_ARGS=tests/unit: these alone)
	$(BIN)/ruff check .
ifdef PYTEST_ARGS
	$(BIN)/mypy app
	$(BIN)/pytest $(PYTEST_ARGS)
else
	@$(MAKE) --jobs 2 --keep-going --output-sync test-training test-types test-others; beside=$$?; \
	    $(MAKE) test-clocked && exit $$beside
endif

.PHONY: test-training test-types test-others test-clocked
test-training:
	$(BIN)/pytest tests/training
test-types:
	$(BIN)/mypy app
test-others:
	$(BIN)/pytest $(addprefix --ignore ,tests/training $(CLOCKED))
test-clocked:
	$(BIN)/pytest $(CLOCKED)

.PHONY: test-tools
test-tools: # the two environments beside each other: each waits for downloads and disks most of the time
	@$(MAKE) $(TRAIN) & training=$$!; $(MAKE) setup browser deploy-tools; tools=$$?; wait $$training && exit $$tools

.PHONY: lint
lint: setup ## ruff and mypy alone
	$(BIN)/ruff check .
	$(BIN)/mypy app

.PHONY: evaluate
evaluate: setup ## measure spelling and retrieval quality and print the tables (DATA=folder of real misspellings)
	$(BIN)/searchbar evaluate $(if $(DATA),--data "$(DATA)")

.PHONY: load
load: $(LOAD) ## load a running Searchbar with Locust and open its web page (HOST, PORT)
	$(BIN)/locust -f loadtest/locustfile.py --host "http://$(HOST):$(PORT)"

.PHONY: soak
soak: setup ## load a server of its own for half an hour and fail when its memory, descriptors or threads grow (MINUTES=30)
	$(BIN)/searchbar soak $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: train
train: $(TRAIN) ## make .venv-train with PyTorch and list the training commands
	@$(TRAIN_VENV)/bin/searchbar train --help

.PHONY: train-report
train-report: $(TRAIN) ## measure how fast the speller trains, FP32 and AMP, batch 32 to 256 (CATALOGUE=file)
	$(TRAIN_VENV)/bin/searchbar train report $(if $(CATALOGUE),--catalogue "$(CATALOGUE)")

.PHONY: engines
engines: $(TRAIN) ## export the graphs that TensorRT plans are built from, and check them (triton/engines)
	$(TRAIN_VENV)/bin/searchbar engines export

.PHONY: bench-decoding
bench-decoding: $(BENCH) ## aggressive against greedy decoding, transformers and CTranslate2 (QUERIES=10000)
	$(TRAIN_VENV)/bin/searchbar bench decoding --speed --out training/RESULTS.md $(if $(QUERIES),--queries $(QUERIES))

.PHONY: analyzer
analyzer: $(ANALYZER) ## make .venv-analyzer with NVIDIA's Model Analyzer and perf_analyzer (libb64 by apt-get)

.PHONY: tune
tune: $(DEV) $(ANALYZER) ## find instance counts, batch sizes and queue delays for Triton; twelve minutes, on idle cores
	@$(BIN)/searchbar tune

.PHONY: compare
compare: $(DEV) $(ANALYZER) $(COMPARE) $(INFINITY) ## the embedder served by others and by Searchbar, side by side; half an hour, on idle cores
	@$(BIN)/searchbar compare

.PHONY: browser
browser: ## install Chromium where that is possible; without it the browser tests are skipped
	@if { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null \
	    && command -v chromedriver >/dev/null; then :; \
	elif [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	    echo "No Chromium and ChromeDriver, and no root with apt-get to install them: the browser tests will be skipped."; \
	else \
	    echo "Installing Chromium and ChromeDriver (once)"; \
	    install="env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver"; \
	    $$install >/dev/null 2>&1 || { apt-get update -qq && $$install >/dev/null; } \
	        || echo "Chromium could not be installed: the browser tests will be skipped."; \
	fi

# Taken out of Debian's package rather than installed with it: that would start a Prometheus server.
.PHONY: deploy-tools
deploy-tools: | $(BIN)/python ## get Prometheus and promtool where apt-get is; without them the tests of rules and dashboard are skipped
	@if { command -v promtool && command -v prometheus; } >/dev/null || [ -x $(BIN)/promtool -a -x $(BIN)/prometheus ]; then :; \
	elif ! command -v apt-get >/dev/null; then \
	    echo "No Prometheus, and no apt-get to fetch it with: the tests of rules and dashboard will be skipped."; \
	else \
	    echo "Fetching Prometheus (once)"; \
	    into=$$(mktemp -d) && trap 'rm -rf "$$into"' EXIT && chmod 755 "$$into" && here=$$PWD && cd "$$into" \
	    && { apt-get download -qq prometheus >/dev/null 2>&1 || { apt-get update -qq && apt-get download -qq prometheus; } >/dev/null 2>&1; } \
	    && dpkg-deb -x prometheus_*.deb . && install -m 755 usr/bin/promtool usr/bin/prometheus "$$here/$(BIN)/" \
	        || echo "Prometheus could not be fetched: the tests of rules and dashboard will be skipped."; \
	fi

.PHONY: up
up: ## start the containers of docker-compose.yml (PROFILES=cpu; cpu,load; cpu,qdrant; gpu)
	COMPOSE_PROFILES=$(PROFILES) docker compose up --build --detach --wait

.PHONY: down
down: ## stop the containers of every profile; the volumes stay
	COMPOSE_PROFILES=cpu,gpu,load,qdrant docker compose down

.PHONY: lock
lock: $(BIN)/python ## resolve constraints.txt anew (LOCK_FLAGS=--upgrade for newer versions)
	$(BIN)/pip install $(PIP_FLAGS) uv
	$(BIN)/uv pip compile --universal --python-version 3.10 --extra dev --extra load pyproject.toml \
	    -o constraints.txt --no-header --no-annotate $(LOCK_FLAGS)

.PHONY: clean
clean: ## remove the virtual environments, the caches and the demo index
	rm -rf $(VENV) $(TRAIN_VENV) $(ANALYZER_VENV) $(COMPARE_VENV) $(INFINITY_VENV) var/analyzer var/analyzer-quick .mypy_cache .ruff_cache .pytest_cache .hypothesis var/demo-index var/.demo-index.*
	find app training tests triton -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found; name a Python 3.10 to 3.12: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Serving installs no development tools; whoever has those has the rest too.
$(RUNTIME): $(PINS) | $(BIN)/python
	@echo "Installing the pinned packages into $(VENV) (once)"
	@$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e .
	@touch $@

$(DEV): $(PINS) | $(BIN)/python
	@echo "Installing the pinned packages and the development tools into $(VENV) (once)"
	@$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $(RUNTIME) $@

$(LOAD): $(PINS) | $(BIN)/python
	@$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[load]'
	@touch $(RUNTIME) $@

# No constraints: they are resolved for serving, and training never shares an environment with it.
$(TRAIN): pyproject.toml
	@echo "Installing PyTorch, Ray and the training tools into $(TRAIN_VENV) (once)"
	@test -x $(TRAIN_VENV)/bin/python || $(PYTHON) -m venv $(TRAIN_VENV)
	@$(if $(GPU),,$(TRAIN_VENV)/bin/pip install $(PIP_FLAGS) --retries 0 --timeout 10 --index-url $(TORCH_CPU) $(TORCH) 2>/dev/null ||) \
	    $(TRAIN_VENV)/bin/pip install $(PIP_FLAGS) $(TORCH)
	@$(TRAIN_VENV)/bin/pip install $(PIP_FLAGS) -e '.[train,ray]'
	@touch $@

$(COMPARE): pyproject.toml
	@echo "Installing PyTorch, LitServe, BentoML and Ray Serve into $(COMPARE_VENV) (once, 2 GB)"
	@test -x $(COMPARE_VENV)/bin/python || $(PYTHON) -m venv $(COMPARE_VENV)
	@$(COMPARE_VENV)/bin/pip install $(PIP_FLAGS) --retries 0 --timeout 10 --index-url $(TORCH_CPU) $(TORCH) 2>/dev/null || \
	    $(COMPARE_VENV)/bin/pip install $(PIP_FLAGS) $(TORCH)
	@$(COMPARE_VENV)/bin/pip install $(PIP_FLAGS) -e '.[compare]'
	@touch $@

# Infinity pins transformers 4 and an old typer, which nothing else here can live with.
$(INFINITY):
	@echo "Installing Infinity into $(INFINITY_VENV) (once, 1.5 GB)"
	@test -x $(INFINITY_VENV)/bin/python || $(PYTHON) -m venv $(INFINITY_VENV)
	@$(INFINITY_VENV)/bin/pip install $(PIP_FLAGS) --retries 0 --timeout 10 --index-url $(TORCH_CPU) $(TORCH) 2>/dev/null || \
	    $(INFINITY_VENV)/bin/pip install $(PIP_FLAGS) $(TORCH)
	@$(INFINITY_VENV)/bin/pip install $(PIP_FLAGS) 'infinity-emb[server,optimum,torch]==0.0.78'
	@touch $@

# perf_analyzer is a program in the wheel of an old tritonclient; the current one, which Model Analyzer wants, lacks it.
$(ANALYZER):
	@echo "Installing Model Analyzer and perf_analyzer into $(ANALYZER_VENV) (once, 0.6 GB)"
	@test -x $(ANALYZER_VENV)/bin/python || $(PYTHON) -m venv $(ANALYZER_VENV)
	@$(ANALYZER_VENV)/bin/pip install $(PIP_FLAGS) triton-model-analyzer==1.58.0
	@into=$$(mktemp -d) && trap 'rm -rf "$$into"' EXIT \
	    && $(ANALYZER_VENV)/bin/pip download $(PIP_FLAGS) --no-deps --only-binary :all: --platform manylinux1_x86_64 \
	        --dest "$$into" tritonclient==2.51.0 \
	    && $(ANALYZER_VENV)/bin/python -m zipfile -e "$$into"/tritonclient-*.whl "$$into" \
	    && install -m 755 "$$into"/tritonclient-2.51.0.data/data/bin/perf_analyzer $(ANALYZER_VENV)/bin/perf_analyzer
	@ldconfig -p | grep -q libb64.so.0d || if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    { apt-get install -y -qq libb64-0d >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq libb64-0d >/dev/null; }; }; \
	    else echo "perf_analyzer needs libb64: run \`apt-get install libb64-0d\` as root" >&2; fi
	@touch $@

$(BENCH): pyproject.toml $(TRAIN)
	@$(TRAIN_VENV)/bin/pip install $(PIP_FLAGS) -e '.[bench]'
	@touch $@
