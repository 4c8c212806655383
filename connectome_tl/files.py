"""Open and read the user's files (bytes, text, JSON), with one message when a file cannot be read.

Every input is checked by `regular_file` before it is opened, so that a pipe, a device or a loop of links raises an
error instead of blocking.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from connectome_tl.errors import DataError, MissingInputError

_MAX_BYTES = 1 << 30  # default limit for files that are read completely
_MOST_NAMES = 10_000  # in a folder, for a suggestion
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


_SIGNATURES = {  # first bytes of files that are given for text
    b"$FL2": "an SPSS file",
    b"$FL3": "an SPSS file",
    b"<stata_dta>": "a Stata file",
    b"\x00" * 12 + b"\xc2\xea\x81\x60": "a SAS file",
    b"RDX": "an R file",
    b"\x1f\x8b": "compressed with gzip, as R's .rds files are",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"PK\x03\x04": "a zip archive or office document",
    b"\xd0\xcf\x11\xe0": "an old office document",
    b"%PDF": "a PDF",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"MATLAB 5.0": "a MATLAB file",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"PAR1": "a Parquet file",
    b"ARROW1": "a Feather file",
    b"HEADER RECORD*******": "a SAS transport file",
    **{bytes((release, order, 1, 0)): "a Stata file" for release in range(105, 120) for order in (1, 2)},
    **{bytes((0x80, protocol)): "a pickle of Python" for protocol in range(2, 6)},
}
_ENDINGS = {  # of files without a signature
    ".por": "an SPSS file",
    ".sas7bdat": "a SAS file",
    ".dta": "a Stata file",
    ".mdb": "an Access database",
    ".accdb": "an Access database",
}
# Windows-1252, which a spreadsheet program in Western Europe writes as CSV: letters of its languages, and signs that
# stand beside them. Bytes outside these sets are letters of other encodings.
_LETTERS = bytes(set(range(0xC0, 0x100)) - {0xD0, 0xD7, 0xDD, 0xDE, 0xF0, 0xF7, 0xFD, 0xFE, 0xFF})
_SIGNS = bytes([0x80, 0x82, 0x84, 0x85, *range(0x91, 0x98), 0x9C, 0xA0, 0xA7, 0xAB, 0xB0, 0xB1, 0xB2, 0xB3, 0xB5, 0xBB])
_SIGN_WITHIN = re.compile(b"[a-zA-Z][\x80-\x91\x93-\x9b\x9d-\xbf][a-zA-Z]")  # a letter of DOS or the Macintosh
_RUN_OF_LETTERS = re.compile(b"[\xc0-\xff]{3}")  # as in Cyrillic and Greek words
_UTF8_PAIR = re.compile(b"[\xc2-\xdf][\x80-\xbf]")  # of a damaged UTF-8 file
_SHOWN_WORDS = 3


@dataclass(eq=False)
class Trace:
    """Accessed inputs: files, existing or not, folders with a pattern (absolute), environment variables, and importers
    (as parts of `extension_code`)."""

    files: set[Path] = field(default_factory=set)
    listings: set[tuple[Path, str]] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    importers: set[str] = field(default_factory=set)


_traces: list[Trace] = []


@contextmanager
def traced(found: Trace | None = None) -> Iterator[Trace]:
    """Collect, or add to `found`, all files, folders and variables that are accessed within the context."""
    found = found or Trace()
    _traces.append(found)
    try:
        yield found
    finally:
        _traces.remove(found)


def is_there(path: str | Path) -> bool:
    """`Path.is_file` for an optional input, whose absence also affects the result."""
    for trace in _traces:
        trace.files.add(Path(path).absolute())
    return Path(path).is_file()


def matching(folder: str | Path, pattern: str) -> list[Path]:
    """The sorted files and folders of a folder of inputs that match a glob pattern."""
    listed_in(folder, pattern)
    return sorted(Path(folder).glob(pattern))


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is not shown, or is the mark of a document that is open in Excel (~$)."""
    return name.startswith((".", "~$"))


def listed_in(folder: str | Path, pattern: str) -> None:
    """Record that the result depends on the names in a folder that match a glob pattern."""
    for trace in _traces:
        trace.listings.add((Path(folder).absolute(), pattern))


def variable(name: str) -> str | None:
    """Value of an environment variable, None if it is not set."""
    for trace in _traces:
        trace.variables.add(name)
    return os.environ.get(name)


def imported_by(name: str) -> None:
    """Record that an input was read by this importer."""
    for trace in _traces:
        trace.importers.add(f"importer {name}")


