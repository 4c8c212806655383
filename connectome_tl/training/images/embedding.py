"""Embeddings of images by a finished network, and its predicted ages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.ages import in_unit
from connectome_tl.cohort.columns.plausible import DAYS
from connectome_tl.errors import InternalError
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fitted import NetworkModel, to_batch

_AT_ONCE = 8


def image_embedding(fit: FitResult, cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
    """(n_subjects, n_networks * width): the image branches of the fit's networks, one beside the other."""
    model = NetworkModel.of(fit.arrays, fit.plain)
    rows = to_batch(model.features.rows(cohort, ids)).image
    parts = []
    for network in model.networks():
        assert isinstance(network, OutcomeModel)
        with torch.no_grad():
            found = [
                network.branches["image"](rows.rows(at)).embedding for at in torch.arange(len(ids)).split(_AT_ONCE)
            ]
        parts.append(torch.cat(found).double().numpy())
    return np.concatenate(parts, axis=1)


def age_gap(fit: FitResult, cohort: Cohort, ids: Sequence[str]) -> tuple[np.ndarray, str]:
    """Predicted minus true age (n_subjects,) in the unit of the cohort's ages, and that unit.

    Of a row that the fit was trained on, the prediction is that of its networks that had not seen the row; NaN where
    there is none.
    All NaN and no unit where the fit sees more than images, or has no regression called `age` with a unit of age.
    """
    model = NetworkModel.of(fit.arrays, fit.plain)
    nothing = np.full(len(ids), np.nan), ""
    column = 0
    for task in model.tasks:
        if task.name == "age" and task.kind == "regression" and task.unit in DAYS:
            break
        column += task.n_columns
    else:
        return nothing
    if set(model.sizes) != {"image"} or cohort.age_unit not in DAYS:
        return nothing
    predicted = model.predict(cohort, ids)[:, column].copy()
    if not np.isfinite(predicted).all():
        raise InternalError("a predicted age is not finite")
    trained = set(fit.rows)
    for row, subject in enumerate(ids):
        if subject in trained:
            predicted[row] = fit.held_out[subject][column] if subject in fit.held_out else np.nan
    return in_unit(predicted, task.unit, cohort.age_unit) - cohort.age[cohort.positions(ids)], cohort.age_unit  # type: ignore[arg-type]
