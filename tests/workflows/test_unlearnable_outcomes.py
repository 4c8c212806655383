"""Outcomes and splits from which nothing can be learned are refused before the first fit, with a remedy that works."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.config import load_settings
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.settings.study import StudySettings
from connectome_tl.workflows.study.forecast import forecast_study
from connectome_tl.workflows.study.inputs import make_learnable_plan, read_cohorts
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.tune import tune_study

pytestmark = pytest.mark.usefixtures("without_figures")

COHORT = """\
name: lab
participants: sheet.csv
site: site
family: family
outcomes:
  - {name: out, column: score, KIND}
connectomes: {files: "m_{id}.csv", labels: numbered}
"""
STUDY = """\
target: {cohort: cohort.yaml}
splits: {SPLITS}
"""
KINDS = {
    "binary": "kind: binary",
    "cut": 'kind: binary, operator: "<", cutoff: 85',
    "regression": "kind: regression, unit: points",
    "ordinal": "kind: ordinal, levels: [mild, moderate, severe]",
    "multiclass": "kind: multiclass, levels: [mild, moderate, severe]",
}
Lab = Callable[..., Path]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A folder with a cohort of these outcomes and a study of these splits."""

    def make(
        kind: str,
        values: Sequence[object],
        splits: str = "repeats: 1, outer: 3",
        family: Sequence[str] | None = None,
        site: Sequence[str] | None = None,
        name: str = "cohort",
    ) -> Path:
        rng = np.random.default_rng(0)
        ids = [f"P{i}" for i in range(len(values))]
        for one in ids:
            upper = np.triu(rng.gamma(1, 2, (6, 6)), 1)
            np.savetxt(tmp_path / f"m_{one}.csv", upper + upper.T, delimiter=",")
        table = {"participant_id": ids, "score": values, "site": site or "A", "family": family or ids}
        pd.DataFrame(table).to_csv(tmp_path / "sheet.csv", index=False)
        (tmp_path / "cohort.yaml").write_text(COHORT.replace("KIND", KINDS[kind]))
        (tmp_path / "study.yaml").write_text(STUDY.replace("SPLITS", splits))
        return tmp_path / "study.yaml"

    return make


def plan(study: Path, **changed: object) -> SplitPlan:
    settings = load_settings(
        study, StudySettings, overrides=[f"splits.{key}={value}" for key, value in changed.items()]
    )
    return make_learnable_plan(settings, study.parent, read_cohorts(settings, study.parent))


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("binary", [1, *[0] * 11], "negative (11), positive (1)"),
        ("binary", [0, *[1] * 11], "positive (11), negative (1)"),
        ("binary", [0] * 12, "negative in all 12 subjects"),
        ("binary", [1] * 11 + [None], "positive in all 11 subjects"),
        ("cut", [100] * 12, "negative in all 12 subjects"),
        ("regression", [5.5] * 12, "5.5 in all 12 subjects"),
        ("regression", [5.5] * 11 + [7], "5.5 (11), 7 (1)"),
        ("regression", [None] * 11 + [7], "7 in the only subject"),
        ("ordinal", ["mild"] * 12, "mild in all 12 subjects"),
        ("ordinal", ["mild"] * 11 + ["severe"], "mild (11), severe (1)"),
        ("multiclass", ["severe"] * 12, "severe in all 12 subjects"),
    ],
)
def test_an_outcome_of_one_class_or_with_one_other_subject_is_refused(
    lab: Lab, kind: str, values: list[object], said: str
) -> None:
    study = lab(kind, values)
    with pytest.raises(DataError, match=re.escape(said)) as found:
        plan(study)
    (problem,) = found.value.problems
    assert (problem.file, problem.line) == (study.parent / "cohort.yaml", 6)
    assert "outcomes[0].column: outcome out" in problem.what
    assert "target.tasks" in str(problem.remedy)
    assert ("Give another cutoff" in str(problem.remedy)) == (kind == "cut")


def test_relatives_are_one_subject(lab: Lab) -> None:
    family = ["a", "a", *"bcdefghijk"]
    with pytest.raises(DataError, match="other than negative in one family only"):
        plan(lab("binary", [1, 1] + [0] * 10, family=family))
    assert plan(lab("binary", [1, 0, 1] + [0] * 9, "repeats: 1, outer: 2, stratum: out", family=family)).n_repeats == 1


