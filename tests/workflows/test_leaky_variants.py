"""Errors of published code as settings: they run, increase the score by the leak, and are reported everywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from voxel_study import STUDY, write_study

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.nested_cv import plan_folds, tasks_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import NetworkModel, outputs_of, to_batch
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.images.grids import with_grids
from connectome_tl.workflows.study.run import read_cohorts, run_study
from connectome_tl.workflows.study.study_run import StudyRun

pytestmark = pytest.mark.usefixtures("without_figures")

LEAKY = ["stages.finetune.ensemble.choose_on=tested", "splits.families=ignored"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen infants, eight pairs of twins."""
    training = {"steps": 4, "learning_rate": 0.02}
    changed = {
        "source": None,
        "pool": None,
        "stages": {"finetune": {"training": training, "ensemble": {"networks": 2, "checkpoints": [0.25, 0.5]}}},
        "baselines": ["prevalence"],
        "controls": [],
    }
    file = write_study(tmp_path_factory.mktemp("leaky"), n=16, **changed)
    cohort = file.parent / "target" / "cohort.yaml"
    described = yaml.safe_load(cohort.read_text())
    table = cohort.parent / described["participants"]
    rows = pd.read_csv(table, sep="\t", dtype=str)
    rows["family"] = [f"F{i // 2}" for i in range(len(rows))]
    rows.to_csv(table, sep="\t", index=False)
    cohort.write_text(yaml.safe_dump({**described, "family": "family"}))
    return file


@pytest.fixture(scope="module")
def run(study: Path) -> StudyRun:
    settings = load_settings(study, StudySettings, overrides=LEAKY)
    return run_study(settings, study.parent / "run", base=study.parent)


def test_the_step_is_the_one_that_the_tested_outcomes_like_best(study: Path) -> None:
    """Networks stopped at each checkpoint are the oracle; the last one is best if all tested subjects are injured."""
    settings = load_settings(study, StudySettings, overrides=LEAKY[:1])
    cohorts = with_grids(settings, read_cohorts(settings, study.parent), study.parent / "grids")
    splits = make_split_plan(cohorts.target, settings.splits)
    test = splits.repeats[0][0].test

    def fitted(asked: StudySettings, target: Cohort) -> tuple[NetworkModel, frozenset[str]]:
        known = StudyCohorts({"target": target})
        planned = plan_folds(asked, known, splits, tasks_of(asked, known))
        plan = next(one for one in planned if one.model == "network").plans[0]
        found = fit([plan], known.by_name(), store=None)[plan.key]
        return NetworkModel.of(found.arrays, found.plain), found.rows

    def with_outcomes(tested: float) -> Cohort:
        """Three of four training rows are injured, and all tested ones or none."""
        outcome = pd.Series(1.0, index=list(cohorts.target.ids))
        outcome[list(splits.repeats[0][0].train[::4])] = 0.0
        outcome[list(test)] = tested
        return replace(cohorts.target, targets=cohorts.target.targets.assign(injury=outcome))

    def logits(model: NetworkModel) -> np.ndarray:
        batch = to_batch(model.features.rows(cohorts.target, test)).prepared()
        return np.array([outputs_of(net, batch)[:, 0] for net in model.networks("injury")])

    def stopped(steps: int) -> NetworkModel:
        keys = {"stages.finetune.training.steps": steps, "stages.finetune.ensemble.checkpoints": ()}
        forced = settings.with_settings({**keys, "stages.finetune.ensemble.choose_on": "held_out"})
        return fitted(forced, with_outcomes(1.0))[0]

    models = {steps: stopped(steps) for steps in (1, 2, 4)}
    said = {steps: logits(model) for steps, model in models.items()}
    assert (np.diff([one.mean() for one in said.values()]) > 0).all()  # most of the training rows are injured
    chosen = []
    for tested in (1.0, 0.0):
        model, rows = fitted(settings, with_outcomes(tested))
        losses = {steps: np.logaddexp(0, -(2 * tested - 1) * one).mean() for steps, one in said.items()}
        (step,) = {int(name.split("/")[1]) for name in model.shares["injury"]}
        assert losses[step] == pytest.approx(min(losses.values()), abs=1e-6)
        assert set(test) <= rows  # the fit names the subjects it has seen
        chosen.append(step)
    assert chosen == [4, 1]


def test_families_are_split_where_a_study_asks_for_it(study: Path, run: StudyRun) -> None:
    settings = load_settings(study, StudySettings)
    target = read_cohorts(settings, study.parent).target
    family = dict(zip(target.ids, target.family, strict=True))

    def shared(plan: SplitPlan) -> int:
        return sum(len({family[i] for i in f.train} & {family[i] for i in f.test}) for _, _, f in plan.folds())

    assert shared(make_split_plan(target, settings.splits)) == 0
    assert shared(SplitPlan.load(run.folder / "split_plan.json")) > 0


def test_every_page_says_it(run: StudyRun) -> None:
    page = run.report.read_text("utf-8")
    assert run.record.exploratory
    assert "Exploratory" in page
    for leak in ("choose_on: tested", "families: ignored"):
        assert leak in page
        assert any(leak in warning for warning in run.record.warnings)


def test_the_audit_names_it(run: StudyRun) -> None:
    found = {one.check: one for one in audit_run(run.folder).findings}
    named = found["settings that leak"]
    assert named.status == "failed"
    assert "choose_on: tested" in named.what
    assert "families: ignored" in named.what
    assert found["poisoned test fold"].status == "skipped"
    assert found["networks fitted again (all folds)"].status == "passed"
    assert any("family" in one.what for one in found.values() if one.status == "failed")


def test_an_honest_study_does_not_leak_and_a_leak_is_not_tested_by_permutation(study: Path) -> None:
    settings = load_settings(study, StudySettings)
    assert settings.leaks == ()
    assert StudySettings.model_validate(STUDY).leaks == ()
    with pytest.raises(UsageError, match="network_permutations need"):
        load_settings(study, StudySettings, overrides=[LEAKY[0], "network_permutations=19"])
