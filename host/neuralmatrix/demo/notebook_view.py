# SPDX-License-Identifier: Apache-2.0
"""Tables, bars and small pictures for notebooks, without a plotting package.

In: numbers.  Out: a ``View``, which Jupyter shows as HTML and everything else as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ..ir.types import Array

_BAR = "background:#4c78a8;height:1em;display:inline-block"
_BAR_CHARS = 40
_SHADES = " .:-=+*#%@"


@dataclass(frozen=True)
class View:
    """The output of a notebook cell."""

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


def _cells(tag: str, row: Iterable[object]) -> str:
    inside = "".join(f"<{tag} style='text-align:left'>{escape(str(v))}</{tag}>" for v in row)
    return f"<tr>{inside}</tr>"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> View:
    """Make a table: rows under a header."""
    body = [[str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = (
        "  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *body)
    )
    html = _cells("th", head) + "".join(_cells("td", row) for row in body)
    return View(f"<table>{html}</table>", "\n".join(lines))


def bars(values: Mapping[str, float], unit: str) -> View:
    """Make a bar per value, in the order given; the largest value has the longest bar."""
    largest = max([*values.values(), 0.0]) or 1.0
    html, lines = "", []
    for name, value in values.items():
        share = max(value, 0.0) / largest
        text = f"{value:,.4g} {unit}"
        html += (
            f"<tr><td style='text-align:left'>{escape(name)}</td><td style='text-align:left'>"
            f"<span style='{_BAR};width:{20 * share:.2f}em'></span> {escape(text)}</td></tr>"
        )
        lines.append(f"{name:<24} {'#' * round(_BAR_CHARS * share)} {text}")
    return View(f"<table>{html}</table>", "\n".join(lines))


def _svg(image: Array) -> str:
    height, width = image.shape
    squares = "".join(
        f"<rect x='{x}' y='{y}' width='1' height='1' fill='rgb({v},{v},{v})'/>"
        for (y, x), v in np.ndenumerate(np.uint8(255 * (1 - image.clip(0, 1))))
    )
    size = f"width='{6 * width}' height='{6 * height}' viewBox='0 0 {width} {height}'"
    return f"<svg {size} shape-rendering='crispEdges'>{squares}</svg>"


def _characters(image: Array) -> list[str]:
    shades = np.int64(image.clip(0, 1) * (len(_SHADES) - 1))
    return ["".join(2 * _SHADES[shade] for shade in row) for row in shades]


def pictures(images: Array, captions: Sequence[object]) -> View:
    """Show grey images (N, H, W) in 0..1, dark on light, each with a caption."""
    cells = "".join(
        f"<td style='text-align:center'>{_svg(image)}<br>{escape(str(caption))}</td>"
        for image, caption in zip(images, captions, strict=True)
    )
    lines = [
        line
        for image, caption in zip(images, captions, strict=True)
        for line in (str(caption), *_characters(image))
    ]
    return View(f"<table><tr>{cells}</tr></table>", "\n".join(lines))
