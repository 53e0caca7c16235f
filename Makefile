# SPDX-License-Identifier: Apache-2.0
# What developers run; each target is one command that also works by hand.
PYTHON ?= python3
CXX ?= g++

# Of `make hls`, `make overlay` and `make first-light`, for example
# `make overlay BOARD=pynq-z2 JOBS=8 FLAGS=--cosim`.
BOARD ?= pynq-z2
JOBS ?= 4
FLAGS ?=
BOARD_HOST ?=

COUNTS = ../host/neuralmatrix/hardware/counts.json

CPP = hls/include/nm/*.h hls/src/*.cpp hls/tb/*.h hls/tb/*.cpp hls/emulation/*.h hls/emulation/*.cpp \
    hls/rtl/include/*.h hls/rtl/kernels/*.h hls/rtl/kernels/*.cpp hls/threads/*.cpp \
    hls/threads/include/nm/*.h
BUILD = PYTHONPATH=host:. $(PYTHON) -m overlay.build

.PHONY: check test test-all bench bench-networks conformance architectures formats docs dist wheel emulate csim hls lint-hls threads rtl rtl-quick overlay first-light generated format clean

check: ## formatting, lint, types, then all tests
	ruff check .
	ruff format --check .
	clang-format --dry-run --Werror $(CPP)
	mypy
	$(PYTHON) -m pytest

test: ## the quick tests, of every package some
	$(PYTHON) -m pytest -m "not slow"

test-all: ## all tests, as CI runs them
	$(PYTHON) -m pytest

bench: ## the figures of docs/benchmarks.md, each with where it comes from
	failed=0; for name in utilization rates accuracy transformers graphs qdq speed nest segments compile_time \
	    hls4ml_compare overhead serve cluster; do \
	    $(PYTHON) bench/$$name.py || failed=1; done; exit $$failed

bench-networks: ## trained networks of other packages; needs bench/networks/requirements.txt
	$(PYTHON) bench/networks.py

conformance: ## the operator cases of the ONNX project, counted in docs/conformance.md
	PYTHONPATH=host $(PYTHON) bench/conformance.py

architectures: ## small networks of other packages beside onnxruntime; needs bench/architectures/requirements.txt
	PYTHONPATH=host $(PYTHON) -m bench.architectures

formats: ## docs/quantized-formats.md and its test data: other packages, each in an environment of its own
	PYTHONPATH=host:. $(PYTHON) -m bench.formats --markdown docs/quantized-formats.md --record tests/data/formats

docs: ## the documentation site, in build/site; needs the extra docs
	$(PYTHON) -m mkdocs build --strict

dist: ## the wheel and the source archive, checked, in build/dist; needs build and twine
	rm -rf build/dist
	$(PYTHON) -m build --outdir build/dist .
	$(PYTHON) -m twine check --strict build/dist/*

wheel: ## the wheel with emulations for machines like this one, whose users need no compiler, in build/wheel
	rm -rf build/wheel
	NEURALMATRIX_PREBUILT=1 $(PYTHON) -m build --wheel --outdir build/wheel .

emulate: ## the embedded network, whole, in emulation
	PYTHONPATH=host $(PYTHON) -m neuralmatrix demo

csim: ## the kernels' own benches, with a plain compiler
	mkdir -p build/tb
	for bench in hls/tb/*.cpp; do \
	    out=build/tb/$$(basename $$bench .cpp); \
	    $(CXX) -std=c++14 -O2 -Wall -Wno-unused-label -Ihls/include $$bench hls/src/*.cpp -o $$out && $$out || exit 1; \
	done

threads: ## the kernels as concurrent processes: do 3,000 random programs end? needs g++
	$(PYTHON) hls/threads --random 3000 host/neuralmatrix/demo/data/*.16x16-z7.nmx

lint-hls: ## can the kernels be synthesized? needs clang++
	$(PYTHON) hls/lint

rtl: ## the kernels' units to Verilog, simulated and counted; needs clang, verilator, yosys
	cd hls && PYTHONPATH=../host $(PYTHON) -m rtl all --build ../build/rtl --json $(COUNTS)

rtl-quick: ## a few of them, with fewer vectors and without yosys
	cd hls && PYTHONPATH=../host $(PYTHON) -m rtl simulate --quick --build ../build/rtl-quick

hls: ## the kernels to RTL and IPs, their reports beside our estimates; needs Vitis HLS
	$(BUILD) hls $(BOARD) $(FLAGS)

overlay: ## a bitstream and what lies beside it; needs Vitis HLS and Vivado
	$(BUILD) overlay $(BOARD) --jobs $(JOBS) $(FLAGS)

first-light: ## builds, and with BOARD_HOST=user@board runs there; all of it in one file to send
	PYTHONPATH=host:. $(PYTHON) -m overlay.first_light $(BOARD) --jobs $(JOBS) \
	    $(if $(BOARD_HOST),--board $(BOARD_HOST)) $(FLAGS)

generated: ## files made from isa.py, the board files and the demos' networks
	PYTHONPATH=host $(PYTHON) -m neuralmatrix.hardware.cpp_headers
	PYTHONPATH=host $(PYTHON) -m neuralmatrix.program.disassembly > docs/isa.md
	PYTHONPATH=host $(PYTHON) -m neuralmatrix.hardware.board_page > docs/boards.md
	PYTHONPATH=host $(PYTHON) -m neuralmatrix.demo.programs

format:
	ruff check --fix .
	ruff format .
	clang-format -i $(CPP)

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis host/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
