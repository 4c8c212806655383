"""`validate` on a cohort in which an outcome has one value: undefined scores are not shown as numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.cohort.writing import write_cohort
from connectome_tl.workflows.release.validate import validate_on
from tests.bundle.bundle_study import infants_elsewhere


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_scores_that_need_two_classes_are_undefined(home: Path, tmp_path: Path, value: float) -> None:
    cohort = infants_elsewhere()
    outcome = cohort.targets["cognitive"].to_numpy(float)
    file = write_cohort(
        cohort.take([i for i, y in zip(cohort.ids, outcome, strict=True) if y == value]), tmp_path / "one"
    )
    found = validate_on(home / "bundle", file, tmp_path / "out")
    one = next(task for task in found.record.tasks if task.task.name == "cognitive")
    scores = {score.metric: score.value for score in one.scores}
    assert all(np.isnan(scores[name]) for name in ("auc", "balanced_accuracy", "calibration_slope", "scaled_brier"))
    assert np.isfinite(scores["brier"])
    assert one.shift is None
    assert not one.recalibrated
    text = found.report.read_text("utf-8").lower()
    assert "nan" not in text.replace("nano", "")
