# SPDX-License-Identifier: Apache-2.0
"""Labels that are found to be the same, in arrays.

In: arrays of labels, broadcast against each other.  Out: ``Labels``, a union-find forest.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..ir.types import Array


class Labels:
    """Union-find forest over labels, in arrays."""

    def __init__(self) -> None:
        self._parents = np.arange(1 << 10)  # grows by doubling; the first _count are in use
        self._count = 1

    def fresh(self, *shape: int) -> Array:
        """Return new labels in an array of this shape."""
        first, self._count = self._count, self._count + prod(shape)
        while self._count > len(self._parents):
            more = np.arange(len(self._parents), 2 * len(self._parents))
            self._parents = np.concatenate([self._parents, more])
        return np.arange(first, self._count).reshape(shape)

    def roots(self, labels: Array) -> Array:
        """Return the label that represents each."""
        found = self._parents[labels]
        while np.any(self._parents[found] != found):
            found = self._parents[found]
        return np.asarray(found)

    def unite(self, a: Array, b: Array) -> None:
        """Make labels at the same places of two arrays, broadcast, one."""
        left, right = np.broadcast_arrays(self.roots(a), self.roots(b))
        apart = left != right
        for p, q in dict.fromkeys(zip(left[apart].tolist(), right[apart].tolist(), strict=True)):
            low, high = sorted((self._root(p), self._root(q)))
            self._parents[high] = low

    def _root(self, label: int) -> int:
        while (parent := self._parents[label]) != label:
            self._parents[label] = label = self._parents[parent]
        return int(label)
