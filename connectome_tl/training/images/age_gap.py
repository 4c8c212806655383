"""Brain-age gap: age correction fitted on training rows, and group differences.

Predicted ages are biased towards the mean, so that the gap decreases with age (de Lange and Cole 2020,
doi:10.1016/j.nicl.2020.102229). After a correction by the true age, the mean absolute error is not a measure of
accuracy (Butler et al. 2021, doi:10.1002/hbm.25533); accuracy therefore refers to the uncorrected age.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError
from connectome_tl.plurals import counted

Correction = Literal["none", "gap", "prediction"]
LEAST_SLOPE = 0.05  # of predicted age on age: with a smaller one, a gap is not a measure of brain age


@dataclass(frozen=True)
class AgeBias:
    """A line fitted on training rows: the gap on age (`gap`) or the predicted age on age (`prediction`).

    Attributes:
        ids: the rows it was fitted on.
    """

    kind: Correction
    intercept: float
    slope: float
    ids: tuple[str, ...]

    def corrected(self, predicted: np.ndarray, age: np.ndarray) -> np.ndarray:
        """(n,) predicted ages without the bias; `gap` uses the true age, `prediction` does not."""
        if self.kind == "gap":
            return predicted - (self.intercept + self.slope * age)
        if self.kind == "prediction":
            return (predicted - self.intercept) / self.slope
        return predicted


def fit_age_bias(ids: Sequence[str], predicted: np.ndarray, age: np.ndarray, kind: Correction) -> AgeBias:
    """Fit the line on out-of-fold predictions of training rows.

    Raises:
        DataError: fewer than 3 rows, equal ages, or a slope of predicted age on age that is too small.
    """
    if kind == "none":
        return AgeBias(kind, 0.0, 0.0, tuple(ids))
    if len(age) < 3 or np.ptp(age) == 0:
        raise DataError(
            "the age bias needs three training rows of different ages",
            got=counted(len(age), "row"),
            remedy="Set it to none.",
        )
    slope, intercept = np.polyfit(age, predicted - age if kind == "gap" else predicted, 1)
    if kind == "prediction" and slope < LEAST_SLOPE:
        raise DataError(
            "predicted age does not follow age in the training rows",
            expected=f"a slope of at least {LEAST_SLOPE}",
            got=f"{slope:.3f}",
            remedy="Use the correction `gap`, or none.",
        )
    return AgeBias(kind, float(intercept), float(slope), tuple(ids))


def gap_table(
    ids: Sequence[str], fold: np.ndarray, age: np.ndarray, predicted: np.ndarray, corrected: np.ndarray
) -> pd.DataFrame:
    """One row per out-of-fold prediction: subject, fold, age, predicted, gap, corrected_gap."""
    return pd.DataFrame(
        {
            "subject": list(ids),
            "fold": fold,
            "age": age,
            "predicted": predicted,
            "gap": predicted - age,
            "corrected_gap": corrected - age,
        }
    )


def classify_by_gap(table: pd.DataFrame, case: np.ndarray, *, column: str = "corrected_gap") -> pd.DataFrame:
    """Classify cases and controls by a linear support vector machine on the gap, trained on the other folds.

    Args:
        table: of `gap_table`, out-of-fold. case: (n,) 1 for a case, 0 for a control.

    Returns:
        subject, fold, y_true, y_score (the distance from the boundary), y_pred.

    Raises:
        DataError: the other folds of a fold contain only one class.
    """
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    gap, fold = table[column].to_numpy()[:, None], table["fold"].to_numpy()
    score, found = np.full(len(table), np.nan), np.full(len(table), np.nan)
    for k in np.unique(fold):
        train, test = fold != k, fold == k
        if len(np.unique(case[train])) < 2:
            raise DataError(f"outside fold {k} there are only cases or only controls", remedy="Use stratified folds.")
        machine = make_pipeline(StandardScaler(), SVC(kernel="linear")).fit(gap[train], case[train])
        score[test], found[test] = machine.decision_function(gap[test]), machine.predict(gap[test])
    return pd.DataFrame({"subject": table["subject"], "fold": fold, "y_true": case, "y_score": score, "y_pred": found})
