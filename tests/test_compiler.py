# SPDX-License-Identifier: Apache-2.0
"""compile_model from end to end: options, stages, reach of the schedule.

In: networks of models/zoo.py.  Out: programs, their estimates, errors by text.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.compiler import Options, compile_model, front_end, passes
from neuralmatrix.demo.tasks import task
from neuralmatrix.stages import Stages
from neuralmatrix.transforms.graph.simplify import PASSES
from slow import slow_after
from targets import target

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
import zoo  # noqa: E402
import zoo_transformers as zt  # noqa: E402


def images(size: int, count: int = 2) -> list[dict[str, np.ndarray]]:
    x = np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)
    return [{"input": x}]


def test_every_stage_is_written(tmp_path: Path) -> None:
    compile_model(zoo.small_cnn(), calibration=images_of(zoo.small_cnn()), keep_stages=tmp_path)
    texts = {p.name: p.read_text() for p in tmp_path.iterdir()}
    names = [name for name, _ in passes(Options())]
    assert sorted(texts) == [f"{i:02d}-{name}.txt" for i, name in enumerate(names, 1)]
    same = {name for name, text in texts.items() if text == "unchanged\n"}
    assert all(texts[name].count("\n") > 3 for name in texts.keys() - same)
    assert "16-reorder_nodes.txt" in same and "03-lower_graph.txt" not in same


def test_the_list_of_passes_is_the_order_of_the_compiler() -> None:
    assert [name for name, _ in passes(Options())] == [
        "import_onnx", "simplify", "lower_graph", "fuse_epilogues", "quantize_before_moves",
        "split_projections", "fuse_epilogues", "fuse_row_statistics", "defer_bias",
        "center_residuals", "pad_heads",
        "fold_input_permutations", "order_channels", "fold_row_scales", "choose_orientation",
        "reorder_nodes", "split_wide", "split_windows", "choose_numbers", "level_spectra",
        "split_scales", "exact_outputs", "equalize", "widen_weights", "exact_means", "exact_biases",
        "legalize_operands", "tie_scales",
        "set_ranges", "correct_biases", "choose_scales", "round_weights", "quantize",
        "measure_accuracy", "schedule",
    ]  # fmt: skip


def test_rewrites_of_simplify_are_written_by_name(tmp_path: Path) -> None:
    compile_model(zoo.small_cnn(), calibration=images_of(zoo.small_cnn()), keep_stages=tmp_path)
    lines = (tmp_path / "02-simplify.txt").read_text().splitlines()
    notes = dict(line.split(": ", 1) for line in lines[: len(PASSES)])
    assert list(notes) == [name for name, _ in PASSES]
    assert re.fullmatch(
        r"changed the graph in [1-9] of \d rounds, [\d.]+ ms", notes["fold_into_weights"]
    )


@pytest.mark.parametrize("name", ("digits", "transformer", "gnn"))
def test_fusing_again_changes_nothing_where_nothing_was_split(name: str, tmp_path: Path) -> None:
    chosen = task(name)
    front_end(chosen.model, target(), Options(stages=Stages(tmp_path)))
    split, again = ((tmp_path / f).read_text() for f in (
        "06-split_projections.txt", "07-fuse_epilogues.txt"))  # fmt: skip
    assert split != "unchanged\n" or again == "unchanged\n"


def images_of(model: object) -> list[dict[str, np.ndarray]]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    return [{"input": rng.standard_normal([4, *shape[1:]]).astype(np.float32)}]


def test_compiling_twice_gives_the_same_program() -> None:
    model = zoo.small_cnn()
    one, two = (compile_model(model, calibration=images_of(model)) for _ in range(2))
    np.testing.assert_array_equal(one.instructions, two.instructions)
    np.testing.assert_array_equal(one.const, two.const)


def print_digest() -> None:
    """Of a transformer that centres two constants, as a process of its own compiles it."""
    model = zt.vit(8, 2, 1, 10, zt.Size(32, 1, 2, 64, 17))
    feed = {"input": np.random.default_rng(0).standard_normal((1, 1, 8, 8)).astype(np.float32)}
    program = compile_model(model, calibration=[feed])
    print(hashlib.sha256(program.instructions.tobytes() + program.const.tobytes()).hexdigest())


@pytest.mark.slow
def test_the_order_of_sets_does_not_matter() -> None:
    code = "import test_compiler; test_compiler.print_digest()"
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in "0123"
    }  # fmt: skip
    assert len(found) == 1


def test_calibration_is_required_for_a_float_model() -> None:
    with pytest.raises(nm.BadInput, match=r"no calibration given.*input\(s\) input.*calibration="):
        compile_model(zoo.small_cnn())


def test_unknown_precision_and_board() -> None:
    with pytest.raises(nm.BadInput, match="precision 'int4'; allowed are int8, int16"):
        compile_model(zoo.small_cnn(), precision="int4")
    with pytest.raises(nm.BadInput, match="unknown board 'de10'; allowed are .*pynq-z2"):
        compile_model(zoo.small_cnn(), board="de10")


# The bars of the cycle model on PYNQ-Z2, batch 1.  Estimates are exact integers: no tolerance.
UTILIZATION = {"resnet20": 0.65, "resnet18": 0.85, "mobilenet_v1": 0.45, "mobilenet_v2": 0.45}


@pytest.mark.parametrize("name", slow_after(1, UTILIZATION))
def test_the_array_is_kept_busy(name: str) -> None:
    size = 32 if name == "resnet20" else 224
    program = compile_model(getattr(zoo, name)(size=size), calibration=images(size, 1))
    found = program.estimate()
    assert found.utilization >= UTILIZATION[name]
    assert found.macs == sum(layer.macs for layer in found.layers)
    if name == "resnet20":
        assert 1 / found.latency_s > 300


def test_the_host_only_converts_numbers() -> None:
    program = compile_model(zoo.resnet20(), calibration=images(32))
    assert program.host_ops == ("quantize", "dequantize")
