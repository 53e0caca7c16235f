# SPDX-License-Identifier: Apache-2.0
"""Docstrings as Markdown: an example that begins with >>> becomes a block of Python.

In: objects that griffe has read.  Out: the same, their docstrings changed in place.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^(?:>>> .*\n?)(?:(?:\.\.\. .*|>>> .*)\n?)*", re.MULTILINE)
FLAG = re.compile(r"\s*# doctest: \+\w+")


class Examples(griffe.Extension):
    """Called by griffe for every object that it has made."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the examples of one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    code = FLAG.sub("", re.sub(r"^(?:>>>|\.\.\.) ", "", match[0], flags=re.MULTILINE))
    return f"```python\n{code.rstrip()}\n```\n"
