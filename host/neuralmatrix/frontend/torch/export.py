# SPDX-License-Identifier: Apache-2.0
"""torch modules, by way of ONNX.

In: a ``torch.nn.Module`` and example inputs.  Out: a ``ModelProto`` in inference mode whose inputs
are called after the arguments of ``forward`` and whose nodes after the submodules that made them.

torch is imported only when a module is compiled.  torch.export is used where onnxscript is
installed, else the exporter that traces; what the first cannot take is given to the second.
"""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BadInput, BadModel, ToolMissing
from ..onnx.load import require_onnx
from .names import name_nodes, name_parameters, strip_scope

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # the lowest that torch.export writes, and the first with a scattered maximum
_PLAIN = (bool, int, float, str, type(None))  # arguments that are folded into the graph


def is_module(model: object) -> bool:
    """Whether ``model`` is a torch.nn.Module, told without importing torch."""
    return any(
        kind.__name__ == "Module" and kind.__module__.split(".")[0] == "torch"
        for kind in type(model).__mro__
    )


def as_onnx(model: Any, example_inputs: Any) -> Any:
    """``model`` itself where it is ONNX, else its export with ``example_inputs``."""
    if is_module(model):
        if example_inputs is None:
            raise BadInput(
                f"the model is a torch module ({type(model).__name__}) and no example inputs are "
                "given; pass example_inputs= with a tensor, a tuple or a dict by argument name, in "
                "the shapes to compile for"
            )
        return module_to_onnx(model, example_inputs)
    if example_inputs is not None:
        found = type(model).__name__
        raise BadInput(
            f"example_inputs are given, but the model is a {found}; allowed with them is a "
            "torch.nn.Module; leave them out for an ONNX model, whose inputs have shapes"
        )
    return model


def module_to_onnx(
    module: Any, example_inputs: Any, input_names: Sequence[str] | None = None
) -> ModelProto:
    """Export a ``torch.nn.Module`` in inference mode; its training mode is as before afterwards.

    ``example_inputs``: a tensor, a tuple for positional arguments, or a dict by argument name;
    numpy arrays are taken for tensors.  Shapes are fixed to theirs.  Arguments that are no tensors
    (None, booleans, numbers) become part of the graph.  ``input_names`` replaces the names of the
    tensor arguments, in order.

    Raises BadModel where the module cannot be run or traced, BadInput for unfit examples.

    >>> module_to_onnx(torch.nn.Linear(8, 4), torch.zeros(1, 8))  # doctest: +SKIP
    """
    torch, onnx = require_torch(), require_onnx()
    args, kwargs = _arguments(torch, example_inputs)
    names = _input_names(torch, module, args, kwargs, input_names)
    with _inference(torch, module):
        outputs = _output_names(torch, _run(module, args, kwargs), names)
        settings = {"input_names": names, "output_names": outputs, "opset_version": OPSET}
        proto = _export(_Call(torch, onnx, module, args, kwargs, settings))
    name_nodes(proto)
    name_parameters(onnx, proto, module)
    return proto


def require_torch() -> ModuleType:
    """The torch package; ToolMissing if it is not installed."""
    try:
        import torch
        import torch.onnx
    except ImportError as error:
        raise ToolMissing(
            f"compiling a torch module needs torch ({error}); install this package with its extra "
            "[torch], or export the module to ONNX where torch is installed"
        ) from None
    module: ModuleType = torch
    return module


# ------------------------------------------------------------------------------ arguments


