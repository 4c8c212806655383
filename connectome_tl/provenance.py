"""Sidecars, content hashes and atomic writes.

Nothing written here holds a time, a host or a run id, so that the same inputs give the same bytes;
times and ids belong in `log/`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectome_tl.errors import MissingInputError, OutputError
from connectome_tl.files import regular_file

if TYPE_CHECKING:
    import pandas as pd

MISSING = "n/a"  # BIDS: how a missing value is written in a table
_REPORTED = (
    "connectome-tl",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "networkx",
    "nibabel",
    "nilearn",
    "dipy",
    "antspyx",
    "SimpleITK",
    "torch",
    "torch-geometric",
    "optuna",
)


def canonical_json(value: Any, *, indent: int | None = None) -> str:
    """JSON with sorted keys and no NaN: equal values give equal text.

    Undefined numbers (NaN) become null. Infinity is refused, since no reader agrees on it.
    """
    separators = (",", ":") if indent is None else (",", ": ")
    return json.dumps(
        _plain(value), sort_keys=True, indent=indent, separators=separators, ensure_ascii=False, allow_nan=False
    )


def _plain(value: Any) -> Any:
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
    """SHA-256 (hex) over any mix of arrays, bytes, tables and plain values; types and shapes count."""
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
            digest.update(b"json" + canonical_json(part).encode("utf-8", "surrogatepass"))  # as file names may hold
        digest.update(b"\x00")
    return digest.hexdigest()


def _is_table(part: Any) -> bool:
    # Without an import of pandas, which the page of a report does not need.
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(part, pandas.DataFrame)


def file_hash(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes.

    Raises:
        MissingInputError: the file is not there or cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with regular_file(path).open("rb") as stream:
            while block := stream.read(1 << 20):
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
    """Write a file whole or not at all: temporary file beside it, fsync, rename.

    Raises:
        OutputError: disk full, read-only folder, no permission.
    """
    target = Path(path)
    temporary: str | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".part", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes private files; results are meant to be read
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


def write_text(path: str | Path, text: str) -> Path:
    """`write_bytes` of UTF-8 text; half a character (a file name's byte that is none) is written as its number."""
    return write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: Any) -> Path:
    """Canonical, indented JSON, written atomically."""
    return write_text(path, canonical_json(value, indent=1) + "\n")


def write_table(path: str | Path, table: pd.DataFrame, *, index: bool = False) -> Path:
    """A TSV as BIDS writes it: tab separated, `n/a` for missing, full float precision."""
    buffer = io.StringIO()
    table.to_csv(buffer, sep="\t", index=index, na_rep=MISSING, lineterminator="\n")
    return write_text(path, buffer.getvalue())


def read_json(path: str | Path) -> Any:
    """JSON from disk.

    Raises:
        MissingInputError: the file is not there.
        OutputError: it cannot be read as JSON (a file of ours that was damaged).
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


def read_json_object(path: str | Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON object from disk that has these keys.

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


def versions(names: Iterable[str] = _REPORTED) -> dict[str, str]:
    """Installed versions of the packages that decide a result; absent ones are left out."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


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
    **fields: Any,
) -> Path:
    """The JSON that goes with a file, written beside it: see `sidecar_record`."""
    record = sidecar_record(path, inputs=inputs, settings=settings, seed=seed, units=units, **fields)
    return write_json(sidecar_path(path), record)


def sidecar_record(
    path: str | Path,
    *,
    inputs: Mapping[str, str] | None = None,
    settings: Any = None,
    seed: int | None = None,
    units: Mapping[str, str] | str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """Hashes of a file and its inputs, settings, versions, seed, units.

    Args:
        path: the file described (already written: its own hash goes in too).
        inputs: name (never an absolute path) to SHA-256 of every input.
        fields: further keys, written as they are (BIDS keys such as `Weighted`).
    """
    return {
        **fields,
        "Sha256": file_hash(path),
        "Inputs": dict(inputs or {}),
        "Settings": settings,
        "Seed": seed,
        "Units": units,
        "Versions": versions(),
        "Use": "research only, not for care",
    }
