# SPDX-License-Identifier: Apache-2.0
"""The page docs/quantized-formats.md.

In: the text in page.md, and what the networks of every environment gave.  Out: markdown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]

HEAD = Path(__file__).with_name("page.md")


def page(results: Mapping[str, Result]) -> str:
    """Return the whole page."""
    return HEAD.read_text(encoding="utf-8") + "\n".join(
        _section(name, found) for name, found in results.items()
    )


def _section(name: str, found: Result) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    lines = [f"### {name}", "", f"Tried with {versions}.", ""]
    for kind, table in TABLES.items():
        if found.get(kind):
            lines += [*table(found[kind]), ""]
    return "\n".join(lines)


def _rows(rows: Rows) -> list[str]:
    return [
        "| network | form | beside | equal | most | SNR, dB | same class |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['network']} | {row['form']} | {row['judge']} | {100 * row['equal']:.2f} % | "
            f"{row['most']:.2f} | {row['snr']:.0f} | {100 * row['top1']:.1f} % |"
            for row in rows
        ),
    ]


def _trained(rows: Rows) -> list[str]:
    return [
        "Trained with quantisation, accuracy on 200 fresh inputs:",
        "",
        "| network | form | Brevitas | compiled | same class |",
        "|---|---|---|---|---|",
        *(
            f"| {row['network']} | {row['form']} | {100 * row['brevitas']:.1f} % | "
            f"{100 * row['ours']:.1f} % | {100 * row['agree']:.1f} % |"
            for row in rows
        ),
    ]


def _fronts(rows: Rows) -> list[str]:
    return [
        "Through hls4ml's converters, trained on handwritten digits: accuracy on 150 others of",
        "the network itself, of hls4ml's compiled emulation, and of ours; outputs equal to",
        "hls4ml's, and within half a step of ours, which has 16 bits:",
        "",
        "| network | itself | hls4ml | ours | equal | nearest | `compile()` |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {row['network']} | {100 * row['trained']:.1f} % | {100 * row['hls4ml']:.1f} % | "
            f"{100 * row['ours']:.1f} % | {100 * row['equal']:.1f} % | {100 * row['near']:.1f} % | "
            f"{row['faster']:.0f} times faster |"
            for row in rows
        ),
    ]


TABLES: Mapping[str, Callable[[Rows], list[str]]] = {
    "rows": _rows, "trained": _trained, "fronts": _fronts,
}  # fmt: skip
