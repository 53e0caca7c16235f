# SPDX-License-Identifier: Apache-2.0
"""The documentation: its code runs, its links resolve, its commands exist."""

from __future__ import annotations

import os
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from conftest import ROOT
from neuralmatrix import errors
from neuralmatrix.cli.main import app
from neuralmatrix.demo.tasks import load_digits
from neuralmatrix.hardware import registers
from neuralmatrix.hardware.block_design import design_of
from neuralmatrix.hardware.board import load_board
from rich.console import Console
from typer.testing import CliRunner

PAGES = (
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
)
README_SECTIONS = (
    "Three commands",
    "Networks",
    "Boards and kinds of networks",
    "Use it from Python",
    "How it works",
    "Limits",
    "Documentation, contributing, licence",
)
README_WORDS = (850, 950)
PACKAGES = ("hardware", "frontend", "ir", "transforms", "quantization", "scheduling", "program",
            "runtime", "measure", "deploy", "demo", "cli")  # fmt: skip
FOLDERS = ("", "host/neuralmatrix", "host/neuralmatrix/**", "hls", "hls/*", "overlay",
           "overlay/boards", "docs", "models")  # fmt: skip
GENERATED = {"boards.md", "isa.md"}
MADE = {"overlay.json", "overlay/build", "overlay/build/BOARD", "build/overlay/BOARD"}
MADE |= {"global_pl_state_.json", "net.onnx", "build/digits"}  # pynq's, the demo's
MADE |= {"predictions.json", "versions.json"}  # of the first light


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def exists(name: str) -> bool:
    return any(any(ROOT.glob(f"{folder}/{name}".lstrip("/"))) for folder in FOLDERS)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub and the site make of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", text)
    for name, anchor in links:
        target = page.parent / name if name else page
        assert target.exists(), (name, anchor)
        assert not anchor or anchor in anchors(target), (name, anchor)


