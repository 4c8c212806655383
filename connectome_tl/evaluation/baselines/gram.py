"""Ridge on columns that keep their scale, its penalty chosen by leaving out whole families."""

from __future__ import annotations

import numpy as np

from connectome_tl.settings.core import PENALTIES
from connectome_tl.training.closed_form.combine import best_fit
from connectome_tl.training.closed_form.risks import fit_risks
from connectome_tl.training.closed_form.spectrum import Design, Families, Spectrum

_RISKS_FROM, _LEAST_SLOPE = 100, 0.05


def gram_ridge(train: np.ndarray, test: np.ndarray, y: np.ndarray, families: np.ndarray, *, binary: bool) -> np.ndarray:
    """(n_test,) values, or risks by logistic regression on leave-one-family-out scores.

    Args:
        train, test: (n_train, n_columns), (n_test, n_columns).
        y: (n_train,) 0 and 1 or values; a row whose outcome is NaN is left out.
        families: (n_train,) codes.
    """
    known = np.flatnonzero(np.isfinite(y))
    center = train.mean(axis=0)
    train, test = train - center, test - center
    scale = max(float(np.einsum("ij,ij->", train, train)) / len(train), 1e-300)
    gram, cross = train[known] @ train[known].T / scale, test @ train[known].T / scale
    target = y[known][:, None]
    design = Design.of(np.ones((len(known), 1)), Families.of([str(code) for code in families[known]]))
    spectrum = Spectrum.of(gram, np.arange(len(known)), design)
    errors = design.residuals(target)
    penalties = np.array(PENALTIES)
    shares, fitted = best_fit(spectrum.path(target, errors, penalties), errors, np.array([False]))
    dual = spectrum.dual(target, penalties, shares)
    offset = target.mean() - (gram @ dual).mean()
    scores = cross @ dual + offset
    if not binary:
        return np.asarray(scores[:, 0])
    left_out = target - errors + fitted  # what the others predict of each row
    sizes = np.array([len(np.unique(families[known]))])
    return np.asarray(fit_risks(left_out, target, sizes, _RISKS_FROM, _LEAST_SLOPE).apply(scores)[:, 0])
