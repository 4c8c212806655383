"""`study.yaml`: three cohorts, three stages, a model, a split plan. Every number that decides a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from connectome_tl.settings.base import Settings
from connectome_tl.settings.harmonise import EdgeSettings, HarmoniseSettings

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Norm = Literal["layer", "batch", "none"]
PARTS = ("encoder", "clinical", "fusion", "heads")


class GraphEncoder(Settings):
    """Dense graph convolutions over the connectome.

    `node_features: profile` gives each region its scaled row of connections, so the weights belong
    to one atlas; `strength` gives it only atlas-free summaries, so the weights carry over to any
    number of regions and the output does not change when regions are shuffled; `measures` gives it its
    own measures (`region_features`) and leaves the edges to carry messages. `readout: regional`
    weighs each region by its own learned factors (atlas-bound), `mean` does not. `direct` adds a
    linear map of the edges (with `measures`: of those) to the embedding: the network starts as that
    linear model and the messages learn what it lacks, which at these sample sizes is worth more than depth.
    """

    kind: Literal["graph"] = "graph"
    node_features: Literal["profile", "strength", "measures"] = "profile"
    direct: bool = True
    n_layers: Annotated[int, Field(ge=1, le=8)] = 2
    width: Annotated[int, Field(ge=1)] = 16
    embedding: Annotated[int, Field(ge=1)] = 32
    readout: Literal["mean", "regional"] = "regional"
    norm: Literal["layer", "none"] = "layer"
    dropout: Probability = 0.5
    engine: Literal["dense", "pyg"] = "dense"

    @property
    def is_atlas_bound(self) -> bool:
        return self.node_features == "profile" or self.readout == "regional" or self.direct


class FlatEncoder(Settings):
    """The connectome branch of He et al. 2020 (doi:10.1038/s41598-020-71914-x): upper-triangle edges
    through dense layers without bias, normalised, ReLU. The published demo has widths 128 and 32 and
    batch normalisation; layer normalisation is our default, since a batch of one breaks the other."""

    kind: Literal["flat"] = "flat"
    widths: tuple[Annotated[int, Field(ge=1)], ...] = (128, 32)
    norm: Norm = "layer"
    dropout: Probability = 0.0

    @property
    def is_atlas_bound(self) -> bool:
        return True


class ModelSettings(Settings):
    """Encoders, fusion and heads.

    The published demo of He et al. 2020 has a fused layer of 8 and batch normalisation after every
    dense layer. Here the fused layer is wider and not normalised: with some thirty subjects that
    keeps the model near a linear one (measured on the development children of ABIDE-33).
    """

    encoder: Annotated[GraphEncoder | FlatEncoder, Field(discriminator="kind")] = GraphEncoder()
    clinical_width: Annotated[int, Field(ge=1)] = 16
    fused_width: Annotated[int, Field(ge=1)] = 32
    norm: Norm = "none"
    dropout: Probability = 0.0


class MaskedEdges(Settings):
    """Hide a share of edges, predict their scaled values from the rest."""

    kind: Literal["masked_edges"] = "masked_edges"
    share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    rank: Annotated[int, Field(ge=1)] = 16


class DenoisingAutoencoder(Settings):
    """Reconstruct clean edges from noisy ones through the embedding (the founding paper's kind of
    second stage; its own noise and objective were not published, so these are settings)."""

    kind: Literal["denoising"] = "denoising"
    noise: NonNegative = 0.5
    drop: Probability = 0.1
    hidden: Annotated[int, Field(ge=1)] = 64


class Training(Settings):
    """How one fit is trained: AdamW, full batch unless `batch_size` is given, a fixed number of epochs.

    Args:
        part_learning_rates: factor on `learning_rate` for a named part (encoder, clinical, fusion, heads).
        freeze: parts that do not move; their dropout is off.
        anchor: strength of the pull towards the parent's weights (L2-SP, Li et al. 2018,
            arXiv:1802.01483); 0 is none.
    """

    epochs: Annotated[int, Field(ge=0)] = 100
    batch_size: Annotated[int, Field(ge=1)] | None = None
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 1e-2
    part_learning_rates: dict[str, Positive] = Field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    clip_norm: Positive | None = 1.0
    anchor: NonNegative = 0.0
    edge_noise: NonNegative = 0.0

    @field_validator("part_learning_rates", "freeze")
    @classmethod
    def _parts_exist(cls, value: dict[str, float] | tuple[str, ...]) -> dict[str, float] | tuple[str, ...]:
        wrong = sorted(set(value) - set(PARTS))
        if wrong:
            raise ValueError(f"no part is called {', '.join(wrong)}; parts are {', '.join(PARTS)}")
        if set(value) >= set(PARTS) and not isinstance(value, dict):
            raise ValueError("everything frozen: nothing would be learned")
        return value


class Pretrain(Settings):
    """Stage 1: supervised, on the source cohort. Strong weight decay carries over better than a good
    fit of the source does (chosen on the development children of ABIDE-33)."""

    training: Training = Training(epochs=20, batch_size=64, learning_rate=1e-3, weight_decay=10.0)


class Adapt(Settings):
    """Stage 2: unsupervised, on neonates without outcomes."""

    objective: Annotated[MaskedEdges | DenoisingAutoencoder, Field(discriminator="kind")] = MaskedEdges()
    training: Training = Training(epochs=10, batch_size=64, learning_rate=3e-4, weight_decay=1.0)
    transductive: bool = False


class FineTune(Settings):
    """Stage 3: supervised and joint, on the infants with outcomes.

    `scaling: parent` keeps the scalers of the stage before (fitted on more subjects); `own` fits them
    on this stage's training rows. `carry` lists what is taken from the stage before; a head is
    carried only when the stage before had the same task.
    """

    training: Training = Training(
        epochs=60, learning_rate=1e-3, weight_decay=1e-2, part_learning_rates={"encoder": 0.1}
    )
    carry: tuple[Literal["encoder", "fusion", "heads"], ...] = ("encoder", "fusion", "heads")
    scaling: Literal["own", "parent"] = "own"


class Stages(Settings):
    """A stage that is null is left out; its control is then left out too."""

    pretrain: Pretrain | None = Pretrain()
    adapt: Adapt | None = Adapt()
    finetune: FineTune = FineTune()


class CohortUse(Settings):
    """A cohort file and which of its outcomes are used (all of them when null)."""

    cohort: str
    tasks: tuple[str, ...] | None = None


class SplitSettings(Settings):
    """Who trains and who tests.

    `kfold` is repeated, nested, stratified and grouped; `site_out` holds out each site in turn;
    `few_labels` draws `n_labelled` training subjects and cuts the rest into `outer` test parts.
    """

    scheme: Literal["kfold", "site_out", "few_labels"] = "kfold"
    repeats: Annotated[int, Field(ge=1, le=1000)] = 5
    outer: Annotated[int, Field(ge=2)] = 5
    inner: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0)] = 0
    stratum: str | None = None  # the first binary outcome; "" for none
    n_labelled: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _fits_the_scheme(self) -> SplitSettings:
        if (self.scheme == "few_labels") != (self.n_labelled is not None):
            raise ValueError("n_labelled goes with scheme few_labels, and is needed there")
        if self.inner == 1:
            raise ValueError("inner is a number of folds: 0 (none) or at least 2")
        return self


class Confounds(Settings):
    """Covariates whose linear part is taken out of every edge, fitted on training rows.

    A column written `log(column)` is taken as its natural logarithm.
    """

    columns: tuple[str, ...] = Field(min_length=1)


class Recalibration(Settings):
    """What the inner folds are for: risks made true, and a threshold, before a test row is seen.

    With `splits.inner` at 2 or more, the full model is fitted `repeats * outer * inner * n_seeds` times
    more, and the baselines likewise; nothing is done with 0. Platt moves level and spread of the risks,
    temperature their spread alone.
    """

    method: Literal["platt", "temperature"] = "platt"
    specificity: Annotated[float, Field(gt=0, le=1)] = 0.9


class Refits(Settings):
    """Bootstrap refits per fold of the first repeat, for the instability of single risks; 0 for none.

    `network` refits the last stage of the full model: `network * outer` fits more.
    """

    linear: Annotated[int, Field(ge=0, le=10_000)] = 100
    network: Annotated[int, Field(ge=0, le=10_000)] = 0


Control = Literal["scratch", "no_pretrain", "no_adapt", "single_task", "no_clinical"]
Baseline = Literal["prevalence", "nuisance_only", "clinical_only", "ridge"]
ALL_CONTROLS: tuple[Control, ...] = ("scratch", "no_pretrain", "no_adapt", "single_task", "no_clinical")
ALL_BASELINES: tuple[Baseline, ...] = ("prevalence", "nuisance_only", "clinical_only", "ridge")


class StudySettings(Settings):
    """The whole of `study.yaml`. Cohort paths are relative to the file itself.

    Args:
        n_seeds: fits per fold with other initial weights; their predictions are averaged.
        permutations: label permutations of the fine-tuning (first repeat only); 0 for none.
        threshold: probability at which a risk becomes a class, fixed in advance.
        n_jobs: processes; results do not depend on it.
    """

    title: str = "Neurodevelopmental outcome from the connectome"
    source: CohortUse | None = None
    pool: CohortUse | None = None
    target: CohortUse
    stages: Stages = Stages()
    model: ModelSettings = ModelSettings()
    splits: SplitSettings = SplitSettings()
    confounds: Confounds | None = None
    harmonise: HarmoniseSettings = HarmoniseSettings()
    edges: EdgeSettings = EdgeSettings()
    recalibration: Recalibration = Recalibration()
    refits: Refits = Refits()
    controls: tuple[Control, ...] = ALL_CONTROLS
    baselines: tuple[Baseline, ...] = ALL_BASELINES
    permutations: Annotated[int, Field(ge=0, le=100_000)] = 0
    n_seeds: Annotated[int, Field(ge=1, le=100)] = 1
    seed: Annotated[int, Field(ge=0)] = 0
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    n_jobs: Annotated[int, Field(ge=1)] = 2

    @model_validator(mode="after")
    def _stages_have_cohorts(self) -> StudySettings:
        if self.stages.pretrain is not None and self.source is None:
            raise ValueError("stage pretrain needs a source cohort; give source, or stages.pretrain: null")
        if self.stages.adapt is not None and self.pool is None:
            raise ValueError("stage adapt needs a pool of unlabelled subjects; give pool, or stages.adapt: null")
        return self

    @property
    def decisive(self) -> StudySettings:
        """The same without what changes no result: what hashes and sidecars record."""
        return self.model_copy(update={"n_jobs": 1})

    @property
    def nameless(self) -> StudySettings:
        """The decisive settings without title and places: equal where a study lies elsewhere or is called otherwise."""

        def placeless(use: CohortUse | None) -> CohortUse | None:
            return None if use is None else use.model_copy(update={"cohort": ""})

        places = {name: placeless(getattr(self, name)) for name in ("source", "pool", "target")}
        return self.decisive.model_copy(update={"title": "", **places})
