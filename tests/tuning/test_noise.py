"""Without signal the score of the best of many trials is optimistic; the nested score is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tuning_cases import inner_folds, tuned_cohorts, tuned_study

from connectome_tl.cohort.splits import Fold, InnerFold, SplitPlan, make_split_plan
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import BY_NAME
from connectome_tl.training.stages import chain


@pytest.mark.slow
def test_on_noise_the_nested_score_is_near_a_half_and_the_flat_one_is_not() -> None:
    """Outcomes permuted in 16 cohorts; 6 settings of the core, 3 outer and 2 inner folds."""
    study = tuned_study(outer=3, inner=2).with_settings({"core.average_points": 8})  # quick fits
    tries = [study.with_settings({"edges.n_edges": n, "core.clip": c}) for n in (2, 6, 20) for c in (1.5, 4.0)]
    flat, nested = [], []
    for seed in range(100, 116):
        cohorts = tuned_cohorts()
        target = cohorts.target
        dealt = target.targets.iloc[np.random.default_rng(seed).permutation(target.n_subjects)]
        target = replace(target, targets=dealt.set_axis(target.targets.index))
        cohorts = cohorts.with_role("target", target)
        splits = make_split_plan(target, study.splits)
        outer = splits.repeats[0]
        everyone = SplitPlan(((Fold(target.ids, (), tuple(InnerFold(f.train, f.test) for f in outer)),),))
        flat.append(max(inner_folds(study, cohorts, everyone).scores(one)[0] for one in tries))
        won = met = 0.0
        for at, fold in enumerate(outer):
            search = inner_folds(study, cohorts, splits, at)
            best = max(tries, key=lambda one: search.scores(one)[0])
            plan = chain(best, cohorts, BY_NAME["core"], fold, ["cognitive"], seed=0)
            risk = fit([plan], cohorts.by_name())[plan.key].predictions
            y = target.targets["cognitive"].to_numpy(float)[target.positions(fold.test)]
            score = np.array([risk[i][0] for i in fold.test])
            known = np.isfinite(y)
            pairs = within_fold_counts(y[known][:, None], score[known][:, None], np.zeros(int(known.sum()), dtype=int))
            won, met = won + float(pairs[0][0]), met + float(pairs[1][0])
        nested.append(won / met)
    # Null variance of an AUC over pairs within folds, from the largest counts that a fold can have of each class.
    n_positive = float(cohorts.target.targets["cognitive"].sum())
    n_negative = float(cohorts.target.targets["cognitive"].notna().sum()) - n_positive
    error = np.sqrt((n_positive / 3 + n_negative / 3 + 1) / (12 * n_positive * n_negative / 9) / 3 / len(flat))
    assert np.mean(flat) - 0.5 > 3 * error
    assert abs(np.mean(nested) - 0.5) < 3 * error
