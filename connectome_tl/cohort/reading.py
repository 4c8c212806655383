"""`read_cohort`: a `cohort.yaml` to a `Cohort`, or one error that lists everything wrong at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns import SubjectColumns, column_problems, with_columns_of
from connectome_tl.cohort.dictionaries import Dictionary
from connectome_tl.cohort.files import Search, found_files
from connectome_tl.cohort.matrices import Matrices, Track, known_rows, read_files
from connectome_tl.cohort.more_tables import joined_tables
from connectome_tl.cohort.regional import read_region_features, similarity_matrices
from connectome_tl.cohort.selection import selected, unknown
from connectome_tl.cohort.stack import read_stack
from connectome_tl.cohort.tables import Findings, read_table, subject_ids, whole_ids
from connectome_tl.cohort.transforms import transformed
from connectome_tl.config import load_settings
from connectome_tl.errors import ConnectomeTLError, DataError, Problem, raise_all
from connectome_tl.provenance import file_hash
from connectome_tl.settings.cohort import CohortSettings
from connectome_tl.settings.results import FlowStep


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
    dictionary = Dictionary()
    table = dictionary.add(read_table(file), file, findings)
    sources = {Path(settings.participants).name: file_hash(file)}
    if settings.ids[0] in table.columns:
        more, codes = settings.tables, settings.missing
        table = joined_tables(table, settings.ids, more, folder, findings, sources, dictionary, codes=codes)
    if "sex" not in table.columns and "gender" in table.columns and "sex" in _named_columns(settings):
        table = table.assign(sex=table["gender"])  # dHCP's files say gender where its notes say sex
        findings.notes.append("sex: read from the column gender")
    findings.problems += column_problems(settings, table, file)
    if not set(settings.ids) <= set(table.columns):
        raise_all(f"cohort {settings.name!r} cannot be read", findings.problems)
    settings = with_columns_of(settings, table)  # so that the rest is checked too
    dictionary.check_ages([spec for spec in (settings.age, settings.gestational_age) if spec], findings)
    everyone = whole_ids(table, settings.ids)
    table, flow = _kept(settings, table, file, findings)
    ids = subject_ids(pd.Series(whole_ids(table, settings.ids), dtype="str"), file, findings)
    columns = SubjectColumns(settings, table, ids, file, findings, dictionary)
    unmatched = "refuse" if settings.connectomes is None else settings.connectomes.unmatched
    search = Search(tuple(dict.fromkeys(ids)), everyone, folder, findings, unmatched)
    matrices: Matrices | None = None
    if settings.connectomes is not None and not table.empty:
        try:
            matrices = _matrices(settings, search, track)
        except ConnectomeTLError as error:
            findings.problems += error.problems
            if type(error).exit_code in (64, 66) and len(findings.problems) == len(error.problems):
                raise
    cohort = None if findings.problems else _joined(settings, columns, matrices, flow, sources, search)
    raise_all(f"cohort {settings.name!r} cannot be used", findings.problems)
    assert cohort is not None
    return replace(cohort, notes=tuple(dict.fromkeys(findings.notes)))


def _kept(
    settings: CohortSettings, table: pd.DataFrame, file: Path, findings: Findings
) -> tuple[pd.DataFrame, list[FlowStep]]:
    """Rows that `select` keeps and no rule of `exclude` leaves out, and the flow of their numbers."""
    flow = [FlowStep(label="rows in the participants table", n_left=len(table))]
    codes = settings.missing
    if settings.select is not None:
        keep = selected(table, settings.select, whole_ids(table, settings.ids), codes=codes, file=file)
        reason = "not selected, or a value it needs is missing"
        flow.append(_step(f"select: {settings.select}", keep, reason))
        table = table[keep].reset_index(drop=True)
        if table.empty:
            findings.problems.append(Problem("select keeps no row", got=settings.select, file=file))
    for rule in settings.exclude:
        ids = whole_ids(table, settings.ids)
        try:
            out = selected(table, rule.when, ids, codes=codes, file=file)
        except DataError as error:  # a column that another fault took away; both are listed
            findings.problems += error.problems
            continue
        open_ = unknown(table, rule.when, codes=codes) & ~out
        if open_.any() and rule.unknown == "refuse":
            findings.several(
                [(ids[i], "a missing value") for i in np.flatnonzero(open_).tolist()],
                f"the exclusion {rule.when!r} cannot be decided",
                file,
                "Say unknown: keep or unknown: exclude in this rule.",
            )
        n_open = int(open_.sum())
        out = out | open_ if rule.unknown == "exclude" else out
        also = f"; {n_open} of them with a missing value" if n_open and rule.unknown == "exclude" else ""
        if n_open and rule.unknown == "keep":
            findings.notes.append(f"exclude: {rule.when}: {n_open} whose value is missing were kept")
        flow.append(_step(f"exclude: {rule.when}", ~out, rule.reason + also))
        table = table[~out].reset_index(drop=True)
    if settings.exclude and table.empty:
        findings.problems.append(Problem("the exclusions leave no row", file=file))
    return table, flow


def _named_columns(settings: CohortSettings) -> set[str]:
    return {one.column for one in settings.covariates} | {one.column for one in settings.outcomes}


def _one_column(settings: CohortSettings) -> str:
    """The id column for tables that have a single one; "" where the ids of scans are made of several."""
    return settings.id if isinstance(settings.id, str) else ""


def _step(label: str, keep: np.ndarray, reason: str) -> FlowStep:
    n_excluded = int((~keep).sum())
    return FlowStep(label=label, n_left=int(keep.sum()), n_excluded=n_excluded, reason=reason if n_excluded else "")


def _matrices(
    settings: CohortSettings,
    search: Search,
    track: Track | None,
) -> Matrices | None:
    spec, folder, findings = settings.connectomes, search.folder, search.findings
    assert spec is not None
    known = known_rows(spec, folder)
    if spec.network is not None:
        features = settings.region_features
        assert features is not None  # the settings say so
        found = similarity_matrices(spec, features, known, search, id_column=_one_column(settings))
    elif spec.files is not None:
        tables = (settings.participants, spec.rows, spec.label_table, *(more.file for more in settings.tables))
        other = [name for name in tables if name is not None]
        found = read_files(spec, known, search, other=other, track=track)
    else:
        found = read_stack(spec, known, search, id_columns=settings.ids)
    if found is None:
        return None
    sources = dict(found.sources)
    if spec.label_table is not None:
        sources[Path(spec.label_table).name] = file_hash(folder / spec.label_table)
    found = replace(found, sources=sources)
    transformed(found.weights, spec, found.ids, found.regions, _where(settings, folder), findings)
    for region, absent in zip(found.regions, (~found.node_mask).sum(axis=0), strict=True):
        if absent:
            findings.notes.append(f"region {region} is missing in {absent} subjects and is masked there")
    return found


def _where(settings: CohortSettings, folder: Path) -> Path:
    """Where the matrices, or the measures they are made from, lie."""
    matrices, features = settings.connectomes, settings.region_features
    given = [matrices.stack or matrices.files] if matrices is not None else []
    given += [features.table or features.files] if features is not None else []
    return folder / next((name for name in given if name is not None), "")


def _joined(
    settings: CohortSettings,
    columns: SubjectColumns,
    matrices: Matrices | None,
    flow: list[FlowStep],
    sources: dict[str, str],
    search: Search,
) -> Cohort | None:
    """Everything in one order; volumes and region features are looked up here."""
    ids = columns.ids if matrices is None else matrices.ids
    folder, findings = search.folder, search.findings
    search = replace(search, ids=ids)
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
        names = replace(search, unmatched="refuse").owners(found, what="a volume", file=settings.volumes.files)
        volumes = tuple(str(found[names[subject]]) for subject in ids if subject in names)
    features: np.ndarray | None = None
    feature_names: tuple[str, ...] = ()
    spec = settings.connectomes
    if settings.region_features is not None and matrices is not None and spec is not None:
        features, feature_names = matrices.region_features, settings.region_features.names
        if spec.network is None:
            features = read_region_features(
                settings.region_features, matrices, known_rows(spec, folder), search, id_column=_one_column(settings)
            )
    if findings.problems:
        return None
    rows = np.array([columns.ids.index(s) for s in ids] if ids != columns.ids else range(len(ids)), dtype=int)
    index = pd.Index(list(ids), dtype="str")
    tasks = tuple(outcome.name for outcome in settings.outcomes)
    n_subjects = len(ids)
    score_columns = dict.fromkeys(outcome.column for outcome in settings.outcomes)
    return Cohort(
        name=settings.name,
        simulated=settings.simulated,
        exploratory=settings.exploratory,
        ids=ids,
        regions=() if matrices is None else matrices.regions,
        atlas="" if spec is None else spec.atlas or _atlas_of(Path(spec.labels or _where(settings, folder)).stem),
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
        age_reference="birth" if settings.age is None else settings.age.to or settings.age.reference,
        volumes=volumes,
        as_read=pd.DataFrame(matrices.as_read, index=index) if matrices is not None and matrices.as_read else None,
    )


def _atlas_of(stem: str) -> str:
    """The BIDS entity `atlas-` of a file's name, else the name itself."""
    return next((part.removeprefix("atlas-") for part in stem.split("_") if part.startswith("atlas-")), stem)
