"""A word or a code for "missing" is missing in every column; one category has one spelling, or raises a question."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from connectome_tl.cohort.splits import SplitSettings, make_split_plan

from .conftest import OnDisk

WORDS = ["-", "--", "unknown", "Unknown", "N/A", "?", "not available", "NULL", ".", "—", "missing", "\u200b", "<NA>"]


def tables_only(on_disk: OnDisk, n_rows: int = 6) -> OnDisk:
    """The cohort without matrices, its six rows repeated under new ids."""
    del on_disk.settings["connectomes"]
    on_disk.matrices = {}
    on_disk.table = {name: [cells[i % 6] for i in range(n_rows)] for name, cells in on_disk.table.items()}
    on_disk.table["participant_id"] = [f"sub-{i + 1:02d}" for i in range(n_rows)]
    on_disk.table["site"] = ["A", "B"] * (n_rows // 2)
    on_disk.settings["site"] = "site"
    return on_disk


@pytest.mark.parametrize("word", WORDS)
def test_a_word_for_missing_is_missing_in_every_kind_of_column(on_disk: OnDisk, word: str) -> None:
    tables_only(on_disk)
    for column in ("pma", "ga", "sex", "site", "family", "cog"):
        on_disk.table[column][0] = word
    on_disk.table["cog_status"][0] = word
    cohort = on_disk.read()
    assert np.isnan(cohort.age[0])
    assert cohort.covariates.iloc[0].isna().all()
    assert (cohort.site[0], cohort.family[0]) == ("", "")
    assert np.isnan(cohort.targets["cognitive"].iloc[0])
    assert cohort.status["cognitive"].iloc[0] == "unknown"


@pytest.mark.parametrize("code", ["-9", "-99", "999", "-9.0", "9999"])
def test_a_code_far_from_the_values_is_missing_in_every_kind_of_column_and_said(on_disk: OnDisk, code: str) -> None:
    tables_only(on_disk)
    on_disk.settings["outcomes"].append({"name": "dx", "column": "dx", "kind": "binary"})
    on_disk.settings["outcomes"].append({"name": "grade", "column": "grade", "kind": "ordinal", "levels": ["1", "2"]})
    on_disk.settings["outcomes"][0].pop("status")
    on_disk.table["cog"][4] = on_disk.table["cog_status"][4] = "n/a"
    on_disk.table["dx"], on_disk.table["grade"] = ["0", "1"] * 3, ["1", "2"] * 3
    columns = ("pma", "ga", "sex", "site", "family", "cog", "dx", "grade")
    for column in columns:
        on_disk.table[column][0] = code
    cohort = on_disk.read()
    assert np.isnan(cohort.age[0])
    assert cohort.covariates.iloc[0].isna().all()
    assert (cohort.site[0], cohort.family[0]) == ("", "")
    assert cohort.targets.iloc[0].isna().all()
    for column in columns:
        assert any(note.startswith(f"{column}: ") and "missing" in note for note in cohort.notes), column


def test_the_users_own_code_is_missing_everywhere_however_it_is_written(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.settings["missing"] = [-4, "KA"]
    on_disk.table["ga"][1], on_disk.table["sex"][1], on_disk.table["site"][1] = "-4.0", "ka", "KA"
    cohort = on_disk.read()
    assert cohort.covariates.iloc[1].isna().all()
    assert cohort.site[1] == ""


def test_a_word_that_is_a_level_is_no_missing_value(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["steroids"] = ["none", "full", "None", "full", "none", "n/a"]
    on_disk.settings["covariates"] = [{"column": "steroids", "type": "categorical"}]
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "'none'" in problems[0] or "'None'" in problems[0]
    on_disk.settings["covariates"][0]["levels"] = {"none": "none", "full": "full"}
    assert on_disk.read().covariates["steroids"].fillna("").tolist() == ["none", "full", "none", "full", "none", ""]
    del on_disk.settings["covariates"][0]["levels"]
    on_disk.settings["missing"] = ["none"]
    assert on_disk.read().covariates["steroids"].fillna("").tolist() == ["", "full", "", "full", "", ""]


@pytest.mark.parametrize("code", ["0", "-9", "999", "-", "none", "unknown", "Singleton", "0.0", "no", ""])
def test_those_without_kin_are_no_family_and_folds_stay_even(on_disk: OnDisk, code: str) -> None:
    tables_only(on_disk, 60)
    on_disk.table["family"] = [f"F{i // 2}" if i < 8 else code for i in range(60)]
    cohort = on_disk.read()
    assert Counter(cohort.family.tolist()) == {"": 52, "F0": 2, "F1": 2, "F2": 2, "F3": 2}
    plan = make_split_plan(cohort, SplitSettings(repeats=1, outer=5, stratum="cognitive"))
    assert all(10 <= len(fold.test) <= 14 for _, _, fold in plan.folds())


def test_families_numbered_from_zero_stay_families(on_disk: OnDisk) -> None:
    tables_only(on_disk, 12)
    on_disk.table["family"] = [str(i // 2) for i in range(12)]
    assert Counter(on_disk.read().family.tolist()) == {str(i): 2 for i in range(6)}


def test_a_family_zero_larger_than_the_others_is_asked_about(on_disk: OnDisk) -> None:
    tables_only(on_disk, 12)
    on_disk.table["family"] = ["1", "1", "2", "2", "0", "0", "0", "3", "3", "4", "4", ""]
    assert "without a family empty, or write 0 as F0" in on_disk.problems()[0]
    on_disk.settings["missing"] = ["0"]
    assert on_disk.read().family.tolist()[4:7] == ["", "", ""]
    del on_disk.settings["missing"]
    on_disk.table["family"] = [f"F{cell}" if cell == "0" else cell for cell in on_disk.table["family"]]
    assert on_disk.read().family.tolist()[4:7] == ["F0"] * 3


def test_answers_in_several_spellings_are_two_categories(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["smoker"] = ["yes", "Y", "no", "N", "TRUE", "n/a"]
    on_disk.settings["covariates"] = [{"column": "smoker", "type": "categorical"}]
    cells = on_disk.read().covariates["smoker"].fillna("").tolist()
    assert cells[0] == cells[1] == cells[4] != cells[2] == cells[3]


def test_one_huge_family_is_asked_about_and_both_answers_work(on_disk: OnDisk) -> None:
    tables_only(on_disk, 60)
    on_disk.table["family"] = [f"F{i // 2}" if i < 8 else "S" for i in range(60)]
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "one family of 52 rows" in problems[0]
    on_disk.settings["missing"] = ["S"]
    assert (on_disk.read().family == "").sum() == 52
    del on_disk.settings["missing"]
    on_disk.settings["largest_family"] = 52
    assert (on_disk.read().family == "S").sum() == 52


def test_categories_that_differ_by_case_or_blanks_are_one(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["sex"] = ["M", "m", "Male", "F", "female ", "f"]
    on_disk.table["site"] = ["Kings", "kings", "Kings ", "St  Thomas", "st thomas", "KINGS"]
    on_disk.table["family"] = ["f1", "F1", "f2", "f2\u200b", "", ""]
    cohort = on_disk.read()
    sexes = cohort.covariates["sex"].tolist()
    assert len(set(sexes[:3])) == len(set(sexes[3:])) == 1
    assert sexes[0] != sexes[3]
    assert [list(cohort.site).count(site) for site in sorted(set(cohort.site))] == [4, 2]
    assert cohort.family[0] == cohort.family[1] != cohort.family[2] == cohort.family[3]
    assert any(note.startswith("sex: spellings") for note in cohort.notes)
    assert any(note.startswith("site: spellings") for note in cohort.notes)


def test_site_out_folds_keep_both_spellings_of_a_site_on_one_side(on_disk: OnDisk) -> None:
    tables_only(on_disk, 12)
    on_disk.table["site"] = ["Kings", "kings", "Leeds"] * 4
    cohort = on_disk.read()
    of = dict(zip(cohort.ids, cohort.site, strict=True))
    for _, _, fold in make_split_plan(cohort, SplitSettings(repeats=1, scheme="site_out")).folds():
        assert not {of[one] for one in fold.test} & {of[one] for one in fold.train}


@pytest.mark.parametrize(
    ("cells", "levels"),
    [
        (["M", "F", "1", "2", "M", "F"], {"1": "M", "2": "F"}),
        (["0", "1", "2", "1", "2", "1"], {"0": "undetermined", "1": "M", "2": "F"}),
        (["1", "2", "9", "1", "2", "1"], {"1": "male", "2": "female", "9": "other"}),
    ],
)
def test_codes_of_sexes_that_nothing_explains_are_asked_about(
    on_disk: OnDisk, cells: list[str], levels: dict[str, str]
) -> None:
    tables_only(on_disk)
    on_disk.table["sex"] = cells
    assert "levels:" in on_disk.problems()[0]
    on_disk.settings["covariates"][1]["levels"] = levels
    expected = [levels.get(cell, cell) for cell in cells]
    assert on_disk.read().covariates["sex"].tolist() == expected


@pytest.mark.parametrize("pair", [("1", "01"), ("Site-1", "site 1"), ("KCL2", "KCL_2")])
def test_spellings_that_may_be_two_categories_are_refused(on_disk: OnDisk, pair: tuple[str, str]) -> None:
    tables_only(on_disk)
    on_disk.table["site"] = list(pair) * 3
    assert "one category or two?" in on_disk.problems()[0]


def test_whole_numbers_with_a_point_are_the_same_code(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["sex"] = ["1.0", "2.0", "1", "2", "1.0", "n/a"]
    on_disk.settings["covariates"][1]["levels"] = {1: "male", 2: "female"}
    assert on_disk.read().covariates["sex"].fillna("").tolist() == ["male", "female", "male", "female", "male", ""]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["SUB-01", "sub-01"], "differ only in case"),
        (["sub-01", "sub-01\u200b"], "occurs twice"),
        (["sub-01", "sub\u2060-01"], "occurs twice"),
        (["sub-\u00e9", "sub-e\u0301"], "occurs twice"),
        (["sub-01", "sub-\uff10\uff11"], "differ only in case"),
    ],
)
def test_ids_that_differ_in_nothing_a_reader_sees_are_refused(on_disk: OnDisk, ids: list[str], said: str) -> None:
    tables_only(on_disk)
    on_disk.table["participant_id"][:2] = ids
    problems = on_disk.problems()
    assert len(problems) == 1
    assert said in problems[0]


@pytest.mark.parametrize(
    ("cells", "missing"),
    [(["1", "2", "-1", "2", "1", "3"], 2), (["A", "B", "-1", "B", "A", "B"], 2), (["1", "2", "99", "2", "1", "3"], 2)],
)
def test_a_number_that_names_no_site_is_missing(on_disk: OnDisk, cells: list[str], missing: int) -> None:
    tables_only(on_disk)
    on_disk.table["site"] = cells
    cohort = on_disk.read()
    assert cohort.site.tolist() == [cell if i != missing else "" for i, cell in enumerate(cells)]
    assert any(note.startswith("site: ") for note in cohort.notes)


def test_errors_of_a_spreadsheet_are_no_category(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["site"][2] = "#REF!"
    assert "sub-03" in on_disk.problems()[0]


def test_levels_of_an_outcome_match_in_any_case_and_no_other(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table.pop("cog_status")
    on_disk.table["dx"] = ["Control", "PATIENT", "patient ", "control", "-", "unknown"]
    on_disk.settings["outcomes"] = [{"name": "dx", "column": "dx", "kind": "binary", "levels": ["control", "patient"]}]
    cohort = on_disk.read()
    np.testing.assert_array_equal(cohort.targets["dx"], [0, 1, 1, 0, np.nan, np.nan])
    assert cohort.status["dx"].tolist()[4:] == ["unknown", "unknown"]
    on_disk.table["dx"][0] = "controls"
    assert "'controls'" in on_disk.problems()[0]


def test_a_blank_score_is_unknown_and_a_lost_child_is_lost(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["cog"] = ["101", "", "LTFU", "withdrawn", "n/a", "missing"]
    on_disk.table["cog_status"] = [""] * 6
    assert on_disk.read().status["cognitive"].tolist() == [
        "observed", "unknown", "lost", "lost", "unknown", "unknown",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["sin datos", "desconocido", "(missing)", "<missing>", "unk.", "k.A", ".b"])
def test_words_for_missing_have_brackets_points_and_languages(on_disk: OnDisk, word: str) -> None:
    tables_only(on_disk)
    on_disk.table["ga"][1] = on_disk.table["sex"][1] = on_disk.table["site"][1] = word
    cohort = on_disk.read()
    assert cohort.covariates.iloc[1].isna().all()
    assert cohort.site[1] == ""


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["o", "oui", "n", "non"], "oonn"),
        (["o", "n", "non", "n"], "onnn"),
        (["s", "n", "Si", "No"], "snsn"),
        (["v", "f", "vero", "falso"], "vfvf"),
        (["pos.", "neg", "Positive", "negative"], ["pos.", "neg", "pos.", "neg"]),
        (["A", "AB", "B", "O"], ["A", "AB", "B", "O"]),
        (["s", "o", "i", "s"], "sois"),
        (["s", "1", "2", "s"], "s12s"),
    ],
)
def test_letters_for_yes_and_no_are_read_beside_their_words_only(
    on_disk: OnDisk, cells: list[str], read: list[str] | str
) -> None:
    tables_only(on_disk, 4)
    on_disk.table["x"] = cells
    on_disk.settings["covariates"] = [{"column": "x", "type": "categorical"}]
    assert on_disk.read().covariates["x"].tolist() == list(read)


def test_a_minus_beside_a_plus_is_asked_about_and_both_answers_work(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["x"] = ["+", "-", "+", "-", "+", "+"]
    on_disk.settings["covariates"] = [{"column": "x", "type": "categorical"}]
    assert "negative or missing" in on_disk.problems()[0]
    on_disk.settings["missing"] = ["-"]
    assert on_disk.read().covariates["x"].isna().sum() == 2
    del on_disk.settings["missing"]
    on_disk.settings["covariates"][0]["levels"] = {"+": "positive", "-": "negative"}
    assert on_disk.read().covariates["x"].tolist()[:2] == ["positive", "negative"]


@pytest.mark.parametrize(
    ("levels", "cells"), [(["no", "yes"], ["Y", "N", "yes", "NO"]), (["-", "+"], ["+", "-", "+", "-"])]
)
def test_levels_of_an_outcome_may_be_answers_or_signs(on_disk: OnDisk, levels: list[str], cells: list[str]) -> None:
    tables_only(on_disk, 4)
    on_disk.table["dx"] = cells
    on_disk.settings["outcomes"] = [{"name": "dx", "column": "dx", "kind": "binary", "levels": levels}]
    assert on_disk.read().targets["dx"].tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("cells", [["fem.", "masc.", "F", "M"], ["weibl", "männl.", "w", "m"]])
def test_words_for_sexes_may_be_cut_off(on_disk: OnDisk, cells: list[str]) -> None:
    tables_only(on_disk, 4)
    on_disk.table["sex"] = cells
    on_disk.settings["covariates"] = [{"column": "sex", "type": "categorical"}]
    assert len(set(on_disk.read().covariates["sex"])) == 2


def test_a_code_of_one_column_is_a_value_in_the_others(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["apgar"] = ["9", "8", "10", "9", "7", "9"]
    on_disk.table["cp"] = ["0", "1", "9", "0", "1", "9"]
    on_disk.table["grade"] = ["1", "2", "9", "1", "2", "1"]
    on_disk.settings["covariates"] = [
        {"column": "apgar"},
        {"column": "grade", "type": "categorical", "missing": [9]},
        {"column": "ga", "unit": "weeks", "missing": [on_disk.table["ga"][1]]},
    ]
    palsy: dict[str, object] = {"name": "cp", "column": "cp", "kind": "binary", "levels": [0, 1], "missing": [9]}
    palsy["status"] = {"column": "cp"}
    on_disk.settings["outcomes"] = [*on_disk.settings["outcomes"], palsy]
    on_disk.settings["age"]["missing"] = [on_disk.table["pma"][0]]
    cohort = on_disk.read()
    assert cohort.covariates["apgar"].to_list() == [9, 8, 10, 9, 7, 9]
    assert cohort.covariates["grade"].isna().to_list() == [False, False, True, False, False, False]
    assert cohort.covariates["ga"].isna().to_list() == [False, True, False, False, False, False]
    assert cohort.targets["cp"].fillna(-1).to_list() == [0, 1, -1, 0, 1, -1]
    assert np.isnan(cohort.age[:5]).tolist() == [True, False, False, False, False]


def test_a_code_of_all_tables_that_removes_possible_values_is_noted(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["apgar"] = ["9", "8", "10", "9", "7", "9"]
    on_disk.settings["covariates"] = [{"column": "apgar"}]
    on_disk.settings["missing"] = [9]
    notes = [note for note in on_disk.read().notes if note.startswith("apgar")]
    assert len(notes) == 1
    assert "9 in 3 rows was read as missing, as in all tables, and is between other values" in notes[0]
    on_disk.table["apgar"] = ["9", "8", "7", "9", "7", "5"]
    assert not [note for note in on_disk.read().notes if note.startswith("apgar")]
