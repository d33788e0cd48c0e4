# `make run` and `make deb` need Debian's packages only, `make test` needs PyPI too. Each installs what
# is missing first, as root or with sudo, and is quick when it is run again.
VENV   := .venv
PYTHON := /usr/bin/python3

# What the programs run on.
RUN_PACKAGES  := python3 python3-systemd python3-yaml python3-rich
# The venv, which sees Debian's modules; booted Debian systems, two hosts in network namespaces, the
# foreign clients of the tests, and what the man pages and completions are for; gcc and what follows
# compile what ackd is measured with.
TEST_PACKAGES := $(RUN_PACKAGES) python3-venv python3-daemon \
	mmdebstrap systemd-container iproute2 netbase netcat-openbsd php-cli socat scdoc man-db zsh \
	gcc libc6-dev libsystemd-dev

# How many tests run at a time: more than there are processors, since they wait, for deadlines,
# restarts and boots, as long as they work.
WORKERS := 3

.PHONY: run test obstacle style unit bases system campaign bench bench-quick picture deb man completions clean

# ackd itself reports that it listens, once it does.
run:
	@packaging/install-missing $(RUN_PACKAGES)
	@echo 'Once ackd listens, send a line from another terminal:  python3 -m ackd.ctl send "hello"'
	@exec $(PYTHON) -m ackd --terminal --config etc/ackd.yaml

test: obstacle style
	$(MAKE) --no-print-directory --jobs=2 unit bases
	$(MAKE) --no-print-directory system

# Said at once: which tests can't run here, and why.
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

# The Debian systems that are booted; they are kept in the user's cache.
bases: $(VENV)/.test
	$(VENV)/bin/python -m tests.system.support.build_bases

# In the order that they are in: the modules with the most tests are not those that take longest.
system: $(VENV)/.test
	$(VENV)/bin/python -m pytest --verbose -n $(WORKERS) --no-loadscope-reorder tests/system

# Long campaigns, simulations and fuzzing, about an hour; writes tests/system/RESULTS.md.
campaign: $(VENV)/.test
	ACKD_CAMPAIGN=1 $(VENV)/bin/python -m pytest -rP \
		tests/system/test_campaigns.py tests/simulation tests/fuzz

# Measures ackd beside the same exchange in C and in other Python: about ten minutes, as root.
# Writes tests/bench/RESULTS.md and its chart. `bench-quick` takes a minute, and only prints. With
# ACKD_BEFORE=DIR both also measure the ackd of another checkout, and print the ratios to it.
bench: $(VENV)/.test
	$(VENV)/bin/python -m tests.bench

bench-quick: $(VENV)/.test
	$(VENV)/bin/python -m tests.bench --quick

# The picture in README: a real `ackctl probe` on a broken path, in network namespaces. Needs root.
picture: $(VENV)/.test
	$(VENV)/bin/python -m tests.picture

deb:
	@packaging/make-deb

# Read one with `man -l build/man/ackd.8`.
man:
	@packaging/install-missing scdoc man-db
	mkdir -p build/man
	for page in man/*.scd; do \
		scdoc <"$$page" >"build/man/$$(basename "$$page" .scd)" || exit; done

completions: $(VENV)/.test
	$(VENV)/bin/python packaging/completions.py build/completions

$(VENV)/.test: pyproject.toml
	@packaging/install-missing $(TEST_PACKAGES)
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[test,style,bench]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
