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


@pytest.mark.parametrize("most", [0.1, 100.0])
def test_gradients_are_clipped_as_by_torch_to_the_last_bit(most: float) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(size)) for size in ((3, 4), (5,), (2, 2))]
    for parameter in ours[:2]:  # the last one has no gradient
        parameter.grad = torch.randn_like(parameter)
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    for one, other in zip(ours, theirs, strict=True):
        other.grad = None if one.grad is None else one.grad.clone()
    before = [p.grad.clone() for p in ours[:2] if p.grad is not None]
    optimisers.clip_gradients(ours, most)
    torch.nn.utils.clip_grad_norm_(theirs, most)
    for one, other, old in zip(ours[:2], theirs[:2], before, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)
        assert torch.equal(one.grad, old) == (most > 1)
    assert ours[2].grad is None


def test_a_step_imports_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
