"""Compute the results of a study: scores, comparisons, tests, verdicts, warnings.

Nothing is fitted here: all fits have been made before (`workflows.run`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from connectome_tl import __version__
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.describing import describe
from connectome_tl.cohort.findings import is_benign
from connectome_tl.cohort.people import people_of
from connectome_tl.cohort.splits import SplitPlan, stratum_of
from connectome_tl.evaluation.clinical.recalibration import recalibration_results
from connectome_tl.evaluation.learning_curve import points
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.evaluation.permutation.tests import families_and_sites, n_arrangements, permutation_results
from connectome_tl.evaluation.scores.compare import comparisons, without_network
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.features.modalities import both_are_many
from connectome_tl.features.tangent import holds_correlations
from connectome_tl.plurals import counted
from connectome_tl.provenance import content_hash, versions
from connectome_tl.report.text.methods import StudyFacts, methods_paragraph
from connectome_tl.report.text.verdict import task_verdicts
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.model_table import FULL, in_order, model_named
from connectome_tl.settings.records.results import LearningPoint, PermutationResult, RunRecord, Score
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task, values_of
from connectome_tl.training.networks.random_start import TRANSFERRED
from connectome_tl.training.schemes import StudyCohorts, modalities_of, scored_by_source
from connectome_tl.workflows.study.fitting import Found, permutation_notes
from connectome_tl.workflows.study.presence import presence_notes
from connectome_tl.workflows.study.records import (
    adaptation_probes,
    clinical_record,
    idle_controls,
    network_rows,
    network_weights,
    prediction_records,
    training_curves,
    unsettled,
)
from connectome_tl.workflows.study.synthetic import copies, synthetic_tables
from connectome_tl.workflows.study.tuned import optimism


@dataclass(frozen=True, eq=False)
class Judgement:
    """Contents of the report, and provenance."""

    record: RunRecord
    provenance: dict[str, Any]


def measure(settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, found: Found) -> RunRecord:
    """Compute scores with intervals, paired differences and permutation tests; the record has no sentences yet."""
    target = cohorts.target
    tasks = tasks_of(settings, cohorts)
    families = target.families
    few = settings.splits.n_labelled
    scored = scores(found.predictions, tasks, families, n_labelled=few)
    mixed, probes = network_weights(found.validation), adaptation_probes(found.validation)
    weights = mixed.get(FULL, ())
    kfold = settings.splits.scheme == "kfold"
    differences = comparisons(found.predictions, tasks, families, kfold=kfold, n_labelled=few)
    # With network weight 0, a stage can still have an effect through source scores in the core.
    network_only = ["core", "no_adapt"] + ([] if _has_source_scores(settings, cohorts) else ["no_pretrain", "scratch"])
    differences = without_network(differences, mixed, network_only)
    possible = _arrangements(target)
    tests = [
        *_tests(found.permuted, tasks, possible),
        *found.beyond_clinical.results,
        *_baseline_tests(found, possible),
    ]
    described = {role: describe(cohort, role) for role, cohort in cohorts.roles.items()}  # type: ignore[arg-type]
    hashes = {name: cohort.rows_hash(cohort.ids) for name, cohort in cohorts.by_name().items()}
    provenance = {
        "settings": content_hash(settings.decisive),
        "configuration": content_hash(settings.nameless, hashes),
        "infants": content_hash(sorted(target.ids)),
        "split_plan": splits.hash,
        "seed": str(settings.seed),
        **{f"cohort {name}": value for name, value in hashes.items()},
    }
    return RunRecord(
        title=settings.title,
        tasks=tasks,
        cohorts=tuple(described[role] for role in ("target", "pool", "source") if role in described),
        verdicts=(),
        scores=tuple(scored),
        comparisons=tuple(differences),
        permutations=tuple(tests),
        **vars(clinical_record(target, found.predictions, tasks)),
        recalibrated=()
        if found.recalibrated is None
        else recalibration_results(found.predictions, found.recalibrated, tasks, families, settings.recalibration, few),
        instability=tuple(found.instability),
        missingness=_leading(
            scores(found.missingness, tasks, families, n_labelled=few) if len(found.missingness) else [], tasks
        ),
        curves=training_curves(found.validation),
        learning_curve=_curve(found.curve, scored, tasks, splits),
        predictions=prediction_records(found.predictions),
        network_weights=weights,
        transferred_weights=network_weights(found.validation, TRANSFERRED).get("network", ()),
        optimism=optimism(settings.tuned, scored),
        tuned_folds=() if settings.tuned is None else settings.tuned.folds,
        probes=probes,
        age_gaps=() if found.gaps is None else found.gaps.scores,
        tables=synthetic_tables(found.volume_fits),
        transductive=settings.stages.adapt is not None and settings.stages.adapt.transductive,
        simulated=any(cohort.simulated for cohort in cohorts.by_name().values()),
        exploratory=bool(settings.leaks) or any(cohort.exploratory for cohort in cohorts.by_name().values()),
        split_hash=splits.hash,
        provenance=provenance,
        versions=versions(),
    )


def judge(
    settings: StudySettings,
    cohorts: StudyCohorts,
    splits: SplitPlan,
    found: Found,
    measured: RunRecord | None = None,
) -> Judgement:
    """Add verdicts by the fixed rule, the methods paragraph and warnings to the numbers of a run.

    Args:
        measured: the result of `measure`, if it is known.
    """
    record = measured or measure(settings, cohorts, splits, found)
    facts = replace(_facts(settings, cohorts, splits, found), probes=record.probes)
    tasks, tests = record.tasks, record.permutations
    verdicts = task_verdicts(
        tasks,
        record.scores,
        record.comparisons,
        tests,
        noun=facts.people["target"].rows,
        weights=record.network_weights,
        transferred=record.transferred_weights,
        probes=record.probes,
    )
    sentences = {
        "verdicts": tuple(verdicts),
        "methods": methods_paragraph(settings, facts, tasks),
        "warnings": (
            *_warnings(settings, cohorts, tasks, splits),
            *permutation_notes(settings, cohorts.target, tasks),
            *found.beyond_clinical.notes,
            *idle_controls(found.validation),
            *unsettled(found.validation),
            *copies(found.volume_fits),
        ),
        "notes": _notes(cohorts, benign=True),
    }
    sources = {name: cohort.sources for name, cohort in cohorts.by_name().items()}
    provenance = {**record.provenance, "inputs": sources, "seed": settings.seed, "versions": versions()}
    return Judgement(record.model_copy(update=sentences), provenance)


def _leading(found: Sequence[Score], tasks: Sequence[Task]) -> tuple[Score, ...]:
    primary = {task.name: task.spec.primary for task in tasks}
    return tuple(score for score in found if score.metric == primary[score.task])


def _curve(
    smaller: Sequence[LearningPoint], scored: Sequence[Score], tasks: Sequence[Task], splits: SplitPlan
) -> tuple[LearningPoint, ...]:
    """The learning curve with the study's scores as its last point; empty if not requested."""
    if not smaller:
        return ()
    whole = int(np.median([len(fold.train) for _, _, fold in splits.folds()]))
    drawn = {point.model for point in smaller}
    return (*smaller, *(point for point in points(scored, tasks, whole) if point.model in drawn))


