# SPDX-License-Identifier: Apache-2.0
"""Export of torch modules to ONNX.

In: a ``torch.nn.Module`` and example inputs.  Out: a ``ModelProto`` in inference mode whose inputs
are named after the arguments of ``forward`` and whose nodes after the submodules that made them.

torch is imported only when a module is compiled.  torch.export is used where onnxscript is
installed, else the tracing exporter, which also takes the modules on which torch.export fails.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...errors import BadInput, BadModel, ToolMissing
from ..onnx.load import other_object, require_onnx
from .arguments import arguments, names_of_inputs, names_of_outputs
from .names import name_nodes, name_parameters
from .tracing import ExportCall, trace

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18  # the lowest that torch.export writes, and the first with ScatterElements max


def is_module(model: object) -> bool:
    """Return whether ``model`` is a torch.nn.Module, without importing torch."""
    return any(
        kind.__name__ == "Module" and kind.__module__.split(".")[0] == "torch"
        for kind in type(model).__mro__
    )


def _of_torch(kind: type) -> bool:
    return kind.__module__.split(".")[0] == "torch"


def _own_examples(program: Any) -> Any:
    """Return the inputs with which a program was exported, None where it keeps none."""
    args, kwargs = program.example_inputs or ((), {})
    if args and kwargs:
        raise BadInput(
            "the exported program has positional and named inputs; pass example_inputs= with a "
            "dict by argument name"
        )
    return kwargs or args or None


def as_onnx(model: Any, example_inputs: Any) -> Any:
    """Return ``model`` itself if it is ONNX, else its export with ``example_inputs``.

    What torch.export and torch.onnx.export return is a model too; the first has examples itself.
    """
    kind = type(model)
    if kind.__name__ == "ONNXProgram" and _of_torch(kind) and example_inputs is None:
        return model.model_proto
    if kind.__name__ == "ExportedProgram" and _of_torch(kind):
        example_inputs = _own_examples(model) if example_inputs is None else example_inputs
        model = model.module()
    if is_module(model):
        _refuse_script(model)
        _refuse_simulated(model)
        if example_inputs is None:
            raise BadInput(
                f"the model is a torch module ({type(model).__name__}) and no example inputs are "
                "given; pass example_inputs= with a tensor, a tuple or a dict by argument name, in "
                "the shapes to compile for"
            )
        return module_to_onnx(model, example_inputs)
    if example_inputs is not None:
        if not isinstance(model, str | Path | bytes | require_onnx().ModelProto):
            raise BadModel(other_object(model))
        raise BadInput(
            f"example_inputs are given, but the model is a {type(model).__name__}; allowed with "
            "them is a torch.nn.Module; leave them out for an ONNX model, whose inputs have shapes"
        )
    return model


def _refuse_script(model: Any) -> None:
    """Raise BadModel for a TorchScript module, which keeps neither names nor submodules' code."""
    if any(kind.__name__ == "ScriptModule" for kind in type(model).__mro__):
        raise BadModel(
            f"the model is a TorchScript module ({type(model).__name__}); allowed is the "
            "torch.nn.Module from which torch.jit made it, with example_inputs=, or an ONNX model"
        )


_FAKE = frozenset({"FakeQuantize", "FusedMovingAvgObsFakeQuantize", "FakeQuantizeBase"})
_EAGER = ("torch.ao.nn.quantized", "torch.nn.quantized", "torch.ao.nn.intrinsic.quantized")
_PT2E = (
    "quantise it with torchao's PT2E flow instead (torch.export.export, prepare_pt2e or "
    "prepare_qat_pt2e, convert_pt2e) and give the result"
)


def _refuse_simulated(model: Any) -> None:
    """Raise BadModel for a module that torch's eager mode has prepared or quantised: its export
    loses the integers."""
    for part in model.modules():
        names = {kind.__name__ for kind in type(part).__mro__}
        if names & _FAKE:
            what = "simulates quantisation (FakeQuantize)"
        elif type(part).__module__.startswith(_EAGER):
            what = "is quantised in torch's eager mode"
        else:
            continue
        raise BadModel(f"{type(model).__name__} {what}, which has no ONNX form; {_PT2E}")


