"""Progress on the terminal: one line per step, with a bar where steps are counted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    track,
)
from rich.text import Text

if TYPE_CHECKING:  # what fits imports torch
    from connectome_tl.training.fit import Progress as Told

_ENOUGH_FOR_A_BAR = 200
_LOG = logging.getLogger("connectome_tl")  # to the log of a run, whose duration is that until its last line


def draws(console: Console) -> bool:
    """Whether a bar can be drawn: on a terminal that supports control codes."""
    return console.file.isatty() and not console.is_dumb_terminal


def bar(console: Console | None = None, *, shown: bool = True) -> Callable[[Sequence[Path], str], Iterable[Path]]:
    """Function that wraps a list of files to show progress if there are many."""
    screen = console or Console(stderr=True)

    def tracked(files: Sequence[Path], what: str) -> Iterable[Path]:
        drawn = shown and draws(screen) and len(files) >= _ENOUGH_FOR_A_BAR
        return track(files, what, console=screen) if drawn else files

    return tracked


class Ticker:
    """Print a line on the current step every ten seconds, on terminals and in logs."""

    def __init__(self, console: Console, *, every: float = 10.0) -> None:
        self._console, self._every = console, every
        self._step, self._started, self._stop = "", time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def say(self, step: str) -> None:
        """Announce the start of a step."""
        self._step, self._started = step, time.monotonic()

    def __enter__(self) -> Ticker:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._stop.wait(self._every):
            if self._step:
                self._console.print(Text(f"{self._step}: {time.monotonic() - self._started:.0f} s"))


class _Rate(ProgressColumn):
    """Items per second, or seconds per item; empty for steps without a count."""

    def render(self, task: Task) -> Text:
        if task.total is None or not task.completed or not task.elapsed or task.total == 1:
            return Text("")
        rate = task.completed / task.elapsed
        return Text(f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each", style="progress.data.speed")


class _Left(ProgressColumn):
    """Remaining time of an unfinished step with a count."""

    def render(self, task: Task) -> Text:
        counted = task.total is not None and task.total > 1 and not task.finished
        left = _seconds_left(task.elapsed or 0.0, task.fields.get("share", 0.0)) if counted else None
        return Text("" if left is None else f"{timedelta(seconds=round(left))} left", style="progress.remaining")


def _seconds_left(spent: float, share: float) -> float | None:
    """Seconds until the end of a step of which `share` took the seconds `spent`; None before anything is done."""
    return spent * (1.0 - share) / share if share > 0 else None


class Steps:
    """Progress of a long command: bars on a terminal, elsewhere a line per step and per tenth of a step.

    Args:
        lines: whether these lines are printed where no bar can be drawn; commands that mostly take seconds omit them.
    """

    def __init__(self, *, shown: bool, lines: bool = True) -> None:
        self._console = Console(stderr=True, quiet=not shown)
        drawn = shown and draws(self._console)
        self._lines = shown and lines and not drawn
        self._progress = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            _Left(),
            console=self._console,
            disable=not drawn,
        )

    def __enter__(self) -> Steps:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step without a count."""
        with self.counted(name):
            yield

    @contextmanager
    def counted(self, name: str) -> Iterator[Told]:
        """A step with a bar; yields a function to be called with (done, total), and a share if it is another one."""
        task, started, said = self._progress.add_task(name, total=None), time.monotonic(), [0]
        self._say(f"{name} ...")
        _LOG.info(name)

        def update(done: int, total: int, share: float | None = None, /) -> None:
            part = done / max(total, 1) if share is None else share
            self._progress.update(task, completed=done, total=total, share=part)
            tenth = 10 * done // max(total, 1)
            if said[0] < tenth < 10:
                said[0] = tenth
                spent = time.monotonic() - started
                left = _seconds_left(spent, part)
                about = "" if left is None else f", about {left:.0f} s left"
                self._say(f"{name}: {done} of {total}, {spent:.0f} s{about}")
                _LOG.info("%s: %d of %d", name, done, total)

        yield update
        done = self._progress.tasks[task].completed
        self._progress.update(task, completed=max(done, 1), total=max(done, 1))
        self._say(f"{name}: done, {time.monotonic() - started:.0f} s")

    def _say(self, line: str) -> None:
        if self._lines:
            self._console.print(Text(line))
