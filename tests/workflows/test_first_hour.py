"""`init --from TABLE --matrices FOLDER`: from a lab's files to a readable cohort."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from connectome_tl.cli.entry import app
from connectome_tl.cohort.columns.file_ids import id_pattern
from connectome_tl.cohort.columns.guesses import guess_columns, negative_level
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, MissingInputError, OutputError, UsageError
from connectome_tl.settings.study import StudySettings
from connectome_tl.workflows.init.from_files import start_from
from connectome_tl.workflows.init.look import _transform
from connectome_tl.workflows.init.questions import Question

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
    start_from(
        [lab / "sheet.csv"], lab / "mats", lab / "study", answers=answers or {"atlas": "aal90"}, ask=None, **more
    )
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
    # Each row has its own matrix and cells, for any order of the sheet.
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
        if question.key in ("outcomes", "age"):
            return str(question.default)
        return {"age_unit": "weeks", "age_reference": "postmenstrual", "positive:group2 outcome": "alpha"}[question.key]

    start_from([lab / "sheet.csv"], lab / "mats", lab / "study", answers={"atlas": "aal90"}, ask=ask)
    assert asked == ["outcomes", "age", "age_unit", "age_reference", "positive:group2 outcome"]
    assert 'levels: ["beta", "alpha"]' in (lab / "study" / "cohort.yaml").read_text()


def test_the_origin_of_an_age_in_weeks_is_never_assumed(lab: Path) -> None:
    sheet = pd.read_csv(lab / "sheet.csv", sep=";").rename(columns={"PMA at scan": "age"})
    sheet.to_csv(lab / "sheet.csv", sep=";", index=False)
    with pytest.raises(UsageError, match=r"from when are the weeks counted.*age_reference"):
        _start(lab, {"atlas": "aal90", "age_unit": "weeks"})
    assert read_cohort(_start(lab, {"atlas": "aal90", "age_unit": "months"})).age_reference == "birth"


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
        start_from([lab / "sheet.csv"], lab / "nothing", lab, answers={}, ask=None)


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


@pytest.mark.parametrize(
    ("values", "transform"),
    [
        ([0, 3, 4, 9], "log1p"),  # small counts
        ([0, 0.2, 0.3, 40.5], "log1p"),  # sums of weights
        ([0, 1, 0, 1], "none"),
        ([0.1, 0.4, 0.3, 0.5], "none"),  # FA
        ([1.0, -0.4, 0.3, 0.5], "fisher_z"),
        ([-3.0, -2.0, 4.0, 5.0], "none"),
        ([0, 0, 0, np.nan], "none"),
    ],
)
def test_counts_and_correlations_are_transformed(values: list[float], transform: str) -> None:
    assert _transform(np.array(values).reshape(2, 2)) == transform


def test_a_negative_level_is_known_by_its_word_only() -> None:
    assert negative_level(("ASD", "control")) == "control"
    assert negative_level(("a", "b")) is None
    assert negative_level(("0", "no")) is None
    assert negative_level(("NDI", "No NDI")) == "No NDI"
    assert negative_level(("no NDI", "no delay")) is None


def test_levels_that_pandas_wrote_as_numbers_are_those_of_the_sheet(lab: Path) -> None:
    sheet = pd.read_csv(lab / "sheet.csv", sep=";")
    sheet["CP"] = sheet["CP"].map({"no": 0.0, "yes": 1.0})
    sheet.loc[0, "CP"] = np.nan
    sheet.to_csv(lab / "sheet.csv", sep=";", index=False)
    assert "1.0" in (lab / "sheet.csv").read_text()
    cohort = read_cohort(_start(lab))
    assert next(task.levels for task in cohort.tasks if task.name == "CP") == ("0", "1")
    known = sheet.set_index("Record ID").loc[[one.removeprefix("sub-") for one in cohort.ids], "CP"].to_numpy()
    np.testing.assert_array_equal(cohort.targets["CP"], known)
    assert not [note for note in cohort.notes if "other spellings" in note]


def test_a_score_with_a_code_for_missing_has_its_class_too(lab: Path) -> None:
    sheet = pd.read_csv(lab / "sheet.csv", sep=";")
    sheet.loc[[0, 7], "Bayley3 cognitive"] = -99
    sheet.to_csv(lab / "sheet.csv", sep=";", index=False)
    cohort = read_cohort(_start(lab))
    below = cohort.targets["Bayley3_cognitive_below_85"]
    assert np.isnan(below).sum() == 2
    assert "# " + f"{int(np.nansum(below))} of {N - 2}" in (lab / "study" / "cohort.yaml").read_text()


def test_without_a_known_outcome_the_columns_and_the_option_are_named_and_work(lab: Path) -> None:
    sheet = pd.read_csv(lab / "sheet.csv", sep=";")
    sheet = sheet[["Record ID", "Sex", "Notes"]].assign(haemorrhage=sheet["CP"].map({"no": 0.0, "yes": 1.0}))
    sheet.to_csv(lab / "sheet.csv", sep=";", index=False)
    command = ["init", str(lab / "s"), "--from", str(lab / "sheet.csv"), "--matrices", str(lab / "mats")]
    command += ["--answer", "atlas=aal90"]
    first = CliRunner().invoke(app, command)
    said = " ".join(first.output.split())
    assert f"delete {lab / 's' / 'cohort.yaml'} and repeat the command with --answer outcomes=COLUMN" in said
    assert "Sex, haemorrhage" in said
    (lab / "s" / "cohort.yaml").unlink()
    second = CliRunner().invoke(app, [*command, "--answer", "outcomes=haemorrhage"])
    assert second.exit_code == 0, second.output
    assert (lab / "s" / "study.yaml").is_file()


def test_a_person_may_say_which_columns_are_outcomes_and_which_is_the_age(lab: Path) -> None:
    sheet = pd.read_csv(lab / "sheet.csv", sep=";").assign(**{"scanned, weeks": 40.5, "Nr": range(1, N + 1)})
    sheet.to_csv(lab / "sheet.csv", sep=";", index=False)
    said = {
        "atlas": "aal90",
        "outcomes": "ventilation_days, CP",
        "age": "scanned, weeks",
        "age_reference": "postmenstrual",
    }
    text = _start(lab, said).read_text()
    assert 'age: {column: "scanned, weeks", unit: weeks, reference: postmenstrual}' in text
    assert "name: ventilation_days, column: ventilation_days, kind: regression" in text
    assert "Bayley3_cognitive" not in text
    assert "Nr" not in text  # a row number is not a covariate
    with pytest.raises(UsageError, match="no column 'CPs'"):
        _start(lab, {"outcomes": "CPs"})
    with pytest.raises(UsageError, match="neither numbers nor a few levels"):
        _start(lab, {"outcomes": "Notes"})


def test_on_a_terminal_it_asks_and_elsewhere_it_does_not(lab: Path) -> None:
    """Run on a pseudo-terminal; return accepts the default answer."""
    import os
    import pty
    import subprocess
    import sys

    ours, theirs = pty.openpty()
    arguments = ["init", "out", "--from", "sheet.csv", "--matrices", "mats"]
    command = [sys.executable, "-m", "connectome_tl.cli", *arguments]
    os.write(ours, b"\n\naal90\n" + 5 * b"\n")  # outcomes, age: default; the atlas; the rest: default
    asked = subprocess.run(command, cwd=lab, stdin=theirs, capture_output=True, text=True, timeout=100, check=False)
    os.close(ours)
    os.close(theirs)
    assert asked.returncode == 0, asked.stderr
    for question in ("Which columns are outcomes", "Which column is the age at scan", "which atlas"):
        assert question in asked.stderr
    assert "atlas: aal90" in (lab / "out" / "cohort.yaml").read_text()


def test_own_matrices_and_a_messy_sheet_of_abide_become_a_report(shared_data: Path, tmp_path: Path) -> None:
    """The first hour needs two commands, no edited file, and leaves no open question."""
    n, folder = 24, shared_data / "abide_fc_aal116"
    table = pd.read_csv(folder / "participants.tsv", sep="\t", dtype=str)
    rows = np.random.default_rng(0).permutation(np.flatnonzero(table["age"].astype(float) < 13))[:n]
    with np.load(folder / "fc_upper_f16.npz") as stored:
        edges = stored["fc"][rows].astype(float)
    (tmp_path / "mats").mkdir()
    first, second = np.triu_indices(116, 1)
    some = table.iloc[rows].reset_index(drop=True)
    for one, values in list(zip(some["sub"], edges, strict=True))[:-1]:  # the last has no file
        matrix = np.eye(116)
        matrix[first, second] = matrix[second, first] = values
        np.savetxt(tmp_path / "mats" / f"sub-{one}_fc.csv", matrix, "%.4f", ",")
    comma = some["age"].str.replace(".", ",")
    sheet = pd.DataFrame(
        {
            "Nr": range(1, n + 1),
            "Subject ID": some["sub"],
            "Age (years)": comma,
            "Sex": [["M", "male ", "Male"][k % 3] if one == "M" else "F" for k, one in enumerate(some["sex"])],
            "Diagnosis": [["ASD", "asd"][k % 2] if one == "ASD" else "Control" for k, one in enumerate(some["dx"])],
            "mean FD": some["mean_fd"].str.replace(".", ",").str[:6],
            "Comments": ["moved; repeat?" if k % 5 == 0 else "" for k in range(n)],
        }
    )
    (tmp_path / "sheet.csv").write_text("\n" + sheet.to_csv(sep=";", index=False), encoding="utf-8-sig")
    study, runner = tmp_path / "study", CliRunner()
    made = runner.invoke(
        app, ["init", str(study), "--from", str(tmp_path / "sheet.csv"), "--matrices", str(tmp_path / "mats")]
    )
    assert made.exit_code == 0, made.output
    assert "23 children, 116 regions (aal116)" in made.output
    assert "spellings of one category were read as one" in made.output
    short = ["splits.repeats=1", "splits.outer=2", "permutations=0", "refits.linear=0", "controls=[]", "n_jobs=1"]
    short += [
        "stages.finetune.training.steps=2",
        "stages.finetune.ensemble.networks=2",
        "baselines=[prevalence, ridge]",
    ]
    options = [part for one in short for part in ("--set", one)]
    began = time.perf_counter()
    done = runner.invoke(app, ["run", str(study / "study.yaml"), "--out", str(tmp_path / "results"), *options])
    print(f"First hour: the run itself took {time.perf_counter() - began:.0f} s")  # pytest -s or -rP shows it
    assert done.exit_code == 0, done.output
    assert "Report:" in done.output
    predictions = pd.read_csv(tmp_path / "results" / "predictions.tsv", sep="\t", dtype={"subject": str})
    truth = predictions.drop_duplicates("subject").set_index("subject")["y_true"]
    assert len(truth) == n - 1
    for one, diagnosis in zip(some["sub"][:-1], some["dx"][:-1], strict=True):
        assert truth[one] == (diagnosis == "ASD")


@pytest.mark.parametrize(
    ("scores", "setting"),
    [
        (np.random.default_rng(0).normal(size=N).round(2), "unit: z,"),
        (np.arange(N) % 19 + 1, "unit: scaled,"),
        (np.arange(N) % 60 + 70, "unit: points,"),
    ],
)
def test_the_scale_of_a_score_is_written_and_passes_the_check(lab: Path, scores: np.ndarray, setting: str) -> None:
    sheet = pd.read_csv(lab / "sheet.csv", sep=";")
    sheet["Bayley3 cognitive"], sheet["CP"] = scores, ["0", "1", "9"] * 10
    sheet.to_csv(lab / "sheet.csv", sep=";", index=False)
    written = _start(lab, {"atlas": "aal90", "positive:CP": "1"})
    assert setting in written.read_text("utf-8")
    cohort = read_cohort(written)
    assert np.isfinite(cohort.targets["Bayley3_cognitive"]).all()
    assert cohort.targets["CP"].isna().sum() == 10


def test_composite_scores_are_no_z_scores(lab: Path) -> None:
    written = _start(lab)
    written.write_text(written.read_text("utf-8").replace("unit: points", "unit: z"))
    with pytest.raises(DataError, match="range of z scores"):
        read_cohort(written)
