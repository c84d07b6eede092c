# make demo    build, start four simulated cameras, record them, serve the page
# make faults  broken disks, killed recoveries, at length; mounts need root
# make web     build the page from playback/web again; needs npm
# make test    everything: lint, types, stubs, layering, unit, end to end
# Needs Python 3.11 or newer (with venv and headers), a C compiler and make.

PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
HOUSES := base chunks clips evidence export index keyreel native playback recorder rtsp simcam sources
COMPILED := $(wildcard native/*.pyx native/*.pxd native/*.h)
PYTEST ?=

.PHONY: build demo test faults hlsjs web webtools lint types check bench bench-smoke fuzz dist clean help
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \(make\)/\1/p' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "venv failed; on Debian: apt-get install python3-venv python3-dev"; exit 1; }
	$(BIN)/python -m pip install --quiet --upgrade pip

# Product alone: what `make demo` needs.
$(VENV)/.built: $(BIN)/python pyproject.toml setup.py $(COMPILED)
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

# Product and the tools of `make test` and `make bench`.
$(VENV)/.tested: $(VENV)/.built
	$(BIN)/python -m pip install --quiet --group test
	@touch $@

build: $(VENV)/.built

demo: $(VENV)/.built
	@exec $(BIN)/keyreel demo

test: lint types
	$(BIN)/python -m pytest $(PYTEST)

# Broken disks and killed recoveries at length; `make test` has the shorter part.
faults: $(VENV)/.tested
	KEYREEL_FAULTS=long $(BIN)/python -m pytest tests/faults $(PYTEST)

# What one test plays HLS with; nothing of it goes into the product.
build/npm/node_modules/hls.js/package.json:
	npm install --silent --no-save --no-audit --no-fund --prefix build/npm hls.js@1.7.4

hlsjs: build/npm/node_modules/hls.js/package.json

# The page's sources and their tools; what they build is committed, so that only who changes the page needs npm.
playback/web/node_modules/.package-lock.json: playback/web/package-lock.json
	cd playback/web && npm ci --ignore-scripts --silent --no-audit --no-fund

webtools: playback/web/node_modules/.package-lock.json

web: webtools
	cd playback/web && npm run --silent build

lint: $(VENV)/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" cython-lint native

types: $(VENV)/.tested
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --concise --ignore-missing-stub --ignore-disjoint-bases --allowlist tests/stubtest_allowlist.txt \
		--ignore-unused-allowlist $(patsubst native/%.pyx,native.%,$(wildcard native/*.pyx))

bench: $(VENV)/.tested
	$(BIN)/python -m pytest bench --benchmark-only --benchmark-json=bench/results/latest.local.json $(PYTEST)

# Small sizes, some seconds in all: shows that the benches run and what order the figures have.
bench-smoke: $(VENV)/.tested
	KEYREEL_BENCH=smoke $(BIN)/python -m pytest bench --benchmark-only --benchmark-columns=min,median,max,rounds $(PYTEST)

# Needs clang and its runtimes (on Debian: libclang-rt-dev). FUZZ_SECONDS is of each target, FUZZ names some and may add options of tests/fuzz/run.py.
FUZZ_SECONDS ?= 600
FUZZ ?=
fuzz: $(VENV)/.tested
	$(BIN)/python -m pip install --quiet --group fuzz
	PYTHONPATH=. $(BIN)/python -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(FUZZ)

dist: $(VENV)/.tested
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf build dist playback/web/node_modules *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find $(HOUSES) tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -f native/*.c native/*.so $(VENV)/.built $(VENV)/.tested
