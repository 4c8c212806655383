"""Read regional measures (thickness, volume, FA, ...) of a cohort."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.atlas import order_of
from connectome_tl.cohort.arrays.files import Search, found_files
from connectome_tl.cohort.arrays.matrices import Matrices, kept_regions
from connectome_tl.cohort.arrays.regional_checks import checked_measures
from connectome_tl.cohort.columns.numeric import numbers
from connectome_tl.cohort.findings import Findings, listed
from connectome_tl.cohort.tables.cells import PLAIN, Marks
from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.connectome.formats.arrays import load_array
from connectome_tl.connectome.morphometric import similarity_network
from connectome_tl.connectome.names.labels import doubled
from connectome_tl.connectome.names.naming import RowNames
from connectome_tl.errors import ConnectomeTLError, DataError, Problem
from connectome_tl.files import is_there
from connectome_tl.plurals import counted
from connectome_tl.provenance import content_hash, file_hash
from connectome_tl.settings.cohort import ConnectomeFiles, RegionFeatureFiles

_SHOWN = 5
_FEWEST_FEATURES = 3  # a correlation of two pairs of numbers is 1 or -1


def read_region_features(
    spec: RegionFeatureFiles,
    matrices: Matrices,
    known: RowNames,
    search: Search,
    *,
    id_column: str,
    marks: Marks = PLAIN,
) -> np.ndarray | None:
    """Regional measures (n_subjects, n_regions, n_features) float64 in the order of the matrices, NaN where unknown.

    If the search drops unmatched data, all values of a subject without a table are unknown, as are those of a subject
    without a connectome.
    """
    try:
        if spec.stack is not None:
            values = _from_stack(spec, matrices, search.folder)
            notes = search.findings.notes
            return checked_measures(values, matrices.ids, matrices.regions, spec.names, str(spec.stack), notes)
        own = replace(search, ids=[subject for subject in search.ids if subject not in matrices.without])
        tables, _ = _tables(spec, known, own, id_column=id_column, lacking="are unknown there", marks=marks)
        if search.unmatched != "refuse" or matrices.without:
            tables = {subject: tables.get(subject, pd.DataFrame(columns=list(spec.names))) for subject in matrices.ids}
        return _lined_up(tables, matrices.regions, spec, search.findings, strict=spec.files is not None)
    except ConnectomeTLError as error:
        search.findings.problems += error.problems
        return None


def similarity_matrices(
    spec: ConnectomeFiles,
    features: RegionFeatureFiles,
    known: RowNames,
    search: Search,
    *,
    id_column: str,
    marks: Marks = PLAIN,
) -> Matrices | None:
    """Morphometric similarity networks of all subjects, with their measures as region features.

    Without an atlas or a label table the regions are those of the tables, in the order of the first one.
    """
    findings = search.findings
    if len(features.names) < _FEWEST_FEATURES:
        raise DataError(
            "too few measures for a similarity network",
            file=search.folder / (features.tables or (str(features.files),))[0],
            expected=f"at least {_FEWEST_FEATURES}",
            got=", ".join(features.names),
            remedy="Name more measures in region_features.names, or give connectomes of another kind.",
        )
    n_before = len(findings.problems)
    tables, hashes = _tables(features, known, search, id_column=id_column, marks=marks)
    if not tables or len(findings.problems) > n_before:
        return None  # do not report consequences of unreadable cells
    regions = known.names or tuple(next(iter(tables.values())).index)
    kept = kept_regions(spec.regions, regions, known.atlas)
    values = _lined_up(tables, regions, features, findings, strict=known.names is None)[:, kept]
    regions = tuple(regions[i] for i in kept)
    weights = np.zeros((len(tables), 1, len(regions), len(regions)), dtype=np.float32)
    node_mask = np.zeros((len(tables), len(regions)), dtype=bool)
    for i, subject in enumerate(tables):
        try:
            made = similarity_network(values[i], regions, subject=subject)
        except DataError as error:
            findings.problems += error.problems
            continue
        weights[i], node_mask[i] = made.weights, made.node_mask
    sources = {f"region features ({counted(len(hashes), 'file')})": content_hash(sorted(hashes))}
    return Matrices(tuple(tables), regions, weights, node_mask, sources, values)


def _from_stack(spec: RegionFeatureFiles, matrices: Matrices, folder: Path) -> np.ndarray:
    expected = (len(matrices.ids), len(matrices.regions), len(spec.names))
    values = matrices.region_features
    if values is None or spec.key not in (None, "region_features"):
        values = load_array(folder / str(spec.stack), spec.key)
    if values.shape != expected:
        raise DataError(
            "region features do not match the connectomes",
            file=folder / str(spec.stack),
            expected=f"{expected} (subjects, regions, features)",
            got=str(values.shape),
            remedy="Rows and regions of the stack are those of the connectomes.",
        )
    return values.astype(float)


def _tables(
    spec: RegionFeatureFiles,
    known: RowNames,
    search: Search,
    *,
    id_column: str,
    lacking: str = "were left out",
    marks: Marks,
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Tables (n_regions, n_features) by subject, with rows by region name, and hashes of the files."""
    if spec.table is not None:
        found = _from_wide(spec, search, id_column=id_column, lacking=lacking, marks=marks)
    else:
        found = _from_files(spec, search, lacking=lacking, marks=marks)
    if known.atlas is not None:
        for table in found[0].values():
            table.index = pd.Index(known.atlas.resolved([str(name) for name in table.index]))
    _check_sides(spec, known, found[0], search)
    return found


