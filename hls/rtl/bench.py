# SPDX-License-Identifier: Apache-2.0
"""The test bench of one unit: a new vector in each clock, outputs held against the g++ build.

In: a unit's ports and its ``Module``.  Out: C++ text; the program prints vectors and differences.
"""

from __future__ import annotations

from collections.abc import Iterator

from .unit import Bank, Port, Unit
from .verilog import CHUNK, Module

HISTORY = 512  # vectors that are kept until their outputs arrive; above every latency
EPOCH = 50  # vectors for which static ports and RAMs stay


def bench(unit: Unit, ports: tuple[Port, ...], module: Module, latency: int) -> str:
    """The C++ text of a unit's test bench."""
    if latency >= HISTORY:
        raise ValueError(f"{unit.name}: a latency of {latency} is above {HISTORY - 1}")
    lines = [
        *_declarations(unit, ports),
        "int main(int, char** argv) {",
        f"static V{unit.name} dut;",
        f"const int latency = {latency}, epoch = {EPOCH}, history = {HISTORY};",
        "long total = 0, differing = 0;",
        "for (int turn = 0; turn * epoch < atoi(argv[1]); ++turn) {",
        *_fill_rams(ports, module),
        "for (int k = 0; k < epoch + latency; ++k) {",
        "const int n = k % history, before = (k + history - 1) % history;",
        "(void)before;",
        "if (k < epoch) {",
        *_stimulus(unit, ports, module),
        f"{unit.name}({', '.join(_argument(p) for p in ports)});",
        "}",
        "dut.clk = 0, dut.eval();",
        "if (k >= latency) {",
        *_comparison(unit, ports, module),
        "}",
        "dut.clk = 1, dut.eval();",
        "} }",
        r'printf("%ld %ld\n", total, differing);',
        "return 0; }",
    ]
    return "\n".join(lines) + "\n"


def _entering(ports: tuple[Port, ...]) -> list[Port]:
    return [p for p in ports if p.enters]


def _argument(p: Port) -> str:
    return f"&ram_{p.name}" if p.banks else f"p_{p.name}[n]"


def _declarations(unit: Unit, ports: tuple[Port, ...]) -> Iterator[str]:
    """What the wrapper's object file has, and the memory of every port."""
    pointers = ", ".join("const void*" if p.kind != "out" else "void*" for p in ports)
    entering = ", ".join("void*" for p in _entering(ports))
    yield from (
        f'#include "V{unit.name}.h"',
        '#include "verilated.h"',
        '#include "include/bench.h"',
    )
    if any(p.banks for p in ports):
        yield '#include "nm/kernels.h"'
    yield f'extern "C" void {unit.name}({pointers});'
    if unit.draw:
        yield f'extern "C" void {unit.name}_draw(bool, {entering});'
    if unit.cares:
        yield f'extern "C" bool {unit.name}_cares({entering});'
    for p in ports:
        if p.banks:
            yield f"static {p.c_type} ram_{p.name};"
            continue
        elements = ", ".join(
            f"{{{e.bits}, {str(e.signed).lower()}, {e.width // 8}, {e.offset}}}" for e in p.elements
        )
        yield f"static const Element e_{p.name}[] = {{{elements}}};"
        yield f"alignas(16) static unsigned char p_{p.name}[{HISTORY}][{-(-p.size // 16) * 16}];"


def _fill_rams(ports: tuple[Port, ...], module: Module) -> Iterator[str]:
    for p in ports:
        for bank in p.banks:
            name = f"m_{bank.name}"
            yield f"for (int i = 0; i < {bank.words}; ++i) {{"
            yield from _word(bank, bank.host or f"(char*)&ram_{p.name} + {bank.offset}")
            if f"{name}_we" in module.inputs:
                chunks = range(-(-bank.bits // CHUNK))
                yield f"dut.{name}_we = 1, dut.{name}_wa = i;"
                yield from (f"dut.{name}_wd{c} = word[{c}];" for c in chunks)
                yield f"tick(dut); dut.{name}_we = 0;"
            yield "}"


def _word(bank: Bank, where: str) -> Iterator[str]:
    """A random word of a RAM, on the side of C++."""
    bits = [min(CHUNK, bank.bits - low) for low in range(0, bank.bits, CHUNK)]
    values = ", ".join(f"random_value({b})" for b in bits)
    address = where if bank.host else f"{where} + i * {bank.stride}"
    yield f"const uint64_t word[] = {{{values}}};"
    yield f"memcpy({address}, word, {-(-bank.bits // 8)});"


def _stimulus(unit: Unit, ports: tuple[Port, ...], module: Module) -> Iterator[str]:
    for p in _entering(ports):
        fresh = f"draw(p_{p.name}[n], e_{p.name}, {len(p.elements)});"
        if p.kind == "static":
            again = f"memcpy(p_{p.name}[n], p_{p.name}[before], sizeof p_{p.name}[n]);"
            yield f"if (k == 0) {fresh} else {again}"
        else:
            yield fresh
    if unit.draw:
        yield f"{unit.name}_draw(k == 0, {', '.join(f'p_{p.name}[n]' for p in _entering(ports))});"
    known = set(module.inputs)
    for p in _entering(ports):
        for i in range(len(p.elements)):
            if f"{p.name}_{i}" in known:
                yield f"dut.{p.name}_{i} = pins(p_{p.name}[n], e_{p.name}[{i}]);"


def _comparison(unit: Unit, ports: tuple[Port, ...], module: Module) -> Iterator[str]:
    yield "const int m = (k - latency) % history; ++total; bool same = true;"
    if unit.cares:
        entering = ", ".join(f"p_{p.name}[m]" for p in _entering(ports))
        yield f"const bool cares = {unit.name}_cares({entering});"
    for name, i in module.outputs:
        element = f"e_{name}[{i}]"
        found = f"extended(dut.{name}_{i}, {element}.bits, {element}.is_signed)"
        equal = f"{found} == get(p_{name}[m], {element})"
        yield f"same &= {'!cares || ' if name in unit.cares else ''}{equal};"
    yield "differing += !same;"
