# SPDX-License-Identifier: Apache-2.0
"""Reading ONNX files: bytes to a ModelProto, tensors to arrays, nodes to plain data.

In: a path, bytes or a ModelProto.  Out: the proto, its initialisers (external data is mapped, not
read) and ``Call`` records.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BadModel, ToolMissing
from ...files import kind_of
from ...ir.types import Array
from .context import Call

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

_CURE = "export the model again or copy the file again"


def require_onnx() -> ModuleType:
    """Return the onnx package; ToolMissing if it is not installed."""
    try:
        import onnx
        import onnx.inliner
        import onnx.shape_inference
    except ImportError as error:
        raise ToolMissing(
            f"reading an ONNX model needs the onnx package, 1.15 or newer ({error}); "
            "install this package with its extra [onnx], or: pip install 'onnx>=1.15'"
        ) from None
    module: ModuleType = onnx
    return module


def read(model: str | Path | bytes | ModelProto) -> tuple[ModelProto, Path | None]:
    """Return the model and the folder of its external data (None: there is none)."""
    onnx = require_onnx()
    name = "the given bytes" if isinstance(model, bytes) else "the given model"
    if isinstance(model, bytes):
        proto, folder = _parse(model, name), None
    elif isinstance(model, str | Path):
        path, name = Path(model), str(model)
        _refuse_other(path)
        proto, folder = _parse(_file_bytes(path), name), path.resolve().parent
    elif isinstance(model, onnx.ModelProto):
        proto, folder = model, None
    else:
        raise BadModel(other_object(model))
    if not proto.graph.node:
        if not proto.ByteSize():
            raise BadModel(f"{name}: it is empty; {_CURE}")
        raise BadModel(f"{name} is an ONNX model that has no nodes; a graph is needed; {_CURE}")
    return (onnx.inliner.inline_local_functions(proto) if proto.functions else proto), folder


_EXPORT = "give the torch.nn.Module itself with example_inputs=, or export it to ONNX with torch"
_TF = "convert it to ONNX with tf2onnx (--saved-model)"
# what other files are, and what to do with them
_OTHER = {
    "nmx": "a compiled program (.nmx), not a model: give them in the order MODEL PROGRAM, or load "
    "the program with nm.load",
    "pt": f"weights or a module that torch.save wrote: load it with torch, and {_EXPORT}",
    "pickle": f"a pickle, as torch.save wrote it: load it with torch, and {_EXPORT}",
    "torchscript": f"a TorchScript module: {_EXPORT} (torch.onnx.export)",
    "pt2": "a program that torch.export saved: load it with torch.export.load, and give "
    "what that returns",
    "safetensors": f"weights without a network (safetensors): load them into their module, and "
    f"{_EXPORT}",
    "hdf5": "an HDF5 file, as Keras writes it (.h5): load it with Keras and export it to ONNX "
    "(model.export(path, format='onnx'), or tf2onnx)",
    "keras": "a Keras model (.keras): load it with Keras and export it to ONNX "
    "(model.export(path, format='onnx'), or tf2onnx)",
    "tflite": "a TensorFlow Lite model: convert it to ONNX with tf2onnx (--tflite)",
    "npz": "an archive of arrays (.npz): give it as calibration or as inputs, and an .onnx file as "
    "the model",
    "npy": "an array (.npy): give it as a constant, and an .onnx file as the model",
    "xml": "an XML file, as OpenVINO writes it: give the ONNX model from which it was made",
    "gguf": "weights for llama.cpp (.gguf): give the network from which they were made, as ONNX or "
    "as a torch.nn.Module with example_inputs=",
    "gzip": "a compressed file (gzip): unpack it first",
    "zipped": "an archive (.zip) that holds an .onnx file: unpack it first",
    "savedmodel": f"an archive of a TensorFlow SavedModel: unpack it, and {_TF}",
    "pointer": "a pointer of Git LFS to the file: fetch the file itself (git lfs pull)",
    "html": "a web page, which a download gave instead of the file: download it again",
    "json": "a text (JSON): give an .onnx file, or a torch.nn.Module with example_inputs=",
}
_ARRAY = "arrays are calibration=; the first argument is the model"
# the same for objects, by the root of their module and their class
_OBJECTS = {
    ("keras", ""): "export it to ONNX first (model.export(path, format='onnx'), or tf2onnx)",
    ("tensorflow", ""): "convert it to ONNX first, with tf2onnx",
    ("numpy", "ndarray"): _ARRAY,
    ("torch", "Tensor"): _ARRAY,
    ("builtins", "list"): _ARRAY,
    ("builtins", "type"): "give an instance of the class, with example_inputs=",
    ("onnxruntime", ""): "give the ONNX model that it was made from",
    ("jax", ""): "export it to ONNX first",
    ("builtins", "dict"): "weights alone are no network: load them into their torch.nn.Module, and "
    "give that with example_inputs=",
}


def other_object(model: object) -> str:
    """Return what is wrong with an object that is no model, and what to do."""
    kind = type(model)
    root = kind.__module__.split(".")[0]
    hint = _OBJECTS.get((root, kind.__name__)) or _OBJECTS.get((root, ""), "")
    allowed = "allowed are a path, bytes, an onnx.ModelProto or a torch.nn.Module"
    return f"the model is a {kind.__name__}; {allowed}" + (f": {hint}" if hint else "")


def _refuse_other(path: Path) -> None:
    """Raise BadModel for a file that is something else, with what to do with it."""
    kind = kind_of(path)
    if kind in _OTHER:
        raise BadModel(f"{path} is no ONNX model but {_OTHER[kind]}")


def _file_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        saved = (path / "saved_model.pb").is_file()
        way = f"a TensorFlow SavedModel: {_TF}" if saved else "give the path of an .onnx file"
        raise BadModel(f"cannot read {str(path)!r}: {error.strerror}; {way}") from None


def _parse(data: bytes, what: str) -> ModelProto:
    onnx = require_onnx()
    from google.protobuf.message import DecodeError

    try:
        proto: ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise BadModel(
            f"{what}: {len(data)} bytes that are not a complete ONNX model ({error}); {_CURE}"
        ) from None
    return proto


def tensor_array(tensor: TensorProto, folder: Path | None) -> Array:
    """Return a TensorProto's values; external ones are mapped from their file."""
    onnx = require_onnx()
    try:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            return _external(tensor, folder)
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise BadModel(f"tensor {tensor.name!r} cannot be read: {error}; {_CURE}") from None


