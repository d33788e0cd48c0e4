# `make run` and `make deb` need only Debian's packages; `make test` needs PyPI too. Each of them first
# installs missing packages, as root or with sudo.
VENV   := .venv
PYTHON := /usr/bin/python3

# Packages that ackd and ackctl need.
RUN_PACKAGES  := python3 python3-systemd python3-yaml python3-rich
# Packages of the tests: for the venv, which sees Debian's modules; for booted Debian systems and
# network namespaces; other clients; readers of the man pages and completions; for virtual machines.
# gcc and the libraries compile the programs of the benchmark.
TEST_PACKAGES := $(RUN_PACKAGES) python3-venv python3-daemon \
	mmdebstrap systemd-container iproute2 netbase netcat-openbsd php-cli socat scdoc man-db zsh \
	qemu-system-x86 busybox-static e2fsprogs openssl gcc libc6-dev libsystemd-dev \
	libssl-dev stunnel4 systemd-journal-remote

# How many tests run at a time. Half of the time a test waits for deadlines, restarts and boots, so
# this is more than the number of processors.
WORKERS := 3

.PHONY: run test obstacle style unit bases system campaign bench bench-quick picture deb man completions clean

# ackd itself logs when it listens.
run:
	@packaging/install-missing $(RUN_PACKAGES)
	@echo 'Once ackd listens, send a line from another terminal:  python3 -m ackd.ctl send "hello"'
	@exec $(PYTHON) -m ackd --terminal --config etc/ackd.yaml

test: obstacle style
	$(MAKE) --no-print-directory --jobs=2 unit bases
	$(MAKE) --no-print-directory system

# Report first which tests can't run on this host, and why.
obstacle:
	@reason=$$(tests/support/obstacle) || { \
	echo "Here no test can make a network or boot a Debian system: $$reason."; \
	echo "Those tests are skipped. They need root on a machine or a virtual machine, not in a"; \
	echo "plain chroot or a container. The other tests run."; }

style: $(VENV)/.test
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy

unit: $(VENV)/.test
	$(VENV)/bin/python -m coverage run --branch --include=ackd/protocol.py -m pytest tests/unit/test_protocol.py
	$(VENV)/bin/python -m coverage report --fail-under=100 --show-missing
	$(VENV)/bin/python -m pytest --verbose -n $(WORKERS) --ignore=tests/system

# Build the Debian systems that the tests boot, and kernels; the user's cache keeps them.
bases: $(VENV)/.test
	$(VENV)/bin/python -m tests.system.support.build_bases

# Keep the order of the modules: those with the most tests do not take longest.
system: $(VENV)/.test
	$(VENV)/bin/python -m pytest --verbose -n $(WORKERS) --no-loadscope-reorder tests/system

# Run long campaigns, simulations and fuzzing, about an hour, and write tests/system/RESULTS.md.
campaign: $(VENV)/.test
	ACKD_CAMPAIGN=1 $(VENV)/bin/python -m pytest -rP \
		tests/system/test_campaigns.py tests/system/test_fleet.py \
		tests/system/test_power.py tests/simulation tests/fuzz

# Compare ackd with servers in C, other Python servers, Redis and beanstalkd: about ten minutes, as
# root. Write tests/bench/RESULTS.md and its chart. `bench-quick` takes two minutes, and only prints.
# With ACKD_BEFORE=DIR both also measure the ackd of another checkout, and print the ratios to it.
bench: $(VENV)/.test
	$(VENV)/bin/python -m tests.bench

bench-quick: $(VENV)/.test
	$(VENV)/bin/python -m tests.bench --quick

# Make the picture of README: a real `ackctl probe` on a broken path in network namespaces, as root.
picture: $(VENV)/.test
	$(VENV)/bin/python -m tests.picture

deb:
	@packaging/make-deb

# Show a page with `man -l build/man/ackd.8`.
man:
	@packaging/install-missing scdoc man-db
	mkdir -p build/man
	for page in man/*.scd; do \
		scdoc <"$$page" >"build/man/$$(basename "$$page" .scd)" || exit; done

completions: $(VENV)/.test
	$(VENV)/bin/python packaging/completions.py build/completions

$(VENV)/.test: pyproject.toml Makefile
	@packaging/install-missing $(TEST_PACKAGES)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[test,style,bench]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
