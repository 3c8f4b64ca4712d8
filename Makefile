# The project's verbs. CI runs these and nothing else.
#
# Debug builds always select the same packages (the default members): features unify alike, and nothing is
# compiled twice. Release builds select one package each, so that the local stack's features stay out of them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
INTERVAL ?= 30s
N ?= 1000
TARGET ?= x86_64-unknown-linux-musl
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# All packages: what the integration tests are built with, so that they share what the others built.
ALL := $(addprefix -p coinduit-,common producer consumer lambda local integration)

NEED_KAFKA = [ -n "$${KAFKA_BOOTSTRAP_SERVERS:-}" ] || { echo "make $@ needs a real Kafka: set KAFKA_BOOTSTRAP_SERVERS=host:port (topics named coinduit-test-... are created and deleted there)" >&2; exit 1; }

.PHONY: help build demo run test integration crash lint fmt release ci

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | while IFS=$$'\t' read -r verb text; do printf '  make %-12s %s\n' "$$verb" "$$text"; done

build: ## compile everything for development
	$(CARGO) build

demo: build ## run the whole pipeline on embedded parts and prove that the rows arrived
	$(TARGET_DIR)/debug/coinduit-demo

run: build ## the same without an end: a producer run every INTERVAL (30s), until Ctrl-C
	$(TARGET_DIR)/debug/coinduit-demo --forever --interval $(INTERVAL)

test: build ## unit, property and end-to-end tests; no Docker, no network
	$(CARGO) test

integration: build ## tests on a real Kafka, named by KAFKA_BOOTSTRAP_SERVERS; some need kcat and KAFKA_UP
	@$(NEED_KAFKA)
	$(CARGO) test $(ALL) $(foreach file,$(wildcard tests/integration/tests/*.rs),--test $(basename $(notdir $(file))))

crash: build ## N (1000) kills and pauses at random moments, and no record lost or repeated; needs what integration does
	@$(NEED_KAFKA)
	COINDUIT_CRASHES=$(N) $(CARGO) test $(ALL) --test exactly_once -- --nocapture

lint: ## formatting, clippy, documentation, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(ALL) --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc $(ALL) --no-deps --quiet
	@command -v cargo-deny >/dev/null || { echo "make lint needs cargo-deny: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny check bans licenses sources

fmt: ## format the code
	$(CARGO) fmt --all

release: ## static binaries (TARGET, x86_64-unknown-linux-musl), and their sizes; needs musl-tools
	for package in producer consumer lambda; do $(CARGO) build --release --target $(TARGET) -p coinduit-$$package; done
	@cd $(TARGET_DIR)/$(TARGET)/release && stat -c '%n %s bytes' producer consumer bootstrap

ci: lint test ## everything that CI runs; without INTEGRATION=no the real services too
ifneq ($(INTEGRATION),no)
	$(MAKE) integration
endif
