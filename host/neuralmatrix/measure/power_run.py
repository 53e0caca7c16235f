# SPDX-License-Identifier: Apache-2.0
"""The power part of a bench: its sources, windows and results.

In: work to run, a board's name, a session's origin.  Out: a dictionary with rails, rails without
numbers and their reasons, windows and traces; and the same from a saved result and a meter's log.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..hardware.board import Board, load_board
from ..jsonform import FormError, from_json, to_json
from ..runtime.device import Origin
from .clock import Clock
from .hwmon import SYSFS, Absent, HwmonSource, open_board
from .meters import SCOPE, lay_beside, read_log, start_time
from .power import RailPower, analyse, widest
from .power_windows import LEAST_PAIRS, Plan, Recording, Trace, Window, record


@dataclass(frozen=True)
class PowerOptions:
    """``sysfs``: another root than /sys; numbers from there are labelled simulated."""

    plan: Plan = Plan()
    sensors: bool = True
    meter: Path | None = None
    meter_start: str | None = None
    sysfs: Path | None = None


METHOD = (
    "idle and loaded windows in shuffled pairs, the overlay loaded in both; dynamic: loaded minus "
    "idle of a pair; errors: standard errors over the pairs; rails are not added up"
)
_METER_BASIS = {
    "emulation": "measured: external meter, while this machine emulates; not a board's power",
    "emulated board": "measured: external meter, while this machine emulates; not a board's power",
    "board": "measured: external meter at the board",
}


def _report(
    rails: Sequence[RailPower], absent: Sequence[Absent], widest_name: str | None
) -> dict[str, Any]:
    return {
        "method": METHOD,
        "rails": [to_json(rail) for rail in rails],
        "absent": [to_json(one) for one in absent],
        "widest": widest_name,
    }


NOT_ASKED = {
    **_report((), (Absent("any rail", "", "not requested; add --power or --meter log.csv"),), None),
    "windows": [],
    "traces": [],
}


# ------------------------------------------------------------------------------ sensors


def _sensors(
    board: Board, origin: Origin, options: PowerOptions
) -> tuple[tuple[HwmonSource, ...], tuple[Absent, ...]]:
    if not options.sensors:
        return (), ()
    if origin != "board" and options.sysfs is None:
        reason = f"nothing ran on a {board.title}: this machine's sensors do not measure it"
        return (), (Absent("board", "all rails", f"{reason} ({origin})"),)
    return open_board(board, options.sysfs or SYSFS)


def _sensor_basis(origin: Origin, options: PowerOptions) -> str:
    if options.sysfs is not None or origin != "board":
        return f"simulated: sensor files under {options.sysfs}, no board"
    return "measured on the board"


# ------------------------------------------------------------------------------ the meter


def _metered(
    recording: Recording, origin: Origin, meter: Path | None, start: str | None
) -> tuple[Trace | None, RailPower | Absent | None]:
    """Return the log's trace and rail; a log that does not fit gives a reason, not an error."""
    if meter is None:
        return None, None
    try:
        log = read_log(meter, None if start is None else start_time(start))
        trace = lay_beside(log, recording)
    except BadInput as error:
        again = "once it fits: neuralmatrix bench NET.nmx --from RESULT.json --meter LOG.csv"
        return None, Absent("meter", SCOPE, f"{error}; {again}")
    return trace, analyse(recording, trace, _METER_BASIS[origin])


# ------------------------------------------------------------------------------ the whole part


def _split(
    found: Sequence[RailPower | Absent | None],
) -> tuple[list[RailPower], list[Absent]]:
    rails = [one for one in found if isinstance(one, RailPower)]
    return rails, [one for one in found if isinstance(one, Absent)]


def measure_power(
    board_name: str, work: Callable[[], int], origin: Origin, options: PowerOptions, clock: Clock
) -> dict[str, Any]:
    """Run the windows and return the power of each rail."""
    if options.plan.pairs < LEAST_PAIRS:
        raise BadInput(f"--pairs: found {options.plan.pairs}, allowed is at least {LEAST_PAIRS}")
    board = load_board(board_name)
    sources, absent = _sensors(board, origin, options)
    if not sources and options.meter is None:
        return {**_report((), absent, None), "windows": [], "traces": []}
    recording = record(work, sources, options.plan, clock)
    basis = _sensor_basis(origin, options)
    found = [analyse(recording, trace, basis) for trace in recording.traces]
    trace, metered = _metered(recording, origin, options.meter, options.meter_start)
    rails, missing = _split([*found, metered])
    traces = (*recording.traces, *((trace,) if trace else ()))
    return {
        **_report(rails, (*absent, *missing), _widest(board, rails)),
        "windows": [to_json(window) for window in recording.windows],
        "traces": [to_json(one) for one in traces],
    }


def _widest(board: Board, rails: Sequence[RailPower]) -> str | None:
    """Return the meter, which measures the whole board, else the rail that feeds all others."""
    if any(rail.scope == SCOPE for rail in rails):
        return "meter"
    rail = widest(board, rails)
    return rail.name if rail else None


# Errors of reading fields of a saved result that was changed by hand.
MANGLED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def mangled(path: Path, error: Exception) -> BadInput:
    """Return the error for a saved result that was changed."""
    return BadInput(
        f"{path}: found a result whose parts are missing or changed ({type(error).__name__}: "
        f"{error}); save 'bench --json' to it again"
    )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def read_result(path: Path, format_name: str) -> dict[str, Any]:
    """Read a saved result of ``bench --json``.  BadInput: another file."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: found no JSON ({error}); save 'bench --json' to it") from None
    found = data.get("format") if isinstance(data, dict) else None
    if found != format_name:
        raise BadInput(f"{path}: found format {found!r}, allowed is {format_name!r}")
    assert isinstance(data, dict)
    return data


def with_meter(result: Mapping[str, Any], meter: Path, start: str | None) -> dict[str, Any]:
    """Add a meter's log to the windows of a saved result."""
    try:
        windows = tuple(from_json(Window, one, "windows") for one in result["power"]["windows"])
    except (FormError, KeyError, TypeError) as error:
        raise BadInput(f"the saved result has no readable windows ({error})") from None
    if not windows:
        raise BadInput("the saved result has no windows; measure again with --meter")
    trace, found = _metered(Recording(windows, ()), result["origin"], meter, start)
    power = {**result["power"], "absent": _other_absent(result, found)}
    if isinstance(found, RailPower) and trace is not None:
        rails = [rail for rail in power["rails"] if rail["name"] != "meter"]
        power |= {"rails": [*rails, to_json(found)], "widest": "meter"}
        power["traces"] = [*power["traces"], to_json(trace)]
    return {**result, "power": power}


def _other_absent(result: Mapping[str, Any], found: RailPower | Absent | None) -> list[Any]:
    others = [one for one in result["power"]["absent"] if one["name"] != "meter"]
    return [*others, to_json(found)] if isinstance(found, Absent) else others
