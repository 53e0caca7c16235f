# SPDX-License-Identifier: Apache-2.0
"""``python hls/lint [--ports] [FILES]``: checks that the kernels can be synthesized.

In: C++ sources, by default those of hls/src.  Out: one line per finding; 1 if there is any, 2 if
a file cannot be parsed.  With --ports: the kernels' arguments and interface pragmas as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ports import listing
from rules import findings
from tree import HLS, LintError, Unit, parse

PORTS = "--ports"


def main(arguments: list[str]) -> int:
    names = [name for name in arguments if name != PORTS]
    sources = [Path(name) for name in names] or sorted((HLS / "src").glob("*.cpp"))
    try:
        units = [parse(source) for source in sources]
    except LintError as error:
        print(error, file=sys.stderr)
        return 2
    return show_ports(units) if PORTS in arguments else show_findings(units)


def show_ports(units: list[Unit]) -> int:
    print(json.dumps({name: ports for unit in units for name, ports in listing(unit).items()}))
    return 0


def show_findings(units: list[Unit]) -> int:
    # A header's finding shows once, however many sources include it.
    found = {each for unit in units for each in findings(unit)}
    for each in sorted(found):
        print(each)
    print(f"{len(units)} sources, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
