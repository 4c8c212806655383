"""Check b-values and gradient directions against the signal.

The logarithm of a volume's mean signal decreases with b and depends on the direction. A fit of both (a decreasing step
function of b, and a tensor) has small residuals if the table is correct. Directions are also checked by tensor fits in
many voxels, with the original table and with the table shifted by a few volumes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from connectome_tl.errors import Problem
from connectome_tl.imaging.quality.volumes import unlike_shell
from connectome_tl.imaging.read.dwi import Dwi

_OFF = 0.25  # a volume whose log signal is so far from its b-value's is named
_SURE_TABLE = 3.0  # a moved table must leave so much less, and
_TABLE_WRONG = 0.10  # the present table by this much, root mean square of the log signal
_GROUP_GAP = 0.35  # between groups of volumes of one b-value, in log signal
_IN_GROUP = 0.15  # standard deviation within such a group at most
_GROUP_SIZE = 3
_SHIFTS = tuple(k for k in range(-10, 11) if k)
_NEAR = (-2, -1, 1, 2)  # shifts of the directions that are noted if they are not certain
_UNIQUE = 1.5  # times as much is left over by every other shift where one is named
_OTHER_B = 100.0  # s/mm2 between b-values that differ
_TENSOR_B = 1600.0  # up to here, or in the lowest shell, tensors are fitted to the directions
_N_VOXELS = 2000
_BORDER, _DEEP_ENOUGH = 2, 300  # voxels: width of the border that is left out; at least so many have to remain
_DIRECTIONS_WRONG, _DIRECTIONS_SURE = 0.93, 0.80  # of the residuals with the present table
_EXPLAINS_MORE, _EXPLAINS_LITTLE = 2.0, 0.02  # share of variance: times the present table's; that of a wrong table
_HALF = 0.5  # of the slices of a volume, of the voxels
_ALIKE = 1e-9  # share of the variance below which all voxels are the same, up to rounding
_DARKEST = 0.02  # of the unweighted signal; less is noise
_TELLING_B = 100.0, 10_000.0  # s/mm2; below, blood flow; above, the noise floor
_BRAIN = 0.0002, 0.0025  # mm2/s: mean apparent diffusivity of a brain in vivo
_BACKFITS = 10


@dataclass(frozen=True)
class SignalCheck:
    """Agreement of the signal with the gradient table.

    Attributes:
        expected: (n_volumes,) expected mean signal in the mask for each volume's b-value and direction.
        measured: (n_volumes,) measured mean signal.
        problem: reason why the table is wrong; None if it is not certain.
        warnings: warnings for the user.
    """

    measured: np.ndarray
    expected: np.ndarray
    problem: Problem | None
    warnings: tuple[str, ...]


def check_signal(dwi: Dwi, empty: np.ndarray) -> SignalCheck:
    """Compare the table with the signal.

    Args:
        empty: (n_volumes,) bool, empty volumes.
    """
    measured = dwi.data[dwi.mask].mean(axis=0, dtype=float)
    floor = 1e-3 * max(float(np.median(measured)), 1e-12)
    logs = np.log(np.maximum(measured, floor))
    used = np.flatnonzero(~empty)
    fitted = np.full(len(logs), np.nan)
    fitted[used] = _fitted(logs[used], dwi.bvals[used], dwi.directions[used])
    rest = logs - fitted
    problem = _moved_table(dwi, logs, used) or _groups(dwi, logs, used) or _moved_directions(dwi, used)
    warnings: tuple[str, ...] = ()
    if problem is not None and problem.remedy is None:
        problem, warnings = None, (str(problem),)
    elif problem is None:
        usual = 1.4826 * float(np.nanmedian(np.abs(rest)))
        far = np.flatnonzero(np.abs(rest) > max(_OFF, 6 * usual))
        warnings = tuple(
            f"volume {v + 1} is {'brighter' if rest[v] > 0 else 'darker'} than expected at b = "
            f"{dwi.bvals[v]:g}: {np.exp(rest[v]):.2g} times"
            for v in far
        )
        warnings += _too_fast(dwi, logs, used)
    return SignalCheck(measured, np.exp(fitted), problem, warnings)


def _too_fast(dwi: Dwi, logs: np.ndarray, used: np.ndarray) -> tuple[str, ...]:
    """Note a mean signal that falls faster or more slowly with b than in any brain."""
    reference = float(np.median(logs[np.intersect1d(used, np.flatnonzero(dwi.is_b0))]))
    for bval, volumes in dwi.shells():
        own = np.intersect1d(used, volumes)
        if not _TELLING_B[0] <= bval <= _TELLING_B[1] or not len(own):
            continue
        diffusivity = (reference - float(np.median(logs[own]))) / bval
        if not _BRAIN[0] <= diffusivity <= _BRAIN[1]:
            return (
                f"the signal at b = {bval:.0f} means a diffusivity of {diffusivity:.2g} mm2/s, in brains "
                f"{_BRAIN[0]:g} to {_BRAIN[1]:g}; check the b-values",
            )
    return ()


def _fitted(logs: np.ndarray, bvals: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Robust fit of the log signal by b-value (non-increasing) and direction, (n_volumes,)."""
    from scipy.optimize import isotonic_regression

    g = directions
    shape = np.stack([g[:, 0] ** 2 - g[:, 2] ** 2, g[:, 1] ** 2 - g[:, 2] ** 2, g[:, 0] * g[:, 1], g[:, 0] * g[:, 2],
                      g[:, 1] * g[:, 2]], axis=1)  # fmt: skip
    design = np.minimum(bvals, 3000.0)[:, None] / 1000.0 * shape
    _, where = np.unique(bvals, return_inverse=True)
    turned, weight = np.zeros(len(logs)), np.ones(len(logs))
    ridge = 0.05 * np.eye(5)
    fitted = logs
    for _ in range(_BACKFITS):
        rest = logs - turned
        total = np.bincount(where, weight)
        mean = np.bincount(where, weight * rest) / total
        decay = isotonic_regression(mean, weights=total, increasing=False).x[where]
        weighted = design * weight[:, None]
        turned = design @ np.linalg.solve(weighted.T @ design + ridge, weighted.T @ (logs - decay))
        fitted = decay + turned
        off = np.abs(logs - fitted)
        scale = max(1.4826 * float(np.median(off)), 0.01)
        weight = np.minimum(1.0, 2.0 * scale / np.maximum(off, 1e-12))
    return np.asarray(fitted)


