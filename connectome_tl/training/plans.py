"""A fit, said before it is made: rows, parent, settings, seed. Equal plans have equal keys and are fitted once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from connectome_tl.provenance import content_hash
from connectome_tl.settings.harmonise import ALL_EDGES, NO_HARMONISATION, EdgeSettings, HarmoniseSettings
from connectome_tl.settings.study import Confounds, DenoisingAutoencoder, MaskedEdges, ModelSettings, Training

StageName = Literal["pretrain", "adapt", "finetune"]
FORMAT = 4  # raised when the same plan would train differently, so that old fits are not reused


@dataclass(frozen=True)
class FitPlan:
    """Everything that decides one fit; nothing else may.

    Attributes:
        label: which model of the study it belongs to; not part of the key, so that two models
            which need the same fit share it.
        cohort: which of the study's cohorts the rows come from (source, pool, target).
        data: hash of the content of the rows it trains on (`Cohort.rows_hash`), outcomes included.
        rows: ids it trains on (for adaptation: the pool), and no others.
        label_rows: whose outcomes each row gets (a label permutation), or None for its own.
        tasks: outcomes that have a head; an adaptation keeps the heads of its parent untouched.
        predict: ids to predict with the fitted model; not part of the key.
        fresh_heads: tasks that the stage before knew by the same name as another kind; their heads start anew.
        keep: keep the fitted state (a permutation needs only its predictions).
    """

    label: str
    stage: StageName
    cohort: str
    data: str
    rows: tuple[str, ...]
    tasks: tuple[str, ...]
    model: ModelSettings
    training: Training
    seed: int
    parent: FitPlan | None = None
    objective: MaskedEdges | DenoisingAutoencoder | None = None
    clinical: bool = True
    confounds: Confounds | None = None
    harmonise: HarmoniseSettings = NO_HARMONISATION
    edges: EdgeSettings = ALL_EDGES
    carry: tuple[str, ...] = ("encoder",)
    scaling: Literal["own", "parent"] = "own"
    fresh_heads: tuple[str, ...] = ()
    label_rows: tuple[str, ...] | None = None
    predict: tuple[str, ...] = field(default=(), compare=False)
    keep: bool = field(default=True, compare=False)

    @cached_property
    def key(self) -> str:
        """SHA-256 over all that decides the fit, the parent's key included."""
        return content_hash(
            FORMAT,
            self.stage,
            self.data,
            self.rows,
            self.label_rows,
            self.tasks,
            self.model,
            self.training,
            self.seed,
            self.objective,
            self.clinical,
            self.confounds,
            self.harmonise,
            self.edges,
            self.carry,
            self.scaling,
            self.fresh_heads,
            self.parent.key if self.parent is not None else None,
        )

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + 1

    def lineage(self) -> tuple[FitPlan, ...]:
        """This plan and its parents, the oldest first."""
        return (*(self.parent.lineage() if self.parent is not None else ()), self)
