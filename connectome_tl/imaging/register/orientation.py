"""Initial orientations of a registration: 192 rotations, and their reflections."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from connectome_tl.imaging.read.images import Volume
from connectome_tl.imaging.register.likeness import local_likeness
from connectome_tl.imaging.register.registration import coarse_brain, cut, head_box, side_mm
from connectome_tl.imaging.register.warps import Warp, carry_image

CLEAR = 0.6  # similarity above which no other rotation is tried; wrong rotations of adults reach 0.5
MARGIN = 0.08  # by which the similarity of another rotation, or of the mirror image, must be larger
_ACROSS = 20  # voxels across a brain, so that the grid is scaled to its size
_STEPS = 40
_TRIED = 5  # number of the rotations that are registered; the right one was among the three best starts
_TRIED_OF_ONE_HEAD = 3  # the same for two images of one head, whose outlines agree
_BETTER = 0.015  # of the similarity on coarse grids; a mirrored image of one adult is less similar by 0.03 or more
_SAME = 0.01  # difference of the similarity of two starts with one result
_MIRROR = np.diag([-1.0, 1.0, 1.0])  # of the template, whose right is on the right
_SIDES = (("right", "left"), ("front", "back"), ("top", "bottom"))


@dataclass(frozen=True)
class Orientation:
    """Orientation of a head in its image, relative to a template.

    Attributes:
        turn: (3, 3) rotation from directions of the image's header to those of the template, one of `all_starts`.
        likeness: similarity with that rotation, after an affine registration on a coarse grid.
        plain: similarity with the header's orientation. mirrored: similarity of the best mirror image.
        searched: whether other rotations were tried.
    """

    turn: np.ndarray
    likeness: float
    plain: float
    mirrored: float
    searched: bool

    @property
    def turned(self) -> bool:
        """Whether another orientation than the header's fits best."""
        return not np.array_equal(self.turn, np.eye(3))

    @property
    def is_mirrored(self) -> bool:
        """Whether the mirror image fits clearly better; not detectable for nearly symmetric brains."""
        return self.mirrored > self.likeness + MARGIN

    def said(self) -> str:
        """True directions of the header's axes, or the angle between the two, as text."""
        if np.isin(self.turn, (-1, 0, 1)).all():
            return f"the header's {sides_of(self.turn)}"
        angle = np.degrees(np.arccos(np.clip((np.trace(self.turn) - 1) / 2, -1, 1)))
        return f"by about {angle:.0f} degrees"

    def record(self) -> dict[str, object]:
        """For the sidecar."""
        return {
            "Turn": np.round(self.turn, 3).tolist(),
            "Likeness": round(self.likeness, 3),
            "LikenessAsTheHeaderSays": round(self.plain, 3),
            "LikenessMirrored": round(self.mirrored, 3),
            "AllTurnsTried": self.searched,
        }


def sides_of(turn: np.ndarray) -> str:
    """True sides of the right, front and top of a header, as text; `turn` is (3, 3), as in `Orientation`."""
    pairs = []
    for axis, (side, _) in enumerate(_SIDES):
        to = int(np.abs(turn[:, axis]).argmax())
        pairs.append(f"{side} is {_SIDES[to][0 if turn[to, axis] > 0 else 1]}")
    return ", ".join(pairs)


def best_turns(fixed: Volume, moving: Volume) -> tuple[np.ndarray, np.ndarray, bool]:
    """The rotation other than the header's, and the reflection, (3, 3) each, that match two images of a head best.

    Both map directions of `fixed` to those of `moving`, whose brains are compared on coarse grids. The third value says
    whether one of them matches better there than the header's orientation.
    """
    search = _Search(fixed, moving, None)
    turns = all_turns()
    rotation, turned = search.best(turns[1:], _TRIED_OF_ONE_HEAD)
    reflection, mirrored = search.best([_MIRROR @ turn for turn in turns], _TRIED_OF_ONE_HEAD)
    return rotation, reflection, max(turned, mirrored) > search.likeness(turns[0]) + _BETTER


def all_turns() -> list[np.ndarray]:
    """The 24 proper rotations among signed permutations of three axes, (3, 3) each; the first is the identity."""
    found = []
    for order, signs in product(permutations(range(3)), product((1.0, -1.0), repeat=3)):
        turn = np.zeros((3, 3))
        turn[list(order), range(3)] = signs
        found += [turn] if np.linalg.det(turn) > 0 else []
    return sorted(found, key=lambda turn: -np.trace(turn))


