"""What the JSON beside a table says of its columns: units, levels of categories, codes for a missing value.

BIDS `participants.json` and `phenotype/*.json`. A level is a text or an object with a Description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from connectome_tl.cohort.tables import MISSING_WORDS, Findings
from connectome_tl.errors import ConnectomeTLError, Problem
from connectome_tl.files import read_json_object
from connectome_tl.provenance import sidecar_path
from connectome_tl.settings.cohort import AgeColumn, Covariate

_MAX_BYTES = 20_000_000
_NO_VALUE = MISSING_WORDS | {
    *("missing value", "missing data", "not available", "not applicable", "not done", "not recorded"),
    *("no data", "refused", "not measured", "not collected", "not assessed"),
}
_SHORT = {
    **{name: name for name in ("day", "week", "month", "year", "g", "kg", "mm", "cm")},
    **dict.fromkeys(("wk", "w"), "week"),
    **dict.fromkeys(("gram", "gm"), "g"),
    **dict.fromkeys(("kilogram", "kilo"), "kg"),
    **dict.fromkeys(("millimetre", "millimeter"), "mm"),
    **dict.fromkeys(("centimetre", "centimeter"), "cm"),
    "mo": "month",
    "yr": "year",
    "d": "day",
}


@dataclass
class Dictionary:
    """Units and levels by column; later files add to earlier ones."""

    units: dict[str, str] = field(default_factory=dict)
    levels: dict[str, dict[str, str]] = field(default_factory=dict)
    file: Path | None = None

    def add(self, table: pd.DataFrame, path: Path, findings: Findings) -> pd.DataFrame:
        """Read the JSON beside `path`, if there is one, and replace its codes for missing values by `n/a`.

        A dictionary that cannot be read does not make the table unusable; it is noted.
        """
        sidecar = sidecar_path(path)
        if sidecar == path or not sidecar.is_file():
            return table
        try:
            said = read_json_object(sidecar, limit=_MAX_BYTES)
        except ConnectomeTLError:
            findings.notes.append(f"{sidecar.name}: cannot be read as JSON, and was not used")
            return table
        self.file = sidecar
        for column, about in said.items():
            if column not in table.columns or not isinstance(about, dict):
                continue
            if isinstance(about.get("Units"), str) and about["Units"].strip():
                self.units[column] = about["Units"].strip()
            levels = _levels(about.get("Levels"))
            codes = [code for code, text in levels.items() if text.casefold().strip(" .") in _NO_VALUE]
            hits = table[column].isin(codes)
            if hits.any():
                table = table.assign(**{column: table[column].where(~hits, "n/a")})
                findings.notes.append(
                    f"{column}: {', '.join(codes)} in {int(hits.sum())} rows is missing, says {sidecar.name}"
                )
            kept = {code: text for code, text in levels.items() if code not in codes}
            if kept:
                self.levels[column] = kept
        return table

    def category(
        self, spec: Covariate, cells: Sequence[str], ids: Sequence[str], file: str | Path, findings: Findings
    ) -> list[str]:
        """Cells of a categorical covariate by the names of their levels; "" stays "".

        The user's own `levels` come first, then those of the dictionary. A cell that is no known code or name is
        a problem; without levels the cells stay as they are.
        """
        levels: Mapping[str, str] = spec.levels or self.levels.get(spec.column, {})
        if not levels:
            return list(cells)
        names = set(levels.values())
        wrong = [
            (ids[i], repr(cell[:60]))
            for i, cell in enumerate(cells)
            if cell and cell not in levels and cell not in names
        ]
        known = ", ".join(f"{code}: {name}" for code, name in list(levels.items())[:8])
        findings.several(wrong, f"column {spec.column!r} holds a code that its levels do not explain ({known})", file)
        return [levels.get(cell, cell) for cell in cells]

    def unit(self, column: str, declared: str, findings: Findings) -> str:
        """The unit of a column as declared, else as the dictionary says; two that differ are a problem."""
        said = self.units.get(column, "")
        if not declared and said:
            findings.notes.append(f"{column}: its unit is {said}, says {self.file.name if self.file else ''}")
            return _SHORT.get(_singular(said), said)
        one, other = (_SHORT.get(_singular(unit)) for unit in (said, declared))
        if one and other and one != other:
            findings.problems.append(
                Problem(f"the unit of {column!r} is declared twice", expected=said, got=declared, file=self.file)
            )
        return declared

    def check_ages(self, columns: Sequence[AgeColumn], findings: Findings) -> None:
        """Ages carry the unit that the user declares; a dictionary may not contradict it."""
        for spec in columns:
            self.unit(spec.column, spec.unit, findings)


def _singular(unit: str) -> str:
    unit = unit.strip().casefold().rstrip(".")
    return unit[:-1] if unit.endswith("s") and len(unit) > 1 else unit


def _levels(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    found = {}
    for code, about in value.items():
        text = about.get("Description", about.get("Label")) if isinstance(about, dict) else about
        if isinstance(text, (str, int, float)) and str(text).strip():
            found[str(code).strip()] = str(text).strip()
    return found
