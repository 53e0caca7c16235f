# SPDX-License-Identifier: Apache-2.0
"""Builds, exports and compares the networks of Brevitas, and records small exports.

In: arguments; runs in the environment of brevitas.txt.  Out: rows as JSON on the last line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from brevitas.export import export_onnx_qcdq, export_qonnx
from torch import nn

from .brevitas_networks import NETWORKS, Network, settled
from .compared import Row, compared
from .recorded import record
from .trained import trained

Array = npt.NDArray[Any]
IMAGES = 32
PACKAGES = ("brevitas", "qonnx", "torch", "onnx", "onnxruntime")
# network, bits, form: small files for the tests
RECORDED = {
    ("mlp", 3, 3, "QCDQ"), ("resnet", 4, 4, "QCDQ"), ("mobile", 4, 4, "QONNX, tracing"),
    ("decoder", 4, 4, "QCDQ"), ("fixed_point", 2, 2, "QONNX"), ("shifted", 4, 4, "QCDQ"),
    ("binary", 1, 1, "QONNX, tracing"), ("attention", 4, 8, "QCDQ"), ("sound", 2, 2, "QCDQ"),
}  # fmt: skip
FORMS = {
    "QCDQ": lambda *a: export_onnx_qcdq(a[0], args=a[1], export_path=a[2], dynamo=False),
    "QONNX": lambda *a: export_qonnx(a[0], args=a[1], export_path=a[2], dynamo=True),
    "QONNX, tracing": lambda *a: export_qonnx(a[0], args=a[1], export_path=a[2], dynamo=False),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path, default=None)
    parser.add_argument("--only", nargs="*", default=[])
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    rows: list[Row] = []
    for name, network in NETWORKS.items():
        for w, a in network.bits if not given.only or name in given.only else ():
            rows += _rows(name, network, w, a, given.record)
    accuracies = [] if given.only else trained(FORMS)
    versions = {package: version(package) for package in PACKAGES}
    print(json.dumps({"versions": versions, "rows": [*map(asdict, rows)], "trained": accuracies}))


def _rows(name: str, network: Network, w: int, a: int, folder: Path | None) -> Iterator[Row]:
    """Yield one row for every form and judge."""
    torch.manual_seed(1)
    module = settled(network.make(w, a), network.shape)
    x = torch.randn(IMAGES, *network.shape)
    with torch.no_grad():
        right = plain(module(x))
    for form in FORMS if network.qcdq else [form for form in FORMS if form != "QCDQ"]:
        model = exported(module, x[:1], form)
        bits = f"{name} w{w}a{a}"
        yield compared(bits, form, model, x.numpy(), "Brevitas", right)
        if form == "QCDQ":
            yield compared(bits, form, model, x.numpy(), "onnxruntime", by_onnxruntime(model, x))
        if folder and (name, w, a, form) in RECORDED:
            kind = form.split(",")[0].lower()
            record(folder / f"{name}_w{w}a{a}_{kind}", model, x.numpy()[:8], right[:8])


def plain(result: Any) -> Array:
    """Return the values of a tensor, or of one with its scale."""
    return np.asarray(getattr(result, "value", result).detach().numpy())


def exported(module: nn.Module, example: torch.Tensor, form: str) -> onnx.ModelProto:
    """Return the model that Brevitas writes, with its tensors inside."""
    quiet = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(quiet):
        path = str(Path(folder) / "model.onnx")
        with contextlib.redirect_stderr(quiet):
            FORMS[form](module, example, path)
        return onnx.load(path)


def by_onnxruntime(model: onnx.ModelProto, x: torch.Tensor) -> Array:
    """Return onnxruntime's outputs, image by image, of the model as it is."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    (port,) = session.get_inputs()
    runs = [session.run(None, {port.name: one[None]})[0] for one in x.numpy()]
    return np.concatenate(runs)


if __name__ == "__main__":
    main()
