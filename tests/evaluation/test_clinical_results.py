"""One call returns every clinical record, and omits those that are not defined."""

from __future__ import annotations

import numpy as np
import pandas as pd
from prediction_tables import LANGUAGE, MOTOR, table

from connectome_tl.evaluation.clinical.results import clinical_results


def study():
    rng = np.random.default_rng(0)
    motor = pd.concat([table(rng, n=60), table(rng, n=60, model="clinical_only")], ignore_index=True)
    motor["y_true"] = motor["subject"].map(motor.groupby("subject")["y_true"].first())
    lost = motor["subject"].isin([f"s{i:03d}" for i in range(0, 60, 7)])
    motor["y_true"] = motor["y_true"].mask(lost)
    language = table(rng, n=60, task="language", kind="regression")
    subjects = sorted(motor["subject"].unique())
    covariates = pd.DataFrame({"weight": rng.normal(size=60), "rate": rng.normal(size=60)}, index=subjects)
    covariates.iloc[3, 0] = np.nan
    groups = {"sex": {s: "FM"[i % 2] for i, s in enumerate(subjects)}}
    return pd.concat([motor, language], ignore_index=True), covariates, groups


def test_one_call_gives_every_record():
    predictions, covariates, groups = study()
    found = clinical_results(predictions, [MOTOR, LANGUAGE], {}, covariates, groups)
    assert [c.model for c in found.calibration_curves] == ["full", "clinical_only"]
    assert [c.model for c in found.decision_curves] == ["full", "clinical_only"]
    assert {(s.task, s.group) for s in found.subgroups} == {(t, g) for t in ("motor", "language") for g in "FM"}
    assert {s.model for s in found.subgroups if s.task == "motor"} == {"full", "clinical_only"}
    assert [(c.task, c.model) for c in found.conformal] == [
        ("motor", "full"), ("motor", "clinical_only"), ("language", "full")
    ]  # fmt: skip
    assert [(p.task, p.n) for p in found.power] == [("motor", 51)]
    assert [s.n_parameters for s in found.sample_sizes] == [2, 2]
    assert [d.variable for d in found.returners] == ["weight", "rate"]
    missing, rival = found.missing_outcomes
    assert rival.model == "clinical_only"
    assert (missing.n_observed, missing.n_missing) == (51, 9)
    assert missing.weighted != missing.complete_cases


def test_the_dead_and_the_untestable_are_filled_in_alone_beside_all_missing():
    predictions, covariates, groups = study()
    lost = sorted(predictions.loc[predictions["y_true"].isna(), "subject"].unique())
    status = pd.DataFrame({"motor": "observed"}, index=covariates.index)
    status.loc[lost, "motor"] = ["died", "untestable", *["lost"] * (len(lost) - 2)]
    found = clinical_results(predictions, [MOTOR], {}, covariates, groups, status)
    both = [m for m in found.missing_outcomes if m.model == "full"]
    assert [(m.filled, m.n_missing) for m in both] == [("all", 9), ("died or untestable", 2)]
    assert both[0].complete_cases == both[1].complete_cases
    assert all(m.worst_case < m.complete_cases < m.best_case for m in both)
    assert both[1].best_case - both[1].worst_case < both[0].best_case - both[0].worst_case


def test_a_run_without_covariates_groups_or_missing_outcomes_says_less():
    predictions, covariates, _ = study()
    language = predictions[predictions["task"] == "language"]
    found = clinical_results(language, [MOTOR, LANGUAGE], {}, covariates[[]], {})
    assert (found.calibration_curves, found.subgroups, found.sample_sizes, found.returners) == ((), (), (), ())
    assert found.missing_outcomes == ()
    assert len(found.conformal) == 1


def test_subjects_without_outcome_are_compared_by_known_values_for_every_outcome():
    rng = np.random.default_rng(0)
    first, second = (table(rng, n=40, task=name) for name in ("motor", "fine_motor"))
    first.loc[first["subject"] == "s039", "y_true"] = np.nan
    lost = [f"s{i:03d}" for i in range(30, 40)]
    second.loc[second["subject"].isin(lost), "y_true"] = np.nan
    weight = pd.Series(np.arange(40.0) + 1000, index=[f"s{i:03d}" for i in range(40)])
    weight[lost[:-1]] = np.nan
    fine = MOTOR.model_copy(update={"name": "fine_motor"})
    found = clinical_results(pd.concat([first, second]), [MOTOR, fine], {}, weight.to_frame("weight"), {}).returners
    assert [(one.tasks, one.n_returned, one.n_lost, one.lost) for one in found] == [
        (("motor",), 30, 1, 1039.0),
        (("fine_motor",), 30, 1, 1039.0),
    ]
    assert found[0].returned == weight[:30].mean()
    assert np.isnan(found[1].standardised_difference)
    same = clinical_results(
        pd.concat([second, second.assign(task="motor")]), [MOTOR, fine], {}, weight.to_frame("w"), {}
    )
    assert [one.tasks for one in same.returners] == [("motor", "fine_motor")]
