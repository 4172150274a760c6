# The targets a user needs. Each installs what it lacks from Debian's packages and says so.
#
#   make demo       the lab, the daemon and the examples, step by step; DEMO= takes its flags, such
#                   as --keep, --topology bridged or --attach clsact
#   make test       everything that is tested; as root, since it makes network namespaces
#   make soak       floods, loads and kills at their full length: about 6 minutes
#   make fuzz       each fuzz target for FUZZ_SECONDS (20), which needs a nightly toolchain, and the
#                   property tests on cases of their own
#   make test-kernel  the demo on Debian's 6.1 kernel, emulated; not part of make test
#   make bench      what fqdnd costs, beside dnsdist, nginx and a bare forwarder, in six minutes
#   make check      formatting, lints, documentation, imports, duplicates
#   make image      the image that nodes of a cluster run, as the archive target/fqdnd.tar
#   make install    programs, unit, manual pages and completions; DESTDIR= and PREFIX= as usual
#   make uninstall  takes them away again, but not the configuration
#   make clean      removes what was built
#
# PROFILE=release builds demo and test as they are installed. CLANG= names the clang to use.

PROFILE ?= dev
PREFIX ?= /usr/local
CARGO ?= cargo
# Property tests draw the same cases in every run, but for those of `make fuzz`.
export PROPTEST_RNG_SEED ?= 20260101
export PATH := $(PATH):$(HOME)/.cargo/bin

target = $(or $(CARGO_TARGET_DIR),target)
built = $(target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
released = $(target)/release
as_root = $(if $(filter 0,$(shell id -u)),,sudo -E)
test_as_root = $(if $(as_root),--config "target.'cfg(unix)'.runner='$(as_root)'")
bindir = $(DESTDIR)$(PREFIX)/bin
unitdir = $(DESTDIR)$(PREFIX)/lib/systemd/system
sharedir = $(DESTDIR)$(PREFIX)/share
mandir = $(sharedir)/man
confdir = $(DESTDIR)/etc/fqdnd

.PHONY: all bench build check clean demo fuzz image install needs soak test test-kernel uninstall
.NOTPARALLEL:

all: build

needs:
	@scripts/install-needs

build: needs
	$(CARGO) build --locked --workspace --bins --profile $(PROFILE)

demo: build
	$(as_root) $(built)/fqdnd-lab demo $(DEMO)

# Every selection of packages has features of its own, and builds what it depends on anew: so all
# tests are built and run as one selection, the whole workspace.
#
# Each of the lab's tests has a node of its own and waits most of the time, so some run side by side.
# Those that load the machine, measure, or look at all of it have it alone.
alone = demo floods load setup_time soak tidiness
tests = $(sort $(basename $(notdir $(wildcard */tests/*.rs dnsproxy/core/tests/*.rs))) \
	$(foreach main,$(wildcard */tests/*/main.rs),$(notdir $(patsubst %/main.rs,%,$(main)))))
run_tests = $(CARGO) test --locked --workspace --profile $(PROFILE) --no-fail-fast $(test_as_root)

test: needs
	$(CARGO) build --locked --workspace --all-targets --profile $(PROFILE)
	$(run_tests) --lib --bins $(patsubst %,--test %,$(filter-out $(alone),$(tests))) -- --test-threads=3
	$(run_tests) $(alone:%=--test %) -- --test-threads=1
	$(run_tests) --doc

fuzz: needs
	scripts/fuzz
	scripts/fresh-cases $(run_tests) --quiet --lib

test-kernel: build
	scripts/test-kernel $(built)

bench:
	@scripts/install-needs bench
	$(CARGO) build --locked --release --package fqdnd --package fqdnctl --package fqdnd-l7proxy --package fqdnd-benches
	$(as_root) env FQDND_LAB_READY_SECONDS=300 $(released)/fqdnd-bench

soak: needs
	$(CARGO) build --locked --workspace --all-targets --profile $(PROFILE)
	FQDND_SOAK=1 $(run_tests) --test soak --test floods -- --test-threads=1 --nocapture

# The fuzz targets run on nightly only, but stable reads them; their lock file follows the others'.
check: needs
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --manifest-path fuzz/Cargo.toml --target-dir $(target) --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	scripts/check-imports
	scripts/check-duplicates

image: needs
	$(CARGO) build --locked --release --package fqdnd --package fqdnctl --package fqdnd-l7proxy
	$(as_root) scripts/build-image $(released) $(target)/fqdnd.tar

# A configuration that is there already is the user's.
install: needs
	$(CARGO) build --locked --release --package fqdnd --package fqdnctl --package fqdnd-l7proxy
	install -D -m 0755 $(released)/fqdnd $(bindir)/fqdnd
	install -D -m 0755 $(released)/fqdnd-l7 $(bindir)/fqdnd-l7
	install -D -m 0755 $(released)/fqdnctl $(bindir)/fqdnctl
	ln -sfn fqdnctl $(bindir)/kubectl-fqdn
	install -d $(confdir)/manifests
	test -e $(confdir)/fqdnd.yaml || install -m 0644 deploy/fqdnd.yaml $(confdir)/fqdnd.yaml
	install -d $(unitdir) $(mandir)/man1 $(mandir)/man8
	sed 's|/usr/bin/|$(PREFIX)/bin/|' deploy/fqdnd.service > $(unitdir)/fqdnd.service
	$(released)/fqdnctl manual $(mandir)/man1
	$(released)/fqdnd manual $(mandir)/man8
	install -d $(sharedir)/bash-completion/completions \
		$(sharedir)/zsh/site-functions $(sharedir)/fish/vendor_completions.d
	for program in fqdnd fqdnctl; do \
		$(released)/$$program completion bash > $(sharedir)/bash-completion/completions/$$program && \
		$(released)/$$program completion zsh > $(sharedir)/zsh/site-functions/_$$program && \
		$(released)/$$program completion fish > $(sharedir)/fish/vendor_completions.d/$$program.fish \
			|| exit 1; \
	done

# What is enforced is taken away by `fqdnd detach`, before.
uninstall:
	rm -f $(addprefix $(bindir)/,fqdnd fqdnd-l7 fqdnctl kubectl-fqdn) $(unitdir)/fqdnd.service
	rm -f $(mandir)/man1/fqdnctl.1 $(mandir)/man1/fqdnctl-*.1
	rm -f $(mandir)/man8/fqdnd.8 $(mandir)/man8/fqdnd-*.8
	rm -f $(addprefix $(sharedir)/bash-completion/completions/,fqdnd fqdnctl) \
		$(addprefix $(sharedir)/zsh/site-functions/,_fqdnd _fqdnctl) \
		$(patsubst %,$(sharedir)/fish/vendor_completions.d/%.fish,fqdnd fqdnctl)

clean:
	$(CARGO) clean
