"""Permutation tests that cannot reject are left out, or named, before the first fit."""

from __future__ import annotations

import numpy as np
import pytest
from small_study import last_stage, small_cohorts, small_settings, with_rows

from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.progress import Steps
from connectome_tl.workflows.study.fitting import fit_study, permutation_notes
from connectome_tl.workflows.study.judge import judge

COHORTS = small_cohorts(n_target=24)
TARGET = COHORTS.target
FINETUNE = small_settings().stages.finetune
TASKS = [TARGET.task(name) for name in ("cognitive", "motor_score")]


def with_sites(n_sites):
    sites = np.array([f"site{i % n_sites}" for i in range(TARGET.n_subjects)])
    return with_rows(TARGET, TARGET.ids, site=sites, family="")


def test_a_study_without_exchangeable_subjects_is_fitted_and_judged_without_permutation_tests(tmp_path):
    target = with_sites(TARGET.n_subjects)
    cohorts = StudyCohorts({"target": target})
    alone = {
        "source": None,
        "pool": None,
        "stages": last_stage(FINETUNE),
        "controls": (),
        "baselines": (),
        "refits": {"linear": 0},
    }
    settings = small_settings(permutations=19, baseline_permutations=19, network_permutations=2, **alone)
    splits = make_split_plan(target, settings.splits)
    found = fit_study(tmp_path, settings, cohorts, splits, TASKS, Steps(shown=False))
    assert (found.permuted, found.permuted_baselines) == ({}, {})
    record = judge(settings, cohorts, splits, found).record
    assert record.permutations == ()
    assert any(text.startswith("No permutation tests") and "`permutations: 0`" in text for text in record.warnings)


@pytest.mark.parametrize(
    ("n_sites", "asked", "expected"),
    [
        (1, {"permutations": 39}, []),
        (1, {"permutations": 38}, ["permutations: 38 cannot give p = 0.05"]),
        (1, {"permutations": 999, "network_permutations": 19}, ["network_permutations: 19 cannot give p = 0.05"]),
        (1, {}, []),
        (24, {}, []),
        (24, {"network_permutations": 99}, ["No permutation tests"]),
        (12, {"permutations": 99}, []),  # 2 ** 12 arrangements
        (20, {"permutations": 99}, ["No permutation tests"]),  # 2 ** 4
        (19, {"permutations": 99}, ["32 arrangements"]),  # 2 ** 5, fewer than 20 for each of two outcomes
    ],
)
def test_a_test_that_cannot_reach_its_level_is_named(n_sites, asked, expected):
    notes = permutation_notes(small_settings(**asked), with_sites(n_sites), TASKS)
    assert len(notes) == len(expected)
    assert all(note.startswith(start) for note, start in zip(notes, expected))
