"""Predictions from the site only are in the prediction table if sites are declared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_study import small_cohorts, small_settings

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.evaluation.clinical.site_only import site_predictions
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import COLUMNS
from connectome_tl.settings.model_table import MODELS
from connectome_tl.settings.study import SplitSettings

TARGET = small_cohorts().target


def test_the_site_predicts_only_differences_between_sites():
    task = next(t for t in TARGET.tasks if t.is_binary)
    y = TARGET.targets[task.name].to_numpy(float)
    told = np.array(["north" if value == 1 else "south" for value in y], dtype=object)
    told[0] = ""  # an unknown site also has a prediction
    cohort, study = replace(TARGET, site=told), small_settings()
    splits = make_split_plan(cohort, study.splits)
    rows = site_predictions(study, cohort, splits, [task])
    assert list(rows.columns) == list(COLUMNS)
    assert set(rows["model"]) == {"site_only"} <= set(MODELS)
    assert rows.round({"y_score": 9}).groupby(["repeat", "fold"])["y_score"].nunique().max() <= 3
    auc = next(s for s in scores(rows, [task]) if s.metric == "auc")
    assert auc.value > 0.9


def test_without_two_sites_or_with_sites_held_out_there_is_nothing_to_know():
    study = small_settings()
    task = TARGET.tasks[0]
    for site in (np.full(TARGET.n_subjects, "", dtype=object), np.full(TARGET.n_subjects, "one", dtype=object)):
        cohort = replace(TARGET, site=site)
        assert site_predictions(study, cohort, make_split_plan(cohort, study.splits), [task]).empty
    held = replace(TARGET, site=np.array(["a", "b", "c"] * TARGET.n_subjects, dtype=object)[: TARGET.n_subjects])
    out = study.model_copy(update={"splits": SplitSettings(scheme="site_out", repeats=1)})
    assert site_predictions(out, held, make_split_plan(held, out.splits), [task]).empty
