# SPDX-License-Identifier: Apache-2.0
"""Arrays and shapes as the command line gets them.

In: ``.npz`` files, ``name=1x3x224x224``.  Out: arrays by name, shapes by name, ``.npz`` files.
A file is written all at once or not at all.
"""

from __future__ import annotations

import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BadInput, NeuralMatrixError

Array = npt.NDArray[Any]

_SHAPE = re.compile(r"(?P<name>.+)=(?P<dims>[1-9]\d{0,8}(?:[x,][1-9]\d{0,8})*)")


def parse_shapes(options: list[str]) -> dict[str, tuple[int, ...]]:
    """``["input=1x3x224x224"]`` to ``{"input": (1, 3, 224, 224)}``."""
    shapes = {}
    for option in options:
        match = _SHAPE.fullmatch(option)
        if match is None:
            raise BadInput(f"--shape: found {option!r}, allowed is NAME=1x3x224x224")
        shapes[match["name"]] = tuple(int(d) for d in re.split("[x,]", match["dims"]))
    return shapes


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays in a ``.npz`` file; nothing is unpickled."""
    try:
        data = np.load(path, allow_pickle=False)
        if isinstance(data, np.ndarray):
            raise BadInput(f"{path}: found a single array, allowed is .npz (numpy.savez)")
        with data:
            arrays = {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path}: found no readable .npz file ({error}); use numpy.savez") from None
    if not arrays:
        raise BadInput(f"{path}: found no arrays, allowed is one per input; use numpy.savez")
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Save arrays by name as ``.npz``."""
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=path.name, suffix=".part", delete=False
        ) as file:
            temporary = file.name
            with zipfile.ZipFile(file, "w") as archive:
                for name, array in arrays.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        text = f"cannot write {path}: {error.strerror or error}; choose a writable place"
        raise NeuralMatrixError(text) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
