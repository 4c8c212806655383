"""Build the fit plans of all models of a study from its three stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.relatives import are_related, names_seen, relatives
from connectome_tl.cohort.splits import Fold, parts_of, split_groups
from connectome_tl.errors import InternalError, LeakageError
from connectome_tl.plurals import counted
from connectome_tl.provenance import content_hash
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.images.embedding import EmbeddedFit
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.objectives.objective import PROBE, SOURCE
from connectome_tl.training.plans import RANDOM, FitPlan, RowSet, Transfer
from connectome_tl.training.schemes import Scheme, StudyCohorts, learnt_early, modalities_of, scored_by_source


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
    """The plan of a model on one fold, including its parents.

    Args:
        tasks: outcomes trained together.
        label_rows: for a permutation, ids of the subjects whose outcomes the training rows get.
        keep: whether to keep the fitted state of the last stage.

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
    """Builder of the plans of one model on one fold."""

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
    def features(self) -> FeatureSettings:
        """Feature settings of the study; precomputed embeddings are from a fit without subjects of the test fold."""
        return features_of(self.study, self.cohorts.target, self.fold, self.modalities)

    @cached_property
    def rows(self) -> RowSet:
        labels = None if self.label_rows is None else tuple(self.label_rows)
        return RowSet.of("target", self.cohorts.target, self.fold.train, labels)

    def core(self) -> FitPlan:
        """The closed-form core on the target's training rows, with source scores if there is a stage 1."""
        source = self._source_core()
        return FitPlan(
            stage="core",
            train=self.rows,
            tasks=self.tasks,
            modalities=self.modalities,
            features=self.features,
            seed=0,  # the core is deterministic
            core=self.study.core,
            parents=() if source is None else (("source", source),),
            transfer=self._transfer,
            label=self.scheme.name,
            predict=self.fold.test,
            keep=self.keep,
        )

    @property
    def _transfer(self) -> Transfer:
        pretrain = self.study.stages.pretrain
        return Transfer(unpredictable=pretrain is not None and pretrain.use_if == "always")

    def network(self) -> FitPlan:
        """The last stage of the network, an ensemble over inner parts of the training rows."""
        study, parent = self.study, self._stage_before()
        finetune = study.stages.finetune
        plan = FitPlan(
            stage="finetune",
            train=self.rows,
            tasks=self.tasks,
            modalities=self.modalities,
            features=self.features,
            seed=self.seed,
            model=study.model,
            training=finetune.training,
            device=study.device,
            devices=study.devices if "image" in self.modalities else 1,
            checkpoints=finetune.ensemble.checkpoints,
            inner=self._parts(finetune.ensemble.networks),
            chosen_by=self._tested() if finetune.ensemble.choose_on == "tested" else None,
            transfer=replace(self._transfer, carry=finetune.carry, scaling=finetune.scaling),
            label=self.scheme.name,
            predict=self.fold.test,
            keep=self.keep,
        )
        averaged: tuple[tuple[str, FitPlan], ...] = ()
        if plan.inner and self._transfers and finetune.averages_random(self.modalities):
            # Controls of the earlier stages are averaged with the same ones, so that they differ in the start alone.
            other = int(content_hash(self.seed, RANDOM)[:8], 16)
            averaged = ((RANDOM, replace(plan, seed=other, predict=())),)
        if parent is None:
            return replace(plan, parents=averaged)
        fresh_heads = _other_outcomes(self.cohorts, self.tasks, parent)
        transfer = replace(plan.transfer, fresh_heads=fresh_heads)
        return replace(plan, parents=(("stage", parent), *averaged), transfer=transfer)

    @property
    def _transfers(self) -> bool:
        """Whether networks of this study with these modalities start from weights of an earlier stage."""
        pretrain, adapt, cohorts = self.study.stages.pretrain, self.study.stages.adapt, self.cohorts
        if pretrain is not None and cohorts.source is not None and self._early("source"):
            return True
        return adapt is not None and cohorts.pool is not None and adapt.objective.modality in self._early("pool")

    def _tested(self) -> RowSet:
        return RowSet.of("target", self.cohorts.target, self.fold.test)

    def _parts(self, n_parts: int) -> tuple[tuple[str, ...], ...]:
        target, train = self.cohorts.target, self.fold.train
        leading = next((t for t in map(target.task, self.tasks) if t.is_binary), target.task(self.tasks[0]))
        labels = target.targets[leading.name].to_numpy(float)[target.positions(self.label_rows or train)]
        if not leading.is_binary:
            labels = np.isnan(labels).astype(float)
        groups = split_groups(target.family[target.positions(train)], self.study.splits)
        return parts_of(train, groups, labels, n_parts, int(content_hash(self.seed, "parts")[:8], 16))

    def _source_rows(self) -> RowSet | None:
        """All rows of the source cohort if there is a stage 1; with permuted outcomes in the control."""
        source = self.cohorts.source
        if not self.scheme.pretrain or self.study.stages.pretrain is None or source is None:
            return None
        refuse_known(source, self.cohorts.target, self.fold)
        ids = tuple(sorted(source.ids))  # batches depend on the order of rows, which must not depend on the file
        labels = None
        if self.scheme.permuted:
            rng = np.random.default_rng(int(content_hash(self.study.seed, "permuted source")[:15], 16))
            labels = tuple(ids[i] for i in rng.permutation(len(ids)))
        return RowSet.of("source", source, ids, labels)

    def _early(self, role: str) -> tuple[str, ...]:
        return tuple(m for m in learnt_early(self.study, self.cohorts, role) if m in self.modalities)

    def _source_tasks(self) -> tuple[str, ...]:
        use, source = self.study.source, self.cohorts.source
        if use is not None and use.tasks is not None:
            return use.tasks
        return () if source is None else tuple(task.name for task in source.tasks)

    def _source_core(self) -> FitPlan | None:
        rows = self._source_rows()
        seen = tuple(m for m in scored_by_source(self.study, self.cohorts) if m in self.modalities)
        return None if rows is None or not seen else self._core_of_source(rows, seen)

    def _core_of_source(self, rows: RowSet, seen: tuple[str, ...]) -> FitPlan:
        return FitPlan(
            stage="source",
            train=rows,
            tasks=self._source_tasks(),
            modalities=seen,
            features=self.features,
            seed=0,
            core=self.study.core,
            label=self.scheme.name,
        )

    def _stage_before(self) -> FitPlan | None:
        study, cohorts = self.study, self.cohorts
        parent: FitPlan | None = None
        rows = self._source_rows()
        early, later = self._early("source"), self._early("pool")
        if rows is not None and early and study.stages.pretrain is not None:
            parent = FitPlan(
                stage="pretrain",
                train=rows,
                tasks=self._source_tasks(),
                modalities=early,
                features=self.features,
                seed=self.seed,
                model=study.model,
                training=study.stages.pretrain.training,
                device=study.device,
                devices=study.devices if "image" in early else 1,
                parents=(("source", self._core_of_source(rows, early)),),
                label=self.scheme.name,
            )
        adapt, pool = study.stages.adapt, cohorts.pool
        if not self.scheme.adapt or adapt is None or pool is None or adapt.objective.modality not in later:
            return parent
        having = pool.having(adapt.objective.modality)
        rows_of_pool = adaptation_rows(pool, cohorts.target, self.fold, transductive=adapt.transductive)
        ids = tuple(sorted(set(rows_of_pool) & having))
        if not ids:
            return parent
        role = SOURCE if adapt.objective.source_replay else PROBE
        return FitPlan(
            stage="adapt",
            train=RowSet.of("pool", pool, ids),
            tasks=parent.tasks if parent is not None else (),
            modalities=later,
            features=self.features,
            seed=self.seed,
            model=study.model,
            training=adapt.training,
            device=study.device,
            devices=study.devices if "image" in later else 1,
            objective=adapt.objective,
            others=() if parent is None else ((role, parent.train),),
            parents=() if parent is None else (("stage", parent),),
            transfer=self._transfer,
            label=self.scheme.name,
        )


