"""Assemble a connectome from streamlines and labels, as MRtrix3's `tck2connectome` does.

Counts, lengths, node volumes and means follow Hagmann et al. 2008 (doi:10.1371/journal.pbio.0060159) as
MRtrix3 computes them (Tournier et al. 2019, doi:10.1016/j.neuroimage.2019.116137). Every streamline is
counted once: in an edge, as unassigned, or as too short to have two ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from connectome_tl.connectome.assignment import (
    StreamlineAccount,
    account_ends,
    labels_of_ends,
    say_unlisted,
    some,
    without_tissue,
)
from connectome_tl.connectome.centroids import check_places
from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.names.unlisted import Unlisted, unlisted
from connectome_tl.connectome.regions import (
    RegionTable,
    regions_of_atlas,
    regions_of_image,
    regions_of_table,
)
from connectome_tl.errors import DataError, InternalError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.track.sampling import Ends
from connectome_tl.plurals import counted
from connectome_tl.settings.imaging import AssemblySettings

__all__ = [
    "Assembly",
    "RegionTable",
    "StreamlineAccount",
    "account_of",
    "assemble",
    "regions_of_atlas",
    "regions_of_image",
    "regions_of_table",
]


@dataclass(frozen=True, eq=False)
class Assembly:
    """A connectome with the account of its streamlines.

    Attributes:
        ends: (n_streamlines, 2) row of the region of each end, -1 for none.
        node_volumes: (n_regions,) voxels per region.
        warnings: remarks about the labels.
    """

    connectome: Connectome
    account: StreamlineAccount
    ends: np.ndarray
    node_volumes: np.ndarray
    warnings: tuple[str, ...] = ()


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
        labels: (x, y, z) integers; 0 and tissue that the table does not list (`unlisted`) are background. Ends
        assigned to any other label that the table does not list count as unassigned.
        measures: any of `count` (sum of weights), `length` (weighted mean, mm), `invnodevol` (sum of
            2 / (voxels of both regions)), or a name of `streamlines.means` (weighted mean).
        settings: assignment and diagonal.
        weights: (n_streamlines,) finite and not negative, SIFT2 for example; 1 by default.
        weights_file: file of the weights, for messages.

    Returns:
        The assembly. Regions of the table that the image lacks are masked. An edge without streamlines is 0.

    Raises:
        DataError: the image has none of the table's labels; its regions are at other positions than in the atlas;
        weights of another length; more ends in unknown labels than allowed; no streamline ends near any label
        or none has a value of an image (different spaces); or every edge is 0.
    """
    settings = settings or AssemblySettings()
    weights = _checked_weights(weights, streamlines, weights_file)
    if streamlines.n_streamlines == 0:
        raise DataError("the tractogram contains no streamline", file=streamlines.file, subject=labels.subject)
    label_of_row = np.array(regions.numbers, dtype=np.int64)
    warnings = list(streamlines.notes)
    volumes, extra = _node_volumes(labels, regions, warnings)
    if regions.atlas is not None:
        check_places(labels, regions.atlas, max_misplaced=settings.max_misplaced)
    found = labels_of_ends(streamlines, without_tissue(extra.tissue, labels, extra.scheme, warnings), settings)
    say_unlisted(found, extra, settings, labels, warnings)
    ends, account = account_ends(streamlines, found, label_of_row)

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
                expected="an image in the streamlines' space with values along them",
                subject=labels.subject,
                file=streamlines.sources.get(measure, streamlines.file),
            )
        unknown = len(np.setdiff1d(cell[~known & (low != high)], cell[known]))
        if unknown:
            warnings.append(
                f"{counted(unknown, 'edge has', 'edges have')} streamlines but no value of {measure} (written as 0)"
            )
        share = known.astype(float) if w is None else np.where(known, w, 0.0)
        sums, shares = total(np.where(known, values, 0.0) * share), total(share)
        return np.divide(sums, shares, out=np.zeros_like(sums), where=shares > 0)

    matrices = []
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
        _refuse_empty(matrix, measure, account, labels, streamlines)
        matrices.append(matrix)
    connectome = Connectome(
        weights=np.stack(matrices),
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
    said: list[str] = []  # `assemble` reports the same warnings
    _, extra = _node_volumes(labels, regions, said)
    found = labels_of_ends(
        streamlines, without_tissue(extra.tissue, labels, extra.scheme, said), settings or AssemblySettings()
    )
    ends, _ = account_ends(streamlines, found, np.array(regions.numbers, dtype=np.int64))
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
            "the weights do not match the streamlines",
            expected=counted(streamlines.n_streamlines, "value"),
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


def _node_volumes(labels: Volume, regions: RegionTable, warnings: list[str]) -> tuple[np.ndarray, Unlisted]:
    """Voxels of each row's label, and the labels that the table does not list."""
    present, counts = np.unique(labels.data[labels.data > 0], return_counts=True)
    size = dict(zip(present.tolist(), counts.tolist(), strict=True))
    volumes = np.array([size.get(number, 0) for number in regions.numbers], dtype=np.int64)
    if not volumes.any():
        raise DataError(
            "the parcellation contains none of the labels of the table",
            expected=f"labels such as {', '.join(str(n) for n in regions.numbers[:5])}",
            got=f"labels such as {', '.join(str(n) for n in present[:5])}",
            subject=labels.subject,
            file=labels.file,
            remedy="Image and table belong to different atlases, or the numbering was changed.",
        )
    rows = zip(regions.names, regions.numbers, volumes, strict=True)
    absent = [f"{name} ({number})" for name, number, n in rows if not n]
    if absent:
        warnings.append(f"regions of the table that are not in the image and are masked, {len(absent)}: {some(absent)}")
    return volumes, unlisted(size, regions)


def _refuse_empty(
    matrix: np.ndarray, measure: str, account: StreamlineAccount, labels: Volume, streamlines: Ends
) -> None:
    """Raise `DataError` where every edge is 0."""
    if matrix.any():
        return
    got = f"{counted(account.total, 'streamline')} = {account.edges} in edges + {account.unassigned} unassigned + " + (
        f"{account.too_short} too short"
    )
    if account.edges and account.edges == account.within_one_region:
        got += "; those in edges begin and end in one region"
    raise DataError(
        f"every edge of {measure} is 0",
        expected="streamlines between regions",
        got=got + (f" of {streamlines.file}" if streamlines.file else ""),
        subject=labels.subject,
        file=labels.file,
        remedy="Are streamlines and parcellation in the same space? If an image has two orientations "
        "(sform, qform), the sform is used."
        if account.unassigned
        else None,
    )


def account_of(assembly: Assembly) -> dict[str, int]:
    """Counts of streamlines as written to a sidecar."""
    return asdict(assembly.account)
