# SPDX-License-Identifier: Apache-2.0
"""Compares piecewise-linear tables' sizes and errors with second-order polynomials.

In: the usual functions and ranges.  Out: the table of docs/pwl-tables.md (Markdown), computed here.

A table is fitted to int16 quantised values and measured over all of them, integer rounding
included.  The polynomials are computed as I-BERT does: a range reduction (sign, or multiples of
ln 2), then one second-order polynomial, here the least-squares fit in real numbers on Chebyshev
points, without any rounding; I-BERT's own coefficients are measured too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from common import Array
from neuralmatrix.errors import BadInput
from neuralmatrix.ir.functions import erf, evaluate
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.pwl.report import Wanted, make_table

Polynomial = Callable[[Array], Array]

FUNCTIONS = (
    ("gelu", (-8.0, 8.0)),
    ("erf", (-4.0, 4.0)),
    ("tanh", (-5.0, 5.0)),
    ("sigmoid", (-8.0, 8.0)),
    ("silu", (-8.0, 8.0)),
    ("softplus", (-8.0, 8.0)),
    ("exp", (-16.0, 0.0)),
    ("log", (0.01, 100.0)),
    ("sqrt", (0.0, 100.0)),
    ("rsqrt", (0.01, 100.0)),
    ("reciprocal", (1.0, 64.0)),
    ("sin", (-np.pi / 2, np.pi / 2)),
)
ERRORS = (1e-2, 1e-3, 2**-12)  # of the largest |result|
POINTS = 20001


def _parabola(function: Polynomial, lo: float, hi: float) -> Polynomial:
    """Fit a parabola on Chebyshev points; it is within some percent of the least worst error."""
    nodes = (lo + hi) / 2 + (hi - lo) / 2 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)
    return np.polynomial.Polynomial.fit(nodes, function(nodes), 2)


def _exp_parabola(x: Array) -> Array:
    """exp(x) = 2^-z * exp(p) with p in -ln 2..0; I-BERT's coefficients (arXiv 2101.01321, 3.3)."""
    z = np.floor(-x / np.log(2))
    p = x + z * np.log(2)
    return np.asarray((0.3585 * (p + 1.353) ** 2 + 0.344) * 2.0**-z)


def _erf_parabola(x: Array) -> Array:
    """I-BERT's erf: one parabola up to |x| = 1.769, then 1 (the same paper, 3.2)."""
    q = np.minimum(np.abs(x), 1.769)
    return np.asarray(np.sign(x) * (-0.2888 * (q - 1.769) ** 2 + 1))


def _gelu_parabola(x: Array) -> Array:
    return np.asarray(0.5 * x * (1 + _erf_parabola(x / np.sqrt(2))))


PUBLISHED: dict[str, Polynomial] = {
    "exp": _exp_parabola,
    "erf": _erf_parabola,
    "gelu": _gelu_parabola,
}
# the range after reduction (one octave, or half a symmetric curve), for functions not in I-BERT
REDUCED = {
    "tanh": (0.0, 5.0),
    "sigmoid": (0.0, 8.0),
    "silu": (0.0, 8.0),
    "softplus": (0.0, 8.0),
    "log": (1.0, 2.0),
    "sqrt": (1.0, 4.0),
    "rsqrt": (1.0, 4.0),
    "reciprocal": (1.0, 2.0),
    "sin": (0.0, float(np.pi / 2)),
}


def _cell(name: str, x_range: tuple[float, float], error: float) -> str:
    """Format segments and bytes of the smallest table within ``error`` of the largest result."""
    x = np.linspace(*x_range, POINTS)
    largest = float(np.abs(evaluate(Function(name), x)).max())
    wanted = Wanted(Function(name), x_range, error=error * largest)
    try:
        table = make_table(wanted)
    except BadInput:
        best = make_table(replace(wanted, error=None))
        return f"64 give {best.worst_error * best.out_scale / largest:.2e}"
    return f"{table.count} ({table.table_bytes} B, {table.kind.name.lower()})"


def parabola_error(name: str, x_range: tuple[float, float]) -> float:
    """Return the worst error of one parabola after range reduction, by the largest |result|."""
    function = erf if name == "erf" else lambda x: evaluate(Function(name), x)
    if name in PUBLISHED:
        x, polynomial = np.linspace(*x_range, POINTS), PUBLISHED[name]
    else:
        x = np.linspace(*REDUCED[name], POINTS)
        polynomial = _parabola(function, *REDUCED[name])
    return float(np.abs(polynomial(x) - function(x)).max() / np.abs(function(x)).max())


def rows() -> list[str]:
    """Make the Markdown table."""
    lines = [
        "| function | range | 1 % | 0.1 % | 2^-12 | one parabola |",
        "|---|---|---|---|---|---|",
    ]
    for name, x_range in FUNCTIONS:
        cells = [_cell(name, x_range, error) for error in ERRORS]
        ends = f"{x_range[0]:.4g} to {x_range[1]:.4g}"
        mark = " (published)" if name in PUBLISHED else ""
        worst = f"{100 * parabola_error(name, x_range):.2g} %{mark}"
        lines.append(f"| {name} | {ends} | {' | '.join(cells)} | {worst} |")
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))
