# SPDX-License-Identifier: Apache-2.0
"""Tensors of the Open Inference Protocol, version 2: a JSON object, and raw bytes behind it.

In: a program; the body of a request.  Out: ``Signature``; ``InferRequest``; the body of an answer.
Tensors are flat in row-major order; the binary form is the extension ``binary_tensor_data``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import NeuralMatrixError
from ..program.program import Program

Array = npt.NDArray[Any]

DATATYPES: Mapping[str, str] = {
    "BOOL": "bool", "FP16": "float16", "FP32": "float32", "FP64": "float64",
    **{f"INT{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}  # fmt: skip
NAMES = {dtype: name for name, dtype in DATATYPES.items()}
# What a JSON list of numbers may hold, by the kind of the tensor.
ALLOWED = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}
ANY = -1  # a size that a request or data decides


class RequestRefused(NeuralMatrixError):
    """A request that the server does not answer with a result; ``status``: of HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def refused(found: str, allowed: str) -> RequestRefused:
    """Return the error of a request that breaks the protocol."""
    return RequestRefused(400, f"{found}; {allowed}")


# ---------------------------------------------------------------- what a program takes and gives


@dataclass(frozen=True)
class TensorInfo:
    """One input or output.  ``shape`` has ``ANY`` in front where a request may hold N inputs."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Signature:
    """The tensors of a program; ``batches``: whether several inputs may run together."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    batches: bool


def signature_of(program: Program) -> Signature:
    """Return the signature of a program."""
    fixed = program.fixed_outputs
    ports = [*program.shown_inputs, *(p for p in program.shown_outputs if p.name not in fixed)]
    batches = all((port.shape or ())[:1] == (1,) for port in ports)
    return Signature(
        tuple(_info(port, batches) for port in program.shown_inputs),
        tuple(_info(port, batches and port.name not in fixed) for port in program.shown_outputs),
        batches,
    )


def _info(port: Any, batches: bool) -> TensorInfo:
    shape = tuple(port.shape) if port.shape is not None else (ANY,)
    shape = (ANY, *shape[1:]) if batches else shape
    return TensorInfo(port.name, NAMES.get(str(np.dtype(port.dtype or "float32")), "FP32"), shape)


# ---------------------------------------------------------------- requests


@dataclass(frozen=True)
class InferRequest:
    """``outputs``: those that are wanted, in order, each with whether it is wanted as bytes;
    ``count``: how many inputs of the program ``feeds`` hold."""

    id: str | None
    feeds: dict[str, Array]
    outputs: tuple[tuple[str, bool], ...]
    count: int


def parse_request(body: bytes, header_length: int | None, signature: Signature) -> InferRequest:
    """Return the request in ``body``, whose first ``header_length`` bytes (None: all) are JSON.

    RequestRefused (400): it is no request of the protocol, or not one of this program.
    """
    size = len(body) if header_length is None else header_length
    if not 0 <= size <= len(body):
        raise refused(
            f"Inference-Header-Content-Length: found {size}",
            f"allowed is at most the body's length, {len(body)}",
        )
    header = _object(_json(body[:size]), "the request")
    feeds = _feeds(header, memoryview(body)[size:], signature)
    name = header.get("id")
    if name is not None and not isinstance(name, str):
        raise refused(f"id: found {_brief(name)}", "allowed is a string")
    return InferRequest(name, feeds, _wanted(header, signature), _count(feeds, signature))


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise refused(f"the request is no JSON ({reason})", "send one JSON object") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise refused(f"{what}: found {_brief(value)}", "allowed is a JSON object")
    return value


