# SPDX-License-Identifier: Apache-2.0
"""Quantised networks of other packages, each in an environment of its own, as a page.

In: the lists of packages beside this file.  Out: a table; with --markdown the page
docs/quantized-formats.md, with --record small exports as test data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from .page import page

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
BUILD = REPOSITORY / "build" / "formats"
# by the list of packages beside this file: the module that runs there, and its arguments
ENVIRONMENTS = {
    "brevitas": ("run_brevitas",),
    "torchao": ("run_torchao",),
    "hls4ml": ("run_hls4ml", "hls4ml"),
    "qkeras": ("run_hls4ml", "qkeras"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, default=None, help="write the page there")
    parser.add_argument("--record", type=Path, default=None, help="folder for small exports")
    parser.add_argument("--environments", type=Path, default=BUILD, help="folder of environments")
    given = parser.parse_args()
    results = {name: result(name, given.environments, given.record) for name in ENVIRONMENTS}
    text = page(results)
    print(text)
    if given.markdown:
        given.markdown.write_text(text, encoding="utf-8")


def result(name: str, environments: Path, folder: Path | None) -> dict[str, Any]:
    """Return what the networks of one environment gave."""
    python = environment(name, environments)
    module, *arguments = ENVIRONMENTS[name]
    record = ["--record", str(folder)] if folder else []
    paths = os.pathsep.join((str(REPOSITORY / "host"), str(REPOSITORY)))
    done = subprocess.run(
        [str(python), "-m", f"bench.formats.{module}", *arguments, *record],
        env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def environment(name: str, folder: Path) -> Path:
    """Return the Python of an environment, which is made once."""
    home = folder / name
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "-r", str(HERE / f"{name}.txt"), "numpy>=1.21"], check=True)
    return python


if __name__ == "__main__":
    main()
