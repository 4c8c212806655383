"""The columns of a participants table, read once: ages, site, kin, covariates, outcomes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.ages import ages, born_before_scanned, gestation, reckoned
from connectome_tl.cohort.dictionaries import Dictionary
from connectome_tl.cohort.outcomes import OutcomeColumn, missing_columns, read_outcome
from connectome_tl.cohort.tables import Findings, joined, numbers, texts
from connectome_tl.errors import Problem
from connectome_tl.settings.cohort import CohortSettings

_KG_AND_G = {"g": (200.0, 8_000.0), "kg": (0.2, 8.0)}


class SubjectColumns:
    """The columns of the participants table, read once; row i is `ids[i]`."""

    def __init__(
        self,
        settings: CohortSettings,
        table: pd.DataFrame,
        ids: tuple[str, ...],
        file: Path,
        findings: Findings,
        dictionary: Dictionary,
    ) -> None:
        codes = settings.missing
        self.ids = ids
        nothing = np.full(len(ids), np.nan)
        self.age = (
            nothing
            if settings.age is None
            else ages(table[settings.age.column], settings.age, ids, file, findings, codes=codes)
        )
        if settings.gestational_age is not None:
            column = table[settings.gestational_age.column]
            born = gestation(column, settings.gestational_age, ids, file, findings, codes=codes)
            if settings.age is not None:
                born_before_scanned(self.age, settings.age, born, ids, file, findings)
                if settings.age.to not in (None, settings.age.reference):
                    self.age = reckoned(self.age, settings.age, born)
        self.site = _text(table, settings.site, codes)
        kin = (*_kin(settings), *_child(settings, table))
        family = joined([texts(table[name], codes) for name in kin]) if kin else [""] * len(ids)
        self.family = np.array(family, dtype=object)
        self.covariates = _covariates(settings, table, ids, file, findings, dictionary)
        self.outcomes: dict[str, OutcomeColumn] = {
            spec.name: read_outcome(table, spec, ids, file, findings, codes=codes) for spec in settings.outcomes
        }
        if not kin and "singleton" in table.columns:
            multiple = sum(value.casefold() in ("m", "multiple", "0", "no", "false") for value in table["singleton"])
            if multiple:
                findings.notes.append(f"{multiple} rows are of multiple births and no family column is named")


def _text(table: pd.DataFrame, column: str | None, codes: Sequence[str]) -> np.ndarray:
    return np.array([""] * len(table) if column is None else texts(table[column], codes), dtype=object)


def _covariates(
    settings: CohortSettings,
    table: pd.DataFrame,
    ids: Sequence[str],
    file: Path,
    findings: Findings,
    dictionary: Dictionary,
) -> pd.DataFrame:
    made: dict[str, pd.Series] = {}
    for spec in settings.covariates:
        if spec.type == "numeric":
            unit = dictionary.unit(spec.column, spec.unit, findings)
            values = numbers(
                table[spec.column],
                ids,
                file,
                findings,
                codes=settings.missing,
                weeks_and_days=unit.startswith("week"),
            )
            _check_weight(spec.column, unit, values, ids, file, findings)
            made[spec.column] = pd.Series(values, index=list(ids), dtype=float)
        else:
            cells = dictionary.category(spec, texts(table[spec.column], settings.missing), ids, file, findings)
            made[spec.column] = pd.Series([cell or None for cell in cells], index=list(ids), dtype="str")
    return pd.DataFrame(made, index=pd.Index(list(ids), dtype="str"))


def _check_weight(
    column: str, unit: str, values: np.ndarray, ids: Sequence[str], file: Path, findings: Findings
) -> None:
    """Birth weights in kg and g differ a thousandfold; dHCP writes kg, most hospitals g."""
    name = column.lower().replace("_", "").replace(" ", "")
    if "birthweight" not in name and name != "bw":
        return
    if unit not in _KG_AND_G:  # the two ranges hardly meet, so the values mostly say it themselves
        known = values[~np.isnan(values)]
        fits = [one for one, (low, high) in _KG_AND_G.items() if ((known >= low) & (known <= high)).all()]
        if len(fits) != 1:
            findings.problems.append(
                Problem(f"column {column!r}: is it kg or g?", file=file, remedy="Give the covariate's unit: kg or g.")
            )
        else:
            findings.notes.append(f"{column}: read as {fits[0]}")
        return
    low, high = _KG_AND_G[unit]
    outside = np.flatnonzero((values < low) | (values > high)).tolist()
    findings.several(
        [(ids[i], f"{values[i]:g} {unit}") for i in outside],
        f"birth weight {column!r} is not possible",
        file,
        "Is it in the other unit, kg or g?",
    )


def with_columns_of(settings: CohortSettings, table: pd.DataFrame) -> CohortSettings:
    """The settings without what names columns that are not there (those are problems already)."""

    def there(column: str | None) -> bool:
        return column is None or column in table.columns

    kin = _kin(settings)
    return settings.model_copy(
        update={
            "age": settings.age if settings.age and there(settings.age.column) else None,
            "gestational_age": settings.gestational_age
            if settings.gestational_age and there(settings.gestational_age.column)
            else None,
            "site": settings.site if there(settings.site) else None,
            "family": tuple(name for name in kin if there(name)) or None,
            "covariates": tuple(spec for spec in settings.covariates if there(spec.column)),
            "outcomes": tuple(spec for spec in settings.outcomes if not missing_columns(spec, table, "")),
        }
    )


def _kin(settings: CohortSettings) -> tuple[str, ...]:
    return (settings.family,) if isinstance(settings.family, str) else settings.family or ()


def _child(settings: CohortSettings, table: pd.DataFrame) -> tuple[str, ...]:
    """The participant column where rows are scans and a child has several: they are kept together."""
    column = settings.ids[0]
    return (column,) if len(settings.ids) > 1 and table[column].duplicated().any() else ()


def column_problems(settings: CohortSettings, table: pd.DataFrame, file: Path) -> list[Problem]:
    wanted: dict[str, str | None] = {
        **{f"id {name}" if len(settings.ids) > 1 else "id": name for name in settings.ids},
        "age": settings.age.column if settings.age else None,
        "gestational_age": settings.gestational_age.column if settings.gestational_age else None,
        "site": settings.site,
        **{f"family {name}": name for name in _kin(settings)},
        **{f"covariate {spec.column}": spec.column for spec in settings.covariates},
    }
    problems = []
    for what, column in wanted.items():
        if column is not None and column not in table.columns:
            near = difflib.get_close_matches(column, list(table.columns), n=2, cutoff=0.4)
            problems.append(
                Problem(
                    f"{what}: column {column!r} is not in the table",
                    expected=f"one of {', '.join(table.columns[:30])}",
                    file=file,
                    remedy=f"Did you mean {' or '.join(near)}?" if near else None,
                )
            )
    for spec in settings.outcomes:
        problems += missing_columns(spec, table, file)
    return problems
