"""Principal components of the encoder: from the training rows of the first stage alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_study import plan_of, small_cohorts, small_settings

from connectome_tl.cohort.splits import Fold
from connectome_tl.settings.encoders import ComponentsEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import RANDOM, FitPlan
from connectome_tl.training.schemes import StudyCohorts

COHORTS = small_cohorts(n_target=40)
FOLD = Fold(COHORTS.target.ids[:28], COHORTS.target.ids[28:])
STUDY = small_settings(model=ModelSettings(encoder=ComponentsEncoder(components=4, widths=(6, 4))))
NAME = "branches.connectome.components"


def components(result: FitResult) -> list[np.ndarray]:
    return [value for name, value in sorted(result.arrays.items()) if name.endswith(NAME)]


def fitted(plan: FitPlan, cohorts: StudyCohorts = COHORTS) -> dict[str, FitResult]:
    results = fit([plan], cohorts.by_name())
    lineage = plan.lineage(without=RANDOM)
    return {member.stage: results[member.key] for member in lineage}


def test_components_of_the_first_stage_are_transferred() -> None:
    found = fitted(plan_of(FOLD, STUDY, cohorts=COHORTS, scheme="network"))
    (first,) = components(found["pretrain"])
    assert first.any()
    (second,) = components(found["adapt"])
    np.testing.assert_array_equal(first, second)
    last = components(found["finetune"])
    same = [np.array_equal(first, one) for one in last]
    assert any(same)
    assert not all(same)  # the networks from random weights have those of the target's training rows


def test_components_do_not_depend_on_tested_subjects() -> None:
    target = COHORTS.target
    at = target.positions(FOLD.test)
    weights = target.weights.copy()
    weights[at] = weights[at][:, :, ::-1, ::-1] * 7
    changed = COHORTS.with_role("target", replace(target, weights=weights))
    for scheme in ("network", "network_scratch"):
        plans = [plan_of(FOLD, STUDY, cohorts=cohorts, scheme=scheme) for cohorts in (COHORTS, changed)]
        one, two = (fitted(plan, cohorts)["finetune"] for plan, cohorts in zip(plans, (COHORTS, changed), strict=True))
        assert one.arrays.keys() == two.arrays.keys()
        assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)
