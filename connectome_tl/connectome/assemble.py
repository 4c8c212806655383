"""Streamlines and labels to a connectome: the same numbers as MRtrix3's `tck2connectome`, from flat arrays.

Counts, lengths, node volumes and means follow Hagmann et al. 2008 (doi:10.1371/journal.pbio.0060159) as
MRtrix3 computes them (Tournier et al. 2019, doi:10.1016/j.neuroimage.2019.116137). Every streamline is
accounted for: it joins an edge, is unassigned, or is too short to have two ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from connectome_tl.atlas import Atlas
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.endpoints import radial_labels, voxel_labels
from connectome_tl.connectome.labels import LabelTable
from connectome_tl.errors import DataError, InternalError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.track.sampling import Ends
from connectome_tl.settings.imaging import AssemblySettings

_TABLE = 1 << 22  # labels up to here are looked up in a table


@dataclass(frozen=True)
class RegionTable:
    """Region names in row order and the label each has in the image; `numbers` is unique."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class StreamlineAccount:
    """Where the streamlines went: `total = edges + unassigned + too_short`.

    Attributes:
        edges: both ends in a region of the table; `within_one_region` of them begin and end in the same
            one and stand on the diagonal, which is written only on request.
        unassigned: an end has no region near enough, or only one that the table leaves out.
        too_short: fewer than two points, so there are no two ends.
    """

    total: int
    edges: int
    within_one_region: int
    unassigned: int
    too_short: int


@dataclass(frozen=True, eq=False)
class Assembly:
    """A connectome and how it came about.

    Attributes:
        ends: (n_streamlines, 2) row of the region of each end, -1 for none.
        node_volumes: (n_regions,) voxels per region.
        warnings: what a reader should know about the labels.
    """

    connectome: Connectome
    account: StreamlineAccount
    ends: np.ndarray
    node_volumes: np.ndarray
    warnings: tuple[str, ...] = ()


def regions_of_image(labels: Volume) -> RegionTable:
    """Every label of the image, named by its number."""
    numbers = np.flatnonzero(np.bincount(labels.data.ravel())) if labels.data.max() < _TABLE else np.unique(labels.data)
    numbers = numbers[numbers > 0]
    return RegionTable(tuple(str(n) for n in numbers), tuple(int(n) for n in numbers))


def regions_of_table(table: LabelTable, *, file: str | None = None) -> RegionTable:
    """Rows of a label table.

    Raises:
        DataError: it has names only; which number in the image is whose cannot be guessed.
    """
    if table.numbers is None:
        raise DataError(
            "the label table has no numbers",
            expected="a column `index` with each region's label in the image",
            file=file,
        )
    return RegionTable(table.names, table.numbers)


def regions_of_atlas(atlas: Atlas) -> RegionTable:
    """Rows of an atlas in its order."""
    return RegionTable(atlas.names, tuple(region.index for region in atlas.regions))


