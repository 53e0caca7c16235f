# SPDX-License-Identifier: Apache-2.0
"""How a source tensor lies in an (N,H,W,C) tensor; this makes reshapes and transposes free.

In: logical shapes and layout operators.  Out: views, and the numpy steps between both forms.

A logical shape is factored into atoms (sizes above 1, in logical order); each of N, H, W, C lists
the atoms it holds, outermost first.  Axes of size 1 have no atom, so that a squeeze never moves
data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from .types import Array, Shape, ViewStep, apply_steps

Groups = tuple[tuple[int, ...], ...]  # for each of N, H, W, C: logical axes, or atoms


@dataclass(frozen=True)
class View:
    """``shape``: the logical tensor; ``dims``: which atoms N, H, W and C hold."""

    shape: Shape
    atoms: tuple[int, ...]
    dims: Groups

    @property
    def canonical(self) -> tuple[int, int, int, int]:
        """The (N,H,W,C) shape."""
        n, h, w, c = (prod(self.atoms[a] for a in dim) for dim in self.dims)
        return n, h, w, c

    @property
    def order(self) -> tuple[int, ...]:
        """All atoms in (N,H,W,C) order."""
        return tuple(a for dim in self.dims for a in dim)


@dataclass(frozen=True)
class Relabel:
    """The permutation of a Move that only permutes: the atoms of its input's ``view`` go to
    ``dims``."""

    view: View
    dims: Groups


def default_groups(rank: int) -> Groups:
    """Return the default axes of N, H, W, C: images as NCHW, all else as rows."""
    if rank == 4:
        return ((0,), (2,), (3,), (1,))
    if rank > 4:
        return (tuple(range(rank - 3)), (rank - 3,), (rank - 2,), (rank - 1,))
    return rows_groups(rank)


def rows_groups(rank: int) -> Groups:
    """Return groups in which the last axis is the channel and the others are positions."""
    return channel_groups(rank, (rank - 1,) if rank else ())


def channel_groups(rank: int, channel: Iterable[int]) -> Groups:
    """Return groups with ``channel`` axes in C, of the others the last in W, then H, the rest in
    N."""
    channel = tuple(channel)
    rest = [axis for axis in range(rank) if axis not in channel]
    w, head = tuple(rest[-1:]), rest[:-1]
    n = tuple(head[:1]) if len(head) == 1 else tuple(head[:-1])
    h = tuple(head[len(n) :])
    return (n, h, w, channel)


def view_of(shape: Shape, groups: Groups) -> View:
    """Return the view of a whole tensor whose axes lie as ``groups`` says."""
    atoms = tuple(n for n in shape if n > 1)
    plain = View(shape, atoms, ((), (), (), tuple(range(len(atoms)))))
    return View(shape, atoms, dims_of(plain, groups))


def axis_atoms(view: View) -> tuple[tuple[int, ...], ...]:
    """Return the atoms of every logical axis."""
    found, first = [], 0
    for size in view.shape:
        last, held = first, 1
        while held < size:
            held *= view.atoms[last]
            last += 1
        found.append(tuple(range(first, last)))
        first = last
    return tuple(found)


def dims_of(view: View, groups: Groups) -> Groups:
    """Return ``groups`` of logical axes as groups of atoms."""
    atoms = axis_atoms(view)
    return tuple(tuple(a for axis in group for a in atoms[axis]) for group in groups)


def groups_of(view: View) -> Groups | None:
    """Return the logical axes of N, H, W, C, or None where an axis is spread over several of
    them."""
    places = {atom: i for i, dim in enumerate(view.dims) for atom in dim}
    spare = {axis: i for i, group in enumerate(default_groups(len(view.shape))) for axis in group}
    groups: list[list[int]] = [[], [], [], []]
    for axis, atoms in enumerate(axis_atoms(view)):
        homes = {places[a] for a in atoms} or {spare[axis]}
        if len(homes) > 1:
            return None
        groups[homes.pop()].append(axis)
    found = tuple(tuple(group) for group in groups)
    return found if dims_of(view, found) == view.dims else None


def _split(atoms: Sequence[int], shape: Shape) -> list[list[int]] | None:
    """Return factors of every atom that make up the axes of ``shape``; None if sizes do not fit."""
    pieces: list[list[int]] = [[] for _ in atoms]
    at, left = 0, atoms[0] if atoms else 1
    for size in shape:
        while size > 1:
            if left == 1:
                at += 1
                left = atoms[at]
            piece = min(size, left)
            if max(size, left) % piece:
                return None
            pieces[at].append(piece)
            size, left = size // piece, left // piece
    return pieces


def reshape(view: View, shape: Shape) -> View | None:
    """Return the view of the tensor reshaped; None if that moves data."""
    pieces = _split(view.atoms, shape)
    if pieces is None:
        return None
    starts = np.cumsum([0, *map(len, pieces)])
    names = [tuple(range(a, b)) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    dims = tuple(tuple(p for atom in dim for p in names[atom]) for dim in view.dims)
    return View(shape, tuple(p for atom in pieces for p in atom), dims)


def transpose(view: View, perm: Sequence[int]) -> View:
    """Return the view of the tensor with its logical axes permuted."""
    atoms = axis_atoms(view)
    order = [a for axis in perm for a in atoms[axis]]
    renamed = {old: new for new, old in enumerate(order)}
    dims = tuple(tuple(renamed[a] for a in dim) for dim in view.dims)
    return View(tuple(view.shape[p] for p in perm), tuple(view.atoms[a] for a in order), dims)


def replace_axes(view: View, sizes: dict[int, int], dims: Groups | None = None) -> View:
    """Return the view of a result whose axes in ``sizes`` have new sizes, those above 1 in C.

    A size of 1 drops the axis's atoms.  ``dims`` are used instead of the view's own.
    """
    shape = tuple(sizes.get(axis, n) for axis, n in enumerate(view.shape))
    renamed: dict[int, int] = {}
    sizes_new: list[int] = []
    channel: list[int] = []
    for axis, atoms in enumerate(axis_atoms(view)):
        if axis in sizes and sizes[axis] > 1:
            channel.append(len(sizes_new))
            sizes_new.append(sizes[axis])
        elif axis not in sizes:
            renamed.update({a: len(sizes_new) + i for i, a in enumerate(atoms)})
            sizes_new += [view.atoms[a] for a in atoms]
    kept = [tuple(renamed[a] for a in dim if a in renamed) for dim in dims or view.dims]
    return View(shape, tuple(sizes_new), (*kept[:3], (*kept[3], *channel)))


def to_canonical(view: View) -> tuple[ViewStep, ...]:
    """Return the steps from the logical shape to (N,H,W,C)."""
    groups = groups_of(view)
    if groups and len(view.shape) == 4 and all(len(group) == 1 for group in groups):
        return _tidy(view.shape, (ViewStep("transpose", tuple(g[0] for g in groups)),))
    return permute_steps(view.shape, view.atoms, view.order, view.canonical)


def view_of_steps(shape: Shape, steps: tuple[ViewStep, ...], canonical: Shape) -> View:
    """Return the view of which ``steps``, made by ``to_canonical``, lead to ``canonical``."""
    atoms = tuple(n for n in shape if n > 1)
    axes, order = shape, tuple(range(len(atoms)))
    for step in steps:
        if step.kind == "transpose":
            numbers = np.cumsum([n > 1 for n in axes]) - 1
            order = tuple(int(numbers[axis]) for axis in step.arg if axes[axis] > 1)
            break
        axes = step.arg
    dims, left = [], list(order)
    for size in canonical:
        held: list[int] = []
        while prod(atoms[a] for a in held) < size:
            held.append(left.pop(0))
        dims.append(tuple(held))
    return View(shape, atoms, tuple(dims))


def permute_steps(
    shape: Shape, atoms: Shape, order: tuple[int, ...], target: Shape
) -> tuple[ViewStep, ...]:
    """Return the steps that reshape ``shape`` to ``atoms``, permute to ``order``, reshape to
    ``target``."""
    if order == tuple(range(len(atoms))):
        return _tidy(shape, (ViewStep("reshape", target),))
    split, merged = ViewStep("reshape", atoms), ViewStep("reshape", target)
    return _tidy(shape, (split, ViewStep("transpose", order), merged))


def _tidy(shape: Shape, steps: tuple[ViewStep, ...]) -> tuple[ViewStep, ...]:
    """Return the steps without those that change nothing."""
    kept = []
    for step in steps:
        is_reshape = step.kind == "reshape"
        new = step.arg if is_reshape else tuple(shape[a] for a in step.arg)
        if step.arg != (shape if is_reshape else tuple(range(len(shape)))):
            kept.append(step)
        shape = new
    return tuple(kept)


def from_canonical(view: View) -> tuple[ViewStep, ...]:
    """Return the steps from (N,H,W,C) to the logical shape."""
    groups = groups_of(view)
    if groups and len(view.shape) == 4 and all(len(group) == 1 for group in groups):
        back = tuple(int(i) for i in np.argsort([g[0] for g in groups]))
        return _tidy(view.canonical, (ViewStep("transpose", back),))
    sizes = tuple(view.atoms[a] for a in view.order)
    back = tuple(int(i) for i in np.argsort(view.order))
    return permute_steps(view.canonical, sizes, back, view.shape)


def canonical_operand(array: Array, view: View) -> Array:
    """Return a constant that broadcasts against ``view.shape`` as (N,H,W,C), each whole or 1."""
    array = array.reshape((1,) * (len(view.shape) - array.ndim) + array.shape)
    sizes: list[int] = []
    for axis, atoms in enumerate(axis_atoms(view)):
        is_whole: bool = array.shape[axis] == view.shape[axis]
        sizes += [view.atoms[a] if is_whole else 1 for a in atoms]
    parts = np.transpose(array.reshape(sizes), view.order)
    target: list[list[int]] = []
    for dim in view.dims:
        present = any(sizes[a] > 1 for a in dim)
        target.append([view.atoms[a] if present else 1 for a in dim])
    full = np.broadcast_to(parts, [n for dims in target for n in dims])
    return np.ascontiguousarray(full).reshape([prod(dim) for dim in target])


def to_array(array: Array, steps: tuple[ViewStep, ...]) -> Array:
    """Return the contiguous result of ``apply_steps``."""
    return np.ascontiguousarray(apply_steps(array, steps))
