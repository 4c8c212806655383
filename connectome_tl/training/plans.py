"""`FitPlan`: rows, parents, settings and seed of a fit. Equal plans have equal keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from connectome_tl import features, nn, settings, tasks, training
from connectome_tl.cohort import cohort, splits
from connectome_tl.connectome import connectome
from connectome_tl.imaging import foreground, grids, volume_checks
from connectome_tl.provenance import content_hash, versions
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.objectives import ObjectiveSettings
from connectome_tl.settings.training import Training

StageName = Literal["pretrain", "adapt", "finetune", "source", "core", "mixture"]


@dataclass(frozen=True)
class RowSet:
    """Rows of a cohort that a fit learns from.

    Attributes:
        cohort: role of the cohort in the study; its content is in `data`.
        ids: the rows, in the order in which they are taken.
        data: hash of the content of these rows (`Cohort.rows_hash`), outcomes included.
        labels: whose outcomes each row gets (a label permutation), or None for its own.
    """

    cohort: str = field(compare=False)
    ids: tuple[str, ...]
    data: str
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Transfer:
    """What a fit takes from the stage before.

    Attributes:
        carry: `encoder` (branches), `fusion`, `heads`.
        scaling: whether feature steps are those of the stage before, or fitted on the own rows.
        fresh_heads: outcomes that the stage before knew by the same name as another kind.
    """

    carry: tuple[str, ...] = ("encoder", "fusion", "heads")
    scaling: Literal["own", "parent"] = "own"
    fresh_heads: tuple[str, ...] = ()


@dataclass(frozen=True)
class FitPlan:
    """Everything that decides one fit; nothing else may.

    The key covers every field that is compared. `label` (which model of the study it belongs to), `predict`
    and `keep` are not: two models that need the same fit share it.

    Attributes:
        stage: which fitter makes it.
        train: the rows it trains on, and no others.
        tasks: outcomes that are learnt; an adaptation keeps the heads of its parent untouched.
        modalities: what the model sees of a subject.
        features: what is fitted to make features.
        model: the network. core: the closed-form core. training: how a network is trained.
        objective: what an adaptation minimises.
        device: where the network is trained: cpu or cuda. devices: processes that share the fit.
        checkpoints: shares of the steps after which held-out rows are looked at.
        inner: held-out rows of each network of an ensemble.
        chosen_by: tested rows whose outcomes choose the step, where a study asks for this leak.
        others: further rows by role (source replay, alignment).
        parents: fits that it starts from or is made of, by what they are for.
        transfer: what it takes from the parent `stage`.
        seed: of all its random draws.
        predict: ids of the cohort `train.cohort` to predict with the fitted model.
        keep: keep the fitted state (a permutation needs only its predictions).
    """

    stage: StageName
    train: RowSet
    tasks: tuple[str, ...]
    modalities: tuple[str, ...]
    features: FeatureSettings
    seed: int
    model: ModelSettings | None = None
    core: CoreSettings | None = None
    training: Training | None = None
    objective: ObjectiveSettings | None = None
    device: str = "cpu"
    devices: int = 1
    checkpoints: tuple[float, ...] = ()
    inner: tuple[tuple[str, ...], ...] = ()
    chosen_by: RowSet | None = None
    others: tuple[tuple[str, RowSet], ...] = ()
    parents: tuple[tuple[str, FitPlan], ...] = ()
    transfer: Transfer = Transfer()
    label: str = field(default="", compare=False)
    predict: tuple[str, ...] = field(default=(), compare=False)
    keep: bool = field(default=True, compare=False)

    @cached_property
    def key(self) -> str:
        """SHA-256 over all compared fields, those of the parents included, and the version of the code."""
        return content_hash(code_version(), _compared(self))

    @property
    def depth(self) -> int:
        return 1 + max((parent.depth for _, parent in self.parents), default=-1)

    def parent(self, name: str) -> FitPlan | None:
        return dict(self.parents).get(name)

    def on_cohort(self, role: str, other: str) -> FitPlan:
        """The same fits with the rows of one role taken from another cohort; keys stay, since content decides them."""
        train = replace(self.train, cohort=other) if self.train.cohort == role else self.train
        chosen_by = self.chosen_by
        if chosen_by is not None and chosen_by.cohort == role:
            chosen_by = replace(chosen_by, cohort=other)
        parents = tuple((name, parent.on_cohort(role, other)) for name, parent in self.parents)
        return replace(self, train=train, chosen_by=chosen_by, parents=parents)

    def lineage(self) -> tuple[FitPlan, ...]:
        """This plan and all it is made from, parents before children, each once."""
        return tuple({plan.key: plan for plan in self._lineage()}.values())

    def _lineage(self) -> Iterator[FitPlan]:
        for _, parent in self.parents:
            yield from parent._lineage()
        yield self


def _compared(value: Any) -> Any:
    """Plain content of all compared fields; a parent stands for itself by its key."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _part(getattr(value, f.name)) for f in fields(value) if f.compare}
    return value


def _part(value: Any) -> Any:
    if isinstance(value, FitPlan):
        return value.key
    if isinstance(value, tuple):
        return [_part(item) for item in value]
    if isinstance(value, ModelSettings):
        value = value.compared
    if hasattr(value, "model_dump"):
        # Two kinds of settings with equal fields are two settings.
        return {"settings": type(value).__name__, **value.model_dump(mode="json")}
    return _compared(value)


_PACKAGES = (features, nn, training, settings)
_MODULES = (tasks, cohort, splits, connectome, foreground, grids, volume_checks)


def code_version() -> str:
    """Hash of the code that makes fits and of the libraries it computes with: changed code meets no stale fit."""
    return content_hash(_own_code(), _extensions())


@cache
def _own_code() -> str:
    folders = [Path(folder) for package in _PACKAGES for folder in package.__path__]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    files += [Path(str(module.__file__)) for module in _MODULES]
    computing = versions(("numpy", "scipy", "scikit-learn", "torch", "torch-geometric", "monai"))
    return content_hash([(file.name, content_hash(file.read_bytes())) for file in files], computing)


def _extensions() -> list[str]:
    from connectome_tl.training.extension import sources  # imports all that can be extended

    return sources()
