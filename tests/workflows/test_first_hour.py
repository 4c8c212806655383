"""`init --from TABLE --matrices FOLDER`: a lab's own files to a cohort that can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from connectome_tl.cli.app import app
from connectome_tl.cohort.guesses import guess_columns, id_pattern, negative_level
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, MissingInputError, OutputError, UsageError
from connectome_tl.settings.study import StudySettings
from connectome_tl.workflows.starting.questions import Question
from connectome_tl.workflows.starting.start import start_from

N = 30


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A messy sheet (semicolons, odd names, blanks) in shuffled order, and matrices without names."""
    rng = np.random.default_rng(0)
    (tmp_path / "mats" / "deep").mkdir(parents=True)
    ids = [f"PT{i:03d}" for i in range(N)]
    for one in ids:
        counts = rng.poisson(3, (90, 90)) * rng.integers(0, 40, (90, 90))
        np.savetxt(
            tmp_path / "mats" / "deep" / f"sub-{one}_fbc.csv", np.triu(counts, 1) + np.triu(counts, 1).T, "%d", ","
        )
    table = pd.DataFrame(
        {
            "Notes": "",
            "Record ID": ids,
            "GA (weeks)": rng.uniform(24, 32, N).round(1),
            "PMA at scan": rng.uniform(38, 44, N).round(1),
            "Sex": rng.choice(["M", "F"], N),
            "Hospital": rng.choice(["A", "B"], N),
            "mean FD": rng.uniform(0.1, 0.6, N).round(3),
            "Bayley3 cognitive": rng.normal(88, 12, N).round().clip(55, 140),
            "ventilation_days": rng.integers(0, 60, N),
            "CP": ["no", "yes", "no"] * (N // 3),
        }
    )
    table.sample(frac=1, random_state=1).to_csv(tmp_path / "sheet.csv", sep=";", index=False)
    return tmp_path


def _start(lab: Path, answers: dict[str, str] | None = None, **more: str) -> Path:
    start_from(lab / "sheet.csv", lab / "mats", lab / "study", answers=answers or {"atlas": "aal90"}, ask=None, **more)
    return lab / "study" / "cohort.yaml"


def test_the_written_cohort_is_read_with_all_its_matrices(lab: Path) -> None:
    cohort = read_cohort(_start(lab))
    assert cohort.n_subjects == N
    assert cohort.atlas == "aal90"
    assert {task.name: task.kind for task in cohort.tasks} == {
        "Bayley3_cognitive_below_85": "binary",
        "Bayley3_cognitive": "regression",
        "CP": "binary",
    }
    assert [spec.column for spec in cohort.covariate_specs] == ["GA (weeks)", "Sex", "mean FD"]
    assert cohort.age_unit == "weeks"
    assert cohort.age_reference == "postmenstrual"
    # Each row has its own matrix and its own cells, whatever the order of the sheet.
    sheet = pd.read_csv(lab / "sheet.csv", sep=";").set_index("Record ID")
    known = cohort.targets["Bayley3_cognitive"]
    assert (known == sheet.loc[[one.removeprefix("sub-") for one in cohort.ids], "Bayley3 cognitive"].to_numpy()).all()


def test_the_written_study_is_valid(lab: Path) -> None:
    _start(lab)
    assert load_settings(lab / "study" / "study.yaml", StudySettings).target.cohort == "cohort.yaml"


def test_a_covariate_of_unknown_date_is_not_used(lab: Path) -> None:
    text = _start(lab).read_text()
    assert "# - {column: ventilation_days}" in text


def test_what_the_files_leave_open_is_asked_and_never_guessed(lab: Path) -> None:
    table = pd.read_csv(lab / "sheet.csv", sep=";").rename(columns={"PMA at scan": "age", "CP": "group2 outcome"})
    table["group2 outcome"] = table["group2 outcome"].map({"no": "alpha", "yes": "beta"})
    table.to_csv(lab / "sheet.csv", sep=";", index=False)
    with pytest.raises(UsageError) as error:
        _start(lab, {"atlas": "aal90"})
    said = str(error.value)
    assert "--answer 'age_unit=...'" in said
    assert "--answer 'positive:group2 outcome=...'" in said
    asked: list[str] = []

    def ask(question: Question) -> str:
        asked.append(question.key)
        return {"age_unit": "weeks", "age_reference": "postmenstrual", "positive:group2 outcome": "alpha"}[question.key]

    start_from(lab / "sheet.csv", lab / "mats", lab / "study", answers={"atlas": "aal90"}, ask=ask)
    assert asked == ["age_unit", "age_reference", "positive:group2 outcome"]
    assert 'levels: ["beta", "alpha"]' in (lab / "study" / "cohort.yaml").read_text()


def test_a_wrong_answer_and_an_unknown_question_are_refused(lab: Path) -> None:
    with pytest.raises(UsageError, match="one of"):
        _start(lab, {"atlas": "nonsense"})
    with pytest.raises(UsageError, match="no such question: colour"):
        _start(lab, {"atlas": "aal90", "colour": "red"})


def test_files_that_exist_are_not_overwritten(lab: Path) -> None:
    _start(lab)
    with pytest.raises(OutputError, match="exists already"):
        _start(lab)


def test_files_of_other_people_are_refused_with_an_example(lab: Path) -> None:
    table = pd.read_csv(lab / "sheet.csv", sep=";")
    table["Record ID"] = [f"X{i}" for i in range(N)]
    table.to_csv(lab / "sheet.csv", sep=";", index=False)
    with pytest.raises(DataError, match="no column of the table holds ids"):
        _start(lab)
    with pytest.raises(MissingInputError):
        start_from(lab / "sheet.csv", lab / "nothing", lab, answers={}, ask=None)


def test_the_command_writes_checks_and_names_the_next_step(lab: Path) -> None:
    arguments = ["init", str(lab / "out"), "--from", str(lab / "sheet.csv"), "--matrices", str(lab / "mats")]
    found = CliRunner().invoke(app, [*arguments, "--answer", "atlas=aal90"])
    assert found.exit_code == 0, found.output
    assert "90 regions (aal90)" in found.output
    assert "connectome-tl run" in found.output


@pytest.mark.parametrize(
    ("name", "cells", "meaning", "unit"),
    [
        ("scanAge_years", ["3.1", "4", "5.5"], "age", "years"),
        ("Age", ["30", "41", "42"], "age", None),
        ("pma", ["40,1", "41", "42"], "age", "weeks"),
        ("maternal_age", ["30", "41", "42"], "covariate", None),
        ("gestational_age", ["24", "25", "26"], "gestational_age", None),
        ("site", ["1", "2", "2"], "site", None),
        ("bsid_iii_motor", ["85", "100", "90"], "outcome", None),
        ("outcome_status", ["lost", "seen", "seen"], "status", None),
    ],
)
def test_columns_are_recognised_by_name_and_cells(name: str, cells: list[str], meaning: str, unit: str | None) -> None:
    found = guess_columns(pd.DataFrame({name: cells}, dtype=str), [])[0]
    assert (found.meaning, found.unit) == (meaning, unit)


def test_the_id_column_is_that_whose_cells_are_whole_parts_of_file_names() -> None:
    table = pd.DataFrame({"n": ["1", "2", "3"], "code": ["A1", "A2", "A11"]}, dtype=str)
    files = ["A1/A1_conn.csv", "A2/A2_conn.csv", "A11/A11_conn.csv", "A1/other1.txt"]
    assert id_pattern(table, files) == ("code", (("{id}/{id}_conn.csv", 3),))


def test_a_negative_level_is_known_by_its_word_only() -> None:
    assert negative_level(("ASD", "control")) == "control"
    assert negative_level(("a", "b")) is None
    assert negative_level(("0", "no")) is None
