# SPDX-License-Identifier: Apache-2.0
"""The networks of timm and torchvision that ``models/train_timm.py`` trains.

In: the stored weights; torch, timm and torchvision, and data where NEURALMATRIX_DATA is set.
Out: sizes, and the accuracy that the script states.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

LARGEST = 1_500_000  # bytes of a file of weights in this repository
TESTS = 2000


@pytest.fixture(scope="module")
def script() -> Any:
    """The module train_timm."""
    sys.path.insert(0, str(ROOT / "models"))
    try:
        import train_timm

        yield train_timm
    finally:
        sys.path.remove(str(ROOT / "models"))


def test_every_network_has_weights(script: Any) -> None:
    assert set(script.NETWORKS) == set(script.ACCURACIES) == set(script.EPOCHS)
    for name in script.NETWORKS:
        path = script.training.WEIGHTS / f"{name}.npz"
        assert path.stat().st_size <= LARGEST
        arrays = script.training.load_weights(name)
        assert all(np.isfinite(array).all() for array in arrays.values())


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["shufflenet_fashion", "mobilenetv3_fashion", "convnext_fashion"])
def test_stored_weights_reach_the_stated_accuracy(script: Any, name: str) -> None:
    for package in ("torch", "timm", "torchvision"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"no {package}")
    images, labels = script.padded("test")
    found = script.training.accuracy(script.stored(name), {"input": images[:TESTS]}, labels[:TESTS])
    # Three standard deviations of a share of 0.88 over these images.
    assert found == pytest.approx(script.ACCURACIES[name], abs=0.022)
