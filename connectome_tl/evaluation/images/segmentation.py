"""Overlap of segmentations with label maps, and what contrast between voxels adds to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from connectome_tl.settings.images.contrast import Segmentation, VoxelContrast
from connectome_tl.settings.records.segmentation import Arm, DiceDifference, MeanDice


def arms_of(settings: Segmentation) -> dict[Arm, Segmentation]:
    """The settings, and their controls: contrast within each volume only, and no contrast.

    Initial weights, batches and number of steps are the same in all of them.
    """
    if settings.contrast is None:
        return {"none": settings}
    rest = settings.contrast.model_dump(exclude={"scope", "bank", "momentum", "size"})
    controls: dict[Arm, VoxelContrast | None] = {"within": VoxelContrast(scope="within", bank="none", **rest)}
    controls |= {"none": None}
    if settings.contrast.scope == "within":
        del controls["within"]
    made = {arm: settings.model_copy(update={"contrast": contrast}) for arm, contrast in controls.items()}
    return {settings.contrast.scope: settings, **made}


def mean_dice(table: pd.DataFrame, families: Mapping[str, int]) -> tuple[MeanDice, ...]:
    """The mean over classes, and each class, of every arm.

    Args:
        table: columns subject, arm, label, dice; NaN where a class is in neither map.
        families: code of the family of each subject.
    """
    found = []
    for arm, own in table.groupby("arm", sort=False):
        by_label: list[tuple[int | None, pd.Series]] = [(None, own.groupby("subject")["dice"].mean())]
        for label in own["label"].unique():
            by_label.append((int(label), own[own["label"] == label].set_index("subject")["dice"]))
        for label, dice in by_label:
            known = dice.dropna()
            mean, low, high = interval(known.to_numpy(), [families[subject] for subject in known.index])
            found.append(MeanDice(arm=arm, label=label, dice=mean, low=max(low, 0), high=min(high, 1), n=len(known)))
    return tuple(found)


def dice_differences(table: pd.DataFrame, families: Mapping[str, int]) -> tuple[DiceDifference, ...]:
    """The first arm minus each of its controls."""
    means = table.groupby(["subject", "arm"], sort=False)["dice"].mean().unstack()
    arm, *controls = table["arm"].unique()
    found = []
    for control in controls:
        paired = (means[arm] - means[control]).dropna()
        mean, low, high = interval(paired.to_numpy(), [families[subject] for subject in paired.index])
        found.append(DiceDifference(arm=arm, control=control, difference=mean, low=low, high=high))
    return tuple(found)


def interval(values: np.ndarray, families: Sequence[int]) -> tuple[float, float, float]:
    """Mean of subjects and its 95 % t interval, whose units are families."""
    if not len(values):
        return float("nan"), float("nan"), float("nan")
    mean = float(values.mean())
    sums = np.bincount(np.unique(families, return_inverse=True)[1], weights=values - mean)
    n = len(sums)
    if n < 2:
        return mean, float("nan"), float("nan")
    half = float(stats.t.ppf(0.975, n - 1) * np.sqrt(n / (n - 1) * np.square(sums).sum()) / len(values))
    return mean, mean - half, mean + half
