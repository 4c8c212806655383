"""Initial weights of heads for outcomes that the previous stage does not have."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from connectome_tl.nn.batch import Batch
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.closed_form.ridge import fit_few_columns
from connectome_tl.training.fitted_models import NetworkModel, embeddings_of
from connectome_tl.training.networks.setting import Setting

_PENALTIES = np.logspace(-3, 3, 25)  # per row
_FEWEST = 5  # families with a known outcome
_LOGIT_SLOPE = 4.0  # of the logit where the risk is one half, per unit of risk


def start_heads(model: OutcomeModel, setting: Setting, rows: np.ndarray, carried: frozenset[str]) -> None:
    """Initialise each new head from the heads of the previous stage, in place.

    A source cohort rarely has the outcomes of the target. A new linear head is set to the linear combination of the
    parent's heads that predicts the training rows best (ridge regression, penalty by leave-one-family-out errors), as
    meta-matching combines predictions (He et al. 2022, doi:10.1038/s41593-022-01059-9), and is then trained further.
    Transferred heads, and heads of distributions, classes and levels, are not changed.

    Args:
        rows: numbers of the training rows of this network.
        carried: names of the parameters that come from the parent.
    """
    if setting.parent is None or "heads" not in setting.plan.transfer.carry:
        return
    weight, bias = _parent_heads(setting.parent, model)
    new = [
        (t, task)
        for t, task in enumerate(setting.tasks)
        if f"heads.{task.name}.weight" not in carried
        and task.form in ("risk", "value")
        and task.name not in model.soft_heads
    ]
    if not new or not len(weight):
        return
    at = torch.from_numpy(rows)
    scores, families = _scores(model, setting.batch.rows(at), weight, bias), setting.families[rows]
    for t, task in new:
        goal = setting.goal[at, t].double().numpy()
        known = np.isfinite(goal)
        if len(np.unique(families[known])) < _FEWEST or np.ptp(goal[known]) == 0:
            continue
        slopes, intercept = _combined(scores[known], goal[known], families[known])
        if task.is_binary:
            mean = goal[known].mean()
            slopes, intercept = _LOGIT_SLOPE * slopes, _LOGIT_SLOPE * (intercept - mean) + np.log(mean / (1 - mean))
        _set(model, task.name, slopes @ weight, float(intercept + slopes @ bias))


def _parent_heads(parent: FitResult, model: OutcomeModel) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n_outputs, fused_width) and biases (n_outputs,) of the parent's linear heads of the model's width."""
    known = NetworkModel.of(parent.arrays, parent.plain)
    given = next(iter(known.states.values()))
    width = model.fused_width
    heads = [
        (given[f"heads.{name}.weight"], given[f"heads.{name}.bias"])
        for name in known.heads
        if f"heads.{name}.weight" in given and given[f"heads.{name}.weight"].shape[1] == width
    ]
    if not heads:
        return np.zeros((0, width)), np.zeros(0)
    weights, biases = zip(*heads, strict=True)
    return np.concatenate(weights).astype(float), np.concatenate(biases).astype(float)


def _scores(model: OutcomeModel, batch: Batch, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """(n_rows, n_outputs) of the parent's heads on the model's embeddings."""
    model.eval()
    found = embeddings_of(model, batch) @ weight.T + bias
    model.train()
    return np.asarray(found)


def _combined(scores: np.ndarray, goal: np.ndarray, families: np.ndarray) -> tuple[np.ndarray, float]:
    """Slopes (n_outputs,) and intercept of the ridge regression of a goal (n_rows,) on standardised scores."""
    spread = scores.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    slopes, intercept = fit_few_columns(scores / spread, goal, families, _PENALTIES * len(goal))
    return slopes / spread, intercept


def _set(model: OutcomeModel, task: str, weight: np.ndarray, bias: float) -> None:
    head = model.heads[task]
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight)[None])
        head.bias.copy_(Tensor([bias]))
