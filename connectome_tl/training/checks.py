"""What a study asks for against what its cohorts have, before anything is written or fitted."""

from __future__ import annotations

from dataclasses import replace

from connectome_tl.errors import Problem, UsageError, raise_all
from connectome_tl.features.confounds import confound_column
from connectome_tl.features.harmonise import protection_problems
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.schemes import StudyCohorts, modalities_of


def check_names(study: StudySettings, cohorts: StudyCohorts) -> None:
    """Refuse what the cohorts do not have before anything is written or fitted.

    Raises:
        UsageError: with all of it.
    """
    problems: list[Problem] = []
    if not modalities_of(study, cohorts):
        problems.append(
            Problem(
                f"the target cohort {cohorts.target.name} has neither connectomes nor clinical covariates",
                remedy="Give `connectomes` or `covariates` in its cohort.yaml.",
            )
        )
    stages = {"pretrain": ("source", study.stages.pretrain), "adapt": ("pool", study.stages.adapt)}
    for stage, (role, asked) in stages.items():
        cohort = cohorts.roles.get(role)
        if asked is not None and cohort is not None and not cohort.regions:
            problems.append(
                Problem(
                    f"stage {stage} learns from connectomes, and the {role} cohort {cohort.name} has none",
                    remedy=f"Give them in its cohort.yaml, or say stages.{stage}: null.",
                )
            )
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
    for cohort in cohorts.roles.values():
        columns = ["age", *cohort.covariates.columns]
        problems += [
            Problem(
                f"confounds.columns: no column {name!r} in cohort {cohort.name}",
                expected=f"one of {', '.join(columns)}",
            )
            for name in (confound_column(name)[0] for name in (study.confounds.columns if study.confounds else ()))
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
            f"core.unpenalised: {name!r} is no clinical covariate of {cohorts.target.name}",
            expected=f"one of {', '.join(clinical) or '(none)'}",
        )
        for name in study.core.unpenalised
        if name not in clinical
    ]
    raise_all("the study asks for what its cohorts do not have", problems, UsageError)
