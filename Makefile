# Every target says after ## what it does; `make help` prints that.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Cases that `make fuzz` tries for each property of the decoder.
FUZZ_CASES ?= 200000
# What `make fuzz` tries at the intake's reader. About ten minutes.
FUZZ_RUNS ?= 10000000
# Empty in CI, which has built the tests already.
FUZZ_PROFILE ?= --release
# Acknowledged messages after which `make chaos` is content: about a minute. The full form has 10000.
CHAOS_ACKED ?= 1500
# --full tries more, for some minutes.
ATTACK ?=
# Nodes that `make stops` stops under load.
STOPS ?= 50
# CI reaches no database of advisories.
DENY ?= advisories bans licenses sources
# Whatever `agentbus up` should know, as in: make up UP='--nodes 2 --port 0'
UP ?=

# Which experiments, as in: make antifragility EXPERIMENTS='redis-dies --times 20'; empty: all, once.
EXPERIMENTS ?=

.PHONY: help servers clients deploy-check last build pgo demo up test alone test-fast lint fuzz chaos antifragility attack stops cluster-walk policy-conformance policy-faults policy-swaps bench model bench-model deny clean

help: ## This page
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

servers: ## Find or install nats-server and redis-server (into .servers/ where that can be)
	@deploy/install-servers --only nats,redis

clients: ## Find or install everything that the tests use: servers, OPA, the nats tool, Python and TypeScript clients
	@deploy/install-servers --clients

deploy-check: servers ## Unit, image, alerts, dashboards and chart, by their own tools, which it installs
	@deploy/install-servers --deploy
	$(CARGO) test --test it -- surfaces::deploy

last: ## Build the last version, for tests of both side by side (target/last-version/)
	@deploy/last-version

build: ## Build agentbus with optimisation: target/release/agentbus
	$(CARGO) build --release --bin agentbus

pgo: ## Build agentbus by what a node does under load: target/pgo/agentbus, 8 to 28 % less of its time (half an hour)
	deploy/pgo

# A development build: the first one takes half the time of an optimised one, and the demo is
# about what the bus does. `make bench` is about how fast.
demo: servers ## Watch governed messages between agents of two tenants; ends by itself
	$(CARGO) build --bin agentbus
	target/debug/agentbus demo

up: servers build ## Run everything here until Ctrl-C, to play with
	target/release/agentbus up $(UP)

# The harness tells how long each test took by an option that a stable one takes with this variable only. It is
# set for the tests alone: cargo would build everything anew with it.
TIMED := target."cfg(all())".runner = ["env", "RUSTC_BOOTSTRAP=1"]

TESTS := $(CARGO) --config '$(TIMED)' test --workspace --lib --bins --tests --no-fail-fast --
TEST_OPTIONS := -Z unstable-options --report-time
# So many may be tried again.
ALONE_MAX := 3

# Most tests wait most of the time, for what they have started.
test: export RUST_TEST_THREADS ?= $(shell echo $$(($$(nproc) + 1)))
test: clients last ## All tests, against real servers and real clients; names the slowest and what failed
	@mkdir -p target
	$(TESTS) $(TEST_OPTIONS) | tee target/tests.log || failed=1; \
	printf '\nThe slowest twenty, in seconds:\n'; \
	sed -n 's/^test \(.*\) \.\.\. [a-zA-Z]* <\([0-9.]*\)s>$$/\2 \1/p' target/tests.log | sort -rn | sed -n 1,20p; \
	if [ -n "$${failed:-}" ]; then \
	  printf '\nWhat failed, and how:\n'; \
	  grep -A 4 " panicked at " target/tests.log | grep -v '^ *[0-9]*: \|^note: \|^stack ' | cut -c 1-800 | sed -n 1,60p; \
	  $(MAKE) --no-print-directory alone; \
	fi

