"""Sample size that a prediction model needs (Riley et al.)."""

from __future__ import annotations

import numpy as np
from scipy import optimize

from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals.wilson import Z95
from connectome_tl.settings.records.statistics import SampleSize

SHRINKAGE = 0.9
_OPTIMISM = 0.05


def riley_binary(n_parameters: int, prevalence: float, n: int, r2_cox_snell: float | None = None) -> SampleSize:
    """Smallest n to develop a risk model (Riley et al. 2020, doi:10.1136/bmj.m441).

    Args:
        n_parameters: number of candidate predictor parameters (one per edge of a linear model).
        prevalence: share of positives.
        n: available number of subjects.
        r2_cox_snell: anticipated value; by default 15 % of its maximum, as the authors recommend without prior data.

    Raises:
        DataError: a prevalence outside (0, 1), no parameter, or an impossible R2.
    """
    if not 0 < prevalence < 1 or n_parameters < 1:
        raise DataError(
            "no sample size can be computed",
            expected="a prevalence inside (0, 1) and a parameter or more",
            got=f"{prevalence}",
        )
    null = prevalence * np.log(prevalence) + (1 - prevalence) * np.log(1 - prevalence)
    largest = float(1 - np.exp(2 * null))
    r2 = 0.15 * largest if r2_cox_snell is None else r2_cox_snell
    if not 0 < r2 < largest:
        raise DataError("impossible Cox-Snell R2", expected=f"between 0 and {largest:.3f}", got=str(r2))
    wanted = r2 / (r2 + _OPTIMISM * largest)
    criteria = (
        ("shrinkage of at most 10 %", _for_shrinkage(n_parameters, r2, SHRINKAGE)),
        ("optimism in R2 of at most 0.05", _for_shrinkage(n_parameters, r2, wanted)),
        ("overall risk within 0.05", int(np.ceil((Z95 / 0.05) ** 2 * prevalence * (1 - prevalence)))),
    )
    return SampleSize(
        kind="binary",
        n_parameters=n_parameters,
        anticipated=r2,
        criteria=criteria,
        needed=max(size for _, size in criteria),
        n=n,
        method="Riley et al. 2020, doi:10.1136/bmj.m441",
    )


def _for_shrinkage(p: int, r2: float, shrinkage: float) -> int:
    if r2 / shrinkage >= 1:
        return p + 2
    return int(np.ceil(p / ((shrinkage - 1) * np.log(1 - r2 / shrinkage))))


def riley_continuous(n_parameters: int, n: int, r2: float = 0.15) -> SampleSize:
    """Smallest n to develop a model of a score (Riley et al. 2019, doi:10.1002/sim.7993).

    Args:
        r2: anticipated adjusted R2.

    Raises:
        DataError: an R2 outside (0, 1) or no parameter.
    """
    p = n_parameters
    if not 0 < r2 < 1 or p < 1:
        raise DataError(
            "no sample size can be computed", expected="an R2 inside (0, 1) and a parameter or more", got=str(r2)
        )

    def shrinkage(size: float) -> float:
        apparent = (r2 * (size - p - 1) + p) / (size - 1)
        return float(1 + (p - 2) / (size * np.log(1 - apparent))) - SHRINKAGE

    smallest = p + 2
    if p > 2 and shrinkage(smallest) < 0:
        smallest = int(np.ceil(optimize.brentq(shrinkage, smallest, 1e3 * (p + 10) / r2)))
    criteria = (
        ("shrinkage of at most 10 %", smallest),
        ("optimism in R2 of at most 0.05", int(np.ceil(1 + p * (1 - r2) / _OPTIMISM))),
        ("residual spread within 10 %", 234 + p),
    )
    return SampleSize(
        kind="regression",
        n_parameters=p,
        anticipated=r2,
        criteria=criteria,
        needed=max(size for _, size in criteria),
        n=n,
        method="Riley et al. 2019, doi:10.1002/sim.7993",
    )
