"""Sidecars, content hashes and atomic writes.

Files contain no time, host or run id, so that the same inputs give the same bytes; times and ids are written to
`log/`.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from glob import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectome_tl.errors import MissingInputError, OutputError
from connectome_tl.files import regular_file

if TYPE_CHECKING:
    import pandas as pd

MISSING = "n/a"  # missing value in BIDS tables
IMAGING = ("dipy", "antspyx", "SimpleITK")
# Packages that affect the results of a study; scans and searches add theirs.
REPORTED = (
    "connectome-tl",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "networkx",
    "nibabel",
    "nilearn",
    "matplotlib",
    "torch",
    "torch-geometric",
)


def canonical_json(value: Any, *, indent: int | None = None) -> str:
    """JSON with sorted keys, so that equal values give equal text.

    NaN is written as null. Infinity is refused, since it is not part of JSON.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        _plain(value), sort_keys=True, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False
    )


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return None if math.isnan(value) else value
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(_plain(item) for item in value)
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, float) and math.isnan(value):
        return None
    return value


def content_hash(*parts: Any) -> str:
    """SHA-256 (hex) over arrays, bytes, tables and plain values, including types and shapes."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray) and part.dtype != object:
            array = np.ascontiguousarray(part)
            digest.update(f"array{part.shape}{array.dtype.str}".encode())  # a scalar array would gain an axis
            digest.update(array.data if array.size else b"")
        elif isinstance(part, bytes):
            digest.update(f"bytes{len(part)} ".encode() + part)
        elif _is_table(part):
            text = f"table{[str(kind) for kind in part.dtypes]}{part.to_csv(na_rep=MISSING)}"
            digest.update(text.encode("utf-8", "surrogatepass"))
        else:
            digest.update(b"json" + canonical_json(part).encode("utf-8", "surrogatepass"))  # possible in file names
        digest.update(b"\x00")
    return digest.hexdigest()


def _is_table(part: Any) -> bool:
    # Avoid importing pandas, which rendering a report does not need.
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(part, pandas.DataFrame)


def file_hash(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with regular_file(path).open("rb") as stream:
            while block := stream.read(1 << 16):
                digest.update(block)
    except OSError as error:
        remedy = f"Ask its owner for the right to read it: chmod a+r {Path(path).name}."
        raise MissingInputError(
            f"cannot be read: {error.strerror or error}",
            file=path,
            remedy=remedy if isinstance(error, PermissionError) else None,
        ) from error
    return digest.hexdigest()


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file atomically: temporary file in the same folder, fsync, rename. Links are followed.

    Raises:
        OutputError: disk full, read-only folder, no permission; or a device, a pipe or a folder, which a rename would
            replace.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        if target.exists() and not target.is_file():
            what = f"the output is {'a folder' if target.is_dir() else 'a device or a pipe'}"
            raise OutputError(what, expected="the name of a file", file=target)
        target = target.resolve() if target.is_symlink() else target
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            with suppress(OSError):  # file systems without locks
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp creates private files
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise OutputError(
            f"could not write: {error.strerror or error}",
            file=target,
            remedy="Check free space and permissions; files written before are intact.",
        ) from error
    finally:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
    return target


def remove_halves(path: str | Path) -> None:
    """Remove hidden files that killed writes of this file have left beside it; those of running writers are locked.

    For commands that write a single file; those that write a folder remove such files when they lock it.
    """
    target = Path(path)
    for half in target.parent.glob(f".{escape(target.name[:40])}.*.part"):
        with suppress(OSError), half.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            half.unlink()


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text atomically; lone surrogates (invalid bytes of file names) are escaped."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> Path:
    """Canonical, indented JSON, written atomically."""
    return write_text(path, canonical_json(value, indent=1) + "\n")


def write_table(path: str | Path, table: pd.DataFrame, *, index: bool = False) -> Path:
    """Write a TSV file as in BIDS: tab-separated, `n/a` for missing values, full float precision."""
    buffer = io.StringIO()
    table.to_csv(buffer, sep="\t", index=index, na_rep=MISSING, lineterminator="\n")
    return write_text(path, buffer.getvalue())


def read_json(path: str | Path) -> Any:
    """Read JSON.

    Raises:
        MissingInputError: the file is not there.
        OutputError: it cannot be parsed (a damaged file of this package).
    """
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise MissingInputError("file not found", file=path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise OutputError(
            f"cannot be read as JSON: {error}",
            file=path,
            remedy="Delete the file and run again; it will be made again.",
        ) from error


def read_own_json_object(path: str | Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Read a JSON object that this package wrote, with these keys; `files.read_json_object` reads those of users.

    Raises:
        MissingInputError: the file is not there.
        OutputError: it cannot be read as JSON, contains something else than an object, or lacks a key.
    """
    found = read_json(path)
    absent = [] if not isinstance(found, dict) else [key for key in keys if key not in found]
    if not isinstance(found, dict) or absent:
        raise OutputError(
            f"lacks {', '.join(absent)}" if absent else "does not contain a JSON object",
            got=type(found).__name__,
            file=path,
            remedy="Delete the file and run again; it will be made again.",
        )
    return found


def versions(names: Iterable[str] = REPORTED) -> dict[str, str]:
    """Installed versions of packages, by default those that affect a study, without missing ones."""
    found = {name: _version(name) for name in names}
    return {name: given for name, given in found.items() if given is not None}


@cache
def _version(name: str) -> str | None:
    """Version of an installed package, read once in a process: its metadata may be long."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def sidecar_path(path: str | Path) -> Path:
    """Path of a file's sidecar: same name, extension replaced by `.json` (`.nii.gz` counts as one)."""
    target = Path(path)
    stem = target.name.removesuffix(".gz")
    stem = stem.rsplit(".", 1)[0] if "." in stem else stem
    return target.with_name(f"{stem}.json")


def write_sidecar(
    path: str | Path,
    *,
    inputs: Mapping[str, str] | None = None,
    settings: Any = None,
    seed: int | None = None,
    units: Mapping[str, str] | str | None = None,
    libraries: Iterable[str] = (),
    **fields: Any,
) -> Path:
    """The JSON file of a file, written to the same folder; see `sidecar_record`."""
    record = sidecar_record(
        path, inputs=inputs, settings=settings, seed=seed, units=units, libraries=libraries, **fields
    )
    return write_json(sidecar_path(path), record)


def sidecar_record(
    path: str | Path,
    *,
    inputs: Mapping[str, str] | None = None,
    settings: Any = None,
    seed: int | None = None,
    units: Mapping[str, str] | str | None = None,
    libraries: Iterable[str] = (),
    **fields: Any,
) -> dict[str, Any]:
    """Hashes of a file and its inputs, settings, versions, seed, units.

    Args:
        path: the described file, already written, since its hash is included.
        inputs: SHA-256 of every input by name (never an absolute path).
        libraries: further packages that took part, for their versions.
        fields: further keys (BIDS keys such as `Weighted`).
    """
    return {
        **fields,
        "Sha256": file_hash(path),
        "Inputs": dict(inputs or {}),
        "Settings": settings,
        "Seed": seed,
        "Units": units,
        "Versions": versions() | versions(libraries),
        "Use": "research only, not for care",
    }
