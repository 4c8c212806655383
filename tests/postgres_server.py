"""A local PostgreSQL server for the tests with many tuning workers."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server on a socket in a separate folder; skips the test if it is not installed."""
    commands = _postgres_commands()
    if commands is None:
        pytest.skip("no PostgreSQL server here (initdb, pg_ctl); `make services` installs Debian's")
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # short: the path of a socket has at most 107 bytes
    if account:
        os.chown(folder, account["user"], account["group"])
    data = folder / "data"
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
    initdb = ["-U", "tuner", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8"]
    try:
        subprocess.run([commands / "initdb", "-D", data, *initdb], **quiet, **account)
        subprocess.run([commands / "pg_ctl", "-D", data, "-w", "-o", options, "start"], **quiet, **account)
        yield f"postgresql://tuner@/postgres?host={folder}"
    finally:
        stop = [commands / "pg_ctl", "-D", data, "-m", "immediate", "stop"]
        subprocess.run(stop, **{**quiet, "check": False}, **account)
        shutil.rmtree(folder, ignore_errors=True)


def _postgres_commands() -> Path | None:
    found = [Path(which).parent] if (which := shutil.which("initdb")) else []
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "pg_ctl").is_file()), None)


def _account() -> dict[str, Any]:
    """PostgreSQL does not run as root: its processes use another account."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is no account postgres or nobody")
