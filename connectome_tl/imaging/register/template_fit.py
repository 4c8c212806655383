"""Fit a template to a scan: bias field, orientation, engine, and remarks on the result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.bias import BiasField, correct_bias
from connectome_tl.imaging.register.choice import Engine, choose_engine
from connectome_tl.imaging.register.likeness import local_likeness
from connectome_tl.imaging.register.orientation import Orientation, find_orientation, turned_about
from connectome_tl.imaging.register.registration import coarse, coarse_brain, register
from connectome_tl.imaging.register.warps import Warp, carry_image, compose
from connectome_tl.settings.imaging import RegistrationSettings

_LIKENESS_MM = 1.5  # voxels on which images are compared, unless their own are larger


@dataclass(frozen=True, eq=False)
class TemplateFit:
    """Result of the registration of a template to a scan.

    Attributes:
        warp: mm of the scan to mm of the template.
        likeness: local squared correlation of the scan and the transformed template.
        size_ratio: ratio of brain volumes of scan and template, from the affine map.
        orientation: None if the orientation of the header was used without a check.
    """

    warp: Warp
    likeness: float
    size_ratio: float
    engine: Engine
    bias: BiasField
    orientation: Orientation | None

    def record(self) -> dict[str, object]:
        """For the sidecar."""
        return {
            "Engine": self.engine.record(),
            "BiasField": self.bias.record(),
            "Orientation": "as in the header" if self.orientation is None else self.orientation.record(),
            "Likeness": round(self.likeness, 3),
            "SizeRatio": round(self.size_ratio, 3),
        }

    def told(self) -> str:
        """Text for the report."""
        left = " (left in)" if self.bias.method == "none" else f" ({self.bias.method})"
        said = f"{self.engine.told()} Bias field: 1 to {self.bias.ratio:.2f}{left}."
        turned = self.orientation is not None and self.orientation.turned
        return f"{said} {self._turn()}" if turned else said

    def warnings(self) -> tuple[str, ...]:
        """Warnings about the orientation of the scan."""
        return (self._turn(),) if self.orientation is not None and self.orientation.turned else ()

    def _turn(self) -> str:
        assert self.orientation is not None
        return f"the head has another orientation than its header states and was rotated: {self.orientation.said()}"


def fit_template(
    fixed: Volume,
    moving: Volume,
    settings: RegistrationSettings,
    *,
    contrasts: tuple[str | None, str | None] = (None, None),
    lesion: np.ndarray | None = None,
) -> TemplateFit:
    """Correct the bias field of a scan, determine its orientation, and register a template to it.

    Args:
        fixed, moving: the scan and the template, 0 outside the brain.
        contrasts: T1w or T2w of scan and template, None if unknown.
        lesion: (x, y, z) bool of the scan, excluded from all steps.

    Raises:
        MissingInputError: a required package is not installed.
        DataError: the head is a mirror image, or the image cannot be registered.
    """
    like = moving if contrasts[0] is not None and contrasts[0] == contrasts[1] else None
    even, bias = correct_bias(fixed, settings.bias_field, lesion, like=like)
    orientation = None
    if settings.orientation == "search":
        orientation = find_orientation(even, moving, left_out=lesion)
        _refuse_mirrored(orientation, fixed)
    turn = np.eye(4) if orientation is None else turned_about(orientation.turn, fixed)
    if like is not None and orientation is not None and orientation.turned:
        turned = Volume(fixed.data, turn @ fixed.affine, fixed.subject, fixed.file)
        corrected, bias = correct_bias(turned, settings.bias_field, lesion, like=like)
        even = Volume(corrected.data, fixed.affine, fixed.subject, fixed.file)
    engine = choose_engine(settings, contrasts, bias, (fixed, moving), lesion=lesion is not None)
    lying = Volume(even.data, turn @ fixed.affine, fixed.subject, fixed.file)
    warp = register(lying, moving, settings, engine=engine.name, metric=engine.metric, lesion=lesion)
    if orientation is not None and orientation.turned:
        warp = compose(Warp(turn), warp)
    size = 1 / max(abs(float(np.linalg.det(warp.affine[:3, :3]))), 1e-6)
    return TemplateFit(warp, likeness_of(even, moving, warp, lesion), size, engine, bias, orientation)


def likeness_of(fixed: Volume, moving: Volume, warp: Warp, left_out: np.ndarray | None = None) -> float:
    """Local similarity of an image and a transformed one, on voxels of 1.5 mm, or larger if the images are coarser."""
    if (fixed.zooms > _LIKENESS_MM / 1.2).all():
        return local_likeness(fixed, carry_image(warp, moving, fixed), left_out)
    small = coarse_brain(fixed, _LIKENESS_MM)
    masked = None
    if left_out is not None:
        masked = coarse(Volume(left_out.astype(np.float32), fixed.affine), _LIKENESS_MM).data > 0.1
    return local_likeness(small, carry_image(warp, coarse_brain(moving, _LIKENESS_MM), small), masked)


def _refuse_mirrored(orientation: Orientation, image: Volume) -> None:
    if orientation.is_mirrored:
        raise DataError(
            "the head is a mirror image of the template: left and right of its header are exchanged",
            expected=f"likeness {orientation.likeness:.2f} or less for the mirror image",
            got=f"{orientation.mirrored:.2f}",
            subject=image.subject,
            file=image.file,
            remedy="Convert it again from the scanner's files, or fix the header. Where a one-sided lesion misleads "
            "this check, give its mask or set registration.orientation: header.",
        )
