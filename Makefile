# `make demo` and `make test` are the two commands of the README. Both need Linux, Rust, Python 3 with venv, a C compiler and
# make, and nothing else: they install the rest into .local/ and stop every process that they start.

# With AS_DEPLOYED=1 `sam build` builds the functions, as for a deployment, and otherwise the quickest cargo build.
export AS_DEPLOYED

# rustup installs the toolchain of rust-toolchain.toml. If it is not installed, a default toolchain of the same version serves,
# so that nothing has to be downloaded.
RUST := $(shell sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
ifeq ($(shell rustup toolchain list 2> /dev/null | grep '^$(RUST)-'),)
ifneq ($(filter $(RUST),$(shell cd / && rustc --version 2> /dev/null)),)
export RUSTUP_TOOLCHAIN := $(firstword $(shell cd / && rustup show active-toolchain 2> /dev/null))
endif
endif

# Python keeps its bytecode below .local, wherever it is told to write none: SAM takes twice as long to start without.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.local/bytecode

TOOLS := .local/tools/bin
# Validation needs no account, but SAM requires a region.
SAM := AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 $(TOOLS)/sam

# Installed on first use, because building them takes minutes
CARGO_DENY := .local/cargo/bin/cargo-deny
CARGO_LLVM_COV := .local/cargo/bin/cargo-llvm-cov

.PHONY: help demo invoke stop test test-crates build-for-lambda clippy doc coverage bench audit pictures soak fleet redrive rewrite-answers package install clean FORCE

help:
	@echo "make demo          the whole chain on this machine: a request in a shadow, the device's answer in a shadow"
	@echo "make demo KEEP=1   the same, and leaves it running"
	@echo "make invoke        a function on a sample event, in a container, against what make demo KEEP=1 left (EVENT=events/read.json)"
	@echo "make stop          ends what make demo KEEP=1 left running"
	@echo "make test          everything that is checked before a change lands (AS_DEPLOYED=1 with what sam build builds)"
	@echo "make bench         what a request costs, against the least that a function can be (ROUNDS=40)"
	@echo "make coverage      the share of the code that the tests of the crates run, by file and in total"
	@echo "make audit         the template by a policy checker, the dependencies by cargo-deny (OFFLINE=1 without RustSec)"
	@echo "make soak          2,000 requests while everything goes wrong that can; prints the figures (REQUESTS=2000 DEVICES=50)"
	@echo "make soak SCALE=1  10,000 requests wait over 500 devices while Coiote is away, and it comes back (REQUESTS= DEVICES=)"
	@echo "make fleet         an AWS IoT job over 500 devices, as fast as AWS rolls it out; prints the figures (DEVICES=500)"
	@echo "make pictures      the pictures of the docs, from the demo and the template"
	@echo "make redrive       sends the events in the failure queue through again (STACK=name DRY_RUN=1)"
	@echo "make rewrite-answers   writes the answers in all operation shadows anew, from the ledger (STACK=name)"
	@echo "make package       what a deployment without Rust needs, in dist/: the built functions, the template, lwm2m"
	@echo "make clean         removes what was built and installed"

install:
	@python3 local/install.py

demo: install stop
	@$(TOOLS)/python local/demo.py $(if $(KEEP),--keep)

invoke: install
	@$(TOOLS)/python local/invoke.py $(EVENT) $(if $(FUNCTION),--function $(FUNCTION)) $(if $(AGAIN),--again) $(if $(RUN),--name $(RUN))

stop:
	@python3 local/stop.py

test:
	cargo fmt --all --check
	@# In parallel: one waits for the network, the other for the CPU.
	@$(MAKE) --no-print-directory --jobs=2 install clippy
	@$(MAKE) --no-print-directory doc
	@$(TOOLS)/python local/build.py tests
	@# In parallel: the tests of the crates leave a CPU free. Before the end-to-end tests, because building would slow them down.
	@$(MAKE) --no-print-directory --jobs=2 test-crates build-for-lambda
	$(TOOLS)/python -m pytest -c tests/pytest.ini $(if $(AS_DEPLOYED),--numprocesses=0) tests
	@# Compares the functions' roles with the calls that these tests recorded.
	STRICT=1 $(TOOLS)/python -m pytest -c tests/pytest.ini --numprocesses=0 tests/test_permissions.py

# Make's job server is not for what cargo starts.
test-crates:
	MAKEFLAGS= cargo test --workspace --locked
	$(SAM) validate --lint

build-for-lambda:
	@$(TOOLS)/python local/build.py for-lambda

clippy:
	cargo clippy --workspace --all-targets --locked -- -D warnings

# Fails on links that lead nowhere.
doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# The tools have to be of the LLVM that rustc is built with. What only tests and local tools run is not counted.
coverage: $(CARGO_LLVM_COV)
	@if [ -z "$$LLVM_COV" ] && [ ! -x "$$(rustc --print target-libdir)/../bin/llvm-cov" ]; then \
		echo "llvm-cov and llvm-profdata are missing. Either install the component:"; \
		echo "    rustup component add llvm-tools"; \
		echo "or take those of LLVM $$(rustc --version --verbose | sed -n 's/^LLVM version: //p'), such as Debian's package llvm-22:"; \
		echo "    make coverage LLVM_COV=llvm-cov-22 LLVM_PROFDATA=llvm-profdata-22"; \
		exit 1; \
	fi
	$(CARGO_LLVM_COV) llvm-cov --workspace --exclude coiote-sim --exclude floor --exclude-from-report lwm2m-fuzz --locked --summary-only

$(CARGO_LLVM_COV):
	cargo install cargo-llvm-cov@0.9.1 --locked --root .local/cargo

bench: install
	@$(TOOLS)/python local/bench.py $(if $(ROUNDS),--rounds $(ROUNDS))

# Fetches the known vulnerabilities from github.com/RustSec.
audit: install $(CARGO_DENY)
	@python3 local/install.py policy
	$(TOOLS)/cfn-lint --include-checks I --template template.yaml
	.local/policy/bin/checkov --file template.yaml --framework cloudformation --compact --quiet --skip-download
	$(CARGO_DENY) --locked $(if $(OFFLINE),--offline) check $(if $(OFFLINE),bans licenses sources)

$(CARGO_DENY):
	cargo install cargo-deny@0.20.2 --locked --root .local/cargo

# One of them is taken from a run of the demo.
pictures: install stop
	@$(TOOLS)/python local/pictures.py

soak: install
	@$(TOOLS)/python local/soak.py $(if $(SCALE),--scale) $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(DEVICES),--devices $(DEVICES))

fleet: install
	@$(TOOLS)/python local/fleet.py $(if $(DEVICES),--devices $(DEVICES))

# --workspace selects the same features as every other build, so that shared dependencies are compiled once.
LWM2M := target/debug/lwm2m
$(LWM2M): FORCE
	@cargo build --quiet --locked --workspace --bin lwm2m

redrive: $(LWM2M)
	@$(LWM2M) redrive $(if $(STACK),--stack $(STACK)) $(if $(DRY_RUN),--dry-run)

rewrite-answers: $(LWM2M)
	@$(LWM2M) rewrite-answers $(if $(STACK),--stack $(STACK))

package: install
	@$(TOOLS)/python local/package.py

clean: stop
	rm -rf target dist .aws-sam .local
