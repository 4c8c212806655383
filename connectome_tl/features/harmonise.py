"""Remove site effects fitted on training rows, with a policy for unseen sites.

Constant edges, sites with one subject, missing regions, a single site, and covariates that are constant within sites
are supported, since they are common in small folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, Problem, UsageError, raise_all
from connectome_tl.features.combat import ComBat, fit_combat
from connectome_tl.features.gamma_sites import GammaSites, fit_gamma
from connectome_tl.settings.features import HarmoniseSettings, UnseenSite


class SiteModel(Protocol):
    """Interface of site models: adjusted edges (n_rows, n_edges) from sites and covariates of the rows."""

    sites: tuple[str, ...]

    def adjusted(self, edges: np.ndarray, sites: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        """Edges (n_rows, n_edges) without site effects, given the site (n_rows,) and encoded covariates of each row."""
        ...


@dataclass(frozen=True, eq=False)
class Harmoniser:
    """Fitted site models, one per measure.

    Attributes:
        models: one per measure.
        reference: site whose effect is used for unseen sites with the policy `reference`.
        columns: columns of the encoded protected covariates.
        centre, levels: training means of numeric and training levels of categorical protected covariates.
        ids: the training rows.
    """

    models: tuple[ComBat | GammaSites, ...]
    reference: str
    unseen: UnseenSite
    protect: tuple[str, ...]
    columns: tuple[str, ...]
    centre: dict[str, float]
    levels: dict[str, tuple[str, ...]]
    ids: tuple[str, ...]

    def transform(self, cohort: Cohort) -> Cohort:
        """The cohort with adjusted weights."""
        return replace(cohort, weights=self.apply(cohort))

    def apply(self, cohort: Cohort) -> np.ndarray:
        """Adjusted weights (n_subjects, n_measures, n_regions, n_regions) float32; diagonals are not changed.

        Every row is adjusted independently of the other rows.

        Raises:
            DataError: a row of an unseen site with the policy `refuse`, or different regions.
        """
        known = set(self.models[0].sites)
        sites = np.array([str(site) for site in cohort.site], dtype=object)
        strange = np.array([site not in known for site in sites], dtype=bool)
        if strange.any() and self.unseen == "refuse":
            raise_all(
                "sites that the harmonisation has not seen",
                [
                    Problem(
                        f"site {site!r} was not among the training rows",
                        subject=cohort.ids[int(np.flatnonzero(sites == site)[0])],
                        expected=", ".join(sorted(known)),
                        remedy="Set unseen: reference or none, or hold the split within sites.",
                    )
                    for site in dict.fromkeys(sites[strange])
                ],
            )
        as_if = np.where(strange, self.reference, sites)
        covariates = _encoded(cohort, self.protect, self.centre, self.levels)
        edges = _edges(cohort.weights)
        out = np.array(cohort.weights, dtype=np.float32, copy=True)
        first, second = np.triu_indices(cohort.n_regions, 1)
        for m, model in enumerate(self.models):
            adjusted = model.adjusted(edges[:, m], as_if, covariates)
            if self.unseen == "none":
                adjusted[strange] = edges[strange, m]
            out[:, m, first, second] = adjusted
            out[:, m, second, first] = adjusted
        present = cohort.node_mask[:, None, :, None] & cohort.node_mask[:, None, None, :]
        return np.where(present, out, np.float32(0.0))


def fit_harmoniser(training: Cohort, settings: HarmoniseSettings) -> Harmoniser | None:
    """Fit on the given rows, all of which are training rows; None for the method `none`.

    Raises:
        UsageError: a protected covariate is an outcome or does not exist.
        DataError: no site is known, or edges are negative with the method `gamma`.
    """
    if settings.method == "none":
        return None
    raise_all("harmonisation cannot protect these", protection_problems(training, settings.protect), UsageError)
    sites = np.array([str(site) for site in training.site], dtype=object)
    if not any(sites):
        raise DataError("no site is known; name its column in cohort.yaml", file=training.name)
    unknown = [subject for subject, site in zip(training.ids, sites, strict=True) if not site]
    if unknown:
        raise DataError(
            f"the site of {len(unknown)} training rows is not known, and unknown is not treated as a site",
            got=", ".join(unknown[:5]),
            file=training.name,
            remedy="Give their sites, or leave them out (`select` in cohort.yaml).",
        )
    names, counts = np.unique(sites.astype(str), return_counts=True)
    reference = settings.reference or str(names[counts.argmax()])
    if reference not in names:
        raise UsageError(f"reference site {reference!r} is not among the training rows", expected=", ".join(names))
    centre, levels = _encoding(training, settings.protect)
    covariates = _encoded(training, settings.protect, centre, levels)
    first, second = np.triu_indices(training.n_regions, 1)
    present = training.node_mask[:, first] & training.node_mask[:, second]
    edges = _edges(training.weights)
    models: list[ComBat | GammaSites] = []
    for m in range(training.n_measures):
        if settings.method == "combat":
            models.append(fit_combat(edges[:, m], sites, covariates, present, prior=settings.prior))
        else:
            models.append(fit_gamma(edges[:, m], sites, covariates, present))
    columns = tuple(name for name in settings.protect if name in centre)
    columns += tuple(f"{name}={level}" for name, found in levels.items() for level in found)
    return Harmoniser(
        tuple(models), reference, settings.unseen, settings.protect, columns, centre, levels, training.ids
    )


def _edges(weights: np.ndarray) -> np.ndarray:
    first, second = np.triu_indices(weights.shape[-1], 1)
    return weights[:, :, first, second].astype(float)


def protection_problems(cohort: Cohort, protect: Sequence[str]) -> list[Problem]:
    """Problems of the protected covariates: outcomes, or names that do not exist."""
    outcomes = {task.column for task in cohort.tasks} | {task.name for task in cohort.tasks}
    outcomes |= {"age"} if any(cohort.is_age(task.name) for task in cohort.tasks) else set()
    problems = []
    for name in protect:
        if name in outcomes:
            problems.append(
                Problem(
                    f"{name!r} is an outcome of cohort {cohort.name!r} and cannot be protected: its values in test "
                    "rows are to be predicted",
                    remedy=f"Take {name} out of harmonise.protect, or out of the outcomes of that cohort.yaml.",
                )
            )
        elif name == "age" and not cohort.age_unit:
            problems.append(Problem(f"cohort {cohort.name!r} has no age to protect"))
        elif name != "age" and name not in cohort.covariates.columns:
            problems.append(
                Problem(
                    f"no column {name!r} in cohort {cohort.name}",
                    expected=f"one of {', '.join(['age', *cohort.covariates.columns])}",
                )
            )
    return problems


def _encoding(cohort: Cohort, protect: Sequence[str]) -> tuple[dict[str, float], dict[str, tuple[str, ...]]]:
    """Training means of numeric covariates; all but the first training level of categorical ones."""
    centre: dict[str, float] = {}
    levels: dict[str, tuple[str, ...]] = {}
    for name in protect:
        column = _column(cohort, name)
        if column.dtype.kind == "f":
            known = column.to_numpy(dtype=float)
            known = known[~np.isnan(known)]
            centre[name] = float(known.mean()) if known.size else 0.0
        else:
            levels[name] = tuple(sorted({str(value) for value in column.dropna()}))[1:]
    return centre, levels


def _column(cohort: Cohort, name: str) -> pd.Series:
    if name == "age" and name not in cohort.covariates.columns:
        return pd.Series(cohort.age, dtype=float)
    return cohort.covariates[name]


def _encoded(
    cohort: Cohort, protect: Sequence[str], centre: dict[str, float], levels: dict[str, tuple[str, ...]]
) -> np.ndarray:
    """Encoded covariates (n_rows, n_columns); a missing number is the training mean, an unknown level is all zeros."""
    columns = []
    for name in protect:
        column = _column(cohort, name)
        if name in centre:
            values = column.to_numpy(dtype=float)
            columns.append(np.where(np.isnan(values), 0.0, values - centre[name]))
        else:
            text = column.astype(object).to_numpy()
            columns += [np.array([value == level for value in text], dtype=float) for level in levels[name]]
    return np.column_stack(columns) if columns else np.zeros((cohort.n_subjects, 0))