def _moved_table(dwi: Dwi, logs: np.ndarray, used: np.ndarray) -> Problem | None:
    """Detect a table that matches the signal only if shifted by a few volumes.

    Only volumes that have another b-value in a shifted table are used, so that the result does not depend on the number
    of volumes. Where a volume was removed at the start or end, rows that wrap around are wrong in the shifted table as
    well and are left out. An unweighted volume that lost signal then looks the same: directions must agree.
    """
    n = len(logs)
    shifts = [k for k in _SHIFTS if 2 * abs(k) < n]
    others = [np.abs(np.roll(dwi.bvals, shift) - dwi.bvals)[used] > _OTHER_B for shift in shifts]
    telling = used[np.logical_or.reduce(others)]
    for wraps in (True, False):
        found: dict[int, tuple[float, float]] = {}  # residuals with the present table and the moved one
        for shift in shifts if len(telling) else ():
            here = used if wraps else used[(used >= shift) & (used < n + shift)]
            present = _left(logs, dwi, here, 0, telling)
            if present >= _TABLE_WRONG:
                found[shift] = present, _left(logs, dwi, here, shift, telling)
        ratio = {k: moved / present for k, (present, moved) in found.items()}
        best = min(ratio, key=lambda k: (ratio[k], abs(k)), default=0)
        if not best or ratio[best] * _SURE_TABLE > 1 or not (wraps or _fits(dwi, used, best) > _fits(dwi, used, 0)):
            continue
        alone = min((other for k, other in ratio.items() if k != best), default=1.0) > _UNIQUE * ratio[best]
        return Problem(
            f"the gradient table is shifted{f' by {_volumes(best)}' if alone else ''} against the images",
            expected="signals that fall as b-values rise",
            got=f"log signals {found[best][0]:.2f} off with the present table, {found[best][1]:.2f} with it moved by "
            f"{best:+d}",
            subject=dwi.subject,
            file=dwi.file,
            remedy="Correct .bval and .bvec: a volume was added or removed in only one of the files.",
        )
    return None


