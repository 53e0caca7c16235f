# SPDX-License-Identifier: Apache-2.0
"""What a release says of itself, and what publishes it.

In: the repository's workflows and citation.  Out: one version; commands that exist here.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import neuralmatrix
import pytest

ROOT = Path(__file__).resolve().parents[2]
yaml = pytest.importorskip("yaml")


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def commands(workflow: str) -> list[str]:
    jobs = read(f".github/workflows/{workflow}.yml")["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_the_citation_has_the_packages_version() -> None:
    found = read("CITATION.cff")
    assert found["version"] == neuralmatrix.__version__ and found["cff-version"] == "1.2.0"
    assert {"title", "authors", "message", "license"} <= set(found)


def test_every_change_runs_what_ci_runs() -> None:
    assert commands("test") == ["bash .ci/run"] and (ROOT / ".ci/run").exists()


@pytest.mark.parametrize("workflow, target", [("docs", "docs"), ("release", "dist")])
def test_workflows_call_targets_of_the_makefile(workflow: str, target: str) -> None:
    made = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    called = [c.split()[1] for c in commands(workflow) if c.startswith("make ")]
    assert called == [target] and target in made


def test_a_release_has_the_version_of_its_tag() -> None:
    """The workflow's own command, run by a shell."""
    (check,) = [c for c in commands("release") if c.startswith("test ")]
    for tag, code in ((f"v{neuralmatrix.__version__}", 0), ("v9.9.9", 1)):
        env = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
        assert subprocess.run(["bash", "-c", check], cwd=ROOT, env=env).returncode == code
