"""Additional tables of a cohort: sessions, phenotype, scans, quality control.

Read and joined by id, never recomputed: QSIPrep's `image_qc.tsv` and `dwiqc.json`, eddy QUAD's `qc.json`,
dHCP's sessions, BIDS phenotype tables, REDCap exports.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from connectome_tl.cohort.arrays.files import found_files
from connectome_tl.cohort.columns.ids import odd_letters, one_of_several, whole_ids, written_alike
from connectome_tl.cohort.findings import Findings, listed
from connectome_tl.cohort.tables.cells import PLAIN, Marks, clean, fold, is_missing, whole
from connectome_tl.cohort.tables.dictionaries import Dictionary
from connectome_tl.cohort.tables.records import records_of
from connectome_tl.cohort.tables.saved import read_table
from connectome_tl.cohort.tables.selection import selected
from connectome_tl.connectome.names.labels import doubled
from connectome_tl.errors import ConnectomeTLError, DataError, Problem
from connectome_tl.files import read_json_object
from connectome_tl.plurals import counted
from connectome_tl.provenance import content_hash, file_hash
from connectome_tl.settings.cohort import MoreTable

_ID_COLUMNS = ("participant_id", "subject", "sub", "subject_id", "subject_label", "record_id", "id")
_MOST_VALUES = 64  # of a list in a JSON file that become columns: one for each shell, direction or axis
_MAX_BYTES = 20_000_000


def joined_tables(
    table: pd.DataFrame,
    id_columns: Sequence[str],
    more: Sequence[MoreTable],
    folder: Path,
    findings: Findings,
    sources: dict[str, str],
    dictionary: Dictionary,
    *,
    marks: Marks = PLAIN,
) -> pd.DataFrame:
    """The participants table with the columns of further tables; cells of subjects that they lack are missing.

    If rows are scans (several id columns), a further table is joined by scan if it contains any of them, else by
    child. A table of sessions expands the row of a child to one row per scan, as in BIDS.
    """
    for spec in more:
        try:
            if "{id}" in spec.file:
                found = _one_per_subject(spec, id_columns, folder, findings, sources, marks)
            else:
                path = folder / spec.file
                found = dictionary.add(_file_rows(path, spec, id_columns, findings, marks), path, findings)
                sources[path.name] = file_hash(path)
            table = _joined(table, id_columns, found, spec, folder, findings)
        except ConnectomeTLError as error:
            findings.problems += error.problems
    return table


def _file_rows(
    path: Path, spec: MoreTable, id_columns: Sequence[str], findings: Findings, marks: Marks
) -> pd.DataFrame:
    """Rows of one table, by bare id, after its own `select`."""
    rows = _records(path) if path.suffix == ".json" else read_table(path, findings.notes)
    usual = [name for name in (id_columns[0], *_ID_COLUMNS) if name in rows.columns][:1]
    names = list((spec.id,) if isinstance(spec.id, str) else spec.id or ())
    names = names or (list(id_columns) if set(id_columns) <= set(rows.columns) else usual)
    if not names or not set(names) <= set(rows.columns):
        expected = ", ".join(names) or f"one of {', '.join(_ID_COLUMNS)}"
        raise DataError("the table has no id column", file=path, expected=expected)
    if spec.select is not None:
        rows = rows[selected(rows, spec.select, list(rows[names[0]]), marks=marks, file=path, notes=findings.notes)]
        if rows.empty:
            raise DataError("select keeps no row of this table", got=spec.select, file=path)
    ids = [value.removeprefix("sub-") for value in whole_ids(rows, names)]
    twice = doubled([one for one in ids if one])
    if twice:
        found = one_of_several(rows, ids)
        remedy = f" {found[1]} holds {found[2]}: add {'and ' if spec.select else ''}{found[0]}." if found else ""
        raise DataError(
            "subjects occur twice in a further table",
            got=listed(twice),
            file=path,
            remedy=f"Its `select` keeps one of several visits.{remedy}",
        )
    rows = rows.drop(columns=names[0]).set_axis(pd.Index(ids, dtype="str"))
    return rows[[bool(one) for one in ids]]


def _one_per_subject(
    spec: MoreTable,
    id_columns: Sequence[str],
    folder: Path,
    findings: Findings,
    sources: dict[str, str],
    marks: Marks,
) -> pd.DataFrame:
    """One file per subject: a table of one row (or one for each scan), or the values of a JSON object."""
    rows: dict[str, dict[str, str]] = {}
    hashes, said = [], []
    for subject, path in found_files(spec.file, folder, findings).items():
        try:
            name, notes = subject.removeprefix("sub-"), list[str]()
            if path.suffix == ".json":
                rows[name] = _json_values(path)
            else:
                rows |= _rows_of(path, spec, name, id_columns, marks, notes)
            hashes.append(file_hash(path))
            said += [(path, note) for note in notes]
        except ConnectomeTLError as error:
            findings.problems += error.problems
    findings.of_files(said)
    sources[f"{spec.file} ({counted(len(hashes), 'file')})"] = content_hash(sorted(hashes))
    return pd.DataFrame.from_dict(rows, orient="index", dtype="str").fillna("n/a")


def _rows_of(
    path: Path, spec: MoreTable, subject: str, id_columns: Sequence[str], marks: Marks, notes: list[str]
) -> dict[str, dict[str, str]]:
    """The rows of one subject's table by bare id: of the scan if the table distinguishes scans, else of the child."""
    rows = read_table(path, notes)
    if spec.select is not None:
        rows = rows[selected(rows, spec.select, [path.name] * len(rows), marks=marks, file=path)]
    if len(id_columns) == 2 and id_columns[1] in rows.columns:
        keys = whole_ids(rows.assign(**{id_columns[0]: subject}), id_columns)
    elif len(rows) == 1:
        keys = [subject]
    else:
        raise DataError(
            "not one row per subject",
            file=path,
            got=counted(len(rows), "row"),
            remedy="Its `select` keeps one, for example select: session_id == 'ses-1'.",
        )
    if doubled(keys):
        raise DataError("a scan occurs twice", file=path, got=doubled(keys)[0])
    records = records_of(rows.drop(columns=[id_columns[0]], errors="ignore"))
    return {key: {str(n): str(v) for n, v in row.items()} for key, row in zip(keys, records, strict=True)}


