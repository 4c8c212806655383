"""Read data dictionaries (JSON sidecars of tables): units, levels, missing codes.

BIDS `participants.json` and `phenotype/*.json`. A level is a text or an object with a Description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.columns.numeric import unit_word
from connectome_tl.cohort.findings import Findings
from connectome_tl.cohort.tables.cells import NO_VALUE, clean, fold, whole
from connectome_tl.errors import ConnectomeTLError, Problem
from connectome_tl.files import is_there, read_json_object
from connectome_tl.plurals import counted
from connectome_tl.provenance import sidecar_path
from connectome_tl.settings.columns import AgeColumn

_MAX_BYTES = 20_000_000
_UNITS = ("day", "week", "month", "year", "g", "kg", "mm", "cm")


@dataclass
class Dictionary:
    """Units and levels by column; later files add to earlier ones."""

    units: dict[str, str] = field(default_factory=dict)
    levels: dict[str, dict[str, str]] = field(default_factory=dict)
    file: Path | None = None

    def add(self, table: pd.DataFrame, path: Path, findings: Findings) -> pd.DataFrame:
        """Read the JSON file of a table, if any, and replace its codes for missing values by `n/a`.

        An unreadable dictionary does not make the table unusable, but is reported.
        """
        sidecar = sidecar_path(path)
        if sidecar == path or not is_there(sidecar):
            return table
        try:
            said = read_json_object(sidecar, limit=_MAX_BYTES)
        except ConnectomeTLError:
            findings.notes.append(f"{sidecar.name}: cannot be read as JSON, and was not used")
            return table
        self.file = sidecar
        columns = _named_columns(said, table)
        for column, about in ((columns[key], about) for key, about in said.items() if key in columns):
            if not isinstance(about, dict):
                continue
            unit, given = _key(about, "units", "unit"), _key(about, "levels")
            if isinstance(unit, str) and unit.strip():
                self.units[column] = clean(unit)
            levels = _levels(given)
            if given and not levels:
                findings.notes.append(f"{column}: its levels in {sidecar.name} are no names by code, and were not used")
            codes = [code for code, text in levels.items() if fold(text).strip(" .") in NO_VALUE]
            wanted = {whole(fold(code)) for code in codes}
            hits = table[column].map(lambda cell, wanted=wanted: whole(fold(cell)) in wanted)
            if hits.any():
                table = table.assign(**{column: table[column].where(~hits, "n/a")})
                findings.notes.append(
                    f"{column}: {', '.join(codes)} in {counted(int(hits.sum()), 'row')} is missing, "
                    f"according to {sidecar.name}"
                )
            kept = {code: text for code, text in levels.items() if code not in codes}
            if kept:
                self.levels[column] = kept
        return table

    def unit(self, column: str, declared: str, findings: Findings) -> str:
        """The declared unit of a column, else that of the dictionary; different units are a problem."""
        said = self.units.get(column, "")
        if not declared and said:
            findings.notes.append(f"{column}: its unit is {said}, according to {self.file.name if self.file else ''}")
            return unit_word(said)
        one, other = unit_word(said), unit_word(declared)
        if one in _UNITS and other in _UNITS and one != other:
            findings.problems.append(
                Problem(
                    f"the unit of {column!r} is declared twice",
                    expected=said,
                    got=declared,
                    file=self.file,
                    remedy="Correct it in this file or in the cohort file.",
                )
            )
        return declared

    def check_ages(self, columns: Sequence[AgeColumn], findings: Findings) -> None:
        """Check the declared units of ages against the dictionary."""
        for spec in columns:
            self.unit(spec.column, spec.unit, findings)


def _named_columns(said: Mapping[str, object], table: pd.DataFrame) -> dict[str, str]:
    """The column of each key: of the same name, else the only one that differs in case or blanks."""
    named = {key: key for key in said if key in table.columns}
    free = [str(name) for name in table.columns if name not in named]
    for key in said:
        alike = [name for name in free if fold(name) == fold(key)]
        if key not in named and len(alike) == 1:
            named[key] = alike[0]
    return named


def _key(about: Mapping[str, object], *names: str) -> object:
    """The value of the first of these keys, in any case."""
    keys = {fold(key): value for key, value in about.items()}
    return next((keys[name] for name in names if name in keys), None)


def _levels(value: object) -> dict[str, str]:
    """Names of levels by code, from an object, or from a list of objects with a value and a label."""
    if isinstance(value, list):
        pairs = [(_key(one, "value", "code"), _key(one, "label", "name")) for one in value if isinstance(one, dict)]
        value = {str(code): name for code, name in pairs if code is not None}
    if not isinstance(value, dict):
        return {}
    found = {}
    for code, about in value.items():
        text = _key(about, "label", "description") if isinstance(about, dict) else about
        if isinstance(text, (str, int, float)) and str(text).strip():
            found[clean(str(code))] = clean(str(text))
    return found
