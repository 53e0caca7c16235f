# SPDX-License-Identifier: Apache-2.0
"""What the networks of others share: how one is described, found in its package and run in float.

In: an installed package.  Out: a ``Network``, whose ``evaluate`` judges any ``Run`` in percent.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import io
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Feed = dict[str, Array]
Run = Callable[[Feed], dict[str, Array]]


class Missing(Exception):
    """A package or program that a network needs is not installed."""


@dataclass(frozen=True)
class Score:
    """A metric in percent, and over how many decisions it was taken."""

    percent: float
    count: int


@dataclass(frozen=True)
class Loaded:
    """A model, the shapes of its dynamic inputs, and inputs bound to constants."""

    model: Any
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    constants: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Network:
    """One network: where it comes from, what calibrates it, and how its user would judge it.

    ``calibration`` returns feeds of one or N inputs.  ``evaluate(run, reference)`` returns the
    metric of ``run`` on inputs of other sources; ``reference`` is the network in float, for
    metrics that are agreement.  ``reads``: the outputs that the metric reads, if not all: no
    warning of another one is judged.
    """

    name: str
    package: str
    licence: str
    file: str
    judged: str
    load: Callable[[], Loaded]
    calibration: Callable[[], list[Feed]]
    evaluate: Callable[[Run, Run], Score]
    reads: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """The installed version of the package, "" for networks of this repository."""
        return importlib.metadata.version(self.package) if self.package else ""


def share(equal: Any) -> Score:
    """Return the share of true decisions."""
    decisions = np.asarray(equal, bool).ravel()
    return Score(100.0 * float(decisions.mean()), decisions.size)


def package_folder(module: str) -> Path:
    """Return where a package lies, without importing it; Missing if it is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise Missing(f"the package {module} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def package_file(module: str, file: str) -> Path:
    """Return a file of a package; Missing if the package or this version of it lacks it."""
    path = package_folder(module) / file
    if not path.is_file():
        raise Missing(f"the installed {module} has no {file}")
    return path


def submodule(module: str, name: str, **constants: Any) -> Any:
    """Import ``module.name`` without the package's __init__, which may need large frameworks.

    ``constants`` are attributes that the submodule expects of its package.
    """
    if module not in sys.modules:
        folder = package_folder(module)
        parent = types.ModuleType(module)
        parent.__path__ = [str(folder)]
        parent.__spec__ = importlib.machinery.ModuleSpec(module, None, is_package=True)
        parent.__spec__.submodule_search_locations = [str(folder)]
        sys.modules[module] = parent
    for key, value in constants.items():
        setattr(sys.modules[module], key, value)
    return importlib.import_module(f"{module}.{name}")


def onnx_file(module: str, file: str) -> Any:
    """Load an ONNX model of a package."""
    import onnx

    return onnx.load(str(package_file(module, file)))


def exported(net: Any, *inputs: Any, names: Sequence[str], outputs: Sequence[str]) -> Any:
    """Export a torch module as ONNX of opset 17 with the inputs' shapes."""
    import onnx
    import torch

    file = io.BytesIO()
    with torch.no_grad():
        torch.onnx.export(
            net.eval(), inputs, file, input_names=list(names), output_names=list(outputs),
            opset_version=17, dynamo=False,
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def float_run(loaded: Loaded) -> Run:
    """Return the network in float by onnxruntime, one input at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        loaded.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [port.name for port in session.get_outputs()]
    given = {port.name for port in session.get_inputs()}
    bound = {name: value for name, value in loaded.constants.items() if name in given}

    def run(feed: Feed) -> dict[str, Array]:
        answers = [session.run(None, {**one, **bound}) for one in split(feed)]
        if len(answers) == 1:
            return dict(zip(names, answers[0], strict=True))
        return {
            name: np.concatenate([np.atleast_1d(a[k]) for a in answers])
            for k, name in enumerate(names)
        }

    return run


def split(feed: Feed) -> list[Feed]:
    """Return the inputs of a feed one by one; arrays without a common leading N are one input."""
    counts = {len(array) for array in feed.values()}
    if len(counts) > 1:
        return [feed]
    return [{k: v[i : i + 1] for k, v in feed.items()} for i in range(counts.pop())]


def alone(run: Run, feed: Feed) -> dict[str, Array]:
    """Run one input after the other, for outputs that do not begin with a batch of 1."""
    answers = [run(one) for one in split(feed)]
    return {name: np.stack([a[name] for a in answers]) for name in answers[0]}


@cache
def float_part(module: str, file: str) -> Run:
    """Return a network of a package in float, as the front of another one."""
    return float_run(Loaded(onnx_file(module, file)))


def only(outputs: Mapping[str, Array], count: int) -> Array:
    """Return the only output, flattened per input."""
    (array,) = outputs.values()
    return np.asarray(array, np.float32).reshape(count, -1)


def cosine_nearest(found: Array, centroids: Array) -> Array:
    """Return the index of the most similar centroid for every row, around their mean."""
    middle = centroids.mean(0)
    centred = (found - middle, centroids - middle)
    unit = [a / (np.linalg.norm(a, axis=1, keepdims=True) + 1e-9) for a in centred]
    return np.asarray((unit[0] @ unit[1].T).argmax(1))
