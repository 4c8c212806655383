"""Further tables beside the participants: sessions, phenotype, scans, upstream quality control.

Read and joined by id, never recomputed: QSIPrep's `image_qc.tsv`, eddy QUAD's `qc.json`, dHCP's
sessions, BIDS phenotype tables. What `participants.json` says of a unit is compared with what the user
says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.files import found_files
from connectome_tl.cohort.selection import selected
from connectome_tl.cohort.tables import Findings, read_table
from connectome_tl.connectome.labels import decoded, doubled, read_bytes
from connectome_tl.errors import ConnectomeTLError, DataError, Problem
from connectome_tl.provenance import content_hash, file_hash, sidecar_path
from connectome_tl.settings.cohort import AgeColumn, MoreTable

_ID_COLUMNS = ("participant_id", "subject", "sub", "subject_id", "subject_label", "record_id", "id")
_MAX_BYTES = 20_000_000


def joined_tables(
    table: pd.DataFrame,
    id_column: str,
    more: Sequence[MoreTable],
    folder: Path,
    findings: Findings,
    sources: dict[str, str],
    *,
    codes: Sequence[str] = (),
) -> pd.DataFrame:
    """The participants table with the columns of further ones; a subject they lack has missing cells."""
    for spec in more:
        try:
            if "{id}" in spec.file:
                found = _one_per_subject(spec, folder, findings, sources)
            else:
                path = folder / spec.file
                found = _file_rows(path, spec, codes)
                sources[path.name] = file_hash(path)
            table = _joined(table, id_column, found, spec, folder, findings)
        except ConnectomeTLError as error:
            findings.problems += error.problems
    return table


def _file_rows(path: Path, spec: MoreTable, codes: Sequence[str]) -> pd.DataFrame:
    """Rows of one table, by bare id, after its own `select`."""
    rows = read_table(path)
    names = [spec.id] if spec.id is not None else [name for name in _ID_COLUMNS if name in rows.columns]
    if not names or names[0] not in rows.columns:
        raise DataError("the table has no id column", file=path, expected=spec.id or f"one of {', '.join(_ID_COLUMNS)}")
    if spec.select is not None:
        rows = rows[selected(rows, spec.select, list(rows[names[0]]), codes=codes, file=path)]
    ids = [value.removeprefix("sub-") for value in rows[names[0]]]
    twice = doubled(ids)
    if twice:
        raise DataError(
            "subjects stand twice in a further table",
            problems=[
                Problem("stands twice", subject=one, file=path, remedy="Its `select` keeps one of several visits.")
                for one in twice[:20]
            ],
        )
    return rows.drop(columns=names[0]).set_axis(pd.Index(ids, dtype="str"))


def _one_per_subject(spec: MoreTable, folder: Path, findings: Findings, sources: dict[str, str]) -> pd.DataFrame:
    """One file per subject: a table of one row, or the single values of a JSON object."""
    rows: dict[str, dict[str, str]] = {}
    hashes = []
    for subject, path in found_files(spec.file, folder, findings).items():
        try:
            rows[subject.removeprefix("sub-")] = (
                _json_values(path) if path.suffix == ".json" else _single_row(path, spec)
            )
            hashes.append(file_hash(path))
        except ConnectomeTLError as error:
            findings.problems += error.problems
    sources[f"{spec.file} ({len(hashes)} files)"] = content_hash(sorted(hashes))
    return pd.DataFrame.from_dict(rows, orient="index", dtype="str").fillna("n/a")


def _single_row(path: Path, spec: MoreTable) -> dict[str, str]:
    rows = read_table(path)
    if spec.select is not None:
        rows = rows[selected(rows, spec.select, [path.name] * len(rows), file=path)]
    if len(rows) != 1:
        raise DataError(
            "not one row per subject",
            file=path,
            got=f"{len(rows)} rows",
            remedy="Its `select` keeps one, for example select: session_id == 'ses-1'.",
        )
    return {str(name): str(value) for name, value in rows.iloc[0].items()}


def _json_values(path: Path) -> dict[str, str]:
    try:
        said = json.loads(decoded(read_bytes(path, limit=_MAX_BYTES), path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON: {error}", file=path) from error
    if not isinstance(said, dict):
        raise DataError("not a JSON object", file=path)
    return {
        str(key): str(value)
        for key, value in said.items()
        if isinstance(value, (int, float, str)) and not isinstance(value, bool)
    }


def _joined(
    table: pd.DataFrame, id_column: str, found: pd.DataFrame, spec: MoreTable, folder: Path, findings: Findings
) -> pd.DataFrame:
    file = folder / spec.file
    wanted = list(found.columns) if spec.columns is None else list(spec.columns)
    absent = [name for name in wanted if name not in found.columns]
    findings.problems += [Problem(f"column {name!r} is not in the table", file=file) for name in absent]
    clash = [name for name in wanted if name in table.columns and name not in absent]
    if spec.columns is None:
        wanted = [name for name in wanted if name not in clash]
        if clash:
            findings.notes.append(f"{spec.file}: columns {', '.join(clash)} stand in the participants table already")
    else:
        findings.problems += [
            Problem(f"column {name!r} stands in two tables", file=file, remedy="Leave it out of `columns`.")
            for name in clash
        ]
        wanted = [name for name in wanted if name not in clash and name not in absent]
    bare = pd.Index([value.removeprefix("sub-") for value in table[id_column]])
    matched = found[wanted].reindex(bare).fillna("n/a").set_axis(table.index)
    missing = int((~bare.isin(found.index)).sum())
    if missing:
        findings.notes.append(f"{spec.file}: nothing on {missing} subjects; their values are missing")
    return pd.concat([table, matched], axis=1)


def unit_problems(file: Path, columns: Sequence[AgeColumn]) -> list[Problem]:
    """Ages whose declared unit is not the one that the BIDS sidecar of the table gives."""
    sidecar = sidecar_path(file)
    if not sidecar.is_file() or sidecar == file:
        return []
    try:
        said = json.loads(decoded(read_bytes(sidecar, limit=_MAX_BYTES), sidecar))
    except (ValueError, RecursionError, ConnectomeTLError):
        return []  # a broken dictionary of columns does not make the table unusable
    found = []
    for spec in columns:
        about = said.get(spec.column) if isinstance(said, dict) else None
        unit = str(about.get("Units", "")).lower().rstrip("s") if isinstance(about, dict) else ""
        if unit in ("day", "week", "month", "year") and unit != spec.unit.rstrip("s"):
            found.append(
                Problem(f"the unit of {spec.column!r} is declared twice", expected=unit, got=spec.unit, file=sidecar)
            )
    return found
