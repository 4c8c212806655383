"""BIDS filter files (`--bids-filter-file`), as fMRIPrep and QSIPrep read them.

A JSON object of queries, `{"dwi": {"acquisition": "b2600", "run": 1}, "t2w": {"reconstruction": null}}`. A file is kept
if every entity matches the query of its kind; null matches an absent entity, "*" any value, and a list any of its
values; pybids's names of such queries (`Query.NONE`, `Query.ANY`) are known. Queries of images that are not used here
(functional MRI, for example) are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectome_tl.errors import Problem, UsageError
from connectome_tl.files import read_json_object
from connectome_tl.imaging.read.names import IMAGES, FoundFile
from connectome_tl.plurals import counted

_SHORT = {
    "acquisition": "acq", "ceagent": "ce", "description": "desc", "direction": "dir", "hemisphere": "hemi",
    "inversion": "inv", "modality": "mod", "processing": "proc", "reconstruction": "rec", "resolution": "res",
    "session": "ses", "subject": "sub",
}  # fmt: skip
_ENTITIES = {*_SHORT.values(), "atlas", "echo", "flip", "label", "mt", "part", "run", "space", "split", "task"}
_KINDS = {"dwi": "dwi", "fmap": "epi", "t1w": "T1w", "t2w": "T2w"}
_OTHERS = ("asl", "bold", "flair", "m0scan", "meg", "pet", "roi", "sbref")
_OF_FILE = ("datatype", "suffix", "extension")
_QUERIES = {"Query.NONE": None, "Query.ANY": "*", "Query.REQUIRED": "*"}  # as pybids calls them
_OPTIONAL = "Query.OPTIONAL"
Filters = Mapping[str, Mapping[str, Any]]


def read_filters(path: Path) -> Filters:
    """Read queries, by the suffix of the files that they apply to.

    Raises:
        MissingInputError, DataError: no such file, or not a JSON object. UsageError: unknown kind, or invalid query.
    """
    found: dict[str, dict[str, Any]] = {}
    for kind, query in read_json_object(path).items():
        if kind in _OTHERS:
            continue
        if kind not in _KINDS or not isinstance(query, dict):
            raise UsageError("an unknown query", expected=f"{{...}} of {', '.join(_KINDS)}", got=kind, file=path)
        named = {_SHORT.get(str(key), str(key)): value for key, value in query.items() if value != _OPTIONAL}
        short = {key: _value(value, key, path) for key, value in named.items()}
        unknown = sorted(short.keys() - _ENTITIES - {*_OF_FILE})
        if unknown:
            known = ", ".join(sorted({*_SHORT, *_ENTITIES} - {*_SHORT.values()}))
            what = f"an unknown entity in the query of {kind}"
            raise UsageError(what, expected=known, got=", ".join(unknown), file=path)
        found[_KINDS[kind]] = short
    return found


def _value(value: Any, key: str, path: Path) -> Any:
    """A value of a query: text without the entity's key, or None, `*` or a list of these.

    Raises:
        UsageError: a value that no name of a file can have.
    """
    if isinstance(value, list) and value:
        return [_value(one, key, path) for one in value]
    if isinstance(value, bool | float | list | dict):
        expected = 'text, a whole number, null, "*" or a list of these'
        raise UsageError(f"a query of {key} that no file matches", expected=expected, got=json.dumps(value), file=path)
    return None if value is None else _QUERIES.get(str(value), str(value).removeprefix(f"{key}-"))


def select(files: Sequence[FoundFile], filters: Filters, problems: list[Problem]) -> list[FoundFile]:
    """Files that match; adds a problem for a query without any."""
    kept = [found for found in files if is_meant(found, filters)]
    for suffix, query in filters.items():
        there, taken = ([f for f in some if f.suffix == suffix and f.ending in IMAGES] for some in (files, kept))
        if there and not taken:
            what = f"the filter file leaves out all of {counted(len(there), f'{suffix} image')}"
            wanted = ", ".join(f"{key}: {json.dumps(value)}" for key, value in query.items())
            problems.append(Problem(what, expected=wanted, got=there[0].path.name))
    return kept


def is_meant(found: FoundFile, filters: Filters) -> bool:
    """Whether a file matches; files of kinds without a query always do."""
    query = filters.get(found.suffix)
    if query is None or found.ending not in IMAGES:
        return True
    of_file = {"datatype": found.path.parent.name, "suffix": found.suffix, "extension": found.ending.lstrip(".")}
    known = found.entities | of_file
    return all(_fits(known.get(key), value) for key, value in query.items())


def _fits(entity: str | None, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_fits(entity, one) for one in wanted)
    if wanted == "*":
        return entity is not None
    if wanted is None or entity is None:
        return wanted is None and entity is None
    return entity == wanted.lstrip(".") or (entity.isdigit() and entity.lstrip("0") == wanted.lstrip("0"))
