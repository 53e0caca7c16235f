# SPDX-License-Identifier: Apache-2.0
"""The comparison with golden texts, in small test runs of its own.

In: a text that is new, the same, or changed.  Out: what pytest says, and the file.
"""

from __future__ import annotations

import sys

import pytest

pytest_plugins = ["pytester"]

TEST = """
from golden_text import check_golden

def test_a_pass(request):
    check_golden(request, "fuse/relu.out.txt", {text!r})
"""


class Rig:
    """A project whose only test compares one text; ``run`` is one pytest over it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        self.golden = pytester.path / "tests" / "golden" / "fuse" / "relu.out.txt"
        pytester.makepyprojecttoml("[tool.pytest.ini_options]\naddopts = '-p no:cacheprovider'")
        tests = pytester.mkdir("tests")
        (tests / "conftest.py").write_text(
            "from golden_text import pytest_addoption as pytest_addoption"
        )

    def run(self, text: str, *options: str) -> pytest.RunResult:
        file = self._pytester.path / "tests" / "test_it.py"
        file.write_text(TEST.format(text=text), encoding="utf-8")
        return self._pytester.runpytest_inprocess(*options, file)


@pytest.fixture
def rig(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # they take a second to import
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # one file changes within one second
    return Rig(pytester)


def test_a_missing_file_is_a_failure_that_names_the_command(rig: Rig) -> None:
    result = rig.run("relu(x)")
    result.assert_outcomes(failed=1)
    command = "python -m pytest --update-golden tests/test_it.py::test_a_pass"
    result.stdout.fnmatch_lines([f"*relu.out.txt is missing; if the new text is right: {command}"])
    assert not rig.golden.exists()


def test_the_option_writes_the_file_and_the_next_run_passes(rig: Rig) -> None:
    rig.run("relu(x)\ny = 1", "--update-golden").assert_outcomes(passed=1)
    assert rig.golden.read_bytes() == b"relu(x)\ny = 1\n"
    rig.run("relu(x)\ny = 1").assert_outcomes(passed=1)


def test_a_difference_is_shown_line_by_line(rig: Rig) -> None:
    rig.run("first\nrelu(x)\nlast", "--update-golden")
    result = rig.run("first\nrelu6(x)\nlast")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["--- relu.out.txt", "+++ found", " first", "-relu(x)", "+relu6(x)"]
    )
    result.stdout.fnmatch_lines(["*python -m pytest --update-golden tests/test_it.py::test_a_pass"])
    assert rig.golden.read_bytes() == b"first\nrelu(x)\nlast\n"


def test_the_option_renews_a_file_that_differs_and_no_other(rig: Rig) -> None:
    rig.run("old", "--update-golden")
    rig.run("new", "--update-golden").assert_outcomes(passed=1)
    assert rig.golden.read_bytes() == b"new\n"
    before = rig.golden.stat().st_mtime_ns
    rig.run("new", "--update-golden").assert_outcomes(passed=1)
    assert rig.golden.stat().st_mtime_ns == before