def _external(tensor: TensorProto, folder: Path | None) -> Array:
    onnx = require_onnx()
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _external_path(tensor.name, entries.get("location", ""), folder)
    offset = int(entries.get("offset", 0))
    have = path.stat().st_size - offset
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    # sub-byte types are packed: their length in the file is stated, never larger than this
    packed = dtype.kind not in "fiub"
    need = int(entries.get("length", have)) if packed else prod(shape) * dtype.itemsize
    stated = int(entries.get("length", need))
    if min(offset, need) < 0 or have < need or stated != need:
        raise BadModel(
            f"tensor {tensor.name!r}: {need} bytes at offset {offset} of {path.name!r} are "
            f"needed, the model states {stated} and the file holds {max(have, 0)} from there; "
            f"{_CURE}"
        )
    if packed:
        whole = onnx.TensorProto(data_type=tensor.data_type, dims=shape)
        whole.raw_data = path.read_bytes()[offset : offset + need]
        return np.asarray(onnx.numpy_helper.to_array(whole))
    if need == 0:
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype.newbyteorder("<"), "r", offset, shape)


def _external_path(name: str, location: str, folder: Path | None) -> Path:
    if folder is None:
        raise BadModel(
            f"tensor {name!r} lies in the external file {location!r}, whose folder is unknown; "
            "give the model as a path, not as bytes or a ModelProto"
        )
    path = (folder / location).resolve()
    if not location or not path.is_relative_to(folder):
        raise BadModel(
            f"tensor {name!r} lies in {location!r}; external data must be inside the model's "
            f"folder; {_CURE}"
        )
    if not path.is_file():
        raise BadModel(
            f"tensor {name!r} lies in {location!r}, which does not exist next to the model; copy "
            "it there"
        )
    return path


def captured_names(graph: GraphProto) -> set[str]:
    """Return the names of the surrounding graph that a subgraph reads."""
    own = {value.name for value in graph.input} | {t.name for t in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    read = {name for node in graph.node for name in (*node.input, *_captures(node))}
    read |= {value.name for value in graph.output}
    return read - own - {""}


def _captures(node: NodeProto) -> tuple[str, ...]:
    """Return the names of the surrounding graph that a node's subgraphs read."""
    graphs = [graph for a in node.attribute for graph in (a.g, *a.graphs) if graph.node]
    return tuple(sorted({name for graph in graphs for name in captured_names(graph)}))


def plain_call(node: NodeProto, index: int, opset: int) -> Call:
    """Return a NodeProto as plain data; an unnamed node takes the name of its first output."""
    name = node.name or next((o for o in node.output if o), f"{node.op_type}_{index}")
    domain = "" if node.domain == "ai.onnx" else node.domain
    attrs = {a.name: _attribute(a) for a in node.attribute}
    inputs, outputs = tuple(node.input), tuple(node.output)
    captures = _captures(node)
    return Call(name, node.op_type, domain, opset, inputs, outputs, attrs, node, captures)


def _attribute(attribute: Any) -> Any:
    onnx = require_onnx()
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return tensor_array(value, None)
    return value.decode(errors="replace") if isinstance(value, bytes) else value