def features_of(study: StudySettings, target: Cohort, fold: Fold, modalities: Sequence[str]) -> FeatureSettings:
    """Feature settings of one fold, including the fit of precomputed embeddings.

    Raises:
        LeakageError: every encoder of the embeddings was trained on a tested subject or a relative.
    """
    found, use = study.features, study.image.embedding
    if use is None or "image" not in modalities:
        return found
    # The path of the file is irrelevant; the hash of its content is in the settings.
    chosen = use.model_copy(update={"fit": unseen_fit(target, fold), "file": "-"})
    return found.model_copy(update={"image": found.image.model_copy(update={"embedding": chosen})})


def unseen_fit(target: Cohort, fold: Fold) -> str:
    """Key of the first fit whose embeddings may be used for this fold.

    Raises:
        LeakageError: the encoder of every fit was trained on a tested subject or a relative.
    """
    made = target.embeddings
    if made is None:
        raise InternalError(f"cohort {target.name!r} has no embeddings")
    found = next((one for one in made.fits if not _has_seen(one, target, fold)), None)
    if found is None:
        seen = sorted(set(fold.test) & set(made.fits[0].seen))
        raise LeakageError(
            "the encoder of every fit of image.embedding was trained on subjects of a test fold, or their relatives",
            expected="for each test fold, inner ones included, a fit that was not trained on its subjects",
            got=", ".join(seen[:5]) or "relatives of tested subjects",
            remedy="Use embeddings of a study with the same split plan (equal `splits` and target subjects), or of a "
            "stage that saw other subjects only (`connectome-tl embed --stage pretrain`). Inner folds (splits.inner, "
            "tune) need the latter: every fit of stage finetune was trained on subjects of the inner test folds.",
        )
    return found.fit


