# SPDX-License-Identifier: Apache-2.0
"""The kernels stay within what an HLS compiler accepts, and every loop has a label.

In: the text of hls/.  Out: nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from neuralmatrix.paths import hls_dir

HLS = hls_dir()
KERNELS = sorted([*(HLS / "src").glob("*.cpp"), *(HLS / "include" / "nm").glob("*.h")])
SYNTHESIZED = [path for path in KERNELS if path.name != "stream.h"]
ALL = [*KERNELS, *sorted((HLS / "emulation").glob("*")), *sorted((HLS / "tb").glob("*"))]
FUNCTION = r"^\w[\w &<>]* (\w+)\([^;]*?\) \{\n(.*?)^\}"
STAGES = {"fetch", "load", "compute", "store"}

FORBIDDEN = {
    r"\b(new|delete|malloc|calloc|free)\b": "heap",
    r"\b(float|double)\b": "floating point",
    r"\b(throw|try|catch)\b": "exceptions",
    r"\bstd::|#include <(?!stdint\.h|ap_int\.h|hls_stream\.h)": "the standard library",
    r"\(\s*\*\s*\w+\s*\)\s*\(": "function pointers",
    r"\b(virtual|dynamic_cast|typeid)\b": "run-time types",
    r"__m\d+|_mm\d*_|immintrin|__builtin|__attribute__": "intrinsics",
    r"\bgoto\b": "goto",
}


def code(path: Path) -> str:
    """Return the text without comments and strings."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.S)
    return re.sub(r'(?<!extern )"[^"\n]*"', '""', text)


@pytest.mark.parametrize("path", SYNTHESIZED, ids=lambda p: p.name)
@pytest.mark.parametrize("pattern", FORBIDDEN, ids=lambda p: FORBIDDEN[p].replace(" ", "-"))
def test_nothing_that_synthesis_refuses(path: Path, pattern: str) -> None:
    text = code(path)
    if path.name == "types.h":  # a CPU's type behind __SYNTHESIS__
        text = re.sub(r"using (weight|exact)_t = float;", "", text)
    found = re.search(pattern, text)
    assert found is None, f"{path.name} uses {FORBIDDEN[pattern]}: {found.group()!r}"


@pytest.mark.parametrize("path", SYNTHESIZED, ids=lambda p: p.name)
def test_every_loop_has_a_label(path: Path) -> None:
    lines = [line for line in code(path).splitlines() if line.strip()]
    for before, line in zip(["", *lines], lines, strict=False):
        if re.match(r"\s*(for|while) \(", line):
            assert re.match(r"\s*[A-Z][A-Z0-9_]*:$", before), f"{path.name}: {line.strip()}"


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.name)
def test_conditional_code_only_for_synthesis(path: Path) -> None:
    """hls.h has the dialects' macros; types.h and stream.h choose the vendor headers."""
    allowed = {"__SYNTHESIS__"} | {
        "hls.h": {"__BAMBU__", "NM_DEVICE_LOOPS"},
        "types.h": {"NM_AP_TYPES"},
        "stream.h": {"NM_AP_TYPES"},
    }.get(path.name, set())
    for condition in re.findall(r"^#\s*(?:if|ifdef|ifndef|elif)\b(.*)$", code(path), re.M):
        names = set(re.findall(r"[A-Za-z_]\w*", condition)) - {"defined"}
        assert names <= allowed, f"{path.name}: #if {condition}"


@pytest.mark.parametrize("path", KERNELS, ids=lambda p: p.name)
def test_vendor_names_stay_behind_our_headers(path: Path) -> None:
    text = code(path)
    if path.name not in ("types.h", "stream.h"):
        assert not re.search(r"\bap_u?int\b|\bhls::|<ap_|<hls_", text)
    if path.name != "hls.h":
        assert "#pragma HLS" not in text and "_Pragma" not in text


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.name)
def test_layout_of_files(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "// SPDX-License-Identifier: Apache-2.0"
    generated = path.name in ("isa.h", "config.h")
    assert generated or max(map(len, lines)) <= 100
    assert generated or len(lines) <= (250 if path.stem in STAGES else 300)


def test_one_kernel_a_stage() -> None:
    assert {path.stem for path in (HLS / "src").glob("*.cpp")} == STAGES
    for name in STAGES:
        text = code(HLS / "src" / f"{name}.cpp")
        assert re.search(rf'extern "C" void\s+{name}\(', text)
        for port in ("busy", "fault"):
            assert name == "fetch" or f"NM_REGISTER({port})" in text


def test_no_recursion() -> None:
    """No function of the kernels calls itself."""
    for path in SYNTHESIZED:
        for name, body in re.findall(FUNCTION, code(path), re.S | re.M):
            assert not re.search(rf"(?<![\w.]){name}\(", body), f"{path.name}: {name}"
