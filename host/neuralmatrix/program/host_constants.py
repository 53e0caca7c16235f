# SPDX-License-Identifier: Apache-2.0
"""The constants of the host's operations as members of a program's file.

In: ``HostEdges`` with arrays, or arrays by member.  Out: arrays by member, or ``HostEdges``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..ir.host.types import DTYPES, HostEdges
from ..ir.types import Array

CONSTANT = re.compile(r"host_(0|[1-9]\d{0,3})\.npy")
CONSTANT_DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(name).newbyteorder("<") for name in sorted(DTYPES)
)


def _member(number: int) -> str:
    return f"host_{number}.npy"


def constant_members(host: HostEdges | None) -> dict[str, Array]:
    """Return the arrays by the name of their member: the number of the constant."""
    constants = host.constants if host is not None else ()
    values = {_member(i): one.values for i, one in enumerate(constants)}
    return {name: array for name, array in values.items() if array is not None}


def without_values(host: HostEdges | None) -> HostEdges | None:
    """Return the operations with the names of their constants alone."""
    if host is None:
        return None
    return replace(host, constants=tuple(replace(one, values=None) for one in host.constants))


def constants_problem(host: HostEdges | None, members: Mapping[str, Array]) -> str:
    """Describe a member or a constant without the other; an empty string if there is none."""
    count = len(host.constants) if host is not None else 0
    wanted = {_member(i) for i in range(count)}
    if set(members) != wanted:
        return f"host constants: found {sorted(members)[:4]}, allowed are {count} of them"
    return ""


def with_values(host: HostEdges | None, members: Mapping[str, Array]) -> HostEdges | None:
    """Return the operations with their constants."""
    if host is None:
        return None
    constants = (replace(one, values=members[_member(i)]) for i, one in enumerate(host.constants))
    return replace(host, constants=tuple(constants))
