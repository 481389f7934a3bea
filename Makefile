# SPDX-License-Identifier: Apache-2.0
# Every target does all of its own set-up on a fresh Debian 12 or Ubuntu 24.04 (as root or with sudo), asks nothing,
# and is quick when the set-up is already there.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreter for the virtual environment, the directory that `make run` serves, that of `make openstack`, where
# `make install` puts it.
PYTHON ?= python3
DIR ?= ./lustack-data
STAND ?= /var/tmp/lustack-openstack
PREFIX ?= /usr/local
export PYTHON

BIN := .venv/bin
TOX := $(BIN)/tox run --quiet
SETUP := pyproject.toml bindep.txt tools/bootstrap.sh

.PHONY: help lustre run demo test test-all lint unit nova cinder functional volumes openstack test-openstack tempest coverage upstream long soak torture dev install clean

help:  ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-14s %s\n", $$1, $$2}' Makefile

.venv/.ready-%: $(SETUP)
	@tools/bootstrap.sh $*

run: .venv/.ready-run  ## serve ./lustack-data as Swift and S3 on this machine (another directory: DIR=...)
	@exec $(BIN)/lustack serve $(DIR) </dev/null

demo: .venv/.ready-demo  ## show and check the whole way: Swift, S3 and plain files are the same
	@$(BIN)/python tests/demo/run.py </dev/null

lint: .venv/.ready-test  ## style, types, imports, sizes
	@$(TOX) -e lint </dev/null

unit: .venv/.ready-test  ## the quick tests
	@$(TOX) -e unit </dev/null

functional: .venv/.ready-test  ## the tests with real servers
	@$(TOX) -e functional </dev/null

nova: .venv/.ready-test  ## the quick tests of the volume driver of nova-compute, beside the real Nova
	@$(TOX) -e nova </dev/null

cinder: .venv/.ready-volumes  ## the tests of the driver of volumes, on real files
	@$(TOX) -e cinder </dev/null

volumes: .venv/.ready-volumes  ## the driver of volumes in a real Cinder
	@$(TOX) -e volumes </dev/null

upstream: .venv/.ready-test  ## the patches for Cinder, os-brick and Nova, on their releases and with their tests
	@$(TOX) -e upstream </dev/null

openstack: .venv/.ready-openstack  ## run a whole OpenStack with guests to try volumes with (elsewhere: STAND=...)
	@$(TOX) -e openstack --notest </dev/null
	@exec .tox/openstack/bin/python tests/openstack/run.py $(STAND) </dev/null

test-openstack: .venv/.ready-openstack  ## volumes and guests in a whole OpenStack, and what is left when services die: half an hour, as root
	@$(TOX) -e openstack </dev/null

tempest: .venv/.ready-openstack  ## OpenStack's own tests of volumes in a whole OpenStack; writes doc/tempest.md
	@$(TOX) -e tempest </dev/null

coverage: .venv/.ready-test  ## every line and branch was reached by the quick tests
	@$(TOX) -e coverage </dev/null

test: .venv/.ready-test .venv/.ready-demo .venv/.ready-volumes  ## everything that CI runs; stops at the first failure
	@for step in lint unit nova cinder coverage functional volumes demo; do \
	    echo "== make $$step"; SECONDS=0; \
	    $(MAKE) --no-print-directory $$step || { echo "== FAILED: make $$step after $$SECONDS s"; exit 1; }; \
	    echo "== $$step took $$SECONDS s"; \
	done; \
	echo "== passed: lint, unit, nova, cinder, coverage, functional, volumes, demo"

lustre: .venv/.ready-dev  ## the tests on a mounted Lustre, as root: LUSTACK_TEST_LUSTRE=/mnt/point make lustre
	@$(BIN)/python -m pytest tests/lustre </dev/null

torture: .venv/.ready-dev  ## kill processes at random under load, for long; then check that nothing is lost
	@$(BIN)/python tests/torture/run.py </dev/null

soak: .venv/.ready-dev  ## 500 clients for half an hour: no server grows, every answer is right
	@$(BIN)/python tests/soak/run.py </dev/null

long: .venv/.ready-test .venv/.ready-volumes  ## tests that take minutes and show little that the rest does not
	@$(TOX) -e functional -- -m long tests </dev/null
	@$(TOX) -e volumes -- -m long tests/cinder tests/unit/cinder </dev/null

test-all: test long torture soak upstream test-openstack tempest  ## everything: hours

dev: .venv/.ready-dev  ## a virtual environment to work in: .venv

install:  ## install the command lustack below /usr/local (another place: PREFIX=...)
	@VENV=$(abspath $(PREFIX))/lib/lustack tools/bootstrap.sh install
	@mkdir -p $(PREFIX)/bin && ln -sfn $(abspath $(PREFIX))/lib/lustack/bin/lustack $(PREFIX)/bin/lustack
	@echo "lustack: installed $(PREFIX)/bin/lustack"

clean:  ## remove what was built and downloaded; data directories stay
	@rm -rf .venv .tox .coverage .coverage.* .hypothesis .mypy_cache .ruff_cache .pytest_cache build dist
	@find src tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
