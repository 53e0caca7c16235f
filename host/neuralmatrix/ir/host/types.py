# SPDX-License-Identifier: Apache-2.0
"""What the host computes in front of the array and behind it, as data.

In: nothing.  Out: frozen dataclasses, which a program carries in its file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..types import Array, Shape

ANY = -1  # a size that depends on data
# ONNX's numbers of element types; all floats are float32 on the host
ELEMENT_TYPES: dict[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float32", 11: "float32", 12: "uint32", 13: "uint64", 16: "float32",
}  # fmt: skip
DTYPES = frozenset(ELEMENT_TYPES.values())


def host_array(array: Array) -> Array:
    """Return an array in the type that it has on the host: all floats are float32."""
    is_float = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32) if is_float else np.asarray(array)


@dataclass(frozen=True)
class HostValue:
    """An input or output as a user sees it.

    ``shape`` has ``ANY`` where data decides, and is None where that holds for the number of axes
    too; ``dtype`` "" leaves the type as it is computed.
    """

    name: str
    shape: Shape | None
    dtype: str


@dataclass(frozen=True)
class HostOp:
    """One operation of ``operators.OPERATORS``, named and defined as in ONNX.

    What ONNX gives as a list (axes, a permutation) is an input; "" is an input left out.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class HostConstant:
    """A constant operand."""

    name: str
    values: Array | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class HostEdges:
    """``before`` computes the array's inputs from the user's ``inputs``, ``after`` the ``outputs``
    from the array's.

    Values have the names of the model.  Inputs that no operation changes go to the array as they
    are, and outputs likewise.
    """

    inputs: tuple[HostValue, ...]
    outputs: tuple[HostValue, ...]
    before: tuple[HostOp, ...] = ()
    after: tuple[HostOp, ...] = ()
    constants: tuple[HostConstant, ...] = ()

    @property
    def beside(self) -> frozenset[str]:
        """The values that operations behind the array, or outputs, read besides the array's."""
        made = {name for op in self.after for name in op.outputs}
        read = {name for op in self.after for name in op.inputs if name}
        return frozenset(read | {value.name for value in self.outputs}) - made
