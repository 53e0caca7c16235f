# SPDX-License-Identifier: Apache-2.0
"""``python hls/lint [FILES]``: can the kernels be synthesized?

In: C++ sources, by default those of hls/src.  Out: one line a finding; 1 when there is any, 2 when
a file cannot be looked at.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rules import findings
from tree import HLS, LintError, parse


def main(arguments: list[str]) -> int:
    sources = [Path(name) for name in arguments] or sorted((HLS / "src").glob("*.cpp"))
    # A header's finding shows once, however many sources include it.
    found = set()
    try:
        for source in sources:
            found.update(findings(parse(source)))
    except LintError as error:
        print(error, file=sys.stderr)
        return 2
    for each in sorted(found):
        print(each)
    print(f"{len(sources)} sources, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
