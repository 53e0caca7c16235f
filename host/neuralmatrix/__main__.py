# SPDX-License-Identifier: Apache-2.0
"""``python -m neuralmatrix`` is the command line.

In: arguments.  Out: what cli.py prints.
"""

from .cli import main

if __name__ == "__main__":
    main()
