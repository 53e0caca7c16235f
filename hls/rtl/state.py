# SPDX-License-Identifier: Apache-2.0
"""The registers of a loop: what a step makes of them is what the next one begins with.

In: the Verilog of one step, and which output is the next value of which input.  Out: the step with
its registers, to be counted: where a value stays, a register's enable does it and no LUT.
"""

from __future__ import annotations

import re

PORT = re.compile(r"^  (input|output) (signed )?\[(\d+):0\] (\w+),?$", re.M)
# A wire that is another one, whatever its sign and width.
ALIAS = re.compile(
    r"^(?:wire (?:signed )?\[\d+:0\] |assign )(\w+) = "
    r"(?:\$signed\(\{1'b0, ?)?(\w+?)(?:\}\))?;$",
    re.M,
)
State = tuple[tuple[str, str], ...]


def top_name(name: str) -> str:
    return f"{name}_with_state"


def with_state(text: str, name: str, state: State) -> str:
    """The module, and one around it in which each pair of ``state`` (now, next) is a register.

    The registers' values are outputs, so that none is removed.  What a step leaves as it is, others
    set: it stays an input.
    """
    ports = {found[3]: (found[0], int(found[2]) + 1) for found in PORT.findall(text)}
    pairs = {
        f"{now}_{k}": f"{after}_{k}"
        for now, after in state
        for k in range(len(ports))
        if f"{now}_{k}" in ports and f"{after}_{k}" in ports
    }
    same = dict(ALIAS.findall(text))
    pairs = {now: after for now, after in pairs.items() if _origin(after, same) != now}
    head, body, wires = ["input clk"], [], [".clk(clk)"]
    for port, (direction, bits) in ports.items():
        wires.append(f".{port}({port})")
        if port in pairs:
            body.append(f"reg [{bits - 1}:0] {port};")
            body.append(f"always @(posedge clk) {port} <= {pairs[port]};")
            head.append(f"output [{bits - 1}:0] state_{port}")
            body.append(f"assign state_{port} = {port};")
        elif port in pairs.values():
            body.append(f"wire [{bits - 1}:0] {port};")
        else:
            head.append(f"{direction} [{bits - 1}:0] {port}")
    inside = f"{name} step({', '.join(wires)});"
    module = f"module {top_name(name)}({', '.join(head)});"
    return "\n".join([text, module, *body, inside, "endmodule", ""])


def _origin(wire: str, same: dict[str, str]) -> str:
    while wire in same:
        wire = same[wire]
    return wire
