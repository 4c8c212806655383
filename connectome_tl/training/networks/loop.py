"""Training loop: sample rows, update the model, count steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from connectome_tl.errors import DataError
from connectome_tl.nn.batch import Batch
from connectome_tl.nn.devices import exact_on_gpu
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.settings.training import Training
from connectome_tl.training.networks.optimisers import AdamW
from connectome_tl.training.networks.parallel import average_gradients
from connectome_tl.training.networks.parts import Freezing, parameter_groups
from connectome_tl.training.networks.volumes import Work
from connectome_tl.training.objectives.objective import TRAIN, Objective

StepHook = Callable[[int, float], None]  # (step, loss); may raise an exception to stop training


@dataclass(frozen=True)
class Pool:
    """Rows of one role from which batches are drawn; `targets` (n_rows, n_tasks) or None."""

    batch: Batch
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(self.batch)

    def prepared(self, model: OutcomeModel) -> Pool:
        """The same rows, with results of the model that do not depend on its weights."""
        return replace(self, batch=model.prepared(self.batch))

    def drawing(self, order: Iterator[np.ndarray | None]) -> Iterator[tuple[Batch, Tensor | None]]:
        """Yield batches of row numbers (None for all rows); the memory of a batch is reused by the next one."""
        places: dict[int, Batch] = {}  # by number of rows
        for index in order:
            if index is None:
                yield self.batch, self.targets
                continue
            at = torch.from_numpy(index)
            into = places.get(len(at)) or next((place for place in places.values() if len(place) > len(at)), None)
            places[len(at)] = drawn = self.batch.rows(at, into)
            yield drawn, None if self.targets is None else self.targets.index_select(0, at)


def batches(n_rows: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray | None]:
    """Infinite iterator over row numbers of batches; None for all rows.

    Rows are shuffled once per epoch and divided into batches of at most `size` rows (one more, if a batch would
    otherwise have a single row, since batch statistics need two). Batch sizes differ by at most one row.
    """
    n_batches = -(-n_rows // size)
    while size > 1 and n_batches > 1 and n_rows // n_batches < 2:
        n_batches -= 1
    while True:
        if n_batches <= 1:
            yield None
        else:
            yield from np.array_split(rng.permutation(n_rows), n_batches)


@exact_on_gpu()
def train(
    model: OutcomeModel,
    objective: Objective,
    pools: Mapping[str, Pool],
    settings: Training,
    rng: np.random.Generator,
    *,
    carried: frozenset[str] = frozenset(),
    work: Work | None = None,
    watched: Iterable[int] = (),
    watch: Callable[[int], bool] | None = None,
    hook: StepHook | None = None,
) -> np.ndarray:
    """Train in place for a fixed number of steps, which depends on the number of rows of the role `train`.

    Args:
        pools: rows by role; every step draws a batch of each.
        rng: generator of the batches.
        carried: names of the parameters transferred from a parent. Learning rates of parts, freezing, unfreezing and
            the penalty on the distance to the initial weights apply only to these.
        work: device, precision and augmentation; by default CPU and float32.
        watched: steps after which `watch` is called with the model in evaluation mode (0: before the first step);
            training stops if it returns True.

    Returns:
        Mean loss of consecutive blocks of steps, at most 100 values.

    Raises:
        DataError: there are no trainable parameters.
    """
    n_rows = len(pools[TRAIN])
    images = "image" in pools[TRAIN].batch.modalities
    n_steps, size = settings.steps_for(n_rows), settings.batch_for(n_rows, images=images)
    work = work or Work()
    work.begin(model)
    objective.to(work.device)
    groups = parameter_groups(model, settings, carried)
    own = list(objective.parameters())
    if own:
        decay = settings.weight_decay if objective.decayed else 0.0
        groups.append({"params": own, "lr": settings.learning_rate, "weight_decay": decay})
    moving = [parameter for group in groups for parameter in group["params"]]
    if not moving:
        raise DataError(
            "every part of the model is frozen or absent: nothing can be learned",
            remedy="Leave a part out of `freeze`.",
        )
    optimiser = AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    rates = _schedule(optimiser, settings, n_steps)
    anchored = settings.anchor > 0
    start = [
        (p, p.detach().clone()) for n, p in model.named_parameters() if anchored and n in carried and p.requires_grad
    ]
    # A GPU would have to be sent more data in every step.
    prepared = objective.unchanged if work.device.type == "cpu" else frozenset()
    draws = {
        role: (pool.prepared(model) if role in prepared else pool).drawing(batches(len(pool), size, rng))
        for role, pool in pools.items()
    }
    stops = set(watched)
    losses = np.zeros(n_steps)
    freezing = Freezing.of(model, settings, carried, n_steps)
    objective.begin(model)
    freezing.apply(0)
    if watch is not None and 0 in stops:
        _look(model, watch, 0, freezing)
    for step in range(n_steps):
        if step and freezing.changes_at(step):
            freezing.apply(step)
        optimiser.zero_grad(set_to_none=True)
        drawn = {role: work.prepared(*next(draw)) for role, draw in draws.items()}
        with work.arithmetic():
            terms = objective(model, {r: b for r, (b, _) in drawn.items()}, {r: t for r, (_, t) in drawn.items()})
        loss = torch.stack([term.float() for term in terms.values()]).sum()
        total = loss
        for parameter, origin in start:
            total = total + 0.5 * settings.anchor * (parameter - origin).square().sum()
        total.backward()
        average_gradients(moving)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(moving, settings.clip_norm)
        optimiser.step()
        if rates is not None:
            rates.step()
        losses[step] = float(loss.detach())
        if hook is not None:
            hook(step, losses[step])
        if watch is not None and step + 1 in stops and _look(model, watch, step + 1, freezing):
            losses = losses[: step + 1]
            break
    model.eval().to("cpu")
    length = settings.steps_per_point(n_steps)
    return np.array([losses[i : i + length].mean() for i in range(0, len(losses), length)])


def _schedule(
    optimiser: torch.optim.Optimizer, settings: Training, n_steps: int
) -> torch.optim.lr_scheduler.CosineAnnealingLR | None:
    if settings.schedule == "constant":
        return None
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(n_steps, 1))


def _look(model: OutcomeModel, watch: Callable[[int], bool], step: int, freezing: Freezing) -> bool:
    model.eval()
    stop = watch(step)
    freezing.apply(step)
    return stop


def has_settled(curve: np.ndarray) -> bool:
    """Whether a training curve has converged: its last tenth is less than 5 % below the previous tenth."""
    tenth = len(curve) // 10
    if not tenth:
        return True
    last, before = curve[-tenth:].mean(), curve[-2 * tenth : -tenth].mean()
    return bool(before - last <= 0.05 * abs(before))
