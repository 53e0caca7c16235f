# SPDX-License-Identifier: Apache-2.0
"""Makes torchvision importable beside a torch for CPUs alone.

In: the installed packages.  Out: declarations of the operators that torchvision describes.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any


@cache
def declare_operators() -> Any:
    """Let torchvision be imported where its compiled operators do not load.

    The registry's torchvision is built for a torch with CUDA.  Beside a torch for CPUs alone, two
    operators that nothing here calls are missing when it describes them, unless they are declared.
    The declaration lasts as long as what is returned.
    """
    import torch

    found = importlib.util.find_spec("torchvision")
    folders = (found and found.submodule_search_locations) or ()
    try:
        for folder in folders:
            torch.ops.load_library(str(Path(folder) / "_C.so"))
        return None
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor boxes, Tensor scores, float overlap) -> Tensor")
        return library
