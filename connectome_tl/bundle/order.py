"""Compare the edges of a cohort with the training mean of a bundle, to detect rows in another order.

Some pairs of regions are strongly connected in everybody. In the order of the model, the mean edges of a cohort
therefore correlate with the training mean, and in random orders hardly.
"""

from __future__ import annotations

import numpy as np

from connectome_tl.bundle.members import Members
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.features.modalities import ConnectomeSteps

N_ORDERS = 99
_FEWEST_REGIONS = 8  # with fewer, random orders may be close to the right one
_SEED = 0


def note_on_order(members: Members, cohort: Cohort) -> str:
    """A warning if mean edges resemble the training mean no more than in random orders of the regions; else "".

    Members whose edges are changed before they are scaled (tangent space, harmonisation) are not compared.
    """
    steps = [features.steps.get("connectome") for features in members.features()]
    means = [one.scaler.mean[0] for one in steps if isinstance(one, ConnectomeSteps) and not one.edge_steps]
    if not means or cohort.n_regions < _FEWEST_REGIONS:
        return ""
    total, n_seen = np.zeros(means[0].shape), np.zeros(means[0].shape)
    for edges, mask in zip(cohort.weights, cohort.node_mask, strict=True):  # one subject at a time: may be on disk
        seen = np.outer(mask, mask)
        total += np.where(seen, edges[0], 0.0)
        n_seen += seen
    trained, own = np.mean(means, axis=0), total / np.maximum(n_seen, 1)
    upper = upper_indices(cohort.n_regions)
    rng = np.random.default_rng(_SEED)
    orders = (rng.permutation(cohort.n_regions) for _ in range(N_ORDERS))
    found = _correlation(trained[upper], own[upper])
    if found > max(_correlation(trained[upper], own[np.ix_(order, order)][upper]) for order in orders):
        return ""
    return (
        f"the mean edges of cohort {cohort.name!r} resemble those of the training subjects (correlation {found:.2f}) "
        f"no more than in {N_ORDERS} random orders of the regions: check that the rows of the matrices have the order "
        "of the regions in cohort.yaml, and the measure"
    )


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's r, 0 for a constant."""
    one, other = one - one.mean(), other - other.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size > 0 else 0.0
