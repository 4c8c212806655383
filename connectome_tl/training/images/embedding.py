"""Embeddings of images by a finished network, and its predicted ages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.columns.ages import in_unit
from connectome_tl.cohort.columns.plausible import DAYS
from connectome_tl.errors import DivergedError, UsageError
from connectome_tl.nn.model import OutcomeModel
from connectome_tl.training.checkpoint import FitResult
from connectome_tl.training.fitted_models import NetworkModel, to_batch

_AT_ONCE = 8


def image_embedding(
    fit: FitResult, cohort: Cohort, ids: Sequence[str], parts: Sequence[Sequence[str]] = ()
) -> np.ndarray:
    """Embeddings of these subjects by the image branches of the fit's networks.

    If no network was trained on any of the subjects (or there is only one network): the concatenated embeddings
    (n_subjects, n_networks * width). Otherwise (n_subjects, width), see `out_of_fold`.

    Args:
        parts: held-out ids of each network; empty if all networks were trained on all rows.

    Raises:
        UsageError: there are some training rows, but too few to align the networks.
    """
    model = NetworkModel.of(fit.arrays, fit.plain)
    rows = to_batch(model.features.rows(cohort, ids)).image
    made = []
    for network in model.networks():
        assert isinstance(network, OutcomeModel)
        with torch.no_grad():
            found = [
                network.branches["image"](rows.rows(at)).embedding for at in torch.arange(len(ids)).split(_AT_ONCE)
            ]
        made.append(torch.cat(found).double().numpy())
    place = {subject: i for i, subject in enumerate(ids)}
    held = [np.array([place[i] for i in part if i in place], dtype=int) for part in parts]
    return out_of_fold(made, held) if any(map(len, held)) else np.concatenate(made, axis=1)


def out_of_fold(made: Sequence[np.ndarray], held: Sequence[np.ndarray]) -> np.ndarray:
    """Embeddings (n_rows, width): for a training row by the network that held it out, for other rows the mean.

    The axes of the networks differ and are aligned to those of the first by an orthogonal Procrustes transform
    (Schoenemann 1966, doi:10.1007/BF02289451), fitted on the training rows of each network, so that the embedding of
    a row contains no information that another network learned from it.

    Args:
        made: one (n_rows, width) per network. held: held-out row numbers of each network.

    Raises:
        UsageError: a network has fewer than two rows for the alignment.
    """
    first, turned = made[0], [made[0]]
    training = np.concatenate(held)
    for own, without in zip(made[1:], held[1:], strict=True):
        # Held-out rows of the first network may be used, since their embedding does not depend on their outcome.
        shared = np.setdiff1d(training, without)
        if len(shared) < 2:
            raise UsageError(
                "too few of the subjects that the networks were trained on are in this cohort to align the networks",
                expected="the study's whole target cohort, or other subjects alone",
                got=f"{len(training)} training subjects",
                remedy="Give the cohort.yaml of the study's target, or use --stage pretrain.",
            )
        center, goal = own[shared].mean(axis=0), first[shared].mean(axis=0)
        left, _, right = np.linalg.svd((own[shared] - center).T @ (first[shared] - goal))
        turned.append((own - center) @ (left @ right) + goal)
    found = np.mean(turned, axis=0)
    for own, rows in zip(turned, held, strict=True):
        found[rows] = own[rows]
    return np.asarray(found)


def age_gap(fit: FitResult, cohort: Cohort, ids: Sequence[str]) -> tuple[np.ndarray, str]:
    """Predicted minus true age (n_subjects,) in the unit of the cohort's ages, and that unit.

    The prediction of a training row is that of networks that held it out; NaN if there is none. All values are NaN,
    without a unit, if the fit uses other inputs than images, or has no regression `age` with a unit of age.
    """
    model = NetworkModel.of(fit.arrays, fit.plain)
    nothing = np.full(len(ids), np.nan), ""
    column = 0
    for task in model.tasks:
        if task.name == "age" and task.form == "value" and task.unit in DAYS:
            break
        column += task.n_columns
    else:
        return nothing
    if set(model.sizes) != {"image"} or cohort.age_unit not in DAYS:
        return nothing
    predicted = model.predict(cohort, ids)[:, column].copy()
    if not np.isfinite(predicted).all():
        remedy = f"Lower stages.{fit.stage}.training.learning_rate of the image study, and run it again."
        raise DivergedError("a predicted age is not finite", remedy=remedy)
    trained = set(fit.rows)
    for row, subject in enumerate(ids):
        if subject in trained:
            predicted[row] = fit.held_out[subject][column] if subject in fit.held_out else np.nan
    return in_unit(predicted, task.unit, cohort.age_unit) - cohort.age[cohort.positions(ids)], cohort.age_unit  # type: ignore[arg-type]
