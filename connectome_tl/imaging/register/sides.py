"""Check that two images of one head agree, and on left and right.

A mirrored brain fits a template nearly as well as the correct one, but it does not fit another image of the same
person, since folds and vessels of both sides differ. Therefore, diffusion data and anatomical image are compared.
"""

from __future__ import annotations

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.likeness import local_likeness
from connectome_tl.imaging.register.orientation import MARGIN, turned_about
from connectome_tl.imaging.register.registration import register_affine
from connectome_tl.imaging.register.warps import Warp, carry_image
from connectome_tl.settings.imaging import RegistrationSettings

_CLEAR = 0.4  # similarity above which nothing else is tried; mirrored adults reach 0.3
_MIRROR = np.diag([-1.0, 1.0, 1.0])
_HALF_TURNS = tuple(np.diag(signs) for signs in ([1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]))


def likeness_to_anatomy(b0: Volume, brain: Volume, warp: Warp, settings: RegistrationSettings) -> float:
    """Similarity of two images of one head; unless it is good, the mirror image and half turns are tried.

    The outlines of a brain and of a turned one may overlap well.

    Args:
        b0: mean of the unweighted volumes, 0 outside the brain. brain: the anatomical image, 0 outside the brain.
        warp: mm of `b0` to mm of `brain`.
        settings: nothing else is tried if `orientation` is `header`.

    Raises:
        DataError: the mirror image or a turned one is clearly more similar.
    """
    plain = local_likeness(b0, carry_image(warp, brain, b0))
    if plain >= _CLEAR or settings.orientation == "header":
        return plain

    def likeness(turn: np.ndarray) -> float:
        other = Volume(brain.data, turned_about(turn, brain) @ brain.affine)
        return local_likeness(b0, carry_image(register_affine(b0, other, settings, rigid=True), other, b0))

    mirrored, turned = likeness(_MIRROR), max(map(likeness, _HALF_TURNS))
    if max(mirrored, turned) <= plain + MARGIN:
        return plain
    if mirrored >= turned:
        what, how = "left and right of the anatomical image and of the diffusion data are not the same", "mirrored"
    else:
        what, how = "the anatomical image and the diffusion data are turned by 180 degrees against each other", "turned"
    raise DataError(
        what,
        expected=f"likeness {plain:.2f} or less for the {how} image",
        got=f"{max(mirrored, turned):.2f}",
        subject=brain.subject,
        file=brain.file,
        remedy=f"One header is {how}, of this image or of {b0.file}: convert both again from the scanner's files. "
        "Where the headers are known to be right, set registration.orientation: header.",
    )
