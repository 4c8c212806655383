"""Compare two fits: bit for bit on the CPU, up to rounding on a GPU.

The effect of rounding on a fit depends on the device, the network and the number of steps. It is therefore measured:
the same fit is made once more from the same data, and other differences are compared with those of this repetition,
array by array.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass

import numpy as np

from connectome_tl.provenance import canonical_json
from connectome_tl.training.checkpoint import FitResult

# A GPU repeats a fit up to rounding, which moves its numbers by at most this share, or this value.
NEAR, NEAR_ZERO = 0.01, 1e-3
# Largest difference between two repetitions, as a multiple of that between two others, or of this fraction of the norm.
TIMES, SMALLEST = 30.0, 1e-6
TOO_NOISY = 0.3  # limit of an array, as a fraction of its norm, from which on the comparison of fits shows nothing
_TRAINED = "state/"  # arrays that are trained; the others are computed on the processor


def repeats_exactly(device: str) -> bool:
    """Whether fits on the device of a study are repeated to the last bit: on the CPU, and not on a GPU."""
    return device == "cpu"


def near(one: object, two: object) -> bool:
    """Whether numbers, or mappings, sequences and records of them, agree up to the rounding of a GPU."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        return one.keys() == two.keys() and all(near(one[name], two[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(two, list | tuple):
        return len(one) == len(two) and all(map(near, one, two))
    if is_dataclass(one) and is_dataclass(two):
        return type(one) is type(two) and near(vars(one), vars(two))
    if isinstance(one, float) and isinstance(two, float):
        return bool(np.isclose(one, two, rtol=NEAR, atol=NEAR_ZERO, equal_nan=True))
    return one == two


def same_state(one: FitResult, two: FitResult, *, exactly: bool, twin: FitResult | None = None) -> bool:
    """Whether two fits are equal to the last bit or, if not `exactly`, up to the rounding of a GPU.

    Rounding changes trained weights and losses only; fits on the CPU are equal to the last bit.

    Args:
        twin: the fit `one` made once more from the same data. With it, each array and the training curve may differ
            by `TIMES` the difference between these two; without it, all weights together by the fraction `NEAR`.
    """
    if exactly:
        return equal_state(one, two)
    if not alike_in_shape(one, two) or not near(one.plain, two.plain):
        return False
    trained = [name for name in one.arrays if name.startswith(_TRAINED)]
    if any(one.arrays[name].tobytes() != two.arrays[name].tobytes() for name in one.arrays if name not in trained):
        return False
    if twin is not None and alike_in_shape(one, twin):
        return _within(one, two, twin, trained)
    apart = sum(_distance(one.arrays[name], two.arrays[name]) ** 2 for name in trained)
    size = sum(_distance(one.arrays[name], 0.0) ** 2 for name in trained)
    return apart <= NEAR**2 * size and near(one.curve.tolist(), two.curve.tolist())


def noise_between(one: FitResult, twin: FitResult) -> float:
    """Median over the trained arrays of the difference between two repetitions, as a fraction of the norm."""
    if not alike_in_shape(one, twin):
        return float("inf")
    moved = [
        _distance(value, twin.arrays[name]) / size
        for name, value in one.arrays.items()
        if name.startswith(_TRAINED) and (size := _distance(value, 0.0))
    ]
    return float(np.median(moved)) if moved else 0.0


def equal_state(one: FitResult, two: FitResult) -> bool:
    """Whether two fits are equal to the last bit."""
    a, b = one.arrays, two.arrays
    if a.keys() != b.keys() or any(a[name].tobytes() != b[name].tobytes() for name in a):
        return False
    return canonical_json(one.plain) == canonical_json(two.plain)


def alike_in_shape(one: FitResult, two: FitResult) -> bool:
    """Whether two fits have arrays and a training curve of the same names and shapes."""
    a, b = one.arrays, two.arrays
    return (
        a.keys() == b.keys()
        and all(a[name].shape == b[name].shape for name in a)
        and one.curve.shape == two.curve.shape
    )


def _within(one: FitResult, two: FitResult, twin: FitResult, trained: list[str]) -> bool:
    """Whether rounding explains the difference between `one` and `two`, array by array.

    An array with few numbers may by chance hardly differ in the twin. Its limit is therefore at least the relative
    change of the median array, applied to its own norm or to that of as many numbers of average size. Numbers that are
    determined by rounding alone (a bias before a normalisation) differ much in both.
    """
    arrays = {name: (one.arrays[name], two.arrays[name], twin.arrays[name]) for name in trained}
    noise = {name: _distance(a, c) for name, (a, _, c) in arrays.items()}
    size = {name: _distance(a, 0.0) for name, (a, _, _) in arrays.items()}
    whole = float(np.sqrt(sum(value**2 for value in size.values())))
    moved = [noise[name] / size[name] for name in trained if size[name]]
    share = max(float(np.median(moved)) if moved else 0.0, SMALLEST)
    typical = whole / np.sqrt(max(1, sum(a.size for a, _, _ in arrays.values())))
    for name, (a, b, _) in arrays.items():
        usual = share * max(size[name], float(typical * np.sqrt(a.size)))
        if not _distance(a, b) <= TIMES * max(noise[name], usual):  # False for NaN
            return False
    if not one.curve.size:
        return True
    loud = float(np.abs(one.curve - twin.curve).max())
    allowed = TIMES * max(loud, share * float(np.abs(one.curve).max()))
    return bool((np.abs(one.curve - two.curve) <= allowed).all())


def _distance(one: np.ndarray, two: np.ndarray | float) -> float:
    return float(np.sqrt(((one.astype(float) - two) ** 2).sum()))
