# The developers' verbs; without one, they are listed. Each is a thin name for a script.

PYTHON = .venv/bin/python

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

run: ## set up and show two tenants with the same addresses
	@scripts/run

test: ## set up and run every test
	@scripts/test

check: ## the first ring, as CI runs it: style, types, unit, property, fuzz (short)
	@scripts/check

bench: ## list the benchmarks; BENCH="run CASE" runs one
	@$(PYTHON) -m bench $(or $(BENCH),list)

fuzz: ## every fuzz target for SECONDS each (60)
	@NODEPLANE_FUZZ_SECONDS=$(or $(SECONDS),60) $(PYTHON) -m pytest -q --timeout 0 tests/fuzz

docs: ## check the documentation against the code
	@$(PYTHON) -m pytest -q tests/unit/test_docs.py tests/unit/test_docs_guests.py

build: ## compile fastpath in place; NODEPLANE_BUILD=release|debug|trace|sanitize|pure
	@$(PYTHON) setup.py -q build_ext --inplace

sanitize: ## fastpath's tests, every level, under the address and undefined-behaviour sanitizers; threads SECONDS (20) a level
	@NODEPLANE_BUILD=sanitize $(PYTHON) setup.py -q build_ext --inplace
	@tests() { \
		env LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc NODEPLANE_FASTPATH=baseline $$long \
		$(PYTHON) -m pytest -q --timeout 0 "$$@"; \
	}; \
	tests tests/unit/fastpath $$(grep -l fastpath tests/property/test_*.py tests/fuzz/test_*.py) && \
	long=NODEPLANE_FUZZ_SECONDS=$(or $(SECONDS),20) && tests -k for_long tests/unit/fastpath/test_classify_threads.py; \
	status=$$?; $(MAKE) -s build; exit $$status

threads: ## readers and a writer for SECONDS (20) under the thread sanitizer
	@NODEPLANE_BUILD=threads $(PYTHON) setup.py -q build_ext --inplace
	@LD_PRELOAD="$$(gcc -print-file-name=libtsan.so)" TSAN_OPTIONS="report_thread_leaks=0" NODEPLANE_FASTPATH=baseline \
		NODEPLANE_FUZZ_SECONDS=$(or $(SECONDS),20) setarch -R \
		$(PYTHON) -m pytest -q --timeout 0 -k baseline tests/unit/fastpath/test_classify_threads.py \
			tests/unit/fastpath/test_classify_tail.py; \
		status=$$?; $(MAKE) -s build; exit $$status

guided: ## fuzz TARGET (capture) guided by coverage for SECONDS (60), with atheris
	@$(PYTHON) -m tests.fuzz.guided $(or $(TARGET),capture) -max_total_time=$(or $(SECONDS),60)

cross: ## compile the extensions for aarch64, to see that they do
	@scripts/cross

wheel: ## build the wheel into dist/
	@$(PYTHON) -m pip wheel -q --no-build-isolation --no-deps -w dist .

clean: ## remove what was built; .venv and .cache stay
	@rm -rf build dist *.egg-info fastpath/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@rm -f .venv/stamp

.PHONY: help run test check bench fuzz docs build sanitize threads guided cross wheel clean
