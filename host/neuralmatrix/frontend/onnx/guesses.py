# SPDX-License-Identifier: Apache-2.0
"""What lies behind a refused node, as far as shape inference knows, so that one list of refusals is
whole.

In: the ``Context``, one ``Call``.  Out: values of guessed shape and type.
"""

from __future__ import annotations

from .constant_folding import output_types
from .context import Call, Context
from .ops.quantization import KEEPS_QUANTIZED


def guess_outputs(ctx: Context, call: Call, lost: set[str]) -> None:
    """Infer shapes after a refused node, so that the nodes after it can be checked too."""
    tables = (ctx.values, ctx.known, ctx.examples)
    known = all(any(name in table for table in tables) for name in call.inputs if name)
    types = output_types(ctx, call) if known and not lost.intersection(call.inputs) else {}
    for name in filter(None, call.outputs):
        if name in types:
            ctx.values[name] = name
            ctx.shapes[name], dtype = types[name]
            if not dtype.startswith("float"):
                ctx.guessed[name] = dtype
        else:
            lost.add(name)


def follows_guess(ctx: Context, call: Call) -> bool:
    """Return whether a node only passes on quantised integers whose scale a refused node was to
    give: it is not at fault."""
    return call.input(0) in ctx.guessed and call.op in KEEPS_QUANTIZED
