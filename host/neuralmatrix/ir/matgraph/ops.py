# SPDX-License-Identifier: Apache-2.0
"""MatGraph: operations of the array in real arithmetic, which lowering makes.

In: nothing.  Out: ``MatOp`` and its four kinds ``Gemm``, ``Window``, ``RowMax`` and ``Move``, their
epilogues, and ``MatGraph``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeVar

from ..axis_view import Relabel
from ..recipe import Recipe
from ..types import Array, Function, QParams, Shape, Units, ViewStep


@dataclass(frozen=True)
class Tensor:
    """A (N, H, W, C) tensor; ``broadcast``: C is 1 and every lane of its lane vector holds that
    value.

    ``copy_of``: the tensor it is a copy of, stored in another way.
    """

    name: str
    shape: tuple[int, int, int, int]
    broadcast: bool = False
    copy_of: str | None = None


@dataclass(frozen=True)
class RowStat:
    """One value per position, over the channels of an operation's results.

    "square" is the mean of their squares.  ``tensor`` is a broadcast (N, H, W, 1) output.
    """

    kind: Literal["max", "sum", "mean", "square"]
    tensor: str


@dataclass(frozen=True)
class Epilogue:
    """out = factor * act(lin + residual_gain * residual) * hadamard

    Each of N, H, W of residual/hadamard equals the output's or is 1; C equals the output's, or the
    operand is broadcast.  Operands may be constants of the MatGraph.  ``rows``: statistics of the
    finished rows, further outputs of the operation: one "max", or one "sum", or one or both of
    "mean" and "square"; no "square" together with a hadamard.
    """

    residual: str | None = None
    residual_gain: float = 1.0
    activation: Function | None = None
    hadamard: str | None = None
    rows: tuple[RowStat, ...] = ()
    factor: float = 1.0  # positive; part of the output's scale in integers

    def renamed(self, names: Mapping[str, str]) -> Epilogue:
        """Return the epilogue with ``names[t]`` for every tensor ``t`` that ``names`` has."""
        return replace(
            self,
            residual=_new_name(self.residual, names),
            hadamard=_new_name(self.hadamard, names),
            rows=tuple(replace(r, tensor=names.get(r.tensor, r.tensor)) for r in self.rows),
        )


def _new_name(name: str | None, names: Mapping[str, str]) -> str | None:
    return name if name is None else names.get(name, name)


NO_EPILOGUE = Epilogue()
Op = TypeVar("Op", bound="MatOp")


@dataclass(frozen=True)
class MatOp:
    """Base of all operations: an output, inputs, an epilogue, and the layer that it comes from."""

    _OPERANDS: ClassVar[tuple[str, ...]] = ()  # fields with the name of a tensor, or None

    output: str
    _: KW_ONLY
    source: str = ""

    @property
    def epilogue(self) -> Epilogue:
        """The operation's epilogue; an empty one if it has none of its own."""
        return NO_EPILOGUE

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Names of all tensors that it reads: main inputs, rhs or minus, residual, hadamard."""
        main = [getattr(self, operand) for operand in self._OPERANDS]
        e = self.epilogue
        return tuple(name for name in (*main, e.residual, e.hadamard) if name is not None)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """Names of all tensors that it writes: its output, then its row statistics."""
        return (self.output, *(row.tensor for row in self.epilogue.rows))

    def renamed(self: Op, names: Mapping[str, str]) -> Op:
        """Return the operation with ``names[t]`` for every tensor ``t`` that it reads or writes."""
        fields = ("output", *self._OPERANDS)
        changed: dict[str, Any] = {f: _new_name(getattr(self, f), names) for f in fields}
        return replace(self, **changed)


@dataclass(frozen=True)
class Linear(MatOp):
    """Base of Gemm and Window: weights on a window of one input, a bias, and an epilogue.

    ``pads`` top, left, bottom, right.  ``weight_scale`` (M,): prescribed by a QDQ model.
    """

    _OPERANDS: ClassVar[tuple[str, ...]] = ("input",)

    input: str
    weight: Array | None
    bias: Array
    _: KW_ONLY
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    epilogue: Epilogue = NO_EPILOGUE
    weight_scale: Array | None = None

    def renamed(self: Lin, names: Mapping[str, str]) -> Lin:
        return replace(super().renamed(names), epilogue=self.epilogue.renamed(names))


Lin = TypeVar("Lin", bound=Linear)


@dataclass(frozen=True)
class Gemm(Linear):
    """Convolution and matrix product.

    out[n,oh,ow,m] = bias[m] + sum over kh,kw,c of x[n,oh*sh+kh*dh-top,...,c] * w[kh,kw,c,m]

    ``weight`` (KH, KW, C/groups, M) floats; a matrix product has KH = KW = 1.  Padding reads real
    0.  If the output tensor is broadcast, M == 1.
    ``rhs``: instead of ``weight``, the name of a tensor (N', 1, K, M) or, with ``rhs_transposed``,
    (N', 1, M, K); N is a multiple of N', and image n meets rhs image n * N' // N.  ``gain`` then
    multiplies the sum.  An output that nothing reads is not stored (its row statistics are).
    """

    _OPERANDS: ClassVar[tuple[str, ...]] = ("input", "rhs")

    _: KW_ONLY
    groups: int = 1
    rhs: str | None = None
    rhs_transposed: bool = False
    gain: float = 1.0


@dataclass(frozen=True)
class Window(Linear):
    """Per-channel window: out[..,c] = bias[c] + sum or max over taps of x[.., tap, c] * w[tap, c].

    ``weight`` (KH, KW, C), or (KH, KW, 1) for the same in all channels.  reduce "max" ignores its
    values: taps whose weight is 0 are left out, and padding reads -infinity.  Element-wise
    operators are 1x1 windows.  Where the input has C == 1 and is broadcast, the output may have
    more channels.  ``minus``: a broadcast (N, H, W, 1) tensor that is subtracted from x before the
    weight (1x1 windows that add).
    """

    _OPERANDS: ClassVar[tuple[str, ...]] = ("input", "minus")

    weight: Array
    _: KW_ONLY
    reduce: Literal["add", "max"] = "add"
    minus: str | None = None


@dataclass(frozen=True)
class RowMax(MatOp):
    """out[n,h,w] = max over channels; the output is a broadcast (N, H, W, 1)."""

    _OPERANDS: ClassVar[tuple[str, ...]] = ("input",)

    input: str


@dataclass(frozen=True)
class Move(MatOp):
    """out.flat[i] = concatenation of the parts (each flattened as N,H,W,C)[index[i]].

    Index -1 gives ``fill``.  Concat, slices, reshapes, transposes, tiling and nearest resize are
    Moves; the scheduler makes addresses of them where it can.
    """

    parts: tuple[str, ...]  # its inputs; the same one may occur twice
    index: Array  # int64, shape of the output (N,H,W,C)
    fill: float = 0.0
    _: KW_ONLY
    relabel: Relabel | None = None  # where the Move only permutes

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.parts

    def renamed(self, names: Mapping[str, str]) -> Move:
        parts = tuple(names.get(name, name) for name in self.parts)
        return replace(super().renamed(names), parts=parts)


@dataclass(frozen=True)
class Port:
    """A network input or output: the source's name and shape, and the steps to the MatGraph tensor.

    The ``steps`` of an input lead from the source shape to (N,H,W,C), those of an output from
    (N,H,W,C) to the source shape.  ``argmax`` (axis, keepdims, select_last) runs on the host after
    the steps. ``table`` (V, D): the input holds indices; the host gathers those rows before the
    steps, which then lead from shape + (D,).  Several ports may share a name.  ``units``: of the
    parts of the tensor, which the host converts.
    """

    name: str
    shape: Shape
    tensor: str
    steps: tuple[ViewStep, ...]
    argmax: tuple[int, bool, bool] | None = None
    dtype: str = "float32"
    table: Array | None = None
    units: Units | None = None


@dataclass(frozen=True)
class MatGraph:
    """Operations in execution order over ``tensors`` (constants included)."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    ops: tuple[MatOp, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Array]  # (N,H,W,C) floats used as epilogue operands
    quant: Mapping[str, QParams] = field(default_factory=dict)
    recipe: Recipe = Recipe()  # what calibration changed in the graph
