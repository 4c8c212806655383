"""`connectome-tl morphometry`: regional measures and networks from structural MRI.

A whole BIDS folder with one page and one `cohort.yaml`, or one subject's files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from connectome_tl.connectome.export import write_connectome
from connectome_tl.connectome.morphometric import (
    FEATURES,
    divergence_network,
    regional_features,
    similarity_network,
    values_by_region,
)
from connectome_tl.connectome.names.labels import doubled
from connectome_tl.connectome.names.unlisted import refuse_other_numbering
from connectome_tl.errors import DataError, Problem, UsageError, raise_all
from connectome_tl.imaging.read.filters import read_filters
from connectome_tl.imaging.read.images import Volume, grid_problem, read_labels, read_volume, same_grid
from connectome_tl.imaging.read.inputs import Scan, take_inventory
from connectome_tl.plurals import counted
from connectome_tl.provenance import file_hash, write_table
from connectome_tl.settings.imaging import MorphometrySettings
from connectome_tl.workflows.data.assemble import region_table
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.scans.folder import FolderRun, preview, run_folder
from connectome_tl.workflows.scans.planning import folder_settings, plan_folder
from connectome_tl.workflows.scans.prefix import with_prefix
from connectome_tl.workflows.scans.template import contrast_of

_OWNER = re.compile(r"^sub-[^_]+_(ses-[^_]+_)?")
NETWORKS = ("divergence", "similarity")


@dataclass(frozen=True)
class MorphometryFiles:
    """What was written: the network, and the regional measures that `region_features.files` of a cohort reads."""

    network: Path
    measures: Path


def build_networks(
    bids_dir: str | Path,
    out_dir: str | Path,
    *,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    atlas: str | None = None,
    network: str | None = None,
    config: str | Path | None = None,
    filter_file: str | Path | None = None,
    n_workers: int = 1,
    dry_run: bool = False,
    tell: Callable[[str], None] | None = None,
) -> FolderRun:
    """Compute the network of every scan of a folder; finished scans are not repeated.

    Missing files are listed before anything is computed. A failed scan does not stop the others.

    Args:
        atlas, network: override the configuration.
        filter_file: `--bids-filter-file` of BIDS Apps, which selects images.
        n_workers: number of scans processed in parallel.
        dry_run: list files and choices without computing or writing anything.
        tell: called with each problem, line by line, before anything is computed.

    Raises:
        UsageError, MissingInputError: settings, folder or template.
        DataError, MissingInputError: at the end, when scans failed: one line for each.
    """
    settings, base = folder_settings(config, MorphometrySettings, atlas=atlas, network=network)
    filters = {} if filter_file is None else read_filters(Path(filter_file))
    inventory = take_inventory(bids_dir, participants=participants, sessions=sessions, diffusion=False, filters=filters)
    inventory = replace(inventory, scans=tuple(_structural(scan, settings) for scan in inventory.scans))
    plan, scans = plan_folder(settings, base, inventory, Path(out_dir).resolve())
    plan, scans, inventory = with_prefix(replace(plan, filters=filters), scans, inventory)
    if dry_run:
        return preview(plan, scans, inventory, n_workers, tell)
    return run_folder(plan, scans, inventory, n_workers, tell)


def _structural(scan: Scan, settings: MorphometrySettings) -> Scan:
    """The scan without its diffusion data, with the problems that prevent structural processing."""
    given = {contrast_of(scan.anatomical), contrast_of(scan.other_anatomical)}
    problems = [
        Problem(f"there is no {image} image", expected=f"anat/{scan.name}_{image}.nii.gz", subject=scan.name)
        for image in settings.images
        if image not in given
    ]
    tissues = scan.tissues if scan.tissues_in == "anat" and settings.tissues != "none" else ()
    if settings.tissues == "given" and not tissues and settings.hooks.tissues is None:
        remedy = "Use tissues: segmented, or none."
        what = "there are no tissue maps in the folder of the image"
        problems.append(Problem(what, subject=scan.name, remedy=remedy))
    return Scan(
        subject=scan.subject,
        session=scan.session,
        anatomical=scan.anatomical,
        other_anatomical=scan.other_anatomical,
        anatomical_mask=scan.anatomical_mask,
        parcellation=scan.labels_in_anat[0] if len(scan.labels_in_anat) == 1 else None,
        labels_in_anat=scan.labels_in_anat,
        tissues=tissues,
        tissues_in="anat",
        lesion=scan.lesion,
        problems=(*scan.problems, *problems),
    )


def morphometry_files(
    images: Sequence[str | Path],
    parcellation: str | Path,
    out: str | Path,
    *,
    network: str = "divergence",
    labels: str | Path | None = None,
    atlas: str | None = None,
    show_progress: bool = False,
) -> MorphometryFiles:
    """Compute one subject's network and measures from images (T1w, T2w, FA, tissue map) on the parcellation's grid.

    `divergence` compares the distributions of voxels over all images; `similarity` compares the regions' volume, mean,
    standard deviation and quantiles. A single subject is used, so no information can leak between folds.

    Args:
        show_progress: draw bars, on a terminal only.

    Raises:
        UsageError: unknown network, no image, both labels and atlas, or an `out` that is not `.tsv`.
        MissingInputError, DataError: as the readers; an image on another grid.
    """
    if Path(out).suffix.lower() != ".tsv":
        raise UsageError("a connectome is written as a table", expected="--out FILE.tsv", got=str(out))
    if network not in NETWORKS or not images:
        raise UsageError("no such network", expected=f"{' or '.join(NETWORKS)}, of at least one image", got=network)
    parcels = read_labels(parcellation)
    volumes = [read_volume(image) for image in images]
    raise_all(
        "images and labels do not belong together",
        [grid_problem("the image", volume, parcels) for volume in volumes if not same_grid(volume, parcels)],
        DataError,
    )
    regions = region_table(parcels, labels, atlas)
    refuse_other_numbering(parcels, regions)
    # A voxel that is not a number in one image has no part in any measure or distribution.
    known = np.logical_and.reduce([np.isfinite(volume.data) for volume in volumes])
    lost = int(np.count_nonzero(~known & (parcels.data > 0)))
    notes = [f"{counted(lost, 'labelled voxel is', 'labelled voxels are')} not a number in an image"] if lost else []
    parcels = Volume(np.where(known, parcels.data, 0), parcels.affine, parcels.subject, parcels.file)
    stems = _stems(images)
    table: dict[str, np.ndarray] = {}
    with Steps(shown=show_progress, lines=False) as steps:
        with steps.counted("measures of the regions") as progress:
            for done, (stem, volume) in enumerate(zip(stems, volumes, strict=True), 1):
                found = regional_features(volume, parcels, regions.numbers)
                for k, name in enumerate(FEATURES):
                    table.setdefault(name if name == "volume_mm3" or not stem else f"{stem}_{name}", found[:, k])
                progress(done, len(images))
        with steps.counted("network") as progress:
            if network == "similarity":
                made = similarity_network(np.column_stack(list(table.values())), regions.names, file=str(parcellation))
            else:
                parts = [values_by_region(volume, parcels, regions.numbers) for volume in volumes]
                joined = [np.column_stack(values) for values in zip(*parts, strict=True)]
                made = divergence_network(joined, regions.names, file=str(parcellation), progress=progress)
    sources = [*images, parcellation, *([] if labels is None else [labels])]
    (file,) = write_connectome(
        made,
        out,
        atlas=atlas or "",
        inputs={Path(source).name: file_hash(source) for source in sources},
        settings={"network": network},
        units="1",
        notes=tuple(notes),
        fields={"EdgeWeight": made.measures[0]},
    )
    measures = write_table(
        file.with_name(f"{file.stem}_measures.tsv"), pd.DataFrame({"name": list(regions.names), **table})
    )
    return MorphometryFiles(file, measures)


def _stems(images: Sequence[str | Path]) -> list[str]:
    """Names for the measures of each image: none for one image, else suffixes, or all but the subject if they repeat.

    Raises:
        UsageError: two images of the same name.
    """
    names = [_OWNER.sub("", Path(image).name.split(".")[0]) for image in images]
    if len(names) == 1:
        return [""]
    if twice := doubled(names):
        raise UsageError("two images have the same name, as their measures would", got=twice[0])
    suffixes = [name.rsplit("_", 1)[-1] for name in names]
    return names if doubled(suffixes) else suffixes
