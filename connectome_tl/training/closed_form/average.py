"""Average kernel models over block scales, weighted by restricted likelihood.

Models are K = sum_b exp(v_b) G_b with noise variance 1 times a free overall variance, v uniform over a box. The
integral over the box is a sum over Sobol points: it depends neither on the order of rows nor on the number of outcomes
fitted together. Restricted likelihood: Patterson & Thompson 1971, doi:10.1093/biomet/58.3.545.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from connectome_tl.training.closed_form.spectrum import Design


def kernel_average(
    grams: list[np.ndarray], y: np.ndarray, errors: np.ndarray, design: Design, points: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Dual weights and predictions of the average.

    Args:
        grams: one (n_rows, n_rows) per block.
        y: (n_rows, n_columns). errors: see `Spectrum.path`.
        points: (n_points, n_blocks) log scales.

    Returns:
        Dual weights, one (n_rows, n_columns) per block; and the contribution of the blocks to leave-one-family-out
        predictions, (n_rows, n_columns). The weights of the models are those of all rows.
    """
    outside = _complement(design.basis)
    inner = np.stack([outside.T @ gram @ outside for gram in grams])
    scales = np.exp(points)
    models = np.tensordot(scales, inner, axes=1) + np.eye(outside.shape[1])
    turned = outside.T @ y
    inverse = np.linalg.inv(models)
    solved = inverse @ turned
    loss = np.einsum("rc,src->sc", turned, solved)
    log_likelihood = -0.5 * np.linalg.slogdet(models)[1][:, None] - 0.5 * len(turned) * np.log(np.maximum(loss, 1e-300))
    weights = np.exp(log_likelihood - log_likelihood.max(axis=0))
    weights /= weights.sum(axis=0)
    dual = outside @ solved
    per_block = [np.einsum("sc,src->rc", weights * scale[:, None], dual) for scale in scales.T]
    residuals = np.zeros_like(y)
    parts = [outside[rows] @ inverse[:, None] @ outside[rows].swapaxes(1, 2) for rows in design.families.stacks]
    for weight, left in zip(weights, design.families.left_out(dual, parts, errors, 1e-9), strict=True):
        residuals += weight * left
    return per_block, errors - residuals


def sobol_points(n_points: int, n_blocks: int, lowest: float, highest: float) -> np.ndarray:
    """(n_points, n_blocks) log scales, spread evenly over the box; the same in every call.

    Sobol points are balanced for powers of 2, so `n_points` is rounded up to one.
    """
    exponent = int(np.ceil(np.log2(n_points)))
    unit = qmc.Sobol(n_blocks, scramble=False).random_base2(exponent)
    # Unscrambled points start at the corner; half a cell further they are centred in their cells.
    return lowest + (highest - lowest) * (unit + 0.5 / len(unit))


def _complement(basis: np.ndarray) -> np.ndarray:
    """(n_rows, n_rows - rank), orthonormal columns orthogonal to the basis."""
    full, _ = np.linalg.qr(basis, mode="complete")
    return np.asarray(full[:, basis.shape[1] :])
