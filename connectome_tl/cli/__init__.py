"""Command line: map arguments to workflows and errors to exit codes. Workflows are imported on call."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main(arguments: list[str] | None = None) -> None:
    """Entry point: run one command and leave with its exit code.

    The imports of the commands take some tenths of a second; an interrupt during them has the same exit code as later.
    """
    try:
        signal.signal(signal.SIGTERM, _interrupt)
        # the parent process may have set it to be ignored
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        from connectome_tl.cli.entry import answer

        answer(arguments)
    except (KeyboardInterrupt, ImportError) as error:
        if isinstance(error, ImportError) and not interrupted():
            raise
        print("Error: interrupted. Run the same command again.", file=sys.stderr)
        sys.exit(75)


class _Interrupt(KeyboardInterrupt):
    """An interrupt that does not affect the exit code of Python.

    If a plain `KeyboardInterrupt` passes through `exec` of a string (as in the creation of dataclasses and named
    tuples, hence in any import), CPython ends the process by SIGINT and ignores the exit code.
    """


_signals: list[int] = []


def interrupted() -> bool:
    """Whether the process was interrupted; modules in C may convert an interrupt of their import to an ImportError."""
    return bool(_signals)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    _signals.append(number)
    raise _Interrupt
