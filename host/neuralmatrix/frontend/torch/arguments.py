# SPDX-License-Identifier: Apache-2.0
"""Arguments and results of torch modules, and the names of their tensors.

In: example inputs, a module's ``forward`` and its result.  Out: tensors and names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import BadInput, BadModel

_PLAIN = (bool, int, float, str, type(None))  # arguments that are folded into the graph


def arguments(torch: ModuleType, examples: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the examples as positional and as named arguments, arrays as tensors."""
    if isinstance(examples, Mapping):
        return (), {str(k): _tensor(torch, v, f"{k!r}") for k, v in examples.items()}
    listed = examples if isinstance(examples, tuple | list) else (examples,)
    return tuple(_tensor(torch, v, f"number {i}") for i, v in enumerate(listed)), {}


def _tensor(torch: ModuleType, value: Any, what: str) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, torch.Tensor) or isinstance(value, _PLAIN):
        return value
    raise BadInput(
        f"example input {what} is a {type(value).__name__}; allowed are tensors, numpy arrays, "
        "numbers, booleans and None; wrap nested arguments in a module that unpacks them"
    )


def names_of_inputs(
    torch: ModuleType,
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wanted: Sequence[str] | None,
) -> list[str]:
    """Return names of the tensor arguments, in the order of ``forward``."""
    bound = _bound(module, args, kwargs)
    names = [
        name
        for key, value in bound.arguments.items()
        for name, one in _spread(bound.signature.parameters[key], value)
        if isinstance(one, torch.Tensor)
    ]
    if not names:
        raise BadInput(
            "the example inputs hold no tensor; a network needs at least one; give a tensor in the "
            "shape to compile for"
        )
    if wanted is not None and len(wanted) != len(names):
        raise BadInput(
            f"{len(wanted)} input names for {len(names)} tensors ({', '.join(names)}); give one "
            "name per tensor"
        )
    return names if wanted is None else [str(name) for name in wanted]


def _bound(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
    """Return the arguments bound to the parameters of ``forward``."""
    try:
        return inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        found = f"{len(args)} positional" if args else f"named {', '.join(kwargs)}"
        raise BadInput(
            f"the example inputs ({found}) do not fit {type(module).__name__}.forward: {error}; "
            "give a tuple in its order or a dict by its argument names"
        ) from None


def _spread(parameter: inspect.Parameter, value: Any) -> list[tuple[str, Any]]:
    """Return an argument of forward, *args and **kwargs as single arguments."""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return [(f"{parameter.name}_{i}", one) for i, one in enumerate(value)]
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return list(value.items())
    return [(parameter.name, value)]


def names_of_outputs(torch: ModuleType, answer: Any, taken: Sequence[str]) -> list[str]:
    """Return names of the result's tensors: dict keys, or output, or output_0, output_1 and so
    on."""
    paths = list(_flat(torch, answer, ()))
    if not paths:
        raise BadModel("the module's result holds no tensor; return one, a tuple or a dict of them")
    if len(paths) == 1 and not (paths[0] and isinstance(paths[0][0], str)):
        paths = [("output",)]
    names = [
        "_".join(map(str, path if isinstance(path[0], str) else ("output", *path)))
        for path in paths
    ]
    return [f"{name}_out" if name in taken else name for name in names]


def _flat(torch: ModuleType, answer: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of the tensors in nested tuples and dicts."""
    if isinstance(answer, torch.Tensor):
        yield path
    elif isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from _flat(torch, value, (*path, str(key)))
    elif isinstance(answer, tuple | list):
        for i, value in enumerate(answer):
            yield from _flat(torch, value, (*path, i))
