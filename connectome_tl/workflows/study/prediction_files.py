"""The tables of predictions that a run writes, with the meaning of their columns."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from connectome_tl.workflows.study.fitting import Found

PREDICTION_COLUMNS = {
    "subject": "id of the subject",
    "task": "outcome",
    "model": "full model, control or baseline",
    "repeat": "repeat of the cross-validation, from 0",
    "fold": "outer fold in which the subject was tested, from 0",
    "y_true": "observed outcome; n/a where missing (predicted, not scored)",
    "y_score": "probability of the positive class, or the predicted value",
    "y_pred": "class at the threshold fixed in the settings, or the predicted value",
}
AGE_GAPS = "age_gap.tsv"
GAP_COLUMNS = {
    "age": "true age, in the unit of the outcome",
    "predicted": "predicted age, out of fold, mean over seeds",
    "gap": "predicted minus true age",
    "corrected_gap": "the gap after the correction for age, fitted on training rows of the fold",
    "case": "1 for a case, 0 for a control; n/a where unknown",
}
CALIBRATED_COLUMNS = {
    "y_score": "probability of the positive class, recalibrated on the inner folds of that outer fold",
    "y_pred": "class at the threshold with the requested specificity on the inner folds",
}


@dataclass(frozen=True, eq=False)
class PredictionFile:
    """A table of the run folder and what its columns are."""

    name: str
    rows: pd.DataFrame
    columns: dict[str, str]


def prediction_files(found: Found) -> tuple[PredictionFile, ...]:
    """All tables of predictions of a run; each has a sidecar."""
    files = [PredictionFile("predictions.tsv", found.predictions, PREDICTION_COLUMNS)]
    if found.recalibrated is not None:
        columns = PREDICTION_COLUMNS | CALIBRATED_COLUMNS
        files.append(PredictionFile("calibrated.tsv", found.recalibrated.predictions, columns))
    if found.gaps is not None:
        files.append(PredictionFile(AGE_GAPS, found.gaps.table, GAP_COLUMNS))
    return tuple(files)
