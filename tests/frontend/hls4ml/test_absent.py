# SPDX-License-Identifier: Apache-2.0
"""The backend of hls4ml where hls4ml is not installed.

In: an import that fails.  Out: one error that names the extra.
"""

from __future__ import annotations

import importlib
import sys

import pytest
from neuralmatrix.errors import ToolMissing


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "hls4ml"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hls4ml", None)  # its import fails
    monkeypatch.delitem(sys.modules, "neuralmatrix.hls4ml.backend", raising=False)
    with pytest.raises(ToolMissing, match=r"hls4ml 1\.3 or newer .*neuralmatrix\[hls4ml\]"):
        importlib.import_module("neuralmatrix.hls4ml.backend")
