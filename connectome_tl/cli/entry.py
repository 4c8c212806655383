"""Run one command: its words, its result or error, its exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise

import typer
from typer._completion_classes import completion_init

from connectome_tl.cli import interrupted
from connectome_tl.cli.app import COMPLETE, app
from connectome_tl.cli.extras import missing_extra
from connectome_tl.cli.terminal import terminal
from connectome_tl.errors import ConnectomeTLError, InterruptedRunError, OutputError, Problem, UsageError
from connectome_tl.extension import load_extensions

# Importing these modules adds their commands, in the order of the help.
for _module in ("study", "volumes", "bundles", "data", "scans", "setup"):
    import_module(f"connectome_tl.cli.{_module}")
# Newer Typer includes its own copy of click, whose errors are not those of the package `click`.
_WrongUsage: type[Exception] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
# Commands that keep what they have finished; the others start over.
_RESUMED = {"run", "tune", "demo", "explain", "connectomes", "morphometry", "segment", "prune", "fetch"}
_TYPERS_INTERRUPT = 130  # newer Typer catches an interrupt and returns this


def answer(arguments: list[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    if COMPLETE in os.environ:
        completion_init()
    words = sys.argv[1:] if arguments is None else arguments
    # Parsing errors are raised before a command gets its options.
    command = next((word for word in words if word[:1] != "-"), "")
    terminal.begin(command, json="--json" in words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may contain bytes that cannot be encoded
            stream.reconfigure(errors="backslashreplace")
    try:
        _refuse_empty(words)
        load_extensions()
        code = app(args=arguments, standalone_mode=False)
        if code == _TYPERS_INTERRUPT:
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)
    except _WrongUsage as error:
        from connectome_tl.wording import in_plain_text  # typer's words are those of pydantic

        error.message = in_plain_text(error.message)  # type: ignore[attr-defined]
        error.show()  # type: ignore[attr-defined]
        terminal.end(64, (Problem(error.format_message()),))  # type: ignore[attr-defined]
        sys.exit(64)
    except (KeyboardInterrupt, typer.Abort):
        _leave(_stopped(command))
    except ConnectomeTLError as error:
        _leave(error)
    except ModuleNotFoundError as error:
        lacking = missing_extra(error)
        if lacking is None or interrupted():
            _fail(error, command)
        else:
            _leave(lacking)
    except OSError as error:
        _leave(OutputError(f"{error.strerror or error}", file=error.filename))
    except Exception as error:
        _fail(error, command)


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse an output without a name, which would be the current folder: a variable of the shell may not be set."""
    empty = [option for option, value in pairwise(words) if option in ("--out", "--report") and not value.strip()]
    if empty or {"--out=", "--report="} & set(words):
        raise UsageError(f"{(empty or ['--out'])[0]} is empty", expected="a path; . is the current folder")


def _stopped(command: str) -> InterruptedRunError:
    resumes = "; it resumes" if command in _RESUMED else ""
    return InterruptedRunError("interrupted", remedy=f"Run the same command again{resumes}.")


def _leave(error: ConnectomeTLError) -> None:
    if os.environ.get("CONNECTOME_TL_DEBUG"):
        raise error
    terminal.error(str(error))
    terminal.end(error.exit_code, error.problems)
    sys.exit(error.exit_code)


def _fail(error: Exception, command: str) -> None:
    """Print an internal error in one line, with a traceback only on request."""
    if interrupted():
        _leave(_stopped(command))
    if os.environ.get("CONNECTOME_TL_DEBUG"):
        raise error
    problem = Problem(
        f"{type(error).__name__}: {error}",
        remedy="This is a bug, not an error in your data. Run again with --debug and report the traceback.",
    )
    terminal.error(str(problem))
    terminal.end(70, (problem,))
    sys.exit(70)
