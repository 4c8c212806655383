"""The JSON file of a table is used: levels, codes for missing values, units; contradictions are reported."""

from __future__ import annotations

import json

import numpy as np
import pytest

from .conftest import OnDisk


def says(on_disk: OnDisk, **columns: dict) -> OnDisk:
    (on_disk.folder / "participants.json").write_text(json.dumps(columns))
    return on_disk


def test_codes_are_decoded_by_their_levels_and_missing_ones_are_missing(on_disk: OnDisk) -> None:
    on_disk.table["sex"] = ["1", "2", "2", "1", "3", "n/a"]
    levels = {"1": "female", "2": {"Description": "male", "TermURL": "x"}, "3": "Not available"}
    cohort = says(on_disk, sex={"Levels": levels}).read()
    assert cohort.covariates["sex"].fillna("").tolist() == ["female", "male", "male", "female", "", ""]
    assert any("3 in 1 row is missing, according to participants.json" in note for note in cohort.notes)


def test_missing_codes_of_the_dictionary_hold_for_numbers_outcomes_and_selections(on_disk: OnDisk) -> None:
    on_disk.table["cog"] = ["101", "84", "77", "7", "n/a", "95"]
    on_disk.table["pma"][5] = "1"
    on_disk.settings["select"] = "pma < 50"
    says(on_disk, cog={"Levels": {"7": "refused"}}, pma={"Levels": {"1": "missing"}, "Units": "week"})
    cohort = on_disk.read()
    assert cohort.n_subjects == 5  # the unknown age is not an age of one week, which would be selected
    assert cohort.status["cognitive"].tolist() == ["observed", "observed", "observed", "lost", "died"]


def test_a_code_without_a_level_is_named(on_disk: OnDisk) -> None:
    on_disk.table["sex"][2] = "X"
    problems = says(on_disk, sex={"Levels": {"F": "female", "M": "male"}}).problems()
    assert len(problems) == 1
    assert "sub-03" in problems[0]
    assert "'X'" in problems[0]


def test_the_users_levels_come_first(on_disk: OnDisk) -> None:
    on_disk.table["sex"] = ["1", "2", "2", "1", "1", "n/a"]
    on_disk.settings["covariates"][1]["levels"] = {1: "F", 2: "M"}
    cohort = says(on_disk, sex={"Levels": {"1": "female", "2": "male"}}).read()
    assert cohort.covariates["sex"].fillna("").tolist() == ["F", "M", "M", "F", "F", ""]


@pytest.mark.parametrize(("written", "unit"), [("kilograms", "kg"), ("g", "g")])
def test_a_birth_weights_unit_comes_from_the_dictionary(on_disk: OnDisk, written: str, unit: str) -> None:
    grams = [900, 1100, 1000, 1200, 950, 870]
    on_disk.table["birth_weight"] = [str(value / 1000 if unit == "kg" else value) for value in grams]
    on_disk.settings["covariates"].append({"column": "birth_weight"})
    cohort = says(on_disk, birth_weight={"Units": written}).read()
    assert any("its unit is" in note for note in cohort.notes)
    np.testing.assert_allclose(cohort.covariates["birth_weight"], np.array(grams) / (1000 if unit == "kg" else 1))
    on_disk.settings["covariates"][-1]["unit"] = {"kg": "g", "g": "kg"}[unit]
    assert any("declared twice" in problem for problem in on_disk.problems())


def test_a_phenotype_table_has_its_own_dictionary(on_disk: OnDisk) -> None:
    folder = on_disk.folder / "phenotype"
    folder.mkdir()
    rows = "".join(f"sub-0{i}\t{i % 2}\t{9 if i == 3 else i}\n" for i in range(1, 7))
    (folder / "birth.tsv").write_text("participant_id\tsteroids\tapgar\n" + rows)
    said = {"steroids": {"Levels": {"0": "none", "1": "complete"}}, "apgar": {"Levels": {"9": "not recorded"}}}
    (folder / "birth.json").write_text(json.dumps({"MeasurementToolMetadata": {"Description": "birth"}, **said}))
    on_disk.settings["tables"] = [{"file": "phenotype/birth.tsv"}]
    on_disk.settings["covariates"] = [{"column": "steroids", "type": "categorical"}, {"column": "apgar"}]
    cohort = on_disk.read()
    assert cohort.covariates["steroids"].tolist() == ["complete", "none"] * 3
    np.testing.assert_array_equal(cohort.covariates["apgar"], [1, 2, np.nan, 4, 5, 6])


def test_a_broken_dictionary_is_said_and_not_used(on_disk: OnDisk) -> None:
    (on_disk.folder / "participants.json").write_text('{"sex": ')
    assert any("was not used" in note for note in on_disk.read().notes)
    (on_disk.folder / "participants.json").write_text(json.dumps({"sex": "text", "ga": {"Levels": ["a"]}, "pma": 3}))
    assert on_disk.read().n_subjects == 6


@pytest.mark.parametrize(
    "said",
    [
        {"sex": {"levels": {"1": "male", "2": "female"}}},
        {"Sex": {"LEVELS": {"1": "male", "2": "female"}}},
        {"SEX ": {"Levels": {"1": {"label": "male", "Description": "a boy"}, "2": {"description": "female"}}}},
        {"sex": {"Levels": [{"value": 1, "label": "male"}, {"Value": 2, "Label": "female"}]}},
    ],
)
def test_keys_of_a_dictionary_may_be_written_in_any_case(on_disk: OnDisk, said: dict) -> None:
    on_disk.table["sex"] = ["2", "1", "1", "2", "2", "1"]
    cohort = says(on_disk, **said).read()
    assert cohort.covariates["sex"].tolist() == ["female", "male", "male", "female", "female", "male"]


def test_keys_that_name_two_columns_and_levels_that_name_nothing_are_not_used(on_disk: OnDisk) -> None:
    on_disk.table["Sex"] = ["x", "x", "x", "y", "y", "y"]
    cohort = says(on_disk, SEX={"Levels": {"F": "female", "M": "male"}}, ga={"Levels": "1=a; 2=b"}).read()
    assert set(cohort.covariates["sex"].dropna()) == {"F", "M"}
    assert any("ga: its levels in participants.json" in note for note in cohort.notes)


@pytest.mark.parametrize("key", ["Units", "units", "UNITS", "unit"])
def test_a_unit_is_found_under_any_spelling_of_its_key(on_disk: OnDisk, key: str) -> None:
    assert any("declared twice" in problem for problem in says(on_disk, pma={key: "days"}).problems())
