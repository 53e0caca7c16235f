# SPDX-License-Identifier: Apache-2.0
"""The runner of passes: order, times, verification, texts, progress."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from neuralmatrix.errors import BadModel, CompilerFault, DoesNotFit, NeuralMatrixError
from neuralmatrix.hardware.target import Target
from neuralmatrix.ir.graph.nodes import Graph
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph, Port, Tensor
from neuralmatrix.program.program import Program
from neuralmatrix.stages import Stages, equal, part
from targets import target


def product(inner: int = 3) -> MatGraph:
    """y = x W."""
    tensors = {"x": Tensor("x", (1, 1, 2, 3)), "y": Tensor("y", (1, 1, 2, 4))}
    ports = [(Port(name, t.shape, name, ()),) for name, t in tensors.items()]
    op = Gemm("y", "x", np.ones((1, 1, inner, 4), np.float32), np.zeros(4, np.float32))
    return MatGraph(*ports, (op,), tensors, {})


def doubled(mg: MatGraph, _: Target) -> MatGraph:
    (op,) = mg.ops
    return replace(mg, ops=(replace(op, weight=2 * op.weight),))


def same(mg: MatGraph, _: Target) -> MatGraph:
    return mg


def copied(mg: MatGraph, _: Target) -> MatGraph:
    (op,) = mg.ops
    return replace(mg, ops=(replace(op, weight=op.weight.copy()),))


def test_each_pass_takes_the_result_of_the_one_before_and_the_target() -> None:
    seen = []

    def watching(mg: MatGraph, given: Target) -> MatGraph:
        seen.append((float(mg.ops[0].weight[0, 0, 0, 0]), given))
        return doubled(mg, given)

    stages, kv260 = Stages(), target("kv260")
    found = stages.run((("a", watching), ("b", watching)), product(), kv260)
    assert seen == [(1.0, kv260), (2.0, kv260)] and found.ops[0].weight[0, 0, 0, 0] == 4
    assert [name for name, _ in stages.seconds] == ["a", "b"]
    assert all(seconds > 0 for _, seconds in stages.seconds)
    assert stages.results == {MatGraph: found}


def test_every_result_is_verified_by_its_type() -> None:
    with pytest.raises(CompilerFault, match="broken failed .*Gemm 'y'.*report it"):
        Stages().run((("broken", lambda mg, _: product(inner=5)),), product(), target())
    nodeless = Graph((), ("y",), (), {}, {})
    with pytest.raises(CompilerFault, match="broken failed .*nothing defines the output 'y'"):
        Stages().run((("broken", lambda mg, _: nodeless),), product(), target())
    with pytest.raises(BadModel, match="nothing defines the output 'y'"):  # what a model says
        Stages().run((("import_onnx", lambda mg, _: nodeless),), product(), target())


def test_an_error_of_a_pass_names_the_layer_and_asks_for_a_report() -> None:
    def failing(mg: MatGraph, _: Target) -> MatGraph:
        def on(op: Gemm) -> None:
            raise ValueError("shapes do not match")

        for op in mg.ops:
            on(replace(op, source="block.1"))
        return mg

    with pytest.raises(CompilerFault) as found:
        Stages().run((("merge", failing),), product(), target())
    text = str(found.value)
    assert text.startswith("a fault of the compiler, not of the model: merge failed at layer")
    assert "'block.1' (ValueError: shapes do not match); please report it" in text
    assert isinstance(found.value.__cause__, ValueError)


def test_a_bad_program_of_a_pass_is_no_damaged_file(program: Program) -> None:
    words = program.instructions.copy()
    words[0, 1:] = 2**32 - 1
    broken = replace(program, instructions=words)
    with pytest.raises(CompilerFault, match="schedule failed.*please report it") as found:
        Stages().run((("schedule", lambda *_: broken),), product(), target())
    assert "compile it again" not in str(found.value)


def test_lack_of_memory_is_called_so() -> None:
    def failing(*_: object) -> MatGraph:
        raise MemoryError

    with pytest.raises(DoesNotFit, match=r"too little free memory to compile the network \(in big"):
        Stages().run((("big", failing),), product(), target())


def test_texts_say_what_did_not_change(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "new")
    names = {"first": doubled, "second": same, "third": copied}
    stages.run(tuple(names.items()), product(), target())
    texts = {p.name: p.read_text() for p in (tmp_path / "new").iterdir()}
    assert set(texts) == {"01-first.txt", "02-second.txt", "03-third.txt"}
    assert "y: 1x1x2x4 = Gemm" in texts["01-first.txt"]
    assert texts["02-second.txt"] == texts["03-third.txt"] == "unchanged\n"


def test_notes_stand_above_the_text_of_their_own_pass(tmp_path: Path) -> None:
    stages = Stages(tmp_path)

    def noting(mg: MatGraph, _: Target) -> MatGraph:
        stages.note("something was done")
        return mg

    stages.run((("noting", noting), ("same", same)), product(), target())
    assert (tmp_path / "01-noting.txt").read_text() == "something was done\nunchanged\n"
    assert (tmp_path / "02-same.txt").read_text() == "unchanged\n"


def test_progress_hears_stages_and_their_steps() -> None:
    provenance_label: list[str] = []
    stages = Stages(progress=provenance_label.append)

    def stepping(mg: MatGraph, _: Target) -> MatGraph:
        stages.step("tensor 1 of 2")
        return mg

    stages.run((("same", same), ("long", stepping)), product(), target())
    assert provenance_label == ["same", "long", "long: tensor 1 of 2"]


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NeuralMatrixError, match="cannot write stages to .*; choose a writable"):
        Stages(tmp_path / "file").run((("same", same),), product(), target())


def test_part_is_named_by_its_ends() -> None:
    whole = tuple((name, same) for name in "abcb")
    assert [name for name, _ in part(whole, "b", "c")] == ["b", "c"]


@pytest.mark.parametrize("other, result", [
    (product(), True), (doubled(product(), target()), False), (product(5), False), (None, False),
    (replace(product(), constants={"c": np.zeros(1)}), False),
])  # fmt: skip
def test_equal_compares_values(other: object, result: bool) -> None:
    assert equal(product(), other) == result