# Servers, nodes and agents of several tests share the cores: one of them may get no time for longer than what it
# tries can bear. What fails alone too has failed, and so has what fails in numbers or does not build.
alone:
	@mapfile -t names < <(sed -n 's/^test \([^ ]*\) .*\.\.\. FAILED.*/\1/p' target/tests.log | sort -u); \
	[ $${#names[@]} -ge 1 ] && [ $${#names[@]} -le $(ALONE_MAX) ] || exit 1; \
	printf '\nOnce more, one at a time and with nothing beside:\n'; \
	RUST_TEST_THREADS=1 $(TESTS) $(TEST_OPTIONS) --exact "$${names[@]}" | grep -v '^$$\|^running 0\|0 passed; 0 failed'; \
	printf '\nFailed beside other tests and passed alone; each is a fault to be mended:\n'; printf '  %s\n' "$${names[@]}"

# What needs no second version, no clients of other languages, no kills and no waiting: something of each promise. Reading a
# text by the model is left out, its parts are not.
FAST := architecture governance::policy lanes::journeys lanes::messages lanes::verbs survival::golden survival::servers \
  surfaces::docs tenancy::directory tenancy::isolation tenancy::works

test-fast: servers ## Some of each kind of test, in less than a minute once built
	$(CARGO) test --lib -- --skip impact::semantic --skip impact::distilbert
	$(CARGO) test --test it -- $(FAST) --skip parity

lint: ## Formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

# With coverage by the compiler's own flags: no other toolchain is needed, and no cargo-fuzz.
FUZZ_FLAGS := -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1
FUZZ_TARGET := $(shell $(CARGO) -vV | sed -n 's/^host: //p')

fuzz: ## Hostile bytes for the intake's reader (FUZZ_RUNS=10000000) and the decoder (FUZZ_CASES=200000)
	RUSTFLAGS='$(FUZZ_FLAGS)' $(CARGO) build --quiet --release --locked --manifest-path fuzz/Cargo.toml --target $(FUZZ_TARGET)
	mkdir -p fuzz/target/found
	fuzz/target/$(FUZZ_TARGET)/release/intake -runs=$(FUZZ_RUNS) -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
	  -print_final_stats=1 -artifact_prefix=fuzz/target/found/ fuzz/target/found fuzz/corpus/intake
	PROPTEST_CASES=$(FUZZ_CASES) $(CARGO) test $(FUZZ_PROFILE) --lib wire

# A development build, which `make test` has made already: what is shown is what happens, not how fast.
chaos: servers ## Kill nodes, NATS and Redis while messages are submitted; nothing is lost or doubled (CHAOS_ACKED=10000)
	$(CARGO) build --bin agentbus --bin loadtest
	target/debug/loadtest chaos --acked $(CHAOS_ACKED)

antifragility: servers ## Break one thing after the other in a fleet of its own, and tell what held, with a score (three minutes)
	$(CARGO) build --bin agentbus
	target/debug/agentbus chaos run --own $(EXPERIMENTS)

attack: servers ## Hostile bytes, texts, votes and files against a running bus; nothing may succeed (ATTACK=--full)
	$(CARGO) build --bin agentbus --bin loadtest
	target/debug/loadtest attack $(ATTACK)

stops: servers ## Stop nodes with SIGTERM under load; nothing is lost or doubled, each ends within 10 s (STOPS=50)
	$(CARGO) build --release --bin agentbus --bin loadtest
	target/release/loadtest stops --stops $(STOPS)

# Not optimised: what is shown is that both say the same.
cluster-walk: clients ## The compose file as processes, and a server of each kind killed while messages flow (a minute)
	@deploy/install-servers --deploy
	$(CARGO) test --test it -- --ignored --nocapture deploy::cluster

policy-conformance: ## Rego in a node beside a real OPA server: each builtin and the language, on thousands of values
	@deploy/install-servers --only opa
	@mkdir -p target
	$(CARGO) test --test it -- --ignored --nocapture policy::conformance | tee target/policy-conformance.log
	@grep '^policy-conformance: ' target/policy-conformance.log

policy-faults: ## OPA servers that lie, stall and break off: 10,000 questions of each kind, none may be allowed
	@deploy/install-servers --only opa
	POLICY_FAULT_MESSAGES=10000 $(CARGO) test --test it -- --nocapture policy::liars

policy-swaps: servers ## A hundred policies one after the other while messages flow through three nodes; none is lost or judged by two
	POLICY_SWAPS=100 $(CARGO) test --test it -- --nocapture policy::swaps

bench: servers ## Measure every figure to beat, and write the report: loadtest/reports, docs/benchmarks.md
	$(CARGO) build --release --bin agentbus --bin loadtest
	@mkdir -p loadtest/reports
	target/release/loadtest measure --json loadtest/reports/report.json --html loadtest/reports/report.html \
	  --page docs/benchmarks.md

model: ## Make the impact model anew from its source, but for what was tuned (models/README.md)
	python3 models/convert.py

bench-model: build ## Measure the impact model beside ONNX Runtime, which it installs into .models/
	python3 models/bench/bench.py --page docs/benchmarks.md

deny: ## Licences, sources and versions of all dependencies, and what is known against them (DENY=…)
	@deploy/install-servers --only deny
	PATH="$(CURDIR)/.servers/bin:$$PATH" $(CARGO) deny --locked check --hide-inclusion-graph $(DENY)

clean: ## Delete what was built; .servers/, .models/ and .agentbus/ stay
	$(CARGO) clean