def _left(logs: np.ndarray, dwi: Dwi, used: np.ndarray, shift: int, telling: np.ndarray) -> float:
    seen = np.isin(used, telling)
    if not seen.any():
        return 0.0
    bvals, directions = np.roll(dwi.bvals, shift), np.roll(dwi.directions, shift, axis=0)
    off = (logs[used] - _fitted(logs[used], bvals[used], directions[used]))[seen]
    return float(np.sqrt(np.mean(np.minimum(off**2, 1.0))))


def _fits(dwi: Dwi, used: np.ndarray, shift: int) -> float:
    """Share of the variance between directions that tensors explain with the moved table; 0 if it is not known."""
    moved = replace(dwi, bvals=np.roll(dwi.bvals, shift), directions=np.roll(dwi.directions, shift, axis=0))
    here = used[(used >= shift) & (used < dwi.n_volumes + shift)]
    found = direction_signal(moved, here) if moved.is_b0[here].any() else None
    if found is None:
        return 0.0
    weighted, signal, _ = found
    return 1 - _misfit(signal, moved.directions[weighted]) / max(float((signal**2).sum()), 1e-30)


def _volumes(shift: int) -> str:
    return f"{abs(shift)} volume{'' if abs(shift) == 1 else 's'}"


def _groups(dwi: Dwi, logs: np.ndarray, used: np.ndarray) -> Problem | None:
    """Detect b-values with several groups of signals, or shells whose signals do not decrease."""
    shells = [(b, np.intersect1d(v, used)) for b, v in ((0.0, np.flatnonzero(dwi.is_b0)), *dwi.shells())]
    told: list[str] = []
    for bval, own in shells:
        if len(own) < 2 * _GROUP_SIZE or np.ptp(dwi.bvals[own]) > 100:
            continue
        parts = _split(logs[own])
        if len(parts) > 1:
            shares = ", ".join(f"{len(part)} at {np.exp(part.mean() - logs[used].max()):.0%}" for part in parts)
            told.append(f"b = {bval:.0f}: {shares} of the brightest")
    if told:
        return _relabelled(dwi, "volumes of one b-value have signals of several", "; ".join(told))
    means = [(b, float(np.median(logs[own]))) for b, own in shells if len(own) >= _GROUP_SIZE]
    for (low, bright), (high, dark) in pairwise(means):
        if dark > bright + _IN_GROUP:
            got = f"{np.exp(dark - bright):.2f} times as much at b = {high:.0f} as at b = {low:.0f}"
            return _relabelled(dwi, "the signal rises with the b-value", got)
    return None


def _relabelled(dwi: Dwi, what: str, got: str) -> Problem:
    return Problem(
        what,
        expected="one signal per b-value, falling as b-values rise",
        got=got,
        subject=dwi.subject,
        file=dwi.file,
        remedy="Shells were relabelled: use the .bval that the scanner wrote.",
    )


def _split(values: np.ndarray) -> list[np.ndarray]:
    """Split values into groups with wide gaps and small spread, if any; otherwise one group."""
    ordered = np.sort(values)
    cuts = np.flatnonzero(np.diff(ordered) > _GROUP_GAP) + 1
    parts = [part for part in np.split(ordered, cuts) if len(part) >= _GROUP_SIZE]
    tight = all(part.std() < _IN_GROUP for part in parts)
    return parts if len(parts) > 1 and tight else [values]


def _moved_directions(dwi: Dwi, used: np.ndarray) -> Problem | None:
    """Detect directions that match the signal better if shifted by a few volumes, with unchanged b-values."""
    found_signal = direction_signal(dwi, used)
    if found_signal is None:
        return None
    weighted, signal, shared = found_signal
    every = used[~dwi.is_b0[used]]
    low = np.isin(every, weighted)
    tables = {shift: np.roll(dwi.directions[every], shift, axis=0)[low] for shift in (0, *_SHIFTS)}
    found = {shift: _misfit(signal, table) for shift, table in tables.items()}
    shift = min(found, key=lambda k: found[k])
    if shift and found[shift] >= _DIRECTIONS_SURE * found[0]:
        shift = min((0, *_NEAR), key=lambda k: found[k])
    ratio = found[shift] / max(found[0], 1e-30)
    by_chance = 5 / (len(weighted) - 1)  # of the variance, by directions that have nothing to do with the signal
    total = float((signal**2).sum())
    if total <= _ALIKE * shared:
        return None
    present, moved = (1 - found[k] / total - by_chance for k in (0, shift))
    # Noise is most of the misfit at high b-values, where the share of the variance that a table explains still tells.
    # At low b-values it only warns, as a move or a loss of signal may match a shifted table by chance.
    explains = moved > _EXPLAINS_MORE * max(present, _EXPLAINS_LITTLE)
    sure = ratio < _DIRECTIONS_SURE or (explains and dwi.bvals[weighted].min() > _TENSOR_B)
    if shift == 0 or (ratio > _DIRECTIONS_WRONG and not explains):
        return None
    return Problem(
        f"the b-vectors {'are' if sure else 'may be'} shifted by {_volumes(shift)} against the images",
        expected="tensors that fit with the table unchanged",
        got=f"{1 - ratio:.0%} less misfit with the vectors moved",
        subject=dwi.subject,
        file=dwi.file,
        remedy="Correct .bvec: a volume was added or removed in only one of the files." if sure else None,
    )


