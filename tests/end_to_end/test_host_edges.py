# SPDX-License-Identifier: Apache-2.0
"""Networks whose edges the host computes: masks and positions, detectors with their selection.

In: networks in the forms of their exporters.  Out: onnxruntime's results, from the same float
values where a selection follows them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import detectors
import neuralmatrix as nm
import numpy as np
import onnx
import pytest
import text_masks
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.frontend.onnx.cut import cut
from neuralmatrix.program.program import Program

pytestmark = [pytest.mark.gxx, pytest.mark.filterwarnings("ignore::UserWarning")]

Array = np.ndarray
RNG = np.random.default_rng(0)
INT64, BOOL = onnx.TensorProto.INT64, onnx.TensorProto.BOOL
DETECTORS: dict[str, Callable[[], onnx.ModelProto]] = {
    "rows of detections": detectors.detector,
    "best of all classes": detectors.best_of_all,
    "best of a number": detectors.best_of_a_number,
}


@cache
def detector(name: str) -> tuple[onnx.ModelProto, Program]:
    proto = DETECTORS[name]()
    return proto, nm.compile(proto, calibration=[{"x": detectors.pictures()}])


@cache
def texts(name: str) -> tuple[onnx.ModelProto, Program]:
    proto = text_masks.NETWORKS[name]()
    return proto, nm.compile(proto, calibration=[text_masks.feeds(proto)])


def loss_db(wanted: Array, found: Array) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


def one_by_one(proto: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, Array]:
    """onnxruntime's outputs of many inputs, which it takes one at a time."""
    count = len(next(iter(feeds.values())))
    runs = [onnxruntime_outputs(proto, {n: x[i : i + 1] for n, x in feeds.items()})
            for i in range(count)]  # fmt: skip
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


# ---------------------------------------------------------------- nothing for the array

