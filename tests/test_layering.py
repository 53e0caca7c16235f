# SPDX-License-Identifier: Apache-2.0
"""The direction of imports: packages import from those in their row alone, never in circles.

In: the syntax trees of all modules, function-level and typing imports included.
Out: the first import that runs against the map of docs/layout.md.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "host" / "neuralmatrix"
MOST_AT_THE_TOP = 8

# unit: what it may import from; the order of the rows is the direction of data
MAY = {
    "base": "",
    "hardware": "base",
    "ir": "base",
    "program": "base hardware ir",
    "frontend": "base ir",
    "transforms.graph": "base ir",
    "transforms.lowering": "base hardware ir",
    "transforms.matgraph": "base hardware ir",
    "quantization": "base hardware ir",
    "scheduling": "base hardware ir program quantization",
    "runtime": "base hardware program",
    "runtime.selftest_build": "base hardware ir program transforms.matgraph quantization "
    "scheduling runtime",
    "runtime.emulated_board": "base hardware program runtime runtime.selftest_build",
    "face": "base hardware ir program frontend transforms.graph transforms.lowering "
    "transforms.matgraph quantization scheduling runtime",
    "measure": "base hardware program runtime",
    "deploy": "base hardware program runtime measure",
    "serve": "base program runtime",
    "cluster": "base ir program frontend runtime face deploy",
    "demo": "base hardware ir program runtime face",
    "hls4ml": "base hardware ir program frontend runtime face measure deploy",
    "torch": "base program runtime",
    "cli": "base hardware ir program frontend quantization runtime face measure deploy serve "
    "cluster demo",
}
TOP = {
    **dict.fromkeys(("errors", "files", "jsonform", "paths", "_version"), "base"),
    **dict.fromkeys(("compiler", "stages", "verification"), "face"),
}
# (module, imported module): why it may run against the map
EXCEPTIONS = {
    ("runtime.pynq.device", "runtime.emulated_board.board"): "NEURALMATRIX_EMULATED_BOARD puts the "
    "emulated board under pynq; imported in a function, so that a board never loads it",
}
# module, or package: why functions of it import modules of this package
LATE = {
    "__main__": "a missing typer is one clear error",
    "cli": "start-up time: a command loads what it needs alone",
    "hls4ml.plugin": "hls4ml loads the plug-in, and the backend needs hls4ml",
    "demo.programs": "boards may have no onnx to compile with; elsewhere there is no pynq",
    "runtime.emulated_board.board": "needs pynq",
    "runtime.pynq.device": "the emulated board: see EXCEPTIONS",
    "runtime.pynq.fabric": "ip_drivers registers with pynq, once an overlay is loaded",
    "runtime.session": "the emulation needs no pynq, a board no emulation",
    "serve": "a missing starlette or uvicorn is one clear error",
}


# modules that import names of the package itself, which loads them from anywhere: why they may
THROUGH_THE_PACKAGE = {"cli.main": "verify is called as a user calls it"}


def _modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        found[".".join(parts)] = path
    return found


MODULES = _modules()
ORDERED = sorted(set(MODULES) - {"", "__main__", "transforms"})


def unit(module: str) -> str:
    """The row of the map that a module belongs to."""
    if module in TOP:
        return TOP[module]
    rows = [row for row in MAY if f"{module}.".startswith(f"{row}.")]
    assert rows, f"{module} is in no package of the map"
    return max(rows, key=len)


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imported(module: str) -> frozenset[str]:
    """The modules of this package that ``module`` imports, wherever in its text."""
    path, found = MODULES[module], set()
    package = ["neuralmatrix", *module.split(".")][: None if path.name == "__init__.py" else -1]
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            assert not any(a.name.startswith("neuralmatrix.") for a in node.names), module
        if not isinstance(node, ast.ImportFrom):
            continue
        start = package[: len(package) + 1 - node.level] if node.level else []
        base = [*start, *(node.module or "").split(".")]
        base = [part for part in base if part]
        for alias in node.names if base[:1] == ["neuralmatrix"] else ():
            full = ".".join([*base[1:], alias.name])
            found.add(full if full in MODULES else full.rpartition(".")[0])
    return frozenset(found - {""})


def through_the_package(module: str) -> bool:
    """Whether ``module`` imports the package itself, whose names come from anywhere."""
    path = MODULES[module]
    depth = len(module.split(".")) - (path.name != "__init__.py") + 1  # dots up to the package
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import) and any(a.name == "neuralmatrix" for a in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module is None and node.level == depth:
            inside = {a.name for a in node.names}
            if not inside <= set(MODULES):
                return True
    return False


@pytest.mark.parametrize("module", ORDERED)
def test_imports_run_in_the_direction_of_the_map(module: str) -> None:
    here = unit(module)
    for other in sorted(imported(module)):
        allowed = unit(other) == here or unit(other) in MAY[here].split()
        assert allowed or (module, other) in EXCEPTIONS, (
            f"{module} imports {other}: {here} may import from {MAY[here] or 'nothing'}"
        )


def test_modules_import_from_where_names_are() -> None:
    """The package itself imports from every row, so that a name from there has no direction."""
    assert {m for m in ORDERED if through_the_package(m)} == set(THROUGH_THE_PACKAGE)


def test_rows_of_the_map_run_downwards() -> None:
    """A row names rows above it alone, so that packages cannot form a circle."""
    rows = list(MAY)
    for row, others in MAY.items():
        assert all(rows.index(other) < rows.index(row) for other in others.split()), row


def test_no_circle_of_modules() -> None:
    """Also within a package, and whatever the imports are for."""
    edges = {m: set(imported(m)) - {m} for m in ORDERED}
    edges["runtime.pynq.device"].discard("runtime.emulated_board.board")
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a circle: {' -> '.join((*path, module))}"
        if module in done:
            return
        for other in sorted(edges.get(module, ())):
            visit(other, (*path, module))
        done.add(module)

    for module in ORDERED:
        visit(module, ())


def _late(module: str) -> bool:
    """Does a function of ``module`` import from this package?"""
    functions = [
        n for n in ast.walk(tree(module)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    found = [n for f in functions for n in ast.walk(f) if isinstance(n, ast.ImportFrom)]
    return any(n.level or (n.module or "").startswith("neuralmatrix") for n in found)


def test_imports_within_functions_have_a_reason() -> None:
    late = {m for m in MODULES if _late(m)}
    found = {m if m in LATE else m.split(".")[0] for m in late}
    assert found == set(LATE)


def test_exceptions_are_needed() -> None:
    for module, other in EXCEPTIONS:
        assert other in imported(module), (module, other)


def test_a_board_loads_no_compiler() -> None:
    """What loading and running a program under pynq imports, function-level imports included."""
    reached, todo = set[str](), ["program.program", "runtime.session", "runtime.pynq.device"]
    while todo:
        module = todo.pop()
        reached.add(module)
        found = {other for other in imported(module) if (module, other) not in EXCEPTIONS}
        todo += sorted(found - reached)
    assert {unit(m) for m in reached - {""}} == {"base", "hardware", "ir", "program", "runtime"}
    assert not {m for m in reached if m.startswith(("ir.graph", "runtime.emulated_board"))}


def test_the_top_level_is_small() -> None:
    own = [m for m in MODULES if m and "." not in m and MODULES[m].name != "__init__.py"]
    assert len(set(own) - {"__main__"}) <= MOST_AT_THE_TOP, own
