"""Convert fits and predictions to result records."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.people import gestational_ages
from connectome_tl.evaluation.clinical.results import ClinicalResults, clinical_results
from connectome_tl.evaluation.nested_cv import CrossValidation
from connectome_tl.plurals import counted
from connectome_tl.report.labels import stage_label
from connectome_tl.settings.model_table import FULL, model_named
from connectome_tl.settings.records.results import NetworkWeight, Prediction, TrainingCurve
from connectome_tl.settings.records.statistics import AdaptationProbe
from connectome_tl.tasks import Task
from connectome_tl.training.core_stage import UNUSED_SOURCE
from connectome_tl.training.plans import RANDOM, FitPlan

_MAIN = (FULL, "core", "network")
_STAGE_ORDER = ("pretrain", "adapt", "finetune")


def training_curves(validation: CrossValidation) -> tuple[TrainingCurve, ...]:
    """Training loss of each stage of each network: median and quartiles over its fits."""
    curves: dict[tuple[str, str], dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for item in validation.planned:
        for plan in item.plans:
            for member in plan.lineage(without=RANDOM):
                curve = validation.results[member.key].curve
                if member.stage in _STAGE_ORDER and len(curve):
                    steps, curve = _steps_of(member, len(curve)), np.asarray(curve)
                    curves.setdefault((member.stage, item.model), {})[member.key] = steps, curve
    records = []
    for (stage, model), by_key in sorted(curves.items(), key=lambda c: _STAGE_ORDER.index(c[0][0])):
        shown = min((steps for steps, _ in by_key.values()), key=lambda s: s[-1])  # fits that stopped early end sooner
        stacked = np.array([np.interp(shown, steps, curve) for steps, curve in by_key.values()])
        low, median, high = np.quantile(stacked, [0.25, 0.5, 0.75], axis=0)
        records.append(
            TrainingCurve(
                stage=stage,
                model=model,
                n_fits=len(stacked),
                step=tuple(shown.tolist()),
                median=tuple(median),
                low=tuple(low),
                high=tuple(high),
            )
        )
    return tuple(records)


def _steps_of(plan: FitPlan, n_points: int) -> np.ndarray:
    """The last step of each point of a training curve, (n_points,) int."""
    assert plan.training is not None
    n_steps = plan.training.steps_for(len(plan.train.ids) - min(map(len, plan.inner), default=0))
    return np.minimum(np.arange(1, n_points + 1) * plan.training.steps_per_point(n_steps), n_steps)


def network_weights(validation: CrossValidation, fact: str = "weight") -> dict[str, tuple[NetworkWeight, ...]]:
    """Weights that fits chose per outcome, over folds and seeds, by model.

    Args:
        fact: `weight` for that of the network in each mixture, `TRANSFERRED` for that of the networks from transferred
            weights in each network.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for item in validation.planned:
        for plan in item.plans:
            for name, value in validation.results[plan.key].facts.items():
                if name.startswith(f"{fact} "):
                    own = found.setdefault(item.model, {})
                    own.setdefault(name.removeprefix(f"{fact} "), []).append(value)
    return {
        model: tuple(
            NetworkWeight(task=task, mean=float(np.mean(own)), low=min(own), high=max(own), n_fits=len(own))
            for task, own in weights.items()
        )
        for model, weights in found.items()
    }


def network_rows(validation: CrossValidation, stage: str) -> tuple[int, int] | None:
    """Smallest and largest number of rows on which a network of one stage of the full model is trained."""
    found = {
        len(member.train.ids) - held_out
        for item in validation.planned
        for plan in (item.plans if item.model == FULL else ())
        for member in plan.lineage(without=RANDOM)
        if member.stage == stage
        for held_out in (map(len, member.inner) if member.inner else (0,))
    }
    return (min(found), max(found)) if found else None


def adaptation_probes(validation: CrossValidation) -> tuple[AdaptationProbe, ...]:
    """Mean probe scores for pool and source during stage 2 of the full model."""
    found: dict[tuple[str, str, str], dict[float, dict[str, float]]] = {}
    for item in validation.planned:
        for plan in item.plans if item.model == FULL else ():
            for member in plan.lineage(without=RANDOM):
                for name, value in validation.results[member.key].facts.items():
                    if name.startswith("probe "):
                        share, cohort, *outcome, metric = name.removeprefix("probe ").split(", ")
                        scores = found.setdefault((cohort, ", ".join(outcome), metric), {})
                        scores.setdefault(float(share), {})[member.key] = value  # folds may share the fit
    return tuple(
        AdaptationProbe.model_validate(
            {
                "cohort": cohort,
                "outcome": outcome,
                "metric": metric,
                "shares": sorted(scores),
                "values": [float(np.mean(list(scores[share].values()))) for share in sorted(scores)],
                "n_fits": len(scores[0.0]),
            }
        )
        for (cohort, outcome, metric), scores in found.items()
    )


