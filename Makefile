# `make help` lists what there is. Each target sets up what it needs.
.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

BIN := .venv/bin

.PHONY: help
help: ## What can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: up
up: ## Eight hosts, from a bare machine to a short link that answers
	@tools/bootstrap.sh --lab
	@$(BIN)/python -m tools.up

.PHONY: down
down: ## Take the hosts away: no process, mount, interface or firewall rule is left
	@tools/bootstrap.sh
	@$(BIN)/python -m tools.down

.PHONY: venv
venv: ## The control node's tools, from the lock
	@tools/bootstrap.sh

.PHONY: venv-tests
venv-tests:
	@tools/bootstrap.sh --tests

.PHONY: bundle
bundle: venv ## Build a release: dist/linkrift-<release id>.tar.gz
	@$(BIN)/python -m tools.bundle build

# --- Gates -----------------------------------------------------------------------------------------------------------

.PHONY: test
test: venv-tests ## Every gate, real hosts included (what CI runs)
	@$(BIN)/python -m tools.gates test

.PHONY: check
check: venv ## Linters and unit tests, under two minutes
	@$(BIN)/python -m tools.gates check

.PHONY: bench
bench: venv-tests ## Measure, as ratios in one run: a table, and .bench/results.json
	@$(BIN)/python -m tools.bench

.PHONY: soak
soak: venv-tests ## The long sweeps that CI leaves out
	@$(BIN)/python -m tools.soak
