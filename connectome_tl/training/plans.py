"""`FitPlan`: rows, parents, settings and seed of a fit. Equal plans have equal keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from connectome_tl import features, nn, settings, tasks, training
from connectome_tl.cohort import cohort as cohorts
from connectome_tl.cohort import splits
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.connectome import connectome
from connectome_tl.extension_code import code_of
from connectome_tl.imaging.volumes.cache import GRID_CODE
from connectome_tl.provenance import content_hash, versions
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.objectives import ObjectiveSettings
from connectome_tl.settings.training import Training

StageName = Literal["pretrain", "adapt", "finetune", "source", "core", "mixture"]
RANDOM = "random start"  # parent of a network: the same one from other random weights, with which it is averaged


@dataclass(frozen=True)
class RowSet:
    """Rows of a cohort that a fit uses.

    Attributes:
        cohort: role of the cohort in the study; its content is identified by `data`.
        ids: ids of the rows, in order.
        data: hash of the content of these rows (`Cohort.rows_hash`), outcomes included.
        labels: id of the subject whose outcomes each row gets (a label permutation), or None.
        kinds: kinds of the outcomes of the cohort.
    """

    cohort: str = field(compare=False)
    ids: tuple[str, ...]
    data: str
    labels: tuple[str, ...] | None = None
    kinds: tuple[str, ...] = ()

    @staticmethod
    def of(role: str, cohort: Cohort, ids: tuple[str, ...], labels: tuple[str, ...] | None = None) -> RowSet:
        """These rows of a cohort; the content of the rows with the outcomes of a permutation is included."""
        hashed = tuple(dict.fromkeys((*ids, *(labels or ()))))
        kinds = tuple(sorted({task.kind for task in cohort.tasks}))
        return RowSet(role, ids, cohort.rows_hash(hashed), labels, kinds)


@dataclass(frozen=True)
class Transfer:
    """Transfer from the previous stage.

    Attributes:
        carry: parts whose weights are transferred: `encoder` (branches), `fusion`, `heads`.
        scaling: whether feature steps are those of the previous stage, or fitted on the rows of this stage.
        fresh_heads: outcomes of equal name that differ from those of the previous stage and need new heads.
        unpredictable: whether a source is used even if none of its outcomes is predictable from its own rows.
    """

    carry: tuple[str, ...] = ("encoder", "fusion", "heads")
    scaling: Literal["own", "parent"] = "own"
    fresh_heads: tuple[str, ...] = ()
    unpredictable: bool = False


@dataclass(frozen=True)
class FitPlan:
    """Complete specification of one fit.

    The key covers every compared field. `label` (the model of the study), `predict` and `keep` are not compared, so
    that models that need the same fit share it.

    Attributes:
        stage: name of the stage, which determines the fitter.
        train: the training rows.
        tasks: outcomes of the fit; an adaptation keeps the heads of its parent unchanged.
        modalities: input modalities.
        features: settings of the feature steps.
        model: settings of the network. core: of the closed-form core. training: of the training of a network.
        objective: objective of an adaptation.
        device: device of the training: cpu or cuda. devices: number of processes that share the fit.
        checkpoints: shares of the steps after which held-out rows are evaluated.
        inner: held-out rows of each network of an ensemble.
        chosen_by: tested rows used to choose the step, if the settings request this leak.
        others: further rows by role (source replay, alignment).
        parents: fits that it starts from or consists of, by purpose.
        transfer: transfer from the parent `stage`.
        seed: seed of all its random draws.
        predict: ids of the cohort `train.cohort` to predict with the fitted model.
        keep: whether to keep the fitted state (permutations need only predictions).
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
        """SHA-256 over all compared fields, including those of the parents, and the version of the code."""
        return content_hash(code_version(self.parts), _compared(self))

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of what the fit uses and an extension may define (see `extension_code`)."""
        encoders = () if self.model is None else self.model.branches.values()
        rows = (self.train, *(one for _, one in self.others), *(() if self.chosen_by is None else (self.chosen_by,)))
        return (
            *(f"encoder {getattr(one, 'kind', '')}" for one in encoders),
            f"objective {getattr(self.objective, 'kind', '')}",
            *(() if self.model is None else (f"fusion {self.model.fusion.kind}",)),
            *(f"modality {name}" for name in self.modalities),
            *(f"task kind {kind}" for one in rows for kind in one.kinds),
        )

    @property
    def depth(self) -> int:
        """Number of fits that have to precede this one, along the longest chain of parents."""
        return 1 + max((parent.depth for _, parent in self.parents), default=-1)

    def parent(self, name: str) -> FitPlan | None:
        """The plan of this parent, if any."""
        return dict(self.parents).get(name)

    def on_cohort(self, role: str, other: str) -> FitPlan:
        """The same fits with the rows of one role from another cohort; keys do not change, since they hash the
        content.
        """
        train = replace(self.train, cohort=other) if self.train.cohort == role else self.train
        chosen_by = self.chosen_by
        if chosen_by is not None and chosen_by.cohort == role:
            chosen_by = replace(chosen_by, cohort=other)
        parents = tuple((name, parent.on_cohort(role, other)) for name, parent in self.parents)
        return replace(self, train=train, chosen_by=chosen_by, parents=parents)

    def predicting(self, ids: tuple[str, ...]) -> FitPlan:
        """The same fits with other rows to predict; parents that predict none still predict none."""
        parents = tuple((name, one.predicting(ids) if one.predict else one) for name, one in self.parents)
        return replace(self, predict=ids, parents=parents)

    def lineage(self, *, without: str | None = None) -> tuple[FitPlan, ...]:
        """This plan and its ancestors, without those through parents of one name; parents first, each once."""
        return tuple({plan.key: plan for plan in self._lineage(without)}.values())

    def _lineage(self, without: str | None) -> Iterator[FitPlan]:
        for name, parent in self.parents:
            if name != without:
                yield from parent._lineage(without)
        yield self


def _compared(value: Any) -> Any:
    """Plain content of all compared fields; parents are represented by their keys."""
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
        # Include the class, since two kinds of settings may have equal fields.
        return {"settings": type(value).__name__, **value.model_dump(mode="json")}
    return _compared(value)


_PACKAGES = (features, nn, training, settings)
_MODULES = (tasks, cohorts, splits, connectome, *GRID_CODE)


# Libraries that compute parts of a fit; nilearn the geometric mean of a tangent space.
_LIBRARIES = ("numpy", "scipy", "scikit-learn", "nilearn", "torch", "torch-geometric", "monai")


def code_version(parts: Iterable[str]) -> str:
    """Hash of the code of fits, of library versions, and of those of these parts that extensions define, so that fits
    of changed code are not reused."""
    return content_hash(_own_code(), code_of(parts))


@cache
def _own_code() -> str:
    folders = [Path(folder) for package in _PACKAGES for folder in package.__path__]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    files += [Path(str(module.__file__)) for module in _MODULES]
    computing = versions(_LIBRARIES)
    return content_hash([(file.name, content_hash(file.read_bytes())) for file in files], computing)
