# SPDX-License-Identifier: Apache-2.0
"""``python -m neuralmatrix`` and ``neuralmatrix`` are the command line.

In: arguments.  Out: what cli.py prints.
"""

from __future__ import annotations

import sys

# The command line needs them in addition to numpy; running a program does not.
COMMAND_LINE = ("rich", "typer")


def main() -> None:
    """Run the command line, or name the packages that are missing for it."""
    try:
        from .cli.main import main as command_line
    except ModuleNotFoundError as error:
        if error.name not in COMMAND_LINE:
            raise
        sys.exit(
            f"error: the command line needs {' and '.join(COMMAND_LINE)}; "
            f"pip install {' '.join(COMMAND_LINE)} (Session and load run without them)"
        )
    command_line()


if __name__ == "__main__":
    main()