_FEW_ARRANGEMENTS = 10_000
_TESTED = {
    "core": "outcome rows moved between exchangeable subjects, the core fitted again each time, first repeat",
    "full": "outcome rows moved between exchangeable subjects, core and network fitted again each time, first repeat",
}


def _arrangements(target: Cohort) -> str:
    """The number of possible arrangements, where it is small."""
    possible = n_arrangements(target.ids, *families_and_sites(target))
    return f", {possible} possible arrangements" if possible < _FEW_ARRANGEMENTS else ""


def _tests(permuted: dict[str, np.ndarray], tasks: Sequence[Task], possible: str) -> list[PermutationResult]:
    question = "Does the model predict better than chance?"
    return [
        result
        for model, statistics in permuted.items()
        for result in permutation_results(statistics, tasks, model, question, f"{_TESTED[model]}{possible}")
    ]


def _baseline_tests(found: Found, possible: str) -> list[PermutationResult]:
    """Permutation tests of the baselines, each corrected over its outcomes."""
    question = "Does the model predict better than chance?"
    method = "outcome rows moved between exchangeable subjects, everything chosen and fitted again, first repeat"
    method += possible
    return [
        result
        for model, (tasks, statistics) in found.permuted_baselines.items()
        for result in permutation_results(statistics, tasks, model, question, method)
    ]


