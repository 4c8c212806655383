"""A cohort whose outcome can be computed by message passing: regional loads propagated to neighbours."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.simulation.cohorts import simulate_study
from connectome_tl.tasks import Task

_DENSITY = 0.3  # share of pairs of regions that are connected
_NOISE = 0.5  # of the outcome, in standard deviations of the signal
ORACLE_R2 = 1 / (1 + _NOISE**2)
"""What the signal explains of the outcome."""


@dataclass(frozen=True, eq=False)
class Spread:
    """A simulated cohort, and the components of its outcome.

    Attributes:
        cohort: one regional measure, the `load`; connectomes with a fixed set of edges and individual weights; no
            covariates.
        arrived: (n_subjects, n_regions) loads after one step over each subject's normalised edges.
        signs: (n_regions,) 1 or -1. The outcome is the standardised `arrived @ signs` with noise.
    """

    cohort: Cohort
    arrived: np.ndarray
    signs: np.ndarray


def simulate_spread(seed: int, n_subjects: int, task: str, *, n_regions: int = 24) -> Spread:
    """Subjects whose outcome depends on products of their edges and loads.

    A lesion load (gamma, shape 0.5) affects the regions that are connected to its location in the subject. One layer of
    message passing over the normalised adjacency computes the outcome; a linear model of edges and loads cannot, since
    both vary independently and only their products matter.

    Args:
        task: name of the outcome. n_regions: number of regions, the first ones of the neonatal atlas of
            `simulate_study`.
    """
    rng = np.random.default_rng([seed, 2])
    base = simulate_study(seed=seed, n_source=4, n_pool=4, n_target=n_subjects).target
    noise = np.triu(rng.normal(size=(n_subjects, n_regions, n_regions)), 1)
    there = rng.random((n_regions, n_regions)) < _DENSITY
    weights = np.triu(np.exp(0.8 * (noise + noise.transpose(0, 2, 1))) * there, 1)
    weights += weights.transpose(0, 2, 1)
    load = rng.gamma(0.5, 1.0, (n_subjects, n_regions))
    signs = rng.choice([-1.0, 1.0], n_regions)
    strength = weights.sum(axis=2)
    sizes = np.sqrt(np.maximum(strength[:, :, None] * strength[:, None, :], 1e-12))
    arrived = np.einsum("sij,sj->si", weights / sizes, load)
    signal = arrived @ signs
    score = signal / signal.std() + _NOISE * rng.normal(size=n_subjects)
    ids = list(base.ids)
    cohort = replace(
        base,
        regions=base.regions[:n_regions],
        weights=weights[:, None].astype(np.float32),
        node_mask=np.ones((n_subjects, n_regions), dtype=bool),
        region_features=load[..., None],
        region_feature_names=("load",),
        tasks=(Task(name=task, kind="regression", column=task),),
        targets=pd.DataFrame({task: score}, index=ids),
        status=pd.DataFrame({task: "observed"}, index=ids),
        covariate_specs=(),
    )
    return Spread(cohort, arrived, signs)
