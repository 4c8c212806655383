"""Initial orientations of a registration: 24 rotations and 24 reflections of the axes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.likeness import local_likeness
from connectome_tl.imaging.register.registration import coarse_brain, cut, head_box, side_mm
from connectome_tl.imaging.register.warps import Warp, carry_image

CLEAR = 0.36  # likeness from which no other turn is tried; wrong turns of adults reach 0.33
MARGIN = 0.08  # by which another turn, or the mirror image, must be more alike than the plain start
_ACROSS = 20  # voxels across a brain: the grid follows its size, so that a fetus is seen as well as an adult
_STEPS = 40
_TRIED = 8  # turns whose registration is carried out, of 24
_MIRROR = np.diag([-1.0, 1.0, 1.0])  # of the template, whose right is on the right
_SIDES = (("right", "left"), ("front", "back"), ("top", "bottom"))


@dataclass(frozen=True)
class Orientation:
    """Orientation of a head in its image, relative to a template.

    Attributes:
        turn: (3, 3) signed permutation that brings directions of the image's header to those of the template.
        likeness: at that turn, after an affine registration on a coarse grid.
        plain: with the header as it is. mirrored: of the best mirror image that was tried.
        searched: whether other turns were tried.
    """

    turn: np.ndarray
    likeness: float
    plain: float
    mirrored: float
    searched: bool

    @property
    def turned(self) -> bool:
        return not np.array_equal(self.turn, np.eye(3))

    @property
    def is_mirrored(self) -> bool:
        """Whether the mirror image fits clearly better; a brain that is nearly symmetric never shows it."""
        return self.mirrored > self.likeness + MARGIN

    def said(self) -> str:
        """True directions of the header's axes, as text."""
        pairs = []
        for axis, (side, _) in enumerate(_SIDES):
            to = int(np.abs(self.turn[:, axis]).argmax())
            pairs.append(f"{side} is {_SIDES[to][0 if self.turn[to, axis] > 0 else 1]}")
        return "the header's " + ", ".join(pairs)

    def record(self) -> dict[str, object]:
        """For the sidecar."""
        return {
            "Turn": self.turn.astype(int).tolist(),
            "Likeness": round(self.likeness, 3),
            "LikenessAsTheHeaderSays": round(self.plain, 3),
            "LikenessMirrored": round(self.mirrored, 3),
            "AllTurnsTried": self.searched,
        }


def all_turns() -> list[np.ndarray]:
    """The 24 signed permutations of three axes that mirror nothing, (3, 3) each; the first turns nothing."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        turn = np.zeros((3, 3))
        turn[list(order), range(3)] = signs
        found += [turn] if np.linalg.det(turn) > 0 else []
    return sorted(found, key=lambda turn: -np.trace(turn))


def find_orientation(fixed: Volume, moving: Volume, *, left_out: np.ndarray | None = None) -> Orientation:
    """Find the rotation of `fixed` that matches the orientation of `moving`.

    An affine registration by mutual information starts from each turn on a grid of a twentieth of the brain, and the
    local squared correlation afterwards is compared. The plain start and its mirror image are always tried; where both
    are poor, so are the best of the other turns and of their mirror images.

    Args:
        fixed, moving: (x, y, z), 0 outside the brain.
        left_out: (x, y, z) bool of `fixed`; not used.
    """
    search = _Search(fixed, moving, left_out)
    turns = all_turns()
    plain = search.likeness(turns[0])
    best, found, mirrored = turns[0], plain, search.likeness(_MIRROR)
    searched = max(plain, mirrored) < CLEAR
    if searched:
        other, likeness = search.best(turns[1:])
        if likeness > plain + MARGIN:
            best, found = other, likeness
        # A mirror image is a turn behind the mirror; where no turn fits, each may be.
        behind = [other] if found >= CLEAR else turns[1:]
        mirrored = max(mirrored, search.best([_MIRROR @ turn for turn in behind])[1])
    return Orientation(best, found, plain, mirrored, searched)


def turned_about(turn: np.ndarray, image: Volume) -> np.ndarray:
    """(4, 4) map of mm that turns about the middle of an image's brain."""
    middle = _middle(image)
    out = np.eye(4)
    out[:3, :3] = turn
    out[:3, 3] = middle - turn @ middle
    return out


class _Search:
    """Both images on their grids, and how alike they become from a start."""

    def __init__(self, fixed: Volume, moving: Volume, left_out: np.ndarray | None) -> None:
        self.fixed = _small(fixed if left_out is None else Volume(np.where(left_out, 0, fixed.data), fixed.affine))
        self.moving = _small(moving)

    def best(self, turns: list[np.ndarray]) -> tuple[np.ndarray, float]:
        """The turn that ends most alike, of the few that are most alike to begin with."""
        before = [self._likeness(_start(self.fixed, self.moving, turn)) for turn in turns]
        few = [turns[k] for k in np.argsort(before, kind="stable")[::-1][:_TRIED]]
        after = [self.likeness(turn) for turn in few]
        return few[int(np.argmax(after))], max(after)

    def likeness(self, turn: np.ndarray) -> float:
        """After an affine registration from a turn."""
        return self._likeness(_affine_from(self.fixed, self.moving, turn))

    def _likeness(self, affine: np.ndarray) -> float:
        warp = Warp(affine)
        return local_likeness(self.fixed, carry_image(warp, self.moving, self.fixed))


def _start(fixed: Volume, moving: Volume, turn: np.ndarray) -> np.ndarray:
    """(4, 4) fixed mm to moving mm by a turn, with the brains' middles and sizes alike."""
    start = np.eye(4)
    start[:3, :3] = turn * (side_mm(moving) / side_mm(fixed))
    start[:3, 3] = _middle(moving) - start[:3, :3] @ _middle(fixed)
    return start


def _affine_from(fixed: Volume, moving: Volume, turn: np.ndarray) -> np.ndarray:
    """An affine map of mm by mutual information, from a turn."""
    from dipy.align.imaffine import AffineRegistration, MutualInformationMetric
    from dipy.align.transforms import AffineTransform3D

    start = _start(fixed, moving, turn)
    search = AffineRegistration(
        metric=MutualInformationMetric(nbins=24, sampling_proportion=None),
        level_iters=[_STEPS],
        sigmas=[0.0],
        factors=[1],
        verbosity=0,
    )
    found = search.optimize(
        fixed.data, moving.data, AffineTransform3D(), None,
        static_grid2world=fixed.affine, moving_grid2world=moving.affine, starting_affine=start,
    )  # fmt: skip
    return np.asarray(found.affine, dtype=float)


def _small(image: Volume) -> Volume:
    """The brain on its coarse grid."""
    voxel_mm = side_mm(image) / _ACROSS
    small = coarse_brain(image, voxel_mm)
    return cut(small, head_box(small, 2 * voxel_mm))


def _middle(image: Volume) -> np.ndarray:
    """Of a brain, in mm, (3,)."""
    inside = np.argwhere(image.data > 0).mean(axis=0)
    return np.asarray(image.affine[:3, :3] @ inside + image.affine[:3, 3])
