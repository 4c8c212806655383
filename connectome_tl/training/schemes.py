"""Table of the models of a study: engine, stages, and inputs of the last stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import UsageError
from connectome_tl.features.modalities import clinical_specs
from connectome_tl.settings.model_table import MODELS
from connectome_tl.settings.model_table import Scheme as Scheme
from connectome_tl.settings.study import StudySettings

SCHEMES = tuple(spec.scheme for spec in MODELS.values() if spec.scheme is not None)
BY_NAME = {scheme.name: scheme for scheme in SCHEMES}
ALWAYS = tuple(name for name in BY_NAME if MODELS[name].listed == "always")


@dataclass(frozen=True, eq=False)
class StudyCohorts:
    """The cohorts of a study by role, regions in one order."""

    roles: Mapping[str, Cohort]

    @property
    def target(self) -> Cohort:
        """The cohort that is predicted."""
        return self.roles["target"]

    @property
    def source(self) -> Cohort | None:
        """The cohort of stage 1, if any."""
        return self.roles.get("source")

    @property
    def pool(self) -> Cohort | None:
        """The cohort of stage 2, if any."""
        return self.roles.get("pool")

    def with_role(self, role: str, cohort: Cohort) -> StudyCohorts:
        """Copy with another cohort in one role."""
        return StudyCohorts({**self.roles, role: cohort})

    def by_name(self) -> dict[str, Cohort]:
        """Cohorts by the role names of row sets, as needed by `fit`."""
        return dict(self.roles)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the outcomes of all cohorts."""
        return tuple(sorted({task.kind for cohort in self.roles.values() for task in cohort.tasks}))

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the target cohort: connectomes, covariates, volumes."""
        found = ["connectome"] if self.target.regions else []
        found += ["clinical"] if clinical_specs(self.target.covariate_specs) else []
        return (*found, "image") if any(self.target.volumes) else tuple(found)


def scheme_named(name: str) -> Scheme:
    """The definition of a fitted model, those of extensions included.

    Raises:
        UsageError: no fitted model has this name.
    """
    scheme = MODELS[name].scheme if name in MODELS else None
    if scheme is None:
        raise UsageError(f"no fitted model is called {name!r}")
    return scheme


def modalities_of(study: StudySettings, cohorts: StudyCohorts) -> tuple[str, ...]:
    """Modalities of the study: those of the target cohort that the model has an encoder for, and those of its
    further encoders, except volumes that the cohort does not have."""
    asked = study.model.branches
    further = (encoder.modality for encoder in study.model.others)
    found = dict.fromkeys((*(m for m in cohorts.modalities if m in asked), *further))
    return tuple(m for m in found if m != "image" or any(cohorts.target.volumes))


def learnt_early(study: StudySettings, cohorts: StudyCohorts, role: str) -> tuple[str, ...]:
    """Input modalities of an earlier stage of the network: those of connectomes and volumes that its cohort has and
    the last stage uses."""
    cohort, known = cohorts.roles.get(role), modalities_of(study, cohorts)
    if cohort is None:
        return ()
    # Embeddings are of the target's images alone.
    has = {"connectome": bool(cohort.regions), "image": any(cohort.volumes) and study.image.embedding is None}
    return tuple(m for m in ("connectome", "image") if m in known and has[m])


def schemes_of(study: StudySettings, cohorts: StudyCohorts) -> tuple[Scheme, ...]:
    """The models of this study: those of every study, and the controls that differ from them."""
    models = (spec.scheme for spec in MODELS.values() if spec.scheme is not None)  # those of extensions included
    return tuple(
        s for s in models if s.name in ALWAYS or (s.name in study.controls and not _redundant(study, cohorts, s))
    )


def omitted_controls(study: StudySettings, cohorts: StudyCohorts, n_tasks: int) -> dict[str, str]:
    """Why each omitted control of the settings is not fitted, by name."""
    schemes = [scheme for name in study.controls if (scheme := MODELS[name].scheme) is not None]
    found = {scheme.name: _redundant(study, cohorts, scheme) for scheme in schemes}
    if n_tasks == 1:
        found |= {scheme.name: "there is one outcome" for scheme in schemes if scheme.single_task}
    return {name: reason for name, reason in found.items() if reason}


def _redundant(study: StudySettings, cohorts: StudyCohorts, scheme: Scheme) -> str:
    """Why a control would equal another model or have no input; empty if it differs."""
    stage_one, stage_two = study.stages.pretrain is not None, study.stages.adapt is not None
    if scheme.without:
        known = set(modalities_of(study, cohorts))
        absent = " or ".join(sorted(scheme.without - known))
        return f"the study has no {absent} input" if absent else "" if known > scheme.without else "no input is left"
    if scheme.engine == "core":
        return "" if stage_one and scored_by_source(study, cohorts) else "the core has no scores of a source"
    if scheme.permuted:
        return "" if stage_one else "there is no stage 1"
    if scheme.pretrain and scheme.adapt:
        return ""
    if not stage_one and not stage_two:
        return "there is no earlier stage"
    if scheme.pretrain != scheme.adapt and stage_one != stage_two:
        scratch = "network_scratch" if scheme.engine == "network" else "scratch"
        return f"stage {1 if stage_one else 2} is the only earlier stage, and {scratch} is the model without it"
    return ""


def scored_by_source(study: StudySettings, cohorts: StudyCohorts) -> tuple[str, ...]:
    """Modalities for the scores of a source model: connectomes of the same regions, volumes."""
    source, target = cohorts.source, cohorts.target
    if source is None:
        return ()
    early = learnt_early(study, cohorts, "source")
    return tuple(m for m in early if m != "connectome" or source.regions == target.regions)