def regular_file(path: str | Path, *, what: str = "file", subject: str | None = None) -> Path:
    """Return the path if it is a regular file or a link to one; the file is not opened.

    Args:
        what: the file's role, for messages.

    Raises:
        MissingInputError: no such file, a broken or circular link, or a folder.
        DataError: a pipe, a device or a socket, or an invalid name.
    """
    file = Path(path)
    for trace in _traces:
        trace.files.add(file.absolute())
    try:
        mode = os.stat(file).st_mode
    except (OSError, ValueError) as error:
        if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not os.path.islink(file):
            near = _similar(file)
            remedy = f"Did you mean {near}?" if near else _of_another_place(file)
            raise MissingInputError(f"{what} not found", subject=subject, file=file, remedy=remedy) from error
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
    return file


def _of_another_place(file: Path) -> str | None:
    """What to write instead of a path with a sign of the shell, of the web or of Windows."""
    if {"~", "$HOME"} & set(file.parts):
        return "Write the complete path, or ${HOME} in a settings file."
    if {"http:", "https:", "s3:", "ftp:"} & set(file.parts):
        return "Download it first; paths name files on this machine."
    return "Write the path with /." if "\\" in str(file) and os.sep == "/" else None


def _similar(file: Path) -> str:
    """The file of the same folder whose name is nearest; "" for none."""
    try:
        names = sorted(os.listdir(file.parent))
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(file.name, names, n=1, cutoff=0.8) if len(names) <= _MOST_NAMES else []
    return near[0] if near else ""


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
                data = stream.read(size + 1)
                if len(data) > size:  # the file grows, or is one of the kernel's, which have no size
                    data += stream.read(limit + 1 - len(data))
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


def read_table_text(path: str | Path, *, limit: int | None = None) -> tuple[str, str]:
    """Text of a table as `read_text` reads it, or in Windows-1252 if no other encoding is plausible; and a note on it.

    A wrong guess affects letters only: numbers are unchanged, and different cells remain different.

    Raises:
        MissingInputError: no such file. DataError: not text, or larger than `limit` bytes.
    """
    data = read_bytes(path, limit=limit)
    if not _is_western(data):
        return _decoded(data, path), ""
    text = _lines(data.decode("cp1252"))
    words = [word for word in dict.fromkeys(re.findall(r"[^\W\d_]+", text)) if not word.isascii()]
    return text, (
        f"{Path(path).name} is not in UTF-8 and was read as Windows-1252 (Western European): "
        f"{', '.join(words[:_SHOWN_WORDS])}"
    )


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
    if data.startswith(b"HEADER RECORD***") and (error := _no_text(data, file)):
        raise error
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _no_text(data, file) or DataError(
            "not a text file in UTF-8",
            file=file,
            got=f"byte 0x{data[error.start]:02x} after {_before(data, error.start)!r}",
            line=data.count(b"\n", 0, error.start) + 1,
            remedy="Save it again as UTF-8 (in Excel: CSV UTF-8).",
        ) from error
    if "\x00" in text:
        raise _no_text(data, file) or DataError(
            "not a text file: it holds zero bytes",
            file=file,
            remedy="If it is text, it may be in UTF-16 or UTF-32 without a mark, or damaged: save it again as UTF-8.",
        )
    return _lines(text)


def _no_text(data: bytes, file: str | Path) -> DataError | None:
    """The error for a file of a known kind that holds no text."""
    kind = _kind(data, file)
    if kind is None:
        return None
    unpack = "Unpack it, or export" if kind.startswith("compressed") else "Export"
    return DataError(f"not a text file but {kind}", file=file, remedy=f"{unpack} it as text (.csv or .tsv in UTF-8).")


def kind_of(path: str | Path) -> str:
    """The kind of a file that is not text ("a Stata file"), by its first bytes; empty if it is text or not there."""
    try:
        with Path(path).open("rb") as file:
            return _kind(file.read(32), path) or ""
    except (OSError, ValueError):
        return ""


def _kind(data: bytes, file: str | Path) -> str | None:
    kind = next((kind for start, kind in _SIGNATURES.items() if data.startswith(start)), None)
    return kind or _ENDINGS.get(Path(file).suffix.lower())


def _before(data: bytes, at: int) -> str:
    """The last characters of a line before a byte."""
    return data[max(at - 20, data.rfind(b"\n", 0, at) + 1) : at].decode("utf-8", "replace")


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_western(data: bytes) -> bool:
    """Whether bytes are not UTF-8 and clearly Windows-1252."""
    with suppress(UnicodeDecodeError):
        data.decode("utf-8")
        return False
    high = data.translate(None, bytes(range(0x80)))
    if not high or high.translate(None, _LETTERS + _SIGNS) or not high.translate(None, _SIGNS) or b"\x00" in data:
        return False
    return not any(wrong.search(data) for wrong in (_SIGN_WITHIN, _RUN_OF_LETTERS, _UTF8_PAIR))
