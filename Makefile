# The commands of this house; `make` alone lists them.

CARGO ?= cargo

# On a CI machine the clone is thrown away: what the compiler made is kept beside it, unless somebody decided already. Nobody edits
# there, so that what helps the next edit would only fill the disk.
ifeq ($(CI),true)
export CARGO_INCREMENTAL := 0
ifndef CARGO_TARGET_DIR
export CARGO_TARGET_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mailferry/target
endif
endif

.PHONY: help setup setup-demo setup-cluster setup-bench demo servers cluster cluster-demo cluster-down test faults scale bench fmt lint clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the tests need (system packages), check the toolchain, build the test cluster's programs
	@scripts/setup

setup-demo:
	@scripts/setup demo

setup-cluster:
	@scripts/setup cluster

setup-bench:
	@scripts/setup bench

demo: setup-demo ## the whole story on this machine: real servers, a mixed migration, the reports
	$(CARGO) build --bin mailferry --example demo
	@$(CARGO) run --quiet --example demo

servers: setup-demo ## the demo's servers alone, to play with
	$(CARGO) build --bin mailferry --example demo
	@$(CARGO) run --quiet --example demo -- --servers-only

cluster: setup-cluster ## start a real Kubernetes on this machine, for tests and for playing
	@tests/cluster/up
	@echo 'To use it in this shell:  eval "$$(tests/cluster/env)"'

cluster-demo: cluster ## make that cluster ready for examples/quickstart.yaml: image, mail servers
	$(CARGO) build --bin mailferry --example demo
	@$(CARGO) run --quiet --example demo -- --for-cluster

cluster-down: ## end it
	@tests/cluster/down

# Most tests wait for servers: more of them at once than there are cores.
test: setup ## all checks: format, lints, tests; in a cluster of their own, or in the one that KUBECONFIG names
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-4} tests/cluster/during $(CARGO) test --no-fail-fast

faults: setup ## what may go wrong, at length: each step's kill, 5,000 faults at random, tokens of a minute, parsers fuzzed; 1½ hours
	MAILFERRY_FAULTS=all $(CARGO) test --test faults -- --nocapture
	MAILFERRY_FAULTS=all $(CARGO) test --test protocols tokens_that_end -- --nocapture
	PROPTEST_CASES=100000 $(CARGO) test --lib -- drivers:: net:: auth:: discovery::autoconfig model::identity

scale: setup ## measure the operator with 10,000 mailboxes; takes a quarter of an hour beyond the release build
	$(CARGO) build --release --bin mailferry
	tests/cluster/during $(CARGO) run --quiet --example scale

bench: setup-bench ## the product beside the limit of two servers and beside mbsync, as a table; and what its parts cost
	$(CARGO) build --quiet --release --bin mailferry
	$(CARGO) run --quiet --release --example bench
	$(CARGO) run --quiet --release --example bench large
	$(CARGO) run --quiet --release --example bench micro
	$(CARGO) bench --quiet --bench decide

fmt: ## format the sources
	$(CARGO) fmt

lint: ## lints only
	$(CARGO) clippy --all-targets -- -D warnings

clean: ## remove what build and demo left
	$(CARGO) clean
	rm -rf demo-state
