"""`read_cohort`: a `cohort.yaml` to a `Cohort`, or one error that lists everything wrong at once."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.files import found_files, matched
from connectome_tl.cohort.matrices import Matrices, Track, known_rows, read_files
from connectome_tl.cohort.more_tables import joined_tables, unit_problems
from connectome_tl.cohort.outcomes import OutcomeColumn, missing_columns, read_outcome
from connectome_tl.cohort.regional import read_region_features
from connectome_tl.cohort.selection import selected
from connectome_tl.cohort.stack import read_stack
from connectome_tl.cohort.tables import (
    Findings,
    ages,
    born_before_scanned,
    gestation,
    joined,
    numbers,
    read_table,
    subject_ids,
    texts,
)
from connectome_tl.cohort.transforms import transformed
from connectome_tl.config import load_settings
from connectome_tl.errors import ConnectomeTLError, Problem, raise_all
from connectome_tl.provenance import file_hash
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.results import FlowStep

_KG_AND_G = {"g": (200.0, 8_000.0), "kg": (0.2, 8.0)}


def read_cohort(path: str | Path, *, track: Track | None = None) -> Cohort:
    """Read a cohort and check it whole.

    Args:
        path: `cohort.yaml`; the paths in it are relative to it.
        track: wraps the list of matrix files, to show progress.

    Raises:
        UsageError: the settings are wrong (exit 64). MissingInputError: a named file is not there
            (66). DataError: everything wrong with the data, in one list (65).
    """
    file = Path(path)
    return assemble_cohort(load_settings(file, CohortSettings), file.parent, track=track)


def assemble_cohort(settings: CohortSettings, folder: Path, *, track: Track | None = None) -> Cohort:
    """`read_cohort` of settings already read; see there."""
    findings = Findings()
    file = folder / settings.participants
    table = read_table(file)
    sources = {Path(settings.participants).name: file_hash(file)}
    if settings.id in table.columns:
        table = joined_tables(table, settings.id, settings.tables, folder, findings, sources, codes=settings.missing)
    findings.problems += _missing_columns(settings, table, file)
    findings.problems += unit_problems(file, [spec for spec in (settings.age, settings.gestational_age) if spec])
    if settings.id not in table.columns:
        raise_all(f"cohort {settings.name!r} cannot be read", findings.problems)
    settings = _with_columns_of(settings, table)  # so that the rest is checked too
    flow = [FlowStep(label="rows in the participants table", n_left=len(table))]
    everyone = list(table[settings.id])
    if settings.select is not None:
        keep = selected(table, settings.select, everyone, codes=settings.missing, file=file)
        flow.append(
            FlowStep(
                label=f"select: {settings.select}",
                n_left=int(keep.sum()),
                n_excluded=int((~keep).sum()),
                reason="not selected, or a value it needs is missing",
            )
        )
        table = table[keep].reset_index(drop=True)
        if table.empty:
            findings.problems.append(Problem("select keeps no row", got=settings.select, file=file))
    ids = subject_ids(table[settings.id], file, findings)
    columns = _Columns(settings, table, ids, file, findings)
    matrices: Matrices | None = None
    if settings.connectomes is not None and not table.empty:
        try:
            matrices = _matrices(settings, dict.fromkeys(ids), everyone, folder, findings, track)
        except ConnectomeTLError as error:
            findings.problems += error.problems
            if type(error).exit_code in (64, 66) and len(findings.problems) == len(error.problems):
                raise
    cohort = None if findings.problems else _joined(settings, columns, matrices, flow, sources, folder, findings)
    raise_all(f"cohort {settings.name!r} cannot be used", findings.problems)
    assert cohort is not None
    return replace(cohort, notes=tuple(dict.fromkeys(findings.notes)))


class _Columns:
    """The columns of the participants table, read once; row i is `ids[i]`."""

    def __init__(
        self, settings: CohortSettings, table: pd.DataFrame, ids: tuple[str, ...], file: Path, findings: Findings
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
        self.site = _text(table, settings.site, codes)
        kin = _kin(settings)
        family = joined([texts(table[name], codes) for name in kin]) if kin else [""] * len(ids)
        self.family = np.array(family, dtype=object)
        self.covariates = _covariates(settings, table, ids, file, findings)
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
    settings: CohortSettings, table: pd.DataFrame, ids: Sequence[str], file: Path, findings: Findings
) -> pd.DataFrame:
    made: dict[str, pd.Series] = {}
    for spec in settings.covariates:
        if spec.type == "numeric":
            values = numbers(
                table[spec.column],
                ids,
                file,
                findings,
                codes=settings.missing,
                weeks_and_days=spec.unit.startswith("week"),
            )
            _check_weight(spec.column, spec.unit, values, ids, file, findings)
            made[spec.column] = pd.Series(values, index=list(ids), dtype=float)
        else:
            cells = [cell or None for cell in texts(table[spec.column], settings.missing)]
            made[spec.column] = pd.Series(cells, index=list(ids), dtype="str")
    return pd.DataFrame(made, index=pd.Index(list(ids), dtype="str"))


def _check_weight(
    column: str, unit: str, values: np.ndarray, ids: Sequence[str], file: Path, findings: Findings
) -> None:
    """Birth weights in kg and g differ a thousandfold; dHCP writes kg, most hospitals g."""
    name = column.lower().replace("_", "").replace(" ", "")
    if "birthweight" not in name and name != "bw":
        return
    if unit not in _KG_AND_G:
        findings.problems.append(
            Problem(f"column {column!r}: is it kg or g?", file=file, remedy="Give the covariate's unit: kg or g.")
        )
        return
    low, high = _KG_AND_G[unit]
    outside = np.flatnonzero((values < low) | (values > high)).tolist()
    findings.several(
        [(ids[i], f"{values[i]:g} {unit}") for i in outside],
        f"birth weight {column!r} is not possible",
        file,
        "Is it in the other unit, kg or g?",
    )


def _with_columns_of(settings: CohortSettings, table: pd.DataFrame) -> CohortSettings:
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


def _missing_columns(settings: CohortSettings, table: pd.DataFrame, file: Path) -> list[Problem]:
    wanted: dict[str, str | None] = {
        "id": settings.id,
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


def _matrices(
    settings: CohortSettings,
    ids: dict[str, None],
    everyone: Sequence[str],
    folder: Path,
    findings: Findings,
    track: Track | None,
) -> Matrices | None:
    spec = settings.connectomes
    assert spec is not None
    known = known_rows(spec, folder)
    wanted = list(ids)
    if spec.files is not None:
        tables = (settings.participants, spec.rows, spec.labels, *(more.file for more in settings.tables))
        other = [name for name in tables if name is not None]
        found = read_files(spec, known, wanted, everyone, folder, findings, other=other, track=track)
    else:
        found = read_stack(spec, known, wanted, everyone, folder, findings, id_column=settings.id)
    if found is None:
        return None
    sources = dict(found.sources)
    if spec.labels is not None:
        sources[Path(spec.labels).name] = file_hash(folder / spec.labels)
    found = replace(found, sources=sources)
    transformed(found.weights, spec, found.ids, found.regions, folder / str(spec.stack or spec.files), findings)
    for region, absent in zip(found.regions, (~found.node_mask).sum(axis=0), strict=True):
        if absent:
            findings.notes.append(f"region {region} is missing in {absent} subjects and is masked there")
    return found


def _joined(
    settings: CohortSettings,
    columns: _Columns,
    matrices: Matrices | None,
    flow: list[FlowStep],
    sources: dict[str, str],
    folder: Path,
    findings: Findings,
) -> Cohort | None:
    """Everything in one order; volumes and region features are looked up here."""
    ids = columns.ids if matrices is None else matrices.ids
    if matrices is not None:
        sources = {**sources, **matrices.sources}
        n_dropped = len(columns.ids) - len(ids)
        flow.append(
            FlowStep(
                label="with a connectome",
                n_left=len(ids),
                n_excluded=n_dropped,
                reason="no matrix" if n_dropped else "",
            )
        )
    volumes: tuple[str, ...] = ()
    if settings.volumes is not None:
        found = found_files(settings.volumes.files, folder, findings)
        names = matched(ids, columns.ids, found, findings, what="a volume", file=settings.volumes.files)
        volumes = tuple(str(found[names[subject]]) for subject in ids if subject in names)
    features: np.ndarray | None = None
    feature_names: tuple[str, ...] = ()
    if settings.region_features is not None and matrices is not None:
        features = read_region_features(settings.region_features, matrices, columns.ids, folder, findings)
        feature_names = settings.region_features.names
    if findings.problems:
        return None
    rows = np.array([columns.ids.index(s) for s in ids] if ids != columns.ids else range(len(ids)), dtype=int)
    index = pd.Index(list(ids), dtype="str")
    tasks = tuple(outcome.name for outcome in settings.outcomes)
    n_subjects = len(ids)
    score_columns = dict.fromkeys(spec.column for spec in settings.outcomes)
    spec = settings.connectomes
    return Cohort(
        name=settings.name,
        simulated=settings.simulated,
        ids=ids,
        regions=() if matrices is None else matrices.regions,
        atlas="" if spec is None else spec.atlas or Path(str(spec.labels)).stem,
        measures=() if spec is None else spec.measures,
        weights=np.zeros((n_subjects, 0, 0, 0), np.float32) if matrices is None else matrices.weights,
        node_mask=np.zeros((n_subjects, 0), dtype=bool) if matrices is None else matrices.node_mask,
        covariates=columns.covariates.iloc[rows],
        covariate_specs=settings.covariates,
        tasks=tuple(outcome.task() for outcome in settings.outcomes),
        targets=pd.DataFrame({name: columns.outcomes[name].targets[rows] for name in tasks}, index=index),
        status=pd.DataFrame(
            {name: [columns.outcomes[name].status[row] for row in rows] for name in tasks}, index=index, dtype="str"
        ),
        age=columns.age[rows],
        age_unit="" if settings.age is None else settings.age.unit,
        site=columns.site[rows],
        family=columns.family[rows],
        region_features=features,
        region_feature_names=feature_names,
        flow=tuple(flow),
        sources=sources,
        scores=pd.DataFrame(
            {
                column: next(columns.outcomes[s.name].scores[rows] for s in settings.outcomes if s.column == column)
                for column in score_columns
            },
            index=index,
        ),
        age_reference="birth" if settings.age is None else settings.age.reference,
        volumes=volumes,
    )
