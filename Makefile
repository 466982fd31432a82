# Two commands do everything on a fresh machine with Python 3.11 or later:
#
#   make demo    install, make a demo PKI, issue the sample devices, verify them
#   make test    everything that is tested: style, types, import rule, and all tests on the built wheel
#
# Everything lives in .venv, dist and demo, which `make clean` removes. The network is used by pip alone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The virtual environment is its own: nothing of the caller's Python may shine through.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

# The first that runs and is new enough: a name alone may be a shim that leads nowhere.
PYTHON ?= $(shell for name in python3.11 python3 python3.12 python3.13; do \
  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && command -v "$$name" && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Folders too: one that lost a file is newer than the wheel.
SOURCES := pyproject.toml README.md LICENSE docs/batch-issuer.1 $(shell find batch_issuer -name __pycache__ -prune -o -print)

# The tests must meet the wheel and not the sources beside them: pytest and all that it starts run in tests/, where no
# batch_issuer is in the way. BATCH_ISSUER_TEST_WHEEL turns on the test of just that.
PYTEST := cd tests && BATCH_ISSUER_TEST_WHEEL=1 ../$(BIN)/pytest

KILLS ?= 200
FUZZ_SECONDS ?= 60

.PHONY: help demo test check bench bench-short peers man pictures chaos syscalls fuzz clean

help:
	@echo 'make demo         install, make a demo PKI, issue the sample devices, verify them'
	@echo 'make test         everything that is tested, on the built wheel'
	@echo 'make check        style, types and the import rule: the first part of make test'
	@echo 'make chaos        faults at length, in ten minutes: up to KILLS=$(KILLS) random kills of each format'
	@echo 'make syscalls     kill -9 at every system call, and power cuts of a real ext4; needs strace, and root to mount'
	@echo 'make fuzz         changed octets to all that is read: FUZZ_SECONDS=$(FUZZ_SECONDS) for each reader'
	@echo 'make bench-short  the speed beside its floor, as CI checks it'
	@echo 'make bench        the long benchmark, with table and chart'
	@echo 'make peers        what people use today beside it: table and chart, less than 6 minutes'
	@echo 'make pictures     the picture of the rooms, out of the code'
	@echo 'make man          the man page, out of the help'
	@echo 'make clean        remove .venv, dist and demo'

# Installing ---------------------------------------------------------------------------------------------------------

$(VENV)/.created:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
	  echo 'error: Python 3.11 or later is needed; found: $(or $(PYTHON),none)' >&2; \
	  echo 'hint: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo 'Making a virtual environment in $(VENV)'
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@$(PIP) install 'hatchling>=1.26'
	@touch $@

# Built, then installed: what users get, and not the sources in place.
$(VENV)/.installed: $(SOURCES) | $(VENV)/.created
	@echo 'Building and installing batch-issuer'
	@rm -rf dist
	@$(PIP) wheel --no-build-isolation --no-deps --wheel-dir dist .
	@$(PIP) uninstall --yes batch-issuer 2>/dev/null
	@$(PIP) install dist/*.whl
	@touch $@

$(VENV)/.tools: pyproject.toml | $(VENV)/.installed
	@echo 'Installing the tools for tests and checks'
	@wheel=$$(ls dist/*.whl) && $(PIP) install "$$wheel[check,test]"
	@touch $@

$(VENV)/.charts: pyproject.toml | $(VENV)/.installed
	@echo 'Installing the tools for charts'
	@wheel=$$(ls dist/*.whl) && $(PIP) install "$$wheel[bench]"
	@touch $@

# A look at it -------------------------------------------------------------------------------------------------------

demo: $(VENV)/.installed
	@rm -rf demo && mkdir -m 700 demo
	@PATH="$(CURDIR)/$(BIN):$$PATH"; \
	run() { echo; echo "$$ $$*"; "$$@"; }; \
	device=$$(sed -n '2s/,.*//p' sample_data/devices.csv); \
	run batch-issuer ca create demo/pki --factory acme-demo \
	  --gateway-host gateway.acme-demo.example --ostree-host ostree.acme-demo.example; \
	run batch-issuer issue --manifest sample_data/devices.parquet --pki demo/pki --out demo/issued --days 3650; \
	run batch-issuer verify demo/issued --pki demo/pki; \
	run batch-issuer extract demo/issued $$device --to demo/device; \
	if command -v openssl > /dev/null; then \
	  run openssl verify -purpose sslclient -CAfile demo/pki/factory_ca.pem -untrusted demo/pki/local-ca.pem \
	    demo/device/$$device/client.pem; \
	fi; \
	run ls -l demo/device/$$device; \
	echo; \
	echo 'What to look at:'; \
	echo "  demo/device/$$device/"; \
	echo "                                one device's bundle, ready for its /var/sota"; \
	echo '  demo/issued/bundles/          the bundles of all 250 devices'; \
	echo '  demo/issued/manifest.parquet  what was issued: serials, digests, places'; \
	echo '  demo/issued/run.json          what was asked'; \
	echo '  demo/pki/                     the factory: its root, its device CA, its gateway'; \
	echo; \
	echo 'What to try next:'; \
	echo '  $(BIN)/batch-issuer issue --manifest sample_data/devices-bad.csv --pki demo/pki --out demo/bad'; \
	echo '  $(BIN)/batch-issuer --help'

# Is it right? -------------------------------------------------------------------------------------------------------

# Some tests wait for others' time to pass: one process more than there are cores.
test: check
	$(PYTEST) --numprocesses $$(($$(nproc) + 1)) --dist worksteal

check: $(VENV)/.installed $(VENV)/.tools
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(PYTEST) --quiet test_imports.py

chaos: $(VENV)/.installed $(VENV)/.tools
	@echo 'Two halves at once; what is not longer here than in make test is left to that'
	@export BATCH_ISSUER_CHAOS=$(KILLS); status=0; \
	($(PYTEST) --quiet test_crash.py -k random_instants) & \
	($(PYTEST) --quiet test_crash.py test_faults.py test_hostile.py \
	  -k 'not random_instants and not finds and not is_found and not csrs') || status=$$?; \
	wait $$! || status=$$?; exit $$status

syscalls: $(VENV)/.installed $(VENV)/.tools
	export BATCH_ISSUER_CHAOS=$(KILLS) && $(PYTEST) --quiet --override-ini faulthandler_timeout=900 test_syscalls.py test_power_image.py

fuzz: $(VENV)/.installed $(VENV)/.tools
	export FUZZ_SECONDS=$(FUZZ_SECONDS) && $(PYTEST) test_fuzz.py

# Is it fast? --------------------------------------------------------------------------------------------------------

# BENCH holds more options: make bench BENCH='--devices 1000000 --dir /mnt/disk'
bench: $(VENV)/.installed $(VENV)/.charts
	$(BIN)/python -m benchmarks $(BENCH)
	$(BIN)/python -m benchmarks --update-readme

bench-short: $(VENV)/.installed
	$(BIN)/python -m benchmarks --check $(BENCH)

# What is installed of openssl, certtool (gnutls-bin), easy-rsa, cfssl (golang-cfssl), trustme; the others are skipped.
peers: $(VENV)/.installed $(VENV)/.charts
	$(BIN)/python -m benchmarks.peers
	$(BIN)/python -m benchmarks.peers --update-readme

# What it looks like -------------------------------------------------------------------------------------------------

pictures: $(VENV)/.installed $(VENV)/.tools
	export BATCH_ISSUER_WRITE_DOCS=1 && $(PYTEST) --quiet test_picture.py

man: $(VENV)/.installed
	$(BIN)/python docs/make_man_page.py

clean:
	rm -rf $(VENV) dist build demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
