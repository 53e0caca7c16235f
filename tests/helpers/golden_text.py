# SPDX-License-Identifier: Apache-2.0
"""Golden texts: the input and the result of a pass, kept as readable files.

In: a text and the name of its file in ``tests/golden``.  Out: nothing, a failure that shows the
difference, or with ``pytest --update-golden`` the file.
"""

from __future__ import annotations

import difflib
import shlex
from pathlib import Path

import pytest

OPTION = "--update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option: a hook that ``conftest.py`` imports."""
    parser.addoption(OPTION, action="store_true", help="rewrite tests/golden instead of comparing")


def check_golden(request: pytest.FixtureRequest, path: str, text: str) -> None:
    """Compare ``text`` with the file ``tests/golden/<path>``.

    ``path`` is ``<pass>/<case>.in.txt`` or ``<pass>/<case>.out.txt``.  Fails where the file is
    missing or differs, with a unified diff and the command that updates it.  Under
    ``--update-golden`` the file is written instead.
    """
    file = request.config.rootpath / "tests" / "golden" / path
    found = text if text.endswith("\n") else text + "\n"
    wanted = file.read_text(encoding="utf-8") if file.is_file() else None
    if found == wanted:
        return
    if request.config.getoption(OPTION):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found, encoding="utf-8", newline="\n")
        return
    pytest.fail(_message(request.node.nodeid, file, wanted, found), pytrace=False)


def _message(test: str, file: Path, wanted: str | None, found: str) -> str:
    renew = f"if the new text is right: python -m pytest {OPTION} {shlex.quote(test)}"
    if wanted is None:
        return f"{file} is missing; {renew}"
    lines = difflib.unified_diff(
        wanted.splitlines(), found.splitlines(), file.name, "found", lineterm=""
    )
    return "\n".join([f"{file} differs:", *lines, renew])
