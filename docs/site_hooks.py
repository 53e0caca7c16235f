# SPDX-License-Identifier: Apache-2.0
"""Hooks of the documentation site: pages of the repository's root, and links that leave docs/.

In: README.md, CONTRIBUTING.md, CHANGELOG.md and the pages of docs/, as GitHub shows them.
Out: the same as pages of the site.  The site knows no address of the repository, so a link to a
file that is no page keeps its text and loses its target.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
FIRST_PAGE_ENDS = "<!-- The first page of the documentation site ends here. -->"
NEXT = """
## Where to go next

* [Usage](docs/usage.md): every option, calibration, precision, the command line.
* [On a board](docs/on-a-board.md): from a board in its box to a network that runs on it.
* [The pipeline](docs/pipeline.md): one weight from `nm.compile` to a byte of the program.
* [Status](docs/status.md): what has been run, and what has not.
"""
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")


def _first_page() -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return readme.partition(FIRST_PAGE_ENDS)[0] + NEXT


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _pages() -> dict[str, str]:
    """Pages of the site that lie in the repository's root, by the site's name."""
    return {"index.md": _first_page()} | {
        name: _read(name) for name in ("CONTRIBUTING.md", "CHANGELOG.md")
    }


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the pages of the repository's root."""
    for name, text in _pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Links as they are in the repository become links of the site."""
    at_root = page.file.src_uri in _pages()
    folder = "" if at_root else "docs"
    known = {file.src_uri for file in files}
    parts = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [LINK.sub(lambda m: _link(m, folder, known), part) for part in parts[::2]]
    return "".join(parts)


def _link(match: re.Match[str], folder: str, known: set[str]) -> str:
    target, anchor = match["target"], match["anchor"] or ""
    if not target or "://" in target:
        return match[0]
    path = posixpath.normpath(posixpath.join(folder, target))
    name = {"README.md": "index.md"}.get(path, path.removeprefix("docs/"))
    if name not in known:
        return match["text"]
    return f"{match['image']}[{match['text']}]({name}{anchor})"
