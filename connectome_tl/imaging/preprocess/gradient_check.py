"""Detect flipped or swapped gradient axes by fibre coherence.

As in MRtrix3's `dwigradcheck` (Jeurissen et al. 2014, doi:10.1016/j.media.2014.05.012): principal directions of the
tensor are tracked by FACT (Mori et al. 1999) from many seeds, and the correct table gives the longest streamlines. A
permutation or flip of axes transforms all tensors, so that one fit is sufficient for all 24.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from connectome_tl.errors import Problem
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.track.tensor import TensorMaps

AS_IT_STANDS = "as it stands"
_LOOKS_WRONG = "the gradient table looks wrong"
_N_SEEDS = 3000
_STEP = 0.5  # of the smallest voxel edge
_MAX_STEPS = 200
_MIN_COSINE = np.cos(np.radians(35))  # from one step to the next
_MARGIN = 1.1  # factor by which streamlines must be longer for a warning
# Certain only if streamlines are also long, since motion shortens all of them, and if the mask is thin along no axis,
# since streamlines then leave it early or late depending on the table's axes.
_SURE, _SURE_EDGES, _SURE_EXTENT = 1.4, 4.0, 8  # factor; length in edges of a voxel; voxels
_SURELY = (
    "Either the b-vectors are wrong, or the headers mirror or turn all images alike: left and right may be wrong. "
)
_TRUSTED = " Where both are known to be right, set wrong_table: warn."


def lengths_of_tables(dwi: Dwi, maps: TensorMaps, *, seed: int = 0) -> dict[str, float]:
    """Mean streamline length in mm for each transformed gradient table, by name.

    Tracking is restricted to the most anisotropic third of the mask, without a threshold on FA.
    """
    inside = dwi.mask & (maps.fa > np.quantile(maps.fa[dwi.mask], 2 / 3))
    along = maps.principal.astype(float) @ (dwi.affine[:3, :3] / dwi.zooms)
    voxels = np.argwhere(inside)
    rng = np.random.default_rng(seed)
    seeds = voxels[rng.integers(0, len(voxels), min(_N_SEEDS, 4 * len(voxels)))]
    found = {}
    for axes in permutations(range(3)):
        for flip in (None, 0, 1, 2):
            turned = along[..., list(axes)]
            if flip is not None:
                turned = turned * np.where(np.arange(3) == flip, -1.0, 1.0)
            found[_name(axes, flip)] = _mean_length(turned, inside, seeds, dwi.zooms)
    return found


def table_problem(lengths: dict[str, float], dwi: Dwi) -> tuple[Problem, bool] | None:
    """Problem if streamlines are clearly longer with a transformed table, and whether that is certain; else None.

    A wrong header has the same effect, since b-vectors refer to the axes of the image as the header states them.
    """
    best = max(lengths, key=lambda name: lengths[name])
    longest, present = lengths[best], lengths[AS_IT_STANDS]
    if best == AS_IT_STANDS or longest < _MARGIN * present:
        return None
    extent = min(int(np.ptp(places)) + 1 for places in np.nonzero(dwi.mask))
    sure = longest >= max(_SURE * present, _SURE_EDGES * dwi.voxel_mm3 ** (1 / 3)) and extent >= _SURE_EXTENT
    problem = Problem(
        f"{_LOOKS_WRONG}: fibres are longer with it {best}",
        expected="the longest streamlines with the table unchanged",
        got=f"{longest:.1f} mm against {present:.1f} mm",
        subject=dwi.subject,
        file=dwi.file if sure else None,
        remedy=(_SURELY if sure else "Nothing was changed. ") + "Check a colour map of directions, and correct "
        "the b-vectors or the header at their source." + (_TRUSTED if sure else ""),
    )
    return problem, sure


def about_gradients(warnings: Sequence[str]) -> list[str]:
    """The warnings on the gradient table of a scan."""
    return [said for said in warnings if _LOOKS_WRONG in said or said.startswith(("b-vectors ", "b-values "))]


def _name(axes: tuple[int, ...], flip: int | None) -> str:
    parts = [] if axes == (0, 1, 2) else [f"in the order {''.join('xyz'[axis] for axis in axes)}"]
    if flip is not None:
        parts.append(f"flipped along the image's axis {'xyz'[flip]}")
    return " and ".join(parts) or AS_IT_STANDS


def _mean_length(along: np.ndarray, inside: np.ndarray, seeds: np.ndarray, zooms: np.ndarray) -> float:
    step = _STEP * float(zooms.min())
    shape = np.array(inside.shape)
    n_steps = 0
    for sign in (1.0, -1.0):
        places = seeds.astype(float)
        heading = sign * along[tuple(seeds.T)]
        for _ in range(_MAX_STEPS):
            places = places + step * heading / zooms
            voxels = np.floor(places + 0.5).astype(np.int64)
            alive = ((voxels >= 0) & (voxels < shape)).all(axis=1)
            alive[alive] = inside[tuple(voxels[alive].T)]
            places, heading, voxels = places[alive], heading[alive], voxels[alive]
            ahead = along[tuple(voxels.T)]
            cosine = np.einsum("ij,ij->i", ahead, heading)
            straight = np.abs(cosine) > _MIN_COSINE
            places, heading = places[straight], (ahead * np.sign(cosine)[:, None])[straight]
            n_steps += len(places)
            if not len(places):
                break
    return step * n_steps / max(len(seeds), 1)
