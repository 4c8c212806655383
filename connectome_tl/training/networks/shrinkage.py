"""Shrink an ensemble's predictions of values towards the mean, by held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from connectome_tl.training.networks.outputs import columns_of
from connectome_tl.training.networks.setting import Setting, State

_FEWEST = 5  # rows with a known outcome
_LEAST = 0.1


def shrink(
    setting: Setting, parts: Sequence[np.ndarray], states: Mapping[str, State], held_out: np.ndarray
) -> dict[str, float]:
    """Shrink the linear heads of regressions, in place, and the held-out predictions with them.

    Values that a network predicts from few training rows spread more than the outcome allows. The slope of the outcome
    on the held-out predictions is multiplied into weights and bias of the head, and the mean of the held-out
    predictions is moved to that of the outcome. The slope is limited to 0.1 to 1, so that the order of predictions and
    their gradients are kept. Probabilities are calibrated elsewhere; heads with distributions are not changed.

    The held-out predictions of a part are shrunk by the line of the other parts, so that the weight of the network is
    chosen on predictions that do not depend on the row's outcome.

    Args:
        parts: row numbers that each network did not see.
        states: parameters by network and step.
        held_out: (n_rows, n_columns) predictions of rows that the network has not seen, in units of the outcomes.

    Returns:
        The slope by outcome.
    """
    places, slopes = columns_of(setting.tasks), {}
    for t, task in enumerate(setting.tasks):
        name = f"heads.{task.name}"
        if task.form != "value" or not all(f"{name}.weight" in state for state in states.values()):
            continue
        mean, scale = setting.scaler.mean[t], setting.scaler.scale[t]
        goal = setting.goal[:, t].double().numpy()
        predicted = (task.spec.to_score(held_out[:, places[task.name]][:, 0]) - mean) / scale
        known = np.isfinite(goal) & np.isfinite(predicted)
        if known.sum() < _FEWEST:
            continue
        slope, center, middle = _line(predicted[known], goal[known])
        for state in states.values():
            state[f"{name}.weight"] = (slope * state[f"{name}.weight"]).astype(np.float32)
            state[f"{name}.bias"] = (slope * (state[f"{name}.bias"] - center) + middle).astype(np.float32)
        for part in parts:
            others = known.copy()
            others[part] = False
            if others.sum() >= _FEWEST:
                line = _line(predicted[others], goal[others])
                held_out[part, places[task.name]] = task.spec.from_score(_on(line, predicted[part]) * scale + mean)[
                    :, None
                ]
        slopes[task.name] = slope
    return slopes


def _on(line: tuple[float, float, float], predicted: np.ndarray) -> np.ndarray:
    slope, center, middle = line
    return slope * (predicted - center) + middle


def _line(predicted: np.ndarray, goal: np.ndarray) -> tuple[float, float, float]:
    """Slope between 0.1 and 1, mean prediction and mean outcome."""
    center, middle = float(predicted.mean()), float(goal.mean())
    spread = float(((predicted - center) ** 2).sum())
    slope = float((predicted - center) @ (goal - middle)) / spread if spread > 0 else 0.0
    return min(max(slope, _LEAST), 1.0), center, middle
