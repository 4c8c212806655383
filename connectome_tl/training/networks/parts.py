"""Learning rates, freezing and unfreezing of parameters. Applied to transferred weights only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from connectome_tl.nn.model import OutcomeModel, part_of
from connectome_tl.settings.training import Training

_DEEPEST = 2


def depth_of(part: str) -> int:
    """Depth of a part, counted from the outputs: heads 0, fusion 1, branches 2."""
    return {"heads": 0, "fusion": 1}.get(part, _DEEPEST)


def parameter_groups(model: OutcomeModel, settings: Training, carried: frozenset[str]) -> list[dict[str, Any]]:
    """Group parameters by learning rate; frozen parameters are excluded and get no gradient."""
    rates: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        part = part_of(name)
        factor = 1.0
        if name in carried:
            if part in settings.freeze:
                parameter.requires_grad_(False)
                continue
            factor = settings.part_learning_rates.get(part, 1.0) * settings.rate_decay ** depth_of(part)
        rates.setdefault(factor, []).append(parameter)
    return [{"params": members, "lr": settings.learning_rate * factor} for factor, members in rates.items()]


@dataclass(frozen=True, eq=False)
class Freezing:
    """Schedule of frozen and unfrozen transferred parts.

    Attributes:
        begins: first step at which each transferred part is trained, by name; frozen parts have none.
    """

    model: OutcomeModel
    settings: Training
    carried: frozenset[str]
    begins: dict[str, int]

    @staticmethod
    def of(model: OutcomeModel, settings: Training, carried: frozenset[str], n_steps: int) -> Freezing:
        """Train heads from the start, then the fusion, then the branches, over a share `unfreeze` of the steps."""
        parts = {part_of(name) for name in carried} - set(settings.freeze)
        begins = {part: round(settings.unfreeze * n_steps * depth_of(part) / _DEEPEST) for part in parts}
        return Freezing(model, settings, carried, begins)

    def apply(self, step: int) -> None:
        """Set training mode, with the parts that are not trained at this step in evaluation mode (no dropout, no update
        of running statistics) and without gradients."""
        self.model.train()
        for name, parameter in self.model.named_parameters():
            if name in self.carried and part_of(name) in self.begins:
                parameter.requires_grad_(step >= self.begins[part_of(name)])
        for part, module in self._modules().items():
            names = [name for name, _ in self.model.named_parameters() if part_of(name) == part]
            waits = part in self.settings.freeze or step < self.begins.get(part, 0)
            if waits and names and all(name in self.carried for name in names):
                module.eval()

    def changes_at(self, step: int) -> bool:
        """Whether training of a part starts at this step."""
        return step in self.begins.values()

    def _modules(self) -> dict[str, nn.Module]:
        return {**dict(self.model.branches.items()), "fusion": self.model.fusion, "heads": self.model.heads}