@pytest.mark.parametrize("call", [run_study, forecast_study, tune_study])
def test_every_command_refuses_it_before_the_first_fit(lab: Lab, call: Callable[..., object]) -> None:
    study = lab("binary", [0] * 12, "repeats: 1, outer: 3, inner: 2")
    study.write_text(
        study.read_text() + "tune: {space: {model.dropout: {low: 0.1, high: 0.5}}}\n" * (call is tune_study)
    )
    with pytest.raises(DataError, match="negative in all 12 subjects"):
        call(study, study.parent / "out")
    assert not list((study.parent / "out").glob("models/*"))


HALVES = [1] * 6 + [0] * 6


@pytest.mark.parametrize(
    ("values", "splits", "others", "error", "said"),
    [
        (HALVES, "scheme: site_out", {"site": ["A"] * 6 + ["B"] * 6}, DataError, "negative in all 6 subjects"),
        ([1] * 3 + [0] * 20, "scheme: few_labels, n_labelled: 2", {}, DataError, "negative in all 2 subjects"),
        ([1, 1] + [0] * 10, "outer: 3, repeats: 30, stratum: ''", {}, DataError, "negative in all 8 subjects"),
        (HALVES, "scheme: site_out", {}, UsageError, "at least two sites; got 12 subjects of site A"),
        (HALVES, "scheme: few_labels, n_labelled: 20", {}, UsageError, "got 20 of 12"),
        (HALVES, "scheme: few_labels, n_labelled: 11", {}, UsageError, "at most 7 labelled"),
        (HALVES[3:9], "scheme: few_labels, n_labelled: 2, outer: 5", {}, UsageError, "at least 7 subjects"),
        (HALVES, "outer: 5, stratum: out", {"family": list("abcd") * 3}, UsageError, "got 4"),
        ([1, 0, 1, 0, 0], "repeats: 1, outer: 5, inner: 5", {}, UsageError, "at least 5; got 4"),
    ],
)
def test_the_remedy_of_a_split_names_its_line_and_works(
    lab: Lab, values: list[int], splits: str, others: dict[str, list[str]], error: type[ConnectomeTLError], said: str
) -> None:
    study = lab("binary", values, splits, **others)
    with pytest.raises(ConnectomeTLError, match=said) as found:
        run_study(study, study.parent / "out")
    assert type(found.value) is error
    (problem,) = found.value.problems
    assert problem.line == (6 if error is DataError else 2)
    changed = dict(re.findall(r"splits\.(\w+)(?:: | to )(\w+)", str(problem.remedy)))
    assert changed
    plan(study, **changed)


@pytest.mark.parametrize("splits", ["repeats: 1, outer: 2", "repeats: 1, outer: 5"])
def test_two_families_are_too_few_for_any_folds(lab: Lab, splits: str) -> None:
    with pytest.raises(ConnectomeTLError, match=r"one family only|three families or more"):
        plan(lab("binary", [1, 0] * 6, splits, family=["a"] * 6 + ["b"] * 6))


def test_three_subjects_with_three_folds_can_be_learned(lab: Lab) -> None:
    assert plan(lab("regression", [1.0, 2.0, 3.0])).n_repeats == 1
    with pytest.raises(DataError, match=r"Set splits\.outer: 3"):
        plan(lab("regression", [1.0, 2.0, 3.0], "repeats: 1, outer: 2"))


def test_an_outcome_that_is_constant_in_the_source_is_refused(lab: Lab) -> None:
    study = lab("regression", np.arange(12.0).tolist())
    text = (study.parent / "cohort.yaml").read_text()
    table = pd.read_csv(study.parent / "sheet.csv")
    table.assign(score=[7.0] * 8 + [None] * 4).to_csv(study.parent / "older.csv", index=False)
    (study.parent / "older.yaml").write_text(text.replace("sheet", "older").replace("lab", "older", 1))
    study.write_text("source: {cohort: older.yaml, tasks: [out]}\n" + study.read_text())
    with pytest.raises(DataError, match="7 in all 8 subjects") as found:
        plan(study)
    (problem,) = found.value.problems
    assert (problem.file, problem.line) == (study.parent / "older.yaml", 6)
    assert "source.tasks" in str(problem.remedy)


def test_other_spellings_of_levels_are_noted(lab: Lab) -> None:
    study = lab("ordinal", ["mild", "moderate", "Severe"] * 4)
    settings = load_settings(study, StudySettings)
    target = read_cohorts(settings, study.parent).target
    assert target.targets["out"].max() == 2
    assert any("Severe as severe" in note for note in target.notes)
