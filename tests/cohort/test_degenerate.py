"""Cohorts without information are reported: exit code 65 if nothing is left, a warning if a part is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from connectome_tl.cohort.arrays.degenerate import degenerate
from connectome_tl.workflows.data.cohort import check_cohort

from .conftest import OnDisk


@pytest.mark.parametrize(
    ("matrix", "said"),
    [(np.zeros((90, 90)), "no connectome has a single edge"), (np.ones((90, 90)), "all edges are the same")],
    ids=["empty", "constant"],
)
def test_connectomes_that_are_all_constant_are_refused(on_disk: OnDisk, matrix: np.ndarray, said: str) -> None:
    on_disk.matrices = dict.fromkeys(on_disk.matrices, matrix)
    problems = on_disk.problems()
    assert len(problems) == 1
    assert said.removeprefix("not ") in problems[0]
    assert "6 subjects" in problems[0]


def test_one_matrix_under_all_ids_is_refused(on_disk: OnDisk) -> None:
    on_disk.matrices = dict.fromkeys(on_disk.matrices, on_disk.matrices["sub-01"])
    assert "all connectomes are the same" in on_disk.problems()[0]


def test_what_is_degenerate_in_part_is_an_error_on_the_terminal(on_disk: OnDisk) -> None:
    on_disk.matrices["sub-02"] = np.zeros((90, 90))
    on_disk.table["cog"] = ["101", "94", "87", "n/a", "n/a", "95"]
    on_disk.settings["outcomes"][0]["status"]["died"] = "missing"
    on_disk.table["sex"] = ["F"] * 6
    console = Console(file=io.StringIO(), width=200)
    check_cohort(on_disk.write(), console=console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "error: 1 connectome is empty or constant: sub-02" in said
    assert "error: outcome cognitive (cog < 85): negative in all 4 subjects with a value" in said
    assert "warning: covariate sex: the same in every subject" in said


def test_a_sound_cohort_has_nothing_of_this(on_disk: OnDisk) -> None:
    assert degenerate(on_disk.read()) == []
