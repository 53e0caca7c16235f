# SPDX-License-Identifier: Apache-2.0
"""torch's tracing exporter, with a check that no value of the inputs becomes a constant.

In: an ``ExportCall``.  Out: a ``ModelProto``; ValueError where the trace holds values of inputs.
"""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .names import strip_scope

_INSIDE = "inside"
_BY_NAME = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


@dataclass(frozen=True)
class ExportCall:
    """A module, its arguments, the names in the export, and the packages that make it."""

    torch: ModuleType
    onnx: ModuleType
    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    settings: dict[str, Any]


def trace(call: ExportCall) -> Any:
    """Return the ModelProto of the tracing exporter.  ValueError: it holds values of inputs."""
    torch, module = call.torch, call.module
    known = inspect.signature(torch.onnx.export).parameters
    newer = {"dynamo": False} if "dynamo" in known else {}
    fixed, tensors = _numbers_inside(torch, module, call.args, call.kwargs)
    file = io.BytesIO()
    with _no_frozen_values(torch, module, call.args, call.kwargs):
        # Folded constants lose their names, so that folding is left to the importer.
        torch.onnx.export(fixed, tensors, file, do_constant_folding=False, **newer, **call.settings)
    proto = call.onnx.load_from_string(file.getvalue())
    if fixed is not module:
        strip_scope(proto, _INSIDE)
    return proto


@contextmanager
def _no_frozen_values(
    torch: ModuleType, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[None]:
    """Raise ValueError if values of the inputs became constants of the trace.

    The tracer also warns about sizes and constants, which are fixed: only values that change with
    the inputs count.
    """
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always", torch.jit.TracerWarning)
        yield
    suspect = [w for w in seen if issubclass(w.category, torch.jit.TracerWarning)]
    if suspect and _uses_values(torch, module, args, kwargs):
        raise ValueError(f"data-dependent: {str(suspect[0].message).split('!')[0]}")
    for warning in seen:
        if warning not in suspect:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def _uses_values(
    torch: ModuleType, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Return whether numbers that Python reads out of tensors change with the inputs' values."""
    wanted = _read_numbers(torch, module, args, kwargs)
    for change in (torch.zeros_like, torch.ones_like, _opposite):
        other = [change(x) if isinstance(x, torch.Tensor) else x for x in args]
        named = {k: change(x) if isinstance(x, torch.Tensor) else x for k, x in kwargs.items()}
        try:
            if _read_numbers(torch, module, tuple(other), named) != wanted:
                return True
        except Exception:  # a failure on values that the module does not support proves nothing
            continue
    return False


def _opposite(x: Any) -> Any:
    return -x if x.is_floating_point() else x.flip(-1) if x.ndim else x


def _read_numbers(
    torch: ModuleType, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[str]:
    """Return the results of item(), bool() and similar calls while the module ran."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[str] = []

    class Reader(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, func: Any, types: Any, given: Any = (), named: Any = None
        ) -> Any:
            answer = func(*given, **(named or {}))
            if func is torch.ops.aten._local_scalar_dense.default:
                found.append(repr(answer))
            return answer

    with Reader():
        module(*args, **kwargs)
    return found


def _numbers_inside(
    torch: ModuleType, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...]]:
    """Return a module that holds the arguments that are numbers, with defaults, and the others.

    Tracing would make inputs of numbers.
    """
    whole = inspect.signature(module.forward).bind(*args, **kwargs)
    bound = dict(whole.arguments)
    whole.apply_defaults()
    numbers = {n: value for n, value in whole.arguments.items() if isinstance(value, int | float)}
    kinds = {whole.signature.parameters[name].kind for name in (*bound, *numbers)}
    if not numbers or not kinds <= _BY_NAME:
        # a last dictionary is read as the named arguments
        return module, (*args, kwargs)
    names = [name for name in bound if name not in numbers]

    class Fixed(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            setattr(self, _INSIDE, module)

        def forward(self, *given: Any) -> Any:
            return module(**dict(zip(names, given, strict=True)), **numbers)

    return Fixed().eval(), tuple(bound[name] for name in names)
