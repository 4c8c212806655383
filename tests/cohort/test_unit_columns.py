"""Units in columns of their own, ages in hours, missing headers and merged cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError, MissingInputError

PMA = "age: {column: age, unit: weeks, reference: postmenstrual}\n"
X = "covariates: [{column: x}]\n"


def read(folder: Path, header: str, rows: list[str], settings: str) -> Cohort:
    lines = [header, *rows] if header else rows
    (folder / "p.tsv").write_text("".join(line.replace(" | ", "\t") + "\n" for line in lines))
    (folder / "cohort.yaml").write_text("participants: p.tsv\n" + settings)
    return read_cohort(folder / "cohort.yaml")


@pytest.mark.parametrize(
    ("name", "units", "settings", "said"),
    [
        ("age_unit", "wks wks days wks", PMA, r"c: days|subject c.*than weeks, says column 'age_unit'; got days"),
        (
            "Units of age",
            "months months months months",
            PMA,
            "Set this unit for the column, or convert its .* to weeks",
        ),
        ("age unit", "Wochen weeks w semaines", PMA, ""),
        ("age_units", "weeks weeks h weeks", PMA, "got h. Convert these numbers to weeks"),
        ("x_unit", "g g kg g", "covariates: [{column: x}]\n", "than g, says column 'x_unit'; got kg"),
        ("x_unit", "kg kg kg kg", "covariates: [{column: x, unit: g}]\n", "convert its numbers to g"),
        ("Einheit x", "g n/a g g", "covariates: [{column: x, unit: grams}]\n", ""),
        ("unit", "NICU ward NICU ward", X, ""),
    ],
)
def test_a_column_of_units_agrees_with_the_declared_unit(
    tmp_path: Path, name: str, units: str, settings: str, said: str
) -> None:
    rows = [
        f"{i} | {age} | {age} | {unit}" for i, age, unit in zip("abcd", (40, 41, 39, 38), units.split(), strict=True)
    ]
    if said:
        with pytest.raises(DataError, match=said):
            read(tmp_path, f"participant_id | age | x | {name}", rows, settings)
    else:
        assert read(tmp_path, f"participant_id | age | x | {name}", rows, settings).n_subjects == 4


@pytest.mark.parametrize("cell", ["{}", "{} h", "{} hours"])
def test_ages_in_hours_are_converted(tmp_path: Path, cell: str) -> None:
    rows = [f"s{i} | {cell.format(24 * i)} | 30+0" for i in range(1, 5)]
    settings = "age: {column: age, unit: hours, to: postmenstrual}\ngestational_age: {column: ga, unit: weeks}\n"
    cohort = read(tmp_path, "participant_id | age | ga", rows, settings)
    np.testing.assert_allclose(cohort.age / (24 * 7), 30 + np.arange(1, 5) / 7)


@pytest.mark.parametrize("name", ["age_h", "age (h)", "age_hours", "Alter [h]"])
def test_a_column_named_after_hours_is_not_in_days(tmp_path: Path, name: str) -> None:
    settings = f"age: {{column: '{name}', unit: days}}\n"
    with pytest.raises(DataError, match=r"expected hours.*Set unit: hours"):
        read(tmp_path, f"participant_id | {name}", [f"s{i} | {24 * i}" for i in range(1, 5)], settings)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            ["sub-01 | 40.1 | 1", "sub-02 | 41.2 | 2", "sub-03 | 39 | 3"],
            "has no header: its first line, sub-01, 40.1, 1",
        ),
        (["1 | 40,1 | 3", "2 | 41,2 | 4"], "has no header"),
        (["1 | 40 | 1", "2 | 41 | 3"], "column '1' occurs twice.*Is the first line a header"),
        (["who | 2019 | 2020", "anna | 40 | 1999"], "column 'participant_id' is not in the table"),
    ],
)
def test_a_missing_header_is_named(tmp_path: Path, rows: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, "", rows, PMA + X)


def test_a_column_of_words_read_as_numbers_is_answered_with_the_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="type: categorical"):
        read(tmp_path, "participant_id | x", ["a | yes", "b | no"], X)


@pytest.mark.parametrize(
    ("path", "said"),
    [("~/p.tsv", "complete path"), ("https://a.b/p.tsv", "Download it"), (r"'C:\data\p.tsv'", "Write the path with /")],
)
def test_a_path_of_another_place_is_answered_with_what_to_write(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "cohort.yaml").write_text(f"participants: {path}\n")
    with pytest.raises(MissingInputError, match=said):
        read_cohort(tmp_path / "cohort.yaml")


def test_a_family_code_is_not_made_a_missing_value_of_all_columns(tmp_path: Path) -> None:
    rows = ["a | 0 | 0", "b | 1 | 0", "c | 2 | 0", "d | 3 | 1", "e | 4 | 1"]
    settings = "family: fam\ncovariates: [{column: x}]\n"
    with pytest.raises(DataError, match="Leave the cells without a family empty"):
        read(tmp_path, "participant_id | x | fam", rows, settings)
    cohort = read(tmp_path, "participant_id | x | fam", [row.removesuffix("0") for row in rows], settings)
    assert list(cohort.covariates["x"]) == [0, 1, 2, 3, 4]


def test_sites_and_families_of_merged_cells_are_not_lost_in_silence(tmp_path: Path) -> None:
    rows = ["a | 1 | K", "b | 2 | ", "c | 3 | L", "d | 4 | "]
    with pytest.raises(DataError, match=r"each site is in one row, and 2 rows without .*write the site into every row"):
        read(tmp_path, "participant_id | x | place", rows, "site: place\n")
    notes = read(tmp_path, "participant_id | x | place", rows, "family: place\n").notes
    assert any("each family is in one row" in note for note in notes)