def assemble(
    streamlines: Ends,
    labels: Volume,
    regions: RegionTable,
    measures: Sequence[str] = ("count",),
    *,
    settings: AssemblySettings | None = None,
    weights: np.ndarray | None = None,
    weights_file: str | None = None,
) -> Assembly:
    """Assign both ends of every streamline to regions and sum up each edge.

    Args:
        labels: (x, y, z) integers; 0 is background. A label the table leaves out still takes the ends
            that lie nearest to it (they count as unassigned).
        measures: any of `count` (sum of weights), `length` (weighted mean, mm), `invnodevol` (sum of
            2 / (voxels of both regions)), or a name of `streamlines.means` (weighted mean).
        settings: assignment and diagonal.
        weights: (n_streamlines,) finite and not negative, SIFT2 for example; 1 by default.
        weights_file: where they come from, for messages.

    Returns:
        Regions of the table that the image lacks are masked. An edge without streamlines is 0.

    Raises:
        DataError: the image has none of the table's labels; weights of another length; no streamline ends near
            any label, or none of those that join regions has a value of an image (they lie in another space).
    """
    settings = settings or AssemblySettings()
    weights = _checked_weights(weights, streamlines, weights_file)
    label_of_row = np.array(regions.numbers, dtype=np.int64)
    volumes, warnings = _node_volumes(labels, regions)
    if streamlines.n_streamlines == 0:
        warnings.append("the tractogram holds no streamline: no edge is known")
    ends, account = _assign(streamlines, labels, label_of_row, settings)

    n_regions = len(regions.names)
    joined = np.flatnonzero((ends >= 0).all(axis=1))
    low, high = ends[joined].min(axis=1), ends[joined].max(axis=1)
    cell = low.astype(np.int64) * n_regions + high
    w = None if weights is None else weights[joined]

    def total(values: np.ndarray | None) -> np.ndarray:
        flat = np.bincount(cell, values, minlength=n_regions * n_regions).astype(float)
        matrix = flat.reshape(n_regions, n_regions)
        return matrix + np.triu(matrix, 1).T

    def mean(values: np.ndarray, measure: str) -> np.ndarray:
        known = np.isfinite(values)
        if len(joined) and not known.any():
            raise DataError(
                f"no streamline that joins two regions has a value of {measure}",
                expected="an image in the streamlines' space with numbers where they run",
                subject=labels.subject,
                file=streamlines.sources.get(measure, streamlines.file),
            )
        unknown = len(np.setdiff1d(cell[~known & (low != high)], cell[known]))
        if unknown:
            warnings.append(f"{unknown} edges have streamlines but no value of {measure}; they are written as 0")
        share = known.astype(float) if w is None else np.where(known, w, 0.0)
        sums, shares = total(np.where(known, values, 0.0) * share), total(share)
        return np.divide(sums, shares, out=np.zeros_like(sums), where=shares > 0)

    found = []
    for measure in measures:
        if measure == "count":
            matrix = total(w)
        elif measure == "length":
            matrix = mean(_known(streamlines.lengths, measure)[joined], measure)
        elif measure == "invnodevol":
            factor = 2.0 / (volumes[low] + volumes[high])
            matrix = total(factor if w is None else factor * w)
        else:
            matrix = mean(_known(streamlines.means.get(measure), measure)[joined], measure)
        if settings.diagonal == "zero":
            np.fill_diagonal(matrix, 0.0)
        found.append(matrix)
    connectome = Connectome(
        weights=np.stack(found),
        regions=regions.names,
        measures=tuple(measures),
        node_mask=volumes > 0,
        subject=labels.subject,
        file=streamlines.file,
    )
    return Assembly(connectome, account, ends, volumes, tuple(warnings))


def joins_two_regions(
    streamlines: Ends, labels: Volume, regions: RegionTable, settings: AssemblySettings | None = None
) -> np.ndarray:
    """Which streamlines `assemble` would count in an edge between two regions, (n_streamlines,) bool."""
    label_of_row = np.array(regions.numbers, dtype=np.int64)
    ends, _ = _assign(streamlines, labels, label_of_row, settings or AssemblySettings())
    return np.asarray((ends >= 0).all(axis=1) & (ends[:, 0] != ends[:, 1]))


def _known(values: np.ndarray | None, measure: str) -> np.ndarray:
    if values is None:
        raise InternalError(f"the streamlines were read without what {measure!r} needs")
    return values


def _checked_weights(weights: np.ndarray | None, streamlines: Ends, file: str | None) -> np.ndarray | None:
    if weights is None:
        return None
    file = file or streamlines.file
    if weights.shape != (streamlines.n_streamlines,):
        raise DataError(
            "the weights do not fit the streamlines",
            expected=f"{streamlines.n_streamlines} values",
            got=str(weights.size),
            file=file,
        )
    wrong = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if wrong.size:
        raise DataError(
            "a streamline weight is negative or not a number",
            got=f"{weights[wrong[0]]:g} as weight {wrong[0] + 1}, {wrong.size} in all",
            file=file,
        )
    return weights.astype(float)


