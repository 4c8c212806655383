"""The masked multi-task loss: a missing outcome has no effect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from sklearn.metrics import log_loss, mean_squared_error

from connectome_tl.nn.losses import Outcomes, multi_task_loss, row_losses
from connectome_tl.tasks import KINDS

TWO = Outcomes({"low": "binary", "score": "regression"}, {"low": 1, "score": 1})
ALONE = Outcomes({"low": "binary"}, {"low": 1})
ALL = Outcomes(
    {"score": "regression", "severity": "ordinal", "low": "binary", "pattern": "multiclass", "other": "binary"},
    {"score": 1, "severity": 2, "low": 1, "pattern": 3, "other": 1},
)


def example(n: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    outputs = torch.from_numpy(rng.normal(size=(n, 2))).requires_grad_()
    targets = torch.from_numpy(np.column_stack([np.arange(n) % 2, rng.normal(size=n)]).astype(float))
    return outputs, targets


def of_all_kinds(n: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(1)
    outputs = torch.from_numpy(rng.normal(size=(n, 8))).requires_grad_()
    columns = [rng.normal(size=n), np.arange(n) % 3, np.arange(n) % 2, (np.arange(n) + 1) % 3, np.arange(n) % 2]
    return outputs, torch.from_numpy(np.column_stack(columns).astype(float))


def test_the_loss_is_the_mean_of_scikit_learn_s_losses_over_seen_outcomes() -> None:
    """A cross-entropy has the factor two, to be about as steep as a squared error of a standardised outcome."""
    outputs, targets = example()
    targets[2, 0] = targets[5, 1] = targets[7, 1] = torch.nan
    seen = torch.isfinite(targets).numpy()
    risk = torch.sigmoid(outputs[:, 0]).detach().numpy()[seen[:, 0]]
    want = 2 * log_loss(targets[seen[:, 0], 0], risk) + mean_squared_error(
        targets[seen[:, 1], 1], outputs.detach()[seen[:, 1], 1]
    )
    assert multi_task_loss(outputs, targets, TWO).item() == pytest.approx(want / 2, abs=1e-12)


def test_losses_of_all_kinds_are_those_worked_by_hand() -> None:
    outputs, targets = of_all_kinds()
    found = row_losses(outputs, targets, ALL).detach().numpy()
    raw, known = outputs.detach().numpy(), targets.numpy()
    np.testing.assert_allclose(found[:, 0], (raw[:, 0] - known[:, 0]) ** 2)
    for t, column in ((2, 3), (4, 7)):
        risk = expit(raw[:, column])
        want = -2 * (known[:, t] * np.log(risk) + (1 - known[:, t]) * np.log(1 - risk))
        np.testing.assert_allclose(found[:, t], want)
    above = known[:, [1]] > np.arange(2)
    risk = expit(raw[:, 1:3])
    np.testing.assert_allclose(found[:, 1], -2 * np.where(above, np.log(risk), np.log(1 - risk)).mean(axis=1))
    of_class = log_softmax(raw[:, 4:7], axis=1)[np.arange(9), known[:, 3].astype(int)]
    np.testing.assert_allclose(found[:, 3], -2 * of_class)


@pytest.mark.parametrize("n_levels", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_losses_of_two_outcomes_of_a_kind_are_those_of_each_alone(kind: str, n_levels: int) -> None:
    size, rng = KINDS[kind].n_outputs(n_levels), np.random.default_rng(2)
    targets = torch.from_numpy(rng.integers(0, 2 if kind == "binary" else n_levels, size=(9, 2)).astype(float))
    outputs = torch.from_numpy(rng.normal(size=(9, 2 * size)))
    together = row_losses(outputs, targets, Outcomes({"one": kind, "two": kind}, {"one": size, "two": size}))
    one = Outcomes({"y": kind}, {"y": size})
    alone = [row_losses(outputs[:, k * size : (k + 1) * size], targets[:, [k]], one) for k in range(2)]
    torch.testing.assert_close(together, torch.cat(alone, dim=1))


def test_every_kind_of_task_has_a_loss() -> None:
    for kind in KINDS.values():
        n_outputs = kind.n_outputs(3)
        outcomes = Outcomes({"y": kind.name}, {"y": n_outputs})
        outputs = torch.zeros((4, n_outputs), requires_grad=True)
        multi_task_loss(outputs, torch.tensor([[0.0], [1.0], [1.0], [torch.nan]]), outcomes).backward()
        assert outputs.grad is not None
        assert (outputs.grad[:3] != 0).any()
        assert (outputs.grad[3] == 0).all()


@pytest.mark.parametrize("missing", range(5))
def test_a_task_without_labels_adds_nothing_and_its_gradients_are_zero(missing: int) -> None:
    outputs, targets = of_all_kinds()
    targets[:, missing] = torch.nan
    name = list(ALL.kinds)[missing]
    place = ALL.places[name]
    others = [t for t in range(5) if t != missing]
    columns = [c for c in range(8) if not place.start <= c < place.stop]
    rest = Outcomes(
        {n: k for n, k in ALL.kinds.items() if n != name}, {n: s for n, s in ALL.sizes.items() if n != name}
    )
    without = multi_task_loss(outputs[:, columns], targets[:, others], rest)
    loss = multi_task_loss(outputs, targets, ALL)
    assert loss.item() == pytest.approx(without.item(), abs=1e-14)
    loss.backward()
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    assert (outputs.grad[:, place] == 0).all()
    assert (outputs.grad[:, columns] != 0).all()


def test_one_task_alone_is_itself() -> None:
    outputs, targets = example()
    alone = multi_task_loss(outputs[:, :1], targets[:, :1], ALONE)
    targets[:, 1] = torch.nan
    assert multi_task_loss(outputs, targets, TWO).item() == pytest.approx(alone.item(), abs=1e-15)


def test_no_label_at_all_is_a_loss_of_zero() -> None:
    for (outputs, targets), outcomes in ((example(), TWO), (of_all_kinds(), ALL)):
        loss = multi_task_loss(outputs, torch.full_like(targets, torch.nan), outcomes)
        loss.backward()
        assert loss.item() == 0
        assert outputs.grad is not None
        assert (outputs.grad == 0).all()


def test_predictions_of_missing_outcomes_do_not_matter() -> None:
    for (outputs, targets), outcomes in ((example(), TWO), (of_all_kinds(), ALL)):
        targets[3] = torch.nan
        want = multi_task_loss(outputs, targets, outcomes).item()
        with torch.no_grad():
            outputs[3] = 1e6
        assert multi_task_loss(outputs, targets, outcomes).item() == want
        multi_task_loss(outputs, targets, outcomes).backward()
        assert outputs.grad is not None
        assert (outputs.grad[3] == 0).all()
