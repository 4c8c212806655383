"""Result records of `connectome-tl prune`."""

from __future__ import annotations

from connectome_tl.settings.base import Record
from connectome_tl.settings.records.scores import Number


class PrunedNetwork(Record):
    """One pruned network of one fold.

    Attributes:
        fold, network: numbers from 0.
        macs, parameters, seconds: of one volume, unpruned and pruned.
        loss, tuned_loss, pruned_loss: mean loss of the tested subjects (squared error of a regression, whatever its
            head is trained with): as it was, after as many further steps
            unpruned, and pruned.
        removed: channels that are gone, by the layer that made them.
        left_alone: why layers were not pruned, by name.
        steps: of fine-tuning, in all.
        file: its weights.
    """

    fold: int
    network: int
    macs: tuple[float, float]
    parameters: tuple[int, int]
    seconds: tuple[float, float]
    loss: Number
    tuned_loss: Number
    pruned_loss: Number
    removed: dict[str, tuple[int, ...]]
    left_alone: dict[str, str]
    steps: int
    file: str


class VolumePruningRecord(Record):
    """All pruned networks of a run for one outcome.

    Attributes:
        relative_loss: mean over folds of pruned by unpruned loss minus 1, where both had the same further steps; `low`
            and `high` its 95 % t interval over folds, NaN for one fold. Folds share training subjects, so that it is
            too narrow.
    """

    task: str
    target: float
    networks: tuple[PrunedNetwork, ...]
    relative_loss: Number
    low: Number
    high: Number
