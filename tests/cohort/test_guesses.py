"""`init` finds the same columns whatever the language of their names."""

from __future__ import annotations

import pandas as pd
import pytest

from connectome_tl.cohort.columns.guesses import guess_columns

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
