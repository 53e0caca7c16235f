# SPDX-License-Identifier: Apache-2.0
"""Finds the folder of trained networks and data sets.

In: NEURALMATRIX_DATA, else shared/data next to the repository.  Out: that folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"


def find_data() -> Path | None:
    """Return the folder of trained networks and data sets, or None."""
    folder = Path(os.environ.get("NEURALMATRIX_DATA") or BESIDE)
    return folder if folder.is_dir() else None


def data_folder() -> Path:
    """Return the folder of trained networks and data sets, or exit with a message."""
    folder = find_data()
    if folder is None:
        named = os.environ.get("NEURALMATRIX_DATA") or BESIDE
        sys.exit(f"no data at {named}; set NEURALMATRIX_DATA to the folder of data sets")
    return folder
