# SPDX-License-Identifier: Apache-2.0
"""Evaluates constants, as far as conditions and bounds of the kernels need them.

In: an expression.  Out: its truth, or whether it is a constant.
"""

from __future__ import annotations

from tree import Node, Unit, children

WRAPPERS = {
    "ParenExpr",
    "ImplicitCastExpr",
    "ConstantExpr",
    "SubstNonTypeTemplateParmExpr",
    "ExprWithCleanups",
    "CXXFunctionalCastExpr",
}
VARYING = {"CallExpr", "CXXMemberCallExpr", "MemberExpr", "ArraySubscriptExpr"}


def initial(unit: Unit, reference: Node) -> Node | None:
    """Return a constant's initial value; None for a variable."""
    variable = unit.declared.get(reference["referencedDecl"]["id"], {})
    shape = variable.get("type", {}).get("qualType", "")
    fixed = variable.get("constexpr") or shape.startswith("const ")
    parts = children(variable)
    return parts[-1] if fixed and variable.get("init") and parts else None


def fold(unit: Unit, node: Node) -> bool | None:
    """Return the truth of a condition if it is known before the kernel runs, else None."""
    kind, parts = node["kind"], children(node)
    if kind in WRAPPERS and parts:
        return fold(unit, parts[-1])
    if kind in ("CXXBoolLiteralExpr", "IntegerLiteral"):
        return str(node["value"]) not in ("False", "0")
    if kind == "DeclRefExpr":
        value = initial(unit, node)
        return None if value is None else fold(unit, value)
    if kind == "UnaryOperator" and node["opcode"] == "!":
        inner = fold(unit, parts[0])
        return None if inner is None else not inner
    if kind == "BinaryOperator" and node["opcode"] in ("&&", "||"):
        decides: bool = node["opcode"] == "||"
        sides = [fold(unit, part) for part in parts]
        if decides in sides:
            return decides
        return None if None in sides else not decides
    return None


def is_constant(unit: Unit, node: Node, known: set[str]) -> bool:
    """True if the value depends only on constants and the variables `known`."""
    if node["kind"] in VARYING:
        return False
    parts = children(node)
    if node["kind"] == "ConditionalOperator":
        taken = fold(unit, parts[0])
        if taken is not None:
            parts = [parts[1 if taken else 2]]
    if node["kind"] == "DeclRefExpr" and not is_known(unit, node, known):
        return False
    return all(is_constant(unit, part, known) for part in parts)


def is_known(unit: Unit, reference: Node, known: set[str]) -> bool:
    target = reference["referencedDecl"]
    if target["id"] in known or target["kind"] == "EnumConstantDecl":
        return True
    value = initial(unit, reference)
    return value is not None and is_constant(unit, value, known)
