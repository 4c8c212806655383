"""Assign both ends of every streamline to a row of the connectome."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from connectome_tl.connectome.endpoints import radial_labels, voxel_labels
from connectome_tl.connectome.names.unlisted import Unlisted
from connectome_tl.connectome.regions import MAX_TABLE
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.track.sampling import Ends
from connectome_tl.plurals import counted
from connectome_tl.settings.imaging import AssemblySettings


@dataclass(frozen=True)
class StreamlineAccount:
    """Counts of streamlines: `total = edges + unassigned + too_short`.

    Attributes:
        edges: both ends in a region of the table; `within_one_region` of them have both ends in the same
        region and belong to the diagonal, which is written only on request.
        unassigned: an end has no region within the radius, or only one that the table does not list.
        too_short: fewer than two points, so there are no two ends.
    """

    total: int
    edges: int
    within_one_region: int
    unassigned: int
    too_short: int


def some(items: Iterable[object], most: int = 20) -> str:
    """The first items of a list, for a message."""
    words = [str(item) for item in items]
    return ", ".join(words[:most]) + (", ..." if len(words) > most else "")


def without_tissue(tissue: Sequence[int], labels: Volume, scheme: str | None, warnings: list[str]) -> Volume:
    """Labels with tissue set to background."""
    if not tissue:
        return labels
    warnings.append(
        f"labels of white matter, fluid and other tissue in the numbering of {scheme} count as background, "
        f"{len(tissue)}: {some(tissue)}"
    )
    return replace(labels, data=np.where(np.isin(labels.data, tissue), 0, labels.data))


def labels_of_ends(streamlines: Ends, labels: Volume, settings: AssemblySettings) -> np.ndarray:
    """Label of each end, (2 n_streamlines,): heads, then tails; -1 where a streamline has no two ends."""
    short = np.tile(streamlines.n_points < 2, 2)
    points = np.concatenate([streamlines.head, streamlines.tail])
    points[short] = np.nan
    whole = np.flatnonzero(np.isfinite(points).all(axis=1))
    if len(whole) != int((~short).sum()):
        raise DataError("a coordinate is not a finite number", file=streamlines.file)
    found = np.where(short, -1, 0).astype(np.int32)
    if settings.assignment == "endvoxel":
        found[whole] = voxel_labels(points[whole], labels)
    else:
        found[whole] = radial_labels(points[whole], labels, settings.radius_mm)
    if len(whole) and not found[whole].any():
        near = "" if settings.assignment == "endvoxel" else f" or {settings.radius_mm:g} mm around it"
        raise DataError(
            "no streamline ends in a region",
            expected=f"ends in a labelled voxel{near}",
            got=f"{len(whole) // 2} streamlines of {streamlines.file}" if streamlines.file else f"{len(whole) // 2}",
            subject=labels.subject,
            file=labels.file,
            remedy="Streamlines and parcellation must be in the same space, in mm.",
        )
    return found


def say_unlisted(
    found: np.ndarray, extra: Unlisted, settings: AssemblySettings, labels: Volume, warnings: list[str]
) -> None:
    """Describe the fraction of ends in labels that the table does not list.

    Raises:
        DataError: the fraction in unknown labels exceeds the limit of the settings.
    """
    numbers, counts = np.unique(found[found > 0], return_counts=True)
    taken = dict(zip(numbers.tolist(), counts.tolist(), strict=True))
    n_ends = max(int((found >= 0).sum()), 1)

    def shares(of: Iterable[int]) -> tuple[float, str]:
        ranked = sorted(of, key=lambda number: (-taken.get(number, 0), number))
        said = some(f"{n} ({taken[n] / n_ends:.1%})" if n in taken else str(n) for n in ranked)
        return sum(taken.get(n, 0) for n in ranked) / n_ends, said

    if any(n in taken for n in extra.tissue_rows):
        share, said = shares(extra.tissue_rows)
        warnings.append(
            f"rows that are white matter, fluid or other tissue in the numbering of {extra.scheme} receive {share:.1%} "
            f"of the streamline ends; without these rows they would end in nearby regions, {len(extra.tissue_rows)}: "
            f"{said}"
        )
    if extra.left_out:
        share, said = shares(extra.left_out)
        kinds = ", ".join(sorted(set(extra.left_out.values())))
        warnings.append(
            f"regions not in the table ({kinds}) receive {share:.1%} of the streamline ends, which stay "
            f"unassigned, {len(extra.left_out)}: {said}"
        )
    if not extra.unknown:
        return
    share, said = shares(extra.unknown)
    if share > settings.max_unlisted_ends:
        raise DataError(
            "labels that are not in the table receive streamline ends",
            expected=f"at most {settings.max_unlisted_ends:.0%} of the ends (max_unlisted_ends)",
            got=f"{share:.1%} in {counted(len(extra.unknown), 'label')}: {said}",
            subject=labels.subject,
            file=labels.file,
            remedy="Add them to the table; or set them to 0 in the image where they are no regions; or allow more.",
        )
    warnings.append(
        f"labels of the image that are not in the table receive {share:.1%} of the streamline ends, which stay "
        f"unassigned, {len(extra.unknown)}: {said}"
    )


def account_ends(
    streamlines: Ends, found: np.ndarray, label_of_row: np.ndarray
) -> tuple[np.ndarray, StreamlineAccount]:
    """Rows of the table for both ends of each streamline, (n_streamlines, 2), -1 for none, and their counts.

    Args:
        found: (2 n_streamlines,) labels from `labels_of_ends`. label_of_row: (n_regions,).
    """
    short = streamlines.n_points < 2
    rows = _rows_of(np.maximum(found, 0), label_of_row).reshape(2, -1).T
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
    """Row of the table for each label, -1 for labels that it does not list."""
    largest = max(int(found.max(initial=0)), int(label_of_row.max(initial=0)))
    if largest < MAX_TABLE and label_of_row.min(initial=0) >= 0:
        row_of_label = np.full(largest + 1, -1, dtype=np.int32)
        row_of_label[label_of_row] = np.arange(len(label_of_row))
        return row_of_label[found]
    order = np.argsort(label_of_row)
    place = np.minimum(np.searchsorted(label_of_row[order], found), len(order) - 1)
    return np.where(label_of_row[order[place]] == found, order[place], -1)
