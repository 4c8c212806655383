"""What `make test` and `make test-slow` run: together all tests, as README, CI and the guide for contributors say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import covered
import pytest

ROOT = Path(__file__).parents[2]


def test_ci_runs_all_targets_of_tests_that_the_readme_names() -> None:
    lines = re.findall(r"^make (.+)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.M)
    assert lines == ["--jobs 2 install services", "test", "test-slow"]
    first = (ROOT / "README.md").read_text("utf-8").partition("```\n")[2].partition("```")[0]
    assert {line.split()[1] for line in first.splitlines()} == {"demo", "test", "test-slow"}
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / page).read_text("utf-8")))
        made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M))
        assert named <= made
        assert {"test", "test-slow"} <= named


def test_each_test_is_run_by_one_of_the_two_targets() -> None:
    marks = {
        target: re.findall(
            r' -m "?((?:not )?slow)', subprocess.check_output(["make", "-nB", target], cwd=ROOT, text=True)
        )
        for target in ("test", "test-slow")
    }
    assert marks == {"test": ["not slow"], "test-slow": ["slow"]}


@pytest.mark.parametrize(("n_missing", "code"), [(10, 0), (11, 1)])
def test_less_than_ninety_percent_of_lines_fails(n_missing: int, code: int, tmp_path: Path) -> None:
    def entry(n_covered: int, n_missing: int) -> dict[str, Any]:
        percent = 100 * n_covered / (n_covered + n_missing)
        return {"summary": {"covered_lines": n_covered, "missing_lines": n_missing, "percent_covered": percent}}

    found = {"files": {"a.py": entry(10 - (n_missing - 4), n_missing - 4), "b.py": entry(86, 4)}}
    percent, lines = covered.summary(found)
    assert percent == pytest.approx(100 - n_missing)
    assert lines[0].startswith(f"coverage: {100 - n_missing:.1f} % of 100 lines in 2 files")
    assert lines[1:] == [f"below 90 %: a.py {10 * (14 - n_missing)}"]
    (tmp_path / "covered.json").write_text(json.dumps(found), "utf-8")
    command = [sys.executable, str(ROOT / "tests" / "covered.py"), str(tmp_path / "covered.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()) == (code, lines)
