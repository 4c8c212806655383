"""Decide whether a run is finished and unchanged, without reading its data.

Files are compared by size and time stamp, folders by the names in them; missing files must still be missing.
`--check` reads and hashes everything.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import connectome_tl
from connectome_tl.atlas import atlas_folders
from connectome_tl.extension import extension_code
from connectome_tl.files import Trace
from connectome_tl.provenance import content_hash, file_hash, versions, write_json, write_text

_OTHERS = ("log", "explanations", "tables", "figures", "audit.json")  # no results of the run itself
_MARK = Path("log") / "finished.json"
_OPTIONAL = tuple(
    Path(f"{name}.{end}") for name in ("calibrated", "age_gap", "learning_curve") for end in ("tsv", "json")
)
_SENTENCES = (Path("results.json"), Path("report.html"), Path("provenance.json"))
Stamp = list[int]


def forget_results(folder: Path) -> None:
    """Remove the results of an earlier run in this folder, including tables that this run may not write."""
    for path in (_MARK, *_SENTENCES, *_OPTIONAL):
        (folder / path).unlink(missing_ok=True)


def mark_finished(folder: Path, settings: str, inputs: Trace) -> None:
    """Record that the run is finished, with its inputs and outputs."""
    home = folder.resolve()
    read = {_seen_from(home, path) for path in inputs.files}
    files = {name for name in read if name.partition("/")[0] not in _OTHERS} | set(_results(home))
    listings = {(_seen_from(home, place), pattern) for place, pattern in inputs.listings}
    write_json(home / _MARK, _state(home, settings, files, listings, inputs.variables))


def is_finished(folder: Path, settings: str) -> bool:
    """Whether the folder contains a finished run of these settings and this code with unchanged files."""
    home, noted = folder.resolve(), _mark(folder)
    try:
        listings = [(place, pattern) for place, pattern, _ in noted["listings"]]
        return bool(noted == _state(home, settings, noted["files"], listings, noted["variables"]))
    except (ValueError, AttributeError, KeyError, TypeError):
        return False


def replace_output(folder: Path, name: str, text: str) -> Path:
    """Write a file of a run again; a finished run remains finished unless the file had been changed."""
    home, mark = folder.resolve(), _mark(folder)
    files = mark.get("files")
    same = isinstance(files, dict) and name in files and files[name] == _stamp(home / name)
    path = write_text(folder / name, text)
    if same:
        write_json(home / _MARK, {**mark, "files": {**mark["files"], name: _stamp(path)}})
    return path


def _mark(folder: Path) -> dict[str, Any]:
    """What `mark_finished` recorded; empty without a legible record."""
    try:
        found = json.loads((folder / _MARK).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _state(
    home: Path, settings: str, files: Iterable[str], listings: Iterable[tuple[str, str]], variables: Iterable[str]
) -> dict[str, object]:
    names, patterns = sorted(files), sorted(listings)
    places = [*names, *(place for place, _ in patterns)]
    return {
        "settings": settings,
        "code": package_code(),
        "extensions": extension_code(),
        "versions": {"python": sys.version, **versions(), **versions(_dependencies())},
        # Absolute paths of a copied run lead to the data of the original.
        "place": str(home) if any(map(os.path.isabs, places)) else "",
        "files": {name: _stamp(home / name) for name in names},
        "listings": [[place, pattern, _names(home / place, pattern)] for place, pattern in patterns],
        "variables": {name: content_hash(os.environ.get(name)) for name in sorted(variables)},
    }


@cache
def _dependencies() -> tuple[str, ...]:
    """Names of all packages that this one may use."""
    try:
        wanted = requires("connectome-tl") or []
    except PackageNotFoundError:  # on the path, but not installed
        wanted = []
    names = (re.match(r"[\w.-]+", one) for one in wanted)
    return tuple(sorted({name[0] for name in names if name is not None}))


def _results(home: Path) -> Iterator[str]:
    """Paths of all files of the run, relative to its folder."""
    for place, folders, files in os.walk(home):
        if Path(place) == home:
            folders[:], files = ([name for name in names if name not in _OTHERS] for names in (folders, files))
        yield from (Path(place, name).relative_to(home).as_posix() for name in files)


def _seen_from(home: Path, path: Path) -> str:
    """A path relative to the run folder, so that a copied run reads the copied data, or absolute behind links."""
    name = os.path.relpath(path, home)
    return Path(name).as_posix() if (home / name).resolve() == path.resolve() else str(path)


def _stamp(path: Path) -> Stamp | None:
    """Size and time stamp of a file, None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _names(place: Path, pattern: str) -> str:
    return content_hash(sorted(path.relative_to(place).as_posix() for path in place.glob(pattern)))


@cache
def package_code() -> str:
    """Hash of all code, templates and atlases of the package."""
    root = Path(connectome_tl.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".html", ".css") and path.is_file())
    files += [path for folder in atlas_folders() for path in sorted(folder.glob("*/*.*")) if path.is_file()]
    return content_hash([(path.name, file_hash(path)) for path in files])