def all_starts() -> list[np.ndarray]:
    """192 rotations, (3, 3) each: those of `all_turns`, then each of them tilted about each axis and each diagonal.

    Any rotation is within 32 degrees of one of them, half are within 21; affine registrations correct the rest.
    """
    from scipy.spatial.transform import Rotation

    diagonals = np.array([[1, y, z] for y, z in product((1, -1), repeat=2)]) / np.sqrt(3)
    vectors = np.radians(np.vstack([45 * np.eye(3), 60 * diagonals]))
    turns = all_turns()
    return [*turns, *(tilt @ turn for tilt in Rotation.from_rotvec(vectors).as_matrix() for turn in turns)]


def find_orientation(fixed: Volume, moving: Volume, *, left_out: np.ndarray | None = None) -> Orientation:
    """Find the rotation of `fixed` that matches the orientation of `moving`.

    Affine registrations by mutual information start from each rotation, on a grid of 20 voxels across the brain, and
    are compared by local squared correlation. The header's orientation and its mirror image are always tried; if both
    are poor, the best of the other rotations and of their mirror images are tried, too.

    Args:
        fixed, moving: (x, y, z), 0 outside the brain.
        left_out: (x, y, z) bool of `fixed`; not used.
    """
    search = _Search(fixed, moving, left_out)
    starts = all_starts()
    plain = search.likeness(starts[0])
    best, found, mirrored = starts[0], plain, search.likeness(_MIRROR)
    searched = max(plain, mirrored) < CLEAR
    if searched:
        other, likeness = search.best(starts[1:])
        if likeness < CLEAR:
            reflection, behind = search.best([_MIRROR @ start for start in starts])
            # A nearly symmetric brain that fits its mirror image from here fits as it is, too.
            other, likeness = max((other, likeness), search.tried(_MIRROR @ reflection), key=lambda tried: tried[1])
        else:
            behind = search.likeness(_MIRROR @ other)
        mirrored = max(mirrored, behind)
        if likeness > plain + MARGIN:
            best, found = other, likeness
    return Orientation(best, found, plain, mirrored, searched)


def turned_about(turn: np.ndarray, image: Volume) -> np.ndarray:
    """Rotation about the centre of an image's brain, (4, 4) in mm."""
    middle = _middle(image)
    out = np.eye(4)
    out[:3, :3] = turn
    out[:3, 3] = middle - turn @ middle
    return out


class _Search:
    """Both images on their grids, with the similarity after registration from a start."""

    def __init__(self, fixed: Volume, moving: Volume, left_out: np.ndarray | None) -> None:
        self.fixed = _small(fixed if left_out is None else Volume(np.where(left_out, 0, fixed.data), fixed.affine))
        self.moving = _small(moving)
        self._known: dict[bytes, float] = {}

    def best(self, turns: list[np.ndarray], n_tried: int = _TRIED) -> tuple[np.ndarray, float]:
        """The rotation with the largest similarity after registration, among those with the best start.

        The first of `turns` with nearly this similarity, since neighbouring starts lead to the same result.
        """
        before = [self._likeness(by_centre_and_size(self.fixed, self.moving, turn)) for turn in turns]
        few = [turns[k] for k in sorted(np.argsort(before, kind="stable")[::-1][:n_tried])]
        after = [self.likeness(turn) for turn in few]
        first = next(k for k, likeness in enumerate(after) if likeness >= max(after) - _SAME)
        return few[first], after[first]

    def tried(self, turn: np.ndarray) -> tuple[np.ndarray, float]:
        """A rotation with its `likeness`."""
        return turn, self.likeness(turn)

    def likeness(self, turn: np.ndarray) -> float:
        """Similarity after an affine registration from a rotation, which is computed once."""
        key = (turn + 0.0).tobytes()  # without negative zeros
        if key not in self._known:
            self._known[key] = self._likeness(_affine_from(self.fixed, self.moving, turn))
        return self._known[key]

    def _likeness(self, affine: np.ndarray) -> float:
        warp = Warp(affine)
        return local_likeness(self.fixed, carry_image(warp, self.moving, self.fixed))


def by_centre_and_size(fixed: Volume, moving: Volume, turn: np.ndarray) -> np.ndarray:
    """Map from fixed mm to moving mm, (4, 4), by a (3, 3) rotation with matched centres and sizes of the brains."""
    start = np.eye(4)
    start[:3, :3] = turn * (side_mm(moving) / side_mm(fixed))
    start[:3, 3] = _middle(moving) - start[:3, :3] @ _middle(fixed)
    return start


def _affine_from(fixed: Volume, moving: Volume, turn: np.ndarray) -> np.ndarray:
    """An affine map in mm by mutual information, starting from a rotation."""
    from dipy.align.imaffine import AffineRegistration, MutualInformationMetric
    from dipy.align.transforms import AffineTransform3D

    start = by_centre_and_size(fixed, moving, turn)
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
    """Centre of a brain in mm, (3,)."""
    inside = np.argwhere(image.data > 0).mean(axis=0)
    return np.asarray(image.affine[:3, :3] @ inside + image.affine[:3, 3])
