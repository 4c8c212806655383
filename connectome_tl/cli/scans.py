"""Commands that start from scans."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from connectome_tl.cli.app import (
    AtlasName,
    DryRun,
    FilterFile,
    ImagingConfig,
    Labels,
    Participants,
    Sessions,
    Workers,
    app,
)
from connectome_tl.cli.terminal import command, terminal
from connectome_tl.errors import UsageError

if TYPE_CHECKING:
    from connectome_tl.workflows.scans.folder import FolderRun


@command(app)
def morphometry(
    first: Annotated[
        Path,
        typer.Argument(metavar="BIDS_DIR | PARCELLATION", help="A BIDS folder, or the label image of one subject."),
    ],
    others: Annotated[
        list[Path],
        typer.Argument(
            metavar="OUT_DIR [participant] | IMAGES...",
            help="Output folder, or images on the grid of the labels: T1w, T2w, FA.",
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="For one subject: table to write (.tsv).")] = None,
    network: Annotated[str | None, typer.Option(help="divergence (default) or similarity")] = None,
    labels: Labels = None,
    atlas: AtlasName = None,
    participant: Participants = None,
    session: Sessions = None,
    config: ImagingConfig = None,
    n_cpus: Workers = 1,
    filter_file: FilterFile = None,
    dry_run: DryRun = False,
) -> None:
    """Compute morphometric networks from structural MRI, for a BIDS folder or one subject."""
    from connectome_tl.workflows.scans.morphometry import build_networks, morphometry_files

    if first.is_dir():
        _participant_level(str(others[1]) if len(others) > 1 else "participant")
        if out is not None or labels is not None or len(others) > 2:
            raise UsageError("of a folder: morphometry BIDS_DIR OUT_DIR participant", expected="labels in --config")
        found = build_networks(
            first,
            others[0],
            participants=participant or (),
            sessions=session or (),
            atlas=atlas,
            network=network,
            config=config,
            n_workers=n_cpus,
            filter_file=filter_file,
            dry_run=dry_run,
            tell=_teller(dry_run),
        )
        _done(found, dry_run)
        return
    if out is None:
        raise UsageError("one subject's network needs --out FILE.tsv", got=f"{first}, which is no folder")
    made = morphometry_files(
        others,
        first,
        out,
        network=network or "divergence",
        labels=labels,
        atlas=atlas,
        show_progress=terminal.shows_progress,
    )
    terminal.answer(written=[made.network, made.measures])
    terminal.say(f"wrote {made.network} and {made.measures}")


def _teller(dry_run: bool) -> Callable[[str], None] | None:
    """Function that prints the lines of a run over scans: results of a dry run, else remarks."""
    if dry_run:
        return terminal.say
    return partial(terminal.note, colour=typer.colors.YELLOW) if terminal.shows_progress else None


def _done(found: FolderRun, dry_run: bool) -> None:
    scans = [{"scan": one.scan, "state": one.state, "warnings": one.warnings} for one in found.done]
    failed = [{"scan": scan, "problem": problem} for scan, problem, _ in found.failed]
    page = None if dry_run else found.page
    terminal.answer(report=page, cohort=found.cohort, scans=scans, failed=failed)
    if page is not None:
        terminal.say(f"Report: {page}")


def _participant_level(level: str) -> None:
    if level != "participant":
        raise UsageError("unknown analysis level", expected="participant", got=level)


@command(app)
def connectomes(
    bids_dir: Annotated[Path, typer.Argument(help="BIDS dataset, QSIPrep derivatives or a dHCP release.")],
    out_dir: Annotated[Path, typer.Argument(help="Folder for the connectomes.")],
    level: Annotated[
        str, typer.Argument(help="participant, or group: average the responses of OUT_DIR's scans.")
    ] = "participant",
    participant: Participants = None,
    session: Sessions = None,
    atlas: AtlasName = None,
    engine: Annotated[str | None, typer.Option("--engine", help="dipy or mrtrix3")] = None,
    config: ImagingConfig = None,
    n_cpus: Workers = 1,
    filter_file: FilterFile = None,
    dry_run: DryRun = False,
) -> None:
    """Compute connectomes from a folder of diffusion and structural MRI. Run again to resume.

    The level `group` averages the responses of the scans that are done in OUT_DIR, for a second run with one response.
    """
    if level == "group":
        from connectome_tl.plurals import counted
        from connectome_tl.workflows.scans.group_response import write_group_response

        file, n = write_group_response(out_dir, participants=participant or (), sessions=session or ())
        terminal.answer(written=file, n_scans=n)
        terminal.say(
            f"wrote {file}, the mean of {counted(n, 'scan')}; "
            "name it as reconstruction.response_file in another folder's run"
        )
        return
    from connectome_tl.workflows.scans.connectomes import build_connectomes

    _participant_level(level)
    made = build_connectomes(
        bids_dir,
        out_dir,
        participants=participant or (),
        sessions=session or (),
        atlas=atlas,
        engine=engine,
        config=config,
        n_workers=n_cpus,
        filter_file=filter_file,
        dry_run=dry_run,
        tell=_teller(dry_run),
    )
    _done(made, dry_run)
