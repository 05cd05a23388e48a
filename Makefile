# Everything is one cargo build: one profile, one package selection, one target directory, so that nothing large is built
# twice. `make demo` and `make test` do all their own set-up.

CARGO ?= cargo
SELECTION := --workspace --locked
RESTANTE := target/release/restante

.PHONY: demo test build bench endurance mutations interop javascript toolchain

demo: build
	$(RESTANTE) demo

test: toolchain interop
	$(CARGO) fmt --all --check
	cd plugin && $(CARGO) fmt --all --check
	$(CARGO) build --release $(SELECTION) --all-targets
	$(CARGO) clippy --release $(SELECTION) --all-targets -- -D warnings
	tests/counting-skips $(CARGO) test --release $(SELECTION)
	cd plugin && $(CARGO) test --locked --workspace --target-dir ../target/guest-tests
	@cat target/skipped

build: toolchain
	$(CARGO) build --release $(SELECTION)

# Figures, each beside what the machine itself can do.
bench: build
	$(CARGO) bench $(SELECTION) --bench throughput
	$(CARGO) bench $(SELECTION) --bench tenants
	$(CARGO) bench $(SELECTION) --bench hostile

# What takes its real time, not part of every run: a core that refuses everything for ten minutes, and an hour of SIPp at fixed
# rates, after which what the server holds must not have grown and nothing may be left over.
endurance: build interop
	$(CARGO) bench $(SELECTION) --bench outage
	$(CARGO) bench $(SELECTION) --bench endurance

# Breaks one rule at a time and asks the suite to notice. Not part of every run.
mutations: toolchain
	tests/mutations/run

# Kamailio as an MSRP implementation that is not ours and as a proxy in front, SIPp, clients and a dissector that are not ours,
# and a C compiler for policies; tests that need them say when they cannot be had.
interop:
	@tests/interop/install.sh target/interop || true
	@tests/proxies/install.sh target/proxies || true
	@tests/clients/install.sh target/clients || true
	@tests/clients/browser.sh target/browser || true
	@tests/clients/pjsua.sh target/pjsua || true
	@tests/toolchains/c.sh target/toolchains/c || true

# What makes policies of JavaScript. Large, and so not part of every run.
javascript:
	tests/toolchains/javascript.sh target/toolchains/javascript

toolchain:
	@rustup target list --installed | grep -qx wasm32-unknown-unknown || rustup target add wasm32-unknown-unknown
