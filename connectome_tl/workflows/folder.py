"""Output folders: what they may contain, exclusive locks, the log of a run."""

from __future__ import annotations

import fcntl
import logging
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from connectome_tl import __version__
from connectome_tl.errors import OutputError, UsageError
from connectome_tl.files import is_hidden

_BEGUN = ("log/claim", "log/members", "split_plan.json", "trials.sqlite")  # of a folder that was written to before
EARLY = ("log", "scans", "volumes", "weights")  # folders that may be made before


def refuse_others(folder: Path, own: Collection[str] = EARLY) -> None:
    """Refuse an output folder with other files, which could be replaced; hidden files are ignored.

    Args:
        own: names of files and folders that the command writes.

    Raises:
        UsageError: the folder contains other files. OutputError: it is not a folder, or cannot be read.
    """
    try:
        names = {one.name for one in folder.iterdir()} if folder.exists() else set()
    except OSError as error:
        raise OutputError(f"not an output folder: {error.strerror}", file=folder) from error
    strange = sorted(name for name in names - set(own) if not is_hidden(name))
    if strange:
        raise UsageError(
            "the output folder contains other files, which could be replaced",
            got=", ".join(strange[:3]) + (" ..." if len(strange) > 3 else ""),
            file=folder,
            remedy="Give a new or an empty folder as --out.",
        )


def refuse_not_begun(folder: Path) -> None:
    """Refuse an output folder with other files, unless it was begun by this package.

    Raises:
        UsageError, OutputError: as `refuse_others`.
    """
    if not any((folder / name).exists() for name in _BEGUN):
        refuse_others(folder)


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Lock the folder against other writers; the lock is released when the process ends.

    Raises:
        UsageError: a folder with other files. OutputError: another process writes here, or the folder cannot be
            written.
    """
    refuse_not_begun(folder)
    try:
        (folder / "log").mkdir(parents=True, exist_ok=True)
        stream = open(folder / "log" / "claim", "a")  # noqa: SIM115 - held open as long as the run lasts
    except OSError as error:
        raise OutputError(f"cannot write here: {error.strerror}", file=folder) from error
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutputError(
                "another run is writing to this folder", file=folder, remedy="Wait for it, or give another --out."
            ) from error
        except OSError as error:
            raise OutputError(
                f"this file system cannot lock a folder against a second run: {error.strerror}",
                file=folder,
                remedy="Give an --out on another disk.",
            ) from error
        for half in folder.rglob(".*.part"):  # writes of a run that was killed midway
            half.unlink(missing_ok=True)
        yield


@contextmanager
def alone(folder: Path, part: str, *, wait: bool = True) -> Iterator[bool]:
    """Lock one part of a shared folder (a scan, or the index page); yields whether the lock is held.

    On file systems without locks, such as some parallel ones, the lock counts as held, since most folders have one
    writer.

    Args:
        wait: whether to wait for another process to release the lock.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        (folder / "log").mkdir(parents=True, exist_ok=True)
        stream = open(folder / "log" / f"{part}.lock", "a")  # noqa: SIM115 - held open as long as the lock
    except OSError as error:
        raise OutputError(f"cannot write here: {error.strerror}", file=folder) from error
    with stream:
        held = True
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            held = False
        except OSError:
            pass
        yield held


class Membership:
    """Membership in the group of processes that write to one folder.

    Attributes:
        alone: whether this process is the only member; no other can join before `join` is called.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.alone = self._locked(fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not self.alone:
            self.join()

    def join(self) -> None:
        """Allow other processes to join."""
        self._locked(fcntl.LOCK_SH)

    def _locked(self, how: int) -> bool:
        try:
            fcntl.flock(self._stream, how)
        except OSError:  # there are other members, or the file system has no locks
            return False
        return True


@contextmanager
def shared(folder: Path) -> Iterator[Membership]:
    """Membership in a shared folder, which ends with the process.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        (folder / "log").mkdir(parents=True, exist_ok=True)
        stream = open(folder / "log" / "members", "a")  # noqa: SIM115 - held open as long as the work lasts
    except OSError as error:
        raise OutputError(f"cannot write here: {error.strerror}", file=folder) from error
    with stream:
        membership = Membership(stream)
        if membership.alone:
            for half in folder.rglob(".*.part"):  # writes of a process that was killed midway
                half.unlink(missing_ok=True)
        yield membership


class _LogFile(logging.FileHandler):
    """Log file that ignores write errors (disk full), so that tracebacks do not hide the actual message."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002 - the name logging calls
        return


@contextmanager
def open_log(folder: Path, title: str) -> Iterator[logging.Logger]:
    """A log file of this run: the only place where times and run ids are written."""
    started = datetime.now(UTC)
    run_id = uuid.uuid4().hex[:8]
    handler = _LogFile(folder / "log" / f"{started:%Y%m%dT%H%M%S}-{run_id}.txt", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("connectome_tl")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        log.info("connectome-tl %s, run %s: %s", __version__, run_id, title)
        yield log
    except BaseException as error:
        log.error("%s: %s", type(error).__name__, error)
        raise
    finally:
        log.removeHandler(handler)
        handler.close()
