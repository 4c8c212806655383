"""The three stages, and every model of a study, as fit plans. A new scheme adds a record here, not a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, kinship_groups, parts_of
from connectome_tl.errors import LeakageError, Problem, UsageError, raise_all
from connectome_tl.features.confounds import confound_column
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.provenance import content_hash
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.plans import FitPlan, RowSet, Transfer

Engine = Literal["mixture", "core", "network"]


@dataclass(frozen=True)
class Scheme:
    """What one model of the study is: which engine, which stages, what its last stage sees.

    Attributes:
        permuted: the source's outcomes are permuted, so that stage 1 can teach nothing.
        without: modalities that are left out. single_task: one fit per outcome.
    """

    name: str
    engine: Engine = "mixture"
    pretrain: bool = True
    adapt: bool = True
    permuted: bool = False
    without: frozenset[str] = frozenset()
    single_task: bool = False


SCHEMES: tuple[Scheme, ...] = (
    Scheme("full"),
    Scheme("core", "core"),
    Scheme("network", "network"),
    Scheme("scratch", pretrain=False, adapt=False),
    Scheme("no_pretrain", pretrain=False),
    Scheme("no_adapt", adapt=False),
    Scheme("network_scratch", "network", pretrain=False, adapt=False),
    Scheme("network_no_pretrain", "network", pretrain=False),
    Scheme("network_no_adapt", "network", adapt=False),
    Scheme("core_scratch", "core", pretrain=False),
    Scheme("core_permuted_source", "core", permuted=True),
    Scheme("single_task", single_task=True),
    Scheme("no_clinical", without=frozenset({"clinical"})),
    Scheme("no_connectome", without=frozenset({"connectome"})),
    Scheme("no_image", without=frozenset({"image"})),
)
BY_NAME = {scheme.name: scheme for scheme in SCHEMES}
ALWAYS = ("full", "core", "network")


@dataclass(frozen=True, eq=False)
class StudyCohorts:
    """The cohorts of a study by role, regions in one order."""

    roles: Mapping[str, Cohort]

    @property
    def target(self) -> Cohort:
        return self.roles["target"]

    @property
    def source(self) -> Cohort | None:
        return self.roles.get("source")

    @property
    def pool(self) -> Cohort | None:
        return self.roles.get("pool")

    def with_role(self, role: str, cohort: Cohort) -> StudyCohorts:
        """The same with another cohort in one role."""
        return StudyCohorts({**self.roles, role: cohort})

    def by_name(self) -> dict[str, Cohort]:
        """What `fit` takes: the roles that row sets name."""
        return dict(self.roles)

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """What the target cohort has: connectomes, covariates, images."""
        found = ["connectome"] if self.target.regions else []
        return (*found, "clinical") if clinical_specs(self.target.covariate_specs) else tuple(found)


def modalities_of(study: StudySettings, cohorts: StudyCohorts) -> tuple[str, ...]:
    """Modalities of the study: those of the target cohort and those of the model's further encoders."""
    return tuple(dict.fromkeys((*cohorts.modalities, *(encoder.modality for encoder in study.model.others))))


def schemes_of(study: StudySettings, cohorts: StudyCohorts) -> tuple[Scheme, ...]:
    """The models of this study: those that every study has, and its controls that differ from them."""
    stage_one, stage_two = study.stages.pretrain is not None, study.stages.adapt is not None
    scored = stage_one and _core_has_source(cohorts)
    known = modalities_of(study, cohorts)

    def differs(scheme: Scheme) -> bool:
        if scheme.without:
            return scheme.without <= set(known) and len(known) > len(scheme.without)
        if scheme.engine == "core":
            return scheme.name == "core" or scored
        if scheme.single_task or scheme.name in ALWAYS:
            return True
        if not scheme.pretrain and not scheme.adapt:
            return stage_one or stage_two
        return stage_one and stage_two

    return tuple(s for s in SCHEMES if differs(s) and (s.name in ALWAYS or s.name in study.controls))


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
    """The plan of a model on one fold; its parents hang on it.

    Args:
        tasks: outcomes trained together.
        label_rows: for a permutation, whose outcomes each training row gets.
        keep: keep the fitted state of the last stage.

    Raises:
        LeakageError: a subject of the test fold is in the source cohort.
    """
    makers = _Chain(study, cohorts, scheme, fold, tuple(tasks), seed, label_rows, keep)
    if scheme.engine == "core":
        return makers.core()
    if scheme.engine == "network":
        return makers.network()
    core, network = makers.core(), makers.network()
    return replace(
        core,
        stage="mixture",
        parents=(("core", core), ("network", network)),
        seed=seed,
        core=None,
    )


