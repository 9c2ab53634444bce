# logtide: what a developer runs. `make` lists the targets.
SHELL := /bin/bash
# Outside the checkout, so that a fresh clone does not compile RocksDB again.
export CARGO_TARGET_DIR ?= $(HOME)/.cache/logtide/target
CARGO ?= cargo
BIN = $(CARGO_TARGET_DIR)/debug

.PHONY: help setup checkout build demo demo-quick demo-s3 test fmt lint unit docs bench bench-scan bench-flush test-storages test-kms fuzz build-sim sim sim-planted test-power-cut
help: ## this list
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: ## install what the build needs (Debian), or say what is missing
	@.ci/setup

# Cargo tells what is fresh by times, not by the checkout: what another one has built since would be taken for ours.
checkout:
	@mkdir -p $(CARGO_TARGET_DIR)
	@if [ "$$(cat $(CARGO_TARGET_DIR)/checkout 2>/dev/null)" != "$(CURDIR)" ]; then \
	  find crates benches examples fuzz -name '*.rs' -exec touch {} + && echo "$(CURDIR)" > $(CARGO_TARGET_DIR)/checkout; \
	fi

# The same crates and features in every call: another selection has other features in bindgen's dependencies, and with
# them another RocksDB to compile.
build: setup checkout ## the demo and the logtide command
	@echo "building (RocksDB takes about 15 minutes the first time; target: $(CARGO_TARGET_DIR))"
	$(CARGO) build --locked --workspace --all-features --bins

demo: build ## back up a live cluster, break it, restore to the moment before, prove it (under 5 minutes once built)
	@PATH="$(BIN):$$PATH" $(BIN)/demo

demo-quick: build ## the same with less data, under a minute
	@PATH="$(BIN):$$PATH" $(BIN)/demo --quick

SERVER ?= moto
demo-s3: build ## the quick demo against a real S3 server, SERVER=moto or ceph
	@PATH="$(BIN):$$PATH" .ci/servers/run $(SERVER) sh -c 'DEMO_STORAGE="$$LOGTIDE_TEST_STORAGE" $(BIN)/demo --quick'

test: setup fmt lint unit docs ## everything that must be green: format, clippy, every crate's tests, docs

fmt:
	$(CARGO) fmt --all --check

lint: checkout
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings
	@# The fuzz runner is a workspace of its own: its lock file has to follow ours, or `make fuzz` stops at it.
	$(CARGO) metadata --locked --format-version 1 --manifest-path fuzz/runner/Cargo.toml >/dev/null

unit: checkout ## every crate's tests, with a real S3 server (moto) for those of the storages
	.ci/servers/run moto $(CARGO) test --locked --workspace --all-features

docs: checkout ## rustdoc, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --all-features

build-sim: checkout ## the simulator (without RocksDB)
	$(CARGO) build --locked -p logtide-sim

SEEDS ?= 1000
SEED_BASE ?= 0
sim: build-sim ## SEEDS simulated schedules from SEED_BASE on; a violation is shrunk and told
	$(BIN)/logtide-sim --seeds $(SEEDS) --base $(SEED_BASE)

sim-planted: build-sim ## plants known bugs; fails if one survives 1,000 seeds
	$(BIN)/logtide-sim --seeds 1000 --planted

CUTS ?= 20
test-power-cut: build-sim ## CUTS real power cuts under load on ext4 and xfs (root, loop devices); then with syncs left out, which must be found
	$(BIN)/power-cut --runs $(CUTS)
	$(BIN)/power-cut --runs 6 --break metadata
	$(BIN)/power-cut --runs 30 --break directory

DURATION ?= 60
fuzz: ## libFuzzer over every decoder, DURATION seconds each, on stable Rust (TARGETS='records task': only those)
	@fuzz/run $(DURATION) $(TARGETS)

bench: checkout ## the hook, the append path and flushes to a directory against their floors
	$(CARGO) bench --locked -p logtide-benches

bench-scan: setup checkout ## what a scan costs the foreground, and a catch-up from the raft log against a scan (root, for a cold cache)
	$(CARGO) build --locked --workspace --all-features --examples
	$(BIN)/examples/scan_cost

bench-flush: checkout ## flushes to a directory and to a real S3 server (s3s-fs)
	.ci/servers/run s3s-fs $(CARGO) bench --locked -p logtide-benches --bench flush

STORAGES = moto azurite ceph s3s-fs gcs-fake

test-storages: $(STORAGES:%=test-storage-%) ## the storage suites against every server, and MinIO where there is Go
	@if command -v go >/dev/null; then $(MAKE) test-storage-minio; \
	else echo "MinIO was not tested: this machine has no Go" >&2; fi

test-storage-%: checkout ## … against one: moto, azurite, ceph, s3s-fs (lies about create-if-absent), gcs-fake, minio
	LOGTIDE_TEST_LONG=1 .ci/servers/run $* \
	  $(CARGO) test --locked -p logtide-storage --all-features --test storages -- real_server faults refusals server tls

test-kms: checkout ## master keys in a key management service: moto's (Amazon), our own fake (Google)
	for server in moto gcs-fake; do .ci/servers/run $$server $(CARGO) test --locked -p logtide-storage --all-features --test kms || exit 1; done
