# SPDX-License-Identifier: Apache-2.0
"""Facts about the tensors of a MatGraph that hold at any calibration and any precision.

In: a MatGraph and the groups of tensors that share a scale.  Out: ``Facts``: which groups are
int16, which are symmetric, and which tensors hold attention scores.  ``tie_scales`` finds them
once; a ``TiedGraph`` carries them to every later pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..expressions import is_expression, parsed
from ..types import Array, Function
from .ops import Gemm, Linear, MatGraph, MatOp, Move, RowMax, Window
from .predicates import is_difference, is_square
from .spectra import LOGARITHMS, wide_tensors
from .uses import Uses

INT16_ACTIVATIONS = frozenset(
    {"exp", "log", "reciprocal", "rsqrt", "sqrt", "square", "triangle"} | LOGARITHMS
)
# A constant left operand whose rows int8 holds to this fraction of their size stays int8.
CLOSE_ENOUGH = 0.02


def _is_wide(activation: Function) -> bool:
    """Return whether the results of a function are of very different sizes."""
    if not is_expression(activation.name):
        return activation.name in INT16_ACTIVATIONS
    terms = parsed(activation.name).all()
    return any(t.name == "reciprocal" or (t.name == "div" and t.terms[0].name == "") for t in terms)


@dataclass(frozen=True)
class Groups:
    """Union-find forest over tensor names: the tensors of one tree share a scale."""

    parent: dict[str, str]

    def root(self, name: str) -> str:
        """Return the tensor that represents the group of ``name``."""
        while self.parent.get(name, name) != name:
            name = self.parent[name]
        return name

    def members(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return ``names`` by the root of their group, in their order."""
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self.root(name), []).append(name)
        return found


@dataclass(frozen=True)
class Facts:
    """``int16``: roots of the groups that are int16 at any precision.  ``symmetric``: roots of the
    groups whose zero point is 0, both operands of an activation-activation matmul.  ``scores``:
    tensors that a mask may push to minus infinity: operands of a row maximum, and the maxima."""

    scale_groups: Groups
    int16: frozenset[str]
    symmetric: frozenset[str]
    scores: frozenset[str]


@dataclass(frozen=True)
class TiedGraph:
    """A MatGraph whose operands are legal, and the facts about its tensors."""

    graph: MatGraph
    facts: Facts


def facts_of(mg: MatGraph, groups: Groups) -> Facts:
    """Return all facts of ``mg``, whose tensors share scales as ``groups`` says."""
    uses = Uses.of(mg)
    scores = _position_scores(mg, uses)
    return Facts(
        groups,
        _int16_groups(mg, groups, uses, scores),
        _symmetric_groups(mg, groups),
        _score_tensors(mg, scores),
    )


# ---------------------------------------------------------------- symmetric groups and scores


def _symmetric_groups(mg: MatGraph, groups: Groups) -> frozenset[str]:
    products = [op for op in mg.ops if isinstance(op, Gemm) and op.rhs is not None]
    return frozenset(groups.root(name) for op in products for name in (op.input, op.rhs or ""))


def _score_tensors(mg: MatGraph, position_scores: frozenset[str]) -> frozenset[str]:
    found = set(position_scores)
    for op in mg.ops:
        if isinstance(op, RowMax):
            found |= {op.input, op.output}
        maxima = {row.tensor for row in op.epilogue.rows if row.kind == "max"}
        found |= maxima | ({op.output} if maxima else set())
    for op in mg.ops:  # the end of a LogSoftmax
        if is_difference(op) and op.input in found:
            found.add(op.output)
    return frozenset(found)


def _position_scores(mg: MatGraph, uses: Uses) -> frozenset[str]:
    """Return scores whose maximum is a window's, over positions, and scores minus that maximum."""
    found: set[str] = set()
    for op in mg.ops:
        if isinstance(op, Window) and op.epilogue.residual and op.epilogue.residual_gain == -1.0:
            way = _sources_of_maximum(op.epilogue.residual, uses)
            if way[-1] == op.input:
                found |= {*way, *([] if op.epilogue.activation else [op.output])}
    return frozenset(found)


def _sources_of_maximum(name: str, uses: Uses) -> list[str]:
    """Trace ``name`` back through Moves and max windows to the tensor whose maximum it is."""
    way = [name]
    while (op := uses.maker(way[-1])) is not None and op.output == way[-1]:
        if isinstance(op, Move) and len(op.parts) == 1:
            way.append(op.parts[0])
        elif isinstance(op, Window) and op.reduce == "max":
            way.append(op.input)
        else:
            break
    return way


