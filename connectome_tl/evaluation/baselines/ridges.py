"""Ridge on edges, on all inputs of the model, and in tangent space."""

from __future__ import annotations

import numpy as np

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.design import Baseline, Design, no_columns
from connectome_tl.evaluation.baselines.engines.learners import GRAM, RIDGE
from connectome_tl.evaluation.baselines.ground import Ground
from connectome_tl.features.steps import fit_steps
from connectome_tl.features.tangent import holds_correlations
from connectome_tl.training.core import blocks_of
from connectome_tl.training.schemes import modalities_of
from connectome_tl.training.stages import features_of


def ridge(ground: Ground) -> list[Baseline]:
    return [Baseline(ground.edges, ground.tasks, RIDGE)] if ground.target.regions else []


def linear_all(ground: Ground) -> list[Baseline]:
    """Ridge on the concatenation of all standardised columns that the model uses."""
    cohort, known = ground.target, modalities_of(ground.study, ground.cohorts)

    def design(fold: Fold) -> Design:
        features = fit_steps(cohort, fold.train, features_of(ground.study, cohort, fold, known), known)
        train, test = (
            np.concatenate([block.values for block in blocks_of(features, None, cohort, ids)], axis=1)
            for ids in (fold.train, fold.test)
        )
        return Design(train, test, features.ids, ground.families(fold))

    return [Baseline(design, ground.tasks, GRAM)] if known else []


def tangent_ridge(ground: Ground) -> list[Baseline]:
    """Ridge on the tangent block of the closed-form core, if the edges of the training rows are correlations."""
    cohort, edges = ground.target, ground.study.features.edges
    settings = ground.study.features.in_tangent_space()

    def design(fold: Fold) -> Design:
        if edges.projected is None and not holds_correlations(cohort, fold.train):
            return no_columns(fold, ground.families(fold))
        features = fit_steps(cohort, fold.train, settings, ("connectome",))
        train, test = (blocks_of(features, features, cohort, ids)[-1].values for ids in (fold.train, fold.test))
        return Design(train, test, features.ids, ground.families(fold))

    disabled = edges.tangent is not None and edges.projected is None
    return [Baseline(design, ground.tasks, GRAM)] if cohort.regions and not disabled else []
