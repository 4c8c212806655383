"""Training of a network in the methods paragraph."""

from __future__ import annotations

from collections.abc import Sequence

from connectome_tl.report.labels import listed
from connectome_tl.settings.training import Training


def training_text(
    training: Training, fewest: int, most: int, *, modalities: Sequence[str] = (), transfer: bool = True
) -> str:
    """Training settings of a network for `fewest` to `most` rows.

    Args:
        modalities: inputs of the network. transfer: whether weights are transferred from an earlier stage.
    """
    steps = {training.steps_for(n) for n in (fewest, most)}
    sizes = {training.batch_for(n, images="image" in modalities) for n in (fewest, most)}
    falling = " with cosine decay to 0" if training.schedule == "cosine" else ""
    weighted = ", classes weighted by their frequency" if training.class_weights == "balanced" else ""
    return (
        f"AdamW, at most {_range(steps)} steps with batches of {_range(sizes)}, learning rate "
        f"{training.learning_rate:g}{falling}, weight decay {training.weight_decay:g}{weighted}"
        f"{''.join(_of_transfer(training, modalities) if transfer else [])}{''.join(_options(training))}"
    )


def _of_transfer(training: Training, modalities: Sequence[str]) -> list[str]:
    """Settings of transferred weights, each preceded by a comma."""
    found, parts = [], (*modalities, "fusion", "heads")
    factors = {part: factor for part, factor in training.part_learning_rates.items() if part in parts}
    if factors:
        rates = listed([f"{factor:g} for {part}" for part, factor in factors.items()])
        found.append(f", factors on the learning rate of transferred weights ({rates})")
    if training.rate_decay < 1:
        found.append(
            f", learning rates of transferred weights decreasing by a factor of {training.rate_decay:g} from heads to "
            "fusion to branches"
        )
    if training.freeze:
        found.append(f", transferred weights of {listed(list(training.freeze))} frozen")
    if training.unfreeze:
        found.append(f", transferred weights unfrozen part by part over the first {training.unfreeze:.0%} of the steps")
    if training.anchor:
        found.append(f", a penalty of {training.anchor:g} on the distance to the transferred weights (L2-SP)")
    return found


def _options(training: Training) -> list[str]:
    """Other training settings that differ from their defaults, each preceded by a comma."""
    found = []
    if training.edge_noise:
        found.append(f", Gaussian noise of {training.edge_noise:g} SD added to the edges")
    if training.task_weights != "equal":
        how = "learned uncertainties" if training.task_weights == "uncertainty" else "equal sizes of their gradients"
        found.append(f", outcomes weighted by {how}")
    if training.precision == "bf16":
        found.append(", edges in bfloat16")
    if training.mixup is not None:
        near = "" if training.mixup.neighbours is None else f" among the {training.mixup.neighbours} nearest in outcome"
        found.append(f", mixup of pairs{near} (Beta {training.mixup.alpha:g})")
    return found


def _range(values: set[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
