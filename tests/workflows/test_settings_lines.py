"""Errors of meaning, not only of spelling, name the file and the line of the setting that they are about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import ConnectomeTLError, DataError, UsageError
from connectome_tl.settings_lines import with_lines
from connectome_tl.workflows.study.run import run_study

pytestmark = pytest.mark.usefixtures("without_figures")

COHORT = """\
name: lab
participants: sheet.csv
age: {column: pma, unit: weeks, reference: postmenstrual}
covariates:
  - {column: sex, type: categorical}
outcomes:
  - {name: cognitive, column: score, kind: regression, unit: points}
connectomes:
  files: "{id}.csv"
  labels: numbered
"""
STUDY = """\
title: lab
target:
  cohort: cohort.yaml
  tasks: [cognitive]
splits: {repeats: 1, outer: 2}
stages: {finetune: {training: {steps: 1}}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    ids = [f"P{i}" for i in range(12)]
    for one in ids:
        upper = np.triu(rng.gamma(1, 2, (6, 6)), 1)
        np.savetxt(tmp_path / f"{one}.csv", upper + upper.T, delimiter=",")
    table = {
        "participant_id": ids,
        "pma": rng.uniform(38, 44, 12),
        "sex": ["F", "M"] * 6,
        "score": rng.normal(100, 15, 12),
    }
    pd.DataFrame(table).to_csv(tmp_path / "sheet.csv", index=False)
    (tmp_path / "cohort.yaml").write_text(COHORT)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "right", "wrong", "line"),
    [
        ("cohort.yaml", "labels: numbered", "atlas: aal91", 10),
        ("cohort.yaml", "labels: numbered", "labels: regions.tsv", 10),
        ("cohort.yaml", "column: pma", "column: pmaa", 3),
        ("cohort.yaml", "column: sex", "column: sexx", 5),
        ("cohort.yaml", "column: score", "column: scores", 7),
        ("cohort.yaml", "participants: sheet.csv", "participants: sheets.csv", 2),
        ("study.yaml", "[cognitive]", "[cognitiv]", 4),
        ("study.yaml", "cohort: cohort.yaml", "cohort: chort.yaml", 3),
        ("study.yaml", "outer: 2", "outer: 50", 5),
        ("study.yaml", "outer: 2", "outer: 2, stratum: hospital", 5),
    ],
)
def test_the_line_is_named(lab: Path, file: str, right: str, wrong: str, line: int) -> None:
    text = (lab / file).read_text()
    assert right in text
    (lab / file).write_text(text.replace(right, wrong))
    with pytest.raises(ConnectomeTLError) as found:
        run_study(lab / "study.yaml", lab / "out")
    (problem,) = found.value.problems
    place = problem.named_in or f"{problem.file}, line {problem.line}"
    assert place.startswith(f"{lab / file}, line {line}"), str(found.value)
    assert place in str(found.value)


def test_a_quoted_word_that_two_settings_hold_and_problems_of_subjects_name_no_line(lab: Path) -> None:
    (lab / "cohort.yaml").write_text(COHORT.replace("column: score", "column: pma"))
    twice = DataError("there is no column 'pma'")
    assert with_lines(twice, lab / "cohort.yaml") is twice
    of_subject = DataError("column 'sex' is empty", subject="P1")
    assert with_lines(of_subject, lab / "cohort.yaml") is of_subject
    assert with_lines(UsageError("'lab' is wrong"), lab / "cohort.yaml").problems[0].line is None  # a title


def test_the_right_settings_are_read(lab: Path) -> None:
    assert read_cohort(lab / "cohort.yaml").n_subjects == 12


def test_text_in_a_column_of_numbers_is_refused_with_a_remedy_that_works(lab: Path) -> None:
    table = pd.read_csv(lab / "sheet.csv").astype({"score": object})
    table.loc[2, "score"], table.loc[5, "score"] = "unscorable", "refused"
    table.to_csv(lab / "sheet.csv", index=False)
    with pytest.raises(DataError, match=r"missing: \['unscorable', 'refused'\]"):
        read_cohort(lab / "cohort.yaml")
    (lab / "cohort.yaml").write_text(COHORT + "missing: ['unscorable', 'refused']\n")
    assert int(read_cohort(lab / "cohort.yaml").targets["cognitive"].notna().sum()) == 10
