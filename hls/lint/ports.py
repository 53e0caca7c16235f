# SPDX-License-Identifier: Apache-2.0
"""The ports of a kernel, from its arguments and interface pragmas.

In: a unit.  Out: findings; or the ports themselves, for comparison with a design.
"""

from __future__ import annotations

from collections.abc import Iterator

from finding import Finding, finding, holds
from tree import Node, Pragma, Unit, children

# A mode, and what the argument's type must then contain; a wire that is not volatile is read once.
MODES = {"m_axi": "*", "bram": "*", "axis": "&", "s_axilite": "", "ap_none": "volatile"}
OPTIONS = {"mode", "port", "bundle", "offset", "depth", "latency", "name", "storage_type"}
# A mode, an option it needs, its value (empty: any), and why.
NEEDS = (
    ("bram", "storage_type", "ram_1p", "the memory's other port belongs to another kernel"),
    ("m_axi", "offset", "slave", "the host writes the base to a register"),
    ("m_axi", "depth", "", "co-simulation copies as many beats"),
    ("s_axilite", "bundle", "control", "a driver looks for all registers in one interface"),
)


def arguments(top: Node) -> dict[str, str]:
    """Return the types of a kernel's arguments by name, in order."""
    return {
        child["name"]: child["type"].get("desugaredQualType", child["type"]["qualType"])
        for child in children(top)
        if child["kind"] == "ParmVarDecl"
    }


def listing(unit: Unit) -> dict[str, list[dict[str, object]]]:
    """Map each kernel to its arguments in order: name, type, and the options of its pragmas."""
    return {top["name"]: [entry(unit, top, *item) for item in described(top)] for top in unit.tops}


def described(top: Node) -> Iterator[tuple[str, str]]:
    yield from arguments(top).items()
    yield "return", ""


def entry(unit: Unit, top: Node, name: str, kind: str) -> dict[str, object]:
    pragmas = [
        pragma.options
        for pragma in unit.pragmas
        if pragma.directive == "INTERFACE"
        and holds(top, pragma.place)
        and pragma.options.get("port") == name
    ]
    return {"name": name, "type": kind, "pragmas": pragmas}


def check_interface(unit: Unit, top: Node) -> Iterator[Finding]:
    name = top["name"]
    ports = arguments(top)
    modes: dict[str, list[str]] = {port: [] for port in [*ports, "return"]}
    for pragma in unit.pragmas:
        if pragma.directive == "INTERFACE" and holds(top, pragma.place):
            yield from check_pragma(pragma, name, ports)
            modes.setdefault(pragma.options.get("port", ""), []).append(
                pragma.options.get("mode", "")
            )
    for port in [*ports, "return"]:
        if not modes[port]:
            yield finding(top, "interface", f"{name} has no interface pragma for {port}")
        if "m_axi" in modes[port] and "s_axilite" not in modes[port]:
            yield finding(top, "interface", f"{name} has no register for the base of {port}")
        if len(modes[port]) != len(set(modes[port])):
            yield finding(top, "interface", f"{name} has two interface pragmas for {port}")


def check_pragma(pragma: Pragma, top: str, ports: dict[str, str]) -> Iterator[Finding]:
    mode, port = pragma.options.get("mode", ""), pragma.options.get("port", "")
    for option in sorted(set(pragma.options) - OPTIONS):
        yield finding(pragma.place, "interface", f"an interface has no option {option}")
    if mode not in MODES:
        text = f"mode {mode or 'missing'}; allowed: {', '.join(sorted(MODES))}"
        yield finding(pragma.place, "interface", text)
    if port not in [*ports, "return"]:
        yield finding(pragma.place, "interface", f"{top} has no argument {port or 'of no name'}")
    elif port != "return" and MODES.get(mode, "") not in ports[port]:
        yield finding(pragma.place, "interface", f"{port} cannot be a port of mode {mode}")
    for needing, option, value, why in NEEDS:
        found = pragma.options.get(option, "")
        if mode == needing and (not found or (value and found != value)):
            text = f"{port}: {option} {found or 'missing'}, needed: {value or 'any'}: {why}"
            yield finding(pragma.place, "interface", text)
