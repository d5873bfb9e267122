# The two commands of the README are `make demo` and `make test`. Both need Linux, Rust, Python 3 with venv, a C compiler and
# make, and nothing else: they install the rest into .local/ and end every process that they start.

# The functions are built for the local stack in the way that takes the least time; with AS_DEPLOYED=1 by sam build, as by
# those who deploy them.
export AS_DEPLOYED

TOOLS := .local/tools/bin
# Validating is done without an account; only SAM wants a region for it.
SAM := AWS_DEFAULT_REGION=us-east-1 SAM_CLI_TELEMETRY=0 $(TOOLS)/sam

# Only `make audit` needs it, and building it takes minutes.
CARGO_DENY := .local/cargo/bin/cargo-deny

.PHONY: help demo invoke stop test clippy bench audit pictures soak fleet redrive rewrite-answers package install clean FORCE

help:
	@echo "make demo          the whole chain on this machine: a request in a shadow, the device's answer in a shadow"
	@echo "make demo KEEP=1   the same, and leaves it running"
	@echo "make invoke        a function on a sample event, in a container, against what make demo KEEP=1 left (EVENT=events/read.json)"
	@echo "make stop          ends what make demo KEEP=1 left running"
	@echo "make test          everything that is checked before a change lands (AS_DEPLOYED=1 with what sam build builds)"
	@echo "make bench         what a request costs, against the least that a function can be (ROUNDS=40)"
	@echo "make audit         the template by a policy checker, the dependencies by cargo-deny (OFFLINE=1 without RustSec)"
	@echo "make soak          2,000 requests while everything goes wrong that can; prints the figures (REQUESTS=2000 DEVICES=50)"
	@echo "make soak SCALE=1  10,000 requests wait over 500 devices while Coiote is away, and it comes back (REQUESTS= DEVICES=)"
	@echo "make fleet         an AWS IoT job over 500 devices, as fast as AWS rolls it out; prints the figures (DEVICES=500)"
	@echo "make pictures     the pictures of the docs, from the demo and the template"
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
	@# Side by side: one waits for the network, the other for the CPU.
	@$(MAKE) --no-print-directory --jobs=2 install clippy
	@$(TOOLS)/python local/build.py tests
	cargo test --workspace --locked
	$(SAM) validate --lint
	@# Before the tests of the whole, because building would slow them down.
	@$(TOOLS)/python local/build.py for-lambda
	$(TOOLS)/python -m pytest -c tests/pytest.ini $(if $(AS_DEPLOYED),--numprocesses=0) tests
	@# The functions' roles against all that these have called
	STRICT=1 $(TOOLS)/python -m pytest -c tests/pytest.ini --numprocesses=0 tests/test_permissions.py

clippy:
	cargo clippy --workspace --all-targets --locked -- -D warnings

bench: install
	@$(TOOLS)/python local/bench.py $(if $(ROUNDS),--rounds $(ROUNDS))

# The known vulnerabilities are fetched from github.com/RustSec.
audit: install $(CARGO_DENY)
	@python3 local/install.py policy
	$(TOOLS)/cfn-lint --include-checks I --template template.yaml
	.local/policy/bin/checkov --file template.yaml --framework cloudformation --compact --quiet --skip-download
	$(CARGO_DENY) --locked $(if $(OFFLINE),--offline) check $(if $(OFFLINE),bans licenses sources)

$(CARGO_DENY):
	cargo install cargo-deny@0.20.2 --locked --root .local/cargo

# The demo runs for one of them.
pictures: install stop
	@$(TOOLS)/python local/pictures.py

soak: install
	@$(TOOLS)/python local/soak.py $(if $(SCALE),--scale) $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(DEVICES),--devices $(DEVICES))

fleet: install
	@$(TOOLS)/python local/fleet.py $(if $(DEVICES),--devices $(DEVICES))

# With the features of the whole workspace, as everything else is built: so what they share is compiled once.
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
