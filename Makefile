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
# What the function's zip is made for, and the linker of the other architecture (Debian: gcc-aarch64-linux-gnu).
ARCHITECTURE ?= arm64
PARAMETERS ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
# All packages: what the integration tests are built with, so that they share what the others built.
ALL := $(addprefix -p coinduit-,common producer consumer lambda local integration)

NEED_KAFKA = [ -n "$${KAFKA_BOOTSTRAP_SERVERS:-}" ] || { echo "make $@ needs a real Kafka: set KAFKA_BOOTSTRAP_SERVERS=host:port (topics named coinduit-test-... are created and deleted there)" >&2; exit 1; }

FUNCTION_TARGET = $(if $(filter arm64,$(ARCHITECTURE)),aarch64,$(ARCHITECTURE))-unknown-linux-musl
ZIP = $(TARGET_DIR)/coinduit-lambda-$(ARCHITECTURE).zip
TEMPLATE := deploy/template.yaml

.PHONY: help build demo run test integration crash test-airflow lint fmt release package can-deploy deploy ci

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | while IFS=$$'\t' read -r verb text; do printf '  make %-12s %s\n' "$$verb" "$$text"; done

build: ## compile everything for development
	$(CARGO) build

demo: build ## run the whole pipeline on embedded parts and prove that the rows arrived
	$(TARGET_DIR)/debug/coinduit-demo

run: build ## the same without an end: a producer run every INTERVAL (30s), until Ctrl-C
	$(TARGET_DIR)/debug/coinduit-demo --forever --interval $(INTERVAL)

test: build ## unit, property and end-to-end tests; no Docker, no network
	$(CARGO) test

integration: build ## tests on a real Kafka, named by KAFKA_BOOTSTRAP_SERVERS, and on more services, which those that need them name
	@$(NEED_KAFKA)
	$(CARGO) test $(ALL) $(foreach file,$(wildcard tests/integration/tests/*.rs),--test $(basename $(notdir $(file))))

crash: build ## N (1000) kills and pauses at random moments, and no record lost or repeated; needs what integration does
	@$(NEED_KAFKA)
	COINDUIT_CRASHES=$(N) $(CARGO) test $(ALL) --test exactly_once -- --nocapture

test-airflow: build ## the DAG on Airflow 3.3, 2.11 and 2.10, with the image PRODUCER_IMAGE; needs Docker and Python 3.11 or 3.12
	COINDUIT_LOCAL=$${COINDUIT_LOCAL:-$(TARGET_DIR)/debug/coinduit-local} airflow/test

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

package: ## the Lambda function's zip, for ARCHITECTURE (arm64, x86_64); needs zip, and a linker for the target
	@case '$(ARCHITECTURE)' in arm64|x86_64) ;; *) echo "ARCHITECTURE is $(ARCHITECTURE): write arm64 or x86_64" >&2; exit 2;; esac
	@command -v zip >/dev/null || { echo "make package needs zip (Debian: apt install zip)" >&2; exit 1; }
ifeq ($(ARCHITECTURE),arm64)
	@[ "$$(uname -m)" = aarch64 ] || command -v aarch64-linux-gnu-gcc >/dev/null || { echo "make package for arm64 needs aarch64-linux-gnu-gcc here (Debian: apt install gcc-aarch64-linux-gnu); or say ARCHITECTURE=x86_64" >&2; exit 1; }
endif
	CC_aarch64_unknown_linux_musl=$${CC_aarch64_unknown_linux_musl:-aarch64-linux-gnu-gcc} CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=$${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER:-rust-lld} \
	  $(CARGO) build --release --target $(FUNCTION_TARGET) -p coinduit-lambda
	@rm -f $(ZIP)
	@# The same binary makes the same zip, so that nothing is deployed again without need.
	cd $(TARGET_DIR)/$(FUNCTION_TARGET)/release && mkdir -p package && cp bootstrap package/ && touch -d 1980-01-02T00:00Z package/bootstrap && cd package && TZ=UTC zip -q -9 -X $(ZIP) bootstrap
	@stat -c '%n %s bytes' $(ZIP)

can-deploy:
	@[ -n "$(STACK)" ] || { echo "make deploy needs a name: make deploy STACK=coinduit CODE_BUCKET=..." >&2; exit 2; }
	@[ -n "$(CODE_BUCKET)" ] || { echo "make deploy needs a bucket in the stack's region for the function's zip: CODE_BUCKET=... (aws s3 mb s3://...)" >&2; exit 2; }
	@command -v aws >/dev/null || { echo "make deploy needs the aws command: https://aws.amazon.com/cli/" >&2; exit 1; }

deploy: can-deploy package ## the AWS side as a stack: STACK=name CODE_BUCKET=bucket [PARAMETERS='AlertEmail=a@b.c ...']; needs the aws command
	key=coinduit/$(STACK)-$(ARCHITECTURE)-$$(sha256sum $(ZIP) | cut -c1-16).zip && \
	  aws s3 cp --only-show-errors $(ZIP) "s3://$(CODE_BUCKET)/$$key" && \
	  aws cloudformation deploy --stack-name '$(STACK)' --template-file $(TEMPLATE) --no-fail-on-empty-changeset \
	    --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND \
	    --parameter-overrides CodeBucket='$(CODE_BUCKET)' CodeKey="$$key" Architecture=$(ARCHITECTURE) $(PARAMETERS)
	@aws cloudformation describe-stacks --stack-name '$(STACK)' --output text \
	  --query "Stacks[0].Outputs[?ends_with(OutputKey, 'Environment') || ends_with(OutputKey, 'PolicyArn')].[OutputKey, OutputValue]"

ci: lint test ## everything that CI runs; without INTEGRATION=no the real services too
ifneq ($(INTEGRATION),no)
	$(MAKE) integration
endif
