# SPDX-License-Identifier: Apache-2.0
"""The page docs/quantized-formats.md.

In: the text in page.md, and what the networks of every environment gave.  Out: markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]

HEAD = Path(__file__).with_name("page.md")


def page(results: Mapping[str, Result]) -> str:
    """Return the whole page."""
    return HEAD.read_text(encoding="utf-8") + "\n".join(
        _section(name, found) for name, found in results.items()
    )


def _section(name: str, found: Result) -> str:
    versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    lines = [f"### {name}", "", f"Tried with {versions}.", "",
             "| network | form | beside | equal | most | SNR, dB | same class |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {row['network']} | {row['form']} | {row['judge']} | {100 * row['equal']:.2f} % | "
        f"{row['most']:.2f} | {row['snr']:.0f} | {100 * row['top1']:.1f} % |"
        for row in found["rows"]
    ]
    if found["trained"]:
        lines += ["", "Trained with quantisation, accuracy on 200 fresh inputs:", "",
                  "| network | form | Brevitas | compiled | same class |",
                  "|---|---|---|---|---|"]  # fmt: skip
    lines += [
        f"| {row['network']} | {row['form']} | {100 * row['brevitas']:.1f} % | "
        f"{100 * row['ours']:.1f} % | {100 * row['agree']:.1f} % |"
        for row in found["trained"]
    ]
    return "\n".join(lines) + "\n"
