# SPDX-License-Identifier: Apache-2.0
"""hls4ml's backend: plug-in, configuration, predictions, traces, builds, refusals.

In: small torch networks, converted by hls4ml.  Out: what hls4ml's own compiled emulation has.
Skipped without hls4ml 1.3 and torch.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from conftest import pynq
from far_board import emulated_board
from neuralmatrix.compiler import compile_model
from neuralmatrix.errors import BadInput, BadModel, UnsupportedModel
from neuralmatrix.frontend.hls4ml.model_graph import HANDLERS, handler_of, is_model_graph
from neuralmatrix.frontend.onnx.context import Refused

hls4ml = pytest.importorskip("hls4ml", "1.3")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.gxx

TYPE = "fixed<8,4,RND_CONV,SAT>"


def mlp(seed=0):
    torch.manual_seed(seed)
    nn = torch.nn
    module = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3.0)
    return module, (8,)


def cnn():
    torch.manual_seed(0)
    nn = torch.nn
    layers = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
              nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)]  # fmt: skip
    return nn.Sequential(*layers).eval(), (2, 8, 8)


def converted(folder, network, precision=TYPE, backend="NeuralMatrix", types=None, **options):
    """Return a ModelGraph whose last layer's result has ``precision``."""
    module, shape = network
    config = hls4ml.utils.config_from_pytorch_model(
        module, shape, granularity="name", default_precision=precision, backend=backend,
        channels_last_conversion="full",
    )  # fmt: skip
    names = list(config["LayerName"])
    config["LayerName"][names[-1]]["Precision"]["result"] = precision
    for (layer, what), text in (types or {}).items():
        config["LayerName"][names[layer]]["Precision"][what] = text
    return hls4ml.converters.convert_from_pytorch_model(
        module, hls_config=config, output_dir=str(folder), backend=backend, **options
    )


def samples(shape, count=50):
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32) * 2


def test_hls4ml_finds_the_backend():
    assert "neuralmatrix" in hls4ml.backends.get_available_backends()


def test_a_model_is_compiled_predicted_traced_and_built(tmp_path):
    model = converted(tmp_path, mlp(), board="pynq-z2", strict=True)
    model.compile()
    x = samples((8,))
    y = model.predict(x)
    assert y.shape == (50, 3) and model.predict(x[:1]).shape == (3,)
    again, layers = model.trace(x)
    assert np.array_equal(again, y) and np.array_equal(list(layers.values())[-1], y)
    report = model.build()
    assert report["estimate"]["cycles"] > 0 and report["board"] == "pynq-z2"
    assert {path.suffix for path in tmp_path.iterdir()} == {".onnx", ".nmx"}
    assert is_model_graph(model) and np.array_equal(compile_model(model).const, (
        compile_model(tmp_path / "myproject.onnx").const))  # fmt: skip


def test_the_configuration_of_one_layer_changes_the_program(tmp_path):
    plain = compile_model(converted(tmp_path, mlp()))
    other = compile_model(converted(tmp_path, mlp(), types={(1, "weight"): "fixed<4,2,RND,SAT>"}))
    assert plain.const.shape == other.const.shape and not np.array_equal(plain.const, other.const)


def test_overflow_and_accumulators_are_noted_or_refused(tmp_path):
    types = {(1, "accum"): "fixed<8,4>", (3, "result"): "fixed<8,2,TRN,WRAP>"}
    model = converted(tmp_path, mlp(), types=types)
    notes = " ".join(compile_model(model).notes)
    assert "accum_t fixed<8,4,TRN,WRAP>" in notes and "may overflow" in notes
    with pytest.raises(BadModel, match="strict is given"):
        compile_model(model, strict=True)


def test_layers_that_the_array_has_not_are_refused_together(tmp_path):
    nn = torch.nn
    module = nn.Sequential(nn.Linear(8, 4), nn.Threshold(0.3, 0.0), nn.Linear(4, 2)).eval()
    try:
        model = converted(tmp_path, (module, (8,)))
    except Exception:  # hls4ml's converter itself
        pytest.skip("hls4ml does not convert a threshold")
    with pytest.raises(UnsupportedModel):
        compile_model(model)


