"""Table of the models of a study: engine, stages, and inputs of the last stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from connectome_tl.cohort.cohort import Cohort
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

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the target cohort: connectomes, covariates, volumes."""
        found = ["connectome"] if self.target.regions else []
        found += ["clinical"] if clinical_specs(self.target.covariate_specs) else []
        return (*found, "image") if any(self.target.volumes) else tuple(found)


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
    stage_one, stage_two = study.stages.pretrain is not None, study.stages.adapt is not None
    scored = stage_one and bool(scored_by_source(study, cohorts))
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

    models = (spec.scheme for spec in MODELS.values() if spec.scheme is not None)  # those of extensions included
    return tuple(s for s in models if differs(s) and (s.name in ALWAYS or s.name in study.controls))


def scored_by_source(study: StudySettings, cohorts: StudyCohorts) -> tuple[str, ...]:
    """Modalities for the scores of a source model: connectomes of the same regions, volumes."""
    source, target = cohorts.source, cohorts.target
    if source is None:
        return ()
    early = learnt_early(study, cohorts, "source")
    return tuple(m for m in early if m != "connectome" or source.regions == target.regions)