# ---------------------------------------------------------------- int16 groups


def _int16_groups(
    mg: MatGraph, groups: Groups, uses: Uses, position_scores: frozenset[str]
) -> frozenset[str]:
    chosen = _int16_constants(mg) | {p.tensor for p in mg.inputs if p.table is not None}
    chosen |= {p.tensor for p in mg.outputs if not uses.readers(p.tensor)} | low_digits(mg)
    if mg.quant:  # the int8 tensors are those that a QDQ model names; the others were float there
        chosen |= mg.tensors.keys()
    # Left operands of activation-activation matmuls: int8 ones need one pass, int16 ones two.
    streamed = {groups.root(op.input) for op in mg.ops if isinstance(op, Gemm) and op.rhs}
    for op in mg.ops:
        chosen |= {n for n in _int16_by_use(op, mg) if groups.root(n) not in streamed}
        chosen |= _int16_by_statistics(op)
    chosen |= _added_before_statistics(mg, groups) | position_scores | wide_tensors(mg, uses)
    return as_prescribed(mg, groups, chosen)


def low_digits(mg: MatGraph) -> set[str]:
    """Return the tensors of the products with the second digits of widened weights."""
    residuals = (op.epilogue.residual for op in mg.ops if op.output in mg.recipe.widened)
    return {name for name in residuals if name is not None}


def as_prescribed(mg: MatGraph, groups: Groups, chosen: Iterable[str]) -> frozenset[str]:
    """Return the roots of the groups of ``chosen`` tensors without those that a QDQ model
    prescribes as int8, and with those that it prescribes as int16."""
    prescribed = {groups.root(name): q.int16 for name, q in mg.quant.items()}
    roots = {groups.root(name) for name in chosen}
    return frozenset(root for root in roots | prescribed.keys() if prescribed.get(root, True))


def _int16_by_use(op: MatOp, mg: MatGraph) -> tuple[str, ...]:
    """Return the tensors whose relative precision matters: softmax and normalisation statistics."""
    if isinstance(op, RowMax):
        return (op.input,)
    if isinstance(op, Move):
        return ()
    activation = op.epilogue.activation
    if is_square(op):
        return (op.output,)
    if mg.tensors[op.output].broadcast or (activation and _is_wide(activation)):
        return (op.output,)
    return ()


def _int16_by_statistics(op: MatOp) -> set[str]:
    """Return row statistics, the tensors that they are taken of, and operands of x - mean."""
    rows = op.epilogue.rows
    found = {row.tensor for row in rows}
    if any(row.kind != "sum" for row in rows):
        found.add(op.output)
    if isinstance(op, Window) and op.minus is not None:
        found |= {op.input, op.minus}
    return found


def _int16_constants(mg: MatGraph) -> set[str]:
    """Return constants without the left operands that int8 holds well: int16 ones need a second
    pass."""
    streamed = {op.input for op in mg.ops if isinstance(op, Gemm) and op.rhs is not None}
    return {
        name
        for name, value in mg.constants.items()
        if name not in streamed or _int8_error(value) > CLOSE_ENOUGH
    }


def _int8_error(x: Array) -> float:
    """Return the mean over rows of the int8 rounding error's norm over the row's norm."""
    step = float(np.abs(x).max(initial=0.0)) / 127 or 1.0
    size = np.linalg.norm(x, axis=-1)
    lost = np.linalg.norm(np.rint(x / step) * step - x, axis=-1)
    used = size > 0
    return float(np.mean(lost[used] / size[used])) if used.any() else 0.0


def _added_before_statistics(mg: MatGraph, groups: Groups) -> set[str]:
    """Return the addends in front of a normalisation that no matrix product reads."""
    multiplied = {groups.root(op.input) for op in mg.ops if isinstance(op, Gemm)}
    found: set[str] = set()
    for op in reversed(mg.ops):
        if not isinstance(op, Linear):
            continue
        normalized = any(row.kind in ("mean", "square") for row in op.epilogue.rows)
        if normalized or groups.root(op.output) in found:
            main = (op.input,) if isinstance(op, Window) and op.reduce == "add" else ()
            parts = (*main, *((op.epilogue.residual,) if op.epilogue.residual else ()))
            found |= {groups.root(t) for t in parts} - multiplied
    return found
