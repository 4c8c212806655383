"""Trial storage (SQLite or any database of Optuna's RDBStorage) and recovery of lost trials.

Optuna requeues the trial of a killed worker only when another trial starts after the grace period, and never if the
worker was killed before its first heartbeat or while requeuing another trial. Therefore, `requeue_lost` is called at
start, on resume, while waiting and at the end.
"""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectome_tl.errors import OutputError, UsageError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

MAX_RETRY = 10  # a trial whose worker was killed this often is abandoned
GRACE = 3  # missed heartbeats after which a worker is considered dead
BEGUN, SET_ASIDE = "begun", "set_aside"  # user attributes of a trial
LOCKED_S = 120  # an SQLite file may be locked by another program for so long
_ATTEMPTS = 5  # retries if two workers create the tables at the same time
_REFUSED = "connection failed"  # psycopg found no server, or was not let in


@contextmanager
def open_storage(url: str, *, heartbeat: int) -> Iterator[RDBStorage]:
    """Open the database at an SQLAlchemy URL, create missing tables, and close it at the end.

    Args:
        heartbeat: seconds between heartbeats of a worker; its trial is requeued after `GRACE` missed heartbeats.

    Raises:
        UsageError: not a URL of a known database, or its driver is not installed.
        OutputError: it cannot be reached or read.
    """
    storage = _storage(url, heartbeat)
    try:
        yield storage
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _storage(url: str, heartbeat: int) -> RDBStorage:
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    options: dict[str, Any] = {"pool_pre_ping": True}
    if url.startswith("sqlite"):
        options = {"connect_args": {"timeout": LOCKED_S}}
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # heartbeats are marked experimental
                return RDBStorage(
                    with_driver(url),
                    engine_kwargs=options,
                    heartbeat_interval=heartbeat,
                    grace_period=GRACE * heartbeat,
                    heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRY),
                )
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise UsageError(
                f"--storage: {shown(url)} cannot be opened: {error}".splitlines()[0],
                expected="postgresql://USER@HOST/DATABASE or sqlite:///FILE",
                remedy="PostgreSQL needs its driver: pip install 'connectome-tl[cluster]'.",
            ) from error
        except (SQLAlchemyError, StorageInternalError, RuntimeError) as error:
            if attempt == _ATTEMPTS or _said(error).startswith(_REFUSED):
                raise unreachable(url, error) from error
            time.sleep(0.2 * attempt)
    raise AssertionError("not reached")


def is_locked(url: str, seconds: float = 1.0) -> bool:
    """Whether an SQLite file is locked by another program for as long as `seconds`; False for other databases."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        file = make_url(url).database if url.startswith("sqlite") else None
    except ArgumentError:  # reported by `open_storage`
        return False
    if file is None or not Path(file).is_file():
        return False
    with closing(sqlite3.connect(file, timeout=seconds, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            return "locked" in str(error)
        except sqlite3.DatabaseError:  # not a database; reported by `open_storage`
            return False
    return False


def wait_while_locked(url: str, seconds: float = LOCKED_S) -> None:
    """Wait until an SQLite file is free.

    Raises:
        OutputError: it is still locked after `seconds`.
    """
    if is_locked(url, seconds):
        raise OutputError(
            f"the database of trials {shown(url)} is locked by another program",
            remedy="End that program; the same command resumes.",
        )


def with_driver(url: str) -> str:
    """Add the driver psycopg 3 to a PostgreSQL URL without a driver."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgresql", "postgres") else url


def shown(url: str) -> str:
    """The URL without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url.partition("://")[0] or "the text"


def unreachable(url: str, error: Exception) -> OutputError:
    """Error for a failing database, with the first line of its driver; other lines may contain the whole URL."""
    from sqlalchemy.engine import make_url

    said, password = _said(error), make_url(url).password
    if password:
        said = said.replace(str(password), "***")
    if not url.startswith("sqlite"):
        remedy = "Check server, name, role and password; the same command resumes."
    elif "not a database" in said or "malformed" in said:
        remedy = "Delete the file: the same command repeats its trials with the stored fits."
    else:
        remedy = "Check that no other program uses the file and that it can be written; the same command resumes."
    return OutputError(f"the database of trials {shown(url)} cannot be reached or read: {said}", remedy=remedy)


def _said(error: Exception) -> str:
    """First line of the driver's message."""
    cause: BaseException = getattr(error, "orig", None) or error.__cause__ or error
    lines = str(cause).splitlines()
    return lines[0] if lines else type(cause).__name__


def requeue_lost(study: Study, storage: RDBStorage, *, all_running: bool = False) -> None:
    """Requeue, once each, all trials without a living worker.

    Args:
        all_running: requeue all running trials; only valid if no other worker uses the database.
    """
    from optuna.storages import fail_stale_trials
    from optuna.trial import TrialState

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fail_stale_trials(study)
    grace = timedelta(seconds=GRACE * (storage.get_heartbeat_interval() or 1))
    trials = study.get_trials(deepcopy=False)
    for trial in trials:
        if trial.state == TrialState.RUNNING and (all_running or _never_began(trial, grace)):
            _fail(storage, trial)
    trials = study.get_trials(deepcopy=False)
    followed = {number for trial in trials for number in _history(trial)}
    retry = storage.get_heartbeat_stale_trial_callback()
    for trial in study.get_trials(deepcopy=True, states=(TrialState.FAIL,)):
        if trial.number not in followed and SET_ASIDE not in trial.user_attrs and retry is not None:
            retry(study, trial)


def given_up(trial: FrozenTrial) -> bool:
    """Whether a lost trial was not requeued, since too many of its workers were killed."""
    from optuna.trial import TrialState

    return trial.state == TrialState.FAIL and len(_history(trial)) >= MAX_RETRY


def surplus(study: Study, mine: FrozenTrial, wanted: int) -> bool:
    """Whether a trial that has just begun is not needed: there are enough others, or it was queued twice."""
    from optuna.trial import TrialState

    others = [trial for trial in study.get_trials(deepcopy=False) if trial.number != mine.number]
    earlier = (TrialState.RUNNING, TrialState.WAITING)
    enough = sum(
        trial.state == TrialState.COMPLETE or (trial.state in earlier and trial.number < mine.number)
        for trial in others
    )
    history = _history(mine)
    twice = any(
        trial.number < mine.number and _history(trial) == history and trial.state != TrialState.FAIL
        for trial in others
        if history
    )
    return enough >= wanted or twice


def _never_began(trial: FrozenTrial, grace: timedelta) -> bool:
    """Whether its worker died before its first heartbeat, which precedes the attribute `BEGUN`."""
    begun = trial.user_attrs.get(BEGUN) == trial.number
    return not begun and trial.datetime_start is not None and datetime.now() - trial.datetime_start > grace


def _fail(storage: RDBStorage, trial: FrozenTrial) -> None:
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    with suppress(UpdateFinishedTrialError):  # another worker was faster
        storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)


def _history(trial: FrozenTrial) -> list[int]:
    return list(trial.system_attrs.get("retry_history", []))
