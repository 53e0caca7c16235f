# SPDX-License-Identifier: Apache-2.0
"""The two C++ headers that are generated: the instruction set and the array's sizes.

In: isa.py and an ArrayConfig.  Out: the texts of ``nm/isa.h`` and ``nm/config.h``;
``python -m neuralmatrix.hardware.cpp_headers`` renews the committed ones.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from enum import IntEnum
from pathlib import Path

from ..paths import hls_dir
from . import isa
from .board import load_board
from .target import ArrayConfig, Timing

COMMITTED = "pynq-z2"
"""The board whose array the committed config.h holds; benches and editors use it."""

ENUMS: tuple[type[IntEnum], ...] = (
    isa.Opcode,
    isa.Unit,
    isa.Buffer,
    isa.Region,
    isa.Mode,
    isa.Reduce,
    isa.SegKind,
    isa.Stat,
)

SIZES = (
    ("ROWS", "rows", "PEs along K; bytes per word"),
    ("COLS", "cols", "PEs along N"),
    ("IBUF_WORDS", "ibuf_words", "activation words"),
    ("WBUF_WORDS", "wbuf_words", "weight words"),
    ("PBUF_ROWS", "pbuf_rows", "rows of COLS 64-bit parameters"),
    ("ACC_ROWS", "acc_rows", "accumulator rows"),
    ("OBUF_ROWS", "obuf_rows", "result rows per byte plane"),
    ("TBUF_ROWS", "tbuf_rows", "residual rows per byte plane"),
    ("UBUF_ROWS", "ubuf_rows", "Hadamard rows per byte plane"),
    ("SEG_ENTRIES", "seg_entries", "segments of a table that the lanes hold"),
    ("LINE_WORDS", "line_words", "widest input row in WINDOW mode"),
    ("QUEUE_DEPTH", "queue_depth", "instructions waiting per unit"),
    ("TOKEN_DEPTH", "token_depth", "tokens waiting per unit pair"),
    ("WIN", "win", "WINDOW mode handles WIN x WIN taps per pass"),
    ("MACS_PER_DSP", "macs_per_dsp", "2: two columns share a DSP; a WINDOW's sums take two beats"),
)

RULES = (
    ("ROWS == COLS", "a row of results must be the next layer's word"),
    ("WIN * WIN <= ROWS", "every tap of a window needs a row of the array"),
    ("ROWS % 8 == 0", "64-bit parameters must fill whole words"),
    ("WBUF_WORDS >= ROWS", "a weight block must fit the weight buffer"),
    ("LINE_WORDS >= WIN", "an input row must hold a window"),
    ("IBUF_WORDS <= 65536 && WBUF_WORDS <= 65536", "instructions address 16 bits of words"),
    ("PBUF_ROWS * 8 <= 65536", "a LOAD addresses parameters by word, 8 to a row"),
    ("ACC_ROWS <= 65536 && OBUF_ROWS <= 65536", "instructions address 16 bits of rows"),
    ("TBUF_ROWS <= 65536 && UBUF_ROWS <= 65536", "instructions address 16 bits of rows"),
    ("ROWS % LOAD_PORT_BYTES == 0", "a word must consist of whole LOAD beats"),
    ("COLS % STORE_PORT_BYTES == 0", "a word must consist of whole STORE beats"),
    ("INSN_WORDS * 4 % FETCH_PORT_BYTES == 0", "an instruction must be whole FETCH beats"),
    ("QUEUE_DEPTH > 0 && TOKEN_DEPTH > 0", "queues must not be empty"),
)

DEFAULT_PORT_BYTES = 8

# Buffers inside a kernel, and the macro that names the memory Vitis HLS binds them to; the other
# buffers lie between the kernels, in the block design.
INNER_BUFFERS = {"acc": "NM_ACC_MEMORY"}


def _head(job: str, source: str) -> list[str]:
    return [
        "// SPDX-License-Identifier: Apache-2.0",
        f"// {job}",
        f"// Generated from {source}",
        "// by `python -m neuralmatrix.hardware.cpp_headers`; do not edit.",
        "// clang-format off",
        "#pragma once",
        "",
    ]


def _enum(kind: type[IntEnum]) -> list[str]:
    members = ", ".join(f"{m.name} = {m.value}" for m in kind)
    return [f"enum class {kind.__name__} : uint32_t {{ {members} }};"]


def _getter(prefix: str, slot: isa.Slot) -> str:
    field = slot.field
    kind, name = ("int32_t", "signed_bits") if field.signed else ("uint32_t", "bits")
    call = f"{name}(i.w[{slot.word}], {slot.shift}, {field.bits})"
    return f"inline {kind} {prefix}{field.name}(const Insn& i) {{ return {call}; }} // {field.doc}"


def _setter(prefix: str, slot: isa.Slot) -> str:
    field = slot.field
    kind = "int32_t" if field.signed else "uint32_t"
    call = f"set_bits(i.w[{slot.word}], {slot.shift}, {field.bits}, uint32_t(v))"
    return f"inline void set_{prefix}{field.name}(Insn& i, {kind} v) {{ {call}; }}"


def _accessors() -> Iterator[str]:
    header = isa.SLOTS[isa.Opcode.END]
    groups = {"insn_": list(header.values())}
    for opcode, slots in isa.SLOTS.items():
        own = [slot for name, slot in slots.items() if name not in header]
        groups[f"{opcode.name.lower()}_"] = own
    for prefix, own in groups.items():
        yield from (_getter(prefix, slot) for slot in own)
        yield from (_setter(prefix, slot) for slot in own)
        yield ""


def isa_header() -> str:
    """Make the text of ``nm/isa.h``: enums, struct Insn, a getter and a setter per field."""
    lines = _head("The instruction set.", "host/neuralmatrix/hardware/isa.py")
    lines += ["#include <stdint.h>", "", "namespace nm {", ""]
    lines += [f"constexpr int ISA_VERSION = {isa.ISA_VERSION};"]
    lines += [f"constexpr int INSN_WORDS = {isa.WORDS};"]
    lines += [f"constexpr int MAP_CELLS = {isa.MAP_CELLS};", ""]
    for kind in ENUMS:
        lines += _enum(kind)
    lines += [
        "",
        "struct Insn {",
        "    uint32_t w[INSN_WORDS];",
        "};",
        "",
        "inline uint32_t bits(uint32_t word, int shift, int width) {",
        "    return (word >> shift) & (0xffffffffu >> (32 - width));",
        "}",
        "inline int32_t signed_bits(uint32_t word, int shift, int width) {",
        "    return int32_t(word << (32 - width - shift)) >> (32 - width);",
        "}",
        "inline void set_bits(uint32_t& word, int shift, int width, uint32_t v) {",
        "    const uint32_t mask = (0xffffffffu >> (32 - width)) << shift;",
        "    word = (word & ~mask) | ((v << shift) & mask);",
        "}",
        "",
    ]
    return "\n".join([*lines, *_accessors(), "} // namespace nm", ""])


def config_header(
    array: ArrayConfig,
    timing: Timing | None = None,
    uram_buffers: Collection[str] = (),
) -> str:
    """Make the text of ``nm/config.h``; the ports' widths come from ``timing`` (else 8).

    ``uram_buffers``: those of ``Board``; names that are not a kernel's buffer are ignored.
    """
    width = DEFAULT_PORT_BYTES
    ports = (width,) * 3
    if timing is not None:
        ports = (timing.load_port_bytes, timing.store_port_bytes, timing.fetch_port_bytes)
    lines = _head("The sizes of one array.", "an ArrayConfig")
    lines += ['#include "nm/isa.h"', ""]
    for buffer, macro in INNER_BUFFERS.items():
        lines += [f"#define {macro} {'uram' if buffer in uram_buffers else 'bram'}"]
    lines += ["", "namespace nm {", ""]
    lines += [f"constexpr int {name} = {getattr(array, key)}; // {doc}" for name, key, doc in SIZES]
    for unit, value in zip(("LOAD", "STORE", "FETCH"), ports, strict=True):
        lines += [f"constexpr int {unit}_PORT_BYTES = {value}; // width of the {unit} port"]
    lines += [f'constexpr char FINGERPRINT[] = "{array.fingerprint}";']
    lines += [f"constexpr uint64_t FINGERPRINT_BITS = 0x{array.fingerprint}ull;", ""]
    lines += [f'static_assert({rule}, "{why}");' for rule, why in RULES]
    return "\n".join([*lines, "", "} // namespace nm", ""])


def main(folder: Path) -> None:
    """Write isa.h and config.h into ``folder`` (``hls/include/nm``)."""
    (folder / "isa.h").write_text(isa_header(), encoding="utf-8")
    (folder / "config.h").write_text(config_header(load_board(COMMITTED).array), encoding="utf-8")


if __name__ == "__main__":
    default = hls_dir() / "include" / "nm"
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
