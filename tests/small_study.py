"""Three small simulated cohorts, and the settings to train on them in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.provenance import canonical_json
from connectome_tl.report.figures.sheet import Figure, Sheet
from connectome_tl.settings.encoders import ClinicalEncoder, FlatEncoder, GraphEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import CohortUse, Refits, SplitSettings, StudySettings
from connectome_tl.settings.training import Adapt, Ensemble, FineTune, Pretrain, Stages, Training
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.training.checkpoint import FitResult, tensor_bytes
from connectome_tl.training.plans import RANDOM, FitPlan
from connectome_tl.training.schemes import BY_NAME, StudyCohorts
from connectome_tl.training.stages import chain

TASKS = ("cognitive", "motor_score")
CLINICAL = ClinicalEncoder(width=3)
GRAPH = ModelSettings(
    encoder=GraphEncoder(width=4, embedding=6, dropout=0.2), clinical=CLINICAL, fused_width=5, dropout=0.1
)
FLAT = ModelSettings(encoder=FlatEncoder(widths=(7, 4)), clinical=CLINICAL, fused_width=5)


@cache
def small_cohorts(
    *, n_source: int = 24, n_pool: int = 14, n_target: int = 24, n_regions: int = 12, seed: int = 0, effect: float = 1.0
) -> StudyCohorts:
    """The cohorts of `simulate_study`, restricted to the regions with an effect and two that one infant lacks."""
    study = simulate_study(seed=seed, n_source=n_source, n_pool=n_pool, n_target=n_target, effect=effect)
    weight = np.abs(study.pattern).sum(axis=0)
    strong = [study.target.regions[i] for i in np.argsort(-weight, kind="stable")]
    names = list(dict.fromkeys([*strong[: n_regions - 2], "OLF.L", "OLF.R", *strong]))[:n_regions]
    names.sort(key=load_atlas("unc_aal90").names.index)
    roles = {"target": study.target, "source": study.source, "pool": study.pool}
    return StudyCohorts({role: cut(cohort, names) for role, cohort in roles.items()})


def cut(cohort: Cohort, names: Sequence[str]) -> Cohort:
    """The cohort with these regions only, in this order."""
    at = [cohort.regions.index(name) for name in names]
    features = cohort.region_features
    return replace(
        cohort,
        regions=tuple(names),
        weights=np.ascontiguousarray(cohort.weights[:, :, at][:, :, :, at]),
        node_mask=np.ascontiguousarray(cohort.node_mask[:, at]),
        region_features=None if features is None else features[:, at],
    )


def with_rows(cohort: Cohort, ids: Sequence[str], **changed: Any) -> Cohort:
    """The cohort with the rows of `ids` of some arrays overwritten: `weights=nan`, or one array per name."""
    rows = cohort.positions(ids)
    new = {}
    for name, value in changed.items():
        array = np.array(getattr(cohort, name), copy=True)
        array[rows] = value
        new[name] = array
    return replace(cohort, **new)


@contextmanager
def figures_left_out() -> Iterator[None]:
    """Pages have empty figures. Drawing takes most of the time of a page."""

    def draw(sheet: Sheet, make: object, title: str, note: str = "", wide: bool = False) -> list[Figure]:
        return [Figure("", title, note, wide)]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Sheet, "draw", draw)
        yield


def with_correlations(cohort: Cohort, seed: int = 0) -> Cohort:
    """The cohort with correlations of time series as edges, without missing regions."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(cohort.n_regions) + 0.3 * np.random.default_rng(99).normal(size=(cohort.n_regions,) * 2)
    found = [np.corrcoef((rng.normal(size=(40, cohort.n_regions)) @ mixing).T) for _ in cohort.ids]
    weights = np.array(found, dtype=np.float32)[:, None]
    return replace(cohort, weights=weights, node_mask=np.ones_like(cohort.node_mask), measures=("correlation",))


def small_settings(*, model: ModelSettings = GRAPH, steps: int = 6, **changed: Any) -> StudySettings:
    """All three stages, few steps, two networks, few refits."""
    return StudySettings(
        **{
            "source": CohortUse(cohort="older/cohort.yaml", tasks=("age", "sex")),
            "pool": CohortUse(cohort="pool/cohort.yaml"),
            "target": CohortUse(cohort="target/cohort.yaml", tasks=TASKS),
            "stages": Stages(
                # with so few older subjects the source is uninformative, but tests need its transfer
                pretrain=Pretrain(training=Training(steps=steps, batch_size=10), use_if="always"),
                adapt=Adapt(training=Training(steps=steps, batch_size=8)),
                finetune=FineTune(
                    training=Training(steps=steps, part_learning_rates={"connectome": 0.5}),
                    ensemble=Ensemble(networks=2, checkpoints=(0.0, 0.5)),
                ),
            ),
            "model": model,
            "splits": SplitSettings(repeats=1, outer=3, stratum="cognitive"),
            "refits": Refits(linear=5),
            "n_jobs": 1,
            **changed,
        }
    )


def last_stage(finetune: FineTune) -> Stages:
    """The last stage alone, without the settings of transferred weights."""
    training = finetune.training.model_copy(update={"part_learning_rates": {}})
    return Stages(pretrain=None, adapt=None, finetune=finetune.model_copy(update={"training": training}))


def plan_of(
    fold: Fold,
    study: StudySettings | None = None,
    *,
    cohorts: StudyCohorts | None = None,
    scheme: str = "full",
    seed: int = 0,
    **changed: Any,
) -> FitPlan:
    """The plan of one model on a fold, with some fields replaced."""
    plan = chain(study or small_settings(), cohorts or small_cohorts(), BY_NAME[scheme], fold, TASKS, seed=seed)
    return replace(plan, **changed)


def retrained(plan: FitPlan, **training: Any) -> FitPlan:
    """The same plan of a network with some training settings replaced."""
    assert plan.training is not None
    return replace(plan, training=plan.training.model_copy(update=training))


def not_averaged(plan: FitPlan) -> FitPlan:
    """The same plan of a network, not averaged with networks from random weights."""
    return replace(plan, parents=tuple(one for one in plan.parents if one[0] != RANDOM))


def fitted_bytes(result: FitResult) -> bytes:
    """Everything that was fitted: arrays, plain content, training curve, seen rows; no prediction."""
    plain = [result.plain, result.facts, result.notes, sorted(result.rows), list(result.tasks)]
    held_out = {f"held_out/{subject}": np.asarray(values) for subject, values in result.held_out.items()}
    return tensor_bytes({**result.arrays, **held_out, "curve": result.curve}) + canonical_json(plain).encode()


def all_bytes(result: FitResult) -> bytes:
    """Everything that was fitted, and what it predicts."""
    predictions = {subject: np.asarray(values) for subject, values in result.predictions.items()}
    return fitted_bytes(result) + tensor_bytes(predictions) + canonical_json(result.predicted).encode()


def weights_of(result: FitResult) -> dict[str, np.ndarray]:
    """Parameters of a fit of one network."""
    (name,) = result.plain["states"]
    prefix = f"state/{name}/"
    return {key.removeprefix(prefix): value for key, value in result.arrays.items() if key.startswith(prefix)}
