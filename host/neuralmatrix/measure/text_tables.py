# SPDX-License-Identifier: Apache-2.0
"""Measured results as text.

In: the dictionaries of ``bench`` and ``compare``.  Out: lines for a terminal, with the basis of
the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor, log10
from typing import Any

from ..hardware.isa import UNITS
from .bench import PARTS

Result = Mapping[str, Any]
_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def _scale(value: float) -> tuple[float, str]:
    fitting = (scale for scale in _PREFIXES if abs(value) >= scale[0])
    return next(fitting, _PREFIXES[-1] if value else _PREFIXES[0])


def si(value: float | None, unit: str) -> str:
    """Format 0.00234 s as "2.34 ms", None as "-"."""
    if value is None:
        return "-"
    scale, prefix = _scale(value)
    return f"{value / scale:.3g} {prefix}{unit}"


def rate(value: float | None) -> str:
    """Format images per second."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plus_minus(mean: Result, unit: str) -> str:
    """Format a mean and its standard error to two digits, in one scale: "3.012 +- 0.045 W"."""
    value, error = mean["mean"], mean["standard_error"]
    if not error:
        return si(value, unit)
    scale, prefix = _scale(max(abs(value), error))
    digits = max(0, 1 - floor(log10(error / scale)))
    return f"{value / scale:.{digits}f} +- {error / scale:.{digits}f} {prefix}{unit}"


def grid(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Format a grid with columns as wide as needed; the first left, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  " + "  ".join(cells).rstrip()


# ------------------------------------------------------------------------------ bench


def _spread_cells(name: str, numbers: Result) -> list[str]:
    keys = ("median", "lower_quartile", "upper_quartile", "lowest", "highest")
    return [name, *(si(numbers[key], "s") for key in keys)]


def _latency(result: Result) -> Iterator[str]:
    latency = result["latency"]
    yield f"latency of one {result['unit']}, {latency['repeats']} repeats; {latency['basis']}"
    head = ["", "median", "quartile", "quartile", "lowest", "highest"]
    parts = [_spread_cells(part, latency[f"{part}_s"]) for part in PARTS]
    yield from grid([head, *parts, _spread_cells("total", latency["total_s"])])
    yield f"  {latency['parts_basis']}"


def _throughput(result: Result) -> Iterator[str]:
    rows = [["batch", f"{result['unit']}s/s", "lowest", "highest"]]
    for one in result["throughput"]:
        numbers = one["images_per_s"]
        keys = ("median", "lowest", "highest")
        rows.append([str(one["batch"]), *(rate(numbers[key]) for key in keys)])
    yield f"throughput; {result['throughput'][0]['basis']}"
    yield from grid(rows)


def _cycle_row(name: str, pair: Result) -> list[str]:
    difference = pair["difference_percent"]
    percent = "-" if difference is None else f"{difference:+.1f} %"
    return [name, f"{pair['counted']:,.0f}", f"{pair['estimated']:,}", percent]


def _cycles(result: Result) -> Iterator[str]:
    cycles = result["cycles"]
    rows = [["", "counted", "estimated", "difference"]]
    rows += [_cycle_row(f"{unit} busy", cycles["busy"][unit]) for unit in UNITS]
    yield f"cycles of one run; {cycles['basis']}; {cycles['estimate_basis']}"
    yield from grid([*rows, _cycle_row("whole run", cycles["total"])])


def _array(result: Result) -> Iterator[str]:
    array, estimated, unit = result["array"], result["array"]["estimated"], result["unit"]
    for one in (array, estimated):
        yield (
            f"array alone: {si(one['seconds'], 's')} per {unit}, {rate(one['runs_per_s'])} "
            f"{unit}s/s at {one['clock_mhz']:g} MHz, utilisation "
            f"{100 * one['utilization']:.1f} %; {one['basis']}"
        )


def _rail(rail: Result, unit: str) -> Iterator[str]:
    yield f"power of {rail['name']} ({rail['scope']}), {rail['sensor']}; {rail['basis']}"
    yield from grid(
        [
            ["idle", plus_minus(rail["idle_w"], "W"), ""],
            ["loaded", plus_minus(rail["loaded_w"], "W"),
             f"{plus_minus(rail['joules_per_inference'], 'J')} per {unit}"],
            ["dynamic", plus_minus(rail["dynamic_w"], "W"),
             f"{plus_minus(rail['dynamic_joules_per_inference'], 'J')} per {unit}"],
        ]
    )  # fmt: skip
    yield (
        f"  {rail['dynamic_w']['count']} pairs of windows, {rail['samples']} readings, one per "
        f"{si(rail['interval_s'], 's')} ({rail['interval_basis']}){_celsius(rail)}"
    )
    yield from (f"  note: {note}" for note in rail["notes"])


def _celsius(rail: Result) -> str:
    found = rail["celsius"]
    return f", {found[0]:.0f} to {found[1]:.0f} degrees C" if found else ""


def power_lines(result: Result) -> Iterator[str]:
    """Format rails with numbers, then those without and the reasons."""
    power = result["power"]
    for rail in power["rails"]:
        yield from _rail(rail, result["unit"])
    for one in power["absent"]:
        scope = f" ({one['scope']})" if one["scope"] else ""
        yield f"no power of {one['name']}{scope}: {one['reason']}"


def bench_lines(result: Result) -> Iterator[str]:
    """Format a bench for a terminal."""
    where = result["device"].get("board") or result["board"]
    yield f"{where}, {result['origin']}, array {result['fingerprint']}, {result['precision']}"
    for part in (_latency, _throughput, _cycles, _array, power_lines):
        yield from part(result)


# ------------------------------------------------------------------------------ compare


def _compared(row: Result) -> list[str]:
    per_watt = row["images_per_s_per_w"]
    return [
        row["device"],
        row["source"],
        rate(row["images_per_s"]),
        si(row["latency_s"], "s"),
        "-" if row["watts"] is None else f"{row['watts']:.3g}",
        rate(per_watt),
    ]


def _near(name: str, one: Result) -> str:
    if not one["equal_shapes"]:
        return f"  {name}: shapes {one['shapes'][0]} and {one['shapes'][1]}"
    parts = [f"largest difference {one['largest_difference']:.3g} of {one['largest_value']:.3g}"]
    if one["snr_db"] is not None:
        parts.append(f"{one['snr_db']:.1f} dB")
    if one["equal_answers"] is not None:
        parts.append(f"{100 * one['equal_answers']:.1f} % equal answers")
    return f"  {name}: {', '.join(parts)}"


def _row_notes(row: Result) -> Iterator[str]:
    yield f"{row['device']}: batch {row['batch']}; {row['precision']}; times {row['basis']}"
    if row["watts"] is None:
        yield f"  no watts: {row['no_watts']}"
    else:
        yield f"  watts of {row['scope']}; {row['watts_basis']}"
    yield from (f"  {note}" for note in row["notes"])


def compare_lines(result: Result) -> Iterator[str]:
    """Format a comparison for a terminal."""
    unit = result["unit"]
    head = ["", "times", f"{unit}s/s", "latency", "W", f"{unit}s/s/W"]
    yield from grid([head, *(_compared(row) for row in result["rows"])])
    for row in result["rows"]:
        yield from _row_notes(row)
    near = result["agreement"]
    yield f"{near['basis']}, {near['images']} inputs ({near['inputs']})"
    yield from (_near(name, one) for name, one in near["outputs"].items())
    yield from (f"note: {note}" for note in result["notes"])
