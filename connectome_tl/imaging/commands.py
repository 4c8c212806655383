"""Run external programs: availability, version, exit status and output files."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from connectome_tl.errors import (
    ConnectomeTLError,
    DataError,
    InterruptedRunError,
    MissingInputError,
    OutputError,
    Problem,
)
from connectome_tl.imaging.read.images import Volume, grid_problem, read_volume, same_grid
from connectome_tl.provenance import content_hash, file_hash, write_text
from connectome_tl.settings.hooks import Hook

_IN_CONFIG = re.compile(r"\{config\}[^\s'\",;]*")

_LAST_LINES, _LAST_LETTERS = 12, 1500  # of the output of a failed command


def run_to_end(
    words: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command and capture its output.

    If this process is interrupted, the command is killed with all processes that it has started.

    Raises:
        OSError: it cannot be started.
    """
    with subprocess.Popen(
        words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def ran_well(done: subprocess.CompletedProcess[str], what: str, *, subject: str | None, file: str | None) -> None:
    """Raise an error if a command failed.

    Args:
        what: name of the command, for messages.

    Raises:
        InterruptedRunError: it was killed. OutputError: the disk is full. DataError: it failed; the message has its
            last lines.
    """
    if done.returncode == 0:
        return
    lines = [line.rstrip() for line in (done.stderr.strip() or done.stdout.strip()).splitlines() if line.strip()]
    said = " | ".join(lines[-_LAST_LINES:])[-_LAST_LETTERS:]
    if done.returncode < 0:
        raise InterruptedRunError(
            f"{what} was killed (signal {-done.returncode}), usually for lack of memory",
            subject=subject,
            remedy="Run the same command again; it resumes. Fewer --n-cpus need less memory.",
        )
    if "No space left" in said:
        raise OutputError(f"{what}: no space left", subject=subject, file=tempfile.gettempdir())
    said = said or "no output"
    raise DataError(f"{what} failed (exit code {done.returncode}): {said}", subject=subject, file=file)


def require_hook(hook: Hook, name: str, config: Path) -> None:
    """Check that the programs of a hook exist.

    Raises:
        MissingInputError: a program does not exist.
    """
    for command in (*hook.command, *((hook.version,) if hook.version else ())):
        program = _filled(command[0], {"config": str(config)})
        if shutil.which(program) is None:
            raise MissingInputError(
                f"the program of hooks.{name} was not found",
                expected=f"{program}, on the PATH or as a path ({{config}} is the folder of the configuration)",
                remedy="Install it, or take the hook out of the configuration.",
            )


def hook_record(hook: Hook, name: str, config: Path) -> str:
    """Identity of a hook: first line of its version, and a hash of its words and of the files that they name.

    Raises:
        DataError: the command that prints the version fails.
    """
    given = {"config": str(config)}
    files: dict[str, str] = {}
    for command in hook.command:
        program = shutil.which(_filled(command[0], given))
        files |= {} if program is None else {command[0]: program}
        for word in command[1:]:
            # A file may be a part of a word, as in `--slspec={config}/slspec.txt`. Folders are ignored, since the
            # command may write to them.
            places = {named: _filled(named, given) for named in (word, *_IN_CONFIG.findall(word))}
            files |= {named: place for named, place in places.items() if os.path.isfile(place)}
    states = tuple((word, file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for word, file in files.items())
    return _record(hook.command, tuple(_filled(word, given) for word in hook.version), name, states)


@lru_cache(maxsize=64)
def _record(
    commands: tuple[tuple[str, ...], ...],
    version: tuple[str, ...],
    name: str,
    states: tuple[tuple[str, str, int, int], ...],
) -> str:
    """The record, cached while size and time of the files do not change."""
    said = "version unknown"
    if version:
        try:
            done = run_to_end(version)
        except OSError as error:
            raise MissingInputError(
                f"hooks.{name}.version cannot be started: {error.strerror or error}", file=version[0]
            ) from error
        ran_well(done, f"hooks.{name}.version", subject=None, file=version[0])
        said = next((line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()), said)
    hashes = {word: file_hash(file) for word, file, _, _ in states}
    return f"{said[:200]} ({content_hash(commands, hashes)[:16]})"


def _filled(word: str, values: Mapping[str, str]) -> str:
    """A word with known placeholders replaced."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def run_hook(
    hook: Hook,
    name: str,
    values: Mapping[str, str],
    folder: Path,
    *,
    subject: str | None = None,
    file: str | None = None,
    n_threads: int = 1,
    log: Path | None = None,
) -> None:
    """Run the commands of a hook in `folder`.

    Args:
        values: values of the placeholders.
        log: file for the output of the commands.

    Raises:
        MissingInputError: a name has no value for this scan. Others as `ran_well`.
    """
    absent = sorted(hook.used - set(values))
    if absent:
        raise MissingInputError(
            f"hooks.{name} requires {{{absent[0]}}}, which this scan does not have", subject=subject, file=file
        )
    threads = dict.fromkeys(("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), str(n_threads))
    told: list[str] = []
    for command in hook.command:
        words = [word.format_map(values) for word in command]
        try:
            done = run_to_end(words, folder, {**os.environ, **threads})
        except OSError as error:
            raise MissingInputError(
                f"the program of hooks.{name} cannot be started: {error.strerror or error}",
                subject=subject,
                file=words[0],
            ) from error
        told += [f"$ {' '.join(words)}", done.stdout, done.stderr]
        if log is not None:
            write_text(log, "\n".join(told))
        ran_well(done, f"hooks.{name} ({Path(words[0]).name})", subject=subject, file=file)


def output_of(
    hook: Hook,
    name: str,
    result: str,
    folder: Path,
    like: Volume,
    *,
    n_dimensions: tuple[int, ...] = (3,),
) -> list[Volume]:
    """Read and check the output images of a hook.

    Args:
        like: image with the required grid.

    Raises:
        DataError: an image does not exist, cannot be read, has another grid, or contains non-finite values.
    """
    found = []
    for relative in hook.files_of(result):
        where = f"hooks.{name}: {relative}"
        try:
            image = read_volume(folder / relative, subject=like.subject, n_dimensions=n_dimensions)
        except MissingInputError as error:
            there = sorted(path.name for path in folder.iterdir())
            raise DataError(
                f"hooks.{name} did not write its output {result}",
                expected=relative,
                got=", ".join(there[:12]) or "an empty folder",
                subject=like.subject,
                remedy="Write {out}, or name the file in `outputs`.",
            ) from error
        except ConnectomeTLError as error:
            problem = error.problems[0]
            raise DataError(
                f"{where}: {problem.what}", expected=problem.expected, got=problem.got, subject=like.subject
            ) from error
        if not same_grid(image, like):
            named = Volume(image.data, image.affine, like.subject, where)
            raise DataError(f"the output of hooks.{name} cannot be used", problems=[grid_problem(result, named, like)])
        if not np.isfinite(image.data).all():
            problem = Problem("holds values that are not finite", subject=like.subject, file=where)
            raise DataError(f"the output of hooks.{name} cannot be used", problems=[problem])
        found.append(image)
    return found
