# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of generated pages.

In: a head and rows of texts.  Out: lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Make the lines of a table, an empty one behind it."""
    columns = list(head)
    yield "| " + " | ".join(columns) + " |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""
