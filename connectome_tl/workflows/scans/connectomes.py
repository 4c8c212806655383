"""`connectome-tl connectomes`: connectomes, reports and a `cohort.yaml` from a BIDS folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from connectome_tl.arguments import Positive, checked_arguments
from connectome_tl.errors import MissingInputError
from connectome_tl.files import read_json_object
from connectome_tl.imaging.read.filters import read_filters
from connectome_tl.imaging.read.inputs import Inventory, Scan, take_inventory
from connectome_tl.imaging.track.mrtrix import commands_of, require
from connectome_tl.imaging.track.reconstruction import response_from_record
from connectome_tl.settings.imaging import AnyScanSettings, ConnectomesSettings
from connectome_tl.workflows.scans.folder import FolderRun, preview, run_folder
from connectome_tl.workflows.scans.planning import folder_settings, plan_folder
from connectome_tl.workflows.scans.prefix import with_prefix
from connectome_tl.workflows.scans.result import Plan


@checked_arguments
def build_connectomes(
    bids_dir: str | Path,
    out_dir: str | Path,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    atlas: str | None = None,
    engine: str | None = None,
    config: str | Path | None = None,
    filter_file: str | Path | None = None,
    n_workers: Positive = 1,
    dry_run: bool = False,
    tell: Callable[[str], None] | None = None,
) -> FolderRun:
    """Compute the connectomes of every scan of a folder; finished scans are not repeated.

    Missing and duplicate files are listed before anything is computed. A failed scan does not stop the others.

    Args:
        atlas, engine: override the configuration.
        filter_file: `--bids-filter-file` of BIDS Apps, which selects images.
        n_workers: number of scans processed in parallel; with fewer scans, threads of each scan.
        dry_run: list files and choices without computing or writing anything.
        tell: called with each problem, line by line, before anything is computed.

    Raises:
        UsageError, MissingInputError: settings, folder or template.
        DataError, MissingInputError: at the end, if scans failed, with one line for each.
    """
    settings, base = folder_settings(config, ConnectomesSettings, atlas=atlas, engine=engine)
    filters = {} if filter_file is None else read_filters(Path(filter_file))
    inventory = take_inventory(
        bids_dir,
        participants=participants,
        sessions=sessions,
        meant=settings.dwi,
        filters=filters,
        join=settings.join_runs,
        b0_max=settings.b0_max,
    )
    plan, scans = plan_connectomes(settings, base, inventory, Path(out_dir).resolve())
    plan, scans, inventory = with_prefix(replace(plan, filters=filters), scans, inventory)
    if dry_run:
        return preview(plan, scans, inventory, n_workers, tell)
    return run_folder(plan, scans, inventory, n_workers, tell)


def plan_connectomes(
    settings: ConnectomesSettings, base: Path, inventory: Inventory, out: Path
) -> tuple[Plan[AnyScanSettings], list[Scan]]:
    """`plan_folder` for diffusion data, with checks of the required programs and group response.

    Raises:
        MissingInputError: a program or the response is not there. DataError: its file does not contain a response.
        And as `plan_folder` does.
    """
    require(commands_of(settings))
    given = settings.reconstruction.response_file
    response = None if given is None else base / given
    if response is not None and not response.is_file():
        raise MissingInputError("the group response file is missing", file=response)
    if response is not None:
        response_from_record(read_json_object(response), response)
    return plan_folder(settings, base, inventory, out, response=response)
