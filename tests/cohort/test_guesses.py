"""`init` finds the same columns whatever the language of their names."""

from __future__ import annotations

import pandas as pd
import pytest

from connectome_tl.cohort.columns.guesses import ColumnGuess, guess_columns

CELLS = {"sex": "m f f m", "born": "28.1 30.2 29 31.4", "scanned": "40.1 41.2 39.8 42", "iq": "101 95 88 110"}


@pytest.mark.parametrize(
    "names",
    [
        ("Geschlecht", "SSW", "Alter_PMA_Wochen", "IQ"),
        ("sexe", "AG_gestationnel_semaines", "age_PMA_semaines", "QI"),
        ("sexo", "edad_gestacional_semanas", "edad_PMA_semanas", "CI"),
        ("sesso", "EG_settimane", "età_PMA_settimane", "QI"),
        ("geslacht", "zwangerschapsduur_weken", "leeftijd_PMA_weken", "IQ"),
    ],
)
def test_columns_are_found_in_several_languages(names: tuple[str, ...]) -> None:
    table = pd.DataFrame({name: cells.split() for name, cells in zip(names, CELLS.values(), strict=True)}, dtype="str")
    sex, born, scanned, iq = guess_columns(table, [])
    assert (sex.meaning, sex.known_at_birth) == ("covariate", True)
    assert (born.meaning, born.unit or "weeks") == ("gestational_age", "weeks")
    assert (scanned.meaning, scanned.unit, scanned.reference) == ("age", "weeks", "postmenstrual")
    assert iq.meaning == "outcome"


def guessed(name: str, cells: list[str]) -> ColumnGuess:
    return guess_columns(pd.DataFrame({name: cells}, dtype="str"), [])[0]


def test_reasons_of_missing_scores_leave_a_column_of_scores_an_outcome() -> None:
    scores = ["85", "92.5", "101", "110", "77"] * 3
    assert guessed("Bayley cognitive", [*scores, "lost", "†", "untestable", "died", "LTFU"]).numeric
    assert guessed("Bayley cognitive", [*scores, "lost", "n.t.", "died", "n.t."]).numeric
    assert guessed("vital status", ["alive", "died", "lost", "died"]).meaning == "status"
    death = guessed("outcome", ["survived", "survived", "died", "survived"])
    assert (death.meaning, death.levels) == ("outcome", ("died", "survived"))


@pytest.mark.parametrize(
    ("cells", "levels", "codes"),
    [
        ("0 1 0 9 0 1", ("0", "1"), ("9",)),
        ("1 2 1 8 9 2", ("1", "2"), ("8", "9")),
        ("0 1 0 -99 0 999", ("0", "1"), ("-99", "999")),
        ("0.0 1.0 9.0 0.0", ("0", "1"), ("9.0",)),
        ("0 1 2 9 0 1", ("0", "1", "2", "9"), ()),
        ("7 8 9 8 9 10", ("10", "7", "8", "9"), ()),
        ("0 1 0 1", ("0", "1"), ()),
    ],
)
def test_codes_beside_two_levels_are_no_level(cells: str, levels: tuple[str, ...], codes: tuple[str, ...]) -> None:
    found = guessed("CP", cells.split())
    assert (found.levels, found.codes) == (levels, codes)


@pytest.mark.parametrize("name", ["Mullen ELC", "WPPSI_FSIQ", "ASQ-3 total", "Vineland ABC", "SRS-2 T", "MABC_2"])
def test_tests_of_development_are_outcomes(name: str) -> None:
    assert guessed(name, ["85", "<55", "101", "110", "77"]).meaning == "outcome"


def test_limits_are_numbers() -> None:
    found = guessed("Bayley-4 Language", ["<50", "<50", "80", "95", "102"])
    assert (found.numeric, found.meaning) == (True, "outcome")
