# Two commands do everything: `make run` and `make test`. Both install what is missing first.
SUDO   := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
VENV   := .venv
PYTHON := /usr/bin/python3

# What the programs run on, from Debian itself; the venv sees it and adds the tools of the tests.
RUN_PACKAGES  := python3-venv python3-systemd python3-daemon python3-yaml
# Booted Debian systems, two hosts in network namespaces, and the foreign clients of the tests.
TEST_PACKAGES := mmdebstrap systemd-container iproute2 netcat-openbsd php-cli

.PHONY: run test style unit system clean

run: $(VENV)/.run
	@echo
	@echo '  ackd serves on 127.0.0.1 port 10008 and shows here what arrives. Ctrl-C ends it.'
	@echo '  In another terminal:  $(VENV)/bin/ackctl send "hello"'
	@echo
	@$(VENV)/bin/ackd --terminal --config etc/ackd.yaml

test: style unit system

style: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

unit: $(VENV)/.test
	$(VENV)/bin/coverage run --branch --include=ackd/protocol.py -m pytest tests/test_protocol.py
	$(VENV)/bin/coverage report --fail-under=100 --show-missing
	$(VENV)/bin/pytest --ignore=tests/system

system: $(VENV)/.test
	$(VENV)/bin/pytest tests/system

$(VENV)/.run: pyproject.toml
	$(call install,$(RUN_PACKAGES))
	$(PYTHON) -m venv --system-site-packages $(VENV)
	$(VENV)/bin/pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(call install,$(TEST_PACKAGES))
	$(VENV)/bin/pip install --quiet --editable '.[test,style]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info

# Asks apt only where something is missing, so that a second run needs neither network nor root.
install = dpkg-query -W $(1) >/dev/null 2>&1 || \
	{ $(SUDO) apt-get update -q && $(SUDO) apt-get install -q -y --no-install-recommends $(1); }