def _records(path: Path) -> pd.DataFrame:
    """A JSON with one record per subject, as QSIPrep's `dwiqc.json` (`{"subjects": [{...}, ...]}`)."""
    said = read_json_object(path, limit=_MAX_BYTES)
    if "data_no_subjects" in said:
        raise DataError(
            "eddy SQUAD's database does not assign its rows to subjects",
            file=path,
            remedy="Give the qc.json of each subject: file: .../{id}/.../qc.json.",
        )
    records = said.get("subjects")
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise DataError("no list of subjects in it", file=path, expected='{"subjects": [{...}, ...]}')
    return pd.DataFrame.from_records([_flat(record) for record in records]).fillna("n/a").astype(str)


def _json_values(path: Path) -> dict[str, str]:
    return _flat(read_json_object(path, limit=_MAX_BYTES))


def _flat(said: dict[str, Any]) -> dict[str, str]:
    """Single values as text; the numbers of a list as `key_1`, `key_2` and so on (eddy QUAD's CNR for each shell)."""
    found: dict[str, str] = {}
    for key, value in said.items():
        values = value if isinstance(value, list) else [value]
        if len(values) > _MOST_VALUES or not all(isinstance(v, (int, float, str)) or v is None for v in values):
            continue
        if isinstance(value, list) and not all(isinstance(v, (int, float)) for v in values):
            continue
        for i, one in enumerate(values, 1):
            text = "n/a" if one is None else str(int(one)) if isinstance(one, bool) else clean(str(one))
            found[f"{key}_{i}" if isinstance(value, list) else str(key)] = text
    return found


