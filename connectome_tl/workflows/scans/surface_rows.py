"""Match regions of one scan's surfaces to rows of a connectome by name, or by number without names."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np

from connectome_tl.connectome.matrix_file import RowNames
from connectome_tl.connectome.names.labels import LabelTable, listed
from connectome_tl.connectome.names.spelling import resolved_names
from connectome_tl.connectome.regions import RegionTable
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.inputs import Scan

# Names of vertices outside all regions in label tables of surfaces; L_ and R_ are added by this package.
_NO_REGION = re.compile(
    r"(ctx[-_.])?([LR]H?[-_. ])?(unknown|\?+|background\b.*|none|.*medial[-_. ]?wall|corpus[-_. ]?callosum)",
    re.IGNORECASE,
)
_NUMBER = re.compile(r"([LR]_)?[0-9]+")


def rows_of(own: RegionTable) -> RegionTable:
    """Rows from the label tables of a scan, without names of no region, such as the medial wall."""
    kept = [k for k, name in enumerate(own.names) if not _NO_REGION.fullmatch(name)]
    return RegionTable(tuple(own.names[k] for k in kept), tuple(own.numbers[k] for k in kept))


def in_rows(labels: np.ndarray, own: RegionTable, regions: RegionTable, scan: Scan, *, given: bool) -> np.ndarray:
    """Replace the numbers of the surfaces by those of the rows, (x, y, z).

    Names are compared without case and separators. Labels without a row whose name is no region become 0.

    Args:
        own: names and numbers by the scan's label tables.
        given: whether the rows are from a label table or atlas of the user, else from label tables of another scan.

    Raises:
        DataError: a region without a row, while there are rows without a region.
    """
    there = set(np.unique(labels).tolist())
    pairs = [(name, number) for name, number in zip(own.names, own.numbers, strict=True) if number in there]
    if given and all(_NUMBER.fullmatch(name) for name, _ in pairs):
        return labels
    known = RowNames(atlas=regions.atlas, table=LabelTable(regions.names, regions.numbers))
    names = dict(zip(own.names, resolved_names(own.names, known)[0], strict=True))
    numbers = dict(zip(regions.names, regions.numbers, strict=True))
    count = Counter(names[name] for name, _ in pairs)  # two spellings of one row are different regions
    strange = [
        name
        for name, _ in pairs
        if (names[name] not in numbers and not _NO_REGION.fullmatch(name)) or count[names[name]] > 1
    ]
    unused = [name for name in regions.names if name not in set(names.values())]
    if strange and (unused or not given):
        raise _unlike(strange, unused or list(regions.names), scan, given=given)
    found = np.zeros_like(labels)
    for name, number in pairs:
        found[labels == number] = numbers.get(names[name], 0)
    return found


def _unlike(strange: list[str], rows: list[str], scan: Scan, *, given: bool) -> DataError:
    if given:
        what = "names of the surfaces' regions are not those of the label table or atlas"
        remedy = (
            "Write the names of the table as the surfaces have them, with L_ and R_ where both hemispheres share them, "
            "or leave out `labels` and `atlas`: then the surfaces' own names are the rows."
        )
    else:
        what = "the surfaces have a region that those of the first scan do not have"
        remedy = "Give the same regions to all scans, or a table with `labels`."
    return DataError(
        what,
        expected=listed(rows),
        got=listed(strange),
        subject=scan.name,
        file=next(path for role, path in scan.surfaces if role.endswith("_labels")),
        remedy=remedy,
    )