@dataclass(frozen=True, eq=False)
class _Chain:
    """Makes the plans of one model on one fold."""

    study: StudySettings
    cohorts: StudyCohorts
    scheme: Scheme
    fold: Fold
    tasks: tuple[str, ...]
    seed: int
    label_rows: Sequence[str] | None
    keep: bool

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        return tuple(m for m in modalities_of(self.study, self.cohorts) if m not in self.scheme.without)

    @cached_property
    def rows(self) -> RowSet:
        target, train = self.cohorts.target, self.fold.train
        if self.label_rows is None:
            return RowSet("target", train, target.rows_hash(train))
        every = tuple(dict.fromkeys((*train, *self.label_rows)))
        return RowSet("target", train, target.rows_hash(every), tuple(self.label_rows))

    def core(self) -> FitPlan:
        """The closed-form core on the target's training rows, with the source's scores where stage 1 is on."""
        source = self._source_core()
        return FitPlan(
            stage="core",
            train=self.rows,
            tasks=self.tasks,
            modalities=self.modalities,
            features=self.study.features,
            seed=0,  # nothing in it is drawn
            core=self.study.core,
            parents=() if source is None else (("source", source),),
            label=self.scheme.name,
            predict=self.fold.test,
            keep=self.keep,
        )

    def network(self) -> FitPlan:
        """The last stage of the network, an ensemble over inner parts of the training rows."""
        study, parent = self.study, self._stage_before()
        finetune = study.stages.finetune
        return FitPlan(
            stage="finetune",
            train=self.rows,
            tasks=self.tasks,
            modalities=self.modalities,
            features=study.features,
            seed=self.seed,
            model=study.model,
            training=finetune.training,
            checkpoints=finetune.ensemble.checkpoints,
            inner=self._parts(finetune.ensemble.networks),
            parents=() if parent is None else (("stage", parent),),
            transfer=Transfer(finetune.carry, finetune.scaling, _other_kinds(self.cohorts, self.tasks, parent)),
            label=self.scheme.name,
            predict=self.fold.test,
            keep=self.keep,
        )

    def _parts(self, n_parts: int) -> tuple[tuple[str, ...], ...]:
        target, train = self.cohorts.target, self.fold.train
        leading = next((t for t in map(target.task, self.tasks) if t.is_binary), target.task(self.tasks[0]))
        labels = target.targets[leading.name].to_numpy(float)[target.positions(self.label_rows or train)]
        if not leading.is_binary:
            labels = np.isnan(labels).astype(float)
        groups = kinship_groups(target.family[target.positions(train)])
        return parts_of(train, groups, labels, n_parts, int(content_hash(self.seed, "parts")[:8], 16))

    def _source_rows(self) -> RowSet | None:
        """All rows of the source cohort where stage 1 is on; permuted outcomes in the control."""
        source = self.cohorts.source
        if not self.scheme.pretrain or self.study.stages.pretrain is None or source is None:
            return None
        _refuse_known(source, self.cohorts.target, self.fold)
        ids = tuple(sorted(source.ids))  # batches follow the rows: the order of a file is no setting
        labels = None
        if self.scheme.permuted:
            rng = np.random.default_rng(int(content_hash(self.study.seed, "permuted source")[:15], 16))
            labels = tuple(ids[i] for i in rng.permutation(len(ids)))
        return RowSet("source", ids, source.rows_hash(ids), labels)

    def _source_tasks(self) -> tuple[str, ...]:
        use, source = self.study.source, self.cohorts.source
        if use is not None and use.tasks is not None:
            return use.tasks
        return () if source is None else tuple(task.name for task in source.tasks)

    def _source_core(self) -> FitPlan | None:
        rows = self._source_rows()
        if rows is None or not _core_has_source(self.cohorts) or "connectome" not in self.modalities:
            return None
        return FitPlan(
            stage="source",
            train=rows,
            tasks=self._source_tasks(),
            modalities=("connectome",),
            features=self.study.features,
            seed=0,
            core=self.study.core,
            label=self.scheme.name,
        )

    def _stage_before(self) -> FitPlan | None:
        study, cohorts = self.study, self.cohorts
        parent: FitPlan | None = None
        rows = self._source_rows()
        if "connectome" not in self.modalities:
            return None
        if rows is not None and study.stages.pretrain is not None:
            parent = FitPlan(
                stage="pretrain",
                train=rows,
                tasks=self._source_tasks(),
                modalities=("connectome",),
                features=study.features,
                seed=self.seed,
                model=study.model,
                training=study.stages.pretrain.training,
                label=self.scheme.name,
            )
        adapt, pool = study.stages.adapt, cohorts.pool
        if not self.scheme.adapt or adapt is None or pool is None:
            return parent
        ids = tuple(sorted(adaptation_rows(pool, cohorts.target, self.fold, transductive=adapt.transductive)))
        replay = adapt.objective.source_replay and cohorts.source is not None and parent is not None
        return FitPlan(
            stage="adapt",
            train=RowSet("pool", ids, pool.rows_hash(ids)),
            tasks=parent.tasks if parent is not None else (),
            modalities=("connectome",),
            features=study.features,
            seed=self.seed,
            model=study.model,
            training=adapt.training,
            objective=adapt.objective,
            others=(("source", parent.train),) if replay and parent is not None else (),
            parents=() if parent is None else (("stage", parent),),
            label=self.scheme.name,
        )


def _core_has_source(cohorts: StudyCohorts) -> bool:
    """Whether a linear model of the source can score the target: both have connectomes of the same regions."""
    source, target = cohorts.source, cohorts.target
    return source is not None and bool(source.regions) and source.regions == target.regions


def _other_kinds(cohorts: StudyCohorts, tasks: Sequence[str], parent: FitPlan | None) -> tuple[str, ...]:
    if cohorts.source is None or parent is None:
        return ()
    shared = [name for name in tasks if name in parent.tasks]
    return tuple(name for name in shared if _shape(cohorts.source.task(name)) != _shape(cohorts.target.task(name)))


def _shape(task: Task) -> tuple[str, int]:
    return task.kind, task.n_outputs


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