def test_every_layer_of_hls4ml_is_handled_or_says_what_to_do_instead():
    from hls4ml.model.layers import layer_map

    refused = {}
    for kind in set(layer_map.values()):
        if kind.__name__ in ("Input", "LayerGroup"):
            continue
        try:
            handler_of(kind.__new__(kind))
        except Refused as reason:
            refused[kind.__name__] = str(reason)
    assert {"Embedding", "EinsumDense", "BipolarQuant", "GarNet"} <= set(refused)
    plain = {name for name, reason in refused.items() if reason.startswith("no such layer")}
    assert plain <= BEFORE_THE_FLOWS and "Bidirectional" in HANDLERS


# Layers that hls4ml's optimisers replace by others before a backend sees them.
BEFORE_THE_FLOWS = {
    "BatchNormOnnx", "Broadcast", "Constant", "Conv", "MatMul", "Quant", "SeparableConv1D",
    "SeparableConv2D",
}  # fmt: skip


def test_means_of_negative_values_are_noted(tmp_path):
    nn = torch.nn
    pool = nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 3)).eval()
    notes = " ".join(compile_model(converted(tmp_path, (pool, (2, 8, 8)))).notes)
    assert "toward 0" in notes
    plain = " ".join(compile_model(converted(tmp_path, cnn())).notes)
    assert "toward 0" not in plain  # behind a ReLU


def test_profiling_shows_the_arrays_values(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    pytest.importorskip("seaborn")
    matplotlib.use("agg")
    from hls4ml.model.profiling import numerical

    module, shape = mlp()
    model = converted(tmp_path, (module, shape))
    for layer in model.get_layers():
        layer.set_attr("trace", True)
    model.compile()
    figures = numerical(model=module, hls_model=model, X=samples(shape))
    assert all(figure is not None for figure in figures)


@pytest.mark.ssh
def test_a_build_runs_on_a_board(tmp_path):
    model = converted(tmp_path / "project", mlp())
    model.compile()
    x = samples((8,), 5)
    (tmp_path / "sshd").mkdir()
    with emulated_board(tmp_path / "sshd", "pynq-z2") as far:
        report = model.build(
            deploy=far.target, inputs=x, device="pynq" if pynq() else "emulation",
            python=sys.executable, remote_dir=str(tmp_path / "there"),
        )  # fmt: skip
    (found,) = np.load(report["outputs"]).values()
    assert np.array_equal(found.reshape(5, -1), model.predict(x))
    assert report["run"] and report["estimate"]["cycles"] > 0


def test_wrong_inputs_are_named(tmp_path):
    model = converted(tmp_path, mlp())
    with pytest.raises(BadInput, match="call compile"):
        model.predict(samples((8,)))
    model.compile()
    with pytest.raises(BadInput, match="allowed is"):
        model.predict(samples((7,), 3))


@pytest.mark.slow
@pytest.mark.parametrize("precision", [TYPE, "fixed<16,6,RND,SAT>", "fixed<9,4>"])
def test_outputs_equal_those_of_hls4ml(tmp_path, precision):
    theirs = converted(tmp_path / "vitis", cnn(), precision, backend="Vitis")
    theirs.compile()
    ours = converted(tmp_path / "ours", cnn(), precision)
    ours.compile()
    x = samples((2, 8, 8))
    assert np.array_equal(ours.predict(x), theirs.predict(x))
    assert len(np.unique(ours.predict(x))) > 20


@pytest.mark.parametrize("mode", ["concat", "sum", "ave", "mul"])
@pytest.mark.parametrize("whole", [False, True], ids=["last state", "all states"])
def test_both_directions_of_a_recurrence(tmp_path, mode, whole):
    keras = pytest.importorskip("keras", "3")
    keras.utils.set_random_seed(1)
    cell = keras.layers.LSTM(5, return_sequences=whole)
    module = keras.Sequential([
        keras.layers.Input((4, 3)), keras.layers.Bidirectional(cell, merge_mode=mode)
    ])  # fmt: skip
    config = hls4ml.utils.config_from_keras_model(
        module, granularity="name", default_precision="fixed<16,6,RND,SAT>", backend="NeuralMatrix"
    )
    model = hls4ml.converters.convert_from_keras_model(
        module, hls_config=config, output_dir=str(tmp_path), backend="NeuralMatrix"
    )
    model.compile()
    x = samples((4, 3), 30)
    right = np.asarray(module(x)).reshape(30, -1)
    assert np.abs(model.predict(x) - right).max() < 0.01 < np.abs(right).max()
