"""Bundle folder: seven safetensors, JSON and Markdown files, and a manifest of their hashes.

Files are found by an allow-list, never by names in other files. No format that can execute code is read.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.bundle.tensors import RowTable, all_tensors, opened_rows
from connectome_tl.errors import ConnectomeTLError, DataError, MissingInputError, UsageError
from connectome_tl.files import read_bytes
from connectome_tl.provenance import canonical_json, content_hash, file_hash, write_bytes
from connectome_tl.settings.records.bundles import FileClaim, Manifest

METADATA, STRUCTURE, SELF_TEST = "configs/metadata.json", "configs/model.json", "configs/self_test.json"
WEIGHTS, SELF_TEST_ROWS = "models/model.safetensors", "models/self_test.safetensors"
CARD, CARD_JSON = "docs/README.md", "docs/model_card.json"
FILES = (METADATA, STRUCTURE, SELF_TEST, WEIGHTS, SELF_TEST_ROWS, CARD, CARD_JSON)
MANIFEST, VALIDATION = "manifest.json", "validation.json"
_FOLDERS = ("configs", "models", "docs")
_SMALL = 1 << 17  # largest size of a manifest or a validation in bytes
_SHARE = 8  # JSON files are at most 1 / _SHARE of a bundle, or `_SMALL` bytes each
_DEEPEST = 60  # largest nesting depth of a JSON file
_PARSED = 1 << 19  # bytes of memory for parsed JSON, or the size of a larger bundle
_COSTS = {b"{": 184, b"[": 64, b",": 60, b":": 60}  # memory of a dict, of a list, and of each value and key, in bytes


_NARROW = bytes(range(0xC4))  # of characters that take one byte of memory each


@dataclass(frozen=True)
class BundleFolder:
    """A bundle whose files are those of its manifest.

    Attributes:
        hash: SHA-256 of the manifest, and so of all content.
    """

    path: Path
    hash: str
    manifest: Manifest

    @property
    def size(self) -> int:
        """Bytes of all files of the manifest."""
        return sum(claim.bytes for claim in self.manifest.files.values())

    def json(self, name: str) -> Any:
        """Content of one of its JSON files."""
        return read_small_json(self.path / name, self.manifest.files[name].bytes, max(_PARSED, self.size))

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        """Tensors of one of its safetensors files.

        Raises:
            DataError: tensors of a type that a bundle must not contain, or too many of them.
        """
        return all_tensors(self.path / name)

    @contextmanager
    def rows(self, name: str) -> Iterator[RowTable]:
        """Tensors of one of its safetensors files, read some rows at a time.

        Raises:
            DataError: as `tensors`.
        """
        with opened_rows(self.path / name) as found:
            yield found


def write_folder(path: Path, files: Mapping[str, bytes]) -> str:
    """Write all files, the manifest last, which marks the bundle as complete. Returns the bundle's hash.

    Raises:
        UsageError: the folder contains other files than an older bundle.
        OutputError: the folder cannot be written.
    """
    own, remedy = {*FILES, MANIFEST, VALIDATION}, "Give an empty or a new folder as --out."
    others = set(_names(path)) - own if path.is_dir() else set()
    unfinished = {name for name in others if _replaced_by(name) in own}
    if others - unfinished or (path.exists() and not path.is_dir()):
        raise UsageError("the folder is not empty and is not a bundle", file=path, remedy=remedy)
    for name in (MANIFEST, VALIDATION, *unfinished):  # of an older bundle, or of a process that was killed
        (path / name).unlink(missing_ok=True)
    for name in FILES:
        write_bytes(path / name, files[name])
    data = manifest_bytes(files)
    write_bytes(path / MANIFEST, data)
    return content_hash(data)


def _replaced_by(temporary: str) -> str:
    """The file for which `write_bytes` makes a temporary file of this name."""
    folder, _, name = temporary.rpartition("/")
    found = re.fullmatch(r"\.(.+)\.[^.]+\.part", name)
    return "" if found is None else f"{folder}/{found[1]}".lstrip("/")


def manifest_bytes(files: Mapping[str, bytes]) -> bytes:
    """The manifest of these files."""
    import hashlib

    claims = {name: FileClaim(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)) for name, data in files.items()}
    return (
        canonical_json(Manifest(format="connectome-tl bundle", format_version=1, files=claims), indent=1) + "\n"
    ).encode()


def open_folder(path: str | Path) -> BundleFolder:
    """Check names, kinds, sizes and hashes of all files, without reading their contents.

    Raises:
        MissingInputError: no such folder. DataError: the folder is not a bundle, or was changed.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise MissingInputError("not a bundle", file=folder, remedy="Make one with `connectome-tl bundle`.")
    with as_bad_data(folder):
        names = set(_names(folder))
        strange = sorted(names - {*FILES, MANIFEST, VALIDATION})
        if strange:
            raise DataError(
                "the folder has files that do not belong to a bundle",
                file=folder,
                got=repr(strange[0])[:100],
                remedy="Request a new copy of the bundle; if you added them yourself, remove them.",
            )
        if MANIFEST not in names:
            raise DataError("not a bundle: manifest.json is missing", file=folder)
        data = _whole(folder / MANIFEST, _SMALL)
        manifest = Manifest.model_validate(parsed(data, folder / MANIFEST))
        if set(manifest.files) != set(FILES):
            raise DataError("the manifest does not list the files of a bundle", file=folder / MANIFEST)
        total = sum(claim.bytes for claim in manifest.files.values())
        for name in FILES:
            if name.endswith(".json") and manifest.files[name].bytes > max(_SMALL, total // _SHARE):
                # Parsed JSON needs many times its size in memory.
                raise DataError("larger than this file of a bundle may be", file=folder / name)
            _check_file(folder / name, manifest.files[name])
        return BundleFolder(folder, content_hash(data), manifest)


def _check_file(file: Path, claim: FileClaim) -> None:
    if not file.is_file():
        raise DataError("a file of the bundle is missing", file=file)
    size = file.stat().st_size
    if size != claim.bytes:
        raise DataError("the size differs from the manifest", file=file, expected=str(claim.bytes), got=str(size))
    if file_hash(file) != claim.sha256:
        raise DataError(
            "the content differs from the manifest",
            file=file,
            remedy="The bundle was damaged or changed: request a new copy.",
        )


def _names(folder: Path) -> Iterator[str]:
    """Names of all files in the folders of a bundle; links and devices are refused."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and entry.name in _FOLDERS:
                with os.scandir(entry.path) as inside:
                    for inner in inside:
                        yield f"{entry.name}/{_plain_file(inner)}"
            else:
                yield _plain_file(entry)


def _plain_file(entry: os.DirEntry[str]) -> str:
    mode = entry.stat(follow_symlinks=False).st_mode
    if not stat.S_ISREG(mode):
        raise DataError(
            "a bundle contains plain files only, no links, folders or devices",
            file=entry.path,
            remedy="Copy the bundle without links (cp -rL).",
        )
    return entry.name


def read_small_json(file: Path, limit: int = _SMALL, memory: int = _PARSED) -> Any:
    """Content of a JSON file of at most `limit` bytes; see `parsed`."""
    return parsed(_whole(file, limit), file, memory)


def _whole(file: Path, limit: int) -> bytes:
    # A read allocates the limit, not the actual size.
    return read_bytes(file, limit=min(limit, file.stat().st_size))


def parsed(data: bytes, file: Path, memory: int = _PARSED) -> Any:
    """Parse a JSON object of limited depth, without NaN, infinity and duplicate keys.

    Args:
        memory: largest size of the parsed object in bytes, estimated before it is parsed.

    Raises:
        DataError: no such JSON.
    """
    if data[:1] != b"{":  # another kind of file is not decoded first
        raise DataError("cannot be read as JSON: it does not begin with {", file=file)
    # One wide character, also as an escape, makes a whole text four times as wide. Text and its values are in memory.
    width = 4 if b"\\u" in data or data.translate(None, _NARROW) else 1
    if sum(cost * data.count(sign) for sign, cost in _COSTS.items()) + 2 * width * len(data) > memory:
        raise DataError("has more values or longer texts than this file of a bundle may have", file=file)
    try:
        found = json.loads(data.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON: {str(error)[:200]}", file=file) from error
    if _depth(found) > _DEEPEST:
        raise DataError("nested too deeply", file=file)
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level:
        depth += 1
        inner = [x.values() if isinstance(x, dict) else x for x in level if isinstance(x, (dict, list))]
        level = [one for values in inner for one in values if isinstance(one, (dict, list))]
    return depth


@contextmanager
def as_bad_data(path: Path) -> Iterator[None]:
    """Convert all errors within the context to a `DataError` on the bundle.

    Bundles are untrusted, and no list of exceptions covers everything that malicious content can cause.
    """
    try:
        yield
    except DataError:
        raise
    except ConnectomeTLError as error:
        raise DataError("the bundle cannot be read", problems=error.problems) from error
    except Exception as error:
        raise DataError(
            f"the bundle cannot be read: {type(error).__name__}: {str(error)[:200]}",
            file=path,
            remedy="It was damaged or changed, or made by another version: request a new copy.",
        ) from error
