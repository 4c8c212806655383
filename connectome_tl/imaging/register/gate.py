"""Quality gate of a registration: overlap of brains, similarity of images, completeness of labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError, Problem, raise_all
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.template_fit import TemplateFit
from connectome_tl.settings.imaging import RegistrationSettings

_OTHER_IMAGE = "Look at the image and its brain mask; a one-sided lesion needs its mask (label-lesion_mask)."
_OTHER_TEMPLATE = "Check the age of the scan, the template's age, and the brain mask."


@dataclass(frozen=True)
class Gate:
    """Quality of transferred labels: overlap of the brains and changes of the labels.

    Attributes:
        fit: fit of the template; None if labels are from another image of the same head.
    """

    mask_dice: float
    lost_labels: tuple[int, ...]
    worst_volume_ratio: float
    fit: TemplateFit | None = None

    def numbers(self) -> dict[str, float]:
        """Numbers for the cohort table."""
        found = {"mask_dice": self.mask_dice}
        return found if self.fit is None else found | {"likeness": round(self.fit.likeness, 4)}

    def record(self) -> dict[str, object]:
        """For the sidecar."""
        found = {"MaskDice": round(self.mask_dice, 3), "LostLabels": list(self.lost_labels)}
        found |= {"WorstVolumeRatio": round(self.worst_volume_ratio, 2)}
        return found if self.fit is None else found | self.fit.record()

    def told(self) -> str:
        """Text for the report."""
        return "" if self.fit is None else self.fit.told()


def check(
    labels: Volume,
    template: Volume,
    mask: np.ndarray,
    brain: np.ndarray,
    settings: RegistrationSettings,
    fit: TemplateFit | None = None,
) -> Gate:
    """Compare a subject's labels with the template's, and refuse a bad fit.

    Args:
        labels: labels transferred to the subject.
        template: labels of the template.
        mask: the subject's brain, on the grid of `labels`.
        brain: the template's brain, transferred to this grid.
        fit: fit of the template's image; without it similarity and size are not checked.

    Raises:
        DataError: brains overlap too little or differ too much in size, the images are too dissimilar, too many labels
            are lost, or the volume of a label changes implausibly.
    """
    dice = 2 * float((mask & brain).sum()) / max(float(mask.sum() + brain.sum()), 1.0)
    numbers, before = np.unique(template.data[template.data > 0], return_counts=True)
    after = np.array([(labels.data == number).sum() for number in numbers])
    lost = tuple(int(number) for number, n in zip(numbers, after, strict=True) if n == 0)
    here, there = labels.voxel_mm3, template.voxel_mm3
    share = (after[after > 0] * here / (after * here).sum()) / (before[after > 0] * there / (before * there).sum())
    ratio = float(np.maximum(share, 1 / share).max()) if share.size else float("inf")
    subject, problems = labels.subject, list[Problem]()
    if dice < settings.min_mask_dice:
        wanted = f"Dice {settings.min_mask_dice}"
        problems.append(
            Problem("the template's brain does not overlap the subject's", wanted, f"{dice:.2f}", subject=subject)
        )
    problems += [] if fit is None else _misfits(fit, settings, subject)
    if len(lost) > settings.max_lost_labels * len(numbers):
        shown = ", ".join(map(str, lost[:10]))
        problems.append(Problem(f"{len(lost)} of {len(numbers)} labels are lost", got=shown, subject=subject))
    if ratio > settings.max_volume_ratio:
        wanted = f"at most {settings.max_volume_ratio} times"
        problems.append(
            Problem("a label's volume fraction differs from the template's", wanted, f"{ratio:.1f}", subject=subject)
        )
    raise_all("the registration is refused", problems, DataError)
    return Gate(dice, lost, ratio, fit)


def _misfits(fit: TemplateFit, settings: RegistrationSettings, subject: str | None) -> list[Problem]:
    found = []
    if fit.likeness < settings.min_likeness:
        wanted = f"a local squared correlation of {settings.min_likeness}"
        what = "the registered template does not match the subject's image"
        found.append(Problem(what, wanted, f"{fit.likeness:.2f}", subject=subject, remedy=_OTHER_IMAGE))
    larger = max(fit.size_ratio, 1 / fit.size_ratio)
    if larger > settings.max_size_ratio:
        which = "larger" if fit.size_ratio > 1 else "smaller"
        wanted, got = f"at most {settings.max_size_ratio:g} times", f"{larger:.1f} times"
        what = f"the subject's brain is {which} than the template's"
        found.append(Problem(what, wanted, got, subject=subject, remedy=_OTHER_TEMPLATE))
    return found
