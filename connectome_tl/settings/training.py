"""Settings of training and of the three stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from connectome_tl.settings.base import Settings, given_of
from connectome_tl.settings.objectives import AnyObjective, MaskedEdges, NonNegative, Positive

TaskWeights = Literal["equal", "uncertainty", "gradient"]
Steps = Annotated[int, Field(ge=0)]
_FEWEST_STEPS, _MOST_STEPS = 320, 2560
_CURVE = 100  # largest number of points of a training curve


class Mixup(Settings):
    """Mix training rows in pairs: features and losses with a weight drawn from Beta(alpha, alpha).

    Pairs with different missing regions or modalities are not mixed.

    Args:
        neighbours: number of nearest rows in outcome that a row is mixed with; null for all rows.
    """

    alpha: Positive = 0.2
    neighbours: Annotated[int, Field(ge=1)] | None = None


class Training(Settings):
    """Training by AdamW, with a number of steps that depends on the number of rows.

    Args:
        steps: number of optimiser steps; `auto` is one per training row (64 passes with batches of 64), at least 320
            and at most 2560.
        batch_size: number of rows per batch; `auto` gives equal batches of about 64 rows (all rows below 96), or of
            about 8 with volumes.
        part_learning_rates: factor on `learning_rate` for a part of the model (a modality, `fusion`, `heads`).
        freeze: parts that are not trained; their dropout is off.
        schedule: `cosine` decays the learning rate to 0 (Loshchilov and Hutter 2017, arXiv:1608.03983).
        class_weights: `balanced` weights the classes of a binary outcome inversely to their frequency in the training
            rows; risks are corrected for it, so that they remain calibrated to the cohort's prevalence.
        anchor: strength of the penalty on the distance to the parent's weights (L2-SP, Li et al. 2018,
            arXiv:1802.01483); 0 for none.
        rate_decay: factor on the learning rate of the fusion, applied twice to that of the branches (discriminative
            rates, Howard and Ruder 2018, doi:10.18653/v1/P18-1031); 1 for none.
        unfreeze: share of the steps after which all parts are trained: the heads from the start, the fusion from
            half of it, the branches from the end of it (gradual unfreezing, same source); 0 trains all from the
            start.
        edge_noise: standard deviation of the noise added to scaled edges in a supervised stage.
        task_weights: weights of the outcomes in a supervised stage. `equal`; `uncertainty`, learned with the network
            (Kendall et al. 2018, arXiv:1705.07115); `gradient`, for equal gradient norms at the fused layer (Chen et
            al. 2018, arXiv:1711.02257).
        precision: floating-point precision of the large products in a supervised stage. `bf16` stores edges in
            bfloat16 (half the memory) and multiplies in bfloat16 with float32 sums: for many regions, on a processor
            with such instructions (AVX512-BF16, AMX) or a GPU. Graph encoder only.
        mixup: mixing of rows in a supervised stage (Zhang et al. 2018, arXiv:1710.09412); null for none.

    `part_learning_rates`, `freeze`, `anchor`, `rate_decay` and `unfreeze` apply only to weights transferred from an
    earlier stage. Randomly initialised weights are trained at the full rate, so that a control without that stage is
    not handicapped.
    """

    steps: Steps | Literal["auto"] = "auto"
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.1
    part_learning_rates: dict[str, Positive] = Field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    clip_norm: Positive | None = 1.0
    schedule: Literal["constant", "cosine"] = "constant"
    class_weights: Literal["none", "balanced"] = "none"
    anchor: NonNegative = 0.0
    rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    unfreeze: Annotated[float, Field(ge=0, le=1)] = 0.0
    edge_noise: NonNegative = 0.0
    task_weights: TaskWeights = "equal"
    precision: Literal["float32", "bf16"] = "float32"
    mixup: Mixup | None = None

    def steps_for(self, n_rows: int) -> int:
        """Optimiser steps for this number of training rows."""
        return min(max(n_rows, _FEWEST_STEPS), _MOST_STEPS) if self.steps == "auto" else self.steps

    @staticmethod
    def steps_per_point(n_steps: int) -> int:
        """Steps whose mean loss is one point of a training curve."""
        return max(1, -(-n_steps // _CURVE))

    def batch_for(self, n_rows: int, *, images: bool = False) -> int:
        """Rows of a batch for this number of training rows; fewer with volumes."""
        if self.batch_size != "auto":
            return min(self.batch_size, n_rows)
        return -(-n_rows // max(1, round(n_rows / (8 if images else 64))))


_OF_TRANSFER = ("part_learning_rates", "freeze", "anchor", "rate_decay", "unfreeze")
_SUPERVISED = ("class_weights", "edge_noise", "task_weights", "precision", "mixup")


def refuse_idle(given: Sequence[str], stage: str, remedy: str) -> None:
    """Refuse settings that have no effect in a stage.

    Args:
        stage: its name, and why they have none.
        remedy: an alternative to their removal; `{}` stands for them.

    Raises:
        ValueError: some are given.
    """
    if given:
        have, them = ("has", "it") if len(given) == 1 else ("have", "them")
        raise ValueError(f"{', '.join(given)} {have} no effect in {stage}; remove {them}, or {remedy.format(them)}")


def _acting(training: Training, idle: tuple[str, ...], stage: str) -> Training:
    refuse_idle(given_of(training, idle), stage, "set {} in stages.finetune.training")
    return training


class Ensemble(Settings):
    """Several networks, each trained without one inner part of the training rows and stopped by it.

    Predictions of the networks are averaged. Their held-out predictions determine, per outcome, the number of
    training steps and the weight of the network relative to the closed-form core.

    Args:
        networks: number of inner parts; families are kept together.
        checkpoints: steps at which held-out rows are evaluated, as shares of all steps; the last step is always
            included.
        choose_on: rows used to choose the step. `tested` LEAKS: it chooses the best step on the tested rows, as some
            published code does. It exists to show the effect of this error; the report states it throughout.
        random_start: whether the networks of a study with earlier stages are averaged with as many from random
            weights, with weights per outcome from the likelihood of the held-out rows, so that an unrelated earlier
            stage does little harm. Controls without earlier stages are averaged with the same ones. Not with images,
            nor with `scaling: parent`.
    """

    networks: Annotated[int, Field(ge=2)] = 4
    checkpoints: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    choose_on: Literal["held_out", "tested"] = "held_out"
    random_start: bool = True

    def describe(self) -> str:
        """A clause for the methods section."""
        without = "each was trained without one part of the training rows"
        if self.choose_on == "tested":
            return f"{without}, and its number of steps was chosen on the tested rows (a leak, for demonstration)"
        return f"{without}, which was used to choose the number of steps"

    def steps_at(self, n_steps: int) -> tuple[int, ...]:
        """Steps at which held-out rows are evaluated, in increasing order, including the last one."""
        return tuple(sorted({round(share * n_steps) for share in self.checkpoints} | {n_steps}))


class Pretrain(Settings):
    """Stage 1: supervised training on the source cohort. Strong weight decay transfers better than a close fit of the
    source (chosen on the development children of ABIDE-33).

    `use_if: predictable` uses weights and scores of the source only if the closed-form core predicts at least one
    outcome of held-out source rows (t >= 3; single scores likewise), since weights trained on noise are a worse start
    than random ones. `always` uses them in any case.
    """

    training: Training = Training(weight_decay=10.0)
    use_if: Literal["predictable", "always"] = "predictable"

    @field_validator("training")
    @classmethod
    def _no_transfer(cls, given: Training) -> Training:
        return _acting(given, _OF_TRANSFER, "stages.pretrain, which has no earlier stage")


class Adapt(Settings):
    """Stage 2: unsupervised training on neonates without outcomes."""

    objective: AnyObjective = MaskedEdges()
    training: Training = Training(steps=160, learning_rate=3e-4, weight_decay=1.0)
    transductive: bool = False

    @field_validator("training")
    @classmethod
    def _no_outcomes(cls, given: Training) -> Training:
        return _acting(given, _SUPERVISED, "stages.adapt, which does not use the outcomes")


class FineTune(Settings):
    """Stage 3: supervised training on all outcomes of the target cohort.

    `scaling: parent` uses all feature steps of the previous stage (fitted on more subjects); `own` fits them on the
    training rows of this stage. `carry` lists the parts whose weights are transferred from the previous stage; a head
    is transferred only if the previous stage had the same task; otherwise it starts as a combination of its heads.
    Transferred weights of the connectome branch are trained at a tenth of the rate, which is better than the full rate
    with a related source (planted cohorts, docs/decisions/0025).
    """

    training: Training = Training(part_learning_rates={"connectome": 0.1})
    ensemble: Ensemble = Ensemble()
    carry: tuple[Literal["encoder", "fusion", "heads"], ...] = ("encoder", "fusion", "heads")
    scaling: Literal["own", "parent"] = "own"

    @property
    def of_transfer(self) -> list[str]:
        """Settings that need an earlier stage and differ from their defaults."""
        usual = type(self)().training
        acting = given_of(self.training, _OF_TRANSFER)
        changed = [name for name in acting if getattr(self.training, name) != getattr(usual, name)]
        return [*given_of(self, ("carry", "scaling")), *changed]

    def averages_random(self, modalities: Sequence[str]) -> bool:
        """Whether networks are averaged with networks from random weights if the study has earlier stages."""
        return self.ensemble.random_start and self.scaling == "own" and "image" not in modalities


class Stages(Settings):
    """The stages of a study; null omits a stage and its control.

    Stage 1 is omitted without a source cohort, stage 2 without a pool.
    """

    pretrain: Pretrain | None = Pretrain()
    adapt: Adapt | None = Adapt()
    finetune: FineTune = FineTune()
