"""Many rows: the landmark form is reported and predicts like the exact one."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from connectome_tl.settings.core import CoreSettings
from connectome_tl.training.closed_form.blocks import Block
from connectome_tl.training.closed_form.core import fit_core


def _scores(n: int, n_columns: int, settings: CoreSettings) -> tuple[str, float, float]:
    """Form, R2 and AUC on new rows: traits shared by many columns, and outcomes that are sums of them."""
    rng = np.random.default_rng(0)
    traits = rng.normal(size=(n + 1000, 20))
    wide = traits @ rng.normal(size=(20, n_columns)) / 3 + rng.normal(size=(n + 1000, n_columns))
    signal = traits[:, :5].sum(axis=1) / 2
    value = signal + rng.normal(size=n + 1000)
    label = (signal + rng.normal(size=n + 1000) > 0).astype(float)
    y = np.column_stack([value, label])
    names = [str(k) for k in range(n)]
    fit = fit_core([Block("edges", wide[:n])], y[:n], ("regression", "binary"), names, settings)
    predicted = fit.predict([Block("edges", wide[n:])])
    return fit.form, r2_score(value[n:], predicted[:, 0]), roc_auc_score(label[n:], predicted[:, 1])


@pytest.mark.parametrize(
    ("n", "n_columns", "landmarks"), [(600, 2000, 400), pytest.param(2000, 4000, 1300, marks=pytest.mark.slow)]
)
def test_landmarks_lose_no_more_than_two_thousandths(n: int, n_columns: int, landmarks: int) -> None:
    exact = _scores(n, n_columns, CoreSettings())
    fewer = _scores(n, n_columns, CoreSettings(exact_up_to=landmarks, landmarks=landmarks))
    assert (exact[0], fewer[0]) == ("exact", f"nystrom {landmarks}")
    assert exact[1] > 0.4
    assert fewer[1] > exact[1] - 0.002
    assert fewer[2] > exact[2] - 0.002


def test_an_outcome_known_in_few_of_many_rows_is_fitted_on_all_of_those() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 20))
    y = np.column_stack([rows[:, 0] + rng.normal(size=300), rows[:, 1] + 0.1 * rng.normal(size=300)])
    y[40:, 1] = np.nan
    settings = CoreSettings(exact_up_to=200, landmarks=100)
    names = [str(k) for k in range(300)]
    fit = fit_core([Block("edges", rows)], y, ("regression", "regression"), names, settings)
    alone = fit_core([Block("edges", rows)], y, ("regression", "regression"), names, CoreSettings())
    assert fit.form == "exact, nystrom 100"
    assert alone.form == "exact"
    blocks = [Block("edges", rows)]
    np.testing.assert_allclose(fit.predict(blocks)[:, 1], alone.predict(blocks)[:, 1], rtol=1e-6)
