"""Terminal and JSON output of all commands. Nothing else writes to stdout or stderr.

For people, results go to stdout as text, notes and progress to stderr. `--quiet` leaves errors and the last line of the
text. `--json` puts one JSON object on stdout and everything else on stderr; docs/howto/scripts.md documents its fields.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TextIO, TypeVar, get_type_hints

import typer
from rich.console import Console

from connectome_tl import __version__
from connectome_tl.errors import Problem, UsageError

P = ParamSpec("P")
R = TypeVar("R")
_PANEL = "Output"
_Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print errors and the last line only.", rich_help_panel=_PANEL)
]
_Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.", rich_help_panel=_PANEL),
]


class Terminal:
    """The output of one command.

    Attributes:
        quiet: leave errors and the last line only.
        json: one JSON object on stdout, everything else on stderr.
    """

    quiet: bool
    json: bool
    _command: str
    _last: str
    _result: dict[str, Any]

    def __init__(self) -> None:
        self.begin()

    def begin(self, command: str = "", *, quiet: bool = False, json: bool = False) -> None:
        """Begin the output of a command with its options."""
        self._command, self.quiet, self.json = command, quiet, json
        self._last, self._result = "", {}

    @property
    def shows_progress(self) -> bool:
        """Whether progress is shown on stderr."""
        return not self.quiet

    def say(self, line: str = "", *, colour: str | None = None) -> None:
        """Print a line of the result: the text that people read."""
        if line.strip():
            self._last = line.strip()
        if not self.quiet:
            _print(line, sys.stderr if self.json else sys.stdout, colour)

    def note(self, line: str, *, colour: str | None = None) -> None:
        """Print a remark or a warning on stderr."""
        if not self.quiet:
            _print(line, sys.stderr, colour)

    def console(self) -> Console:
        """A console for tables of the result."""
        return Console(stderr=self.json, quiet=self.quiet)

    def error(self, text: str) -> None:
        """Print an error on stderr, independent of the options."""
        _print(f"Error: {text}", sys.stderr, typer.colors.RED)

    def answer(self, **fields: Any) -> None:
        """Set fields of `result`, for `--json`. Records, paths, arrays and NaN (null) are allowed."""
        self._result |= fields

    def end(self, exit_code: int, problems: tuple[Problem, ...] = ()) -> None:
        """Print what remains: the JSON object, or the last line where the command is quiet."""
        if self.json:
            from connectome_tl.provenance import canonical_json

            answer = {
                "command": self._command,
                "version": __version__,
                "exit_code": exit_code,
                "result": self._result if exit_code == 0 or self._result else None,
                "problems": [vars(problem) for problem in problems],
            }
            _print(canonical_json(answer), sys.stdout)
        elif self.quiet and not exit_code and self._last:
            _print(self._last, sys.stdout)


terminal = Terminal()


def _print(line: str, stream: TextIO, colour: str | None = None) -> None:
    plain = not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    typer.echo(line if colour is None or plain else typer.style(line, fg=colour), file=stream)


def _refuse_own_input(values: dict[str, Any]) -> None:
    """Refuse an output file that is also an input of the command."""
    for option in ("out", "report"):
        out = values.get(option)
        inputs = [value for name, value in values.items() if name != option and isinstance(value, Path)]
        if isinstance(out, Path) and out.is_file() and any(one.is_file() and one.samefile(out) for one in inputs):
            raise UsageError(f"--{option} names an input of the command", file=out, remedy="Give another path.")


def command(
    group: typer.Typer, name: str | None = None, *, within: str = ""
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Add a function to a group of commands, with the options `--quiet` and `--json`.

    Args:
        name: name of the command; None for that of the function.
        within: name of the group; empty for the command itself.
    """

    def add(function: Callable[P, R]) -> Callable[P, R]:
        own_name = name or function.__name__
        label = f"{within} {own_name}" if within else own_name

        @wraps(function)
        def with_output(*, quiet: bool = False, json: bool = False, **values: Any) -> R:
            terminal.begin(label, quiet=quiet, json=json)
            _refuse_own_input(values)
            result = function(**values)  # type: ignore[call-arg]
            terminal.end(0)
            return result

        options = {"quiet": _Quiet, "json": _Json}
        hints = get_type_hints(function, include_extras=True)
        own = [p.replace(annotation=hints[p.name]) for p in inspect.signature(function).parameters.values()]
        added = [
            inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
            for option, kind in options.items()
        ]
        with_output.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
        with_output.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
        group.command(name)(with_output)
        return function

    return add
