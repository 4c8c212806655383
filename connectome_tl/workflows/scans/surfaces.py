"""Map regions of cortical surfaces to labels of the anatomical image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectome_tl.connectome.regions import RegionTable
from connectome_tl.errors import DataError, Problem
from connectome_tl.imaging.read.images import Volume, grid_problem, read_labels, same_grid
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.imaging.read.surfaces import numbers_apart, read_cortex, read_surface_labels, voxels_of
from connectome_tl.settings.surfaces import SurfaceFiles
from connectome_tl.workflows.scans.surface_rows import in_rows

_SIDES = ("left", "right")


def surface_files(settings: SurfaceFiles, root: Path, scan: Scan) -> tuple[tuple[str, Path], ...]:
    """Files of one scan by role."""
    found = []
    for side in _SIDES:
        hemisphere = getattr(settings, side)
        if hemisphere is not None:
            found += [(f"{side}_{part}", getattr(hemisphere, part)) for part in ("white", "pial", "labels")]
    found += [] if settings.ribbon is None else [("ribbon", settings.ribbon)]
    return tuple(
        (role, root / pattern.format(subject=scan.subject, session=scan.session or "")) for role, pattern in found
    )


def surface_problems(files: tuple[tuple[str, Path], ...], scan: Scan) -> list[Problem]:
    """Problems for missing files and a missing anatomical image."""
    found = [Problem("a file of the surfaces is missing", expected=str(path), subject=scan.name)
             for _, path in files if not path.is_file()]  # fmt: skip
    if scan.anatomical is None:
        found.append(Problem("there is no T2w or T1w image for the surfaces", subject=scan.name))
    return found


def regions_of_surfaces(files: tuple[tuple[str, Path], ...], *, subject: str | None = None) -> RegionTable:
    """Rows of a connectome from the label tables; names used in both hemispheres get a prefix.

    Raises:
        MissingInputError, DataError: as `read_surface_labels`.
    """
    by_role = dict(files)
    names = {
        s: read_surface_labels(by_role[f"{s}_labels"], subject=subject)[1] for s in _SIDES if f"{s}_labels" in by_role
    }
    apart = numbers_apart(*names.values()) if len(names) > 1 else 0
    alike = len(names) > 1 and bool(set(names["left"].values()) & set(names["right"].values()))
    rows = [
        (f"{side[0].upper()}_{name}" if alike else name, number + (apart if side == "right" else 0))
        for side, regions in names.items()
        for number, name in sorted(regions.items())
    ]
    return RegionTable(tuple(name for name, _ in rows), tuple(number for _, number in rows))


def labels_of_surfaces(
    scan: Scan, settings: SurfaceFiles, image: Volume, regions: RegionTable | None, *, given: bool
) -> Volume:
    """Labels on the grid of the anatomical image.

    Args:
        regions: rows of all scans. Numbers are assigned to this scan's regions by name, since tools may number the
        regions of each subject differently.
        given: whether the rows are from a label table or atlas of the user, else from label tables of another scan.

    Raises:
        MissingInputError, DataError: as the readers; a ribbon on another grid; surfaces in another space; no region;
        names that do not match those of the rows.
    """
    files = dict(scan.surfaces)
    ribbon = None
    if "ribbon" in files:
        ribbon = read_labels(files["ribbon"], subject=scan.name)
        if not same_grid(ribbon, image):
            raise DataError("the ribbon cannot be used", problems=[grid_problem("the ribbon", ribbon, image)])
    sides = {
        side: read_cortex(
            *(files[f"{side}_{part}"] for part in ("white", "pial", "labels")), side=side, subject=scan.name
        )
        for side in _SIDES
        if f"{side}_labels" in files
    }
    apart = numbers_apart(*(cortex.names for cortex in sides.values())) if len(sides) > 1 else 0
    found = np.zeros(image.shape, dtype=np.int32)
    for side, cortex in sides.items():
        grey = None if ribbon is None else _grey(ribbon, side, getattr(settings, f"ribbon_{side}"), scan)
        own = voxels_of(cortex, image, grey)
        new = (own > 0) & (found == 0)
        found[new] = own[new] + (apart if side == "right" else 0)
    if not found.any():
        raise DataError(
            "no voxel belongs to a region of the surfaces",
            subject=scan.name,
            file=files.get("ribbon", next(iter(files.values()))),
        )
    if regions is not None:
        found = in_rows(found, regions_of_surfaces(scan.surfaces, subject=scan.name), regions, scan, given=given)
    return Volume(found, image.affine, scan.name, str(next(iter(files.values()))))


def _grey(ribbon: Volume, side: str, number: int, scan: Scan) -> np.ndarray:
    """Voxels of one hemisphere's ribbon, (x, y, z) bool."""
    grey = ribbon.data == number
    if not grey.any():
        raise DataError(
            f"the ribbon has no voxel of the {side} hemisphere",
            expected=f"the number {number}",
            got=", ".join(map(str, np.unique(ribbon.data)[:8])),
            subject=scan.name,
            file=ribbon.file,
            remedy=f"Set surfaces.ribbon_{side} to its number.",
        )
    return grey
