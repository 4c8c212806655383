"""Result records of `connectome-tl segment`."""

from __future__ import annotations

from typing import Literal

from connectome_tl.settings.base import Record
from connectome_tl.settings.images.contrast import Segmentation
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.records.scores import Number

Arm = Literal["across", "within", "none"]


class MeanDice(Record):
    """Mean Dice of subjects that were not used for training, with a 95 % t interval over families.

    Attributes:
        label: number of the class; None for the mean over classes of each subject.
        n: subjects in which the class is present, in the label map or in the segmentation.
    """

    arm: Arm
    label: int | None
    dice: Number
    low: Number
    high: Number
    n: int


class DiceDifference(Record):
    """Paired difference of the mean Dice over classes, with a 95 % t interval over families."""

    arm: Arm
    control: Arm
    difference: Number
    low: Number
    high: Number


class SegmentationRecord(Record):
    """Segmentations of a cohort, and the network for further cohorts.

    Attributes:
        labels: numbers of the classes, in the order of the network's outputs after the background.
        contrast: contrast of the volumes; empty if unknown.
        training: subjects with label maps that the network was trained on. images: hashes of their volumes.
        families, participants: of these subjects; participants if they are scans.
        fit: name of its weights in `models/`.
        segmented: subjects with a segmentation. folds: number of parts of the cross-validation; 0 for `--model`.
        scores, differences: empty without label maps.
    """

    image: ImageSettings
    settings: Segmentation
    seed: int
    labels: tuple[int, ...]
    contrast: str
    training: tuple[str, ...]
    images: tuple[str, ...]
    families: tuple[str, ...] = ()
    participants: tuple[str, ...] = ()
    fit: str
    segmented: tuple[str, ...]
    folds: int
    scores: tuple[MeanDice, ...] = ()
    differences: tuple[DiceDifference, ...] = ()
