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
from connectome_tl.config import dump_settings
from connectome_tl.extension_code import code_of, registered
from connectome_tl.files import Trace
from connectome_tl.provenance import content_hash, file_hash, versions, write_json, write_text
from connectome_tl.settings.parts import metrics_of, parts_of
from connectome_tl.settings.study import StudySettings

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


def mark_finished(folder: Path, settings: StudySettings, kinds: Iterable[str], inputs: Trace) -> None:
    """Record that the run is finished, with its inputs and outputs.

    Args:
        kinds: kinds of the outcomes of its cohorts.
    """
    home = folder.resolve()
    read = {_seen_from(home, path) for path in inputs.files}
    files = {name for name in read if name.partition("/")[0] not in _OTHERS} | set(_results(home))
    listings = {(_seen_from(home, place), pattern) for place, pattern in inputs.listings}
    state = _state(home, settings, sorted(kinds), sorted(inputs.importers), files, listings, inputs.variables)
    write_json(home / _MARK, state)


def is_finished(folder: Path, settings: StudySettings) -> bool:
    """Whether the folder contains a finished run of these settings and this code with unchanged files."""
    home, noted = folder.resolve(), _mark(folder)
    try:
        listings = [(place, pattern) for place, pattern, _ in noted["listings"]]
        kinds, importers, files = (noted[name] for name in ("kinds", "importers", "files"))
        return bool(noted == _state(home, settings, kinds, importers, files, listings, noted["variables"]))
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
    home: Path,
    settings: StudySettings,
    kinds: list[str],
    importers: list[str],
    files: Iterable[str],
    listings: Iterable[tuple[str, str]],
    variables: Iterable[str],
) -> dict[str, object]:
    names, patterns = sorted(files), sorted(listings)
    places = [*names, *(place for place, _ in patterns)]
    return {
        "settings": dump_settings(settings.decisive),
        "code": package_code(),
        "kinds": kinds,
        "importers": importers,
        "extensions": code_of((*parts_of(settings, kinds), *metrics_of(kinds), *importers, *_importers_for(names))),
        "versions": {"python": sys.version, **versions(), **versions(_dependencies())},
        # Absolute paths of a copied run lead to the data of the original.
        "place": str(home) if any(map(os.path.isabs, places)) else "",
        "files": {name: _stamp(home / name) for name in names},
        "listings": [[place, pattern, _names(home / place, pattern)] for place, pattern in patterns],
        "variables": {name: content_hash(os.environ.get(name)) for name in sorted(variables)},
    }


def _importers_for(names: Iterable[str]) -> tuple[str, ...]:
    """Importers of extensions that read files with these endings before those of this package do."""
    if not any(part.startswith("importer ") for part in registered()):
        return ()
    from connectome_tl.connectome.formats.table import FORMATS

    endings = {f"importer {one.name}": tuple(one.suffixes) for one in FORMATS}
    return tuple(part for part, ends in endings.items() if any(name.lower().endswith(ends) for name in names))


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
