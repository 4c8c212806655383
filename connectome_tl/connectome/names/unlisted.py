"""Labels of an image that the region table does not list: tissue, omitted regions, or unknown.

A streamline that ends in white matter or fluid is assigned to a nearby region, as after MRtrix3's `labelconvert`. One
that ends in a region which the table does not list is unassigned.
Numbers: FreeSurfer's colour table (surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/AnatomicalROI/FreeSurferColorLUT),
M-CRIB's (Alexander et al. 2017, doi:10.1016/j.neuroimage.2016.09.068), which follows it except for the thalamus,
and for Draw-EM the lobes of the packaged table `drawem87` (Makropoulos et al. 2014, doi:10.1109/TMI.2014.2322280).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from connectome_tl.atlas import Atlas, atlas_names, load_atlas
from connectome_tl.connectome.regions import RegionTable
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume

_TISSUE_LOBES = ("White matter", "Ventricles", "CSF", "Background")
_MOST_UNLIKE = 0.25  # share of rows without a label, and of labels without a row, in an image of a table
_SHOWN = 3
_MIN_ALIKE = 0.8  # fraction of a table's rows that need the same number and name in an atlas
_DEEP = {
    "thalamus": (9, 10, 48, 49),
    "caudate": (11, 50),
    "putamen": (12, 51),
    "pallidum": (13, 52),
    "hippocampus": (17, 53),
    "amygdala": (18, 54),
    "accumbens": (26, 58),
}
_FREESURFER_TISSUE = frozenset(
    (
        *(2, 41, 7, 46, 89, 92),  # white matter of cerebrum and cerebellum; M-CRIB's undivided subcortical matter
        *(4, 5, 14, 15, 24, 43, 44, 72),  # ventricles, fluid
        *(30, 31, 62, 63),  # vessels, choroid plexus
        *range(77, 83),  # hypointensities
        *(85, 192, *range(250, 256)),  # optic chiasm, corpus callosum, fornix
        *(1000, 1004, 2000, 2004, 11100, 11142, 12100, 12142),  # medial wall
        *range(3000, 5000),  # white matter below each region of cortex
        *(5001, 5002),  # white matter below no region
        *range(13100, 13176),
        *range(14100, 14176),
    )
)
_FREESURFER_GROUPS: dict[int, str] = {
    **dict.fromkeys((number for numbers in _DEEP.values() for number in numbers), "deep grey matter"),
    **dict.fromkeys((8, 47, 75, 76, 90, 91, 93), "cerebellum"),
    **dict.fromkeys((16, 170), "brain stem"),
    **dict.fromkeys((27, 28, 59, 60), "ventral diencephalon"),
    **dict.fromkeys((3, 42), "undivided cortex"),
    **dict.fromkeys((*range(1001, 3000), *range(11101, 11176), *range(12101, 12176)), "cortex"),
}


@dataclass(frozen=True)
class Unlisted:
    """Labels of an image, compared with a region table.

    Attributes:
        tissue: tissue that the table does not list; background for streamlines.
        left_out: regions of a kind that the table does not cover, with the kind (deep grey matter in a table of
            cortex).
        unknown: all other labels that the table does not list.
        tissue_rows: tissue that the table lists as if it were a region.
        scheme: whose numbering the table follows, where one was recognised.
    """

    tissue: tuple[int, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)
    unknown: tuple[int, ...] = ()
    tissue_rows: tuple[int, ...] = ()
    scheme: str | None = None


def unlisted(present: Iterable[int], regions: RegionTable) -> Unlisted:
    """Classify the labels of an image that a region table does not list."""
    there = set(present) - {0}
    rows = {n: name for n, name in zip(regions.numbers, regions.names, strict=True) if n in there}
    extra = sorted(there - rows.keys())
    scheme, tissue, groups = _scheme_of(rows)
    listed = {groups[number] for number in rows if number in groups}
    left_out = {n: groups[n] for n in extra if n in groups and n not in tissue and groups[n] not in listed}
    return Unlisted(
        tuple(n for n in extra if n in tissue),
        left_out,
        tuple(n for n in extra if n not in tissue and n not in left_out),
        tuple(n for n in rows if n in tissue),
        scheme,
    )


def refuse_other_numbering(labels: Volume, regions: RegionTable) -> None:
    """Refuse a label image that has another numbering than its table; either may have regions that the other lacks.

    Raises:
        DataError: no row has a label; or more than a quarter of the rows have none and more than a quarter of the
            labels (without tissue and kinds of regions that the table does not cover) have no row.
    """
    present = {int(number) for number in np.unique(labels.data)} - {0}
    extra = unlisted(present, regions)
    absent = [number for number in regions.numbers if number not in present]
    n_labels = len(present) - len(extra.tissue) - len(extra.left_out)
    few_rows = len(absent) > _MOST_UNLIKE * len(regions.numbers)
    if len(absent) < len(regions.numbers) and not (few_rows and len(extra.unknown) > _MOST_UNLIKE * n_labels):
        return
    rows, unknown = (", ".join(map(str, numbers[:_SHOWN])) for numbers in (absent, extra.unknown))
    got = f"{len(absent)} of {len(regions.numbers)} rows without a label ({rows}, ...)"
    got += f", {len(extra.unknown)} labels without a row ({unknown}, ...)" if extra.unknown else ""
    raise DataError(
        "the label image and the table of regions have different numberings",
        expected="the labels of the table",
        got=got,
        subject=labels.subject,
        file=labels.file,
        remedy="Give the table, or the atlas, of this image.",
    )


def _scheme_of(rows: Mapping[int, str]) -> tuple[str | None, frozenset[int], Mapping[int, str]]:
    """Name of the numbering of the rows, its tissue labels, and the kind of each of its regions."""
    if _is_freesurfer(rows):
        return "FreeSurfer", _FREESURFER_TISSUE, _FREESURFER_GROUPS
    for name in atlas_names() if rows else ():
        atlas = load_atlas(name)
        if atlas.n_regions >= len(rows) and _alike(atlas, rows) >= _MIN_ALIKE:
            tissue = frozenset(r.index for r in atlas.regions if r.lobe in _TISSUE_LOBES)
            if tissue or atlas.n_regions > len(rows):
                return name, tissue, {r.index: r.lobe for r in atlas.regions}
    return None, frozenset(), {}


def _is_freesurfer(rows: Mapping[int, str]) -> bool:
    """Whether all numbers are FreeSurfer's, confirmed by cortex or by the names of deep regions."""
    if not rows or not rows.keys() <= (_FREESURFER_TISSUE | _FREESURFER_GROUPS.keys()):
        return False
    named = {number: word for word, all_of_it in _DEEP.items() for number in all_of_it}
    same = sum(named[number] in name.lower() for number, name in rows.items() if number in named)
    cortex = any(_FREESURFER_GROUPS.get(number) == "cortex" for number in rows)
    return cortex or 2 * same > len(rows)


def _alike(atlas: Atlas, rows: Mapping[int, str]) -> float:
    names = {region.index: region.name for region in atlas.regions}
    pairs = zip(rows, atlas.resolved(list(rows.values())), strict=True)
    return sum(names.get(number) == name for number, name in pairs) / len(rows)
