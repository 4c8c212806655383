"""Transfer from adults on one atlas to infants on another: an encoder whose weights use regions' coordinates only."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from connectome_tl.cohort.splits import Fold
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import dump_settings, load_settings
from connectome_tl.errors import DataError, UsageError
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, StudySettings
from connectome_tl.settings.training import Adapt, FineTune, Pretrain, Stages, Training
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.training.checks import check_names
from connectome_tl.training.fit import fit
from connectome_tl.training.plans import RANDOM, FitPlan
from connectome_tl.training.schemes import BY_NAME, StudyCohorts
from connectome_tl.training.stages import chain
from connectome_tl.workflows.study.inputs import read_cohorts

FREE = {"kind": "graph", "node_features": "identity", "readout": "attention", "direct": False, "dropout": 0.1}
TASK = "cognitive_score"


@cache
def cohorts(n_source: int = 120, adult: str = "aal116", n_target: int = 80) -> StudyCohorts:
    made = simulate_study(seed=2, n_source=n_source, n_pool=12, n_target=n_target, adult=adult, smooth=True)
    return StudyCohorts({"target": made.target, "source": made.source, "pool": made.pool})


def study(encoder: dict[str, Any] | None = None, steps: int = 120, objective: str | None = None) -> StudySettings:
    adapt = None
    if objective is not None:
        adapt = Adapt.model_validate({"objective": {"kind": objective}, "training": {"steps": 4}})
    return StudySettings(
        source=CohortUse(cohort="older/cohort.yaml", tasks=("score", "age")),
        pool=CohortUse(cohort="pool/cohort.yaml"),
        target=CohortUse(cohort="target/cohort.yaml", tasks=(TASK,)),
        model=ModelSettings.model_validate({"encoder": encoder or FREE}),
        stages=Stages(
            pretrain=Pretrain(training=Training(steps=steps, learning_rate=5e-3, weight_decay=1.0)),
            adapt=adapt,
            finetune=FineTune(training=Training(steps=60, learning_rate=2e-3)),
        ),
        n_jobs=1,
    )


def planned(scheme: str, asked: StudySettings, of: StudyCohorts) -> FitPlan:
    ids = of.target.ids
    plan = chain(asked, of, BY_NAME[scheme], Fold(ids[:33], ids[33:]), (TASK,), seed=0)
    return replace(plan, inner=(), checkpoints=())


def untaught(of: StudyCohorts) -> float:
    """Correlation of the infants' score with the prediction of the adults' network, which has seen no infant."""
    target = of.target
    names = {"targets": target.targets, "status": target.status}
    renamed = {name: table[[TASK]].rename(columns={TASK: "score"}) for name, table in names.items()}
    task = target.task(TASK).model_copy(update={"name": "score"})
    alone = of.with_role("target", replace(target, tasks=(task,), covariate_specs=(), **renamed))
    asked = study()
    ids = target.ids
    plan = chain(asked, alone, BY_NAME["network"], Fold(ids[:4], ids[4:]), ("score",), seed=0)
    assert plan.training is not None
    nothing = plan.training.model_copy(update={"steps": 0})
    plan = replace(plan, inner=(), checkpoints=(), training=nothing)
    result = fit([plan], alone.by_name())[plan.key]
    truth = alone.target.targets["score"].to_numpy(float)[alone.target.positions(plan.predict)]
    found = np.array([result.predictions[subject][0] for subject in plan.predict])
    known = np.isfinite(truth)
    return float(np.corrcoef(truth[known], found[known])[0, 1])


def test_adults_on_116_regions_teach_a_network_that_scores_infants_on_90() -> None:
    both = cohorts()
    assert (both.roles["source"].n_regions, both.target.n_regions) == (116, 90)
    assert untaught(both) > 0.4


def test_a_source_of_permuted_outcomes_teaches_nothing() -> None:
    both = cohorts()
    source = both.roles["source"]
    order = np.random.default_rng(0).permutation(source.n_subjects)
    noise = replace(source, targets=source.targets.iloc[order].set_axis(list(source.ids), axis=0))
    assert abs(untaught(both.with_role("source", noise))) < 0.3


@pytest.mark.parametrize("objective", ["masked_edges", "coral", "self_training"])
def test_stage_two_works_between_atlases_with_source_rows_in_their_own_features(objective: str) -> None:
    small = cohorts(n_source=20, n_target=20)
    plan = planned("network", study(steps=4, objective=objective), small)
    stages = [member.stage for member in plan.lineage(without=RANDOM)]
    assert stages == ["source", "pretrain", "adapt", "finetune"]
    results = fit([plan], small.by_name())
    assert all(np.isfinite(values).all() for values in results[plan.key].predictions.values())
    adapted = results[dict(plan.parents)["stage"].key]
    assert np.isfinite(adapted.facts["probe 1, source, age, R2"])


def on_disk(home: Path, asked: StudySettings) -> Path:
    small = cohorts(n_source=12, n_target=12)
    for role, folder in (("source", "older"), ("pool", "pool"), ("target", "target")):
        write_cohort(small.roles[role], home / folder)
    (home / "study.yaml").write_text(dump_settings(asked))
    return home / "study.yaml"


def test_files_of_two_atlases_are_read_for_such_an_encoder_and_refused_for_others(tmp_path: Path) -> None:
    file = on_disk(tmp_path, study())
    read = read_cohorts(load_settings(file, StudySettings), tmp_path)
    assert (read.roles["source"].n_regions, read.target.n_regions) == (116, 90)
    check_names(study(), read)
    bound = study({"kind": "gatv2"})
    with pytest.raises(DataError, match="node_features: identity, readout: attention") as refusal:
        read_cohorts(bound, tmp_path)
    assert "'older'" in str(refusal.value)
    # The remedy in the message works.
    fixed = yaml.safe_load(dump_settings(bound))
    fixed["model"]["encoder"] |= {"node_features": "identity", "readout": "attention", "direct": False}
    read_cohorts(StudySettings.model_validate(fixed), tmp_path)


def test_an_atlas_without_places_is_refused_by_name() -> None:
    small = cohorts(n_source=12, n_target=12)
    nameless = small.with_role("source", replace(small.roles["source"], atlas="my labels"))
    with pytest.raises(UsageError, match=r"locations of the regions of older.*my labels"):
        check_names(study(), nameless)
    strengths = {**FREE, "node_features": "strength"}
    check_names(study(strengths), nameless)


def test_smooth_footprints_are_asked_for_where_atlases_differ() -> None:
    with pytest.raises(UsageError, match="Set smooth"):
        simulate_study(n_source=4, n_pool=4, n_target=4, adult="aal116")
