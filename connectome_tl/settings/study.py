"""`study.yaml`: cohorts by role, stages, model, split plan."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from connectome_tl.errors import UsageError
from connectome_tl.settings.base import EachOnce, Settings, given_of, with_value
from connectome_tl.settings.baselines import BaselineSettings
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import Confounds, EdgeSettings, FeatureSettings, HarmoniseSettings
from connectome_tl.settings.images.age_gap import BrainAge
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.model_table import MODELS, Role, listed_models
from connectome_tl.settings.training import Stages, refuse_idle
from connectome_tl.settings.tuning import Tuned, TuneSettings
from connectome_tl.wording import in_words

ROLES = ("target", "source", "pool")


class CohortUse(Settings):
    """A cohort file and the outcomes that are used (null for all)."""

    cohort: str
    tasks: Annotated[tuple[str, ...], EachOnce] | None = None

    @field_validator("tasks")
    @classmethod
    def _some(cls, given: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if given is not None and not given:
            raise ValueError("name at least one outcome, or null for all")
        return given


class SplitSettings(Settings):
    """Division of subjects into training and test rows.

    `kfold` is repeated, nested, stratified and grouped cross-validation; `site_out` holds out each site in turn, once;
    `few_labels` draws `n_labelled` training subjects and divides the others into `outer` test folds.
    `families: ignored` LEAKS: relatives may be both in the training and in the test rows, as in some published code. It
    exists to show the effect of this error; the report states it throughout.
    """

    scheme: Literal["kfold", "site_out", "few_labels"] = "kfold"
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    outer: Annotated[int, Field(ge=2)] = 5
    inner: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    stratum: str | None = None  # the first binary outcome; "" for none
    n_labelled: Annotated[int, Field(ge=2)] | None = None
    families: Literal["together", "ignored"] = "together"

    @model_validator(mode="after")
    def _all_act(self) -> SplitSettings:
        """Held-out sites are the same in every repeat, which only divides the inner folds in another way."""
        if self.scheme != "site_out":
            return self
        idle = given_of(self, ("outer",) if self.inner else ("outer", "repeats", "seed", "stratum"))
        if idle and (idle != ["repeats"] or self.repeats > 1):
            keys = ", ".join(idle)
            raise ValueError(f"no effect with scheme site_out, whose folds are the sites: {keys}. Remove what is named")
        if not self.inner:
            object.__setattr__(self, "repeats", 1)  # not the default of other schemes
        return self

    @model_validator(mode="after")
    def _fits_the_scheme(self) -> SplitSettings:
        if (self.scheme == "few_labels") != (self.n_labelled is not None):
            raise ValueError("n_labelled goes with scheme few_labels, and is needed there")
        if self.inner == 1:
            raise ValueError("inner is a number of folds: 0 (none) or at least 2")
        return self


class Recalibration(Settings):
    """Recalibration of risks and choice of a threshold on inner folds.

    With `splits.inner` of 2 or more, each baseline needs `repeats * outer * inner` additional fits; the full model
    needs none, since the held-out predictions of its own fits are used. With 0 there is no recalibration. Platt
    scaling changes intercept and slope of the logits, temperature scaling only the slope.
    """

    method: Literal["platt", "temperature"] = "platt"
    specificity: Annotated[float, Field(gt=0, le=1)] = 0.9


class Refits(Settings):
    """Bootstrap refits per fold of the first repeat, for the instability of single risks; 0 for none.

    `network` refits the last stage of the full model, which needs `network * outer` additional fits.
    """

    linear: Annotated[int, Field(ge=0, le=10_000)] = 100
    network: Annotated[int, Field(ge=0, le=10_000)] = 0


def _listed(role: Role) -> tuple[AfterValidator, WithJsonSchema]:
    """Annotations of the name of a model that a study may list."""

    def check(name: str) -> str:
        known = listed_models(role, "default", "named")
        if name not in known:
            near = difflib.get_close_matches(name.lower(), known, n=1)
            hint = f". Did you mean {near[0]}?" if near else ""
            other = MODELS[name].role if name in MODELS else role
            if other in ("baseline", "control") and other != role:
                hint = f". It is a {other}: name it in {other}s"
            raise ValueError(f"no {role} is called {name!r}; known are {', '.join(known)}{hint}")
        return name

    return AfterValidator(check), WithJsonSchema({"type": "string", "enum": listed_models(role, "default", "named")})


Control = Annotated[str, *_listed("control")]
Baseline = Annotated[str, *_listed("baseline")]
ALL_CONTROLS = listed_models("control", "default")
DEFAULT_BASELINES = listed_models("baseline", "default")


class StudySettings(Settings):
    """Contents of `study.yaml`. Cohort paths are relative to the file itself.

    Args:
        learning_curve: numbers of labelled subjects, in increasing order; every model is refitted on draws of each
            size from the training rows of every fold.
        n_seeds: number of fits per fold with different initial weights, whose predictions are averaged.
        permutations: number of label permutations of the closed-form core (first repeat only); 0 for none.
        baseline_permutations: the same for baselines whose labellings share most computations.
        network_permutations: the same for the full model, with networks retrained for each permutation.
        threshold: risk at which the positive class is predicted, fixed in advance.
        n_jobs: number of processes; results do not depend on it.
        brain_age: brain-age gap as an additional result.
        device: device for the training of networks; `auto` is a GPU if torch finds one. Random numbers of dropout,
            noise and mixup differ between devices, so that fits agree up to rounding only without them. A fit on a GPU
            that is repeated, for example after an interruption, is equal up to rounding.
        devices: number of processes that share every batch of a network on volumes, with one GPU each if available.
            Results equal those of one process up to rounding, unless the encoder has batch normalisation.
        tune: settings of `tune`, ignored by a run.
        tuned: settings per outer fold, written by `run --tuned`.
    """

    title: str = "Neurodevelopmental outcome from the connectome"
    source: CohortUse | None = None
    pool: CohortUse | None = None
    target: CohortUse
    stages: Stages = Stages()
    model: ModelSettings = ModelSettings()
    core: CoreSettings = CoreSettings()
    splits: SplitSettings = SplitSettings()
    confounds: Confounds | None = None
    harmonise: HarmoniseSettings = HarmoniseSettings()
    edges: EdgeSettings = EdgeSettings()
    image: ImageSettings = ImageSettings()
    brain_age: BrainAge | None = None
    recalibration: Recalibration = Recalibration()
    refits: Refits = Refits()
    learning_curve: tuple[Annotated[int, Field(ge=4)], ...] = ()
    controls: Annotated[tuple[Control, ...], EachOnce] = ALL_CONTROLS
    baselines: Annotated[tuple[Baseline, ...], EachOnce] = DEFAULT_BASELINES
    baseline_settings: BaselineSettings = BaselineSettings()
    permutations: Annotated[int, Field(ge=0, le=100_000)] = 0
    baseline_permutations: Annotated[int, Field(ge=0, le=100_000)] = 0
    network_permutations: Annotated[int, Field(ge=0, le=100_000)] = 0
    n_seeds: Annotated[int, Field(ge=1, le=100)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    n_jobs: Annotated[int, Field(ge=1)] = 2
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    devices: Annotated[int, Field(ge=1, le=64)] = 1
    tune: TuneSettings | None = None
    tuned: Tuned | None = None

    @model_validator(mode="before")
    @classmethod
    def _stages_follow_the_cohorts(cls, given: Any) -> Any:
        """Remove stage 1 without a source and stage 2 without a pool, unless the stage is given explicitly."""
        if not isinstance(given, dict):
            return given
        stages = given.get("stages", {})
        asked = set(stages) if isinstance(stages, dict) else getattr(stages, "model_fields_set", set())
        left_out = {
            stage: None
            for stage, role in (("pretrain", "source"), ("adapt", "pool"))
            if given.get(role) is None and stage not in asked
        }
        if not left_out:
            return given
        if isinstance(stages, dict):
            return {**given, "stages": {**stages, **left_out}}
        return {**given, "stages": stages.model_copy(update=left_out)} if isinstance(stages, Stages) else given

    @model_validator(mode="after")
    def _stages_have_cohorts(self) -> StudySettings:
        if self.stages.pretrain is not None and self.source is None:
            raise ValueError("stage pretrain needs a source cohort; give source, or stages.pretrain: null")
        if self.stages.adapt is not None and self.pool is None:
            raise ValueError("stage adapt needs a pool of unlabelled subjects; give pool, or stages.adapt: null")
        return self

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> StudySettings:
        """Refuse settings of stages, baselines and folds that the study does not have."""
        blocks = type(self.baseline_settings).model_fields
        idle = [name for name in given_of(self.baseline_settings, tuple(blocks)) if name not in self.baselines]
        if idle:
            raise ValueError(f"baseline_settings.{idle[0]} has no effect: add {idle[0]} to baselines, or remove it")
        if not self.splits.inner and given_of(self.recalibration, tuple(type(self.recalibration).model_fields)):
            raise ValueError("recalibration has no effect without inner folds: set splits.inner to 2 or more")
        if self.pool is not None and self.pool.tasks is not None:
            raise ValueError("pool.tasks has no effect: outcomes of the pool are not used; remove it")
        if self.stages.pretrain is not None:
            return self
        if self.stages.adapt is None:
            refuse_idle(
                self.stages.finetune.of_transfer,
                "stages.finetune, which has no earlier stage",
                "add an earlier stage (source or pool)",
            )
        elif self.stages.adapt.objective.source_replay:
            raise ValueError(
                f"stages.adapt.objective: {self.stages.adapt.objective.kind} needs the source of stage pretrain; add a "
                "source, or choose an objective without one, such as masked_edges"
            )
        return self

    @model_validator(mode="after")
    def _sizes_increase(self) -> StudySettings:
        if list(self.learning_curve) != sorted(set(self.learning_curve)):
            raise ValueError("learning_curve is a list of sizes in increasing order")
        return self

    @model_validator(mode="after")
    def _parts_exist(self) -> StudySettings:
        stages = {"pretrain": self.stages.pretrain, "adapt": self.stages.adapt, "finetune": self.stages.finetune}
        for name, stage in stages.items():
            if stage is None:
                continue
            usual = type(stage)().training.part_learning_rates.items()  # also of models without this part
            factors = {
                part for part, factor in stage.training.part_learning_rates.items() if (part, factor) not in usual
            }
            named = {*factors, *stage.training.freeze}
            wrong = sorted(named - set(self.model.parts))
            if wrong:
                raise ValueError(
                    f"stages.{name}.training: no part is called {', '.join(wrong)}; "
                    f"parts are {', '.join(self.model.parts)}"
                )
            if stage.training.precision == "bf16" and not self.model.encoder.takes_bf16:
                raise ValueError(
                    f"stages.{name}.training.precision: bf16 goes with model.encoder: kind: graph, engine: dense; "
                    "leave it out for other encoders"
                )
        return self

    @model_validator(mode="after")
    def _contrast_knows_the_head(self) -> StudySettings:
        adapt = self.stages.adapt
        if adapt is not None and adapt.objective.needs_black_background and self.image.outside == "keep":
            raise ValueError(
                f"stages.adapt.objective: {adapt.objective.kind} finds the head by a background of 0: set "
                "image.outside: zero, or choose another objective"
            )
        return self

    @model_validator(mode="after")
    def _embeddings_have_an_encoder(self) -> StudySettings:
        if self.model.reads_embeddings != (self.image.embedding is not None):
            raise ValueError(
                "image.embedding names the file that an encoder of kind embedding reads: give both or neither"
            )
        return self

    @model_validator(mode="after")
    def _leaks_are_not_tested(self) -> StudySettings:
        if self.stages.finetune.ensemble.choose_on == "tested" and self.network_permutations:
            raise ValueError(
                "network_permutations need stages.finetune.ensemble.choose_on: held_out; a permutation test of a "
                "model that has seen the tested outcomes is not valid"
            )
        return self

    @property
    def leaks(self) -> tuple[str, ...]:
        """One sentence for each setting that leaks test rows into training."""
        found = []
        if self.stages.finetune.ensemble.choose_on == "tested":
            found.append(
                "stages.finetune.ensemble.choose_on: tested lets the outcomes of the tested subjects choose the step "
                "of each network"
            )
        if self.splits.families == "ignored":
            found.append("splits.families: ignored allows relatives of tested subjects in the training rows")
        return tuple(found)

    @property
    def uses(self) -> dict[str, CohortUse]:
        """The cohorts of the study by role, the target first."""
        found = {role: getattr(self, role) for role in ROLES}
        return {role: use for role, use in found.items() if use is not None}

    @property
    def features(self) -> FeatureSettings:
        """Settings of the feature steps."""
        return FeatureSettings(confounds=self.confounds, harmonise=self.harmonise, edges=self.edges, image=self.image)

    def used_blocks(self, blocks: Mapping[str, Any]) -> dict[str, Any]:
        """Those blocks of `baseline_settings` whose baselines the study has: others may be of unrelated extensions."""
        return {name: block for name, block in blocks.items() if name in self.baselines}

    @model_serializer(mode="wrap")
    def _without_idle_blocks(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = fields(self)
        return found | {"baseline_settings": self.used_blocks(found.get("baseline_settings", {}))}

    @property
    def decisive(self) -> StudySettings:
        """The settings that affect results, with hashes instead of paths of weight files, for hashes and sidecars."""
        return self.model_copy(update={"n_jobs": 1, "tune": None, "model": self.model.compared})

    @property
    def nameless(self) -> StudySettings:
        """The decisive settings without title and paths, so that renamed or moved studies are equal."""
        places = {role: use.model_copy(update={"cohort": ""}) for role, use in self.uses.items()}
        image, use = self.image, self.image.embedding
        if use is not None and use.hash:
            image = image.model_copy(update={"embedding": use.model_copy(update={"file": ""})})
        return self.decisive.model_copy(update={"title": "", "image": image, **places})

    def of(self, repeat: int, fold: int) -> StudySettings:
        """The settings of one outer fold: those of the study or, if tuned, those of the fold.

        Raises:
            UsageError: the study is tuned, but not for this fold, or with an invalid value.
        """
        if self.tuned is None:
            return self
        found = self.tuned.settings_of(repeat, fold)
        if found is None:
            raise UsageError(
                f"no tuned settings for repeat {repeat}, fold {fold}",
                remedy="Run `connectome-tl tune` to its end, for the same split plan.",
            )
        return self.model_copy(update={"tuned": None}).with_settings(found)

    def with_settings(self, changed: Mapping[str, Any]) -> StudySettings:
        """Copy the study with other values at dotted keys.

        Raises:
            UsageError: the study has no such key, or refuses the value.
        """
        study = self
        for key, value in changed.items():
            try:
                study = with_value(study, key.split("."), value)
            except KeyError as error:
                raise UsageError(
                    f"this study has no setting {key}",
                    remedy="Give the block that contains it, or a setting of the block's kind.",
                ) from error
            except ValidationError as error:
                at = tuple(key.split("."))
                said = [in_words({**item, "loc": at}, StudySettings, at) for item in error.errors()[:3]]
                reasons = "; ".join(dict.fromkeys(what for what, _, _ in said))
                expected = next((values for _, values, _ in said if values), None)
                raise UsageError(f"{key}: {reasons}", expected=expected, got=repr(value)) from error
        return study