def direction_signal(dwi: Dwi, used: np.ndarray) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Log signals over b, at b-values where tensors fit, in the most anisotropic voxels; None with few volumes.

    Returns:
        Volumes, (n_weighted,); signals without the means of voxels and volumes, (n_voxels, n_weighted); the sum of
        squares, over all voxels, of the signals without the means of voxels.
    """
    every = used[~dwi.is_b0[used]]
    low = dwi.bvals[every] <= max(_TENSOR_B, dwi.bvals[every].min(initial=np.inf) + _OTHER_B)
    weighted = every[low]
    if len(weighted) < 12:
        return None
    inside = dwi.data[dwi.mask][:, weighted].astype(float)
    unweighted = dwi.data[dwi.mask][:, np.intersect1d(used, np.flatnonzero(dwi.is_b0))].mean(axis=1)
    attenuation = np.maximum(inside / unweighted.clip(1e-12)[:, None], _DARKEST)
    signal = np.log(attenuation) / dwi.bvals[weighted]
    signal -= signal.mean(axis=1, keepdims=True)
    deep = _deep(dwi.mask)[dwi.mask]
    clear = deep & (unweighted > 0.3 * np.median(unweighted))
    whole = clear & ~_lossy(dwi, weighted)[np.nonzero(dwi.mask)[2]]
    clear = whole if whole.sum() >= max(_HALF * clear.sum(), _DEEP_ENOUGH) else clear
    if not clear.any():
        return None
    # What all voxels of a volume share, such as a loss of signal, is taken out; what is left of tensors are tensors.
    shared = float((signal[clear] ** 2).sum())
    signal -= signal[clear].mean(axis=0)
    # In dark voxels, as of fluid, the logarithm varies by noise.
    spread = np.where(clear, attenuation.mean(axis=1) ** 2 * signal.var(axis=1), 0.0)
    best = np.argsort(-spread, kind="stable")[: max(min(_N_VOXELS, len(spread) // 3, int(deep.sum())), 1)]
    return weighted, signal[best], shared


def _lossy(dwi: Dwi, volumes: np.ndarray) -> np.ndarray:
    """Slices whose mean signal is far from the median of their shell in some volume, (n_slices,) bool.

    Volumes of which most slices are so are not looked at: then the table may be wrong.
    """
    odd = unlike_shell(dwi, np.broadcast_to(dwi.mask, (dwi.n_volumes, *dwi.mask.shape)))[volumes]
    filled = dwi.mask.any(axis=(0, 1))
    return np.asarray(odd[odd[:, filled].mean(axis=1) < _HALF].any(axis=0))


def _deep(mask: np.ndarray) -> np.ndarray:
    """The mask without its border, where motion changes the signal more than directions do; a small mask is whole."""
    from scipy.ndimage import binary_erosion

    inner = np.asarray(binary_erosion(mask, iterations=_BORDER, border_value=1))
    return inner if inner.sum() >= _DEEP_ENOUGH else mask


def _misfit(signal: np.ndarray, directions: np.ndarray) -> float:
    design = tensor_design(directions)
    left = signal.T - design @ np.linalg.lstsq(design, signal.T)[0]
    return float((left**2).sum())


def tensor_design(directions: np.ndarray) -> np.ndarray:
    """Products of the components of directions, (n_volumes, 6)."""
    return np.stack([directions[:, i] * directions[:, j] for i in range(3) for j in range(i, 3)], axis=1)
