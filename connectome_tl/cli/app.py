"""The main command, its groups, and options shared by several commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from connectome_tl import __version__

COMPLETE = "_CONNECTOME_TL_COMPLETE"  # environment variable set by shell completion

app = typer.Typer(
    name="connectome-tl",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict neurodevelopmental outcome from infant MRI: connectomes, three-stage transfer learning, "
    "confidence intervals. For research, not for care.",
)
atlases = typer.Typer(no_args_is_help=True, help="List, show and install atlases (label images are not included).")
app.add_typer(atlases, name="atlas")
fetches = typer.Typer(no_args_is_help=True, help="Download public data with nilearn or TemplateFlow.")
app.add_typer(fetches, name="fetch")
Out = Annotated[Path, typer.Option("--out", help="Output folder.")]
Labels = Annotated[Path | None, typer.Option("--labels", help="Table of the regions, in the order of the rows.")]
AtlasName = Annotated[str | None, typer.Option("--atlas", help="Name of an atlas, as `atlas list` prints it.")]
Participants = Annotated[
    list[str] | None, typer.Option("--participant-label", help="Process only this participant; may be repeated.")
]
Sessions = Annotated[list[str] | None, typer.Option("--session-id", help="Process only this session; may be repeated.")]
ImagingConfig = Annotated[Path | None, typer.Option("--config", help="YAML file of imaging settings.")]
Workers = Annotated[
    int, typer.Option("--n-cpus", min=1, help="Number of scans in parallel; for a single scan, number of threads.")
]
FilterFile = Annotated[
    Path | None, typer.Option("--bids-filter-file", help="BIDS filter file (JSON) that selects images.")
]
Scheduler = Annotated[
    str | None, typer.Option("--scheduler", help="Address of a Dask scheduler, tcp://HOST:8786, for the fits.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the files and choices of each scan; write nothing.")]


def _version(show: bool) -> None:
    if show:
        typer.echo(f"connectome-tl {__version__}")
        raise typer.Exit()


@app.callback()
def _common(
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
) -> None:
    if debug:
        os.environ["CONNECTOME_TL_DEBUG"] = "1"
