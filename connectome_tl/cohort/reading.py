"""`read_cohort`: read `cohort.yaml` into a `Cohort`, or raise one error that lists all problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.arguments import checked_arguments
from connectome_tl.cohort.arrays.agreement import (
    features_of_another_scale,
    of_another_kind,
    of_another_scale,
    unlike_others,
)
from connectome_tl.cohort.arrays.degenerate import nothing_to_learn
from connectome_tl.cohort.arrays.files import Search
from connectome_tl.cohort.arrays.matrices import Matrices, Track, known_rows, read_files
from connectome_tl.cohort.arrays.regional import read_region_features, similarity_matrices
from connectome_tl.cohort.arrays.stack import read_stack
from connectome_tl.cohort.arrays.transforms import transformed
from connectome_tl.cohort.arrays.volumes import contrast_of, label_files, volume_files
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.ids import subject_ids, whole_ids
from connectome_tl.cohort.columns.participants import (
    SubjectColumns,
    column_problems,
    marks_of,
    participants_of,
    with_columns_of,
)
from connectome_tl.cohort.findings import Findings, grouped, listed
from connectome_tl.cohort.one_scan import one_scan_of_each
from connectome_tl.cohort.tables.cells import texts
from connectome_tl.cohort.tables.dictionaries import Dictionary
from connectome_tl.cohort.tables.kept_rows import (
    flow_step,
    selected_rows,
    selects_among_events,
    without_connectome,
    without_excluded,
)
from connectome_tl.cohort.tables.more_tables import joined_tables
from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.config import load_settings
from connectome_tl.errors import ConnectomeTLError, UsageError, raise_all
from connectome_tl.plurals import counted
from connectome_tl.provenance import file_hash
from connectome_tl.settings.cohort import NAMED, NUMBERED, CohortSettings, ConnectomeFiles
from connectome_tl.settings.records.results import FlowStep
from connectome_tl.settings.scans import MOTION
from connectome_tl.settings_lines import names_lines

_MOST_NOTES = 12


@checked_arguments
@names_lines
def read_cohort(path: str | Path, *, track: Track | None = None) -> Cohort:
    """Read and check a cohort.

    Args:
        path: `cohort.yaml`; the paths in it are relative to it.
        track: wraps the list of matrix files, to show progress.

    Raises:
        UsageError: the settings are wrong (exit code 64). MissingInputError: a named file does not exist (66).
        DataError: lists all problems of the data (65).
    """
    file = Path(path)
    settings = load_settings(file, CohortSettings)
    if settings.scans is not None:
        raise UsageError(
            "the connectomes of this cohort have not been computed from scans yet",
            file=file,
            remedy="`connectome-tl run` computes them first and writes a cohort.yaml to scans/ in its folder.",
        )
    return assemble_cohort(settings, file.parent, track=track)


@names_lines
def read_subjects(path: str | Path, *, track: Track | None = None) -> Cohort:
    """`read_cohort`, but without connectomes that remain to be computed from scans; raises the same errors."""
    file = Path(path)
    settings = load_settings(file, CohortSettings)
    if settings.scans is None:
        return assemble_cohort(settings, file.parent, track=track)
    cohort = assemble_cohort(without_scans(settings), file.parent)
    return replace(
        cohort, notes=(*cohort.notes, f"connectomes: `run` makes them from the scans in {settings.scans.bids}")
    )


def without_scans(settings: CohortSettings) -> CohortSettings:
    """The settings without the scans and the covariate derived from them."""
    known = tuple(spec for spec in settings.covariates if spec.column != MOTION)
    return settings.model_copy(update={"scans": None, "covariates": known})


def assemble_cohort(settings: CohortSettings, folder: Path, *, track: Track | None = None) -> Cohort:
    """`read_cohort` of settings already read; see there."""
    findings = Findings()
    file = folder / settings.participants
    dictionary = Dictionary()
    table = dictionary.add(read_table(file, findings.notes), file, findings)
    sources = {Path(settings.participants).name: file_hash(file)}
    flow = [FlowStep(label="rows in the participants table", n_left=len(table))]
    everyone = whole_ids(table, settings.ids) if set(settings.ids) <= set(table.columns) else []
    early = selects_among_events(settings, table, everyone)
    if early:
        table = selected_rows(settings, table, file, findings, flow)
    if settings.ids[0] in table.columns:
        marks = marks_of(settings)
        table = joined_tables(table, settings.ids, settings.tables, folder, findings, sources, dictionary, marks=marks)
    if "sex" not in table.columns and "gender" in table.columns and "sex" in _named_columns(settings):
        table = table.assign(sex=table["gender"])  # dHCP's files name this column gender
        findings.notes.append("sex: read from the column gender")
    findings.problems += column_problems(settings, table, file)
    if not set(settings.ids) <= set(table.columns):
        raise_all(f"cohort {settings.name!r} cannot be read", grouped(findings.problems))
    settings = with_columns_of(settings, table)  # so that the remaining columns are also checked
    dictionary.check_ages([spec for spec in (settings.age, settings.gestational_age) if spec], findings)
    if not early:
        everyone = whole_ids(table, settings.ids)
        flow = [FlowStep(label=flow[0].label, n_left=len(table))]  # a table of sessions changes the number of rows
        table = selected_rows(settings, table, file, findings, flow)
    table = without_excluded(settings, table, file, findings, flow)
    named, participants = pd.Series(whole_ids(table, settings.ids), dtype="str"), participants_of(settings, table)
    ids = subject_ids(named, file, findings, table=table, participants=participants)
    columns = SubjectColumns(settings, table, ids, file, findings, dictionary)
    unmatched = "refuse" if settings.connectomes is None else settings.connectomes.unmatched
    reasons = _reasons(settings, table, ids)
    search = Search(tuple(dict.fromkeys(ids)), everyone, folder, findings, unmatched, reasons=reasons)
    matrices: Matrices | None = None
    if settings.connectomes is not None and not table.empty:
        try:
            matrices = _matrices(settings, search, track)
        except ConnectomeTLError as error:
            findings.problems += error.problems
            if type(error).exit_code in (64, 66) and len(findings.problems) == len(error.problems):
                raise
    cohort = None if findings.problems else _joined(settings, columns, matrices, flow, sources, search)
    raise_all(f"cohort {settings.name!r} cannot be used", grouped(findings.problems))
    assert cohort is not None
    if settings.one_scan is not None:
        cohort = one_scan_of_each(cohort, settings.one_scan)
    raise_all(f"cohort {settings.name!r} cannot be used", nothing_to_learn(cohort))
    both = cohort.own_covariates([task.name for task in cohort.tasks])
    if both:
        findings.notes.append(f"{', '.join(both)}: covariate and outcome; a study may use it as one of them only")
    return replace(cohort, notes=tuple(dict.fromkeys(findings.notes)))


def _reasons(settings: CohortSettings, table: pd.DataFrame, ids: Sequence[str]) -> dict[str, str]:
    """Reasons for unusable matrices, by id, from the column `connectomes.reason`."""
    spec = settings.connectomes
    if spec is None or spec.reason is None:
        return {}
    cells = texts(table[spec.reason], settings.missing) if spec.reason in table.columns else []
    return {subject: cell for subject, cell in zip(ids, cells, strict=False) if cell}


def _named_columns(settings: CohortSettings) -> set[str]:
    return {one.column for one in settings.covariates} | {one.column for one in settings.outcomes}


def _one_column(settings: CohortSettings) -> str:
    """The id column of tables with a single one; "" if the ids of scans combine several."""
    return settings.id if isinstance(settings.id, str) else ""


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
        assert features is not None  # guaranteed by the settings
        marks = marks_of(settings)
        found = similarity_matrices(spec, features, known, search, id_column=_one_column(settings), marks=marks)
    elif spec.files is not None:
        features = settings.region_features
        measured = [] if features is None else [t.replace("{name}", n) for t in features.tables for n in features.names]
        tables = (settings.participants, spec.rows, spec.label_table, *(t.file for t in settings.tables), *measured)
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
    seen = np.array([subject not in found.without for subject in found.ids], dtype=bool)
    findings.notes += of_another_scale(found.weights, spec.measures, found.ids, seen)
    findings.notes += of_another_kind(found.weights, found.ids, seen, found.node_mask)
    transformed(found.weights, spec, found.ids, found.regions, _where(settings, folder), findings)
    findings.notes += [*_masked(found), *unlike_others(found.weights, found.ids, seen)]
    told = [f"{subject} ({reason})" for subject, reason in found.without.items() if subject in search.reasons]
    if told:
        findings.notes.append(f"{counted(len(told), 'subject has', 'subjects have')} no connectome: {listed(told)}")
    return found


def _masked(found: Matrices) -> list[str]:
    """Notes on missing regions: one for those missing in all subjects, one for each of the others."""
    seen = np.array([subject not in found.without for subject in found.ids], dtype=bool)
    absent, n_seen = (~found.node_mask[seen]).sum(axis=0), int(seen.sum())
    everywhere = [region for region, n in zip(found.regions, absent, strict=True) if n == n_seen]
    notes = [
        f"region {region} is missing in {counted(n, 'subject')} and is masked there"
        for region, n in zip(found.regions, absent, strict=True)
        if 0 < n < n_seen
    ]
    if len(notes) > _MOST_NOTES:
        notes = [
            *notes[:_MOST_NOTES],
            f"{counted(len(notes) - _MOST_NOTES, 'more region is', 'more regions are')} missing in some subjects",
        ]
    if everywhere:
        notes.append(
            f"{counted(len(everywhere), 'region is', 'regions are')} missing in every subject and masked: "
            f"{listed(everywhere, 6)}"
        )
    return notes


def _where(settings: CohortSettings, folder: Path) -> Path:
    """Location of the matrices, or of the measures that they are computed from."""
    matrices, features = settings.connectomes, settings.region_features
    given = [matrices.stack or matrices.files] if matrices is not None else []
    given += [*features.tables[:1], features.files] if features is not None else []
    return folder / next((name for name in given if name is not None), "")


def _joined(
    settings: CohortSettings,
    columns: SubjectColumns,
    matrices: Matrices | None,
    flow: list[FlowStep],
    sources: dict[str, str],
    search: Search,
) -> Cohort | None:
    """Join all data in one order; volumes and region features are read here."""
    ids = columns.ids if matrices is None else matrices.ids
    search = replace(search, ids=ids)
    if matrices is not None:
        left = np.isin(columns.ids, ids)
        flow.append(
            without_connectome(len(ids), matrices.without)
            if matrices.without
            else flow_step("with a connectome", left, "no matrix")
        )
    volumes = volume_files(settings.volumes, search, columns.images)
    labels = label_files(settings.volumes, search, columns.label_maps, volumes)
    features, feature_names = _region_features(settings, matrices, search)
    if features is not None:
        search.findings.notes += features_of_another_scale(features, feature_names, ids)
    if search.findings.problems:
        return None
    spec, atlas = settings.connectomes, ""
    if spec is not None:
        atlas = spec.atlas or _atlas_of(spec, _where(settings, search.folder))
    n_subjects = len(ids)
    index = pd.Index(list(ids), dtype="str")
    as_read = matrices.as_read if matrices is not None else None
    at = {subject: i for i, subject in enumerate(columns.ids)}
    people = columns.rows(np.array([at[subject] for subject in ids], dtype=int))
    return Cohort(
        name=settings.name,
        simulated=settings.simulated,
        exploratory=settings.exploratory,
        origin=settings.origin,
        ids=ids,
        regions=() if matrices is None else matrices.regions,
        atlas=atlas,
        measures=() if spec is None else spec.measures,
        weights=np.zeros((n_subjects, 0, 0, 0), np.float32) if matrices is None else matrices.weights,
        node_mask=np.zeros((n_subjects, 0), dtype=bool) if matrices is None else matrices.node_mask,
        covariates=people.covariates,
        covariate_specs=settings.covariates,
        tasks=tuple(outcome.task() for outcome in settings.outcomes),
        targets=people.targets,
        status=people.status,
        age=people.age,
        age_unit="" if settings.age is None else settings.age.unit,
        site=people.site,
        family=people.family,
        region_features=features,
        region_feature_names=feature_names,
        flow=tuple(flow),
        sources=sources if matrices is None else {**sources, **matrices.sources},
        scores=people.scores,
        age_reference="birth" if settings.age is None else settings.age.to or settings.age.reference,
        volumes=volumes,
        volume_contrast=contrast_of(settings.volumes, volumes),
        volume_labels=labels,
        transforms=() if spec is None else spec.transforms,
        as_read=pd.DataFrame(as_read, index=index) if as_read else None,
        children=people.children,
    )


def _region_features(
    settings: CohortSettings, matrices: Matrices | None, search: Search
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Regional measures in the order of the matrices, and their names."""
    wanted, spec = settings.region_features, settings.connectomes
    if wanted is None or matrices is None or spec is None:
        return None, ()
    if spec.network is not None:
        return matrices.region_features, wanted.names
    known = known_rows(spec, search.folder)
    id_column, marks = _one_column(settings), marks_of(settings)
    return read_region_features(wanted, matrices, known, search, id_column=id_column, marks=marks), wanted.names


def _atlas_of(spec: ConnectomeFiles, where: str | Path) -> str:
    """What to call regions of no named atlas: by the entity `atlas-` of a file's name, else by that name."""
    if spec.labels in (NAMED, NUMBERED):
        return "named in the files" if spec.labels == NAMED else NUMBERED
    stem = Path(spec.label_table or where).stem
    entity = next((part.removeprefix("atlas-") for part in stem.split("_") if part.startswith("atlas-")), stem)
    return entity if "{id}" not in entity else "own regions"
