"""Further kinds of leak in the data are reported, with separate seeds; similar but correct data are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from connectome_tl.audit.duplicates import duplicate_findings, stand_apart
from connectome_tl.audit.names import name_findings
from connectome_tl.audit.same_rows import same_row_findings
from connectome_tl.audit.single_values import alone_findings
from connectome_tl.audit.summaries import summaries, telling_levels
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.settings.study import SplitSettings
from connectome_tl.tasks import Task
from tests.audit.hidden_outcomes import HIDDEN_OUTCOMES, HONEST_COUNTERPARTS
from tests.audit.hidden_patterns import HIDDEN_PATTERNS, HONEST_PATTERNS
from tests.audit.hidden_products import HIDDEN_PRODUCTS
from tests.audit.leaky_copies import LEAKY_COPIES
from tests.audit.leaky_data import HONEST_DATA, LEAKY_DATA, half_positive, infants_in_the_source_under_new_ids
from tests.audit.leaky_runs import dense_cohorts

TASKS = ("cognitive", "motor_score")
DELAY = Task(name="delay", kind="binary", column="delay")


def pointed_out(maker, seed, *, unchanged=True):
    """Leaks that are found; without `unchanged`, source and pool are searched only if they are not the simulated."""
    rng = np.random.default_rng([seed, 9])
    before = dense_cohorts(seed)
    cohorts = maker(half_positive(before, rng), rng)
    searched = {
        role: cohort for role, cohort in cohorts.by_name().items() if unchanged or cohort is not before.by_name()[role]
    }
    target = cohorts.target
    splits = make_split_plan(target, SplitSettings(repeats=1, outer=3, stratum="cognitive"))
    tasks = tuple(target.task(name) for name in TASKS)
    found = [*alone_findings(target, tasks), *name_findings(target, tasks)]
    found += same_row_findings(target, splits, stand_apart)
    found = [f for f in found if f.status == "warning"]
    return [f.what for f in [*duplicate_findings(searched, splits), *found] if f.status == "failed" or f in found]


@pytest.mark.parametrize(
    "maker",
    [*LEAKY_DATA, *HIDDEN_OUTCOMES, *HIDDEN_PRODUCTS, *HIDDEN_PATTERNS, *LEAKY_COPIES],
    ids=lambda maker: maker.__name__,
)
def test_each_leak_is_pointed_out(maker):
    assert pointed_out(maker, 88001, unchanged=False)


@pytest.mark.parametrize(
    "maker", [*HONEST_DATA, *HONEST_COUNTERPARTS, *HONEST_PATTERNS], ids=lambda maker: maker.__name__
)
def test_no_honest_look_alike_is(maker):
    assert pointed_out(maker, 88002) == []


def test_the_infants_in_the_source_are_named():
    (text,) = pointed_out(infants_in_the_source_under_new_ids, 88003)
    assert text.startswith("6 pairs of a target subject and a row of the source cohort")


def test_levels_tell_together_what_no_level_tells_alone():
    outcome = np.repeat([1.0, 0.0], 12)
    ward = pd.Series([f"w{k}" for k in np.r_[np.arange(12) % 4, 4 + np.arange(12) % 4]])
    assert telling_levels(ward, outcome, DELAY) == "100% of subjects are in a level of one outcome"
    assert telling_levels(ward, np.random.default_rng(2).permutation(outcome), DELAY) == ""
    alone = pd.Series([f"w{k}" for k in range(24)])
    assert telling_levels(alone, outcome, DELAY) == ""  # levels with one subject are always pure
    points = Task(name="points", kind="regression", column="points")
    score = 10 * ward.str[1:].astype(float).to_numpy() + np.random.default_rng(0).normal(size=24)
    assert "of its variance is between levels" in telling_levels(ward, score, points)
    assert telling_levels(ward, np.random.default_rng(1).normal(size=24), points) == ""


def test_summaries_have_no_scale_of_a_subject_in_their_components():
    target = dense_cohorts(5).target
    scaled = target.weights * np.linspace(1, 9, target.n_subjects)[:, None, None, None]
    one, two = summaries(target), summaries(replace(target, weights=scaled))
    for name, values in one.items():
        if name.startswith("principal component"):
            np.testing.assert_allclose(np.abs(two[name]), np.abs(values), atol=1e-6)
    assert not np.allclose(two[f"mean weight ({target.measures[0]})"], one[f"mean weight ({target.measures[0]})"])
