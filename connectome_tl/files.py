"""Open and read the user's files (bytes, text, JSON), with one message when a file cannot be read.

Every input is checked by `regular_file` before it is opened, so that a pipe, a device or a loop of links raises an
error instead of blocking.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from connectome_tl.errors import DataError, MissingInputError

_MAX_BYTES = 1 << 30  # default limit for files that are read completely
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


_traces: list[set[Path]] = []


@contextmanager
def traced() -> Iterator[set[Path]]:
    """Collect the absolute paths of all inputs that are opened within the context."""
    found: set[Path] = set()
    _traces.append(found)
    try:
        yield found
    finally:
        _traces.remove(found)


def regular_file(path: str | Path, *, what: str = "file", subject: str | None = None) -> Path:
    """Return the path if it is a regular file or a link to one; the file is not opened.

    Args:
        what: the file's role, for messages.

    Raises:
        MissingInputError: no such file, a broken or circular link, or a folder.
        DataError: a pipe, a device or a socket, or an invalid name.
    """
    file = Path(path)
    try:
        mode = os.stat(file).st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not os.path.islink(file):
            raise MissingInputError(f"{what} not found", subject=subject, file=file) from error
        if isinstance(error, OSError) and os.path.islink(file):
            raise MissingInputError(
                "a broken link",
                subject=subject,
                file=file,
                remedy="In a DataLad dataset, `datalad get` it first.",
            ) from error
        raise DataError(f"cannot be read: {error}", subject=subject, file=file) from error
    if stat.S_ISDIR(mode):
        raise MissingInputError(f"the {what} is a folder", subject=subject, file=file)
    if not stat.S_ISREG(mode):
        raise DataError(
            f"the {what} is {_KINDS.get(stat.S_IFMT(mode), 'not a regular file')}",
            expected="a regular file",
            subject=subject,
            file=file,
            remedy="Save its content as a file first.",
        )
    for trace in _traces:
        trace.add(file.absolute())
    return file


def read_bytes(path: str | Path, *, limit: int | None = None, subject: str | None = None) -> bytes:
    """Read the bytes of a file, at most `limit` (1 GiB by default).

    Raises:
        MissingInputError: no such file. DataError: it cannot be read, or is larger than `limit`.
    """
    file, limit = regular_file(path, subject=subject), _MAX_BYTES if limit is None else limit
    try:
        size = file.stat().st_size
        if size <= limit:
            with file.open("rb") as stream:
                data = stream.read(limit + 1)  # the file may grow, and kernel files have no size
            size = max(size, len(data))
    except OSError as error:
        raise DataError(f"cannot be read: {error}", subject=subject, file=path) from error
    if size > limit:
        raise DataError(
            "too large for such a file", subject=subject, file=path, expected=f"at most {limit} bytes", got=str(size)
        )
    return data


def read_text(path: str | Path, *, limit: int | None = None) -> str:
    """Read text in UTF-8 with or without byte order mark, or in UTF-16 (Excel), with normalised line ends.

    Raises:
        MissingInputError: no such file. DataError: not text, or larger than `limit` bytes.
    """
    return _decoded(read_bytes(path, limit=limit), path)


def read_json_object(path: str | Path, *, limit: int | None = None) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        MissingInputError: no such file. DataError: not JSON, or not an object.
    """
    try:
        said = json.loads(read_text(path, limit=limit))
    except (ValueError, RecursionError) as error:
        raise DataError(f"cannot be read as JSON: {error}", file=path) from error
    if not isinstance(said, dict):
        raise DataError("not a JSON object", file=path)
    return said


def _decoded(data: bytes, file: str | Path) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            "not a text file in UTF-8", file=file, got=f"byte {error.start}", remedy="Save it again as UTF-8."
        ) from error
    if "\x00" in text:
        raise DataError("not a text file: it holds zero bytes", file=file)
    return text.replace("\r\n", "\n").replace("\r", "\n")
