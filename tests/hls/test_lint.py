# SPDX-License-Identifier: Apache-2.0
"""hls/lint passes our kernels and finds each kind of mistake in one of them.

In: hls/src.  Out: nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from neuralmatrix.paths import hls_dir
from slow import slow_after

HLS = hls_dir()
LINT = HLS / "lint"
pytestmark = [
    pytest.mark.skipif(shutil.which("clang++") is None, reason="no clang++: apt-get install clang"),
    pytest.mark.skipif(not LINT.is_dir(), reason="the lint is in the repository only"),
]

ADDR = "const int64_t addr = store_addr(i);"
WHOLE = "return count <= 1 || step % COLS == 0;"
BLOCK = "int64_t block = int64_t(base) + store_addr(insn);"
STREAM = '#include "nm/hls.h"\n#undef NM_STREAM\n#define NM_STREAM(port) '
# The rule that a mistake breaks, what it replaces in store.cpp, and the mistake.
MISTAKES = {
    "new": ("memory", ADDR, "const int64_t addr = *new int64_t(store_addr(i));"),
    "malloc": ("memory", ADDR, "const int64_t addr = *(int64_t*)malloc(8);"),
    "recursion": ("recursion", WHOLE, WHOLE.replace("== 0", "== whole_words(count + 1, step)")),
    "detour": (
        "recursion",
        f"bool whole_words(uint32_t count, int32_t step) {{\n    NM_INLINE\n    {WHOLE}",
        "bool whole_words(uint32_t count, int32_t step);\n"
        "bool detour(uint32_t count, int32_t step) { return whole_words(count / 2, step); }\n"
        "bool whole_words(uint32_t count, int32_t step) {\n"
        "    return count > 9 ? detour(count, step) : step % COLS == 0;",
    ),
    "no trip count": ("trip-count", "        NM_TRIPS(1, STORED_AT_MOST)\n", ""),
    "endless": ("trip-count", BLOCK, f"{BLOCK}\nENDLESS:\n    for (;;) {{ }}"),
    "counter set within": (
        "trip-count",
        BLOCK,
        f"{BLOCK}\nAGAIN:\n    for (int k = 0; k < 4; ++k) {{ k = int(base); }}",
    ),
    "pipeline": (
        "pipeline",
        "            uint64_t addr = uint64_t(line);",
        "NM_PIPELINE(1)\n            uint64_t addr = uint64_t(line);",
    ),
    "float": ("floating-point", ADDR, "const int64_t addr = int64_t(0.5f * store_addr(i));"),
    "double of an int": ("floating-point", ADDR, "const int64_t addr = int64_t(double(limit));"),
    "double field": (
        "floating-point",
        "constexpr int BEATS",
        "struct Scale { double factor; };\nconstexpr int BEATS",
    ),
    "system": ("system-call", ADDR, 'const int64_t addr = system("date");'),
    "declared by hand": ("system-call", ADDR, "const int64_t addr = elsewhere(limit);"),
    "assembly": ("system-call", BLOCK, f'{BLOCK}\n    asm volatile("nop");'),
    "throw": ("exception", BLOCK, f"{BLOCK}\n    if (block < 0) throw 1;"),
    "pointer to a function": (
        "indirect-call",
        BLOCK,
        "bool (*const pick)(uint32_t, int32_t) = n1 != 0 ? whole_words : nullptr;\n"
        "    int64_t block = int64_t(base) + store_addr(insn) + pick(n1, 0);",
    ),
    "goto": ("label", "RUNS:", "            if (columns == 0) goto RUNS;\n        RUNS:"),
    "no label": ("label", "    LINES:\n", ""),
    "no register": ("interface", "    NM_REGISTER(arena_base)\n", ""),
    "no control": ("interface", "    NM_REGISTER(return)\n", ""),
    "no base of a master": ("interface", "    NM_REGISTER(dram)\n", ""),
    "misspelt": ("interface", "NM_BRAM(o_hi)", "NM_BRAM(o_high)"),
    "twice": ("interface", "NM_BRAM(o_hi)", "NM_BRAM(o_hi)\n    NM_BRAM(o_hi)"),
    "wrong kind of port": ("interface", "NM_BRAM(o_hi)", "NM_STREAM(o_hi)"),
    "macro that renames an option": (
        "interface",
        '#include "nm/hls.h"\n',
        f"{STREAM}NM_PRAGMA(HLS INTERFACE mode = axis port = port)\n",
    ),
    "two registers' interfaces": (
        "interface",
        "    NM_REGISTER(dram)\n",
        "    NM_PRAGMA(HLS INTERFACE mode = s_axilite port = dram)\n",
    ),
    "both ports of a memory": (
        "interface",
        "NM_BRAM(o_hi)",
        "NM_PRAGMA(HLS INTERFACE mode = bram port = o_hi)",
    ),
    "a base of its own wires": (
        "interface",
        "NM_MAXI(dram, store_port, STORE_COSIM)",
        "NM_PRAGMA(HLS INTERFACE mode = m_axi port = dram offset = direct depth = 8)",
    ),
    "no depth for co-simulation": (
        "interface",
        "NM_MAXI(dram, store_port, STORE_COSIM)",
        "NM_PRAGMA(HLS INTERFACE mode = m_axi port = dram offset = slave)",
    ),
    "a wire read once for all": ("interface", "NM_REGISTER(retired)", "NM_WIRE(retired)"),
    "a wire that is no wire": ("interface", "NM_WIRE(now)", "NM_STREAM(now)"),
    "a time between no two things": (
        "clock",
        "const uint64_t start = read_clock(now);",
        "const uint64_t start = *now;",
    ),
    "length known at run time": (
        "memory",
        BLOCK,
        f"{BLOCK}\n    int8_t many[int(base & 7) + 1]; many[0] = int8_t(n1); block += many[0];",
    ),
    "memory of the stack": (
        "memory",
        BLOCK,
        f"{BLOCK}\n    block += __builtin_alloca(size_t(n1)) != nullptr;",
    ),
    "state between runs": (
        "memory",
        BLOCK,
        f"{BLOCK}\n    static int64_t runs = 0;\n    block += ++runs;",
    ),
    "fewer than no turns": ("trip-count", "NM_TRIPS(1, PROGRAM_AT_MOST)", "NM_TRIPS(1, -1)"),
    "no kernel": ("interface", 'extern "C" void store(', "void store_kernel("),
}
GROWS = "    std::vector<int> all; all.push_back(int(n1)); block += all[0];"


def lint(*sources: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LINT), *map(str, sources)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.slow
def test_our_kernels_pass() -> None:
    done = lint()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 sources, 0 findings" in done.stdout


@pytest.mark.parametrize("name", slow_after(3, MISTAKES))
def test_a_mistake_is_found(name: str, tmp_path: Path) -> None:
    rule, right, wrong = MISTAKES[name]
    text = (HLS / "src" / "store.cpp").read_text(encoding="utf-8")
    assert right in text
    extra = "#include <stdlib.h>\nint64_t elsewhere(uint64_t limit);\n"
    seeded = tmp_path / "store.cpp"
    seeded.write_text("#include <stdint.h>\n" + extra + text.replace(right, wrong, 1))
    done = lint(seeded)
    assert done.returncode == 1, done.stdout + done.stderr
    found = {line.split(": ")[1] for line in done.stdout.splitlines()[:-1]}
    assert found == {rule}, done.stdout
    assert "store.cpp:" in done.stdout


@pytest.mark.slow
def test_ports_are_listed() -> None:
    """The design is compared with this list: arguments in order, each with its pragmas."""
    done = subprocess.run(
        [sys.executable, str(LINT), "--ports"], capture_output=True, text=True, timeout=60
    )
    ports = json.loads(done.stdout)
    assert sorted(ports) == ["compute", "fetch", "load", "store"]
    first, *_, last = ports["fetch"]
    assert first["name"] == "code" and first["type"] == "const nm::FetchBeat *"
    assert [pragma["mode"] for pragma in first["pragmas"]] == ["m_axi", "s_axilite"]
    assert last["name"] == "return" and last["pragmas"][0]["bundle"] == "control"


def test_templates_are_checked_as_they_are_used(tmp_path: Path) -> None:
    """load_insn<true> is checked; a branch for load_insn<false> alone is not."""
    text = (HLS / "src" / "load.cpp").read_text(encoding="utf-8")
    seeded = tmp_path / "load.cpp"
    seeded.write_text(text.replace("                NM_TRIPS(0, COUNT_AT_MOST)\n", "", 1))
    done = lint(seeded)
    assert done.returncode == 1 and "trip-count" in done.stdout
    assert "copy_run(dram" in text and "COPY_BYTES" not in done.stdout
    assert done.stdout.count("trip-count") == 1


@pytest.mark.slow
def test_a_header_of_the_library_is_read(tmp_path: Path) -> None:
    """Its declarations are not checked; their use is."""
    seeded = tmp_path / "store.cpp"
    text = (HLS / "src" / "store.cpp").read_text(encoding="utf-8")
    seeded.write_text("#include <vector>\n" + text.replace(BLOCK, f"{BLOCK}\n{GROWS}", 1))
    done = lint(seeded)
    assert done.returncode == 1 and done.stderr == ""
    assert "store.cpp:" in done.stdout and "system-call" in done.stdout


def test_a_file_that_does_not_compile_is_no_pass(tmp_path: Path) -> None:
    broken = tmp_path / "broken.cpp"
    broken.write_text('extern "C" void top() { missing(); }\n')
    done = lint(broken)
    assert done.returncode == 2
    assert "does not compile" in done.stderr and "missing" in done.stderr
