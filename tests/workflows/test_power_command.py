"""`connectome-tl power`: from a cohort or a size to widths and power, or a clear refusal."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from small_study import small_cohorts

from connectome_tl.cli import main
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.evaluation import planning
from connectome_tl.workflows.study.power import known_subjects, plan_of, power_of_cohort


@pytest.fixture(autouse=True)
def _few_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "N_STUDIES", 20)


@pytest.mark.slow
def test_every_outcome_of_a_cohort_has_a_plan_at_its_own_size(tmp_path: Path) -> None:
    target = small_cohorts().target
    path = write_cohort(target, tmp_path / "target")
    screen = Console(file=io.StringIO(), width=80)
    plans = power_of_cohort(path, console=screen)
    assert [plan.task for plan in plans] == [task.name for task in target.tasks]
    for plan in plans:
        known = target.targets[plan.task].dropna().to_numpy(float)
        assert plan.n == known.size
        assert plan.n_positive == (int(known.sum()) if plan.metric == "auc" else None)
        assert np.isfinite(plan.width).all()
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert all(task.label in text for task in target.tasks)
    assert 'verdict "helps"' in text


def test_repeated_scans_count_once_and_families_are_named() -> None:
    target, n = small_cohorts().target, 24
    children = tuple(f"child {k // 2}" for k in range(n))
    family = np.array([f"family {k // 4}" if k < 8 else "" for k in range(n)], dtype=object)
    task = next(task for task in target.tasks if task.is_binary)
    targets = target.targets.assign(**{task.name: np.arange(n) // 2 % 2})
    target = replace(target, children=children, family=family, targets=targets)
    values, notes = known_subjects(target, task)
    assert values.tolist() == [k % 2 for k in range(12)]
    assert "The 24 scans are of 12 subjects" in notes[0]
    assert "The 12 subjects are from 10 families" in notes[1]
    plan, _ = plan_of(target, task)
    assert plan is not None
    assert (plan.n, plan.n_positive) == (12, 6)
    assert all(note in plan.method for note in notes)
    apart = replace(target, children=(), family=np.array([""] * n, dtype=object))
    assert known_subjects(apart, task)[1] == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--n", "33", "--share", "0.3"], 0, "10 positive"),
        (["--n", "33"], 0, "true R2"),
        (["--n", "33", "--share", "1.5"], 64, "between 0 and 1"),
        (["--n", "33", "--share", "0.01"], 64, "at least 3 of each class"),
        (["--n", "4000"], 64, "20 to 500"),
        ([], 64, "needs a cohort or a size"),
        (["none.yaml", "--n", "33"], 64, "needs a cohort or a size"),
        (["none.yaml", "--share", "0.2"], 64, "--share is used with --n"),
        (["none.yaml"], 66, "none.yaml"),
    ],
)
def test_sizes_and_refusals(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        main(["power", *arguments])
    printed = capsys.readouterr()
    assert left.value.code == code
    assert says in " ".join((printed.out + printed.err).split())
