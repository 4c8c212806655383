"""Check the requests of a study against its cohorts, before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.features.confounds import confound_column
from connectome_tl.features.harmonise import protection_problems
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.schemes import StudyCohorts, learnt_early, modalities_of, schemes_of
from connectome_tl.training.stages import unseen_fit

_NOUNS = {"connectome": "connectomes", "image": "volumes"}


def _idle(study: StudySettings, cohorts: StudyCohorts) -> list[Problem]:
    """Settings that have no effect with the modalities of these cohorts."""
    known = modalities_of(study, cohorts)
    problems: list[Problem] = []
    if study.model.modality_dropout and len(known) == 1:
        problems.append(Problem(f"model.modality_dropout has no effect: the only modality is {known[0]}"))
    if study.devices > 1 and "image" not in known:
        problems.append(Problem("devices has no effect: it is for networks on volumes", remedy="Set devices: 1."))
    return problems


def _confounded(target: Cohort, names: Sequence[str] | None, confounds: Sequence[str]) -> list[Problem]:
    """Outcomes of the study that are removed from its edges, for which the values of tested rows would be used."""
    used = [task for task in target.tasks if names is None or task.name in names]
    removed = [t for t in used if t.column in confounds or ("age" in confounds and target.is_age(t.name))]
    return [
        Problem(
            f"the outcome {task.name!r} is one of confounds.columns: its values in test rows are to be predicted",
            remedy="Take it out of confounds.columns, or name other outcomes in target.tasks.",
        )
        for task in removed
    ]


def check_names(study: StudySettings, cohorts: StudyCohorts) -> None:
    """Check, before anything is written or fitted, that the cohorts have all that the study uses.

    Raises:
        UsageError: lists all problems.
    """
    problems: list[Problem] = []
    if not modalities_of(study, cohorts):
        problems.append(
            Problem(
                f"the target cohort {cohorts.target.name} has neither connectomes nor volumes nor clinical covariates "
                "that the model has an encoder for",
                remedy="Give `connectomes`, `volumes` or `covariates` in its cohort.yaml.",
            )
        )
    problems += _idle(study, cohorts)
    problems += _early_stages(study, cohorts)
    problems += _network_problems(study, cohorts)
    if study.stages.pretrain is not None and study.source is not None and cohorts.source is not None:
        known = {task.name: task for task in cohorts.source.tasks}
        for name in study.source.tasks or known:
            if name not in known:
                expected = f"one of {', '.join(known) or '(none)'}"
                problems.append(
                    Problem(f"source.tasks: no outcome {name!r} in {cohorts.source.name}", expected=expected)
                )
        if not known:
            problems.append(Problem(f"the source cohort {cohorts.source.name} has no outcome to learn"))
    learnt: list[tuple[str, tuple[str, ...] | None]] = [("target", study.target.tasks)]
    if study.source is not None and study.stages.pretrain is not None:
        learnt.append(("source", study.source.tasks))
    for role, names in learnt:
        if role in cohorts.roles:
            cohort = cohorts.roles[role]
            problems += [
                Problem(
                    f"in cohort {cohort.name!r} an outcome of this study, {column!r}, is its own covariate",
                    remedy=f"Name others in {role}.tasks, or give the covariate role: nuisance in its cohort.yaml.",
                )
                for column in cohort.own_covariates(names or [task.name for task in cohort.tasks])
            ]
    confounds = [confound_column(name)[0] for name in (study.confounds.columns if study.confounds else ())]
    problems += _confounded(cohorts.target, study.target.tasks, confounds)
    for cohort in cohorts.roles.values():
        columns = ["age", *cohort.covariates.columns]
        problems += [
            Problem(
                f"confounds.columns: no column {name!r} in cohort {cohort.name}",
                expected=f"one of {', '.join(columns)}",
            )
            for name in confounds
            if name not in columns
        ]
        if study.harmonise.method != "none" and cohort.regions:
            problems += [
                replace(problem, what=f"harmonise.protect: {problem.what}")
                for problem in protection_problems(cohort, study.harmonise.protect)
            ]
    clinical = [spec.column for spec in clinical_specs(cohorts.target.covariate_specs)]
    problems += [
        Problem(
            f"core.unpenalised: {name!r} is not a clinical covariate of {cohorts.target.name}",
            expected=f"one of {', '.join(clinical) or '(none)'}",
        )
        for name in study.core.unpenalised
        if name not in clinical
    ]
    raise_all("the study requires data that its cohorts do not have", problems, UsageError)


def check_inputs(study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan) -> None:
    """Check that models of volumes alone have a training row with a volume in every fold, before anything is fitted.

    Raises:
        UsageError: names a fold and a model without.
    """
    target, known = cohorts.target, modalities_of(study, cohorts)
    alone = [scheme.name for scheme in schemes_of(study, cohorts) if {*known} - scheme.without == {"image"}]
    for repeat, number, fold in splits.folds() if alone else ():
        if not any(target.volumes[i] for i in target.positions(fold.train)):
            others = ", or leave the model out of controls" if alone[0] in study.controls else ""
            raise UsageError(
                f"no training subject has a volume, the only input of {alone[0]}",
                got=f"repeat {repeat + 1}, fold {number + 1}",
                remedy=f"Set other splits{others}.",
            )


def check_embedded(target: Cohort, splits: SplitPlan) -> None:
    """Refuse precomputed embeddings without a fit for each fold, inner ones included, before anything is fitted.

    Raises:
        LeakageError: the encoder of every fit was trained on a test row of a fold, or on a relative.
    """
    if target.embeddings is None:
        return
    for _, _, fold in splits.folds():
        unseen_fit(target, fold)
        for inner in fold.inner:
            unseen_fit(target, Fold(inner.train, (*inner.test, *fold.test)))


def check_bins(study: StudySettings, target: Cohort, splits: SplitPlan) -> None:
    """Check that synthetic volumes can be made in every fold: a fixed age bin holds two training subjects.

    Raises:
        UsageError: names a fold without two subjects of one bin.
    """
    synthesis = study.baseline_settings.synthetic_volumes.synthesis
    if synthesis.bin_width == "auto" or not {"synthetic_volumes", "mixed_volumes"} & set(study.baselines):
        return
    for name in target.targets.columns[[task.form == "value" for task in target.tasks]] if any(target.volumes) else ():
        for repeat, number, fold in splits.folds():
            at = target.positions(fold.train)
            values = target.targets[name].to_numpy(float)[at]
            known = values[np.isfinite(values) & np.array([bool(target.volumes[i]) for i in at])]
            if len(np.unique(np.floor(known / synthesis.bin_width))) == len(known):
                raise UsageError(
                    f"no two training subjects of repeat {repeat + 1}, fold {number + 1} are in one bin of {name}",
                    got=f"baseline_settings.synthetic_volumes.synthesis.bin_width: {synthesis.bin_width:g}",
                    remedy="Set a larger bin_width, or auto.",
                )


def _network_problems(study: StudySettings, cohorts: StudyCohorts) -> list[Problem]:
    """Problems of cohorts that lack inputs of the encoder or objective."""
    problems = []
    asked = study.model.encoder
    learnt = {"source": study.stages.pretrain, "pool": study.stages.adapt, "target": study.stages.finetune}
    used = [cohort for role, cohort in cohorts.roles.items() if learnt.get(role) is not None and cohort.regions]
    if asked.needs_places:
        problems += [
            Problem(
                f"model.encoder.node_features: identity needs the locations of the regions of {cohort.name}, which "
                f"its atlas ({cohort.atlas}) does not have",
                remedy="Use an atlas with centroids (connectome-tl atlas list), or node_features: strength.",
            )
            for cohort in used
            if cohort.places is None
        ]
    if len({cohort.region_feature_names for cohort in used}) > 1:
        have = ", ".join(f"{c.name}: {', '.join(c.region_feature_names) or 'none'}" for c in used)
        problems.append(
            Problem(
                "the cohorts have different regional measures, which one encoder cannot read",
                got=have,
                remedy="Name the same region_features in each cohort.yaml, or leave them out everywhere.",
            )
        )
    adapt, pool = study.stages.adapt, cohorts.pool
    if adapt is not None and pool is not None and adapt.objective.needs_age and not np.isfinite(pool.age).any():
        problems.append(
            Problem(
                f"adaptation by {adapt.objective.describe()} needs the ages of the pool, and {pool.name} has none",
                remedy="Give age in its cohort.yaml, or use another stages.adapt.objective.",
            )
        )
    if adapt is not None and pool is not None and adapt.objective.needs_labels and not any(pool.volume_labels):
        problems.append(
            Problem(
                f"adaptation by {adapt.objective.describe()} needs label maps, and the pool {pool.name} has none",
                expected="volumes.labels in its cohort.yaml",
                remedy="Name the label maps there, or set stages.adapt.objective.classes to a number.",
            )
        )
    return problems


def _early_stages(study: StudySettings, cohorts: StudyCohorts) -> list[Problem]:
    """Problems of earlier stages whose cohort lacks their inputs."""
    problems = []
    known = [m for m in modalities_of(study, cohorts) if m in _NOUNS] or ["connectome"]
    stages = {"pretrain": ("source", study.stages.pretrain), "adapt": ("pool", study.stages.adapt)}
    for stage, (role, asked) in stages.items():
        cohort = cohorts.roles.get(role)
        if asked is None or cohort is None:
            continue
        nouns = " or ".join(_NOUNS[m] for m in known)
        early = learnt_early(study, cohorts, role)
        if not early:
            problems.append(
                Problem(
                    f"stage {stage} learns from {nouns}, and the {role} cohort {cohort.name} has none",
                    remedy=f"Give them in its cohort.yaml, or set stages.{stage}: null.",
                )
            )
    adapt, pool = study.stages.adapt, cohorts.pool
    if adapt is not None and pool is not None and not problems:
        wanted, early = adapt.objective.modality, learnt_early(study, cohorts, "pool")
        if wanted not in early:
            problems.append(
                Problem(
                    f"stage adapt minimises {adapt.objective.describe()}, which needs {_NOUNS.get(wanted, wanted)}",
                    got=f"{' and '.join(_NOUNS[m] for m in early)} in the pool {pool.name} and the model",
                    remedy="Name another kind of stages.adapt.objective (masked_volume for volumes), or set "
                    "stages.adapt: null.",
                )
            )
    return problems
