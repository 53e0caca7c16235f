# SPDX-License-Identifier: Apache-2.0
"""Finds in the syntax tree what an HLS compiler rejects or cannot report on.

In: a unit.  Out: findings with their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from finding import Finding, finding, holds
from loops import LOOPS, is_bounded
from ports import check_interface
from tree import FUNCTIONS, Node, Unit, children, descend, place
from values import fold

FLOATING = re.compile(r"\b(float|double|half|_Float16|__fp16|__bf16|__float128)\b")
NUMBER = re.compile(r"-?\d+$")
VARIABLE_LENGTH = re.compile(r"\[(?!\d*\])")
HEAP = {
    "malloc", "calloc", "realloc", "free", "alloca", "__builtin_alloca", "aligned_alloc"
}  # fmt: skip
STATEMENTS = {
    "CXXNewExpr": ("memory", "new"),
    "CXXDeleteExpr": ("memory", "delete"),
    "GCCAsmStmt": ("system-call", "inline assembly"),
    "CXXThrowExpr": ("exception", "throw"),
    "CXXTryStmt": ("exception", "try"),
    "CXXTypeidExpr": ("indirect-call", "typeid"),
    "CXXDynamicCastExpr": ("indirect-call", "dynamic_cast"),
    "GotoStmt": ("label", "goto"),
}
CALLS = {"CallExpr", "CXXMemberCallExpr", "CXXOperatorCallExpr"}


def findings(unit: Unit) -> list[Finding]:
    """Return all findings in the part of a source that is synthesized, each once."""
    found = set()
    if not unit.tops:
        text = 'no extern "C" function: every source defines its kernel'
        found.add(Finding(str(unit.source), 1, "interface", text))
    reached = reach(unit)
    for body in [*reached.values(), *unit.loose]:
        found.update(check_nodes(unit, body))
    for body in reached.values():
        found.update(check_loops(unit, body, []))
        found.update(check_clock(unit, body))
    found.update(check_recursion(unit, reached))
    for top in unit.tops:
        found.update(check_interface(unit, top))
    found.update(check_trips(unit))
    return sorted(found)


# ------------------------------------------------------------- synthesized code


def live(unit: Unit, node: Node) -> Iterator[Node]:
    """Yield the node and all below it, without branches that a constant condition excludes."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(reversed(live_children(unit, top)))


def live_children(unit: Unit, node: Node) -> list[Node]:
    parts = children(node)
    if node["kind"] != "IfStmt" or node.get("hasInit") or node.get("hasVar"):
        return parts
    taken = fold(unit, parts[0])
    if taken is None:
        return parts
    return parts[:2] if taken else [parts[0], *parts[2:]]


def callees(unit: Unit, body: Node) -> Iterator[tuple[Node, str, str]]:
    """Yield the functions that a body names: place, id, name."""
    for node in live(unit, body):
        if node["kind"] == "DeclRefExpr" and node["referencedDecl"]["kind"] in FUNCTIONS:
            target = node["referencedDecl"]
            yield node, unit.canonical(target["id"]), target.get("name", "")
        elif node["kind"] == "MemberExpr":
            ident = unit.canonical(node["referencedMemberDecl"])
            if unit.declared.get(ident, {}).get("kind") in FUNCTIONS:
                yield node, ident, node["name"]


def reach(unit: Unit) -> dict[str, Node]:
    """Return the functions that the kernels reach, and all constructors, as no call names them."""
    waiting = [unit.canonical(top["id"]) for top in unit.tops]
    for ident, body in unit.bodies.items():
        special = body["kind"] in ("CXXConstructorDecl", "CXXDestructorDecl")
        if special and unit.ours(body) and not body.get("isImplicit"):
            waiting.append(ident)
    return follow(unit, waiting)


def reach_from(unit: Unit, node: Node) -> dict[str, Node]:
    """Return the functions that a statement reaches."""
    return follow(unit, [ident for _, ident, _ in callees(unit, node)])


def follow(unit: Unit, waiting: list[str]) -> dict[str, Node]:
    reached: dict[str, Node] = {}
    while waiting:
        ident = waiting.pop()
        if ident in reached or ident not in unit.bodies:
            continue
        reached[ident] = unit.bodies[ident]
        if unit.ours(reached[ident]):
            waiting.extend(target for _, target, _ in callees(unit, reached[ident]))
    return {ident: body for ident, body in reached.items() if unit.ours(body)}


# ------------------------------------------------------------- expressions and statements


def check_nodes(unit: Unit, body: Node) -> Iterator[Finding]:
    for node in live(unit, body):
        if node["kind"] in STATEMENTS:
            rule, what = STATEMENTS[node["kind"]]
            yield finding(node, rule, f"{what} cannot be synthesized")
        yield from check_type(node)
        yield from check_variable(node)
        if node["kind"] in CALLS and target_of(unit, node) is None:
            yield finding(node, "indirect-call", "a call through a pointer cannot be synthesized")
    for node, ident, name in callees(unit, body):
        yield from check_callee(unit, node, ident, name)


def check_type(node: Node) -> Iterator[Finding]:
    if node["kind"] in FUNCTIONS:  # its parameters and its result are visited below
        return
    kind = node.get("type", {})
    text = kind.get("desugaredQualType", kind.get("qualType", ""))
    used = FLOATING.search(text)
    if used:
        yield finding(node, "floating-point", f"{used[0]} in what synthesis sees")