def _joined(
    table: pd.DataFrame,
    id_columns: Sequence[str],
    found: pd.DataFrame,
    spec: MoreTable,
    folder: Path,
    findings: Findings,
) -> pd.DataFrame:
    file = folder / spec.file
    if len(id_columns) == 2 and id_columns[1] not in table.columns and id_columns[1] in found.columns:
        table = _one_row_per_scan(table, id_columns, found)
    found = found.drop(columns=list(id_columns), errors="ignore")
    wanted = list(found.columns) if spec.columns is None else list(spec.columns)
    absent = [name for name in wanted if name not in found.columns]
    findings.problems += [Problem(f"column {name!r} is not in the table", file=file) for name in absent]
    clash = [name for name in wanted if name in table.columns and name not in absent]
    wanted = [name for name in wanted if name not in clash and name not in absent]
    if spec.columns is None and clash:
        findings.notes.append(f"{spec.file}: columns {', '.join(clash)} are in the participants table already")
    matched, known = _matched(table, id_columns, found, file, findings)
    if spec.columns is None:
        for name in clash:
            differ = _differ(table[name], matched[name])
            if differ.any():
                findings.notes.append(
                    f"{spec.file}: {name} differs from the participants table in {counted(int(differ.sum()), 'row')}, "
                    f"for example {table[name][differ].iloc[0]!r} and here {matched[name][differ].iloc[0]!r}; it is "
                    f"not used. Rename the column to use both"
                )
    if spec.columns is not None:
        for name in clash:
            filled = _filled(table[name], matched[name])
            if filled is None:
                findings.problems.append(
                    Problem(
                        f"column {name!r} occurs in two tables with different values",
                        file=file,
                        remedy="Leave it out of `columns`.",
                    )
                )
            else:
                n_new = int((filled != table[name]).sum())
                findings.notes += [f"{name}: {n_new} missing cells were filled from {spec.file}"] if n_new else []
                table = table.assign(**{name: filled})
    if not known.all():
        findings.notes.append(
            f"{spec.file}: nothing on {counted(int((~known).sum()), 'subject')}; their values are missing"
        )
    return pd.concat([table, matched[wanted]], axis=1)


def _matched(
    table: pd.DataFrame, id_columns: Sequence[str], found: pd.DataFrame, file: Path, findings: Findings
) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows of the further table in the order of the participants, and whether it contains each of them, (n_rows,).

    Ids in a different notation, or tables without any known id, are problems.
    """
    names = pd.Index([value.removeprefix("sub-") for value in whole_ids(table, id_columns)])
    if len(id_columns) > 1 and not names.isin(found.index).any():
        names = pd.Index([value.removeprefix("sub-") for value in table[id_columns[0]]])
    known = names.isin(found.index)
    differ = written_alike(map(str, names[~known]), map(str, found.index[~found.index.isin(names)]))
    findings.several(
        [(subject, f"is {name!r} there{odd_letters(subject, name)}") for subject, name in differ],
        "the id is written differently in a further table",
        file,
        "Write the id the same everywhere.",
    )
    if len(names) and not known.any() and not differ:
        findings.problems.append(
            Problem(
                "no subject of the participants is in this table",
                expected=f"ids such as {names[0]!r}",
                got=f"ids such as {found.index[0]!r}" if len(found) else "no rows",
                file=file,
                remedy="Is `id` the right column?",
            )
        )
    return found.reindex(names).fillna("n/a").set_axis(table.index), np.asarray(known)


def _filled(own: pd.Series, other: pd.Series) -> pd.Series | None:
    """A column with missing cells filled from another one; None if the two disagree."""
    if _differ(own, other).any():
        return None
    return own.where(~np.array([is_missing(cell) for cell in own], dtype=bool), other)


def _differ(own: pd.Series, other: pd.Series) -> np.ndarray:
    """Rows (n_rows,) in which two columns hold different values; missing cells differ from nothing."""
    known = np.array([not is_missing(a) and not is_missing(b) for a, b in zip(own, other, strict=True)], dtype=bool)
    same = [whole(fold(a)) == whole(fold(b)) for a, b in zip(own, other, strict=True)]
    numbers = [pd.to_numeric(column, errors="coerce").to_numpy(dtype=float) for column in (own, other)]
    return known & ~np.array(same, dtype=bool) & ~np.asarray(numbers[0] == numbers[1])


def _one_row_per_scan(table: pd.DataFrame, id_columns: Sequence[str], found: pd.DataFrame) -> pd.DataFrame:
    """Expand the row of a child to one row per scan; a child without scans keeps one row, without a session."""
    child, session = id_columns
    scans: dict[str, list[str]] = {}
    for key, name in zip(found.index, found[session], strict=True):
        scans.setdefault(str(key).rsplit("_", 1)[0], []).append(str(name))
    of_child = [scans.get(value.removeprefix("sub-"), ["n/a"]) for value in table[child]]
    repeated = table.loc[table.index.repeat([len(names) for names in of_child])].reset_index(drop=True)
    return repeated.assign(**{session: [name for names in of_child for name in names]})
