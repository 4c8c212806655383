"""Spellings in several languages, points of thousands, codes with decimals, weeks and days, deaths, levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.columns.categories import covariate_categories
from connectome_tl.cohort.columns.numeric import read_numbers
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.tables.cells import Marks
from connectome_tl.errors import DataError


def numbers(cells: list[str], **more: object) -> tuple[list[float], Findings]:
    findings = Findings()
    column = pd.Series(cells, name="x", dtype="str")
    found = read_numbers(column, [str(i) for i in range(len(cells))], "t.csv", findings, **more)  # type: ignore[arg-type]
    return list(found.values), findings


def categories(cells: list[str], name: str = "x", levels: dict[str, str] | None = None) -> tuple[list[str], Findings]:
    findings = Findings()
    column = pd.Series(cells, name=name, dtype="str")
    return covariate_categories(column, levels or {}, [str(i) for i in range(len(cells))], "t.csv", findings), findings


def test_points_that_may_separate_thousands_are_refused_and_the_remedies_work() -> None:
    cells = ["1.250", "980", "1.480", "760"]
    _, findings = numbers(cells)
    assert "can be read in two ways" in str(findings.problems[0])
    assert numbers(cells, marks=Marks(decimal=","))[0] == [1250, 980, 1480, 760]
    assert numbers(cells, marks=Marks(decimal="."))[0] == [1.25, 980, 1.48, 760]


@pytest.mark.parametrize(
    "cells",
    [
        ["1.250", "0.980", "1.480"],
        ["1.250", "1.480"],
        ["1.250", "1480"],
        ["1.250", "3.5", "2"],
        ["12", "13.125", "2.0001"],
    ],
)
def test_points_that_are_decimal_are_read(cells: list[str]) -> None:
    found, findings = numbers(cells)
    assert not findings.problems
    assert found == [float(cell) for cell in cells]


@pytest.mark.parametrize("code", ["-99.9", "-9.9", "-999.9", "999.9", "99.9"])
def test_a_missing_code_with_a_decimal_is_missing_where_it_is_far_away(code: str) -> None:
    found, findings = numbers(["1.5", "2.5", code, "3.1"])
    assert np.isnan(found[2])
    assert "read as missing" in " ".join(findings.notes)
    assert numbers(["97.2", "99.9", "98.1"])[0][1] == 99.9
    assert numbers(["-97", "-99.9", "-98"])[0][1] == -99.9


@pytest.mark.parametrize("codes", [["-99", "-98"], ["997", "998", "996"], ["-555", "666"], ["-97", "-97"]])
def test_codes_of_several_kinds_of_missing_are_missing_together(codes: list[str]) -> None:
    found, _ = numbers(["1.5", "2.5", "3.1", *codes])
    assert np.isnan(found[3:]).all()
    assert found[:3] == [1.5, 2.5, 3.1]


@pytest.mark.parametrize(
    ("cells", "note"),
    [
        (["1", "2", "5", "9", "3"], "9 above values up to 5; if it means missing"),
        (["34", "33", "33.5", "340", "35"], "340 is far from all other values"),
        (["12", "14", "11", "-2147483648", "13"], "-2.14748e+09 is far from all other values"),
        (["1", "2", "7", "3", "4"], ""),
        (["1", "2.5", "9", "3", "4"], ""),
        (["12", "14", "11", "40", "13"], ""),
    ],
)
def test_values_that_may_be_codes_are_kept_and_noted(cells: list[str], note: str) -> None:
    found, findings = numbers(cells)
    assert found == [float(cell) for cell in cells]
    assert bool(findings.notes) == bool(note)
    assert note in " ".join(findings.notes)


@pytest.mark.parametrize(
    "cell", ["38 4/7 weeks", "38 semanas 4 dias", "38 settimane e 4 giorni", "38 weken en 4 dagen", "38 sem 4 j"]
)
def test_weeks_and_days_in_several_languages(cell: str) -> None:
    assert numbers([cell, "40"], unit="weeks")[0][0] == pytest.approx(38 + 4 / 7)


def test_tenths_of_weeks_that_may_be_days_are_noted() -> None:
    found, findings = numbers(["40.3", "38+6", "41.0"], unit="weeks")
    assert found == pytest.approx([40.3, 38 + 6 / 7, 41])
    assert "40.3 was read as tenths of a week" in findings.notes[0]
    assert "write 40+3" in findings.notes[0]
    ages = [f"{24 + i // 7}.{i % 7}" for i in range(20)]
    assert "write 24+0" in numbers(ages, unit="weeks")[1].notes[0]
    for cells, unit in (
        ([*ages, "30.8"], "weeks"),
        (ages, "months"),
        (["40.3", "38+6", "41.8"], "weeks"),
        (ages[:5], "weeks"),
    ):
        assert not numbers(cells, unit=unit)[1].notes


@pytest.mark.parametrize("censored", [None, "limit", "missing"])
def test_a_limit_that_is_no_number_is_text(censored: str | None) -> None:
    found, findings = numbers(["60", "<1st"], censored=censored)
    if censored == "missing":
        assert not findings.problems
        assert np.isnan(found[1])
    else:
        assert "holds text" in str(findings.problems[0])


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("sex_at_birth", ["M", "Male", "f", "Female"]),
        ("baby sex", ["m.", "männlich", "w", "weiblich"]),
        ("Sexe", ["M", "garçon", "F", "fille"]),
        ("sesso", ["M", "maschio", "f.", "femmina"]),
        ("infant", ["boy", "Male", "girl", "female"]),
        ("smoker", ["yes", "Ja", "no", "nein"]),
        ("fumeur", ["oui", "Yes", "non", "no"]),
    ],
)
def test_spellings_of_one_category_are_one(name: str, cells: list[str]) -> None:
    found, findings = categories(cells, name)
    assert not findings.problems
    assert found[0] == found[1] != found[2] == found[3]


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        ("sexo", ["H", "M", "H"], "both H and M"),
        ("smoker", ["1", "0", "Yes", "No"], "codes without an explanation"),
        ("sex", ["1", "male", "female"], "codes without an explanation"),
        ("kind", ["1", "2", "M", "F"], "codes without an explanation"),
        ("merkmal", ["1", "m", "w"], "codes without an explanation"),
        ("site", ["King's", "Kings", "UCL"], "one category or two"),
        ("site", ["U.C.L.", "UCL", "King"], "one category or two"),
    ],
)
def test_spellings_that_can_mean_either_are_refused(name: str, cells: list[str], message: str) -> None:
    assert message in str(categories(cells, name)[1].problems[0])


def test_more_than_two_sexes_are_noted_and_words_for_an_unknown_one_are_missing() -> None:
    found, findings = categories(["M", "F", "U", "prefer not to say"], "sex")
    assert found == ["M", "F", "", ""]
    assert "U, prefer not to say was read as missing" in findings.notes[0]
    found, findings = categories(["M", "F", "fmale", "male"], "sex")
    assert "3 sexes (F, fmale, male)" in " ".join(findings.notes)


def test_letters_of_other_columns_and_words_beside_others_stay_categories() -> None:
    assert categories(["M", "F", "W"], "ward")[0] == ["M", "F", "W"]
    found, findings = categories(["1", "2", "high"], "grade")
    assert found == ["1", "2", "high"]
    assert "grade: numbers (1, 2) and words (high) in one column" in findings.notes[0]
    assert not categories(["1a", "2b", "3"], "grade")[1].notes


@pytest.mark.parametrize("word", ["unknown", "not done", "declined"])
def test_a_level_that_means_missing_is_missing(word: str) -> None:
    found, findings = categories(["1", "2", "3"], "group", {"1": "a", "2": "b", "3": word})
    assert found == ["a", "b", ""]
    assert f"level {word!r} in 1 row is missing" in " ".join(findings.notes)


def cohort(folder: Path, outcome: str, more: str = "", **columns: list[str]) -> Path:
    table = {"participant_id": [f"P{i}" for i in range(6)], **columns}
    pd.DataFrame(table).to_csv(folder / "p.csv", index=False)
    (folder / "cohort.yaml").write_text(f"name: lab\nparticipants: p.csv\n{more}outcomes: [{outcome}]\n")
    return folder / "cohort.yaml"


SCORES = ["90", "100", "110", "95", "", ""]
COLUMNS = [
    ("vital_status", ["alive"] * 5 + ["dead"]),
    ("Death", ["0"] * 5 + ["1"]),
    ("deceased", ["no"] * 5 + ["yes"]),
    ("survived", ["yes"] * 5 + ["no"]),
    ("in_hospital_death", ["no"] * 5 + ["yes"]),
    ("death_date", [""] * 5 + ["2021-03-04"]),
    ("Tod", ["nein"] * 5 + ["ja"]),
    ("mortality_status", ["Survivor"] * 5 + ["Non-survivor"]),
    ("score_status", ["alive"] * 5 + ["Neonatal death"]),
    ("follow_up", ["ok", "followed", "ok", "ok", "lost to follow up", "verstorben"]),
]


@pytest.mark.parametrize(("name", "cells"), COLUMNS)
def test_a_death_in_any_wording_needs_a_rule_and_is_then_a_death(tmp_path: Path, name: str, cells: list[str]) -> None:
    spec = "{name: cog, column: score, kind: regression"
    with pytest.raises(DataError, match=r"no rule says what 'died' means"):
        read_cohort(cohort(tmp_path, spec + "}", score=SCORES, **{name: cells}))
    ruled = f"{spec}, status: {{column: {name}, died: missing}}}}"
    status = read_cohort(cohort(tmp_path, ruled, score=SCORES, **{name: cells})).status["cog"]
    assert list(status)[5] == "died"
    assert list(status)[:4] == ["observed"] * 4


def test_deaths_of_others_and_totals_are_no_deaths(tmp_path: Path) -> None:
    spec = "{name: cog, column: score, kind: regression}"
    with pytest.raises(DataError, match="holds text"):
        read_cohort(cohort(tmp_path, spec, score=[*SCORES[:5], "mother died"]))
    assert "died" not in list(read_cohort(cohort(tmp_path, spec, score=SCORES, tot=list("000001"))).status["cog"])


def test_a_level_of_an_outcome_that_means_missing_is_refused(tmp_path: Path) -> None:
    spec = "{name: ivh, column: ivh, kind: multiclass, levels: [none, mild, unknown]}"
    with pytest.raises(DataError, match="word for a missing value: unknown"):
        read_cohort(cohort(tmp_path, spec, ivh=["none", "mild", "none", "mild", "unknown", "none"]))


def test_a_column_that_differs_in_a_second_table_is_noted_with_an_example(tmp_path: Path) -> None:
    ids = [f"P{i}" for i in range(6)]
    pd.DataFrame({"participant_id": ids, "score": ["90", "100.0", "1", "95", "80", "n/a"]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    spec = "{name: cog, column: score, kind: regression}"
    path = cohort(tmp_path, spec, "tables: [{file: t.csv}]\n", score=["90", "100", "110", "95", "", "70"])
    notes = " ".join(read_cohort(path).notes)
    assert "score differs from the participants table in 1 row, for example '110' and here '1'" in notes
