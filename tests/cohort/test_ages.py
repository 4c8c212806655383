"""Ages have units and are plausible; two units in one column raise a question, and the printed answer works."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.cohort.describing import describe
from connectome_tl.cohort.people import people_of
from connectome_tl.errors import UsageError

from .conftest import OnDisk
from .test_missing_and_spellings import tables_only


def aged(on_disk: OnDisk, ages: list[float], unit: str, reference: str = "birth") -> OnDisk:
    tables_only(on_disk, len(ages))
    on_disk.table["pma"] = [f"{age:g}" for age in ages]
    on_disk.settings.pop("gestational_age", None)
    on_disk.settings["covariates"] = []
    on_disk.settings["age"] = {"column": "pma", "unit": unit, "reference": reference}
    return on_disk


MIXED = [
    ([15, 41, 17, 41, 23, 38, 8, 42, 4, 43, 19, 37], "months", "birth"),
    ([15, 41, 17, 41, 23, 38, 8, 42, 4, 43, 19, 37], "weeks", "birth"),
    ([1.5, 40, 2, 41, 2.2, 39], "years", "birth"),
    ([24, 25, 23.5, 2.1, 2.0, 24.5], "months", "birth"),
    ([24, 25, 23.5, 104, 24.2, 24.5], "months", "birth"),
    ([8.2, 9.1, 102, 10.4, 9.9, 8.8], "years", "birth"),
    ([40, 41, 39.5, 9.4, 42, 38], "weeks", "birth"),
]


@pytest.mark.parametrize(("ages", "unit", "reference"), MIXED)
def test_two_units_in_one_column_are_asked_about_and_the_answer_works(
    on_disk: OnDisk, ages: list[float], unit: str, reference: str
) -> None:
    problems = aged(on_disk, ages, unit, reference).problems()
    assert len(problems) == 1
    assert "two units" in problems[0]
    low, high = problems[0].split("range: [")[1].split("]")[0].split(",")
    on_disk.settings["age"]["range"] = [float(low), float(high)]
    np.testing.assert_array_equal(on_disk.read().age, ages)


@pytest.mark.parametrize(
    ("ages", "unit", "reference"),
    [
        ([8, 9, 10, 11, 12, 40], "years", "birth"),
        ([4, 6, 9, 12, 15, 24], "months", "birth"),
        ([37, 38, 40, 41, 44, 42], "weeks", "postmenstrual"),
        ([6.5, 12, 18, 25, 40, 58], "years", "birth"),
        ([0.1, 0.2, 1.0, 2.5, 3.0, 4.0], "years", "birth"),
    ],
)
def test_one_unit_is_left_alone(on_disk: OnDisk, ages: list[float], unit: str, reference: str) -> None:
    np.testing.assert_array_equal(aged(on_disk, ages, unit, reference).read().age, ages)


@pytest.mark.parametrize(
    ("ages", "unit", "reference"),
    [
        ([572, 560, 590, 601, 540, 580], "weeks", "birth"),  # eleven years, in weeks
        ([11, 12, 10, 9, 8, 11], "weeks", "postmenstrual"),
        ([280, 276, 290, 270, 281, 288], "weeks", "postmenstrual"),  # days
        ([500, 420, 480, 510, 490, 470], "months", "birth"),
        ([130, 20, 30, 31, 28, 27], "years", "birth"),
        ([-1, 2, 3, 4, 5, 6], "months", "birth"),
    ],
)
def test_an_age_nobody_has_in_that_unit_is_refused(
    on_disk: OnDisk, ages: list[float], unit: str, reference: str
) -> None:
    assert "is not possible" in aged(on_disk, ages, unit, reference).problems()[0]


def test_weeks_are_asked_what_they_are_counted_from(on_disk: OnDisk) -> None:
    del on_disk.settings["age"]["reference"]
    assert "age: weeks from what?" in on_disk.problems(UsageError)[0]
    on_disk.settings["age"]["reference"] = "postmenstrual"
    assert on_disk.read().age_reference == "postmenstrual"


def test_newborns_of_forty_weeks_from_birth_are_remarked_on(on_disk: OnDisk) -> None:
    cohort = aged(on_disk, [38, 39, 40, 41, 42, 40], "weeks").read()
    assert any("postmenstrual ages of newborns" in note for note in cohort.notes)


@pytest.mark.parametrize(
    ("name", "unit", "right"),
    [("age_years", "weeks", "years"), ("Age (months)", "years", "months"), ("scan_age_wk", "months", "weeks")],
)
def test_a_column_named_after_another_unit_is_refused(on_disk: OnDisk, name: str, unit: str, right: str) -> None:
    aged(on_disk, [28, 30, 31, 33, 29, 32], unit)
    on_disk.table[name] = on_disk.table.pop("pma")
    on_disk.settings["age"]["column"] = name
    problems = on_disk.problems()
    assert len(problems) == 1
    assert f"unit: {right}" in problems[0]
    on_disk.settings["age"]["range"] = [20, 40]
    assert on_disk.read().age_unit == unit
    del on_disk.settings["age"]["range"]
    on_disk.settings["age"]["unit"] = right
    assert on_disk.read().age_unit == right


def test_years_of_newborns_weeks_beside_gestational_ages_are_asked_about(on_disk: OnDisk) -> None:
    del on_disk.settings["age"]["reference"]
    on_disk.settings["age"]["unit"] = "years"
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "postmenstrual weeks" in problems[0]
    low, high = problems[0].split("range: [")[1].split("]")[0].split(",")
    on_disk.settings["age"]["range"] = [float(low), float(high)]
    assert on_disk.read().age_unit == "years"


def test_a_range_that_is_said_is_kept_to(on_disk: OnDisk) -> None:
    aged(on_disk, [8, 9, 10, 11, 12, 21], "years").settings["age"]["range"] = [6, 18]
    assert "sub-06" in on_disk.problems()[0]


def test_a_gestational_age_among_the_covariates_is_checked_too(on_disk: OnDisk) -> None:
    del on_disk.settings["gestational_age"]
    on_disk.table["ga"][2] = "285"
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "sub-03" in problems[0]


@pytest.mark.parametrize(
    ("ages", "unit", "reference", "noun"),
    [
        ([38, 39, 40, 41, 42, 40], "weeks", "postmenstrual", "infants"),
        ([1, 3, 8, 12, 18, 23], "months", "birth", "infants"),
        ([8, 9, 10, 11, 12, 13], "years", "birth", "children"),
        ([24, 30, 36, 48, 60, 72], "months", "birth", "children"),
        ([19, 24, 31, 40, 52, 64], "years", "birth", "adults"),
        ([8, 12, 17, 22, 30, 41], "years", "birth", "subjects"),
        ([np.nan, np.nan, np.nan, np.nan, 40, 41], "weeks", "postmenstrual", "subjects"),
    ],
)
def test_the_noun_comes_from_the_ages(on_disk: OnDisk, ages: list[float], unit: str, reference: str, noun: str) -> None:
    people = people_of(aged(on_disk, ages, unit, reference).read())
    assert people.noun == noun
    assert people.text == f"6 {noun}"


def test_scans_are_counted_apart_from_subjects(on_disk: OnDisk) -> None:
    tables_only(on_disk)
    on_disk.table["participant_id"] = ["a", "a", "b", "c", "c", "c"]
    on_disk.table["session_id"] = [str(i) for i in range(6)]
    on_disk.settings["id"] = ["participant_id", "session_id"]
    cohort = on_disk.read()
    assert people_of(cohort).text == "6 scans of 3 infants"
    assert people_of(cohort.take(cohort.ids[:3])).text == "3 scans of 2 infants"
    assert describe(cohort).people == people_of(cohort)