def _has_seen(fit: EmbeddedFit, target: Cohort, fold: Fold) -> bool:
    return bool(are_related(target, fold.test, names_seen(fit.seen, fit.families, fit.participants)).any())


def _other_outcomes(cohorts: StudyCohorts, tasks: Sequence[str], parent: FitPlan | None) -> tuple[str, ...]:
    if cohorts.source is None or parent is None:
        return ()
    shared = [name for name in tasks if name in parent.tasks]
    return tuple(name for name in shared if not cohorts.source.task(name).alike(cohorts.target.task(name)))


def adaptation_rows(pool: Cohort, target: Cohort, fold: Fold, *, transductive: bool) -> tuple[str, ...]:
    """Pool subjects for stage 2 in this fold, excluding the test fold and relatives.

    See `relatives` for when rows of both cohorts are of one subject. With `transductive`, images (not outcomes) of the
    test fold are included, and every table and figure is marked.
    """
    if transductive:
        return pool.ids
    related = are_related(target, fold.test, pool.names)
    return tuple(i for i, is_relative in zip(pool.ids, related, strict=True) if not is_relative)


def refuse_known(source: Cohort, target: Cohort, fold: Fold) -> None:
    """Check that no source subject is tested or is a relative of a tested one.

    Raises:
        LeakageError: a source subject is tested or a relative; the message names the subject.
    """
    shared = relatives(target, fold.test, source)
    if shared:
        raise LeakageError(
            f"the source cohort {source.name!r} has {counted(len(shared), 'subject')} of a test fold, or "
            f"relatives of them",
            expected="no common subject or family",
            got=", ".join(shared[:5]),
            remedy="Leave them out of the source (`select` in its cohort.yaml), or give them other ids and families "
            "if they are other people.",
        )