X = RNG.normal(size=(1, 3, 4)).astype(np.float32)
HOST_ALONE: dict[str, tuple[onnx.ModelProto, dict[str, Array]]] = {
    "a shape": (
        model([node("Shape", ["x"], ["y"])], {"x": X.shape}, ["y"], types={"y": INT64}), {"x": X},
    ),
    "a constant": (
        model([node("Identity", ["c"], ["y"])], {"x": X.shape}, ["y"], {"c": X * 2}), {"x": X},
    ),
    "a comparison": (
        model([node("Greater", ["x", "z"], ["y"])], {"x": X.shape, "z": X.shape}, ["y"],
              types={"y": BOOL}),
        {"x": X, "z": X[:, ::-1].copy()},
    ),
    "a sum of nothing": (
        model([node("ReduceSum", ["x"], ["y"])], {"x": (2, 0, 4)}, ["y"]),
        {"x": np.zeros((2, 0, 4), np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOST_ALONE)
def test_a_model_of_which_nothing_is_left_for_the_array(name: str, tmp_path: Path) -> None:
    proto, feeds = HOST_ALONE[name]
    program = nm.compile(proto, calibration=[feeds])
    assert any("nothing of this model runs on the array" in note for note in program.notes)
    program.save(tmp_path / "net.nmx")
    found = nm.Session(nm.load(tmp_path / "net.nmx")).run(feeds)["y"]
    wanted = onnxruntime_outputs(proto, feeds)["y"]
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted)


def test_a_cache_that_holds_nothing_yet() -> None:
    nodes = [node("Concat", ["past", "k"], ["all"], axis=2), node("MatMul", ["all", "w"], ["y"])]
    weight = RNG.normal(size=(4, 5)).astype(np.float32)
    proto = model(nodes, {"past": (1, 2, "P", 4), "k": (1, 2, 3, 4)}, ["y"], {"w": weight})
    feeds = {"past": np.zeros((1, 2, 0, 4), np.float32),
             "k": RNG.normal(size=(1, 2, 3, 4)).astype(np.float32)}  # fmt: skip
    stacked = {name: np.concatenate([array] * 2) for name, array in feeds.items()}
    shapes = {name: array.shape for name, array in feeds.items()}
    program = nm.compile(proto, calibration=[stacked], shapes=shapes)
    found = nm.Session(program).run(feeds)["y"]
    assert loss_db(onnxruntime_outputs(proto, feeds)["y"], found) > 30


# ---------------------------------------------------------------- in front of the array


@pytest.mark.parametrize("name", text_masks.NETWORKS)
def test_masks_and_positions_are_those_of_the_model(name: str) -> None:
    proto, program = texts(name)
    feeds = text_masks.feeds(proto)
    found, wanted = nm.Session(program).run(feeds)["y"], one_by_one(proto, feeds)["y"]
    assert found.shape == wanted.shape
    assert loss_db(wanted, found) > 25
    assert program.accuracy is not None and program.accuracy.judge.startswith("onnxruntime")


def test_host_ops_say_what_the_host_does() -> None:
    front = texts("of ids")[1].host_ops
    assert front[:3] == ("Equal", "Not", "Cast") and "CumSum" in front
    assert front.index("CumSum") < front.index("gather") < front.index("dequantize")
    behind = detector("rows of detections")[1]
    assert behind.host_ops[:3] == ("quantize", "dequantize", "NonMaxSuppression")
    assert behind.estimate().host_ops == behind.host_ops


@pytest.mark.parametrize("name", ("of ids", "last word"))
def test_every_layer_is_verified_behind_the_hosts_work(name: str) -> None:
    proto, program = texts(name)
    feeds = text_masks.feeds(proto, 3)
    check = nm.verify(proto, program, feeds)
    assert check.ok and [out.name for out in check.outputs][-1] == "y"
    wanted, found = one_by_one(proto, feeds)["y"], nm.Session(program).run(feeds)["y"]
    assert check.outputs[-1].snr_db == pytest.approx(loss_db(wanted, found), abs=0.1)


def test_ids_beyond_the_table_are_refused() -> None:
    _, program = texts("of ids")
    ids = text_masks.sentences(1)
    ids[0, 0] = text_masks.WORDS
    with pytest.raises(nm.BadInput, match="input 'input_ids': found 50, allowed are"):
        nm.Session(program).run({"input_ids": ids})
    with pytest.raises(nm.BadInput, match="found 0.5, allowed are integers that int64 holds"):
        nm.Session(program).run({"input_ids": ids * 0 + 0.5})


# ---------------------------------------------------------------- behind it


@pytest.mark.parametrize("name", DETECTORS)
def test_a_selection_is_onnxruntimes_on_the_same_values(name: str) -> None:
    proto, program = detector(name)
    front = tuple(port.name for port in program.outputs)
    ending = nm.compile(proto, calibration=[{"x": detectors.pictures()}], outputs=front)
    assert ending.host is None and np.array_equal(ending.const, program.const)
    sessions = nm.Session(program), nm.Session(ending)
    for picture in detectors.pictures(6):
        found, values = (session.run({"x": picture[None]}) for session in sessions)
        wanted = onnxruntime_outputs(cut(proto, values, list(found)), values)
        assert all(len(one) for one in wanted.values())
        for output in wanted:
            assert found[output].dtype == wanted[output].dtype
            assert np.array_equal(found[output], wanted[output]), output


def test_many_pictures_at_once() -> None:
    proto, program = detector("best of a number")
    session, pictures = nm.Session(program), detectors.pictures(5)
    together = session.run({"x": pictures})["found"]
    each = [session.run({"x": picture[None]})["found"] for picture in pictures]
    assert together.shape == (5, 8, 6) and np.array_equal(together, np.concatenate(each))
    with pytest.raises(nm.BadInput, match="run one image at a time"):
        nm.Session(detector("rows of detections")[1]).run({"x": pictures})


def test_sizes_that_differ_between_pictures_are_not_joined() -> None:
    pictures = detectors.pictures(8)
    proto = detectors.best_of_all(limit=200, least=0.7)
    program = nm.compile(proto, calibration=[{"x": pictures}])
    session = nm.Session(program)
    sizes = [session.run({"x": picture[None]})["labels"].shape for picture in pictures]
    assert len(set(sizes)) > 1
    with pytest.raises(nm.BadInput, match="its size depends on data and differs between images"):
        session.run({"x": pictures})
    same = [i for i, size in enumerate(sizes) if size == sizes[0]]
    assert session.run({"x": pictures[same]})["places"].shape == (len(same), sizes[0][1], 4)


def test_accuracy_is_measured_in_front_of_a_selection_and_behind_it() -> None:
    _, fixed = detector("best of a number")
    assert fixed.accuracy is not None
    assert [(out.name, out.kind) for out in fixed.accuracy.outputs][-1] == ("found", "values")
    assert {out.name for out in fixed.accuracy.outputs} == {*(p.name for p in fixed.outputs),
                                                            "found"}  # fmt: skip
    _, open_sized = detector("rows of detections")
    assert open_sized.accuracy is not None
    assert {out.name for out in open_sized.accuracy.outputs} == set(detectors.FRONT)
    assert "accuracy of detections not measured: its size depends on data" in open_sized.notes


@pytest.mark.parametrize("name", DETECTORS)
def test_files_keep_the_hosts_part(name: str, tmp_path: Path) -> None:
    proto, program = detector(name)
    program.save(tmp_path / "net.nmx")
    loaded = nm.load(tmp_path / "net.nmx")
    feeds = {"x": detectors.pictures(1)}
    ours, theirs = (nm.Session(one).run(feeds) for one in (program, loaded))
    assert all(np.array_equal(ours[output], theirs[output]) for output in ours)
    assert loaded.host == program.host and nm.verify(proto, loaded, feeds).ok
