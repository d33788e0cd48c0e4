# Two commands do everything: `make run` and `make test`. Both install what is missing first.
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VENV   := .venv
PYTHON := /usr/bin/python3

# What the programs run on, from Debian itself; the venv sees it and adds the tools of the tests.
RUN_PACKAGES  := python3-venv python3-systemd python3-daemon python3-yaml python3-rich
# Booted Debian systems, two hosts in network namespaces, the foreign clients of the tests, and what
# the man pages and completions are for; gcc and what follows compile what ackd is measured with.
TEST_PACKAGES := mmdebstrap systemd-container iproute2 netcat-openbsd php-cli scdoc man-db zsh \
	gcc libc6-dev libsystemd-dev

# What makes the Debian package; what it needs for that itself, debian/control says.
DEB_PACKAGES  := dpkg-dev build-essential debhelper

# How many tests run at a time: more than there are processors, since they wait, for deadlines,
# restarts and boots, as long as they work.
WORKERS := 3

.PHONY: run test style unit bases system campaign bench bench-quick deb man completions clean

run: $(VENV)/.run
	@echo
	@echo '  ackd serves on 127.0.0.1 port 10008 and shows here what arrives. Ctrl-C ends it.'
	@echo '  In another terminal:  $(VENV)/bin/ackctl send "hello"'
	@echo
	@$(VENV)/bin/ackd --terminal --config etc/ackd.yaml

test: style
	$(MAKE) --no-print-directory --jobs=2 unit bases
	$(MAKE) --no-print-directory system

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
	$(VENV)/bin/python -m tests.system.bases

# In the order that they are in: the modules with the most tests are not those that take longest.
system: $(VENV)/.test
	$(VENV)/bin/python -m pytest --verbose -n $(WORKERS) --no-loadscope-reorder tests/system

# The long form of what `make test` has in short: about an hour; writes tests/system/RESULTS.md.
campaign: $(VENV)/.test
	ACKD_CAMPAIGN=1 $(VENV)/bin/python -m pytest -rP \
		tests/system/test_campaigns.py tests/simulation tests/fuzz

# How fast it is, beside the same in C and in other Python: some ten minutes, as root. Writes
# tests/bench/RESULTS.md and its chart; the quick one takes a minute, and only prints.
bench: $(VENV)/.test
	$(VENV)/bin/python -m tests.bench

bench-quick: $(VENV)/.test
	$(VENV)/bin/python -m tests.bench --quick

# Made in a copy: of the files as they are here, committed or not, and of nothing else. The PATH is
# that of Debian's builders, past any other Python on this machine.
deb:
	$(call install,$(DEB_PACKAGES))
	dpkg-checkbuilddeps 2>/dev/null || \
		{ $(SUDO) apt-get update -q && $(SUDO) apt-get build-dep -q -y --no-install-recommends .; }
	copy=$$(mktemp -d) && trap 'rm -rf "$$copy"' EXIT && mkdir -p dist "$$copy/ackd" && \
	git ls-files -z --cached --others --exclude-standard | \
		xargs -0 cp --no-dereference --parents --target-directory="$$copy/ackd" && \
	(cd "$$copy/ackd" && PATH=/usr/sbin:/usr/bin:/sbin:/bin dpkg-buildpackage -us -uc) && \
	mv "$$copy"/ackd_* dist/

# Read one with `man -l build/man/ackd.8`.
man:
	$(call install,scdoc man-db)
	mkdir -p build/man
	for page in man/*.scd; do \
		scdoc <"$$page" >"build/man/$$(basename "$$page" .scd)" || exit; done

completions: $(VENV)/.test
	$(VENV)/bin/python packaging/completions.py build/completions

$(VENV)/.run: pyproject.toml
	$(call install,$(RUN_PACKAGES))
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(call install,$(TEST_PACKAGES))
	$(VENV)/bin/pip install --quiet --editable '.[test,style,bench]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info

# Asks apt only where something is missing, so that a second run needs neither network nor root.
installed = dpkg-query -W -f '$${db:Status-Status}\n' $(1) 2>/dev/null | grep -cx installed
install = [ "$$($(call installed,$(1)))" = $(words $(1)) ] || \
	{ $(SUDO) apt-get update -q && $(SUDO) apt-get install -q -y --no-install-recommends $(1); }
