"""Ridge on edges, on all inputs of the model, and in tangent space."""

from __future__ import annotations

import numpy as np

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.design import Baseline, Design, no_columns
from connectome_tl.evaluation.baselines.engines.learners import GRAM, RIDGE
from connectome_tl.features.steps import fit_steps
from connectome_tl.features.tangent import holds_correlations
from connectome_tl.training.core_stage import blocks_of
from connectome_tl.training.schemes import modalities_of
from connectome_tl.training.stages import features_of


def ridge(data: BaselineData) -> list[Baseline]:
    """Ridge regression on standardised edges; none for a cohort without connectomes."""
    return [Baseline(data.edges, data.tasks, RIDGE)] if data.target.regions else []


def linear_all(data: BaselineData) -> list[Baseline]:
    """Ridge on the concatenation of all standardised columns that the model uses."""
    cohort, known = data.target, modalities_of(data.study, data.cohorts)

    def design(fold: Fold) -> Design:
        features = fit_steps(cohort, fold.train, features_of(data.study, cohort, fold, known), known)
        train, test = (
            np.concatenate([block.values for block in blocks_of(features, None, cohort, ids)], axis=1)
            for ids in (fold.train, fold.test)
        )
        return Design(train, test, features.ids, data.families(fold))

    return [Baseline(design, data.tasks, GRAM)] if known else []


def tangent_ridge(data: BaselineData) -> list[Baseline]:
    """Ridge on the tangent block of the closed-form core, if the edges of the training rows are correlations."""
    cohort, edges = data.target, data.study.features.edges
    settings = data.study.features.in_tangent_space()

    def design(fold: Fold) -> Design:
        if edges.projected is None and not holds_correlations(cohort, fold.train):
            return no_columns(fold, data.families(fold))
        features = fit_steps(cohort, fold.train, settings, ("connectome",))
        train, test = (blocks_of(features, features, cohort, ids)[-1].values for ids in (fold.train, fold.test))
        return Design(train, test, features.ids, data.families(fold))

    disabled = edges.tangent is not None and edges.projected is None
    return [Baseline(design, data.tasks, GRAM)] if cohort.regions and not disabled else []
