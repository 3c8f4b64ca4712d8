# The project's verbs. CI runs these and nothing else.
#
# Debug builds always select the same packages (the default members): features unify alike, and nothing is
# compiled twice. Release builds select the same four without the embedded stack, for the same reason.

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
SHIPPED := --release -p coinduit-producer -p coinduit-consumer -p coinduit-lambda -p coinduit-local --no-default-features
# All packages: what the integration tests are built with, so that they share what the others built.
ALL := $(addprefix -p coinduit-,common producer consumer lambda local bench ca-bundle integration)

# What is tried on images; on services; and on a Kafka that uses ZooKeeper too.
ON_IMAGES := image compose
ON_SERVICES := $(filter-out $(ON_IMAGES),$(basename $(notdir $(wildcard tests/integration/tests/*.rs))))
WITH_ZOOKEEPER := pipeline exactly_once rebalance shutdown

# Images: their tag, and what compose is called here.
TAG ?= latest
DOCKER ?= docker
COMPOSE ?= $(shell $(DOCKER) compose version >/dev/null 2>&1 && echo $(DOCKER) compose || echo docker-compose)
# Which Kafka compose starts (zookeeper: 3.9, kraft: 4.1), and what beside it (monitoring, airflow).
KAFKA ?= zookeeper
PROFILES ?=
# The AWS emulator. As published, only its full image knows serverless templates, such as ours; where the engine has the other
# one, somebody has made it so that it does.
AWS_IMAGE ?= $(shell $(DOCKER) image inspect ministackorg/ministack:1.5.33 >/dev/null 2>&1 && echo ministackorg/ministack:1.5.33 || echo ministackorg/ministack:1.5.33-full)
export AWS_IMAGE
export COMPOSE_PROJECT_NAME ?= coinduit
export TAG

FUNCTION_TARGET = $(if $(filter arm64,$(ARCHITECTURE)),aarch64,$(ARCHITECTURE))-unknown-linux-musl
ZIP = $(TARGET_DIR)/coinduit-lambda-$(ARCHITECTURE).zip
TEMPLATE := deploy/template.yaml

IMAGES := producer consumer price-api
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
CREATED = $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
SOURCE = $(shell sed -n 's/^repository = "\(.*\)"/\1/p' Cargo.toml)
HOST_ARCHITECTURE = $(subst aarch64,arm64,$(shell uname -m))
HOST_ZIP = $(TARGET_DIR)/coinduit-lambda-$(HOST_ARCHITECTURE).zip
compose_with = LAMBDA_ZIP='$(HOST_ZIP)' $(COMPOSE) -f compose/compose.yaml -f compose/kafka-$(1).yaml
compose = $(call compose_with,$(KAFKA)) $(addprefix --profile ,$(PROFILES))

.PHONY: help build demo run test integration test-services test-images test-airflow crash lint fmt release package can-deploy deploy \
  images sbom up down down-one logs ps produce rows bench ci

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

integration: test-services test-images test-airflow ## everything on real services, in containers, and with Airflow; needs Docker

test-services: build ## tests on real services: those that the environment names (tests/integration/src/lib.rs), else containers
	$(CARGO) test $(ALL) --lib -- broker::process
	$(CARGO) test $(ALL) $(addprefix --test ,$(ON_SERVICES))
	KAFKA_MODE=zookeeper $(CARGO) test $(ALL) $(addprefix --test ,$(WITH_ZOOKEEPER))

test-images: images ## tests of the images, and of the whole pipeline in containers; needs Docker
	$(CARGO) test $(ALL) $(addprefix --test ,$(ON_IMAGES))

crash: build ## N (1000) kills and pauses at random moments, and no record lost or repeated, on a real Kafka
	COINDUIT_CRASHES=$(N) $(CARGO) test $(ALL) --test exactly_once -- --nocapture

test-airflow: build images ## the DAG on Airflow 3.3, 2.11 and 2.10, with the image PRODUCER_IMAGE; needs Docker and Python 3.11 or 3.12
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
	$(CARGO) build $(SHIPPED) --target $(TARGET) --bin producer --bin consumer --bin bootstrap
	@cd $(TARGET_DIR)/$(TARGET)/release && stat -c '%n %s bytes' producer consumer bootstrap

package: ## the Lambda function's zip, for ARCHITECTURE (arm64, x86_64); needs zip, and a linker for the target
	@case '$(ARCHITECTURE)' in arm64|x86_64) ;; *) echo "ARCHITECTURE is $(ARCHITECTURE): write arm64 or x86_64" >&2; exit 2;; esac
	@command -v zip >/dev/null || { echo "make package needs zip (Debian: apt install zip)" >&2; exit 1; }
ifeq ($(ARCHITECTURE),arm64)
	@[ "$$(uname -m)" = aarch64 ] || command -v aarch64-linux-gnu-gcc >/dev/null || { echo "make package for arm64 needs aarch64-linux-gnu-gcc here (Debian: apt install gcc-aarch64-linux-gnu); or say ARCHITECTURE=x86_64" >&2; exit 1; }
endif
	CC_aarch64_unknown_linux_musl=$${CC_aarch64_unknown_linux_musl:-aarch64-linux-gnu-gcc} CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=$${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER:-rust-lld} \
	  $(CARGO) build $(SHIPPED) --target $(FUNCTION_TARGET) --bin bootstrap
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

# Each image's folder has what its Dockerfile takes, and nothing else is sent to the engine.
images: ## the images coinduit-producer, coinduit-consumer and, for compose, coinduit-price-api (TAG), and the function's zip; needs Docker and musl-tools
	@$(DOCKER) version >/dev/null 2>&1 || { echo "make images needs a Docker engine that answers: docker version" >&2; exit 1; }
	$(CARGO) build $(SHIPPED) --target $(TARGET) --bin producer --bin consumer --bin bootstrap --bin coinduit-price-api
	$(CARGO) run --release -q -p coinduit-ca-bundle > $(TARGET_DIR)/ca-certificates.crt
	$(MAKE) package ARCHITECTURE=$(HOST_ARCHITECTURE)
	@cd $(TARGET_DIR)/$(TARGET)/release && cp -f coinduit-price-api price-api
	@for image in $(IMAGES); do \
	  folder=$(TARGET_DIR)/images/$$image; rm -rf $$folder; mkdir -p $$folder; \
	  cp $(TARGET_DIR)/$(TARGET)/release/$$image $(TARGET_DIR)/ca-certificates.crt $$folder/; \
	  said=$$($(DOCKER) build -q -t coinduit-$$image:$(TAG) -f deploy/images/$$image.Dockerfile --build-arg VERSION=$(VERSION) \
	    --build-arg REVISION=$(REVISION) --build-arg CREATED=$(CREATED) --build-arg SOURCE=$(SOURCE) $$folder 2>&1) || { echo "$$said" >&2; exit 1; }; \
	  $(DOCKER) image inspect --format 'coinduit-'$$image':$(TAG) {{.Size}} bytes' coinduit-$$image:$(TAG); \
	done

sbom: ## what is in each shipped binary, as CycloneDX; needs cargo-cyclonedx
	@command -v cargo-cyclonedx >/dev/null || { echo "make sbom needs cargo-cyclonedx: cargo install --locked cargo-cyclonedx" >&2; exit 1; }
	@mkdir -p $(TARGET_DIR)/sbom
	@for package in producer consumer lambda; do \
	  $(CARGO) cyclonedx -q --format json --target $(TARGET) --manifest-path $$package/Cargo.toml --override-filename coinduit-$$package.cdx; \
	  mv $$package/coinduit-$$package.cdx.json $(TARGET_DIR)/sbom/; done
	@find . -name 'coinduit-*.cdx.json' -not -path './target/*' -delete
	@ls $(TARGET_DIR)/sbom/*.cdx.json

# ---- the whole pipeline in containers: docs/compose.md ----

compose/secrets/%:
	@mkdir -p -m 700 compose/secrets
	@# A container's user has to read it; nobody else on this machine gets into the folder.
	@echo local > $@ && chmod 644 $@

up: compose/secrets/api_key compose/secrets/grafana_password ## the whole pipeline in containers, and one producer run (KAFKA=zookeeper, kraft; PROFILES='monitoring airflow'); needs make images
	@for image in $(IMAGES); do $(DOCKER) image inspect coinduit-$$image:$(TAG) >/dev/null 2>&1 || { echo "there is no image coinduit-$$image:$(TAG): make images" >&2; exit 1; }; done
	@[ -f '$(HOST_ZIP)' ] || { echo "there is no $(HOST_ZIP): make images" >&2; exit 1; }
	$(compose) up --detach --remove-orphans
	@$(MAKE) --no-print-directory produce
	@$(MAKE) --no-print-directory rows AT_LEAST=$(or $(COINS),50)

produce: ## one producer run there, as Airflow makes it every five minutes
	@$(compose) run --rm -T producer

rows: ## how many rows have arrived there, and the newest price
	@$(compose) run --rm -T --no-deps aws-stack rows $(AT_LEAST)

ps: ## the containers there
	@$(compose) ps

logs: ## what they say (FOLLOW=--follow to stay)
	@$(compose) logs $(FOLLOW)

down: compose/secrets/api_key compose/secrets/grafana_password ## stop and remove all of it, data too
	@for kafka in zookeeper kraft; do $(MAKE) --no-print-directory down-one KAFKA=$$kafka; done

down-one:
	@$(call compose_with,$(KAFKA)) $(addprefix --profile ,produce monitoring airflow) down --volumes --remove-orphans

bench: ## what the shipped binaries cost, held against what they may (BENCH='--only lambda', --help); on KAFKA_BOOTSTRAP_SERVERS, or embedded
	$(MAKE) release package ARCHITECTURE=$(HOST_ARCHITECTURE)
	$(CARGO) build --profile measuring -p coinduit-bench
	@mkdir -p $(TARGET_DIR)/bench && cp -f $(addprefix $(TARGET_DIR)/$(TARGET)/release/,producer consumer bootstrap) $(TARGET_DIR)/bench/ && cp -f $(HOST_ZIP) $(TARGET_DIR)/bench/bootstrap.zip
	$(TARGET_DIR)/measuring/coinduit-bench --bin-dir $(TARGET_DIR)/bench $(BENCH)

# INTEGRATION: yes, addresses (where there is no Docker engine: what services with addresses are enough for), no.
ci: lint test ## everything that CI runs; INTEGRATION=addresses without what needs Docker, INTEGRATION=no on no service
ifeq ($(INTEGRATION),addresses)
	$(MAKE) test-services
else ifneq ($(INTEGRATION),no)
	$(MAKE) integration
endif
