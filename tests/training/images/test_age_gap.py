"""The age gap: its correction on training rows, and comparison of cases with controls."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from connectome_tl.errors import DataError
from connectome_tl.training.images.age_gap import classify_by_gap, fit_age_bias, gap_table

RNG = np.random.default_rng(0)
AGE = RNG.uniform(0, 24, 200)
IDS = tuple(f"s{i}" for i in range(200))
PREDICTED = 6 + 0.5 * AGE + RNG.normal(0, 1, 200)  # shrunk towards the mean


def test_a_corrected_gap_does_not_depend_on_age() -> None:
    for kind in ("gap", "prediction"):
        bias = fit_age_bias(IDS, PREDICTED, AGE, kind)
        gap = bias.corrected(PREDICTED, AGE) - AGE
        assert np.corrcoef(gap, AGE)[0, 1] == pytest.approx(0, abs=1e-9 if kind == "gap" else 0.2)
        assert gap.mean() == pytest.approx(0, abs=1e-9)
    assert np.corrcoef(PREDICTED - AGE, AGE)[0, 1] < -0.9


def test_the_correction_of_the_prediction_does_not_use_the_age_of_a_new_subject() -> None:
    bias = fit_age_bias(IDS, PREDICTED, AGE, "prediction")
    assert np.array_equal(bias.corrected(PREDICTED, AGE), bias.corrected(PREDICTED, AGE + 5))


def test_a_line_is_that_of_the_training_rows_alone() -> None:
    bias = fit_age_bias(IDS[:50], PREDICTED[:50], AGE[:50], "gap")
    slope, intercept = np.polyfit(AGE[:50], PREDICTED[:50] - AGE[:50], 1)
    assert (bias.intercept, bias.slope) == (intercept, slope)
    assert bias.ids == IDS[:50]


def test_a_prediction_that_ignores_age_is_refused() -> None:
    with pytest.raises(DataError, match="does not follow age"):
        fit_age_bias(IDS, RNG.normal(size=200), AGE, "prediction")


def test_cases_whose_brains_look_older_are_told_from_controls() -> None:
    case = (np.arange(200) % 2).astype(float)
    predicted = PREDICTED + 2.0 * case
    bias = fit_age_bias(IDS, PREDICTED, AGE, "gap")
    table = gap_table(IDS, np.arange(200) % 5, AGE, predicted, bias.corrected(predicted, AGE))
    assert list(table.columns) == ["subject", "fold", "age", "predicted", "gap", "corrected_gap"]
    corrected = classify_by_gap(table, case)
    raw = classify_by_gap(table, case, column="gap")
    # Two normals 2 apart with unit spread: AUC is Phi(2 / sqrt 2) = 0.921.
    assert roc_auc_score(corrected.y_true, corrected.y_score) == pytest.approx(0.921, abs=0.04)
    assert roc_auc_score(raw.y_true, raw.y_score) < 0.8
    assert np.array_equal(corrected.y_pred == 1, corrected.y_score > 0)


def test_a_fold_cannot_teach_with_one_class() -> None:
    table = gap_table(IDS[:4], np.array([0, 0, 1, 1]), AGE[:4], AGE[:4], AGE[:4])
    with pytest.raises(DataError, match="only cases or only controls"):
        classify_by_gap(table, np.array([0.0, 0.0, 1.0, 1.0]))
