"""The gate behind a registration: do the brains overlap, and did the labels come through whole?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.imaging.read.images import Volume
from connectome_tl.settings.imaging import RegistrationSettings


@dataclass(frozen=True)
class Gate:
    """How well a registration fits: overlap of the brains and what became of the labels."""

    mask_dice: float
    lost_labels: tuple[int, ...]
    worst_volume_ratio: float


def check(
    labels: Volume,
    template: Volume,
    mask: np.ndarray,
    brain: np.ndarray,
    settings: RegistrationSettings,
    likeness: float = 1.0,
) -> Gate:
    """Compare a subject's labels with the template's, and refuse a bad fit.

    Args:
        labels: carried into the subject.
        template: the template's own labels.
        mask: the subject's brain, on the grid of `labels`.
        brain: the template's brain, carried there.
        likeness: of the subject's image and the carried template (`contrast.likeness`).

    Raises:
        DataError: brains overlap too little, the images are not alike inside them, too many labels are lost, or a
            label grew or shrank beyond reason.
    """
    dice = 2 * float((mask & brain).sum()) / max(float(mask.sum() + brain.sum()), 1.0)
    numbers, before = np.unique(template.data[template.data > 0], return_counts=True)
    after = np.array([(labels.data == number).sum() for number in numbers])
    lost = tuple(int(number) for number, n in zip(numbers, after, strict=True) if n == 0)
    here, there = np.prod(labels.zooms), np.prod(template.zooms)
    share = (after[after > 0] * here / (after * here).sum()) / (before[after > 0] * there / (before * there).sum())
    ratio = float(np.maximum(share, 1 / share).max()) if share.size else float("inf")
    subject, problems = labels.subject, []
    if dice < settings.min_mask_dice:
        wanted = f"Dice {settings.min_mask_dice}"
        problems.append(Problem("the template's brain misses the subject's", wanted, f"{dice:.2f}", subject=subject))
    if likeness < settings.min_likeness:
        wanted = f"{settings.min_likeness} of its variance explained"
        what = "the subject's image looks nothing like the carried template"
        problems.append(Problem(what, wanted, f"{likeness:.2f}", subject=subject))
    if len(lost) > settings.max_lost_labels * len(numbers):
        shown = ", ".join(map(str, lost[:10]))
        problems.append(Problem(f"{len(lost)} of {len(numbers)} labels are lost", got=shown, subject=subject))
    if ratio > settings.max_volume_ratio:
        wanted = f"at most {settings.max_volume_ratio} times"
        problems.append(Problem("a label's share differs from the template's", wanted, f"{ratio:.1f}", subject=subject))
    raise_all("the registration is refused", problems, DataError)
    return Gate(dice, lost, ratio)
