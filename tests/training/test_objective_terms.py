"""The terms of the objectives compared with explicit definitions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from connectome_tl.nn.losses import Outcomes, multi_task_loss, soft_loss
from connectome_tl.training.objectives.alignment import coral, mmd, reverse_gradient
from connectome_tl.training.objectives.contrast import info_nce


@pytest.fixture(autouse=True)
def one_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_coral_is_that_of_numpy() -> None:
    one, two = torch.randn(9, 3, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    assert coral(one, two).item() == pytest.approx(((np.cov(one.T) - np.cov(two.T)) ** 2).sum() / 36)
    assert coral(one, one + 5).item() == pytest.approx(0)


def test_mmd_is_the_distance_of_mean_embeddings() -> None:
    one, two = torch.randn(6, 2, dtype=torch.float64), 1 + torch.randn(5, 2, dtype=torch.float64)
    both = torch.cat([one, two]).numpy()
    distance = np.array([[((a - b) ** 2).sum() for b in both] for a in both])
    pairs = np.sort([distance[i, j] for i in range(11) for j in range(i)])
    median = pairs[(len(pairs) - 1) // 2]
    kernel = np.mean([np.exp(-distance / (scale * median)) for scale in (0.25, 0.5, 1, 2, 4)], axis=0)
    want = kernel[:6, :6].mean() + kernel[6:, 6:].mean() - 2 * kernel[:6, 6:].mean()
    assert mmd(one, two).item() == pytest.approx(want)
    assert mmd(one, one.flip(0)).item() == pytest.approx(0, abs=1e-12)
    assert mmd(one, one + 3).item() > mmd(one, one + 0.3).item() > 0


def test_info_nce_is_the_chance_of_finding_the_own_view() -> None:
    """Equal embeddings of all subjects have the loss log(n); distinct ones a smaller loss."""
    assert info_nce(torch.ones(4, 4), torch.ones(4, 4), 0.5).item() == pytest.approx(np.log(4))
    assert info_nce(torch.eye(4), 3 * torch.eye(4), 0.5).item() == pytest.approx(np.log(1 + 3 * np.exp(-2)))
    one, two = torch.randn(5, 3), torch.randn(5, 3)
    a, b = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (one, two))
    alike = np.exp(a @ b.T / 0.2)
    want = -np.mean([np.log(alike[i, i] / alike[i].sum()) + np.log(alike[i, i] / alike[:, i].sum()) for i in range(5)])
    assert info_nce(one, two, 0.2).item() == pytest.approx(want / 2, rel=1e-5)


def test_a_reversed_gradient_has_the_other_sign_and_the_same_value() -> None:
    x = torch.randn(4, requires_grad=True)
    y = reverse_gradient(x, 0.5)
    assert torch.equal(y, x)
    (y * torch.arange(4.0)).sum().backward()
    assert torch.equal(x.grad, -0.5 * torch.arange(4.0))  # type: ignore[arg-type]


KINDS = Outcomes(
    {"low": "binary", "score": "regression", "grade": "ordinal", "type": "multiclass"},
    {"low": 1, "score": 1, "grade": 2, "type": 3},
)


def test_a_teacher_that_is_certain_teaches_what_labels_would() -> None:
    outputs = torch.randn(6, 7, dtype=torch.float64)
    goal = torch.stack([torch.tensor([0.0, 1, 0, 1, 1, 0]), torch.randn(6), torch.tensor([0.0, 1, 2, 2, 1, 0]),
                        torch.tensor([2.0, 0, 1, 1, 0, 2])], dim=1).double()  # fmt: skip
    sure = 1e3
    above = torch.stack([(goal[:, 2] > k) * 2.0 - 1 for k in (0, 1)], dim=1)
    classes = functional.one_hot(goal[:, 3].long(), 3) * 2.0 - 1
    taught = torch.cat([sure * (2 * goal[:, :1] - 1), goal[:, 1:2], sure * above, sure * classes], dim=1)
    torch.testing.assert_close(soft_loss(outputs, taught, KINDS), multi_task_loss(outputs, goal, KINDS))


def test_a_teacher_in_doubt_is_matched_best_by_its_own_doubt() -> None:
    taught = torch.randn(5, 7)
    outputs = nn.Parameter(taught.clone())
    soft_loss(outputs, taught, KINDS).backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().max() < 1e-6
    assert soft_loss(taught + 0.1, taught, KINDS) > soft_loss(taught, taught, KINDS)
