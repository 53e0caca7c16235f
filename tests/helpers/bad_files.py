# SPDX-License-Identifier: Apache-2.0
"""Bad input files, and the check of every refusal of them.

In: a folder to fill; a command line.  Out: models, feeds and programs, good and bad; assertions.
"""

from __future__ import annotations

import sys
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, signed
from neuralmatrix.cli.main import main

SHAPE = (1, 3, 8, 8)
PREVIOUS = b"the output of an earlier, good run"


def conv_net(shape: tuple[int | str, ...] = SHAPE, last: str = "Relu", channels: int = 5) -> Any:
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1] * 4), node(last, ["c"], ["y"])]
    return model(nodes, {"x": shape}, ["y"], {"w": signed((channels, 3, 3, 3))})


def codes_net(shape: tuple[int | str, ...]) -> Any:
    """Return a model that needs no calibration: its scales are prescribed."""
    names = [("QuantizeLinear", "x", "q"), ("DequantizeLinear", "q", "d"), ("Relu", "d", "y")]
    nodes = [node(op, [i, "s", "z"][: 1 if op == "Relu" else 3], [o]) for op, i, o in names]
    return model(nodes, {"x": shape}, ["y"], {"s": np.float32(0.1), "z": np.int8(0)})


def weighted(value: float) -> Any:
    net = conv_net()
    weight = signed((5, 3, 3, 3))
    weight[0, 0, 0] = value
    net.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weight, "w"))
    return net


def without_weight() -> Any:
    net = conv_net()
    del net.graph.initializer[:]
    return net


def cycle() -> Any:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["y"])]
    return model(nodes, {"x": SHAPE}, ["y"])


def unknown_ops() -> Any:
    nodes = [
        node("Floor", ["x"], ["a"]),
        node("Det", ["a"], ["b"]),
        node("Softmax", ["a"], ["y"]),
    ]
    return model(nodes, {"x": SHAPE}, ["y", "b"])


MODELS: dict[str, Callable[[], Any]] = {
    "net": conv_net,
    "nan": lambda: weighted(np.nan),
    "inf": lambda: weighted(np.inf),
    "huge": lambda: weighted(3e38),
    "gone": without_weight,
    "cycle": cycle,
    "unknown": unknown_ops,
    "zero": lambda: conv_net((1, 3, 0, 8)),
    "dynamic": lambda: conv_net((1, 3, "H", "W")),
    "open": lambda: codes_net((1, 16, "H", "W")),
    "tanh": lambda: conv_net(last="Tanh"),
    "wider": lambda: conv_net(channels=7),
    "renamed": lambda: model([node("Neg", ["q"], ["y"])], {"q": SHAPE}, ["y"]),
}
GOOD = signed((4, 3, 8, 8))
FEEDS: dict[str, Mapping[str, Any]] = {
    "cal": {"x": GOOD},
    "named": {"z": GOOD},
    "extra": {"x": GOOD, "z": GOOD},
    "none": {},
    "no_images": {"x": GOOD[:0]},
    "nan": {"x": np.full_like(GOOD, np.nan)},
    "beyond": {"x": np.full(GOOD.shape, 1e300)},
    "wide": {"x": np.zeros((4, 3, 8, 9))},
    "complex": {"x": GOOD.astype(complex)},
    "text": {"x": GOOD.astype(str)},
    "object": {"x": np.array([{}, 1], object)},
}


def header(text: str) -> bytes:
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def zipped(path: Path, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def damage(folder: Path) -> None:
    """Write copies of the good files, each broken in one way."""
    net, feeds, program = ((folder / f).read_bytes() for f in ("net.onnx", "cal.npz", "net.nmx"))
    (folder / "random.onnx").write_bytes(np.random.default_rng(0).bytes(999))
    (folder / "short.onnx").write_bytes(net[:-50])
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "junk.npz").write_bytes(b"hello")
    (folder / "short.npz").write_bytes(feeds[: len(feeds) // 2])
    (folder / "flipped.npz").write_bytes(feeds[:300] + bytes([feeds[300] ^ 255]) + feeds[301:])
    with (folder / "single.npz").open("wb") as file:
        np.save(file, GOOD)
    zipped(folder / "foreign.npz", {"a.txt": b"hello"})
    zipped(folder / "unclosed.npz", {"x.npy": header("{'descr': [[[[(")})
    shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999, 99999999)}"
    zipped(folder / "giant.npz", {"x.npy": header(shape)})
    (folder / "short.nmx").write_bytes(program[: len(program) // 2])
    half = len(program) // 2
    (folder / "flipped.nmx").write_bytes(
        program[:half] + bytes([program[half] ^ 1]) + program[half + 1 :]
    )
    with zipfile.ZipFile(folder / "net.nmx") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    swapped = dict(zip(members, [*members.values()][::-1], strict=True))
    zipped(folder / "swapped.nmx", swapped)
    garbled = program.replace(b"const.npy", b"const\x94npy", 1)
    (folder / "garbled.nmx").write_bytes(garbled)


def make_files(folder: Path) -> None:
    """Write all files of this module, and an output with earlier contents."""
    for name, make in MODELS.items():
        onnx.save(make(), folder / f"{name}.onnx")
    for name, arrays in FEEDS.items():
        np.savez(folder / f"{name}.npz", **arrays)
    nm.compile(folder / "net.onnx", calibration=[FEEDS["cal"]]).save(folder / "net.nmx")
    damage(folder)
    (folder / "folder").mkdir()
    (folder / "old.out").write_bytes(PREVIOUS)


def snapshot(folder: Path) -> dict[Path, bytes | None]:
    return {p: p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def check_refused(
    capsys: pytest.CaptureFixture[str], folder: Path, arguments: str, text: str
) -> None:
    """Check for one message with ``text``, exit code 1 and unchanged files."""
    before = snapshot(folder)
    words = [str(folder / w[1:]) if w.startswith("@") else w for w in arguments.split()]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        patch.setattr(sys, "argv", ["neuralmatrix", *words])
        with pytest.raises(SystemExit) as stop:
            main()
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (1, "")
    assert err.startswith("error: ") and err.count("error: ") == 1
    for part in text.split("..."):
        assert part in err
    assert snapshot(folder) == before
