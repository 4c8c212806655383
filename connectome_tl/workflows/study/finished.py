"""Decide whether a run is finished and unchanged, without reading its data.

Files are compared by size and time stamp. `--check` reads and hashes everything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import connectome_tl
from connectome_tl.provenance import content_hash, versions, write_json

RESULTS = (
    "study.yaml",
    "split_plan.json",
    "predictions.tsv",
    "scores.json",
    "scores.tsv",
    "comparisons.tsv",
    "results.json",
    "report.html",
    "provenance.json",
)
_MARK = Path("log") / "finished.json"
_SENTENCES = (Path("results.json"), Path("report.html"), Path("provenance.json"))
Stamp = list[int]


def forget_results(folder: Path) -> None:
    """Remove what an earlier run in this folder said about its scores, before they are replaced."""
    for path in (_MARK, *_SENTENCES):
        (folder / path).unlink(missing_ok=True)


def mark_finished(folder: Path, settings: str, inputs: Iterable[Path]) -> None:
    """Record that the run is finished, with its inputs and outputs."""
    write_json(folder / _MARK, {**_state(folder, settings), "inputs": _stamps(sorted(inputs))})


def is_finished(folder: Path, settings: str) -> bool:
    """Whether the folder contains a finished run of these settings and this code with unchanged files."""
    try:
        noted = json.loads((folder / _MARK).read_text("utf-8"))
        inputs = [Path(name) for name in noted.pop("inputs")]
        state = json.loads((folder / _MARK).read_text("utf-8"))
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return False
    return state == {**_state(folder, settings), "inputs": _stamps(inputs)}


def _state(folder: Path, settings: str) -> dict[str, object]:
    return {
        "settings": settings,
        "code": package_code(),
        "versions": versions(),
        "results": _stamps([folder / name for name in RESULTS], relative_to=folder),
    }


def _stamps(paths: Iterable[Path], relative_to: Path | None = None) -> dict[str, Stamp | None]:
    """Size and time stamp of each file, None where there is none."""
    found: dict[str, Stamp | None] = {}
    for path in paths:
        name = str(path if relative_to is None else path.relative_to(relative_to))
        try:
            status = os.stat(path)
            found[name] = [status.st_size, status.st_mtime_ns]
        except OSError:
            found[name] = None
    return found


@cache
def package_code() -> str:
    """Hash of all code and templates of the package."""
    root = Path(connectome_tl.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".html", ".css") and path.is_file())
    return content_hash([(path.relative_to(root).as_posix(), content_hash(path.read_bytes())) for path in files])