def _facts(settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, found: Found) -> StudyFacts:
    target, source = cohorts.target, cohorts.source
    use = settings.source
    names = use.tasks if use is not None and use.tasks is not None else None
    connected = "connectome" in modalities_of(settings, cohorts)
    train = splits.repeats[0][0].train
    there = target.node_mask[target.positions(train)].any(axis=1)
    present = set(found.predictions["model"].astype(str))
    return StudyFacts(
        version=__version__,
        people={role: people_of(cohort) for role, cohort in cohorts.roles.items()},
        n_train=network_rows(found.validation, "finetune") or (0, 0),
        n_adapt=network_rows(found.validation, "adapt") or (0, 0),
        n_regions=target.n_regions,
        atlas=target.atlas,
        measures=target.measures,
        modalities=modalities_of(settings, cohorts),
        source_tasks=() if source is None else names or tuple(task.name for task in source.tasks),
        families=any(name for name in target.family),
        stratum=stratum_of(target, settings.splits) or "",
        sites=len({site for site in target.site if site}),
        tangent=connected and settings.edges.tangent is None and holds_correlations(target, train),
        regional=connected and bool(target.region_feature_names),
        presence=connected and both_are_many(there),
        source_scores=_has_source_scores(settings, cohorts),
        baselines=tuple(name for name in in_order(present) if model_named(name).role == "baseline"),
        permuted=tuple(found.permuted_baselines),
        origins=tuple(dict.fromkeys(cohort.origin for cohort in cohorts.roles.values() if cohort.origin)),
        contrasts={
            role: c.volume_contrast for role, c in cohorts.roles.items() if any(c.volumes) and c.volume_contrast
        },
        regressions=any(values_of(cohort.tasks) for cohort in cohorts.roles.values()),
    )


def _has_source_scores(settings: StudySettings, cohorts: StudyCohorts) -> bool:
    return settings.stages.pretrain is not None and bool(scored_by_source(settings, cohorts))


def _notes(cohorts: StudyCohorts, *, benign: bool) -> tuple[str, ...]:
    """Notes of all cohorts: those that need no action, or the others."""
    return tuple(
        f"{cohort.name}: {note}"
        for cohort in cohorts.by_name().values()
        for note in cohort.notes
        if is_benign(note) == benign
    )


def _warnings(
    settings: StudySettings, cohorts: StudyCohorts, tasks: Sequence[Task], splits: SplitPlan
) -> tuple[str, ...]:
    target = cohorts.target
    found = list(_notes(cohorts, benign=False))
    for task in tasks:
        values = target.targets[task.name]
        if task.is_binary:
            subjects = np.array(target.children or target.ids)
            smaller = min(len(set(subjects[values == level])) for level in (0, 1))
            if smaller < 10:
                found.append(
                    f"{task.name}: only {counted(smaller, 'subject')} in the smaller class; every interval is wide."
                )
    found += [f"Leak: {leak}. The scores are too good; they show the effect of this error." for leak in settings.leaks]
    if settings.devices > 1 and any(getattr(one, "norm", "") == "batch" for one in settings.model.branches.values()):
        found.append(
            f"devices: {settings.devices} with norm: batch: statistics are those of each process's share of a batch, "
            "so that results differ from those of one process."
        )
    if settings.stages.adapt is not None and settings.stages.adapt.transductive:
        found.append("Transductive: stage 2 used the images of test subjects (not their outcomes).")
    if not any(name for name in target.family):
        found.append("No family column: twins and siblings, if any, may be on both sides of a fold.")
    if settings.splits.repeats == 1 and settings.splits.scheme == "kfold":
        found.append("One repeat only: scores also depend on the random folds.")
    if "image" in settings.model.branches and not any(target.volumes):
        found.append("The target cohort has no volumes: the encoder of images is not used.")
    found += presence_notes(target, modalities_of(settings, cohorts), splits)
    return (*found, *(note for task in tasks if (note := _folds_without_pairs(task, target, splits))))


def _folds_without_pairs(task: Task, target: Cohort, splits: SplitPlan) -> str:
    """A note on test folds, for example sites, whose subjects have equal outcomes; empty if all or none do."""
    if task.form == "value":
        return ""
    known = target.targets[task.name].dropna()
    parts = [known[known.index.isin(fold.test)] for _, _, fold in splits.folds()]
    equal = [part for part in parts if part.nunique() < 2]
    if not equal or len(equal) == len(parts):
        return ""
    who = counted(len({subject for part in equal for subject in part.index}), "subject")
    return (
        f"{task.name}: {len(equal)} of {len(parts)} test folds "
        f"{'has' if len(equal) == 1 else 'have'} no two different outcomes; the ranks of {who} in "
        f"{'it' if len(equal) == 1 else 'them'} do not affect the {metric_named(task.spec.tested).label}."
    )
