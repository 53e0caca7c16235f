# SPDX-License-Identifier: Apache-2.0
"""The page of architectures, as docs/ holds it.

In: results of ``bench.architectures``.  Out: Markdown.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from typing import Any

PACKAGES = ("torch", "timm", "torchvision", "transformers", "torch_geometric")
HEAD = """# Architectures

    make architectures

builds small networks of other packages with random weights, exports each in both ways of torch,
compiles the files, and compares what the emulated array gives for inputs that did not calibrate
with onnxruntime on the same file. *Right* is a signal-to-noise ratio of at least 20 dB at int8, and
35 dB at int16; *warned* is less, with a warning of the compile; *refused* ends with a reason.
Ranges are chosen by mse, without the search that a compile does by default. All figures are
emulated. The list was run in several sittings, over which the compiler changed (`--json` keeps
results).
Versions: VERSIONS.

Convolutional networks with batch normalisation are those that are warned of: with random weights
they amplify any noise. Noise 80 dB below the input of mobilenetv1_100 is 46 dB below its output as
onnxruntime computes it (selecsls42: 43 dB), and weights of 8 bits alone, all else in floats, leave
10.9 dB (5.5 dB), as our weights do. Trained ones are among [the benchmarks](benchmarks.md).
"""


def markdown(results: Sequence[dict[str, Any]], counts: str) -> str:
    """Return the page: counts, a table for each package, and the reasons of refusals."""
    parts = [HEAD.replace("VERSIONS", _versions()), _listed(counts)]
    for package in PACKAGES:
        rows = [result for result in results if result.get("package") == package]
        if rows:
            parts.append(f"## {package}\n\n" + _table(rows))
    parts.append("## What was refused, or not exported, and why\n\n" + _reasons(results))
    return "\n\n".join(part.rstrip() for part in parts)


def _versions() -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)


def _listed(counts: str) -> str:
    return "\n".join(f"* {line}" for line in counts.splitlines())


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| network | export, opset | int8 | int16 |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (row["name"], row["export"])):
        cells = [_cell(row, precision) for precision in ("int8", "int16")]
        lines.append(f"| {row['name']} | {row['export']}, {row['opset']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any], precision: str) -> str:
    found = row.get(precision)
    if found is None:
        return "not exported"
    level = f" {found['dB']:.1f} dB" if "dB" in found else ""
    return f"{found['verdict']}{level}"


def _reasons(results: Sequence[dict[str, Any]]) -> str:
    """Return a table of reasons, with the networks that each of them ended."""
    ended: dict[str, set[str]] = {}
    for result in results:
        whys = [result.get("fault"), result.get("not exported")]
        whys += [result.get(precision, {}).get("why") for precision in ("int8", "int16")]
        for why in filter(None, whys):
            ended.setdefault(str(why), set()).add(f"{result['name']} ({result['export']})")
    lines = ["| networks | reason |", "|---|---|"]
    for why, names in sorted(ended.items()):
        lines.append(f"| {', '.join(sorted(names))} | {why.replace('|', ' ')} |")
    return "\n".join(lines)
