# SPDX-License-Identifier: Apache-2.0
"""The measured accuracy of a program as a table, as lines and as HTML.

In: an ``Accuracy``, or None.  Out: a rich table, plain lines; they fit 80 columns.
"""

from __future__ import annotations

from collections.abc import Callable
from html import escape as html_escape
from textwrap import wrap
from typing import TYPE_CHECKING

from ..ir.accuracy import Accuracy, OutputAccuracy, PartAccuracy, decibels

if TYPE_CHECKING:
    from rich.table import Table

UNKNOWN = (
    "accuracy: not measured: this program was compiled without calibration inputs, or with "
    "accuracy=False (--no-measure)"
)
EXPLAINED = {
    "error %": "error: norm of the difference from the float model's values, over their norm",
    "SNR dB": "SNR: the same in dB",
    "PSNR dB": "PSNR: largest float value over the root mean square error",
}
ANSWERS = {
    "class scores": "the largest element",
    "probabilities": "the side of 0.5",
    "answers": "an integer that the host computes",
}

_Row = OutputAccuracy | PartAccuracy


def _name(row: _Row) -> str:
    return row.name if isinstance(row, OutputAccuracy) else f"  {row.where}"


def _kind(row: _Row) -> str:
    return row.kind if isinstance(row, OutputAccuracy) else "part"


def _psnr(row: _Row) -> str:
    shown = isinstance(row, OutputAccuracy) and row.kind in ("values", "pictures", "vectors")
    return f"{row.psnr_db:.1f}" if isinstance(row, OutputAccuracy) and shown else ""


def _answers(row: _Row) -> str:
    if not isinstance(row, OutputAccuracy) or row.top1 is None:
        return ""
    return f"{100 * row.top1:.4g} % of {row.rows:,}"


COLUMNS: dict[str, Callable[[_Row], str]] = {
    "output, part": _name,
    "kind": _kind,
    "error %": lambda row: f"{100 * row.relative_error:.3g}",
    "SNR dB": lambda row: f"{decibels(row.relative_error):.1f}",
    "PSNR dB": _psnr,
    "same answers": _answers,
}


def accuracy_rows(found: Accuracy) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headings and cells: one row per output and per part; empty columns are left out."""
    rows: list[_Row] = []
    for out in found.outputs:
        rows += [out, *out.parts]
    cells = {name: [text(row) for row in rows] for name, text in COLUMNS.items()}
    filled = {name: column for name, column in cells.items() if any(column)}
    return tuple(filled), list(zip(*filled.values(), strict=True))


def accuracy_table(found: Accuracy) -> Table:
    """Make the table of outputs and their parts."""
    from rich.markup import escape
    from rich.table import Table

    names, rows = accuracy_rows(found)
    table = Table()
    for name in names:
        if name == "output, part":
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="left" if name == "kind" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def explanation(found: Accuracy) -> str:
    """Return what the columns of the table mean."""
    names, _ = accuracy_rows(found)
    texts = [EXPLAINED[name] for name in names if name in EXPLAINED]
    kinds = dict.fromkeys(ANSWERS[out.kind] for out in found.outputs if out.top1 is not None)
    if kinds:
        texts.append(f"same answers: {' or '.join(kinds)} is that of the float model")
    return "; ".join(texts)


def accuracy_lines(found: Accuracy | None, width: int) -> list[str]:
    """Return what stands below the table, in lines of ``width``.

    Nothing where the compiler could not measure: a note of the program says so.
    """
    if found is None:
        texts = [UNKNOWN]
    else:
        texts = [explanation(found), *found.details()] if found.measured else []
    return [line for text in texts for line in _wrapped(text, width)]


def _wrapped(text: str, width: int) -> list[str]:
    """Return lines that leave a number and its unit together."""
    joined = text.replace(" %", "\u00a0%").replace(" dB", "\u00a0dB")
    lines = wrap(joined, width, subsequent_indent="  ", break_long_words=False,
                 break_on_hyphens=False)  # fmt: skip
    return [line.replace("\u00a0", " ") for line in lines]


def accuracy_html(found: Accuracy | None) -> str:
    """Return the table and the lines as a fragment of HTML."""
    texts = [UNKNOWN] if found is None else found.details()
    below = "".join(f"<p>{html_escape(text)}</p>\n" for text in texts)
    if found is None or not found.measured:
        return below
    names, rows = accuracy_rows(found)
    head = "".join(f"<th>{html_escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{html_escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in rows
    )
    return (
        f"<h3>{html_escape(found.heading)}</h3>\n<table>\n<tr>{head}</tr>\n{body}</table>\n"
        f"<p><small>{html_escape(explanation(found))}</small></p>\n{below}"
    )
