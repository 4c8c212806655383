"""Small files as people save them: bytes, text, JSON; with one message when they cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from connectome_tl.errors import DataError, MissingInputError


def read_bytes(path: str | Path, *, limit: int | None = None) -> bytes:
    """A file's bytes.

    Raises:
        MissingInputError: it is not there. DataError: it cannot be read, or is larger than `limit`.
    """
    try:
        data = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingInputError("file not found", file=path) from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {error}", file=path) from error
    if limit is not None and len(data) > limit:
        raise DataError("too large for such a file", file=path, expected=f"at most {limit} bytes", got=str(len(data)))
    return data


def read_text(path: str | Path, *, limit: int | None = None) -> str:
    """Text in UTF-8 with or without mark, or Excel's UTF-16; lines end in a bare newline.

    Raises:
        MissingInputError: it is not there. DataError: no text, or larger than `limit` bytes.
    """
    return _decoded(read_bytes(path, limit=limit), path)


def read_json_object(path: str | Path, *, limit: int | None = None) -> dict[str, Any]:
    """A JSON object.

    Raises:
        MissingInputError: it is not there. DataError: no JSON, or something else than an object.
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