def test_every_page_is_in_the_site() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"^ +- .*: (\S+\.md)$", text, re.MULTILINE)
    assert sorted(listed) == sorted({page.name for page in PAGES} - {"README.md"} | {"index.md"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"`([\w./-]+(?:\.(?:py|h|cpp|json|md|onnx)|/))`", text)
    named = [name.rstrip("/") for name in named if "NAME" not in name]
    assert not sorted({name for name in named if name not in MADE and not exists(name)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_pages_that_people_write_are_short(page: Path) -> None:
    if page.name in GENERATED:
        pytest.skip("made by make generated")
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_pipeline_enters_every_package_once() -> None:
    """A heading for each package, or one for several."""
    text = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    headings = "\n".join(re.findall(r"^## .+$", text, re.MULTILINE))
    assert re.findall(r"`(\w+)/`", headings) == list(PACKAGES)


def test_api_names_every_public_name() -> None:
    """Each directive leads to an object, and each public name has one."""
    pytest.importorskip("onnx")
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    shown = []
    for path in re.findall(r"^::: neuralmatrix\.(\S+)$", text, re.MULTILINE):
        module, _, name = path.rpartition(".")
        found = import_module(f"neuralmatrix.{module}") if module else None
        shown.append(getattr(found, name) if found else import_module(f"neuralmatrix.{name}"))
    assert errors in shown
    public = [getattr(nm, name) for name in nm.__all__ if name != "__version__"]
    ours = [value for value in public if value.__module__ != errors.__name__]
    assert [value for value in ours if value not in shown] == []


def test_readme_is_short_and_in_order() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    low, high = README_WORDS
    assert low <= len(text.split()) <= high
    assert tuple(re.findall(r"^## (.+)$", text, re.MULTILINE)) == README_SECTIONS
    first = text.partition("## ")[0]
    status = re.findall(r"^\* \*\*(\w+: \w+)\.\*\*", first, re.MULTILINE)
    assert status == ["Emulated: yes", "Bitstream: no", "Board: no"]
    for command in ("pip install '.[onnx]' && neuralmatrix demo",
                    "pip install -e '.[dev]' && pytest",
                    'pytest -m "not slow"'):  # fmt: skip
        assert command in text


@pytest.mark.gxx
def test_pipeline_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    scope: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "pipeline.md", "python"):
        exec(compile(block, "pipeline.md", "exec"), scope)
    assert "cycles" in capsys.readouterr().out


def keep_demo(folder: Path) -> None:
    """The files of ``demo --keep``, with two test images."""
    pytest.importorskip("onnx")
    from neuralmatrix.demo.run import run_demo

    run_demo(console=Console(quiet=True), limit=2, keep=folder)


def run_commands(line: str) -> str:
    """Return the output of a shell line: commands run, folders change, installs are skipped."""
    shown = ""
    for part in line.split(" && "):
        name, *arguments = shlex.split(part)
        if name == "cd":
            os.chdir(arguments[0])
        elif name == "neuralmatrix":
            result = CliRunner().invoke(app, arguments, catch_exceptions=False)
            assert result.exit_code == 0, (part, result.output)
            shown += result.output
        else:
            assert name == "pip", part
    return " ".join(shown.split())


@pytest.mark.gxx
@pytest.mark.slow
def test_readme_commands_print_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "README.md", "console")
    commands = re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    assert len(commands) == 3
    for command, output in commands:
        shown = run_commands(command)
        lines = [" ".join(line.split()) for line in output.splitlines() if line != "..."]
        assert lines and [line for line in lines if line not in shown] == [], shown


@pytest.mark.gxx
def test_accuracy_page_shows_what_its_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missed requirement ends the command with the error that the page shows."""
    keep_demo(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "docs" / "accuracy.md", "console")
    block = re.sub(r"\\\n +", "", block)
    commands = re.findall(r"^\$ neuralmatrix (.+)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    assert len(commands) == 3
    for command, output in commands:
        result = CliRunner().invoke(app, shlex.split(command))
        found = f"error: {result.exception}" if result.exception else result.stdout
        parts = [" ".join(part.split()) for part in output.split("...\n")]
        shown = " ".join(found.split())
        assert [part for part in parts if part not in shown] == [], shown


@pytest.mark.gxx
def test_python_of_accuracy_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_demo(tmp_path)
    digits = load_digits(100)
    np.savez(tmp_path / "labelled.npz", input=digits.x, label=digits.y)
    monkeypatch.chdir(tmp_path)
    for block in blocks(ROOT / "docs" / "accuracy.md", "python"):
        exec(compile(block, "accuracy.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "accuracy: emulated, on 32 inputs" in printed and "metric accuracy: 0.9" in printed


@pytest.mark.gxx
@pytest.mark.parametrize("page", ("README.md", "docs/usage.md"))
def test_python_of_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_demo(tmp_path)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks(ROOT / page, "python"):
        if "import torch" not in block:
            exec(compile(block, page, "exec"), scope)
    assert "all tensors bit-equal" in capsys.readouterr().out
    assert {name: y.shape for name, y in scope["outputs"].items()} == {"logits": (2, 10)}


@pytest.mark.gxx
@pytest.mark.slow
def test_commands_of_usage_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of 'The command line' run in order on files of the kept demo."""
    for package in ("onnxruntime", "plotly"):
        pytest.importorskip(package)
    keep_demo(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
    section = text.partition("## The command line")[2].partition("\n## ")[0]
    commands = re.findall(r"^    (neuralmatrix .+)$", section, re.MULTILINE)
    assert len(commands) == 9
    # power windows take minutes where the processor reports its watts
    quick = {"compare": " --no-power"}
    shown = "".join(run_commands(line + quick.get(line.split()[1], "")) for line in commands)
    assert "of the calibration inputs, 0.02 allowed (met)" in shown
    assert {"mixed.nmx", "outputs.npz", "report.html"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
@pytest.mark.gxx
@pytest.mark.slow
def test_torch_example_of_usage_runs() -> None:
    for package in ("torch", "onnxscript", "onnx"):
        pytest.importorskip(package)
    scope: dict[str, Any] = {"np": np, "nm": nm}
    for block in blocks(ROOT / "docs" / "usage.md", "python"):
        if "import torch" in block:
            exec(compile(block, "usage.md", "exec"), scope)
    assert {name: y.shape for name, y in scope["outputs"].items()} == {"output": (2, 16, 64)}


def test_operators_are_those_of_the_importers() -> None:
    pytest.importorskip("onnx")
    from neuralmatrix.frontend.onnx.control_flow import CONTROL
    from neuralmatrix.frontend.onnx.operator_table import HANDLERS, MICROSOFT
    from neuralmatrix.frontend.onnx.ops.qonnx import COMPUTED
    from neuralmatrix.ir.host.operators import OPERATORS

    text = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## .*$", text, flags=re.MULTILINE)
    ours, theirs = (re.findall(r"`(\w+)`", part) for part in parts[:2])
    assert sorted(ours) == sorted({*HANDLERS, *CONTROL})
    assert sorted(theirs) == sorted(MICROSOFT)
    assert sorted(re.findall(r"`(\w+)`", parts[2])) == sorted(OPERATORS)
    assert sorted(re.findall(r"`(\w+)`", parts[-1])) == sorted(COMPUTED)


def test_commands_of_all_pages_exist() -> None:
    names: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"(?:^    .*|^\$ .*|`)neuralmatrix ([a-z]\w+)", text, re.MULTILINE)
        names |= set(named)
    assert names >= {"compile", "run", "verify", "report", "bench", "boards", "demo", "list",
                     "deploy", "doctor", "compare", "segments"}  # fmt: skip
    for name in sorted(names):
        result = CliRunner().invoke(app, [name, "--help"])
        assert result.exit_code == 0, name


def test_overlay_page_has_the_registers() -> None:
    text = (ROOT / "docs" / "overlay.md").read_text(encoding="utf-8")
    rows = []
    for kernel, arguments in registers.KERNELS.items():
        offsets = {word.name: word.offset for word in registers.registers(kernel)}
        for a in arguments:
            offset = offsets.get(a.name, offsets.get(f"{a.name}_1"))
            who = "kernel" if a.output else "host"
            rows.append(f"| {kernel} | `{a.name}` | {a.bits} | 0x{offset:02x} | {who} |")
    assert [row for row in rows if row not in text] == []
    assert len(re.findall(r"^\| (?:fetch|load|compute|store) \|", text, re.MULTILINE)) == len(rows)


def test_overlay_page_has_the_addresses() -> None:
    text = (ROOT / "docs" / "overlay.md").read_text(encoding="utf-8")
    designs = [design_of(load_board(name)) for name in ("pynq-z2", "kv260")]
    for zynq, mpsoc in zip(*(design.segments for design in designs), strict=True):
        cells = f"| `{zynq.cell}` | 0x{zynq.offset:08x} | 0x{mpsoc.offset:08x} |"
        assert cells in text and zynq.cell == mpsoc.cell
        assert f"{zynq.range_bytes // 1024} KB" in text
    for i, cell in enumerate(designs[0].interrupts):
        assert re.search(rf"^\| `{cell}` .*\| input {i} \|$", text, re.MULTILINE)


def test_on_a_board_explains_every_error_of_the_driver() -> None:
    text = (ROOT / "docs" / "on-a-board.md").read_text(encoding="utf-8")
    elsewhere = {
        "AccuracyMissed",
        "AccuracyWarning",
        "BadModel",
        "BuildFailed",
        "CompilerFault",
        "NeuralMatrixError",
        "UnsupportedModel",
        "UnsupportedNode",
    }
    names = set(errors.__all__) - elsewhere
    assert [name for name in sorted(names) if f"| `{name}` |" not in text] == []


def test_makefile_targets() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("check", "test", "bench", "docs", "emulate", "hls", "overlay", "clean"):
        assert re.search(rf"^{target}:", text, re.MULTILINE)
    scripts = re.findall(r"for name in ([^;]+); do", text)[0].replace("\\\n", " ").split()
    assert scripts and all((ROOT / "bench" / f"{name}.py").exists() for name in scripts)
