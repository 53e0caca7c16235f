# SPDX-License-Identifier: Apache-2.0
"""Data sets and sweeps on several processes, machines and boards.

In: a program with inputs and what is right, or a model with settings to try.
Out: counts over the whole data set, one row per setting; the same with any workers.
"""

from .dask_workers import on_dask
from .data_sets import Evaluation, evaluate
from .farm import Farm, addresses
from .sweeps import DataSet, Point, Row, points_of, sweep
from .workers import Here

__all__ = [
    "DataSet",
    "Evaluation",
    "Farm",
    "Here",
    "Point",
    "Row",
    "addresses",
    "evaluate",
    "on_dask",
    "points_of",
    "sweep",
]
