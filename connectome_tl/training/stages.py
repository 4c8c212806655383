"""The three stages, and every control, as chains of fit plans. A new scheme adds a record here, not a method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, kinship_groups
from connectome_tl.errors import LeakageError, Problem, UsageError, raise_all
from connectome_tl.features.scaling import confound_column
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.plans import FitPlan


@dataclass(frozen=True)
class Scheme:
    """What one model of the study does: which stages it goes through and what its last stage sees."""

    name: str
    pretrain: bool = True
    adapt: bool = True
    clinical: bool = True
    single_task: bool = False


SCHEMES: tuple[Scheme, ...] = (
    Scheme("full"),
    Scheme("scratch", pretrain=False, adapt=False),
    Scheme("no_pretrain", pretrain=False),
    Scheme("no_adapt", adapt=False),
    Scheme("single_task", single_task=True),
    Scheme("no_clinical", clinical=False),
)


@dataclass(frozen=True)
class StudyCohorts:
    """The cohorts of a study, regions in one order."""

    target: Cohort
    source: Cohort | None = None
    pool: Cohort | None = None

    def by_name(self) -> dict[str, Cohort]:
        """What `fit` takes: the names that plans use."""
        found = {"target": self.target, "source": self.source, "pool": self.pool}
        return {name: cohort for name, cohort in found.items() if cohort is not None}


def schemes_of(study: StudySettings) -> tuple[Scheme, ...]:
    """The full model and those controls that differ from it in this study."""
    has_pretrain, has_adapt = study.stages.pretrain is not None, study.stages.adapt is not None
    useful = {
        "full": True,
        "scratch": has_pretrain or has_adapt,
        "no_pretrain": has_pretrain and has_adapt,
        "no_adapt": has_pretrain and has_adapt,
        "single_task": True,
        "no_clinical": True,
    }
    return tuple(s for s in SCHEMES if useful[s.name] and (s.name == "full" or s.name in study.controls))


def chain(
    study: StudySettings,
    cohorts: StudyCohorts,
    scheme: Scheme,
    fold: Fold,
    tasks: Sequence[str],
    *,
    seed: int,
    label_rows: Sequence[str] | None = None,
    keep: bool = True,
) -> FitPlan:
    """The plan of a model's last stage on one fold; its parents hang on it.

    Args:
        tasks: outcomes trained together.
        label_rows: for a permutation, whose outcomes each training row gets.
        keep: keep the fitted state of the last stage.

    Raises:
        LeakageError: a subject of the test fold is in the source cohort.
    """
    stages, target = study.stages, cohorts.target
    parent: FitPlan | None = None
    if scheme.pretrain and stages.pretrain is not None and cohorts.source is not None and study.source is not None:
        source = cohorts.source
        _refuse_known(source, target, fold)
        rows = tuple(sorted(source.ids))  # batches follow the rows: the order of a file is no setting
        parent = FitPlan(
            label=scheme.name,
            stage="pretrain",
            cohort="source",
            data=source.rows_hash(rows),
            rows=rows,
            tasks=study.source.tasks or tuple(task.name for task in source.tasks),
            model=study.model,
            training=stages.pretrain.training,
            seed=seed,
            clinical=False,
            confounds=study.confounds,
            harmonise=study.harmonise,
            edges=study.edges,
        )
    if scheme.adapt and stages.adapt is not None and cohorts.pool is not None:
        rows = tuple(sorted(adaptation_rows(cohorts.pool, target, fold, transductive=stages.adapt.transductive)))
        parent = FitPlan(
            label=scheme.name,
            stage="adapt",
            cohort="pool",
            data=cohorts.pool.rows_hash(rows),
            rows=rows,
            tasks=parent.tasks if parent is not None else (),
            model=study.model,
            training=stages.adapt.training,
            seed=seed,
            parent=parent,
            objective=stages.adapt.objective,
            clinical=False,
            confounds=study.confounds,
            harmonise=study.harmonise,
            edges=study.edges,
            carry=("encoder", "fusion", "heads"),
        )
    finetune = stages.finetune
    sources = fold.train if label_rows is None else tuple(dict.fromkeys((*fold.train, *label_rows)))
    return FitPlan(
        label=scheme.name,
        stage="finetune",
        cohort="target",
        data=target.rows_hash(sources),
        rows=fold.train,
        tasks=tuple(tasks),
        model=study.model,
        training=finetune.training,
        seed=seed,
        parent=parent,
        clinical=scheme.clinical,
        confounds=study.confounds,
        harmonise=study.harmonise,
        edges=study.edges,
        carry=finetune.carry,
        scaling=finetune.scaling,
        fresh_heads=_other_kinds(cohorts, tasks, parent),
        label_rows=None if label_rows is None else tuple(label_rows),
        predict=fold.test,
        keep=keep,
    )


def _other_kinds(cohorts: StudyCohorts, tasks: Sequence[str], parent: FitPlan | None) -> tuple[str, ...]:
    if cohorts.source is None or parent is None:
        return ()
    shared = [name for name in tasks if name in parent.tasks]
    return tuple(name for name in shared if cohorts.source.task(name).kind != cohorts.target.task(name).kind)


def check_names(study: StudySettings, cohorts: StudyCohorts) -> None:
    """Refuse outcomes and columns that a cohort does not have before anything is written or fitted.

    Raises:
        UsageError: with all of them.
    """
    problems: list[Problem] = []
    if study.stages.pretrain is not None and study.source is not None and cohorts.source is not None:
        known = {task.name: task for task in cohorts.source.tasks}
        for name in study.source.tasks or tuple(known):
            if name not in known:
                expected = f"one of {', '.join(known) or '(none)'}"
                problems.append(
                    Problem(f"source.tasks: no outcome {name!r} in {cohorts.source.name}", expected=expected)
                )
            elif known[name].kind not in ("binary", "regression"):
                problems.append(
                    Problem(
                        f"source.tasks: {name!r} is {known[name].kind}; networks have heads for binary and regression",
                        remedy="Name others in source.tasks, or give it a cut-off.",
                    )
                )
        if not known:
            problems.append(Problem(f"the source cohort {cohorts.source.name} has no outcome to learn"))
    asked = {
        "confounds.columns": [confound_column(name)[0] for name in study.confounds.columns] if study.confounds else [],
        "harmonise.protect": list(study.harmonise.protect) if study.harmonise.method != "none" else [],
    }
    for cohort in cohorts.by_name().values():
        columns = ["age", *cohort.covariates.columns]
        problems += [
            Problem(f"{setting}: no column {name!r} in cohort {cohort.name}", expected=f"one of {', '.join(columns)}")
            for setting, names in asked.items()
            for name in names
            if name not in columns
        ]
    raise_all("the study names what its cohorts do not have", problems, UsageError)


def adaptation_rows(pool: Cohort, target: Cohort, fold: Fold, *, transductive: bool) -> tuple[str, ...]:
    """Pool subjects that stage 2 may see in this fold: nobody of the test fold, nor their kin.

    The same id in both cohorts is the same infant. With `transductive` the test infants' images stay
    (never their outcomes), and every table and figure says so.
    """
    if transductive:
        return pool.ids
    tested = set(fold.test)
    families = {str(name) for name, i in zip(target.family, target.ids, strict=True) if name and i in tested}
    groups = kinship_groups(pool.family)
    kin = {g for g, i, name in zip(groups, pool.ids, pool.family, strict=True) if i in tested or name in families}
    return tuple(i for i, g in zip(pool.ids, groups, strict=True) if g not in kin)


def _refuse_known(source: Cohort, target: Cohort, fold: Fold) -> None:
    tested = set(fold.test)
    families = {str(name) for name, i in zip(target.family, target.ids, strict=True) if name and i in tested}
    shared = [i for i, name in zip(source.ids, source.family, strict=True) if i in tested or str(name) in families]
    if shared:
        raise LeakageError(
            f"{len(shared)} subjects of the source cohort {source.name!r} are in a test fold, or kin of one who is",
            expected="no subject and no family in both",
            got=", ".join(shared[:5]),
            remedy="Leave them out of the source (`select` in its cohort.yaml), or give them other ids and families "
            "if they are other people.",
        )
