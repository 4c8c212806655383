"""What a study asks for against what its cohorts have, before anything is written or fitted."""

from __future__ import annotations

from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.features.confounds import confound_column
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.schemes import StudyCohorts, learnt_early, modalities_of

_NOUNS = {"connectome": "connectomes", "image": "volumes"}


def check_names(study: StudySettings, cohorts: StudyCohorts) -> None:
    """Refuse what the cohorts do not have before anything is written or fitted.

    Raises:
        UsageError: with all of it.
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
    problems += _early_stages(study, cohorts)
    problems += _mixup(study, cohorts)
    if study.stages.pretrain is not None and study.source is not None and cohorts.source is not None:
        known = {task.name: task for task in cohorts.source.tasks}
        for name in study.source.tasks or tuple(known):
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
    asked_columns = {
        "confounds.columns": [confound_column(name)[0] for name in study.confounds.columns] if study.confounds else [],
        "harmonise.protect": list(study.harmonise.protect) if study.harmonise.method != "none" else [],
    }
    for cohort in cohorts.roles.values():
        columns = ["age", *cohort.covariates.columns]
        problems += [
            Problem(f"{setting}: no column {name!r} in cohort {cohort.name}", expected=f"one of {', '.join(columns)}")
            for setting, names in asked_columns.items()
            for name in names
            if name not in columns
        ]
    raise_all("the study asks for what its cohorts do not have", problems, UsageError)


def _early_stages(study: StudySettings, cohorts: StudyCohorts) -> list[Problem]:
    """Earlier stages whose cohort lacks what they would learn from."""
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
                    remedy=f"Give them in its cohort.yaml, or say stages.{stage}: null.",
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
                    remedy="Name another kind of stages.adapt.objective (masked_volume for volumes), or say "
                    "stages.adapt: null.",
                )
            )
    return problems


def _mixup(study: StudySettings, cohorts: StudyCohorts) -> list[Problem]:
    known = modalities_of(study, cohorts)
    if not study.image.augment.mixup or "image" not in known:
        return []
    if known != ("image",):
        others = ", ".join(m for m in known if m != "image")
        return [
            Problem(
                "mixup mixes volumes, and the model sees more than volumes",
                got=others,
                remedy="Say image.augment.mixup: 0, or leave the others out of the cohort.",
            )
        ]
    kinds = {task.kind for cohort in (cohorts.target, cohorts.source) if cohort for task in cohort.tasks}
    wrong = sorted(kinds & {"ordinal", "multiclass"})
    if wrong:
        return [Problem(f"mixup mixes outcomes, and an outcome is {wrong[0]}", remedy="Say image.augment.mixup: 0.")]
    return []