def _arguments(torch: ModuleType, examples: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The examples as positional and as named arguments, arrays as tensors."""
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
        "numbers, booleans and None; give nested arguments by a module that takes them apart"
    )


def _input_names(
    torch: ModuleType,
    module: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    wanted: Sequence[str] | None,
) -> list[str]:
    """Names of the tensor arguments, in the order of ``forward``."""
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except TypeError as error:
        found = f"{len(args)} positional" if args else f"named {', '.join(kwargs)}"
        raise BadInput(
            f"the example inputs ({found}) do not fit {type(module).__name__}.forward: {error}; "
            "give a tuple in its order or a dict by its argument names"
        ) from None
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


def _spread(parameter: inspect.Parameter, value: Any) -> list[tuple[str, Any]]:
    """An argument of forward, with *args and **kwargs taken apart."""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return [(f"{parameter.name}_{i}", one) for i, one in enumerate(value)]
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return list(value.items())
    return [(parameter.name, value)]


def _run(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The module's answer to the examples; whatever its code raises is the user's to see."""
    try:
        return module(*args, **kwargs)
    except Exception as error:
        raise BadModel(
            f"{type(module).__name__} fails on the example inputs: {_first_line(error)}; they must "
            "be what its forward takes"
        ) from error


def _output_names(torch: ModuleType, answer: Any, taken: Sequence[str]) -> list[str]:
    """Names of the answer's tensors: dict keys, or output, or output_0, output_1 and so on."""
    paths = list(_flat(torch, answer, ()))
    if not paths:
        raise BadModel("the module's answer holds no tensor; return one, a tuple or a dict of them")
    if len(paths) == 1 and not (paths[0] and isinstance(paths[0][0], str)):
        paths = [("output",)]
    names = [
        "_".join(map(str, path if isinstance(path[0], str) else ("output", *path)))
        for path in paths
    ]
    return [f"{name}_out" if name in taken else name for name in names]


def _flat(torch: ModuleType, answer: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    """Where tensors lie in nested tuples and dicts."""
    if isinstance(answer, torch.Tensor):
        yield path
    elif isinstance(answer, Mapping):
        for key, value in answer.items():
            yield from _flat(torch, value, (*path, str(key)))
    elif isinstance(answer, tuple | list):
        for i, value in enumerate(answer):
            yield from _flat(torch, value, (*path, i))


# ------------------------------------------------------------------------------ export


@contextmanager
def _inference(torch: ModuleType, module: Any) -> Iterator[None]:
    """Evaluation mode without gradients; every submodule's own mode comes back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _by_parts(torch: ModuleType) -> Iterator[None]:
    """Attention layers run step by step: their fused kernels have no ONNX form."""
    mha = getattr(torch.backends, "mha", None)
    if mha is None:
        yield
        return
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(fast)


@dataclass(frozen=True)
class _Call:
    """A module, its arguments, what the export shall be called, and the packages that do it."""

    torch: ModuleType
    onnx: ModuleType
    module: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    settings: dict[str, Any]


def _export(call: _Call) -> ModelProto:
    """The first exporter's model; BadModel with every exporter's reason if all fail."""
    reasons = []
    for name, export in _exporters().items():
        try:
            with _quiet(), _by_parts(call.torch):
                return export(call)
        except Exception as error:  # the exporters let through whatever the module's code raises
            reasons.append(f"{name}: {_first_line(error)}")
    raise BadModel(
        f"{type(call.module).__name__} cannot be exported to ONNX ({'; '.join(reasons)}); allowed "
        "are modules whose shapes and branches do not depend on the values of tensors; take the "
        "step named here out of forward, or give an ONNX model"
    )


Exporter = Callable[[_Call], Any]


def _exporters() -> dict[str, Exporter]:
    """By name, the one to try first first."""
    if find_spec("onnxscript") is None:
        return {"tracing": _trace}
    return {"torch.export": _torch_export, "tracing": _trace}


def _torch_export(call: _Call) -> Any:
    made = call.torch.onnx.export(call.module, call.args, kwargs=call.kwargs, dynamo=True,
                                  verbose=False, **call.settings)  # fmt: skip
    return made.model_proto


def _trace(call: _Call) -> Any:
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
    """ValueError where values of the inputs became constants of the trace.

    The tracer warns of sizes and of constants too, which are fixed anyhow: only values that change
    with the inputs count.
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
    """Do the numbers that Python reads out of tensors change with the values of the inputs?"""
    wanted = _read_numbers(torch, module, args, kwargs)
    for change in (torch.zeros_like, torch.ones_like, _opposite):
        other = [change(x) if isinstance(x, torch.Tensor) else x for x in args]
        named = {k: change(x) if isinstance(x, torch.Tensor) else x for k, x in kwargs.items()}
        try:
            if _read_numbers(torch, module, tuple(other), named) != wanted:
                return True
        except Exception:  # values outside of what the module takes prove nothing
            continue
    return False


def _opposite(x: Any) -> Any:
    return -x if x.is_floating_point() else x.flip(-1) if x.ndim else x


def _read_numbers(
    torch: ModuleType, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[str]:
    """What item(), bool() and the like answered while the module ran."""
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


_INSIDE = "inside"
_BY_NAME = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}


def _numbers_inside(
    torch: ModuleType, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...]]:
    """A module that holds the numbers among the arguments, defaults too, and the others.

    Tracing would make inputs of numbers.
    """
    whole = inspect.signature(module.forward).bind(*args, **kwargs)
    bound = dict(whole.arguments)
    whole.apply_defaults()
    numbers = {n: value for n, value in whole.arguments.items() if isinstance(value, int | float)}
    kinds = {whole.signature.parameters[name].kind for name in (*bound, *numbers)}
    if not numbers or not kinds <= _BY_NAME:
        # a last dictionary is taken for the named arguments
        return module, (*args, kwargs)
    names = [name for name in bound if name not in numbers]

    class Fixed(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            setattr(self, _INSIDE, module)

        def forward(self, *given: Any) -> Any:
            return module(**dict(zip(names, given, strict=True)), **numbers)

    return Fixed().eval(), tuple(bound[name] for name in names)


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' notes about themselves left out; what they warn of the module stays."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            for kind in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        logging.disable(before)


def _first_line(error: BaseException) -> str:
    """The innermost cause in one line, since exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
