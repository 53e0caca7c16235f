# SPDX-License-Identifier: Apache-2.0
"""What was found of the networks of others, and the tables of it.

In: scores of a network in float and as a program, the compile's warnings.  Out: rows for a
terminal, a Markdown table, how often the compiler's word was right, JSON and back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common import QUIET_PERCENT, QUIET_POINTS, verdict


@dataclass(frozen=True)
class Result:
    """One network at one precision; percentages are of its own metric."""

    name: str
    precision: str
    package: str
    licence: str
    judged: str
    decisions: int = 0
    float_percent: float | None = None
    percent: float | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    accuracy: tuple[str, ...] = ()
    compile_s: float = 0.0
    evaluate_s: float = 0.0
    refusal: str = ""
    reads: tuple[str, ...] = ()

    @property
    def loss(self) -> float | None:
        """The loss in points; below 0 where the program is better."""
        if self.float_percent is None or self.percent is None:
            return None
        return self.float_percent - self.percent

    @property
    def kept(self) -> bool:
        """Whether the program is as good as the float network, within QUIET."""
        if self.loss is None or self.float_percent is None:
            return False
        return self.loss <= max(QUIET_POINTS, self.float_percent * QUIET_PERCENT / 100)

    @property
    def verdict(self) -> str:
        """Whether the warning, or its absence, was right."""
        if self.loss is None or self.float_percent is None:
            return ""
        return verdict(self.float_percent, self.loss, self.warned)

    @property
    def warned(self) -> bool:
        """Whether the compile warned of an output that the metric reads."""
        said = [line for line in self.warnings if not line.startswith("cause: ")]
        of = tuple(f"output {name} " for name in self.reads) or ("output ",)
        return any(line.startswith(of) or not line.startswith("output ") for line in said)


# ---------------------------------------------------------------- for a terminal

HEAD = (f"{'network':22} {'acts':6} {'float %':>7} {'array %':>7} {'loss':>7} {'of':>6} "
        f"{'warned':>6} {'comp.':>5} {'eval.':>5} s")  # fmt: skip


def line(result: Result) -> str:
    """Return the row of the table."""
    if result.loss is None:
        return f"{result.name:22} {result.precision:6} {result.refusal[:110]}"
    warned = "yes" if result.warned else "other" if result.warnings else "no"
    seconds = f"{result.compile_s:5.0f} {result.evaluate_s:5.0f}"
    return (
        f"{result.name:22} {result.precision:6} {result.float_percent:7.2f} {result.percent:7.2f} "
        f"{result.loss:7.2f} {result.decisions:6} {warned:>6} {seconds}  {result.verdict}"
    )


def summary(results: Sequence[Result]) -> str:
    """Return for each precision how many are as good as float, and which words were wrong."""
    lines = []
    for precision in dict.fromkeys(r.precision for r in results):
        found = [r for r in results if r.precision == precision]
        judged = [r for r in found if r.loss is not None]
        counts = {v: sum(r.verdict == v for r in judged) for v in ("false comfort", "false alarm")}
        lines.append(
            f"{precision}: {len(judged)} judged, {len(found) - len(judged)} refused; "
            f"{sum(r.kept for r in judged)} within {QUIET_POINTS:g} points or {QUIET_PERCENT:g} %; "
            f"{counts['false comfort']} false comfort, {counts['false alarm']} false alarm"
        )
    return "\n".join(lines)


# ---------------------------------------------------------------- for a page


def markdown(results: Sequence[Result]) -> str:
    """Return a table of a row for each network, a column for each precision."""
    precisions = list(dict.fromkeys(r.precision for r in results))
    heads = ["network", "package", "licence", "judged by", "of", "float, measured",
             *(f"{precision}, emulated" for precision in precisions)]  # fmt: skip
    rows = [heads, ["---"] * len(heads)]
    for name in dict.fromkeys(r.name for r in results):
        found = {r.precision: r for r in results if r.name == name}
        one = next(iter(found.values()))
        rows.append([
            f"`{name}`", one.package, one.licence, one.judged, f"{one.decisions:,}",
            f"{one.float_percent:.1f} %", *(_cell(found.get(p)) for p in precisions),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    if result.percent is None:
        return "refused"
    others = " of others" if not result.warned else ""
    return f"{result.percent:.1f} %" + (f", warned{others}" if result.warnings else "")


# ---------------------------------------------------------------- files


def write(results: Iterable[Result], path: Path) -> None:
    """Write results as JSON, with their losses and verdicts."""
    text = [{**asdict(r), "loss": r.loss, "verdict": r.verdict} for r in results]
    path.write_text(json.dumps(text, indent=1) + "\n")


def read(paths: Iterable[Path]) -> list[Result]:
    """Read what ``write`` wrote."""
    names = {field.name for field in fields(Result)}
    found = []
    for path in paths:
        for values in json.loads(path.read_text()):
            kept = {key: value for key, value in values.items() if key in names}
            kept |= {key: tuple(v) for key, v in kept.items() if isinstance(v, list)}
            found.append(Result(**kept))
    return found
