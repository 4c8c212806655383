"""Optimisers update like torch's, without importing torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from connectome_tl.training.networks import optimisers

STEP = """
import sys, torch
from connectome_tl.training.networks.optimisers import Adam, AdamW
for kind in (Adam, AdamW):
    weight = torch.nn.Parameter(torch.ones(2))
    optimiser = kind([weight])
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3)
    optimiser.zero_grad(set_to_none=True)
    weight.sum().backward()
    optimiser.step()
    rates.step()
    assert (weight < 1).all()
print("torch._dynamo" in sys.modules)
"""


def trained(kind: type[torch.optim.Optimizer], **settings: object) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    rows = torch.randn(20, 5)
    groups = [{"params": list(model[0].parameters()), "lr": 1e-2}, {"params": list(model[2].parameters())}]
    optimiser = kind(groups, lr=3e-3, **settings)  # type: ignore[call-arg]
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 12)
    for step in range(12):
        model[0].requires_grad_(step > 2)  # some parameters get their first gradient later
        optimiser.zero_grad(set_to_none=True)
        model(rows).square().mean().backward()
        optimiser.step()
        rates.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("AdamW", {"weight_decay": 0.1, "fused": True}),
        ("AdamW", {"fused": None}),
        ("Adam", {"betas": (0.5, 0.9)}),
        ("Adam", {"betas": (0.5, 0.9), "weight_decay": 0.1, "fused": True}),
    ],
)
def test_weights_are_those_of_torchs_optimiser_to_the_last_bit(name: str, settings: dict[str, object]) -> None:
    ours, theirs = (trained(getattr(module, name), **settings) for module in (optimisers, torch.optim))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_a_step_imports_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
