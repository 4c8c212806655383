"""The page of `connectome-tl segment`: overlap, and label maps over slices of some subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.report.figures.drawing import to_url
from connectome_tl.report.figures.label_maps import labelled_slices
from connectome_tl.report.volume_pages import render_segmentation
from connectome_tl.settings.records.segmentation import SegmentationRecord
from connectome_tl.training.images.rows import VolumeRows

_FIRST = 3  # subjects without a label map that are shown


@dataclass(frozen=True)
class _Cohort:
    title: str
    simulated: bool
    transductive: bool = False
    exploratory: bool = False


def segmentation_page(
    record: SegmentationRecord,
    cohort: Cohort,
    rows: VolumeRows,
    classes: Mapping[str, np.ndarray],
    table: Sequence[Mapping[str, object]],
) -> str:
    """The page as HTML.

    Args:
        classes: (x, y, z) class on the grid by subject, as places in the record's labels from 1.
        table: rows of `dice.tsv`.
    """
    pictures = []
    for subject, caption in _shown(record, classes, table).items():
        own = rows.at([rows.ids.index(subject)])
        maps = [("segmentation", classes[subject])]
        if "Dice" in caption:
            maps.append(("label map", own.need_labels()[:][0].numpy()))
        pictures.append((caption, to_url(labelled_slices(own.volumes[:][0, 0].numpy(), maps, record.labels))))
    return render_segmentation(record, _Cohort(cohort.name, cohort.simulated), pictures)


def _shown(
    record: SegmentationRecord, classes: Mapping[str, np.ndarray], table: Sequence[Mapping[str, object]]
) -> dict[str, str]:
    """Captions by subject: those of lowest, median and highest Dice, and the first without a label map."""
    found = {}
    if record.scores:
        overlap = pd.DataFrame(table).query("arm == @record.scores[0].arm").groupby("subject")["dice"].mean()
        ranked = overlap.dropna().sort_values(kind="stable")
        for what, place in (("lowest", 0), ("highest", -1), ("median", len(ranked) // 2)):
            if len(ranked) and (subject := str(ranked.index[place])) not in found:
                found[subject] = f"{subject}: {what} Dice, {ranked.iloc[place]:.2f}"
    others = [subject for subject in classes if not any(row["subject"] == subject for row in table)]
    return found | {subject: f"{subject}: no label map" for subject in others[:_FIRST]}