def check_variable(node: Node) -> Iterator[Finding]:
    if node["kind"] != "VarDecl":
        return
    if VARIABLE_LENGTH.search(node["type"]["qualType"]):
        yield finding(node, "memory", "an array of a length that is no constant has no memory")
    changes = not node.get("constexpr") and "const" not in node["type"]["qualType"].split()
    if node.get("storageClass") == "static" and changes:
        yield finding(node, "memory", "a static variable keeps its value from run to run")


def target_of(unit: Unit, call: Node) -> str | None:
    """Return the function that a call names."""
    callee = children(call)[0]
    while callee["kind"] in ("ImplicitCastExpr", "ParenExpr"):
        callee = children(callee)[0]
    return next((ident for _, ident, _ in callees(unit, callee)), None)


def check_callee(unit: Unit, node: Node, ident: str, name: str) -> Iterator[Finding]:
    if name in HEAP or name.startswith(("operator new", "operator delete")):
        yield finding(node, "memory", f"{name} cannot be synthesized")
        return
    declared = unit.declared.get(ident)
    if declared is None or not unit.ours(declared):
        yield finding(node, "system-call", f"{name} is a function of the system")
    elif ident not in unit.bodies and "lint/vendor" not in place(declared).file:
        if not declared.get("isImplicit"):
            yield finding(node, "system-call", f"{name} has no definition in this source")


def check_recursion(unit: Unit, reached: dict[str, Node]) -> Iterator[Finding]:
    graph = {ident: {to for _, to, _ in callees(unit, body)} for ident, body in reached.items()}
    for ident, body in reached.items():
        seen: set[str] = set()
        waiting = list(graph[ident])
        while waiting:
            at = waiting.pop()
            if at not in seen:
                seen.add(at)
                waiting.extend(graph.get(at, ()))
        if ident in seen:
            yield finding(body, "recursion", f"{body['name']} comes back to itself")


# ------------------------------------------------------------- loops


def check_loops(unit: Unit, node: Node, around: list[Node]) -> Iterator[Finding]:
    """Check the loops below a node; `around`: the bounded loops around it."""
    labelled = node["kind"] == "LabelStmt"
    for child in live_children(unit, node):
        inside = around
        if child["kind"] in LOOPS:
            if not labelled:
                yield finding(child, "label", "a loop without a label is nameless in reports")
            if is_bounded(unit, child, around):
                inside = [*around, child]
            elif not marks(unit, child, "LOOP_TRIPCOUNT", {"min", "max"}):
                text = "the number of turns is no constant: name it with NM_TRIPS(least, most)"
                yield finding(child, "trip-count", text)
            if marks(unit, child, "PIPELINE", set()):
                yield from check_pipeline(unit, child, inside)
        yield from check_loops(unit, child, inside)


def check_trips(unit: Unit) -> Iterator[Finding]:
    """Check trip counts for impossible numbers; names are replaced by their constants."""
    for pragma in unit.pragmas:
        least, most = (pragma.options.get(name, "") for name in ("min", "max"))
        if pragma.directive == "LOOP_TRIPCOUNT" and NUMBER.match(least) and NUMBER.match(most):
            if not 0 <= int(least) <= int(most):
                text = f"found {least} to {most} turns, allowed is 0 or more, the least first"
                yield Finding(pragma.place.file, pragma.place.line, "trip-count", text)


def check_pipeline(unit: Unit, loop: Node, around: list[Node]) -> Iterator[Finding]:
    """Check loops within a pipeline: Vitis unrolls them and needs their constant length."""
    text = f"no constant number of turns within the pipeline of line {place(loop).line}"
    for inner in unbounded(unit, loop, around):
        yield finding(inner, "pipeline", text)
    for body in reach_from(unit, loop).values():
        for inner in unbounded(unit, body, []):
            yield finding(inner, "pipeline", text)


def unbounded(unit: Unit, node: Node, around: list[Node]) -> Iterator[Node]:
    for child in live_children(unit, node):
        inside = around
        if child["kind"] in LOOPS:
            if is_bounded(unit, child, around):
                inside = [*around, child]
            else:
                yield child
        yield from unbounded(unit, child, inside)


def marks(unit: Unit, loop: Node, directive: str, options: set[str]) -> bool:
    """True if the pragma is in the loop and in none of its inner loops."""
    within = [node for node in descend(loop) if node["kind"] in LOOPS]
    for pragma in unit.pragmas:
        if pragma.directive != directive or not options <= set(pragma.options):
            continue
        holders = [node for node in within if holds(node, pragma.place)]
        if holders and holders[-1] is loop:
            return True
    return False


# ------------------------------------------------------------- time


def check_clock(unit: Unit, node: Node, alone: bool = False) -> Iterator[Finding]:
    """Check reads of wires: one that shares its loop with work can be scheduled anywhere in it.

    `alone`: the innermost loop around the node calls nothing.
    """
    for child in live_children(unit, node):
        inside = alone
        if child["kind"] in LOOPS:
            inside = not any(part["kind"] in CALLS for part in descend(child))
        if child.get("castKind") == "LValueToRValue" and is_volatile(children(child)[0]):
            if not alone:
                text = "a wire read outside a loop of its own has no place in time"
                yield finding(child, "clock", text)
        yield from check_clock(unit, child, inside)


def is_volatile(node: Node) -> bool:
    return "volatile" in str(node["type"]["qualType"]).split("*")[-1].split()
