"""Read the columns of a participants table: ages, site, family, covariates, outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.columns.ages import (
    BORN,
    ages,
    born_before_scanned,
    check_gestation,
    gestation,
    in_unit,
    reckoned,
)
from connectome_tl.cohort.columns.categories import covariate_categories, families, labels, largest_family
from connectome_tl.cohort.columns.guesses import names_gestation
from connectome_tl.cohort.columns.ids import bare, first_scan, joined
from connectome_tl.cohort.columns.numeric import numbers, unit_word
from connectome_tl.cohort.columns.outcomes import OutcomeColumn, missing_columns, read_outcome
from connectome_tl.cohort.columns.plausible import check_beside_gestation, check_name
from connectome_tl.cohort.columns.scales import check_weight, note_scales
from connectome_tl.cohort.columns.unit_columns import check_unit_columns
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import Marks, fold, is_missing, nearest, texts
from connectome_tl.cohort.tables.dictionaries import Dictionary
from connectome_tl.cohort.tables.saved import NAME_COLUMNS, row_for_header
from connectome_tl.errors import Problem
from connectome_tl.plurals import counted
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.columns import AgeUnit

_AGE_UNITS: dict[str, AgeUnit] = {"day": "days", "week": "weeks", "month": "months"}


@dataclass(frozen=True, eq=False)
class SubjectRows:
    """Rows of the participants table as a `Cohort` keeps them; see its attributes."""

    covariates: pd.DataFrame
    targets: pd.DataFrame
    status: pd.DataFrame
    scores: pd.DataFrame
    age: np.ndarray
    site: np.ndarray
    family: np.ndarray
    children: tuple[str, ...]


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
        marks = marks_of(settings)
        check_unit_columns(settings, table, ids, file, findings, marks=marks)
        self.ids = ids
        self.of_scans = len(settings.ids) > 1
        self.children = participants_of(settings, table) if self.of_scans else ids
        repeated = len(set(self.children)) < len(ids)
        self.age = np.full(len(ids), np.nan)
        if settings.age is not None:
            column = table[settings.age.column]
            check_name(settings.age, file, findings)
            self.age = ages(column, settings.age, ids, file, findings, marks=marks, repeated=repeated)
        scanned = self.age
        if settings.gestational_age is not None:
            column = table[settings.gestational_age.column]
            born = gestation(column, settings.gestational_age, ids, file, findings, marks=marks)
            if settings.age is not None:
                check_beside_gestation(self.age, settings.age, file, findings)
                born_before_scanned(self.age, settings.age, born, ids, file, findings)
                if settings.age.to not in (None, settings.age.reference):
                    self.age = reckoned(self.age, settings.age, born)
        site = [""] * len(ids)
        if settings.site is not None:
            site = labels(table[settings.site], file, findings, marks=marks, ids=ids)
        self.site = np.array(site, dtype=object)
        kin = _kin(settings)
        shared = [families(table[name], file, findings, marks=marks) for name in kin]
        for values in shared:
            largest_family(values, settings.largest_family, kin, file, findings)
        if repeated:
            shared.append(list(self.children))
        if not kin:
            _ask_about_further_scans(self.children, file, findings)
        self.family = np.array(joined(shared) if shared else [""] * len(ids), dtype=object)
        self.covariates = _covariates(settings, table, ids, file, findings, dictionary)
        self._check_births(settings, scanned, file, findings)
        codes = dictionary.levels | {spec.column: spec.levels for spec in settings.covariates if spec.levels}
        self.outcomes: dict[str, OutcomeColumn] = {
            spec.name: read_outcome(table, spec, ids, file, findings, marks=marks, codes=codes)
            for spec in settings.outcomes
        }
        files = settings.volumes
        self.images, self.label_maps = (
            {i: c for i, c in zip(ids, texts(table[name]), strict=True) if not is_missing(c, settings.missing)}
            if name is not None
            else {}
            for name in ((files.column, files.label_column) if files is not None else (None, None))
        )
        if not kin and "singleton" in table.columns:
            multiple = sum(fold(value) in ("m", "multiple", "0", "no", "false") for value in table["singleton"])
            if multiple:
                findings.notes.append(
                    f"{counted(multiple, 'row is', 'rows are')} of multiple births and no family column is named"
                )

    def _check_births(self, settings: CohortSettings, scanned: np.ndarray, file: Path, findings: Findings) -> None:
        """Compare gestational ages among the covariates with the ages at scan, as those of `gestational_age`."""
        declared = settings.gestational_age.column if settings.gestational_age else None
        for spec in settings.covariates if settings.age else ():
            unit = _AGE_UNITS.get(unit_word(spec.unit))
            if spec.type == "numeric" and spec.column != declared and unit and names_gestation(spec.column):
                born = in_unit(self.covariates[spec.column].to_numpy(dtype=float), unit, "weeks")
                assert settings.age is not None
                born = np.where((born < BORN[0]) | (born > BORN[1]), np.nan, born)  # these are reported already
                born_before_scanned(scanned, settings.age, born, self.ids, file, findings)

    def rows(self, at: np.ndarray) -> SubjectRows:
        """The data of these rows, in their order."""
        ids = [self.ids[i] for i in at]
        index = pd.Index(ids, dtype="str")
        outcomes = self.outcomes
        status = {name: [one.status[i] for i in at] for name, one in outcomes.items()}
        scores = {one.column: one.scores[at] for one in reversed(outcomes.values())}
        order = dict.fromkeys(one.column for one in outcomes.values())
        return SubjectRows(
            covariates=self.covariates.iloc[at],
            targets=pd.DataFrame({name: one.targets[at] for name, one in outcomes.items()}, index=index),
            status=pd.DataFrame(status, index=index, dtype="str"),
            scores=pd.DataFrame({column: scores[column] for column in order}, index=index),
            age=self.age[at],
            site=self.site[at],
            family=self.family[at],
            children=tuple(self.children[i] for i in at) if self.of_scans else (),
        )


def _ask_about_further_scans(ids: Sequence[str], file: Path, findings: Findings) -> None:
    """Report ids such as CC001 and CC001_2, which are one subject or twins, where no family column is named."""
    known = {bare(one): one for one in ids if one}
    pairs = [(one, f"and {known[first]}") for name, one in known.items() if (first := first_scan(name)) in known]
    findings.several(
        pairs,
        "ids look like two scans of one subject, or twins, and no family is declared",
        file,
        "Set family: a column in which such rows share a name (and others do not), or id: [subject column, session "
        "column], so that they stay in one fold.",
    )


def marks_of(settings: CohortSettings) -> Marks:
    """Notation of the cells of the cohort's tables, from the settings."""
    return Marks(settings.missing, settings.decimal)


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
        marks = marks_of(settings).with_codes(spec.missing)
        if spec.type == "numeric":
            unit = dictionary.unit(spec.column, spec.unit, findings)
            values = numbers(table[spec.column], ids, file, findings, marks=marks, unit=unit, censored=spec.censored)
            if not check_weight(spec, unit, values, ids, file, findings):
                note_scales(values, spec.column, findings)
            if names_gestation(spec.column) and unit_word(unit) in _AGE_UNITS:
                check_gestation(values, spec.column, _AGE_UNITS[unit_word(unit)], ids, file, findings)
            made[spec.column] = pd.Series(values, index=list(ids), dtype=float)
        else:
            levels = spec.levels or dictionary.levels.get(spec.column, {})
            cells = covariate_categories(table[spec.column], levels, ids, file, findings, marks=marks)
            made[spec.column] = pd.Series([cell or None for cell in cells], index=list(ids), dtype="str")
    return pd.DataFrame(made, index=pd.Index(list(ids), dtype="str"))


