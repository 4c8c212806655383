"""The masked multi-task loss: a missing outcome is nothing anywhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, mean_squared_error

from connectome_tl.nn.losses import multi_task_loss

KINDS = ("binary", "regression")


def example(n: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    outputs = torch.from_numpy(rng.normal(size=(n, 2))).requires_grad_()
    targets = torch.from_numpy(np.column_stack([np.arange(n) % 2, rng.normal(size=n)]).astype(float))
    return outputs, targets


def test_the_loss_is_the_mean_of_scikit_learn_s_losses_over_seen_outcomes() -> None:
    outputs, targets = example()
    targets[2, 0] = targets[5, 1] = targets[7, 1] = torch.nan
    seen = torch.isfinite(targets).numpy()
    risk = torch.sigmoid(outputs[:, 0]).detach().numpy()[seen[:, 0]]
    want = log_loss(targets[seen[:, 0], 0], risk) + mean_squared_error(
        targets[seen[:, 1], 1], outputs.detach()[seen[:, 1], 1]
    )
    assert multi_task_loss(outputs, targets, KINDS).item() == pytest.approx(want / 2, abs=1e-12)


def test_a_task_without_labels_adds_nothing_and_its_gradients_are_zero() -> None:
    outputs, targets = example()
    alone = multi_task_loss(outputs[:, :1], targets[:, :1], KINDS[:1])
    targets[:, 1] = torch.nan
    loss = multi_task_loss(outputs, targets, KINDS)
    assert loss.item() == pytest.approx(alone.item(), abs=1e-15)
    loss.backward()
    assert torch.isfinite(outputs.grad).all()
    assert (outputs.grad[:, 1] == 0).all()
    assert (outputs.grad[:, 0] != 0).all()


def test_no_label_at_all_is_a_loss_of_zero() -> None:
    outputs, targets = example()
    loss = multi_task_loss(outputs, torch.full_like(targets, torch.nan), KINDS)
    loss.backward()
    assert loss.item() == 0
    assert (outputs.grad == 0).all()


def test_predictions_of_missing_outcomes_do_not_matter() -> None:
    outputs, targets = example()
    targets[3] = torch.nan
    want = multi_task_loss(outputs, targets, KINDS).item()
    with torch.no_grad():
        outputs[3] = 1e6
    assert multi_task_loss(outputs, targets, KINDS).item() == want
    multi_task_loss(outputs, targets, KINDS).backward()
    assert (outputs.grad[3] == 0).all()
