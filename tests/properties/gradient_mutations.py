"""Mutations of a gradient table whose outcome is known: the b-values and directions of the scan, or a refusal.

The scan's directions lie in the world's axes; FSL's vectors are computed from them by the inverse of the convention in
FSL's documentation; MRtrix3's table contains them unchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.properties.stream_scene import Must, Rng

N = 26


@dataclass(frozen=True)
class Table:
    """The acquisition of a scan, and its files: text or bytes by extension."""

    affine: np.ndarray
    bvals: np.ndarray
    world: np.ndarray
    bvecs: np.ndarray
    files: dict[str, bytes]
    b0_max: float = 50.0


def _rows(values: np.ndarray, between: str = " ", end: str = "\n", form: str = "%.8f") -> bytes:
    return end.join(between.join(form % x for x in row) for row in np.atleast_2d(values)).encode() + end.encode()


def table(rng: Rng) -> Table:
    """Three volumes without weighting, then two shells; an oblique grid of either handedness."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(1, 3, 3)
    affine[:3, 3] = rng.uniform(-50, 50, 3)
    bvals = np.array([0.0] * 3 + [1000.0] * 11 + [2600.0] * 12)
    world = rng.normal(size=(N, 3))
    world /= np.linalg.norm(world, axis=1, keepdims=True)
    world[:3] = 0
    along = world @ turn
    if np.linalg.det(turn) > 0:
        along = along * [-1, 1, 1]
    return Table(affine, bvals, world, along, {"bval": _rows(bvals, form="%g"), "bvec": _rows(along.T)})


Mutation = Callable[[Table, Rng], Table]


def _with(
    t: Table, *, drop: tuple[str, ...] = (), b0_max: float = 50.0, bvals: np.ndarray | None = None, **files: bytes
) -> Table:
    kept = {ending: data for ending, data in (t.files | files).items() if ending not in drop}
    return Table(t.affine, t.bvals if bvals is None else bvals, t.world, t.bvecs, kept, b0_max)


def _lengths(t: Table, lengths: np.ndarray, bvals: np.ndarray | None = None) -> Table:
    return _with(t, bvec=_rows((t.bvecs * lengths[:, None]).T), bval=_rows(t.bvals if bvals is None else bvals))


def _loose_b0(t: Table, rng: Rng) -> Table:
    bvals = t.bvals.copy()
    bvals[:3] = rng.uniform(51, 100, 3).round()
    return _with(t, bval=_rows(bvals), b0_max=100, bvals=bvals)


def _jitter(t: Table, rng: Rng) -> Table:
    bvals = np.where(t.bvals > 0, t.bvals + rng.integers(-9, 10, N), rng.integers(0, 20, N))
    return _with(t, bval=_rows(bvals), bvals=bvals)


def _b0_vectors(value: float) -> Mutation:
    def changed(t: Table, _: Rng) -> Table:
        vectors = t.bvecs.copy()
        vectors[:3] = value
        return _with(t, bvec=_rows(vectors.T))

    return changed


def _one(value: float) -> Mutation:
    def changed(t: Table, rng: Rng) -> Table:
        vectors = t.bvecs.copy()
        vectors[int(rng.integers(3, N))] *= value
        return _with(t, bvec=_rows(vectors.T))

    return changed


def _mrtrix(t: Table, _: Rng) -> Table:
    return _with(t, drop=("bval", "bvec"), b=_rows(np.column_stack([t.world, t.bvals])))


SQUARED = np.array([0.0] * 3 + [np.sqrt(1000 / 2600)] * 11 + [1.0] * 12)
GRADIENTS: dict[str, tuple[Must, Mutation]] = {
    "as it is": (Must.READ, lambda t, _: t),
    "columns": (Must.READ, lambda t, _: _with(t, bvec=_rows(t.bvecs), bval=_rows(t.bvals[:, None]))),
    "commas": (Must.READ, lambda t, _: _with(t, bvec=_rows(t.bvecs.T, ","), bval=_rows(t.bvals, ", "))),
    "tabs, CRLF, mark": (Must.READ, lambda t, _: _with(t, bvec=b"\xef\xbb\xbf" + _rows(t.bvecs.T, "\t", "\r\n"))),
    "comments": (Must.READ, lambda t, _: _with(t, bvec=b"# x y z\n\n" + _rows(t.bvecs.T) + b"\n\n")),
    "exponents": (Must.READ, lambda t, _: _with(t, bvec=_rows(t.bvecs.T, form="%.9e"), bval=_rows(t.bvals, form="%e"))),
    "MRtrix3's table": (Must.READ, _mrtrix),
    "b-values that vary": (Must.READ, _jitter),
    "b = 0 with a direction": (Must.READ, _b0_vectors(0.57735)),
    "b = 0 with nan": (Must.READ, _b0_vectors(float("nan"))),
    "all twice as long": (Must.READ, lambda t, rng: _lengths(t, np.full(N, rng.choice([0.1, 2, 100])))),
    "lengths repeat the shells": (Must.READ, lambda t, _: _lengths(t, SQUARED)),
    "lengths are the shells": (Must.READ, lambda t, _: _lengths(t, SQUARED, np.where(t.bvals > 0, 2600.0, 0.0))),
    "b = 0 below a limit": (Must.READ, _loose_b0),
    "one longer": (Must.REFUSE, _one(1.4)),
    "one shorter": (Must.REFUSE, _one(0.5)),
    "one nan": (Must.REFUSE, _one(float("nan"))),
    "one lost": (Must.REFUSE, _one(0)),
    "one b-value lost": (Must.REFUSE, lambda t, _: _with(t, bval=_rows(t.bvals[:-1]))),
    "one vector too many": (Must.REFUSE, lambda t, _: _with(t, bvec=_rows(np.vstack([t.bvecs, [1, 0, 0]]).T))),
    "exchanged": (Must.REFUSE, lambda t, _: _with(t, bval=t.files["bvec"], bvec=t.files["bval"])),
    "in ms/um2": (Must.REFUSE, lambda t, _: _with(t, bval=_rows(t.bvals / 1000))),
    "negative": (Must.REFUSE, lambda t, _: _with(t, bval=_rows(-t.bvals))),
    "no b = 0": (Must.REFUSE, lambda t, _: _with(t, bval=_rows(np.maximum(t.bvals, 900.0)))),
    "one direction": (Must.REFUSE, lambda t, _: _with(t, bvec=_rows(np.tile([1.0, 0, 0], (N, 1)).T))),
    "decimal commas": (Must.REFUSE, lambda t, _: _with(t, bvec=t.files["bvec"].replace(b".", b","))),
    "text": (Must.REFUSE, lambda t, _: _with(t, bval=t.files["bval"].replace(b"1000", b"1OOO"))),
    "cut": (Must.REFUSE, lambda t, rng: _with(t, bvec=t.files["bvec"][: int(rng.integers(1, 700))])),
    "nothing": (Must.REFUSE, lambda t, _: _with(t, bval=b"")),
    "no vectors": (Must.REFUSE, lambda t, _: _with(t, drop=("bvec",))),
}