def with_columns_of(settings: CohortSettings, table: pd.DataFrame) -> CohortSettings:
    """The settings without references to missing columns, which have already been reported."""

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
            "volumes": settings.volumes
            if settings.volumes and there(settings.volumes.column) and there(settings.volumes.label_column)
            else None,
            "family": tuple(name for name in kin if there(name)) or None,
            "covariates": tuple(spec for spec in settings.covariates if there(spec.column)),
            "outcomes": tuple(spec for spec in settings.outcomes if not missing_columns(spec, table, "")),
        }
    )


def _kin(settings: CohortSettings) -> tuple[str, ...]:
    return (settings.family,) if isinstance(settings.family, str) else settings.family or ()


def participants_of(settings: CohortSettings, table: pd.DataFrame) -> tuple[str, ...]:
    """Participant of each row if rows are scans (several id columns), else empty."""
    return tuple(texts(table[settings.ids[0]])) if len(settings.ids) > 1 else ()


def _another_shape(absent: Sequence[str], table: pd.DataFrame) -> tuple[str, str] | None:
    """What is wrong with a table without the columns as a whole, and a remedy; None if nothing is."""
    if not absent:
        return None
    first = str(table.columns[0])
    if len(table.columns) == 1:
        return f"the table has one column, {first[:60]!r}", "Separate its columns by tabs, commas, semicolons or bars."
    if (line := row_for_header(table)) is not None:
        return f"the table has no header: its first line, {line}, looks like a row", NAME_COLUMNS
    for name in table.columns:
        held = [column for column in absent if (table[name] == column).any()]
        if 2 * len(held) > len(absent):
            if name == first and table[name].is_unique:
                return f"columns and rows are exchanged: {held[0]!r} is a row", "Write one row per subject."
            return (
                f"the table is in long format: column {name!r} holds {held[0]!r}",
                "Write one row per subject and one column per variable.",
            )
    return None


def column_problems(settings: CohortSettings, table: pd.DataFrame, file: Path) -> list[Problem]:
    """One problem for each column that the settings name and the table lacks."""
    wanted: dict[str, str | None] = {
        **{f"id {name}" if len(settings.ids) > 1 else "id": name for name in settings.ids},
        "age": settings.age.column if settings.age else None,
        "gestational_age": settings.gestational_age.column if settings.gestational_age else None,
        "site": settings.site,
        "volumes": settings.volumes.column if settings.volumes else None,
        "volumes.labels": settings.volumes.label_column if settings.volumes else None,
        "connectomes.reason": settings.connectomes.reason if settings.connectomes else None,
        **{f"family {name}": name for name in _kin(settings)},
        **{f"covariate {spec.column}": spec.column for spec in settings.covariates},
    }
    named = [*wanted.values(), *(spec.column for spec in settings.outcomes)]
    absent = [name for name in dict.fromkeys(named) if name is not None and name not in table.columns]
    if (other := _another_shape(absent, table)) is not None:
        what, remedy = other
        return [Problem(what, expected=f"columns {', '.join(absent[:8])}", file=file, remedy=remedy)]
    problems = []
    for what, column in wanted.items():
        if column is not None and column not in table.columns:
            near = nearest(column, table.columns)
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
