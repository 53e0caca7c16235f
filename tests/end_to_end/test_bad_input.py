# SPDX-License-Identifier: Apache-2.0
"""Every kind of wrong input, through the command line and the Python API.

In: one table of broken models, feeds, files and options.  Out: for each exactly one message that
says what was found, exit code 1, the previous output untouched and nothing half-written.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from bad_files import GOOD, PREVIOUS, SHAPE, check_refused, conv_net, make_files, snapshot
from build_onnx import model, node, signed
from conftest import ROOT
from neuralmatrix.files import write_whole


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    return folder


COMPILE = "compile @{} -o @old.out --calibration @{} {}"
SET_SHAPE = "allowed is NAME=1x3x224x224"
MISMATCH = "was not compiled from this model...compile the model again"


def compiles(model: str = "net.onnx", feeds: str = "cal.npz", more: str = "") -> str:
    return COMPILE.format(model, feeds, more)


CASES: dict[str, tuple[str, str]] = {
    # models
    "random bytes": (compiles("random.onnx"), "999 bytes that are not a complete ONNX...copy the"),
    "truncated": (compiles("short.onnx"), "not a complete ONNX model...export the model again"),
    "empty model": (
        compiles("empty.onnx"),
        "empty.onnx: it is empty...export the model again",
    ),
    "no model": (compiles("none.onnx"), "No such file or directory; give the path of an .onnx"),
    "folder as model": (compiles("folder"), "Is a directory; give the path of an .onnx file"),
    "cycle": (compiles("cycle.onnx"), "the graph has a cycle...must be acyclic"),
    "initialiser gone": (compiles("gone.onnx"), "reads 'w', which is not an input, initialiser"),
    "NaN weight": (compiles("nan.onnx"), "tensor 'w': 3 of 135 values are NaN...must be finite"),
    "Inf weight": (compiles("inf.onnx"), "tensor 'w': 3 of 135 values are NaN...must be finite"),
    "weight 3e38": (compiles("huge.onnx"), "becomes NaN or infinite on the calibration inputs"),
    "unknown ops": (compiles("unknown.onnx"), "2 node(s)...Floor:a: Floor (opset 17)...Det:b:"),
    "zero-sized": (compiles("zero.onnx"), "has the shape...every dimension must be 1 or more"),
    "dynamic": (compiles("dynamic.onnx"), "dimension 2 (H) is dynamic...fix it with --shape x="),
    # options
    "shape without size": (compiles("dynamic.onnx", more="--shape x="), SET_SHAPE),
    "shape with a letter": (compiles("dynamic.onnx", more="--shape x=1x3xHx8"), SET_SHAPE),
    "shape of 0": (compiles("dynamic.onnx", more="--shape x=1x3x0x8"), SET_SHAPE),
    "shape of another rank": (compiles("dynamic.onnx", more="--shape x=1x3"), "x=1x3 does not fit"),
    "shape of no input": (compiles(more="--shape q=1"), "a shape is given for 'q'; the inputs are"),
    "shape given twice": (compiles(more="--shape x=1 --shape x=1"), "found 'x' twice, allowed is"),
    "board": (compiles(more="--board pynq-z9"), "'pynq-z9'; allowed are aup-zu3"),
    "precision": (compiles(more="--precision int4"), "'int4'; allowed are int8, int16"),
    "too large": (
        "compile @open.onnx -o @old.out --shape x=1x16x9000x9000",
        "needs over 1236 MiB of DRAM...PYNQ-Z2 has 512 MiB; choose a larger board",
    ),
    # calibration
    "no calibration": ("compile @net.onnx -o @old.out", "no calibration given...pass calibration"),
    "no calibration file": (compiles(feeds="no.npz"), "No such file or directory); name a .npz"),
    "calibration names": (compiles(feeds="named.npz"), "inputs ['z']; the model's inputs are"),
    "calibration extra": (compiles(feeds="extra.npz"), "inputs ['x', 'z']; the model's inputs are"),
    "calibration empty": (compiles(feeds="none.npz"), "found no arrays, allowed is one per input"),
    "no images": (compiles(feeds="no_images.npz"), "has shape (0, 3, 8, 8); allowed is (1, 3,"),
    "calibration NaN": (compiles(feeds="nan.npz"), "holds NaN, infinity...clean the data"),
    "calibration 1e300": (compiles(feeds="beyond.npz"), "value beyond float32; allowed are finite"),
    "calibration shape": (compiles(feeds="wide.npz"), "has shape (4, 3, 8, 9); allowed is (1, 3,"),
    "calibration complex": (compiles(feeds="complex.npz"), "complex128; allowed are real numbers"),
    "calibration objects": (compiles(feeds="object.npz"), "no readable .npz file...numpy.savez"),
    "calibration junk": (compiles(feeds="junk.npz"), "no readable .npz file...use numpy.savez"),
    "calibration short": (compiles(feeds="short.npz"), "no readable .npz file...use numpy.savez"),
    "calibration flipped": (compiles(feeds="flipped.npz"), "Bad CRC-32...use numpy.savez"),
    "calibration .npy": (compiles(feeds="single.npz"), "found a single array, allowed is .npz"),
    "calibration members": (compiles(feeds="foreign.npz"), "found 'a.txt', allowed are .npy"),
    "calibration header": (compiles(feeds="unclosed.npz"), "no readable .npz file...numpy.savez"),
    "calibration size": (compiles(feeds="giant.npz"), "no readable .npz file...use numpy.savez"),
    # outputs
    "output folder gone": (compiles(more="-o @no/a.nmx"), "No such file or directory; choose a"),
    "output is a folder": (compiles(more="-o @folder"), "is no regular file; choose a writable"),
    "output is a device": (compiles(more="-o /dev/null"), "is no regular file; choose a writable"),
    "output below a file": (compiles(more="-o @net.onnx/a"), "Not a directory; choose a writable"),
    "stages": (
        compiles(more="--keep-stages @net.onnx"),
        "cannot write stages to...writable folder",
    ),
    "run to nowhere": ("run @net.nmx @cal.npz -o @no/a.npz", "No such file or directory; choose a"),
    "page to nowhere": ("report @net.nmx --html @no/a.html", "No such file or directory; choose a"),
    # programs
    "no program": ("run @no.nmx @cal.npz -o @old.out", "no such file; compile a network to it"),
    "model as program": ("list @net.onnx", "found an ONNX model...in the order MODEL PROGRAM"),
    "folder as program": ("report @folder", "(Is a directory); compile the network again"),
    "program short": (
        "run @short.nmx @cal.npz -o @old.out",
        "no intact .nmx...compile the network",
    ),
    "program flipped": ("bench @flipped.nmx", "no intact .nmx file (Bad CRC...compile the network"),
    "program swapped": ("report @swapped.nmx", "manifest.json: found...compile the network again"),
    "program garbled": ("report @garbled.nmx", "found...compile the network again"),
    "other weights": ("verify @tanh.onnx @net.nmx @cal.npz", MISMATCH),
    "other size": ("verify @wider.onnx @net.nmx @cal.npz", MISMATCH),
    "other inputs": ("verify @renamed.onnx @net.nmx @cal.npz", MISMATCH),
    # feeds
    "feed names": ("run @net.nmx @named.npz -o @old.out", "['z'], allowed is exactly ['x']; use"),
    "feed shape": ("run @net.nmx @wide.npz -o @old.out", "(4, 3, 8, 9), allowed is (1, 3, 8, 8)"),
    "feed dtype": ("run @net.nmx @text.npz -o @old.out", "allowed are bool, integer and float"),
    "feed NaN": ("run @net.nmx @nan.npz -o @old.out", "found NaN, infinity...clean the data"),
    "feed 1e300": ("run @net.nmx @beyond.npz -o @old.out", "value beyond float32...clean the data"),
    "no feeds": ("run @net.nmx @none.npz -o @old.out", "found no arrays, allowed is one per input"),
    "feed to verify": (
        "verify @net.onnx @net.nmx @nan.npz",
        "found NaN, infinity...clean the data",
    ),
    "device": (
        "run @net.nmx @cal.npz -o @old.out --device gpu",
        "'gpu', allowed are 'emulation', 'pynq'",
    ),
    "threads": (
        "run @net.nmx @cal.npz -o @old.out --threads 0",
        "found 0, allowed is an integer of at least 1",
    ),
}
NEED_COMPILER = {"other weights", "other size"}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.gxx) if c in NEED_COMPILER else c for c in CASES]
)
def test_refused(capsys: pytest.CaptureFixture[str], files: Path, case: str) -> None:
    check_refused(capsys, files, *CASES[case])


# ------------------------------------------------------------------------------ Python API

CALIBRATION = {"x": GOOD}
API: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "no model": (lambda: nm.compile(None), nm.BadModel, "NoneType; allowed are a path, bytes, an"),
    "graph": (lambda: nm.compile(conv_net().graph), nm.BadModel, "is a GraphProto; allowed are"),
    "no board": (lambda: nm.compile(conv_net(), board=None), nm.BadInput, "board None; allowed"),
    "empty set": (
        lambda: nm.compile(conv_net(), calibration=[]),
        nm.BadInput,
        "set is empty; give",
    ),
    "number": (
        lambda: nm.compile(conv_net(), calibration=3),
        nm.BadInput,
        "allowed is an iterable",
    ),
    "array": (lambda: nm.compile(conv_net(), calibration=GOOD), nm.BadInput, "is a ndarray; allow"),
    "ragged": (
        lambda: nm.compile(conv_net(), calibration={"x": [[1], [2, 3]]}),
        nm.BadInput,
        "is not an array .*; pass a numpy array",
    ),
    "shapes": (
        lambda: nm.compile(conv_net((1, 3, "H", "W")), shapes={"x": (1, 3, 8.5, 8)}),
        nm.BadInput,
        "is not a tuple of integers; pass one",
    ),
    "division by zero": (
        lambda: nm.compile(
            model([node("Div", ["k", "x"], ["y"])], {"x": SHAPE}, ["y"], {"k": np.float32(1)}),
            calibration=CALIBRATION,
        ),
        nm.BadInput,
        "tensor 'y' becomes NaN or infinite on the calibration inputs",
    ),
    "layer over the buffers": (
        lambda: nm.compile(conv_net(), board=small_board(ibuf_words=4), calibration=CALIBRATION),
        nm.DoesNotFit,
        "Conv:c: .* needs more than the 4 words of input buffer.*; choose a larger board",
    ),
    "little memory": (
        lambda: nm.compile(conv_net(), board=small_board(mbytes=0), calibration=CALIBRATION),
        nm.DoesNotFit,
        "MiB of DRAM.* has 0 MiB; choose a larger board or a smaller input",
    ),
}


def small_board(mbytes: int = 512, **array: int) -> nm.Board:
    board = nm.load_board("pynq-z2")
    dram = replace(board.dram, mbytes=mbytes)
    return replace(board, dram=dram, array=replace(board.array, **array))


@pytest.mark.parametrize("what", API)
def test_refused_by_the_api(what: str) -> None:
    call, kind, text = API[what]
    with pytest.raises(kind, match=text):
        call()


@pytest.mark.parametrize("size", (1e-45, 1e-42, 1e-35, 1e-20, 0.0, 1e20, 1e36))
@pytest.mark.parametrize("last", ("Relu", "Sigmoid"))
def test_any_finite_calibration_compiles(size: float, last: str) -> None:
    feeds = {"x": (signed(SHAPE).astype(np.float64) * size).astype(np.float32)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program = nm.compile(conv_net(last=last), calibration=feeds)
    assert len(program.instructions) > 1


def test_a_stopped_write_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(PREVIOUS)

    def stop(file: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", stop)
    assert snapshot(tmp_path) == {tmp_path / "a": PREVIOUS}


def test_in_a_process_of_its_own(files: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "neuralmatrix", "compile", "random.onnx", "-o", "old.out"],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(ROOT / "host")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert process.stderr.startswith("error: random.onnx: 999 bytes that are not a complete ONNX")
    assert (files / "old.out").read_bytes() == PREVIOUS
