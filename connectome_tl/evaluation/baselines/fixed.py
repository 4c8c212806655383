"""Table of the fixed baselines of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.baselines.covariates import clinical_only, nuisance_only, prevalence
from connectome_tl.evaluation.baselines.cpm import cpm
from connectome_tl.evaluation.baselines.data import BaselineData, Maker
from connectome_tl.evaluation.baselines.design import Baseline, VolumeFit
from connectome_tl.evaluation.baselines.elastic_net import elastic_net
from connectome_tl.evaluation.baselines.engines.learners import predict_baseline
from connectome_tl.evaluation.baselines.images import (
    pca_gpr,
    quantiles,
    random_encoder,
    volumes,
    volumes_quantiles,
)
from connectome_tl.evaluation.baselines.kernel_ridge import kernel_ridge
from connectome_tl.evaluation.baselines.linear_svm import linear_svm
from connectome_tl.evaluation.baselines.linear_transfer import linear_transfer
from connectome_tl.evaluation.baselines.meta_matching import meta_matching
from connectome_tl.evaluation.baselines.pca_logistic import pca_logistic
from connectome_tl.evaluation.baselines.ridges import linear_all, ridge, tangent_ridge
from connectome_tl.evaluation.baselines.volume_networks import (
    mixed_volumes,
    real_volumes,
    synthetic_volumes,
    two_stage,
)
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.settings.base import Settings, add_block
from connectome_tl.settings.model_table import ModelSpec, register
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.schemes import StudyCohorts

_MAKERS: tuple[Maker, ...] = (
    prevalence,
    nuisance_only,
    clinical_only,
    ridge,
    linear_all,
    tangent_ridge,
    kernel_ridge,
    cpm,
    elastic_net,
    pca_logistic,
    linear_svm,
    linear_transfer,
    meta_matching,
    random_encoder,
    volumes,
    quantiles,
    volumes_quantiles,
    pca_gpr,
    two_stage,
    synthetic_volumes,
    mixed_volumes,
    real_volumes,
)
BASELINES: dict[str, Maker] = {maker.__name__: maker for maker in _MAKERS}
"""Functions by the name of the model, see `settings.model_table.MODELS`."""
_WITHOUT_COLUMNS = "prevalence"


def register_baseline(spec: ModelSpec, maker: Maker, settings: type[Settings] | None = None) -> None:
    """Register the baseline of an extension, which studies may name in `baselines`.

    Args:
        settings: class of its block in `baseline_settings`, with `describe()`; needs a default for every key.

    Raises:
        UsageError: it has no role of a baseline, or another model has its name.
    """
    if spec.role != "baseline":
        raise UsageError(f"model {spec.name!r} is no baseline", got=spec.role)
    register(replace(spec, listed="named"), has_function=True)
    BASELINES[spec.name] = maker
    if settings is not None:
        add_block(StudySettings, "baseline_settings", spec.name, settings())


def baselines_of(
    study: StudySettings, cohorts: StudyCohorts, tasks: Sequence[Task], fits: list[VolumeFit] | None = None
) -> Mapping[str, list[Baseline]]:
    """The baselines of the study whose inputs are available; those on volumes append their fits to `fits`."""
    data = BaselineData(study, cohorts, tuple(tasks), fits)
    made = {name: BASELINES[name](data) for name in study.baselines}
    return {
        name: [one for one in found if one.tasks] for name, found in made.items() if any(one.tasks for one in found)
    }


def baseline_predictions(
    study: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    tasks: Sequence[Task],
    fits: list[VolumeFit] | None = None,
) -> pd.DataFrame:
    """Out-of-fold predictions of the study's baselines, as rows of the prediction table.

    A baseline without inputs (no nuisance variable, for example) is omitted, and so is one whose features cannot be
    computed in some fold (a tangent space of edges that are not correlations).

    Args:
        fits: baselines on volumes append their fits.
    """
    cohort, found = cohorts.target, baselines_of(study, cohorts, tasks, fits)
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in found}
    lacking = set()
    for repeat, number, fold in splits.folds():
        train, test = cohort.positions(fold.train), cohort.positions(fold.test)
        for name, baselines in found.items():
            for baseline in baselines if name not in lacking else ():
                design = baseline.design(fold)
                fold.admit(name, design.fitted_on)
                if not design.train.shape[1] and name != _WITHOUT_COLUMNS:
                    lacking.add(name)
                    break
                for task in baseline.tasks:
                    y = cohort.targets[task.name].to_numpy(float)
                    made = predict_baseline(task, design, y[train], baseline.learner)
                    tables[name].append(
                        prediction_rows(task, name, repeat, number, fold.test, y[test], made, study.threshold)
                    )
    every = [table for name, own in tables.items() if name not in lacking for table in own]
    return pd.concat(every, ignore_index=True) if every else pd.DataFrame()
