"""Settings of training and of the three stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectome_tl.settings.base import Settings
from connectome_tl.settings.objectives import AnyObjective, MaskedEdges, NonNegative, Positive

TaskWeights = Literal["equal", "uncertainty", "gradient"]
Steps = Annotated[int, Field(ge=0)]


class Mixup(Settings):
    """Training rows are mixed in pairs: features by a share drawn from Beta(alpha, alpha), the loss by the same.

    A pair that lacks other regions or modalities is not mixed.

    Args:
        neighbours: mix with one of so many rows that are nearest in outcome; with any row when null.
    """

    alpha: Positive = 0.2
    neighbours: Annotated[int, Field(ge=1)] | None = None


class Training(Settings):
    """AdamW for a number of steps that follows the number of rows.

    Args:
        steps: optimiser steps; `auto` is 320, and 640 from 600 rows.
        batch_size: rows of a batch; `auto` is as near to 64 as equal batches allow (all rows below 96), and to 8
            where volumes are learnt from.
        part_learning_rates: factor on `learning_rate` for a part of the model (a modality, `fusion`, `heads`).
        freeze: parts that are not trained; their dropout is off.
        schedule: `cosine` lets the learning rate fall to 0 over the steps (Loshchilov and Hutter 2017,
            arXiv:1608.03983).
        class_weights: `balanced` weighs the classes of a binary outcome inversely to their frequency among the
            training rows; the risks are corrected for it, so that they stay those of the cohort.
        anchor: strength of the pull towards the parent's weights (L2-SP, Li et al. 2018,
            arXiv:1802.01483); 0 is none.
        rate_decay: factor on the rate of the fusion, and once more on that of the branches (discriminative
            rates, Howard and Ruder 2018, doi:10.18653/v1/P18-1031); 1 is none.
        unfreeze: share of the steps after which all parts move: the heads from the start, the fusion from half
            of it, the branches from the end of it (gradual unfreezing, same source); 0 moves all at once.
        edge_noise: standard deviation of the noise that is added to scaled edges of a supervised stage.
        task_weights: of the outcomes of a supervised stage. `equal`; `uncertainty`, learned with the network
            (Kendall et al. 2018, arXiv:1705.07115); `gradient`, so that all pull equally at the fused layer
            (Chen et al. 2018, arXiv:1711.02257).
        precision: of the large products of a supervised stage. `bf16` keeps edges in bfloat16 while training, in half
            the memory, and multiplies them by weights in it, with sums in float32: for many regions, on a processor
            with such instructions (AVX512-BF16, AMX) or a GPU. For the graph encoder alone.
        mixup: mixes the rows of a supervised stage (Zhang et al. 2018, arXiv:1710.09412); null for none.

    `part_learning_rates`, `freeze`, `anchor`, `rate_decay` and `unfreeze` act only on weights that were taken
    over from an earlier stage: weights that start at random are trained at the full rate, so that a control
    without that stage is not handicapped.
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
        return (640 if n_rows >= 600 else 320) if self.steps == "auto" else self.steps

    def batch_for(self, n_rows: int, *, images: bool = False) -> int:
        """Rows of a batch for this number of training rows; fewer where volumes are among what is learnt from."""
        if self.batch_size != "auto":
            return min(self.batch_size, n_rows)
        return -(-n_rows // max(1, round(n_rows / (8 if images else 64))))


class Ensemble(Settings):
    """Several networks, each trained without one inner part of the training rows and stopped by it.

    The mean of the networks predicts. Their held-out predictions choose, per outcome, after how many
    steps training stops, and the weight of the network beside the closed-form core.

    Args:
        networks: number of inner parts; families stay together.
        checkpoints: steps at which held-out rows are looked at, as shares of all steps; the last step is
            always one.
        choose_on: rows that choose the step. `tested` LEAKS: it takes the step that is best on the tested rows, as
            some published code does, so that the gain of that fault can be shown; the report says so everywhere.
    """

    networks: Annotated[int, Field(ge=2)] = 4
    checkpoints: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
    choose_on: Literal["held_out", "tested"] = "held_out"

    def steps_at(self, n_steps: int) -> tuple[int, ...]:
        """The steps at which held-out rows are looked at, rising, the last one included."""
        return tuple(sorted({round(share * n_steps) for share in self.checkpoints} | {n_steps}))


class Pretrain(Settings):
    """Stage 1: supervised, on the source cohort. Strong weight decay carries over better than a good
    fit of the source does (chosen on the development children of ABIDE-33)."""

    training: Training = Training(weight_decay=10.0)


class Adapt(Settings):
    """Stage 2: unsupervised, on neonates without outcomes."""

    objective: AnyObjective = MaskedEdges()
    training: Training = Training(steps=160, learning_rate=3e-4, weight_decay=1.0)
    transductive: bool = False


class FineTune(Settings):
    """Stage 3: supervised and joint, on the infants with outcomes.

    `scaling: parent` keeps all fitted feature steps of the stage before (fitted on more subjects); `own`
    fits them on this stage's training rows. `carry` lists what is taken from the stage before; a head
    is carried only when the stage before had the same task; a new one starts from a combination of its heads.
    """

    training: Training = Training()
    ensemble: Ensemble = Ensemble()
    carry: tuple[Literal["encoder", "fusion", "heads"], ...] = ("encoder", "fusion", "heads")
    scaling: Literal["own", "parent"] = "own"


class Stages(Settings):
    """A stage that is null is left out; its control is then left out too.

    Stage 1 is left out where a study has no source cohort, stage 2 where it has no pool.
    """

    pretrain: Pretrain | None = Pretrain()
    adapt: Adapt | None = Adapt()
    finetune: FineTune = FineTune()
