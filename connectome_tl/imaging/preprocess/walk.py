"""Most likely path of a head that drifts, changes position for good, and jumps for single volumes.

Between lasting moves, the position is a random walk with independent deviations. Its widths are estimated from all
volumes; one lasting move or one jump would make them too wide for all volumes of a head at rest. A lasting move
therefore starts a new walk anywhere, and a single volume may be anywhere without influence on the walk. Each happens
once per scan a priori, and is accepted where it increases the marginal likelihood; moves are found by dynamic
programming over all starts. Runs are separate walks, since the head is free to move between them.
"""

from __future__ import annotations

import numpy as np

WIDTHS = np.array([0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8])  # mm
_STEPS = WIDTHS[:-3]
_ANYWHERE_MM = 30.0  # standard deviation of the start of a walk, and of a jump


def walked(values: np.ndarray, noise: np.ndarray, runs: np.ndarray | None = None) -> np.ndarray:
    """Most likely path, (n, 6), given values with independent errors.

    Args:
        values: (n, 6) mm. noise: (n, 6) variances of their errors.
        runs: (n,) number of each volume's run; None for one run.
    """
    rare = 1.0 / (len(values) + 1)
    starts = _run_starts(len(values), runs)
    step, around, moves = _widths_and_moves(values, noise, starts, rare)
    path = np.empty_like(values)
    for start, stop in zip(moves, [*moves[1:], len(values)], strict=True):
        part = slice(start, stop)
        path[part] = _path(values[part], noise[part], step**2, around**2, rare)
    return path


def first_of_runs(n: int, runs: np.ndarray | None) -> np.ndarray:
    """Whether a volume is the first of its run, (n,) bool."""
    return np.arange(n) == _run_starts(n, runs)


def _run_starts(n: int, runs: np.ndarray | None) -> np.ndarray:
    """First volume of each volume's run, (n,)."""
    if runs is None:
        return np.zeros(n, dtype=int)
    begins = np.append(True, runs[1:] != runs[:-1])
    return np.maximum.accumulate(np.where(begins, np.arange(n), 0))


def _widths_and_moves(
    values: np.ndarray, noise: np.ndarray, starts: np.ndarray, rare: float
) -> tuple[float, float, list[int]]:
    """Standard deviations of steps and deviations, and the first volume of each walk, of the highest likelihood.

    Args:
        starts: (n,) first volume of each volume's run.
    """
    n = len(values)
    steps, arounds = (grid.ravel() for grid in np.meshgrid(_STEPS, WIDTHS, indexing="ij"))
    drift, spread = steps[:, None, None] ** 2, arounds[:, None, None] ** 2
    shape = (len(steps), n)  # widths, starts of the walk
    mean, variance, level = np.zeros((*shape, 6)), np.full((*shape, 6), _ANYWHERE_MM**2), np.zeros(shape)
    best, begin = np.zeros((len(steps), n + 1)), np.zeros((len(steps), n), dtype=int)
    for now in range(n):
        first = starts[now]
        open_ = slice(first, now + 1)
        variance[:, first:now] += drift
        jumps = np.where(np.arange(first, now + 1) == now, 0.0, rare)
        found, _, mean[:, open_], variance[:, open_] = _updated(
            mean[:, open_], variance[:, open_], values[now], noise[now], spread, jumps
        )
        level[:, open_] += found
        total = best[:, open_] + level[:, open_]
        total[:, 1:] += np.log(rare)  # of a move within a run
        chosen = total.argmax(axis=1)
        best[:, now + 1], begin[:, now] = total[np.arange(len(steps)), chosen], first + chosen
    width = int(best[:, n].argmax())
    moves = [int(begin[width, n - 1])]
    while moves[0] > 0:
        moves.insert(0, int(begin[width, moves[0] - 1]))
    return float(steps[width]), float(arounds[width]), moves


def _updated(
    mean: np.ndarray, variance: np.ndarray, value: np.ndarray, noise: np.ndarray, spread: np.ndarray, jumps: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One step of Kalman filters: log density of a value, share that belongs to the walk, new mean and variance.

    Args:
        mean, variance: (..., 6) prediction. value, noise: (6,). spread: variance of deviations.
        jumps: (...) probability that the volume has jumped, 0 for the first of a walk; the two cases are merged into
            one normal distribution.
    """
    off = value - mean
    usual, odd = variance + noise + spread, variance + noise + _ANYWHERE_MM**2
    within = np.log1p(-jumps) - 0.5 * (np.log(usual) + off**2 / usual).sum(axis=-1)
    with np.errstate(divide="ignore"):
        beyond = np.log(jumps) - 0.5 * (np.log(odd) + off**2 / odd).sum(axis=-1)
    level = np.logaddexp(within, beyond)
    share = np.exp(within - level)[..., None]
    gain = variance / usual
    change = gain * off
    left = variance * (1 - share * gain) + share * (1 - share) * change**2
    return level, share, mean + share * change, left


def _path(values: np.ndarray, noise: np.ndarray, drift: float, spread: float, rare: float) -> np.ndarray:
    """Most likely positions of one walk, (n, 6); a volume counts by its share that belongs to the walk."""
    n = len(values)
    mean, variance, shares = np.zeros(6), np.full(6, _ANYWHERE_MM**2), np.ones((n, 1))
    for now in range(n):
        jumps = np.asarray(rare if now else 0.0)
        _, shares[now], mean, variance = _updated(mean, variance, values[now], noise[now], np.asarray(spread), jumps)
        variance = variance + drift
    errors = (noise + spread) / np.maximum(shares, 1e-9)
    order = np.arange(n)
    prior = drift * np.minimum(order[:, None], order) + _ANYWHERE_MM**2
    return np.stack([prior @ np.linalg.solve(prior + np.diag(errors[:, k]), values[:, k]) for k in range(6)], axis=1)
