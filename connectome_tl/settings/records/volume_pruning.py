"""Result records of `connectome-tl prune`."""

from __future__ import annotations

from pydantic import Field

from connectome_tl.settings.base import Record
from connectome_tl.settings.records.scores import Number


class PrunedNetwork(Record):
    """One pruned network of one fold.

    Attributes:
        fold, network: numbers from 0.
        macs, parameters, memory: cost for one volume, unpruned and pruned; memory in bytes.
        seconds: measured CPU seconds for one volume, unpruned and pruned; not part of written records, since they
            differ between equal calls. None if they are unknown.
        loss, tuned_loss, pruned_loss: mean loss of the tested subjects (squared error for a regression): of the
            original network, of the unpruned network after the same number of further steps, and of the pruned
            network.
        removed: removed channels, by layer.
        left_alone: reasons why layers were not pruned, by name.
        steps: total number of fine-tuning steps.
        file: file of its weights.
    """

    fold: int
    network: int
    macs: tuple[float, float]
    parameters: tuple[int, int]
    seconds: tuple[float, float] | None = Field(default=None, exclude=True)
    memory: tuple[int, int]
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
        relative_loss: mean over folds of the ratio of pruned to unpruned loss minus 1, both after the same number of
            further steps; `low` and `high` are its 95 % t interval over folds, NaN for one fold. The interval is too
            narrow, since folds share training subjects.
    """

    task: str
    target: float
    networks: tuple[PrunedNetwork, ...]
    relative_loss: Number
    low: Number
    high: Number
