# make run      everything from nothing: installs, builds, starts a host with a demonstration
# make test     everything that CI runs
# make help     the rest
#
# Whatever is built or downloaded goes to SANDBAR_CACHE, outside the checkout.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

export SANDBAR_CACHE ?= $(HOME)/.cache/sandbar
export SANDBAR_GUESTS ?= $(SANDBAR_CACHE)/guests
export CARGO_TARGET_DIR ?= $(SANDBAR_CACHE)/target

BIN := $(CARGO_TARGET_DIR)/release/sandbar
# Where `make run` keeps its data.
DATA ?= $(CURDIR)/sandbar-data
# How often `make crash` kills the host, and for how long `make fuzz` goes on.
KILLS ?= 200
FUZZ_SECONDS ?= 300
# And how many malformed packets of each type its MQTT broker gets.
MALFORMED ?= 10000
# The targets of `make fuzz-coverage`: those whose names match.
FUZZ_TARGETS ?= .

STAGE := tests/stage.sh
# What measures is optimized; the libraries that it needs are those of `make test`, which are so too.
BENCH := cargo bench --locked --workspace --profile dev --config profile.dev.package.sandbar-tests.opt-level=3
# A `cargo test` that stops at the first failure hides the others.
TESTS := $(shell cargo nextest --version >/dev/null 2>&1 \
	&& echo 'cargo nextest run --no-fail-fast' || echo 'cargo test --no-fail-fast --lib --bins --tests')

.PHONY: help setup build release guests run test lint unit lab-short deny lab crash bench bench-peers bench-languages fuzz fuzz-coverage clean

help: ## these lines
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

setup: ## installs what is missing to build and test
	@tests/setup.sh test

build: ## the host, for development
	cargo build --workspace --bin sandbar

release: ## the host, as it is used
	cargo build --release --locked --package sandbar

guests: ## the example modules and the tests' components
	@tests/guests.sh "$(SANDBAR_GUESTS)"

run: ## installs, builds, and starts a host with a demonstration
	@tests/setup.sh build
	@tests/guests.sh "$(SANDBAR_GUESTS)" run
	@$(MAKE) --no-print-directory release
	@exec "$(BIN)" run --demo --data "$(DATA)"

test: ## everything that CI runs
	@$(STAGE) setup tests/setup.sh test
	@$(STAGE) guests tests/guests.sh "$(SANDBAR_GUESTS)"
	@$(MAKE) --no-print-directory lint deny unit lab-short
	@echo "==== all passed"

lint:
	@$(STAGE) fmt cargo fmt --all --check
	@$(STAGE) fmt-guests cargo fmt --all --check --manifest-path example-modules/Cargo.toml
	@$(STAGE) clippy cargo clippy --locked --workspace --all-targets -- -D warnings

# The scenarios start the binary that is built here: with the tests, or its libraries would be built twice.
unit:
	@$(STAGE) build cargo build --locked --workspace --lib --bins --tests
	@$(STAGE) tests $(TESTS) --locked --workspace
	@$(STAGE) doc-tests cargo test --locked --workspace --doc
	@$(STAGE) guest-tests cargo test --locked --workspace --manifest-path example-modules/Cargo.toml

# The host that was built with the tests.
lab-short:
	@$(STAGE) lab tests/lab/lab.sh short "$(CARGO_TARGET_DIR)/debug/sandbar"

deny:
	@if cargo deny --version >/dev/null 2>&1; then $(STAGE) deny cargo deny --all-features check; \
	else echo "==== deny: cargo-deny is not installed, so licences and advisories are not checked"; fi

lab: release ## boots a kernel in emulation, for devices and faults that this machine has not
	@tests/lab/lab.sh all "$(BIN)"

crash: guests release ## kills a loaded host KILLS times, and looks for what is missing
	SANDBAR_BIN="$(BIN)" SANDBAR_KILLS=$(KILLS) \
		cargo test --locked --workspace --test crash -- --nocapture

bench-peers: ## builds the broker in Rust that others wrote, to compare with
	@tests/setup.sh bench

bench: guests release bench-peers ## prints the table of docs/performance.md
	SANDBAR_BIN="$(BIN)" $(BENCH) --bench bench --bench mqtt

bench-languages: guests release ## prints what a call costs in each language: the table of docs/performance.md
	@tests/languages.sh "$(BIN)"

fuzz: release ## throws garbage at every parser for FUZZ_SECONDS
	SANDBAR_FUZZ_SECONDS=$(FUZZ_SECONDS) \
		cargo test --locked --workspace --test fuzz -- --nocapture
	SANDBAR_BIN="$(BIN)" SANDBAR_MALFORMED=$(MALFORMED) \
		cargo test --locked --workspace --test mqtt -- --nocapture malformed

fuzz-coverage: FUZZ_SECONDS = 60
fuzz-coverage: ## does so for FUZZ_SECONDS each, led by the coverage of the code; FUZZ_TARGETS picks some
	@tests/fuzz-targets/run.sh $(FUZZ_SECONDS) "$(FUZZ_TARGETS)"

clean: ## removes what was built, not what was downloaded
	rm -rf "$(CARGO_TARGET_DIR)" "$(SANDBAR_GUESTS)" "$(SANDBAR_CACHE)/fuzz/target"
