# The commands of this house; `make` alone lists them.

CARGO ?= cargo

# On a CI machine the clone is thrown away: what the compiler made is kept beside it, unless somebody decided already.
ifeq ($(CI),true)
ifndef CARGO_TARGET_DIR
export CARGO_TARGET_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mailferry/target
endif
endif

.PHONY: help setup demo servers test fmt lint clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what tests and demo need (system packages), and check the Rust toolchain
	@scripts/setup

demo: setup ## the whole story on this machine: real servers, a mixed migration, the reports
	$(CARGO) build --bin mailferry --example demo
	@$(CARGO) run --quiet --example demo

servers: setup ## the demo's servers alone, to play with
	$(CARGO) build --bin mailferry --example demo
	@$(CARGO) run --quiet --example demo -- --servers-only

test: setup ## all checks: format, lints, tests
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) test --no-fail-fast

fmt: ## format the sources
	$(CARGO) fmt

lint: ## lints only
	$(CARGO) clippy --all-targets -- -D warnings

clean: ## remove what build and demo left
	$(CARGO) clean
	rm -rf demo-state
