"""One tracking step of many streamlines in a field of orientation densities.

Probabilistic: an arc is drawn with a probability given by the density along it (second-order integration, iFOD2;
Tournier et al. 2010, Proc. ISMRM 18, 1670). Deterministic: the step follows the nearest peak of the density
(SD_STREAM; Tournier et al. 2012, doi:10.1002/ima.22005). Directions are continuous in both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from connectome_tl.imaging.track.orientation_field import GridValues, amplitudes

_SAMPLES = 3  # of the density along an arc in addition to its start, as in MRtrix3
_ROOT = 4  # of the product of densities, as MRtrix3
_SEED_DIRECTIONS = 64
_PROBE = 0.02  # radians between the directions of a finite difference
_LARGEST_TURN = 0.2  # radians in one round


@dataclass(frozen=True, eq=False)
class Front:
    """The current ends of n streamlines.

    Attributes:
        points: (n, 3) mm.
        directions: (n, 3) unit vectors, world axes.
        density: (n,) amplitude at the point in the direction; 0 at the end of a streamline.
    """

    points: np.ndarray
    directions: np.ndarray
    density: np.ndarray

    def part(self, chosen: np.ndarray) -> Front:
        """The ends of the chosen streamlines."""
        return Front(self.points[chosen], self.directions[chosen], self.density[chosen])


Step = Callable[[Front, np.random.Generator], Front]


def seeds(field: GridValues, points: np.ndarray, cutoff: float, rng: np.random.Generator) -> Front:
    """Start in a random direction among those whose density reaches the cutoff."""
    offered = rng.standard_normal((len(points), _SEED_DIRECTIONS, 3), dtype=np.float32)
    offered /= np.linalg.norm(offered, axis=2, keepdims=True)
    density = amplitudes(field.at(points), offered)
    first = (density >= cutoff).argmax(axis=1)
    every = np.arange(len(points))
    found = density[every, first]
    return Front(points, offered[every, first].astype(float), np.where(found >= cutoff, found, 0.0))


def probabilistic(field: GridValues, step: float, max_angle: float, cutoff: float) -> Step:
    """Arcs of `step` mm that turn by at most `max_angle` radians.

    Arcs are drawn uniformly within the cone, and one is selected by its likelihood. The density is sampled at equal
    distances along the straight continuation, which is within max_angle / 2 of a step's length of every arc.
    """
    # more arcs for wider cones, where the density varies more
    n_arcs = int(np.clip(16 * (max_angle / 0.2) ** 2, 16, 64))

    def advance(front: Front, rng: np.random.Generator) -> Front:
        n = len(front.points)
        side, other = _frame(front.directions)
        cosine = 1 - rng.random((n, n_arcs)) * (1 - np.cos(max_angle))
        turn = np.arccos(cosine).astype(np.float32)
        roll = (2 * np.pi * rng.random((n, n_arcs))).astype(np.float32)[..., None]
        ahead = front.directions.astype(np.float32)[:, None]
        bend = np.cos(roll) * side.astype(np.float32)[:, None] + np.sin(roll) * other.astype(np.float32)[:, None]
        log = np.repeat(0.5 * np.log(front.density)[:, None], n_arcs, axis=1)
        possible = np.ones((n, n_arcs), dtype=bool)
        last = np.zeros((n, n_arcs), dtype=np.float32)
        for at in range(1, _SAMPLES + 1):
            part = at / _SAMPLES
            angle = (turn * part)[..., None]
            polynomial = field.at(front.points + front.directions * (step * part))
            last = amplitudes(polynomial, np.cos(angle) * ahead + np.sin(angle) * bend)
            possible &= last >= cutoff
            log += (1.0 if at < _SAMPLES else 0.5) * np.log(np.maximum(last, 1e-6))
        likelihood = np.where(possible, np.exp(log / _ROOT), 0.0)
        upto = likelihood.cumsum(axis=1)
        drawn = rng.random(n) * upto[:, -1]
        taken = np.minimum((upto <= drawn[:, None]).sum(axis=1), n_arcs - 1)
        every = np.arange(n)
        angle, curve = turn[every, taken].astype(float)[:, None], bend[every, taken].astype(float)
        radius = step / np.maximum(angle, 1e-6)
        points = front.points + radius * (np.sin(angle) * front.directions + (1 - np.cos(angle)) * curve)
        directions = _unit(np.cos(angle) * front.directions + np.sin(angle) * curve)
        return Front(points, directions, np.where(upto[:, -1] > 0, last[every, taken], 0.0))

    return advance


def seeds_on_peaks(field: GridValues, points: np.ndarray, cutoff: float, rng: np.random.Generator) -> Front:
    """Start along the peak uphill from any random direction, where its density reaches the cutoff."""
    polynomial = field.at(points).astype(float)
    peak = _peak(polynomial, _unit(rng.standard_normal((len(points), 3))), n_rounds=8)
    density = amplitudes(polynomial, peak[:, None])[:, 0]
    return Front(points, peak, np.where(density >= cutoff, density, 0.0))


def deterministic(field: GridValues, step: float, max_angle: float, cutoff: float) -> Step:
    """Steps of `step` mm along the nearest peak in uphill direction, if it is within `max_angle` radians."""

    def advance(front: Front, _: np.random.Generator) -> Front:
        polynomial = field.at(front.points).astype(float)
        peak = _peak(polynomial, front.directions, n_rounds=4)
        density = amplitudes(polynomial, peak[:, None])[:, 0]
        near = (peak * front.directions).sum(axis=1) >= np.cos(max_angle)
        return Front(front.points + step * peak, peak, np.where(near & (density >= cutoff), density, 0.0))

    return advance


def _peak(polynomial: np.ndarray, directions: np.ndarray, *, n_rounds: int) -> np.ndarray:
    for _ in range(n_rounds):
        directions = _uphill(polynomial, directions)
    return directions


def _uphill(polynomial: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """One Newton step towards the density's maximum on the sphere; along the gradient where it is not concave."""
    u, v = _frame(directions)
    probes = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)]
    around = np.stack([_unit(directions + _PROBE * (a * u + b * v)) for a, b in probes], axis=1)
    here, ue, uw, vn, vs, both, neither = amplitudes(polynomial, around).T
    gu, gv = (ue - uw) / (2 * _PROBE), (vn - vs) / (2 * _PROBE)
    huu, hvv = (ue - 2 * here + uw) / _PROBE**2, (vn - 2 * here + vs) / _PROBE**2
    huv = (both + neither + 2 * here - ue - uw - vn - vs) / (2 * _PROBE**2)
    determinant = huu * hvv - huv**2
    concave = (determinant > 0) & (huu < 0)
    safe = np.where(concave, determinant, 1.0)
    du = np.where(concave, -(hvv * gu - huv * gv) / safe, gu)
    dv = np.where(concave, -(huu * gv - huv * gu) / safe, gv)
    size = np.hypot(du, dv)
    limit = np.where(concave, np.minimum(size, _LARGEST_TURN), _LARGEST_TURN)
    scale = np.divide(limit, size, out=np.zeros_like(size), where=size > 0)
    return _unit(directions + (du * scale)[:, None] * u + (dv * scale)[:, None] * v)


def _frame(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors at right angles to each direction and to each other."""
    away = np.where(np.abs(directions[:, :1]) < 0.7, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    side = _unit(np.cross(directions, away))
    return side, np.cross(directions, side)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
