# SPDX-License-Identifier: Apache-2.0
"""The command line: its steps, and what it says where a program is missing.

In: arguments.  Out: exit codes and texts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from rtl import tools
from rtl.__main__ import main
from rtl_units import needs_clang, needs_yosys


@pytest.fixture(autouse=True)
def fresh_tools() -> Iterator[None]:
    """Every test looks for the programs again."""
    found = (tools.clang, tools.gxx, tools.verilator, tools.yosys)
    for each in found:
        each.cache_clear()
    yield
    for each in found:
        each.cache_clear()


@needs_clang
@pytest.mark.parametrize(
    ("step", "program", "package"),
    [("synthesise", "yosys", "yosys"), ("simulate", "verilator", "verilator")],
)
def test_a_missing_program_is_named_with_its_package(
    step: str,
    program: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if program in name else which(name))
    assert main([step, "--quick"]) == 2
    assert f"{program} is not installed; apt-get install {package}" in capsys.readouterr().err


def test_another_clang_can_be_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLANG", "clang++-of-mars")
    assert main(["ir", "--quick"]) == 2
    assert (
        "clang++-of-mars is not installed or older; 15 or newer is needed"
        in capsys.readouterr().err
    )


@needs_clang
@needs_yosys
@pytest.mark.slow
def test_a_unit_is_counted_and_then_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--build", str(tmp_path / "b"), "--json", str(tmp_path / "counts.json")]
    command = ["synthesise", "--units", "raster_step", "--boards", "pynq-z2", *where]
    assert main(command) == 0
    first = capsys.readouterr().out
    assert "pynq-z2/raster_step:" in first and " LUT, 0 DSP" in first
    assert main(command) == 0
    assert " LUT, 0 DSP" not in capsys.readouterr().out
    assert main(["table", *where]) == 0
    assert "| Raster::next | pynq-z2 | 0 |" in capsys.readouterr().out
