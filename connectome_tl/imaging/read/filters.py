"""BIDS filter files (`--bids-filter-file`), as fMRIPrep and QSIPrep read them.

A JSON object of queries, `{"dwi": {"acquisition": "b2600", "run": 1}, "t2w": {"reconstruction": null}}`. A file is kept
if every entity matches the query of its kind; null matches an absent entity, and a list any of its values.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectome_tl.errors import UsageError
from connectome_tl.files import read_json_object
from connectome_tl.imaging.read.names import IMAGES, FoundFile

_SHORT = {
    "acquisition": "acq", "ceagent": "ce", "direction": "dir", "reconstruction": "rec", "session": "ses",
    "subject": "sub",
}  # fmt: skip
_KINDS = {"dwi": "dwi", "t1w": "T1w", "t2w": "T2w"}
_ASIDE = ("datatype", "suffix", "extension")
Filters = Mapping[str, Mapping[str, Any]]


def read_filters(path: Path) -> Filters:
    """Read queries, by the suffix of the files that they apply to.

    Raises:
        MissingInputError, DataError: no such file, or not a JSON object. UsageError: unknown kind, or invalid query.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind, query in read_json_object(path).items():
        if kind not in _KINDS or not isinstance(query, dict):
            raise UsageError("an unknown query", expected=f"{{...}} of {', '.join(_KINDS)}", got=kind, file=path)
        found[_KINDS[kind]] = {
            _SHORT.get(str(key), str(key)): value for key, value in query.items() if key not in _ASIDE
        }
    return found


def is_meant(found: FoundFile, filters: Filters) -> bool:
    """Whether a file matches; files of kinds without a query always do."""
    query = filters.get(found.suffix)
    if query is None or found.ending not in IMAGES:
        return True
    return all(_fits(found.entities.get(key), value) for key, value in query.items())


def _fits(entity: str | None, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_fits(entity, one) for one in wanted)
    if wanted is None or entity is None:
        return wanted is None and entity is None
    return entity == str(wanted) or (entity.isdigit() and entity.lstrip("0") == str(wanted).lstrip("0"))
