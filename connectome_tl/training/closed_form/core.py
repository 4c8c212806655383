"""Fit the closed-form core: `fit_core(blocks, y, kinds, families, settings) -> CoreFit`.

One Gram matrix per block, and its ridge at every penalty with predictions that leave out whole families.
The fit is the mean of (S) ridge on the sum of the linear kernels, (G) a non-negative stack of all kernels'
fits, and, for few families, (A) a likelihood-weighted mean over the scales of the blocks. All parts are linear
in the blocks (and in radial and quadratic kernels from `rbf_from` and `quadratic_from` families on), so each block
has one weight vector.

Transfer: `source` has a source model's predictions of these rows, one column per source outcome. The fit is then a
weighted mean of the fit without them and of fits in which they replace the blocks that they were computed from
(`covered`): ridge on all scores, each score alone, and, for an outcome that the source has as well (`own`), its score
at slope 1. The weights follow the leave-one-family-out errors. `predict` then needs the predictions as one more block.

Requirements and recommendations:
- Rows are those after the feature steps; the core only clips and centres them, on training rows.
- Kinds: "binary" is 0/1 and gets risks; predictions of "regression" and "ordinal" (a score) are limited to the range
  of the training outcomes; classes are `targets.one_vs_rest` columns of kind "binary".
- Blocks (chosen by `benchmarks/strength.py`): tangent rows with kernel "both" and `relax`, centred but not
  standardised; raw edges beside them with `summed=False`, or alone with kernel "both"; regional measures with kernel
  "both"; covariates linear. All but the tangent rows are standardised.
- Columns of y with the same missing rows share all decompositions: pass permuted outcomes as columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from connectome_tl.errors import DataError, InternalError
from connectome_tl.settings.core import CoreSettings
from connectome_tl.training.closed_form.blocks import Block, SourceScores, matched
from connectome_tl.training.closed_form.fitted_core import CoreFit
from connectome_tl.training.closed_form.risks import fit_risks
from connectome_tl.training.closed_form.rows import TrainingRows

KINDS = ("binary", "regression", "ordinal")


def fit_core(
    blocks: Sequence[Block],
    y: np.ndarray,
    kinds: Sequence[str],
    families: Sequence[str],
    settings: CoreSettings | None = None,
    *,
    source: SourceScores | None = None,
) -> CoreFit:
    """Fit all outcomes on the same training rows.

    Args:
        blocks: of the training rows.
        y: (n_rows, n_outcomes), NaN where missing; that row is left out of that outcome only.
        kinds: (n_outcomes,), see the module.
        families: (n_rows,); rows of one family are left out together.
        source: predictions of a source model for these rows.

    Raises:
        DataError: fewer than two families with a known outcome, values not finite, labels not 0 or 1.
        InternalError: lengths that differ, an unknown kind.
    """
    settings = settings or CoreSettings()
    y = _checked(y, kinds)
    own = (None,) * y.shape[1] if source is None else source.own
    given = list(blocks)
    if source is not None:
        given.append(replace(source.block, kernel="linear", relax=False, penalised=True))
    matched(given, [block.name for block in given])
    if len(families) != len(y) or len(own) != y.shape[1] or any(len(block.values) != len(y) for block in given):
        raise InternalError("rows of blocks, outcomes and families differ", expected=str(y.shape))
    rows = TrainingRows.of(given, families, source, settings)
    shrunk = np.array([kind != "binary" for kind in kinds], dtype=bool)
    coefficients = np.zeros((rows.z.shape[1], y.shape[1]))
    dual = [np.zeros(y.shape) for _ in rows.kernels]
    left_out, steady = np.full(y.shape, np.nan), np.full(y.shape, np.nan)
    sizes = np.zeros(y.shape[1], dtype=int)
    forms = set()
    for observed, columns in _patterns(y, own):
        values, center, spread = _standardised(y[np.ix_(observed, columns)])
        solution, sizes[columns] = rows.solve(observed, values, spread, shrunk[columns], own[columns[0]])
        forms.add(rows.form(observed))
        left_out[np.ix_(observed, columns)] = center + spread * solution.left_out
        steady[np.ix_(observed, columns)] = center + spread * solution.steady
        coefficients[:, columns] = solution.coefficients * spread
        coefficients[0, columns] += center
        for total, part in zip(dual, solution.dual, strict=True):
            total[:, columns] = part * spread
    lower = np.where(shrunk, np.nanmin(y, axis=0), -np.inf)
    upper = np.where(shrunk, np.nanmax(y, axis=0), np.inf)
    linear, radial, quadratic = rows.primal(dual, coefficients)
    labels = np.where(shrunk, np.nan, y)
    return CoreFit(
        form=", ".join(sorted(forms)),
        kinds=tuple(kinds),
        columns=rows.columns,
        intercept=coefficients[0].copy(),
        linear=linear,
        radial=radial,
        quadratic=quadratic,
        lower=lower,
        upper=upper,
        left_out=np.clip(left_out, lower, upper),
        steady=np.clip(steady, lower, upper),
        outcomes=y,
        sizes=sizes,
        risks=fit_risks(steady, labels, sizes, settings.risks_from, settings.least_slope),
    )


def _standardised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values with mean 0 and standard deviation 1, and both; a constant outcome keeps spread 1."""
    center, spread = values.mean(axis=0), values.std(axis=0)
    spread = np.where(spread > 1e-12 * np.abs(center), spread, 1.0)
    return (values - center) / spread, center, spread


def _checked(y: np.ndarray, kinds: Sequence[str]) -> np.ndarray:
    y = np.array(y, dtype=float)
    unknown = sorted(set(kinds) - set(KINDS))
    if y.ndim != 2 or y.shape[1] != len(kinds) or unknown:
        expected = f"one of {', '.join(KINDS)} per column"
        raise InternalError("outcomes and kinds do not match", expected=expected, got=f"{y.shape}, {tuple(kinds)}")
    if np.isinf(y).any():
        raise DataError("an outcome is infinite", remedy="Correct it, or leave it empty (missing).")
    binary = y[:, [kind == "binary" for kind in kinds]]
    if not np.isin(binary[np.isfinite(binary)], (0.0, 1.0)).all():
        raise DataError("a binary outcome has other values than 0 and 1")
    if not np.isfinite(y).any(axis=0).all():
        raise DataError("an outcome is missing in every training row", remedy="Leave this outcome out.")
    return y


def _patterns(y: np.ndarray, own: Sequence[int | None]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(observed rows, columns) of outcomes that are missing in the same rows and have the same source score."""
    groups: dict[tuple[bytes, int | None], list[int]] = {}
    observed = np.isfinite(y)
    for column in range(y.shape[1]):
        groups.setdefault((observed[:, column].tobytes(), own[column]), []).append(column)
    for columns in groups.values():
        yield np.flatnonzero(observed[:, columns[0]]), np.array(columns)
