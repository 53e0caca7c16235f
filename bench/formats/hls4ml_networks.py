# SPDX-License-Identifier: Apache-2.0
"""Small networks for each of hls4ml's converters, trained on handwritten digits.

In: the demo's digits.  Out: ``Trained``: the network's own outputs, and how hls4ml converts it.
A package is imported by the function that needs it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from neuralmatrix.demo.tasks import load_digits

Array = npt.NDArray[Any]
EPOCHS = 30
BATCH = 25
TRAINING = 350  # images; the others are judged
NARROW = "fixed<12,5,RND_CONV,SAT>"
WIDE = "fixed<16,6,RND,SAT>"


@dataclass(frozen=True)
class Data:
    """Images (N, 8, 8, 1) and labels, to train with and to judge by."""

    x: Array
    y: Array
    test_x: Array
    test_y: Array


@dataclass(frozen=True)
class Trained:
    """``inputs`` are of the shape that hls4ml's model takes; ``convert(backend, folder)`` makes
    that model; ``outputs`` are the network's own."""

    inputs: Array
    outputs: Array
    convert: Callable[[str, str], Any]


def digits() -> Data:
    """Return the demo's digits, channels last."""
    found = load_digits()
    x = np.ascontiguousarray(found.x.transpose(0, 2, 3, 1), np.float32)
    y = np.asarray(found.y, np.int64)
    return Data(x[:TRAINING], y[:TRAINING], x[TRAINING:], y[TRAINING:])


def _converted(package: str, model: Any, config: Mapping[str, Any]) -> Callable[[str, str], Any]:
    """Return how hls4ml converts a model of ``package``; a config is made for each backend."""
    import hls4ml

    def convert(backend: str, folder: str) -> Any:
        given = dict(config)
        if "hls_config" not in given:
            make = getattr(hls4ml.utils, f"config_from_{package}_model")
            given = {"hls_config": make(model, granularity="name", backend=backend, **given)}
        make = getattr(hls4ml.converters, f"convert_from_{package}_model")
        return make(model, backend=backend, output_dir=folder, io_type="io_parallel", **given)

    return convert


def _fitted(model: Any, losses: Any, data: Data, config: Mapping[str, Any]) -> Trained:
    """Train a model of Keras."""
    model.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data.x, data.y, epochs=EPOCHS, batch_size=BATCH, verbose=0)
    right = np.asarray(model.predict(data.test_x, verbose=0))
    return Trained(data.test_x, right, _converted("keras", model, config))


def keras3(data: Data) -> Trained:
    """A CNN of Keras 3, quantised by hls4ml's configuration."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from keras import layers as kl

    keras.utils.set_random_seed(0)
    model = keras.Sequential([
        keras.Input((8, 8, 1)), kl.Conv2D(8, 3, padding="same", activation="relu"),
        kl.MaxPooling2D(2), kl.Conv2D(16, 3, activation="relu"), kl.Flatten(), kl.Dense(10),
    ])  # fmt: skip
    return _fitted(model, keras.losses, data, {"default_precision": NARROW})


def hgq2(data: Data) -> Trained:
    """A CNN that HGQ2 quantises while it is trained."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    import keras
    from hgq.config import LayerConfigScope, QuantizerConfigScope
    from hgq.layers import QConv2D, QDense
    from hgq.utils import trace_minmax

    keras.utils.set_random_seed(0)
    weights = QuantizerConfigScope(place="all", default_q_type="kbi", overflow_mode="SAT_SYM")
    values = QuantizerConfigScope(
        place="datalane", default_q_type="kif", overflow_mode="SAT", round_mode="RND",
        heterogeneous_axis=(),
    )  # fmt: skip
    with weights, values, LayerConfigScope(enable_ebops=True, beta0=1e-6):
        model = keras.Sequential([
            keras.Input((8, 8, 1)), QConv2D(8, 3, activation="relu"),
            keras.layers.MaxPooling2D(2), keras.layers.Flatten(), QDense(10),
        ])  # fmt: skip
    precision = {"hls_config": {"Model": {"Precision": "fixed<16,6>", "ReuseFactor": 1}}}
    _fitted(model, keras.losses, data, precision)
    trace_minmax(model, data.x)
    right = np.asarray(model.predict(data.test_x, verbose=0))
    return Trained(data.test_x, right, _converted("keras", model, precision))


def qkeras(data: Data) -> Trained:
    """A CNN that QKeras quantises while it is trained."""
    import tensorflow as tf
    from qkeras import QActivation, QConv2D, QDense, quantized_bits

    tf.random.set_seed(0)

    def six() -> dict[str, Any]:
        return {f"{part}_quantizer": quantized_bits(6, 0, alpha=1) for part in ("kernel", "bias")}

    layers = tf.keras.layers
    model = tf.keras.Sequential([
        layers.Input((8, 8, 1)), QActivation("quantized_bits(6,1)"), QConv2D(8, 3, **six()),
        QActivation("quantized_relu(6,2)"), layers.MaxPooling2D(2), layers.Flatten(),
        QDense(10, **six()),
    ])  # fmt: skip
    return _fitted(model, tf.keras.losses, data, {})


def pytorch(data: Data) -> Trained:
    """A CNN of torch, quantised by hls4ml's configuration."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    x, test_x = (np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (data.x, data.test_x))
    right = _descended(net, x, data.y, test_x)
    config = {
        "input_shape": (1, 8, 8), "default_precision": NARROW, "channels_last_conversion": "full",
    }  # fmt: skip
    return Trained(test_x, right, _converted("pytorch", net, config))


def _descended(net: Any, x: Array, y: Array, test_x: Array) -> Array:
    """Train a module of torch, and return its outputs of ``test_x``."""
    import torch

    step = torch.optim.Adam(net.parameters(), 3e-3)
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(EPOCHS):
        for i in range(0, len(x), BATCH):
            step.zero_grad()
            part = slice(i, i + BATCH)
            torch.nn.functional.cross_entropy(net(inputs[part]), labels[part]).backward()
            step.step()
    net.eval()
    with torch.no_grad():
        return np.asarray(net(torch.from_numpy(test_x)).numpy())


def qonnx(data: Data) -> Trained:
    """An MLP trained with rounded weights and activations, written as QONNX."""
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.cleanup import cleanup_model

    from .qonnx_mlp import rounded_mlp, written

    flat, test = data.x.reshape(-1, 64), data.test_x.reshape(-1, 64)
    net = rounded_mlp()
    right = _descended(net, flat, data.y, test)
    model = cleanup_model(ModelWrapper(written(net)))
    return Trained(test, right, _converted("onnx", model, {"default_precision": WIDE}))


# by environment: the networks by the name of their package
NETWORKS: Mapping[str, Mapping[str, Callable[[Data], Trained]]] = {
    "hls4ml": {"Keras 3": keras3, "HGQ2": hgq2, "torch": pytorch, "QONNX": qonnx},
    "qkeras": {"QKeras": qkeras},
}
