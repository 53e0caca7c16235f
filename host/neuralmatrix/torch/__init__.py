# SPDX-License-Identifier: Apache-2.0
"""Sessions as torch modules, for evaluation loops and metrics that call a module.

In: a Session.  Out: a ``torch.nn.Module``.  torch is imported when one is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BadInput, ToolMissing
from ..runtime.session import Session

if TYPE_CHECKING:
    from torch.nn import Module


def as_module(session: Session) -> Module:
    """Return ``session`` as a module in inference mode.

    It takes the network's inputs as tensors, in order or by name, with any batch, and returns a
    tensor, or a tuple of several outputs in order.  It has no parameters and no gradients.
    ToolMissing: torch is not installed.

    >>> accuracy(as_module(session)(images), labels)  # doctest: +SKIP
    """
    try:
        import torch
    except ImportError as error:
        raise ToolMissing(
            f"a session as a torch module needs torch ({error}); install this package with its "
            "extra [torch]"
        ) from None
    return _module_of(torch, session)


def _module_of(torch: Any, session: Session) -> Any:
    inputs = [port.name for port in session.program.shown_inputs]
    outputs = [port.name for port in session.program.shown_outputs]

    class SessionModule(torch.nn.Module):  # type: ignore[misc]
        """A network on the array."""

        def __init__(self) -> None:
            super().__init__()
            self.session = session

        def forward(self, *given: Any, **named: Any) -> Any:
            if len(given) > len(inputs):
                raise BadInput(f"{len(given)} inputs are given; allowed are {', '.join(inputs)}")
            feeds = {**dict(zip(inputs, given, strict=False)), **named}
            found = self.session.run({name: _array(torch, x) for name, x in feeds.items()})
            tensors = tuple(torch.from_numpy(np.array(found[name])) for name in outputs)
            return tensors[0] if len(tensors) == 1 else tensors

    return SessionModule().eval()


def _array(torch: Any, x: Any) -> Any:
    return x.detach().cpu().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