def unsettled(validation: CrossValidation) -> tuple[str, ...]:
    """A line per model and stage whose training has not converged; of controls the last stage of the network, once."""
    counts: dict[tuple[str, str, str], set[str]] = {}
    totals: dict[tuple[str, str], set[str]] = {}
    for item in validation.planned:
        for plan in item.plans:
            for member in plan.lineage(without=RANDOM):
                totals.setdefault((item.model, member.stage), set()).add(member.key)
                for note in validation.results[member.key].notes:
                    counts.setdefault((item.model, member.stage, note), set()).add(member.key)
    said: set[str] = set()
    lines = []
    for (model, stage, note), keys in sorted(counts.items(), key=lambda one: _rank(one[0][0])):
        always = model in _MAIN and not (model == FULL and stage in ("core", "finetune"))
        if always or (_rank(model) and stage == "finetune" and not keys <= said):
            where = f"{model_named(model).label} ({stage_label(stage).lower()})"
            lines.append(f"{where}: {note} ({len(keys)} of {len(totals[model, stage])} fits)")
            said |= keys
    return tuple(lines)


def idle_controls(validation: CrossValidation) -> tuple[str, ...]:
    """A line per control with permuted outcomes of the source in which the source was not used in some fits."""
    used: dict[str, dict[str, bool]] = {}
    for item in validation.planned:
        scheme = model_named(item.model).scheme
        for plan in item.plans if scheme is not None and scheme.permuted else ():
            used.setdefault(item.model, {})[plan.key] = UNUSED_SOURCE not in validation.results[plan.key].notes
    return tuple(
        f"{model_named(model).label}: in {sum(not one for one in fits.values())} of {counted(len(fits), 'fit')} no "
        "permuted outcome of the source was predictable; these fits equal those without stage 1 and do not test "
        "whether the outcomes of the source matter"
        for model, fits in used.items()
        if not all(fits.values())
    )


def _rank(model: str) -> int:
    """0 for the models of every study, 1 for controls of the network alone, 2 for others, which share their fits."""
    return 0 if model in _MAIN else 1 if model.startswith("network_") else 2


def prediction_records(table: pd.DataFrame) -> tuple[Prediction, ...]:
    """The prediction table as records, one per row."""
    levels = [name for name in table.columns if name.startswith("p_")]
    rows = table.drop(columns=levels).to_dict("records")
    found = table[levels].to_numpy(dtype=float)
    return tuple(
        Prediction.model_validate(row | {"probabilities": tuple(p[np.isfinite(p)].tolist())})
        for row, p in zip(rows, found, strict=True)
    )


def clinical_record(cohort: Cohort, predictions: pd.DataFrame, tasks: Sequence[Task]) -> ClinicalResults:
    """Calibration, decision curves, subgroups by sex, site and gestational age, sample sizes, missing outcomes."""
    families = cohort.families
    numeric = [spec.column for spec in cohort.covariate_specs if spec.type == "numeric"]
    groups: dict[str, dict[str, str]] = {}
    for spec in cohort.covariate_specs:
        if spec.type == "categorical":
            groups[spec.column] = _texts(cohort, cohort.covariates[spec.column])
    if len({site for site in cohort.site if site}) > 1:
        groups["site"] = dict(zip(cohort.ids, map(str, cohort.site), strict=True))
    born = gestational_ages(cohort)
    if born is not None:
        bands = pd.cut(
            born,
            [0, 28, 32, 37, 50],
            right=False,
            labels=["under 28 weeks", "28 to 31 weeks", "32 to 36 weeks", "37 weeks and more"],
        )
        groups["gestational age"] = _texts(cohort, bands)
    return clinical_results(predictions, tasks, families, cohort.covariates[numeric], groups, cohort.status)


def _texts(cohort: Cohort, column: pd.Series) -> dict[str, str]:
    return {i: "" if pd.isna(value) else str(value) for i, value in zip(cohort.ids, column, strict=True)}
