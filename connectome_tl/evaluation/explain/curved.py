"""Integrated gradients and occlusion of the radial and quadratic parts of a closed-form core.

Integrated gradients: Sundararajan, Taly & Yan 2017, arXiv:1703.01365.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from connectome_tl.training.closed_form.blocks import radial
from connectome_tl.training.closed_form.fitted_core import CurvedPart, QuadraticPart, RadialPart

STEPS = 24
ROWS_AT_ONCE = 128


def integrated_gradients(
    function: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    baselines: tuple[Tensor, ...],
    extra: tuple[Tensor, ...] = (),
    steps: int = STEPS,
    rows_at_once: int = ROWS_AT_ONCE,
) -> tuple[Tensor, ...]:
    """Attributions of `function(*inputs, *extra)` -> (n,), each of the shape of its input.

    Gradients are integrated along the straight path from the baselines. Attributions sum to the change of the function,
    up to the error of the quadrature.
    """
    from captum.attr import IntegratedGradients

    found = IntegratedGradients(function).attribute(
        inputs,
        baselines=baselines,
        additional_forward_args=extra or None,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=max(rows_at_once, len(inputs[0])),  # captum warns about fewer, and uses as many
    )
    return tuple(part.detach() for part in found)


def curved_gradients(part: CurvedPart, rows: np.ndarray, mean: np.ndarray, column: int) -> np.ndarray:
    """(n_rows, n_columns) integrated gradients of one outcome's part from the mean row to each row.

    Those of a quadratic part are exact, those of a radial one are captum's.
    """
    if isinstance(part, QuadraticPart):
        return (rows - mean) * ((rows + mean) @ part.basis @ part.products[:, :, column] @ part.basis.T)
    landmarks = torch.from_numpy(part.rows.astype(float))
    dual = torch.from_numpy(np.ascontiguousarray(part.dual[:, column]))

    def value(at: Tensor) -> Tensor:
        squared = (at**2).sum(dim=1)[:, None] + (landmarks**2).sum(dim=1) - 2 * at @ landmarks.T
        return torch.exp(-part.gamma * squared.clamp_min(0.0)) @ dual

    given = torch.from_numpy(np.ascontiguousarray(rows))
    start = torch.from_numpy(np.broadcast_to(mean, rows.shape).copy())
    return integrated_gradients(value, (given,), (start,))[0].numpy()


@dataclass(frozen=True, eq=False)
class RadialPath:
    """Integrated gradients of a radial part without captum, linear in its dual weights, with the same quadrature.

    Attributes:
        delta: (n_rows, n_columns) rows minus the mean row.
        kernel, moment: (n_rows, n_landmarks) integrals of k and t k along the path mean + t delta.
    """

    part: RadialPart
    delta: np.ndarray
    mean: np.ndarray
    kernel: np.ndarray
    moment: np.ndarray

    @staticmethod
    def of(part: RadialPart, rows: np.ndarray, mean: np.ndarray) -> RadialPath:
        """The path of rows (n_rows, n_columns) from the mean (n_columns,) of the training rows."""
        delta = rows - mean
        nodes, weights = np.polynomial.legendre.leggauss(STEPS)
        landmarks = part.rows.astype(float)
        kernel = moment = np.zeros((len(rows), len(landmarks)))
        for t, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            now = weight * radial(mean + t * delta, landmarks, part.gamma)
            kernel, moment = kernel + now, moment + t * now
        return RadialPath(part, delta, mean, kernel, moment)

    def summed_gradients(self, factors: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """(n_columns, n_outcomes) sum over rows of the attributions times factors (n_rows, n_columns)."""
        weighted = self.delta * factors
        away = self.mean[:, None] - self.part.rows.T
        found = away * (weighted.T @ self.kernel) + (weighted * self.delta).T @ self.moment
        return np.asarray(-2 * self.part.gamma * found @ self.part.dual[:, outcomes])

    def gradients_of_row(self, row: int, outcomes: np.ndarray) -> np.ndarray:
        """(n_columns, n_outcomes) attributions of one row."""
        delta = self.delta[row][:, None]
        away = self.mean[:, None] - self.part.rows.T
        found = delta * (away * self.kernel[row] + delta * self.moment[row])
        return np.asarray(-2 * self.part.gamma * found @ self.part.dual[:, outcomes])


@dataclass(frozen=True, eq=False)
class QuadraticPath:
    """Integrated gradients of a quadratic part for many outcomes.

    Attributes:
        delta: (n_rows, n_columns) rows minus the mean row.
        components: (n_rows, n_components) of the sum of row and mean row.
    """

    part: QuadraticPart
    delta: np.ndarray
    components: np.ndarray

    @staticmethod
    def of(part: QuadraticPart, rows: np.ndarray, mean: np.ndarray) -> QuadraticPath:
        """The path of rows (n_rows, n_columns) from the mean (n_columns,) of the training rows."""
        return QuadraticPath(part, rows - mean, (rows + mean) @ part.basis)

    def summed_gradients(self, factors: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        """(n_columns, n_outcomes) sum over rows of the attributions times factors (n_rows, n_columns)."""
        return self._gradients((self.delta * factors).T @ self.components, outcomes)

    def gradients_of_row(self, row: int, outcomes: np.ndarray) -> np.ndarray:
        """(n_columns, n_outcomes) attributions of one row."""
        return self._gradients(self.delta[row][:, None] * self.components[row], outcomes)

    def _gradients(self, moments: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
        turned = np.tensordot(self.part.basis, self.part.products[:, :, outcomes], axes=1)
        return np.asarray(np.einsum("cb,cbo->co", moments, turned))


CurvedPath = RadialPath | QuadraticPath


def path_of(part: CurvedPart, rows: np.ndarray, mean: np.ndarray) -> CurvedPath:
    """Integrated gradients of rows (n_rows, n_columns) from the mean (n_columns,) of the training rows."""
    return (QuadraticPath if isinstance(part, QuadraticPart) else RadialPath).of(part, rows, mean)  # type: ignore[arg-type]


def curved_occluded(part: CurvedPart, rows: np.ndarray, mean: np.ndarray, sets: Sequence[np.ndarray]) -> np.ndarray:
    """The part of rows with each set of columns at the mean row, (n_sets, n_rows, n_outcomes)."""
    if isinstance(part, RadialPart):
        return _radial_occluded(part, rows, mean, sets)
    components, delta = rows @ part.basis, rows - mean
    left = np.stack([components - delta[:, columns] @ part.basis[columns] for columns in sets])
    return np.asarray(np.einsum("sra,abo,srb->sro", left, part.products, left, optimize=True))


def _radial_occluded(part: RadialPart, rows: np.ndarray, mean: np.ndarray, sets: Sequence[np.ndarray]) -> np.ndarray:
    landmarks = part.rows.astype(float)
    kernel = radial(rows, landmarks, part.gamma)
    found = np.empty((len(sets), len(rows), part.dual.shape[1]))
    for s, columns in enumerate(sets):
        if not columns.size:
            found[s] = kernel @ part.dual
            continue
        near, far = landmarks[:, columns], rows[:, columns]
        before = (far**2).sum(axis=1)[:, None] - 2 * far @ near.T
        after = (mean[columns] ** 2).sum() - 2 * near @ mean[columns]
        found[s] = (kernel * np.exp(-part.gamma * (after - before))) @ part.dual
    return found