def _check_sides(spec: RegionFeatureFiles, known: RowNames, tables: Mapping[str, pd.DataFrame], search: Search) -> None:
    """Report tables of one hemisphere if those of the other exist but are not named."""
    if known.atlas is None or not tables:
        return
    side = {region.name: region.hemisphere for region in known.atlas.regions}
    sides = {side[name] for table in tables.values() for name in map(str, table.index) if name in side}
    for one, other in (("lh", "rh"), ("rh", "lh")):
        for name in spec.tables:
            beside = name.replace(one, other, 1)
            there = is_there(search.folder / beside.replace("{name}", spec.names[0]))
            if beside != name and beside not in spec.tables and there and sides == {one[0].upper()}:
                search.findings.problems.append(
                    Problem(
                        "the tables of region features cover one hemisphere only",
                        file=search.folder / name,
                        got=f"those of the other are in the same folder: {beside}",
                        remedy=f'Set table: "{name.replace(one, "{hemi}", 1)}".',
                    )
                )


def _from_files(
    spec: RegionFeatureFiles, search: Search, *, lacking: str, marks: Marks
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    findings = search.findings
    files = found_files(str(spec.files), search.folder, findings)
    names = search.owners(files, what="region features", file=str(spec.files), lacking=lacking)
    tables, hashes, said = {}, [], list[tuple[Path, str]]()
    for subject in (subject for subject in search.ids if subject in names):
        path = files[names[subject]]
        notes: list[str] = []
        table = read_table(path, notes)
        said += [(path, note) for note in notes]
        absent = [column for column in ("name", *spec.names) if column not in table.columns]
        if absent:
            findings.problems.append(Problem(f"lacks columns {', '.join(absent)}", subject=subject, file=path))
            continue
        rows = list(table["name"])
        findings.problems += [
            Problem(f"region {name!r} occurs twice", subject=subject, file=path) for name in doubled(rows)
        ]
        values = {name: numbers(table[name], rows, path, findings, marks=marks) for name in spec.names}
        tables[subject] = pd.DataFrame(values, index=rows)
        hashes.append(file_hash(path))
    findings.of_files(said)
    return tables, hashes


def _from_wide(
    spec: RegionFeatureFiles, search: Search, *, id_column: str, lacking: str, marks: Marks
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Read tables with one row per subject and columns that name measure and region; columns may be in several
    tables.
    """
    findings = search.findings
    columns: dict[str, dict[str, np.ndarray]] = {}  # measure -> region -> (n_rows,)
    owners: list[str] = []
    read: dict[Path, pd.DataFrame] = {}
    for name in spec.names:
        found: dict[str, np.ndarray] = {}
        for path in dict.fromkeys(search.folder / one.replace("{name}", name) for one in spec.tables):
            table = read[path] if path in read else read_table(path, findings.notes)
            read[path] = table
            table, owners = _in_order(table, spec, id_column, owners, path)
            part = _measure_columns(table, spec.columns.replace("{name}", name), owners, path, findings, marks)
            twice = [region for region in part if region in found]
            if twice:
                raise DataError(f"regions of {name!r} occur in two tables", file=path, got=listed(twice))
            found |= part
        if not found:
            raise DataError(
                f"no column of measure {name!r}", file=path,
                expected=f"columns called {spec.columns.replace('{name}', name).replace('{region}', 'REGION')}",
                got=", ".join(map(str, table.columns[:6])), remedy="Set region_features.columns.",
            )  # fmt: skip
        columns[name] = found
    regions = list(columns[spec.names[0]])
    for name, values in columns.items():
        other = [region for region in values if region not in columns[spec.names[0]]]
        absent = [region for region in regions if region not in values]
        if other or absent:
            findings.notes.append(
                f"{name}: other regions than {spec.names[0]}: {', '.join((other + absent)[:_SHOWN])}; unknown there"
            )
        regions += other
    names = search.owners(owners, what="region features", file=", ".join(spec.tables), lacking=lacking)
    row_of = {owner: i for i, owner in enumerate(owners)}
    unknown = np.full(len(owners), np.nan)
    stacked = np.array([[columns[name].get(region, unknown) for name in spec.names] for region in regions])
    return {
        subject: pd.DataFrame(stacked[:, :, row_of[names[subject]]], index=regions, columns=list(spec.names))
        for subject in search.ids
        if subject in names
    }, [file_hash(path) for path in read]


def _in_order(
    table: pd.DataFrame, spec: RegionFeatureFiles, id_column: str, owners: list[str], path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """The table with rows in the order of the subjects read before, and these subjects.

    Raises:
        DataError: no id column, a subject twice, other subjects than before.
    """
    column = next((c for c in (spec.id, id_column) if c in table.columns), spec.id or str(table.columns[0]))
    if column not in table.columns:
        raise DataError(f"has no column {column!r}", file=path, expected="region_features.id: its id column")
    rows = list(table[column])
    if doubled(rows):
        raise DataError("subjects occur twice among the rows", file=path, got=listed(doubled(rows)))
    if owners and rows != owners:
        if sorted(rows) != sorted(owners):
            differ = sorted(set(rows) ^ set(owners))
            raise DataError("the tables of region features have different subjects", file=path, got=listed(differ))
        table = table.set_index(column, drop=False).loc[owners]
    return table.drop(columns=[column]), owners or rows


def _measure_columns(
    table: pd.DataFrame, pattern: str, owners: Sequence[str], path: Path, findings: Findings, marks: Marks
) -> dict[str, np.ndarray]:
    """Region to values (n_rows,) of the columns that fit the pattern."""
    before, after = pattern.split("{region}")
    fitting = re.compile(re.escape(before) + "(.+)" + re.escape(after))
    own = Findings(findings.problems)
    found = {
        match.group(1): numbers(table[c], owners, path, own, marks=marks)
        for c in table.columns
        if (match := fitting.fullmatch(c))
    }
    if own.notes:
        more = f", and so in {counted(len(own.notes) - 1, 'more column')}" if len(own.notes) > 1 else ""
        findings.notes.append(f"{path.name}: {own.notes[0]}{more}")
    return found


def _lined_up(
    tables: dict[str, pd.DataFrame],
    regions: Sequence[str],
    spec: RegionFeatureFiles,
    findings: Findings,
    *,
    strict: bool,
) -> np.ndarray:
    """Aligned tables (n_subjects, n_regions, n_features); NaN for regions that a table lacks.

    Args:
        strict: whether a region that is not in `regions` is a problem; else it is noted and ignored (FreeSurfer tables
            also contain totals).

    Raises:
        DataError: a table has none of the regions.
    """
    out = np.full((len(tables), len(regions), len(spec.names)), np.nan)
    known = set(regions)
    for i, (subject, table) in enumerate(tables.items()):
        rows = [str(name) for name in table.index]
        other = [name for name in rows if name not in known]
        file = ", ".join(spec.tables) or spec.files
        if other and (strict or len(other) == len(rows)):
            findings.problems.append(
                Problem(f"unknown regions {', '.join(other[:_SHOWN])}", subject=subject, file=file)
            )
            continue
        if other:
            findings.notes.append(f"{file}: {counted(len(other), 'column')} without a region left out: {other[0]}, ...")
        here = [name for name in rows if name in known]
        out[i, order_of(here, regions, where="the connectomes")] = table.to_numpy()[[name in known for name in rows]]
    return checked_measures(
        out, list(tables), regions, spec.names, ", ".join(spec.tables) or str(spec.files), findings.notes
    )
