# SPDX-License-Identifier: Apache-2.0
"""Decides whether a loop's number of iterations is known before the kernel runs.

In: a loop of the syntax tree and the bounded loops around it.  Out: yes or no.
"""

from __future__ import annotations

from tree import Node, Unit, children, descend
from values import is_constant

LOOPS = {"ForStmt", "WhileStmt", "DoStmt", "CXXForRangeStmt"}
STEPS = {"++", "--"}


def counter(loop: Node) -> Node | None:
    """Return the only variable that a for statement declares."""
    start = loop["inner"][0]
    found = [child for child in children(start) if child["kind"] == "VarDecl"] if start else []
    return found[0] if len(found) == 1 else None


def is_bounded(unit: Unit, loop: Node, around: list[Node]) -> bool:
    """True for `for (T i = constant; i ... constant; i += constant)` whose body does not set i."""
    variable = counter(loop) if loop["kind"] == "ForStmt" else None
    if variable is None or not children(variable):
        return False
    _, _, condition, step, body = loop["inner"]
    own = variable["id"]
    outer = {found["id"] for found in map(counter, around) if found is not None}
    return (
        is_constant(unit, children(variable)[-1], outer)
        and bool(condition)
        and own in names(condition)
        and is_constant(unit, condition, outer | {own})
        and bool(step)
        and changes(step, own)
        and is_constant(unit, step, outer | {own})
        and not changes(body, own)
    )


def names(node: Node) -> set[str]:
    return {part["referencedDecl"]["id"] for part in descend(node) if part["kind"] == "DeclRefExpr"}


def changes(node: Node, variable: str) -> bool:
    """True when a statement below sets the variable."""
    for part in descend(node) if node else ():
        code = part.get("opcode", "")
        sets = part["kind"] == "CompoundAssignOperator" or (
            part["kind"] in ("UnaryOperator", "BinaryOperator") and code in {*STEPS, "="}
        )
        if sets and target(children(part)[0]) == variable:
            return True
    return False


def target(node: Node) -> str:
    """Return the variable that an assignment sets as a whole."""
    while node["kind"] == "ParenExpr":
        node = children(node)[0]
    return str(node["referencedDecl"]["id"]) if node["kind"] == "DeclRefExpr" else ""