def _node_volumes(labels: Volume, regions: RegionTable) -> tuple[np.ndarray, list[str]]:
    """Voxels of each row's label, and what to say about labels on one side only."""
    present, counts = np.unique(labels.data[labels.data > 0], return_counts=True)
    size = dict(zip(present.tolist(), counts.tolist(), strict=True))
    volumes = np.array([size.get(number, 0) for number in regions.numbers], dtype=np.int64)
    if not volumes.any():
        raise DataError(
            "the parcellation has none of the labels of the table",
            expected=f"labels such as {', '.join(str(n) for n in regions.numbers[:5])}",
            got=f"labels such as {', '.join(str(n) for n in present[:5])}",
            subject=labels.subject,
            file=labels.file,
            remedy="Image and table belong to different atlases, or the numbering was changed.",
        )
    warnings = []
    absent = [
        f"{name} ({number})" for name, number, n in zip(regions.names, regions.numbers, volumes, strict=True) if not n
    ]
    if absent:
        shown = ", ".join(absent[:20]) + (", ..." if len(absent) > 20 else "")
        warnings.append(f"regions of the table that are not in the image and are masked, {len(absent)}: {shown}")
    extra = sorted(set(size) - set(regions.numbers))
    if extra:
        shown = ", ".join(str(n) for n in extra[:20]) + (", ..." if len(extra) > 20 else "")
        warnings.append(f"labels of the image that are not in the table and are left out, {len(extra)}: {shown}")
    return volumes, warnings


def _assign(
    streamlines: Ends, labels: Volume, label_of_row: np.ndarray, settings: AssemblySettings
) -> tuple[np.ndarray, StreamlineAccount]:
    short = streamlines.n_points < 2
    points = np.concatenate([streamlines.head, streamlines.tail])
    points[np.tile(short, 2)] = np.nan
    whole = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(whole) != 2 * int((~short).sum()):
        raise DataError("a coordinate is not a finite number", file=streamlines.file)
    found = np.zeros(len(points), dtype=np.int32)
    if settings.assignment == "endvoxel":
        found[whole] = voxel_labels(points[whole], labels)
    else:
        found[whole] = radial_labels(points[whole], labels, settings.radius_mm)
    if len(whole) and not found.any():
        near = "" if settings.assignment == "endvoxel" else f" or {settings.radius_mm:g} mm around it"
        raise DataError(
            "no streamline ends in a region",
            expected=f"ends in a labelled voxel{near}",
            got=f"{len(whole) // 2} streamlines of {streamlines.file}" if streamlines.file else f"{len(whole) // 2}",
            subject=labels.subject,
            file=labels.file,
            remedy="Streamlines and parcellation must lie in one space, in mm.",
        )
    rows = _rows_of(found, label_of_row).reshape(2, -1).T
    joined = (rows >= 0).all(axis=1)
    account = StreamlineAccount(
        total=streamlines.n_streamlines,
        edges=int(joined.sum()),
        within_one_region=int((joined & (rows[:, 0] == rows[:, 1])).sum()),
        unassigned=int((~joined & ~short).sum()),
        too_short=int(short.sum()),
    )
    return rows, account


def _rows_of(found: np.ndarray, label_of_row: np.ndarray) -> np.ndarray:
    """Row of the table for each label, -1 for labels it leaves out."""
    largest = max(int(found.max(initial=0)), int(label_of_row.max(initial=0)))
    if largest < _TABLE and label_of_row.min(initial=0) >= 0:
        row_of_label = np.full(largest + 1, -1, dtype=np.int32)
        row_of_label[label_of_row] = np.arange(len(label_of_row))
        return row_of_label[found]
    order = np.argsort(label_of_row)
    place = np.minimum(np.searchsorted(label_of_row[order], found), len(order) - 1)
    return np.where(label_of_row[order[place]] == found, order[place], -1)


def account_of(assembly: Assembly) -> dict[str, int]:
    """The account as a sidecar shows it."""
    return asdict(assembly.account)