def _objects(header: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Return the list of objects with names under a key."""
    found = header.get(key, [])
    if not isinstance(found, list):
        raise refused(f"{key}: found {_brief(found)}", "allowed is a list")
    tensors = [_object(one, f"an element of {key}") for one in found]
    for one in tensors:
        if not isinstance(one.get("name"), str):
            raise refused(f"{key}: found the name {_brief(one.get('name'))}", "allowed is a string")
    return tensors


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _known(name: str, infos: Sequence[TensorInfo], what: str) -> TensorInfo:
    for info in infos:
        if info.name == name:
            return info
    raise refused(
        f"found {what} {_brief(name)}",
        f"allowed are {', '.join(repr(info.name) for info in infos)}",
    )


def _feeds(header: dict[str, Any], rest: memoryview, signature: Signature) -> dict[str, Array]:
    feeds: dict[str, Array] = {}
    at = 0
    for tensor in _objects(header, "inputs"):
        info = _known(tensor["name"], signature.inputs, "input")
        if info.name in feeds:
            raise refused(f"input {info.name!r} occurs twice", "give each once")
        shape = _shape(tensor, info)
        size = _parameters(tensor).get("binary_data_size")
        if size is None:
            feeds[info.name] = _from_list(tensor, info, shape)
        else:
            feeds[info.name] = _from_bytes(rest[at:], size, info, shape)
            at += size
    if at != len(rest):
        raise refused(
            f"found {len(rest)} bytes behind the JSON object",
            f"the inputs name {at}: give each binary_data_size",
        )
    return feeds


def _count(feeds: Mapping[str, Array], signature: Signature) -> int:
    """Return how many inputs of the program a request holds; each must have as many."""
    missing = [info.name for info in signature.inputs if info.name not in feeds]
    if missing:
        raise refused(
            f"found no input {missing[0]!r}",
            f"allowed is exactly {', '.join(repr(info.name) for info in signature.inputs)}",
        )
    counts = {name: len(x) for name, x in feeds.items()} if signature.batches else {}
    if len(set(counts.values())) > 1:
        raise refused(f"found different numbers of inputs {counts}", "allowed is one for all")
    return next(iter(counts.values()), 1)


def _parameters(tensor: dict[str, Any]) -> dict[str, Any]:
    found = _object(tensor.get("parameters") or {}, "parameters")
    if any(key.startswith("shared_memory") for key in found):
        raise refused("found a tensor in shared memory", "send it in the request")
    return found


def _shape(tensor: dict[str, Any], info: TensorInfo) -> tuple[int, ...]:
    """Return the shape of an input, after its datatype and shape are checked."""
    if tensor.get("datatype") != info.datatype:
        raise refused(
            f"input {info.name!r}: found datatype {_brief(tensor.get('datatype'))}",
            f"allowed is {info.datatype!r}",
        )
    shape: Any = tensor.get("shape")
    is_list = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    fits = is_list and len(shape) == len(info.shape) and all(
        want in (ANY, n) for n, want in zip(shape, info.shape, strict=True)
    )  # fmt: skip
    if not fits or 0 in shape:
        allowed = list(info.shape)
        note = f", {ANY} for any size" if ANY in allowed else ""
        raise refused(
            f"input {info.name!r}: found shape {_brief(shape)}", f"allowed is {allowed}{note}"
        )
    return tuple(shape)


def _from_list(tensor: dict[str, Any], info: TensorInfo, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(DATATYPES[info.datatype])
    if not isinstance(tensor.get("data"), list):
        raise refused(
            f"input {info.name!r}: found no data",
            "give a list of numbers, or binary_data_size and the bytes behind the JSON object",
        )
    try:
        found = np.asarray(tensor["data"])
    except (ValueError, RecursionError, OverflowError):
        found = np.asarray(None)
    if found.dtype.kind not in ALLOWED[dtype.kind]:
        raise refused(f"input {info.name!r}: found data that are no {info.datatype}",
                      "give a list of such numbers, flat or nested as its shape")  # fmt: skip
    _check_count(info, found.size, shape)
    with np.errstate(over="ignore"):  # beyond a float's range is infinity, which runs refuse
        values = found.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(values, found):
        raise refused(f"input {info.name!r}: found a value beyond {info.datatype}",
                      "give values that it holds")  # fmt: skip
    return values.reshape(shape)


def _from_bytes(rest: memoryview, size: Any, info: TensorInfo, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(DATATYPES[info.datatype]).newbyteorder("<")
    if type(size) is not int or not 0 <= size <= len(rest) or size % dtype.itemsize:
        raise refused(
            f"input {info.name!r}: found binary_data_size {_brief(size)}",
            f"allowed are multiples of {dtype.itemsize} up to the {len(rest)} bytes that follow",
        )
    _check_count(info, size // dtype.itemsize, shape)
    return np.frombuffer(rest[:size], dtype).reshape(shape)


def _check_count(info: TensorInfo, count: int, shape: tuple[int, ...]) -> None:
    if count != prod(shape):
        raise refused(
            f"input {info.name!r}: found {count} values for shape {list(shape)}",
            f"it has {prod(shape)}",
        )


def _wanted(header: dict[str, Any], signature: Signature) -> tuple[tuple[str, bool], ...]:
    """Return the outputs that a request wants; all where it names none."""
    binary = _flag(_parameters(header), "binary_data_output", False)
    named = _objects(header, "outputs")
    if not named:
        return tuple((info.name, binary) for info in signature.outputs)
    wanted = []
    for tensor in named:
        info = _known(tensor["name"], signature.outputs, "output")
        parameters = _parameters(tensor)
        if parameters.get("classification"):
            raise refused("found classification of an output", "take the largest elements yourself")
        wanted.append((info.name, _flag(parameters, "binary_data", binary)))
    return tuple(wanted)


def _flag(parameters: dict[str, Any], key: str, default: bool) -> bool:
    found = parameters.get(key, default)
    if not isinstance(found, bool):
        raise refused(f"{key}: found {_brief(found)}", "allowed are true and false")
    return found


# ---------------------------------------------------------------- answers


def answer(
    model: str, version: str, request: InferRequest, outputs: Mapping[str, Array]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON part if bytes follow it."""
    tensors, parts = [], []
    for name, binary in request.outputs:
        y = outputs[name]
        tensor: dict[str, Any] = {
            "name": name, "datatype": NAMES[str(y.dtype)], "shape": list(y.shape),
        }  # fmt: skip
        if binary:
            parts.append(np.ascontiguousarray(y, y.dtype.newbyteorder("<")).tobytes())
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = y.reshape(-1).tolist()
        tensors.append(tensor)
    found = {"model_name": model, "model_version": version, "outputs": tensors}
    if request.id is not None:
        found["id"] = request.id
    header = json.dumps(found, separators=(",", ":")).encode()
    return b"".join([header, *parts]), len(header) if parts else None
