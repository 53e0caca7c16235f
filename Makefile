# SPDX-License-Identifier: Apache-2.0
# What developers run; each target is one command that also works by hand.
PYTHON ?= python3
CXX ?= g++

.PHONY: check test bench emulate hls lint-hls overlay generated format clean

check: ## formatting, lint, types, then all tests
	ruff check .
	ruff format --check host tests models bench hls/lint setup.py
	mypy
	$(PYTHON) -m pytest

test:
	$(PYTHON) -m pytest

bench: ## every number of the README, with where it comes from
	failed=0; for name in utilization accuracy transformers graphs qdq speed nest segments compile_time \
	    hls4ml_compare; do \
	    $(PYTHON) bench/$$name.py || failed=1; done; exit $$failed

emulate: ## the embedded network, whole, in emulation
	PYTHONPATH=host $(PYTHON) -m neuralmatrix demo

hls: ## the kernels' own benches, with a plain compiler
	mkdir -p build/tb
	for bench in hls/tb/*.cpp; do \
	    out=build/tb/$$(basename $$bench .cpp); \
	    $(CXX) -std=c++14 -O2 -Wall -Wno-unused-label -Ihls/include $$bench hls/src/*.cpp -o $$out && $$out || exit 1; \
	done

lint-hls: ## can the kernels be synthesized? needs clang++
	$(PYTHON) hls/lint

overlay:
	@echo "Building overlays is not part of this version; the board files are in overlay/boards." >&2
	@exit 1

generated: ## files made from isa.py and the board files
	PYTHONPATH=host $(PYTHON) -m neuralmatrix.codegen
	PYTHONPATH=host $(PYTHON) -m neuralmatrix.listing > docs/isa.md

format:
	ruff check --fix .
	ruff format host tests models bench hls/lint setup.py
	clang-format -i hls/include/nm/*.h hls/src/*.cpp hls/tb/*.cpp hls/emulation/*.cpp

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis host/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
