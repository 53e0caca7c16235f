# SPDX-License-Identifier: Apache-2.0
"""torch modules exported to ONNX: values, names, training mode, and what is refused.

In: small modules; modules of models/ .  Out: the same numbers from onnxruntime.  Tests are skipped
without torch, except for those of a missing torch.
"""

from __future__ import annotations

import builtins
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from neuralmatrix.compiler import compile_model
from neuralmatrix.errors import BadInput, BadModel, ToolMissing
from neuralmatrix.frontend.torch import export as importer
from neuralmatrix.frontend.torch.tracing import trace

MODELS = Path(__file__).resolve().parents[3] / "models"
EXPORTERS = [
    "tracing",
    pytest.param(
        "torch.export",
        marks=[
            pytest.mark.skipif(find_spec("onnxscript") is None, reason="no onnxscript"),
            pytest.mark.slow,
        ],
    ),
]


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(params=EXPORTERS)
def exporter(request, monkeypatch):
    """Use only the named exporter."""
    one = importer._exporters()[request.param] if request.param != "tracing" else trace
    monkeypatch.setattr(importer, "_exporters", lambda: {request.param: one})
    return request.param


@pytest.fixture
def nets(torch, monkeypatch):
    """Return models/torch_transformers and models/torch_graphs."""
    monkeypatch.syspath_prepend(str(MODELS))
    import torch_graphs
    import torch_transformers

    yield torch_transformers, torch_graphs
    for name in ("torch_graphs", "torch_transformers"):
        sys.modules.pop(name)


def answers(proto, feeds):
    ort = pytest.importorskip("onnxruntime")
    return ort.InferenceSession(proto.SerializeToString()).run(None, feeds)


