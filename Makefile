# make run    the main job: the suite `quick` on this machine's own pages
# make test   the tests
# make check  lint, format, types
# make bench  every figure of speed beside its peer or limit, ten minutes on a quiet machine; bench-smoke: each once, no answers
# make fuzz   a million random steps of each profile on random hosts, in at most an hour: FUZZ_STEPS, FUZZ_SECONDS, FUZZ_JOBS
# make fuzz-sanitized   the same with the engine under sanitizers
# make soak   an hour on one host that is never closed, under sanitizers; memory and descriptors stay flat: SOAK_SECONDS
# make reproduce   every suite that ships again, into results/, with its table and its claims checked: an hour and more
# make fuzz-inputs   a million damaged trace files, and as many of page contents, each in at most an hour; and FUZZ_FILES of each
#             other kind of file (records, run.json, presets, suites, cost models, claims, bundles), cut at every byte, too
# All of them set up a virtual environment in .venv first; nothing else is needed but Python >= 3.11, pip and a C compiler.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

FUZZ_STEPS ?= 1000000
FUZZ_INPUTS ?= 1000000
FUZZ_FILES ?= 20000
FUZZ_SECONDS ?= 3600
FUZZ_JOBS ?= 2
SOAK_SECONDS ?= 3600
FUZZ = --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS)

.PHONY: run test reproduce fuzz fuzz-sanitized fuzz-inputs soak check bench bench-smoke check-dist test-sanitized sanitized clean

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("memvirt needs Python 3.11 or newer; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# Installed again whenever what is compiled or declared has changed.
SOURCES := $(shell find ext -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h') setup.py pyproject.toml

$(VENV)/installed: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable '.[report,codecs]'
	@touch $@

$(VENV)/installed-dev: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $(VENV)/installed $@

run: $(VENV)/installed
	$(BIN)/memvirt run quick

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n auto

reproduce: $(VENV)/installed
	$(BIN)/python results/reproduce.py

check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint ext bench/limits
	$(BIN)/mypy

fuzz-inputs: $(VENV)/installed-dev
	$(BIN)/python tests/fuzz_traces.py --inputs $(FUZZ_INPUTS) $(FUZZ)
	$(BIN)/python tests/fuzz_corpora.py --inputs $(FUZZ_INPUTS) $(FUZZ)
	MEMVIRT_EXAMPLES=$(FUZZ_FILES) $(BIN)/python -m pytest -n $(FUZZ_JOBS) tests/test_damage.py

fuzz: $(VENV)/installed-dev
	$(BIN)/python tests/fuzz_face.py --steps $(FUZZ_STEPS) $(FUZZ)

bench: $(VENV)/installed-dev
	$(BIN)/python bench/ratios.py

bench-smoke: $(VENV)/installed-dev
	$(BIN)/python bench/ratios.py --repeats 1

# The wheel is built from the sdist, installed into an environment of its own, and has to work there. It has no faces for
# tests. Nothing is timed in it, so the compiler need not take its time either (-O0).
check-dist: $(VENV)/installed-dev
	rm -rf build/dist build/dist-venv
	MEMVIRT_CFLAGS=-O0 $(BIN)/python -m build --outdir build/dist . > build/dist.log 2>&1 || { tail -n 40 build/dist.log; exit 1; }
	$(PYTHON) -m venv build/dist-venv
	build/dist-venv/bin/python -m pip install --quiet build/dist/*.whl
	! $(PYTHON) -m zipfile -l build/dist/*.whl | grep engine/testing
	cd build && dist-venv/bin/memvirt --version && dist-venv/bin/memvirt list presets > dist-presets.txt && test -s dist-presets.txt

# The engine under AddressSanitizer and UndefinedBehaviorSanitizer, built in a copy so that the usual build stays.
# (alloc_dealloc_mismatch: libcachesim, a peer of the tests, frees what it made with new when the interpreter ends.
# allocator_may_return_null: tests ask for more memory than there is, and want to be told.)
sanitized: $(VENV)/installed-dev
	rm -rf build/sanitized && mkdir -p build/sanitized
	git ls-files -z | xargs -0 cp --parents -t build/sanitized
	cd build/sanitized && MEMVIRT_SANITIZE=1 MEMVIRT_DEBUG=1 $(abspath $(BIN))/python setup.py --quiet build_ext --inplace

IN_SANITIZED = cd build/sanitized && PYTHONPATH="$$PWD" PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:alloc_dealloc_mismatch=0:allocator_may_return_null=1 \
  LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" $(abspath $(BIN))/python

test-sanitized: sanitized
	$(IN_SANITIZED) -m pytest tests

fuzz-sanitized: sanitized
	$(IN_SANITIZED) tests/fuzz_face.py --steps $(FUZZ_STEPS) $(FUZZ) --out $(abspath build/fuzz)

# What the sanitizer keeps of freed memory, to find who uses it, is bounded: else it would grow for half an hour.
soak: sanitized
	$(subst detect_leaks=0,detect_leaks=0:quarantine_size_mb=16,$(IN_SANITIZED)) tests/soak.py --seconds $(SOAK_SECONDS)

clean:
	rm -rf build dist .venv *.egg-info
	find memvirt -name '*.so' -delete
