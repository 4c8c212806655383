"""`validate`: scores equal to scikit-learn's, and a shift of the cohort that is reported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, mean_absolute_error, r2_score, recall_score, roc_auc_score

from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.overlap import likeness
from connectome_tl.bundle.validation import passed
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError
from connectome_tl.settings.records.bundles import Validation, ValidationRecord
from connectome_tl.workflows.release.validate import Validated, validate_on
from tests.bundle.bundle_study import infants_elsewhere


@pytest.fixture(scope="module")
def validated(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Validated:
    return validate_on(home / "bundle", home / "elsewhere" / "cohort.yaml", tmp_path_factory.mktemp("v"))


def truth_and_risk(home: Path, task: str, column: int) -> tuple[np.ndarray, np.ndarray]:
    cohort = read_cohort(home / "elsewhere" / "cohort.yaml")
    y = cohort.targets[task].to_numpy(float)
    predicted = open_bundle(home / "bundle").predict(cohort)[:, column]
    return y[np.isfinite(y)], predicted[np.isfinite(y)]


def test_scores_are_those_of_scikit_learn(home: Path, validated: Validated) -> None:
    scores = {(one.task.name, s.metric): s.value for one in validated.record.tasks for s in one.scores}
    y, risk = truth_and_risk(home, "cognitive", 0)
    assert scores["cognitive", "auc"] == pytest.approx(roc_auc_score(y, risk), abs=1e-12)
    assert scores["cognitive", "brier"] == pytest.approx(brier_score_loss(y, risk), abs=1e-12)
    assert scores["cognitive", "sensitivity"] == pytest.approx(recall_score(y, risk >= 0.5), abs=1e-12)
    assert scores["cognitive", "specificity"] == pytest.approx(recall_score(y, risk >= 0.5, pos_label=0), abs=1e-12)
    logit = np.log(risk / (1 - risk))[:, None]
    free = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logit, y)
    assert scores["cognitive", "calibration_slope"] == pytest.approx(float(free.coef_[0, 0]), rel=1e-3)
    y, value = truth_and_risk(home, "motor_score", 1)
    assert scores["motor_score", "r2"] == pytest.approx(r2_score(y, value), abs=1e-12)
    assert scores["motor_score", "mae"] == pytest.approx(mean_absolute_error(y, value), abs=1e-12)


def test_recalibration_in_the_large_makes_the_mean_risk_the_observed_share(home: Path, validated: Validated) -> None:
    y, risk = truth_and_risk(home, "cognitive", 0)
    one = validated.record.tasks[0]
    assert one.shift is not None
    moved = 1 / (1 + np.exp(-(np.log(risk / (1 - risk)) + one.shift)))
    assert moved.mean() == pytest.approx(y.mean(), abs=1e-6)
    again = {score.metric: score.value for score in one.recalibrated}
    assert again["brier"] == pytest.approx(brier_score_loss(y, moved), abs=1e-12)
    assert again["calibration_intercept"] == pytest.approx(0, abs=1e-6)


def test_the_decision_curve_is_the_net_benefit(home: Path, validated: Validated) -> None:
    y, risk = truth_and_risk(home, "cognitive", 0)
    curve = validated.record.tasks[0].decision
    assert curve is not None
    for threshold, benefit in zip(curve.threshold, curve.net_benefit, strict=True):
        acted = risk >= threshold
        odds = threshold / (1 - threshold)
        wanted = (acted & (y == 1)).mean() - odds * (acted & (y == 0)).mean()
        assert benefit == pytest.approx(wanted, abs=1e-12)


def shifted() -> Cohort:
    """Another site, older infants, and a higher proportion with the outcome."""
    cohort = infants_elsewhere("north")
    rows = np.flatnonzero(cohort.targets["cognitive"].notna())
    y = cohort.targets["cognitive"].to_numpy()[rows]
    keep = np.concatenate([rows[y == 1], rows[y == 0][:8]])
    some = cohort.take([cohort.ids[i] for i in sorted(keep)])
    return replace(some, age=np.linspace(42.5, 47, some.n_subjects))


def test_a_shifted_cohort_is_described_by_limits_and_recalibration(home: Path, tmp_path: Path) -> None:
    cohort = shifted()
    path = write_cohort(cohort, tmp_path / "north")
    done = validate_on(home / "bundle", path, tmp_path / "v")
    rows = {row.what: row for row in done.record.shifts}
    above = int((cohort.age > 43).sum())
    assert rows["postmenstrual age"].outside == str(above)
    assert above >= 10
    assert rows["postmenstrual age"].here.startswith("42.5 to 47")
    assert rows["gestational_age"].outside in ("0", "< 10")
    assert rows["site"].here == "1 site"
    prevalent = done.record.tasks[0]
    share = cohort.targets["cognitive"].mean()
    assert share > 0.6
    assert prevalent.shift is not None
    assert prevalent.shift > 0.5  # risks were too low for this prevalence
    as_predicted = {s.metric: s for s in prevalent.scores}
    assert as_predicted["calibration_intercept"].low > 0
    recalibrated = {s.metric: s for s in prevalent.recalibrated}
    assert recalibrated["brier"].value < as_predicted["brier"].value
    assert recalibrated["auc"].value == as_predicted["auc"].value
    known = cohort.targets["cognitive"].notna().to_numpy()
    truth = cohort.targets["cognitive"].to_numpy()[known]
    risks = open_bundle(home / "bundle").predict(read_cohort(path))[known, 0]
    assert as_predicted["auc"].value == pytest.approx(roc_auc_score(truth, risks), abs=1e-9)
    assert as_predicted["brier"].value == pytest.approx(brier_score_loss(truth, risks), abs=1e-9)
    page = done.report.read_text()
    assert "postmenstrual age" in page
    assert "Shifted up: odds ×" in page
    assert f"Mean risk {risks.mean():.2f}, observed share {share:.2f}." in page
    assert f"postmenstrual age ({above})" in page


def test_the_page_is_complete_and_names_what_was_expected(validated: Validated) -> None:
    page = validated.report.read_text()
    assert page.count("<svg") == 2
    for text in ("External validation of: A small study", "The study expected", "Research only, not for care",
                 "Simulated data", "Recalibration in the large", "Net benefit"):  # fmt: skip
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script" not in page


def test_what_goes_back_into_the_bundle_is_pooled(validated: Validated) -> None:
    found = Validation.model_validate_json(validated.validation.read_text())
    assert found.bundle == validated.record.bundle
    text = validated.validation.read_text()
    assert "elsewhere" not in text
    for task in found.tasks:
        for score in task.scores:
            assert round(score.value, 2) == score.value
    assert not list(validated.validation.parent.glob("predictions*"))
    results = json.loads((validated.validation.parent / "results.json").read_text())
    assert not any("elsewhere12" in str(value) for value in results.values())


def test_the_training_cohort_is_no_other_cohort(home: Path, tmp_path: Path) -> None:
    for bundle in ("bundle", "refit"):
        with pytest.raises(DataError, match="appears to be the training cohort of the bundle"):
            validate_on(home / bundle, home / "target" / "cohort.yaml", tmp_path / "v")
    assert not (tmp_path / "v").exists()
    opened = open_bundle(home / "bundle")
    other = read_cohort(home / "elsewhere" / "cohort.yaml")
    assert likeness(opened.members, other, opened.facts.n_train) > 0.3


def test_another_definition_of_an_outcome_is_refused(home: Path, tmp_path: Path) -> None:
    cohort = infants_elsewhere()
    tasks = tuple(
        task.model_copy(update={"cutoff": 70.0}) if task.name == "cognitive" else task for task in cohort.tasks
    )
    path = write_cohort(replace(cohort, tasks=tasks), tmp_path / "cut")
    with pytest.raises(DataError, match="defined differently in the bundle; expected cutoff 85"):
        validate_on(home / "bundle", path, tmp_path / "v")
    bare = infants_elsewhere("bare", tasks=(), targets=cohort.targets.iloc[:, :0], status=cohort.status.iloc[:, :0])
    bare = replace(bare, targets=bare.targets.set_axis(list(bare.ids)), status=bare.status.set_axis(list(bare.ids)))
    path = write_cohort(bare, tmp_path / "bare")
    with pytest.raises(DataError, match="has no outcome of the bundle"):
        validate_on(home / "bundle", path, tmp_path / "v")
    few = replace(cohort.take(cohort.ids[:8]), name="few")
    path = write_cohort(few, tmp_path / "few")
    with pytest.raises(DataError, match="too few subjects for a validation"):
        validate_on(home / "bundle", path, tmp_path / "v")


def test_what_would_go_back_into_the_bundle_names_nobody(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values of the new cohort are blanked in the file; if there was one, nothing would be written."""

    def planted(record: ValidationRecord) -> Validation:
        whole = passed(record)
        assert not any(row.here for row in whole.shifts)
        return whole.model_copy(update={"shifts": (whole.shifts[0].model_copy(update={"here": "as elsewhere7"}),)})

    monkeypatch.setattr("connectome_tl.workflows.release.validate.passed", planted)
    with pytest.raises(DataError, match=r"nothing was written: validation\.json would release private data"):
        validate_on(home / "bundle", home / "elsewhere" / "cohort.yaml", tmp_path / "v")
    assert not (tmp_path / "v").exists()
