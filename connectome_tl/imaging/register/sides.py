"""Check that two images of one head agree, and on left and right.

A mirrored brain fits a template nearly as well as the correct one, but it does not fit another image of the same
person, since folds and vessels of both sides differ. Therefore, diffusion data and anatomical image are compared.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.likeness import local_likeness
from connectome_tl.imaging.register.orientation import MARGIN, best_turns, sides_of, turned_about
from connectome_tl.imaging.register.registration import register_affine
from connectome_tl.imaging.register.warps import Warp, carry_image
from connectome_tl.settings.imaging import RegistrationSettings

_CLEAR = 0.4  # similarity above which nothing else is tried; mirrored adults reach 0.3
_POOR = 0.25  # similarity below which all rotations are tried, and which does not tell how a header is wrong
_UNKNOWN = "the anatomical image and the diffusion data do not match as their headers state", "turned or mirrored"
_MIRROR = np.diag([-1.0, 1.0, 1.0])
_HALF_TURNS = tuple(np.diag(signs) for signs in ([1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]))


def likeness_to_anatomy(b0: Volume, brain: Volume, warp: Warp, settings: RegistrationSettings) -> float:
    """Similarity of two images of one head; unless it is good, the mirror image and rotations are tried.

    The outlines of a brain and of a rotated one may overlap well. The mirror image and half turns are tried, and all
    rotations and reflections of the axes if one of these is more similar. If the similarity is poor, all are compared
    on coarse grids first, and the search ends if the header's orientation is the best one there.

    Args:
        b0: mean of the unweighted volumes, 0 outside the brain. brain: the anatomical image, 0 outside the brain.
        warp: mm of `b0` to mm of `brain`.
        settings: nothing else is tried if `orientation` is `header`.

    Raises:
        DataError: another orientation is clearly more similar; the message names it.
    """
    plain = local_likeness(b0, carry_image(warp, brain, b0))
    if plain >= _CLEAR or settings.orientation == "header":
        return plain

    def tried(turns: Iterable[np.ndarray]) -> list[tuple[float, np.ndarray]]:
        return [(local_likeness(b0, _turned(turn, b0, brain, settings)), turn) for turn in turns]

    found = best_turns(b0, brain) if plain < _POOR else None
    if found is not None and not found[2]:
        return plain
    mirrored, turned = tried([_MIRROR])[0], max(tried(_HALF_TURNS), key=_similarity)
    contradicted = max(mirrored[0], turned[0]) > plain + MARGIN
    if contradicted or found is not None:
        rotation, reflection, _ = found or best_turns(b0, brain)
        turned, mirrored = (
            max([known, *tried([] if np.array_equal(known[1], turn) else [turn])], key=_similarity)
            for known, turn in ((turned, rotation), (mirrored, reflection))
        )
    # A nearly symmetric brain fits its mirror image well, so that a rotation is the simpler cause.
    best, turn = mirrored if mirrored[0] > turned[0] + MARGIN or turned[0] <= plain + MARGIN else turned
    if best <= plain + MARGIN or (best < _POOR and not contradicted):
        return plain
    what, how = _cause(turn) if best >= _POOR else _UNKNOWN
    raise DataError(
        what,
        expected=f"likeness {plain:.2f} or less for the {how} image",
        got=f"{best:.2f}",
        subject=brain.subject,
        file=brain.file,
        remedy=f"One header is {how}, of this image or of {b0.file}: convert both again from the scanner's files. "
        "Where the headers are known to be right, set registration.orientation: header.",
    )


def _similarity(tried: tuple[float, np.ndarray]) -> float:
    return tried[0]


def _turned(turn: np.ndarray, b0: Volume, brain: Volume, settings: RegistrationSettings) -> Volume:
    """The anatomical image after the inverse of a rotation or reflection, registered, on the grid of `b0`."""
    other = Volume(brain.data, turned_about(turn.T, brain) @ brain.affine)
    return carry_image(register_affine(b0, other, settings, rigid=True), other, b0)


def _cause(turn: np.ndarray) -> tuple[str, str]:
    """What is wrong with two headers, and a word for it, from the (3, 3) map of their directions."""
    if np.array_equal(turn, _MIRROR):
        return "left and right of the anatomical image and of the diffusion data are not the same", "mirrored"
    how = "turned" if np.linalg.det(turn) > 0 else "mirrored"
    what = "the anatomical image and the diffusion data are"
    if any(np.array_equal(turn, half) for half in _HALF_TURNS):
        return f"{what} turned by 180 degrees against each other", how
    return f"{what} {how} against each other: by the anatomical image, the diffusion data's {sides_of(turn)}", how
