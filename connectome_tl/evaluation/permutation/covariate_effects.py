"""Design columns that remove covariate effects from edges: linear, curved, interactions with age.

The effect of gestational age on a connectome is nonlinear and stronger in younger children. It must be removed before
testing the added value of the connectome, which would otherwise reflect this effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.settings.cohort import Covariate

# Columns per subject; with more, too few residuals remain to be permuted.
_SHARE, _SHARE_OF_SITES = 1 / 3, 1 / 6
_KNOTS = (0.05, 0.35, 0.65, 0.95)  # quantiles of four knots (Harrell)
_WITHIN = 4.0  # standard deviations at which values are clipped for nonlinear terms


@dataclass(frozen=True, eq=False)
class CovariateEffects:
    """Columns (n_subjects, n_columns), and their description."""

    columns: np.ndarray
    words: str


def covariate_effects(cohort: Cohort, specs: Sequence[Covariate]) -> CovariateEffects:
    """Design columns of complete covariates; only means, standard deviations and quantiles are fitted.

    Linear terms of covariates and age at scan are always included, those of sites if there are six subjects per site.
    Squares, products with age at scan, and natural cubic splines of numeric covariates are added in this order while
    there are three subjects per column.
    """
    numeric, others, left_out = _main_effects(cohort, specs)
    linear = [*numeric.values(), *others.values()]
    room = int(_SHARE * cohort.n_subjects) - len(linear)
    age = numeric.get(_AGE)
    kinds = {
        "squares": [np.clip(x, -_WITHIN, _WITHIN) ** 2 for x in numeric.values()],
        "products with age at scan": []
        if age is None
        else [age * x for name, x in (numeric | others).items() if name != _AGE and not name.startswith("site")],
        "natural splines": [column for x in numeric.values() for column in natural_spline(x)],
    }
    added: list[np.ndarray] = []
    words = ["linear effects of " + ", ".join(dict.fromkeys(name.split(":")[0] for name in numeric | others))]
    words += left_out
    for name, columns in kinds.items():
        if columns and len(columns) <= room - len(added):
            added += columns
            words.append(name)
        elif columns:
            words.append(f"no {name} (too few subjects)")
    return CovariateEffects(np.column_stack([*linear, *added]), ", ".join(words))


def natural_spline(x: np.ndarray) -> Iterator[np.ndarray]:
    """The two nonlinear columns (n,) of a natural cubic spline with four knots; none if x has few distinct values.

    Linear beyond the outer knots (Harrell 2015, doi:10.1007/978-3-319-19425-7, 2.4.5).
    """
    t = np.quantile(x, _KNOTS)
    if np.unique(t).size < len(t):
        return
    for knot in t[:-2]:
        bent = _cube(x - knot) - _cube(x - t[-2]) * (t[-1] - knot) / (t[-1] - t[-2])
        yield (bent + _cube(x - t[-1]) * (t[-2] - knot) / (t[-1] - t[-2])) / (t[-1] - t[0]) ** 2


_AGE = "age at scan"


def _main_effects(
    cohort: Cohort, specs: Sequence[Covariate]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """Standardised numeric covariates with age at scan; categories and sites as 0 and 1; effects that are left out.

    Constant columns are dropped.
    """
    left_out = []
    numeric: dict[str, np.ndarray] = {}
    others: dict[str, np.ndarray] = {}
    for spec in specs:
        if spec.type == "numeric":
            numeric[spec.column] = cohort.covariates[spec.column].to_numpy(dtype=float)
        else:
            others |= _levels(spec.column, cohort.covariates[spec.column].astype("string").to_numpy())
    age = np.asarray(cohort.age, dtype=float)
    if np.isfinite(age).all() and not any(np.allclose(age, x) for x in numeric.values()):
        numeric[_AGE] = age
    elif not np.isfinite(age).all():
        left_out.append("no age at scan (unknown)")
    sites = _levels("site", np.array([str(site) for site in cohort.site]))
    if len(sites) <= _SHARE_OF_SITES * cohort.n_subjects:
        others |= sites
    else:
        left_out.append("no sites (too few subjects)")
    return {name: (x - x.mean()) / x.std() for name, x in numeric.items() if x.std() > 0}, others, left_out


def _levels(name: str, text: np.ndarray) -> dict[str, np.ndarray]:
    return {f"{name}: {level}": (text == level).astype(float) for level in sorted(set(text))[1:]}


def _cube(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0) ** 3
