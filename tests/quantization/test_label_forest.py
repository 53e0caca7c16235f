# SPDX-License-Identifier: Apache-2.0
"""Labels in arrays: united ones have one root.

In: random unions.  Out: the partition that a dictionary of sets gives.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.quantization.label_forest import Labels


@pytest.mark.parametrize("seed", range(5))
def test_the_partition_is_that_of_sets(seed: int) -> None:
    rng, forest = np.random.default_rng(seed), Labels()
    ids = forest.fresh(4, 6)
    sets = {int(i): {int(i)} for i in ids.ravel()}
    for a, b in rng.choice(ids.ravel(), (12, 2)):
        forest.unite(np.array(a), np.array(b))
        both = sets[int(a)] | sets[int(b)]
        sets.update(dict.fromkeys(both, both))
    roots = dict(zip(ids.ravel().tolist(), forest.roots(ids).ravel().tolist(), strict=True))
    for a in roots:
        for b in roots:
            assert (roots[a] == roots[b]) == (b in sets[a])
    assert all(root == min(sets[label]) for label, root in roots.items())


def test_arrays_are_broadcast() -> None:
    forest = Labels()
    rows, columns = forest.fresh(3, 1), forest.fresh(1, 2)
    assert rows.min() == 1  # label 0 exists from the start
    forest.unite(rows, columns)
    assert len(np.unique(forest.roots(np.concatenate([rows.ravel(), columns.ravel()])))) == 1
