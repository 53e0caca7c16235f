# SPDX-License-Identifier: Apache-2.0
"""Inputs of a model that become constants: an adjacency matrix, edge indices, a mask.

In: an ONNX model and {input name: array}.  Out: the model with those inputs as initialisers;
BadInput where a name, shape or type does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BadInput
from ...files import DAMAGE
from ...ir.types import Array
from .load import read, require_onnx

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

_KINDS = {"f": "floating point", "i": "integer", "u": "unsigned integer", "b": "bool"}
# element types to which an array of some kind converts without a change of meaning
_FITS = {"f": "fiub", "i": "iub", "u": "iub", "b": "b"}


def bind_constants(
    model: str | Path | bytes | ModelProto, constants: Mapping[str, Any]
) -> ModelProto:
    """Return the model with some of its inputs bound to arrays.

    A dynamic dimension that an array fixes is fixed for all inputs that name it.

    >>> bind_constants("gcn.onnx", {"adjacency": a})  # doctest: +SKIP
    """
    onnx = require_onnx()
    proto, folder = read(model)
    bound = onnx.ModelProto()
    bound.CopyFrom(proto)
    if folder is not None:
        onnx.external_data_helper.load_external_data_for_model(bound, str(folder))
    inputs = _run_time_inputs(bound)
    if not isinstance(constants, Mapping):
        raise BadInput(
            f"constants: found a {type(constants).__name__}, allowed is {{input name: array}}"
        )
    _check_names(constants, inputs)
    sizes: dict[str, int] = {}
    for name, array in constants.items():
        value = _fitted(inputs[name], _array(name, array), sizes)
        bound.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        bound.graph.input.remove(inputs.pop(name))
    _fix_sizes(inputs.values(), sizes)
    return bound


def _array(name: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"constants: {name!r} is not an array ({error}); pass a numpy array"
        ) from None


def _run_time_inputs(proto: ModelProto) -> dict[str, ValueInfoProto]:
    given = {tensor.name for tensor in proto.graph.initializer}
    return {value.name: value for value in proto.graph.input if value.name not in given}


def _check_names(constants: Mapping[str, Any], inputs: Mapping[str, ValueInfoProto]) -> None:
    unknown = sorted(set(map(str, constants)) - set(inputs))
    if unknown:
        raise BadInput(
            f"constants: found {', '.join(map(repr, unknown))}, allowed are the model's inputs "
            f"{', '.join(f'{n!r} {_dims(v)}' for n, v in inputs.items())}; correct the name"
        )


def _dims(value: ValueInfoProto) -> str:
    dims = value.type.tensor_type.shape.dim
    return f"({', '.join(d.dim_param or str(d.dim_value or '?') for d in dims)})"


def _fitted(value: ValueInfoProto, array: Array, sizes: dict[str, int]) -> Array:
    """Return the array in the input's own type, its shape checked; named dimensions enter
    ``sizes``."""
    onnx = require_onnx()
    kind = value.type.tensor_type.elem_type
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    if array.dtype != dtype and array.dtype.kind not in _FITS.get(dtype.kind, ""):
        wanted = _KINDS.get(dtype.kind, str(dtype))
        raise BadInput(
            f"constants: {value.name!r} is {array.dtype}, allowed is {wanted} ({dtype}); convert "
            "the array"
        )
    dims = value.type.tensor_type.shape.dim
    if value.type.tensor_type.HasField("shape"):
        fits = len(dims) == array.ndim and all(
            (max(d.dim_value, 0) or sizes.setdefault(d.dim_param or f"{value.name}:{i}", n)) == n
            for i, (d, n) in enumerate(zip(dims, array.shape, strict=True))
        )
        if not fits:
            raise BadInput(
                f"constants: {value.name!r} has shape {array.shape}, allowed is {_dims(value)}"
                f"{_named(dims, sizes)}; reshape the array"
            )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype)


def _named(dims: Any, sizes: Mapping[str, int]) -> str:
    known = {d.dim_param: sizes[d.dim_param] for d in dims if d.dim_param in sizes}
    return " where " + ", ".join(f"{n} is {s}" for n, s in known.items()) if known else ""


def _fix_sizes(inputs: Any, sizes: Mapping[str, int]) -> None:
    for value in inputs:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]


def read_constants(options: Sequence[str]) -> dict[str, Array]:
    """Read ``["adjacency=a.npy"]`` as ``{"adjacency": array}``; pickled arrays are refused."""
    found: dict[str, Array] = {}
    for option in options:
        name, _, path = option.partition("=")
        if not name or not path:
            raise BadInput(f"--constant: found {option!r}, allowed is NAME=FILE.npy")
        if name in found:
            raise BadInput(f"--constant: found {name!r} twice, allowed is once per input")
        found[name] = _read_array(Path(path))
    return found


def _read_array(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise BadInput(
            f"{path}: found no file to read ({error.strerror or error}); name a .npy file"
        ) from None
    except DAMAGE as error:
        raise BadInput(f"{path}: found no readable .npy file ({error}); use numpy.save") from None
    if not isinstance(array, np.ndarray):
        raise BadInput(f"{path}: found several arrays, allowed is one; use numpy.save")
    return array
