"""Check that two images of one head agree on left and right.

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

_CLEAR = 0.4  # similarity above which the mirror image is not tried; mirrored adults reach 0.3
_MIRROR = np.diag([-1.0, 1.0, 1.0])


def refuse_mirrored(b0: Volume, brain: Volume, warp: Warp, settings: RegistrationSettings) -> None:
    """Compare a registration of one head with that of the mirrored image, unless the first is good.

    Args:
        b0: mean of the unweighted volumes, 0 outside the brain. brain: the anatomical image, 0 outside the brain.
        warp: mm of `b0` to mm of `brain`.
        settings: no comparison if `orientation` is `header`.

    Raises:
        DataError: the mirror image is clearly more similar.
    """
    if settings.orientation == "header":
        return
    plain = local_likeness(b0, carry_image(warp, brain, b0))
    if plain >= _CLEAR:
        return
    other = Volume(brain.data, turned_about(_MIRROR, brain) @ brain.affine)
    found = register_affine(b0, other, settings, rigid=True)
    mirrored = local_likeness(b0, carry_image(found, other, b0))
    if mirrored <= plain + MARGIN:
        return
    raise DataError(
        "left and right of the anatomical image and of the diffusion data are not the same",
        expected=f"likeness {plain:.2f} or less for the mirror image",
        got=f"{mirrored:.2f}",
        subject=brain.subject,
        file=brain.file,
        remedy=f"One header is mirrored, of this image or of {b0.file}: convert both again from the scanner's files. "
        "Where the headers are known to be right, set registration.orientation: header.",
    )