def module_to_onnx(
    module: Any, example_inputs: Any, input_names: Sequence[str] | None = None
) -> ModelProto:
    """Export a ``torch.nn.Module`` in inference mode; its training mode is as before afterwards.

    ``example_inputs``: a tensor, a tuple for positional arguments, or a dict by argument name;
    numpy arrays become tensors.  Their shapes become the model's.  Arguments that are not tensors
    (None, booleans, numbers) become part of the graph.  ``input_names`` replaces the names of the
    tensor arguments, in order.

    Raises BadModel where the module cannot be run or traced, BadInput for unfit examples.

    >>> module_to_onnx(torch.nn.Linear(8, 4), torch.zeros(1, 8))  # doctest: +SKIP
    """
    torch, onnx = require_torch(), require_onnx()
    args, kwargs = arguments(torch, example_inputs)
    names = names_of_inputs(torch, module, args, kwargs, input_names)
    with _inference(torch, module):
        outputs = names_of_outputs(torch, _run(module, args, kwargs), names)
        settings = {"input_names": names, "output_names": outputs, "opset_version": OPSET}
        proto = _export(ExportCall(torch, onnx, module, args, kwargs, settings))
    name_nodes(proto)
    name_parameters(onnx, proto, module)
    return proto


def require_torch() -> ModuleType:
    """Return the torch package; ToolMissing if it is not installed."""
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


# ------------------------------------------------------------------------------ export


@contextmanager
def _inference(torch: ModuleType, module: Any) -> Iterator[None]:
    """Switch to evaluation mode without gradients; every submodule's own mode is restored."""
    modes = [(part, part.training) for part in module.modules()]
    with suppress(NotImplementedError):  # an exported program has one mode
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def _by_parts(torch: ModuleType) -> Iterator[None]:
    """Run attention layers operator by operator: their fused kernels have no ONNX form."""
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


def _export(call: ExportCall) -> ModelProto:
    """Return the model of the first exporter that succeeds; BadModel with all reasons otherwise."""
    reasons = []
    for name, export in _exporters().items():
        try:
            with _quiet(), _by_parts(call.torch):
                return export(call)
        except Exception as error:  # the exporters pass on whatever the module's code raises
            reasons.append(f"{name}: {_first_line(error)}")
    raise BadModel(
        f"{type(call.module).__name__} cannot be exported to ONNX ({'; '.join(reasons)}); allowed "
        "are modules whose shapes and branches do not depend on the values of tensors; remove the "
        "step named here from forward, or give an ONNX model"
    )


Exporter = Callable[[ExportCall], Any]


def _exporters() -> dict[str, Exporter]:
    """Return the exporters by name, in the order in which to try them."""
    if find_spec("onnxscript") is None:
        return {"tracing": trace}
    return {"torch.export": _torch_export, "tracing": trace}


def _torch_export(call: ExportCall) -> Any:
    made = call.torch.onnx.export(call.module, call.args, kwargs=call.kwargs, dynamo=True,
                                  verbose=False, **call.settings)  # fmt: skip
    return made.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' notes about themselves; warnings about the module stay."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            for kind in (DeprecationWarning, FutureWarning):
                warnings.simplefilter("ignore", kind)
            yield
    finally:
        logging.disable(before)


def _run(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the module's result for the examples; BadInput with whatever its code raises."""
    try:
        return module(*args, **kwargs)
    except Exception as error:
        raise BadModel(
            f"{type(module).__name__} fails on the example inputs: {_first_line(error)}; they must "
            "be what its forward takes"
        ) from error


def _first_line(error: BaseException) -> str:
    """Return the innermost cause in one line: exporters wrap it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