def small(torch):
    """A module with a batch normalisation and a dropout, which differ in training mode."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.ReLU(), torch.nn.Dropout(0.9),
        torch.nn.Flatten(), torch.nn.Linear(5 * 6 * 4, 7),
    )  # fmt: skip


@pytest.mark.slow
def test_values_in_inference_mode_and_training_mode_restored(torch, exporter):
    module = small(torch).train()
    module[3].eval()
    before = [part.training for part in module.modules()]
    x = torch.randn(1, 3, 8, 6)
    proto = importer.module_to_onnx(module, x)
    assert [part.training for part in module.modules()] == before
    (value,) = proto.graph.input
    assert [d.dim_value for d in value.type.tensor_type.shape.dim] == [1, 3, 8, 6]
    wanted = module.eval()(x).detach().numpy()
    # float32 sums of 120 products, in another order
    np.testing.assert_allclose(answers(proto, {value.name: x.numpy()})[0], wanted, atol=1e-5)


def test_names_of_inputs_outputs_nodes_and_parameters(torch, exporter):
    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = torch.nn.Linear(4, 6), torch.nn.Linear(4, 6)

        def forward(self, ids, scale=2.0, features=None):
            total = self.left(features) + self.right(features) * scale
            return {"sum": total, "rest": (total.relu(), ids + 1)}

    feeds = {"features": np.ones((1, 3, 4), np.float32), "ids": torch.arange(3)[None]}
    proto = importer.module_to_onnx(Pair(), {**feeds, "scale": 0.5})
    assert [value.name for value in proto.graph.input] == ["ids", "features"]
    assert [value.name for value in proto.graph.output] == ["sum", "rest_0", "rest_1"]
    assert {"/left/MatMul", "/right/MatMul"} <= {node.name for node in proto.graph.node}
    values = {name for node in proto.graph.node for name in node.output}
    assert {"/left/MatMul_output_0", "/right/MatMul_output_0"} <= values
    weights = {tensor.name for tensor in proto.graph.initializer}
    assert {"left.weight", "left.bias", "right.weight", "right.bias"} <= weights


def test_names_can_be_given(torch, exporter):
    proto = importer.module_to_onnx(small(torch), torch.zeros(1, 3, 8, 6), ["image"])
    assert proto.graph.input[0].name == "image"
    assert proto.graph.output[0].name == "output"


@pytest.mark.slow
def test_an_answer_that_is_an_input_keeps_both_names_apart(torch, exporter):
    class Keyed(torch.nn.Module):
        def forward(self, x):
            return {"x": x.relu()}

    proto = importer.module_to_onnx(Keyed(), torch.zeros(1, 4))
    assert (proto.graph.input[0].name, proto.graph.output[0].name) == ("x", "x_out")


@pytest.mark.slow
def test_transformers_of_the_models_folder(torch, nets, exporter):
    transformers, _ = nets
    torch.manual_seed(1)
    ids = torch.randint(0, 40, (1, 10))
    mask = (torch.arange(10) < 7).long()[None]
    cases = [
        (transformers.ViT(16, 8, 3, 5, 32, 1, 2, 64), {"image": torch.randn(1, 3, 16, 16)}),
        (transformers.TextClassifier(transformers.Bert(40, 10, 32, 1, 2, 64), 2),
         {"ids": ids, "mask": mask}),
        (transformers.Decoder(40, 10, 32, 1, 2, 64), {"ids": ids}),
    ]  # fmt: skip
    for module, feeds in cases:
        proto = importer.module_to_onnx(module, feeds)
        found = answers(proto, {name: value.numpy() for name, value in feeds.items()})[0]
        wanted = module.eval()(**feeds).detach().numpy()
        # float32 sums of up to 64 products, in another order
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", ["gcn", "sage", "gin", "gat"])
def test_graph_networks_of_the_models_folder(torch, nets, kind, dense):
    if kind == "gat" and not dense and find_spec("onnxscript") is None:
        pytest.skip("tracing writes a scattered maximum that onnxruntime refuses")
    _, graphs = nets
    torch.manual_seed(2)
    ring = torch.stack((torch.arange(9), (torch.arange(9) + 1) % 9))
    edges = torch.cat((ring, torch.randint(0, 9, (2, 14))), 1)
    module, x = graphs.graph_net(kind, (6, 8, 3), edges, 9, dense), torch.randn(9, 6)
    found = answers(importer.module_to_onnx(module, x), {"x": x.numpy()})[0]
    # float32 sums of up to 9 products, in another order
    np.testing.assert_allclose(found, module.eval()(x).detach().numpy(), atol=1e-5)


@pytest.mark.slow
def test_compile_keeps_the_names_of_submodules(torch, nets, exporter):
    transformers, _ = nets
    torch.manual_seed(3)
    block = transformers.Block(
        transformers.Attention(16, 1), transformers.FeedForward(16, 16),
        lambda: torch.nn.LayerNorm(16),
    )  # fmt: skip
    x = np.random.default_rng(3).normal(size=(1, 4, 16)).astype(np.float32)
    program = compile_model(block, example_inputs=x, calibration=[{"x": x}])
    names = [layer.name for layer in program.layers]
    for part in ("/attention/query/", "/attention/key/", "/attention/value/", "/feed_forward/"):
        assert any(name.startswith(part) for name in names), names


@pytest.mark.slow
@pytest.mark.gxx
def test_compile_takes_a_module_and_numpy_calibration(torch):
    import neuralmatrix as nm

    module, rng = small(torch), np.random.default_rng(0)
    x = rng.normal(size=(16, 3, 8, 6)).astype(np.float32)
    program = nm.compile(module, example_inputs=torch.zeros(1, 3, 8, 6), calibration=[{"input": x}])
    found = nm.Session(program).run({"input": x})["output"]
    wanted = module.eval()(torch.from_numpy(x)).detach().numpy()
    # int8 steps of three layers: a few percent of the largest output
    assert np.abs(found - wanted).max() < 0.06 * np.abs(wanted).max()


# ------------------------------------------------------------------------------ refusals


@pytest.mark.slow
def test_modules_that_cannot_be_exported_are_refused(torch):
    class Strange(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    class Listed(torch.nn.Module):
        def forward(self, x):
            return x.tolist()

    with pytest.raises(BadModel, match=r"Strange cannot be exported to ONNX \(.*eigvals"):
        importer.module_to_onnx(Strange(), torch.ones(3, 3))
    with pytest.raises(BadModel, match="result holds no tensor"):
        importer.module_to_onnx(Listed(), torch.ones(3, 3))


@pytest.mark.slow
def test_a_branch_that_depends_on_values_is_refused(torch):
    class Chooses(torch.nn.Module):
        def forward(self, x):
            return -x if x.sum() > 0 else x

    with pytest.raises(BadModel, match=r"Chooses cannot be exported to ONNX \(.*data.dependent"):
        importer.module_to_onnx(Chooses(), torch.ones(1, 4))


def test_tracing_freezes_no_value(torch, monkeypatch, capsys):
    class Scales(torch.nn.Module):
        def forward(self, x):
            return x * x.max().item()

    monkeypatch.setattr(importer, "_exporters", lambda: {"tracing": trace})
    with pytest.raises(
        BadModel, match=r"\(tracing: ValueError: data-dependent: Converting a tensor"
    ):
        importer.module_to_onnx(Scales(), torch.ones(1, 4))
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_sizes_may_be_used_in_python(torch):
    class Halves(torch.nn.Module):
        def forward(self, x):
            return x[:, : x.size(1) // 2] if x.size(1) > 1 else x

    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        assert importer.module_to_onnx(Halves(), torch.ones(1, 4)).graph.node


@pytest.mark.slow
def test_values_of_constants_may_be_used_in_python(torch):
    class Masked(torch.nn.Module):
        def forward(self, x):
            mask = torch.ones(4, 4).triu(1)
            return -x if mask.sum() > 5 else x

    x = torch.ones(1, 4)
    proto = importer.module_to_onnx(Masked(), x)
    assert (answers(proto, {"x": x.numpy()})[0] == -1).all()


@pytest.mark.slow
def test_a_layer_with_a_fused_kernel_and_defaults_is_taken_apart(torch):
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval()
    x = torch.randn(1, 5, 16)
    fast = torch.backends.mha.get_fastpath_enabled()
    proto = importer.module_to_onnx(layer, x)
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert [value.name for value in proto.graph.input] == ["src"]
    # float32 sums in another order
    found = answers(proto, {"src": x.numpy()})[0]
    np.testing.assert_allclose(found, layer(x).detach().numpy(), atol=1e-5)


@pytest.mark.slow
def test_a_failing_export_restores_the_training_mode(torch):
    class Fails(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).real

    module = Fails().train()
    with pytest.raises(BadModel):
        importer.module_to_onnx(module, torch.ones(3, 3))
    assert module.training


@pytest.mark.parametrize(
    ("examples", "error", "text"),
    [
        (lambda t: t.ones(1, 5), BadModel, "Linear fails on the example inputs: RuntimeError: mat"),
        (lambda t: (t.ones(1, 4), t.ones(1)), BadInput, "2 positional.*do not fit Linear.forward"),
        (lambda t: {"y": t.ones(1, 4)}, BadInput, "named y.*do not fit Linear.forward"),
        (lambda t: ([t.ones(1, 4)],), BadInput, "number 0 is a list; allowed are tensors"),
        (lambda t: (None,), BadInput, "hold no tensor"),
    ],
)
def test_unfit_examples_are_refused(torch, examples, error, text):
    with pytest.raises(error, match=text):
        importer.module_to_onnx(torch.nn.Linear(4, 2), examples(torch))


def test_too_many_names_are_refused(torch):
    with pytest.raises(BadInput, match=r"2 input names for 1 tensors \(input\)"):
        importer.module_to_onnx(torch.nn.Linear(4, 2), torch.ones(1, 4), ["a", "b"])


def test_a_module_needs_examples_and_only_a_module(torch):
    with pytest.raises(BadInput, match="torch module .Linear. and no example inputs"):
        compile_model(torch.nn.Linear(4, 2))
    with pytest.raises(BadInput, match="the model is a str; allowed with them is a torch.nn"):
        compile_model("net.onnx", example_inputs=torch.ones(1, 4))


def test_missing_torch_names_the_extra(monkeypatch):
    def no_torch(name, *args, **kwargs):
        if name.split(".")[0] == "torch":
            raise ImportError("No module named 'torch'")
        return imported(name, *args, **kwargs)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", no_torch)
    with pytest.raises(ToolMissing, match=r"extra \[torch\]"):
        importer.module_to_onnx(object(), None)


def test_a_torchscript_module_is_refused_with_what_to_give(torch) -> None:
    script = torch.jit.trace(torch.nn.Linear(4, 2), torch.zeros(1, 4))
    with pytest.raises(BadModel, match="TorchScript module .*allowed is the torch.nn.Module"):
        compile_model(script, example_inputs=torch.zeros(1, 4))


def test_an_exported_program_is_compiled(torch) -> None:
    pytest.importorskip("onnxscript")
    net = torch.nn.Linear(4, 2)
    exported = torch.export.export(net, (torch.zeros(1, 4),))
    feeds = [{"input": np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)}]
    program = compile_model(exported, example_inputs=torch.zeros(1, 4), calibration=feeds)
    assert [port.name for port in program.inputs] == ["input"]


def test_exported_programs_need_no_examples(torch) -> None:
    pytest.importorskip("onnxscript")
    net, x = torch.nn.Linear(4, 2), torch.zeros(1, 4)
    feeds = [{"input": np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)}]
    exported = torch.export.export(net.eval(), (x,))
    onnx_program = torch.onnx.export(exported, dynamo=True, verbose=False)
    for program in (exported, onnx_program):
        compiled = compile_model(program, calibration=feeds, accuracy=False)
        assert [port.shape for port in compiled.inputs] == [(1, 4)]


def test_simulated_quantisation_is_refused_with_what_to_do(torch) -> None:
    from torch.ao.quantization import FakeQuantize

    net = torch.nn.Sequential(torch.nn.Linear(4, 2), FakeQuantize())
    with pytest.raises(BadModel, match=r"simulates quantisation .*convert_pt2e\) and give"):
        compile_model(net, example_inputs=torch.zeros(1, 4))
