# SPDX-License-Identifier: Apache-2.0
"""Files and objects that are no ONNX model or no program: what they are, and what to do.

In: files of other kinds by their content, whatever their name.  Out: one message for each.
"""

from __future__ import annotations

import gzip
import io
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node
from neuralmatrix.cli.main import main
from neuralmatrix.files import kind_of
from neuralmatrix.program.program import Program


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return buffer.getvalue()


def arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return buffer.getvalue()


# kind: content, and what a model file of it is told
KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "pt": (lambda: zipped("net/data.pkl", "net/data/0"), "torch.save wrote: load it with torch"),
    "pickle": (lambda: pickle.dumps({"w": 1}), "a pickle, as torch.save wrote it"),
    "torchscript": (lambda: zipped("net/constants.pkl", "net/data.pkl"), "a TorchScript module"),
    "pt2": (lambda: zipped("net/archive_format", "net/models/model.json"), "torch.export.load"),
    "safetensors": (lambda: b"\x40" + bytes(7) + b'{"w":{}}', "weights without a network"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(32), "an HDF5 file, as Keras writes it (.h5)"),
    "keras": (lambda: zipped("config.json", "model.weights.h5"), "a Keras model (.keras)"),
    "tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(8), "convert it to ONNX with tf2onnx (--tflite)"),
    "npz": (arrays, "an archive of arrays (.npz): give it as calibration"),
    "npy": (lambda: b"\x93NUMPY\x01\0" + bytes(8), "an array (.npy)"),
    "xml": (lambda: b"<?xml version='1.0'?><net/>", "an XML file, as OpenVINO writes it"),
    "gguf": (lambda: b"GGUF" + bytes(32), "weights for llama.cpp"),
    "gzip": (lambda: gzip.compress(b"net"), "unpack it first"),
    "zipped": (lambda: zipped("net/model.onnx"), "holds an .onnx file: unpack it first"),
    "savedmodel": (lambda: zipped("net/saved_model.pb"), "tf2onnx (--saved-model)"),
    "pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "html": (lambda: b"<!DOCTYPE html><html>", "download it again"),
    "json": (lambda: b'{"nodes": []}', "a text (JSON)"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ("", ".onnx"))
def test_a_file_of_another_kind_is_no_model(kind: str, suffix: str, tmp_path: Path) -> None:
    content, text = KINDS[kind]
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content())
    assert kind_of(path) == kind
    with pytest.raises(nm.BadModel) as found:
        nm.compile(str(path), calibration=[])
    assert str(found.value).startswith(f"{path} is no ONNX model but ")
    assert text in str(found.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_no_program(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "net.nmx"
    path.write_bytes(KINDS[kind][0]())
    with pytest.raises(nm.BadProgram, match=r"net\.nmx: found .*allowed is a program|no intact"):
        nm.load(path)


def test_damaged_and_missing_files_are_of_no_kind(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"PK\x03\x04")
    (tmp_path / "empty").write_bytes(b"")
    assert {kind_of(tmp_path / name) for name in ("short", "empty", "none", ".")} == {""}


def test_model_and_program_in_the_wrong_order(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    program.save("net.nmx")
    proto = model([node("Relu", ["x"], ["y"])], {"x": (1, 4)}, ["y"])
    Path("net.onnx").write_bytes(proto.SerializeToString())
    Path("x.npz").write_bytes(arrays())
    for command, text in (
        (("verify", "net.nmx", "net.onnx", "x.npz"), "in the order MODEL PROGRAM"),
        (("compile", "net.nmx", "-o", "other.nmx"), "a compiled program (.nmx), not a model"),
        (("run", "x.npz", "net.nmx", "-o", "y.npz"), "in the order PROGRAM INPUTS"),
        (("report", "net.onnx"), "or compile the model first"),
    ):
        monkeypatch.setattr(sys, "argv", ["neuralmatrix", *command])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 1 and text in capsys.readouterr().err


def named(name: str, module: str) -> Any:
    return type(name, (SimpleNamespace,), {"__module__": module})()


@pytest.mark.parametrize(
    ("thing", "text"),
    (
        ({"w": 1}, "the model is a dict; allowed are a path, .*weights alone are no network"),
        (named("Functional", "keras.src.models"), "Functional; .*export it to ONNX first"),
        (named("InferenceSession", "onnxruntime.capi"), "give the ONNX model that it was made"),
        (np.zeros(3), "arrays are calibration=; the first argument is the model"),
        ([{"x": np.zeros(3)}], "arrays are calibration="),
        (dict, "give an instance of the class"),
        (3, "the model is a int; allowed are a path, bytes, an onnx.ModelProto"),
    ),
)
def test_objects_that_are_no_model(thing: Any, text: str) -> None:
    with pytest.raises(nm.BadModel, match=text):
        nm.compile(thing, calibration=[])
