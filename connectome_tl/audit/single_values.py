"""Single columns, edges, regional measures, missing values or summaries that predict the outcome almost perfectly.

An AUC above 0.95 or an R2 above 0.9 of a single value is rare, and common if the outcome has leaked into the features:
a later score among the covariates, a code that only impaired subjects have, a scan that is missing after a death. Such
values give a warning, never a failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, islice

import numpy as np
import pandas as pd

from connectome_tl.audit.duplicates import edges_of
from connectome_tl.audit.encodings import SUM, few_valued, gap_patterns, last_digits, readings, taken_together
from connectome_tl.audit.products import paired
from connectome_tl.audit.separation import CHANCE, limit, measured, too_good, too_good_within
from connectome_tl.audit.summaries import region_means, summaries, telling_levels
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.settings.records.audit import Finding
from connectome_tl.tasks import Task

_FEWEST_ROWS = 12  # of whom two columns taken together are asked
_WORTH_A_LOOK = 0.5  # correlation of held-out predictions below which no AUC is computed
_MOST_LEVELS = 8  # of a column within whose levels values are tested
_MOST_CROSSED = 45  # pairs of categorical columns
_MOST_SHOWN = 3  # pairs of one outcome
_PER_LEVEL = 4  # subjects per value of a numeric column that may be a code
_CHECK = "no single value reveals the outcome"


def alone_findings(cohort: Cohort, tasks: Sequence[Task]) -> list[Finding]:
    """Warn of every value that alone predicts an outcome almost perfectly.

    The test uses the whole cohort without held-out rows, so that the limit may be exceeded by chance with many edges
    and few positives; a value is reported only if this has a probability of under 1 % for any value of its kind.
    """
    found: list[str] = []
    for task in tasks:
        outcome = cohort.targets[task.name].to_numpy(dtype=float)
        kinds = list(_kinds(cohort, task))
        own = [f"{kind} {text}" for kind, names, values in kinds for text in too_good(values, names, outcome, task)]
        for name, column in _categories(cohort, task):
            text = telling_levels(column, outcome, task) if len(column) else ""
            own += [f"column {name} ({text})"] if text else []
        if not own:
            own += _crossed(_categories(cohort, task), outcome, task)
        if not own:
            groups = _groupings(cohort, task)
            for kind, names, values in kinds:
                own += [f"{kind} {text}" for text in too_good_within(values, names, groups, outcome, task)]
            own += _together(_columns(cohort, task), outcome, task)
            alone = [kinds[0], *(one for one in kinds if one[0] in ("edge", "regional measure"))]
            every = [name for _, names, _ in alone for name in names]
            # Relatives are alike, and of so many pairs some would seem improbable if each counted.
            one_each = np.where(_repeated(cohort), np.nan, outcome)
            pairs = paired(np.concatenate([values for *_, values in alone], axis=1), every, one_each, task)
            own += pairs[:_MOST_SHOWN]
        found += [f"{task.name} from {text}" for text in own]
    if not found:
        return [Finding(check=_CHECK, status="passed", what="no column, edge, region, missing value or summary does")]
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    return [
        Finding(
            check=_CHECK,
            status="warning",
            what="; ".join(found[:8]) + more,
            remedy="Leave out what was derived from the outcome, or was not known at the time of the scan.",
        )
    ]


def _kinds(cohort: Cohort, task: Task) -> Iterator[tuple[str, list[str], np.ndarray]]:
    """Kind, names and values (n_subjects, n_values) of all inputs that a model may use."""
    columns = _columns(cohort, task)
    yield "column", list(columns), _stack(columns, cohort.n_subjects)
    read = readings(columns)
    yield "column", list(read), _stack(read, cohort.n_subjects)
    if cohort.regions:
        rows, others = upper_indices(cohort.n_regions)
        pairs = [f"{cohort.regions[i]} - {cohort.regions[j]}" for i, j in zip(rows, others, strict=True)]
        names = [f"{pair} ({measure})" for measure in cohort.measures for pair in pairs]
        yield "edge", names, edges_of(cohort).reshape(cohort.n_subjects, -1)
        labels = [f"{region} ({measure})" for measure in cohort.measures for region in cohort.regions]
        yield "mean weight of region", labels, region_means(cohort).reshape(cohort.n_subjects, -1)
    if cohort.region_features is not None and cohort.region_features.shape[2]:
        labels = [f"{name} of {region}" for region in cohort.regions for name in cohort.region_feature_names]
        yield "regional measure", labels, cohort.region_features.reshape(cohort.n_subjects, -1).astype(float)
    gaps = _gaps(cohort)
    yield "missing", list(gaps), _stack(gaps, cohort.n_subjects)
    whole = summaries(cohort)
    yield "all edges or regions:", list(whole), _stack(whole, cohort.n_subjects)


def _categories(cohort: Cohort, task: Task) -> Iterator[tuple[str, pd.Series]]:
    """Columns whose levels are tested together."""
    for spec in cohort.covariate_specs:
        if spec.type != "numeric" and spec.column != task.column:
            yield spec.column, cohort.covariates[spec.column]
    for name, column in few_valued(cohort, cohort.n_subjects // _PER_LEVEL):
        if name != task.column:
            yield name, column
    yield from last_digits(cohort)
    yield "site", pd.Series([site or None for site in cohort.site])
    yield (
        "what is missing",
        gap_patterns({str(name): cohort.covariates[name].isna().to_numpy() for name in cohort.covariates}),
    )


def _crossed(columns: Iterable[tuple[str, pd.Series]], outcome: np.ndarray, task: Task) -> list[str]:
    """Two categorical columns of few levels that reveal the outcome together: the scanner of each site."""
    few = [(name, column) for name, column in columns if 2 <= column.nunique(dropna=True) <= _MOST_LEVELS]
    found = []
    for (one, first), (two, second) in islice(combinations(few, 2), _MOST_CROSSED):
        both = first.astype("string").reset_index(drop=True) + " x " + second.astype("string").reset_index(drop=True)
        if text := telling_levels(both, outcome, task):
            found.append(f"columns {one} and {two} ({text})")
    return found


def _groupings(cohort: Cohort, task: Task) -> dict[str, np.ndarray]:
    """Site, and columns of few levels, within which a value may reveal the outcome."""
    columns = {name: column for name, column in _categories(cohort, task) if len(column)}
    for spec in cohort.covariate_specs:
        values = cohort.covariates[spec.column]
        if spec.type == "numeric" and spec.column != task.column and values.nunique(dropna=True) == 2:
            columns[spec.column] = values.map(lambda value: None if pd.isna(value) else f"{value:g}")
    return {
        name: column.astype("string").fillna("").to_numpy(dtype=str)
        for name, column in columns.items()
        if 2 <= column.nunique(dropna=True) <= _MOST_LEVELS
    }


def _together(columns: dict[str, np.ndarray], outcome: np.ndarray, task: Task) -> list[str]:
    """Columns that reveal the outcome in combination, but not alone."""
    seen = np.isfinite(outcome)
    if not (task.is_binary or task.form == "value") or seen.sum() < _FEWEST_ROWS:
        return []
    made = taken_together({name: values[seen] for name, values in columns.items()}, outcome[seen])
    allowed, names = CHANCE / max(len(made), 1), list(made)
    found = []
    for name in names:
        one, y, strict = made[name], outcome[seen], not name.endswith(SUM)
        # Held out, so that the prediction must be as near in value, too: a correlation would forgive its sign.
        if task.form == "value":
            share = 1 - float(((y - one) ** 2).sum()) / max(float(((y - y.mean()) ** 2).sum()), 1e-300)
            text, p = (f"R2 {share:.2f}" if share > limit(task, strict=strict) else ""), 0.0
        else:
            text, p = "", 1.0
            if np.ptp(one) > 0 and np.corrcoef(one, y)[0, 1] > _WORTH_A_LOOK:
                text, p = measured(one, y, task, strict=strict)
        if text and p < allowed:
            found.append(f"columns {name} ({text}, held out)")
    return found


def _repeated(cohort: Cohort) -> np.ndarray:
    """(n_subjects,) bool: another subject of the family is listed before."""
    family = pd.Series([str(name) for name in cohort.family])
    return np.asarray(family.duplicated() & (family != ""))


def _columns(cohort: Cohort, task: Task) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for spec in cohort.covariate_specs:
        column = cohort.covariates[spec.column]
        if spec.column == task.column:
            continue  # the outcome is declared to be this column
        if spec.type == "numeric":
            found[spec.column] = column.to_numpy(dtype=float)
        else:
            found |= _levels(spec.column, column)
    found |= _levels("site", pd.Series([site or None for site in cohort.site]))
    if np.isfinite(cohort.age).any() and task.name != "age":
        found["age at scan"] = np.asarray(cohort.age, dtype=float)
    return found


def _levels(name: str, column: pd.Series) -> dict[str, np.ndarray]:
    text = column.astype("string")
    known = text.notna().to_numpy()
    return {
        f"{name}: {level}": np.where(known, (text == level).fillna(False).to_numpy(dtype=float), np.nan)
        for level in sorted(text.dropna().unique())
    }


def _gaps(cohort: Cohort) -> dict[str, np.ndarray]:
    """Indicators of missing values, and their counts."""
    found = {f"{name}": cohort.covariates[name].isna().to_numpy(dtype=float) for name in cohort.covariates}
    found["age at scan"] = (~np.isfinite(np.asarray(cohort.age, dtype=float))).astype(float)
    found |= {f"region {name}": (~cohort.node_mask[:, r]).astype(float) for r, name in enumerate(cohort.regions)}
    if cohort.region_features is not None and cohort.region_features.shape[2]:
        for f, name in enumerate(cohort.region_feature_names):
            found[f"{name} (number of regions)"] = np.isnan(cohort.region_features[:, :, f]).sum(axis=1).astype(float)
    if any(cohort.volumes):
        found["image"] = np.array([not name for name in cohort.volumes], dtype=float)
    if found:
        found["values (their number)"] = np.sum(list(found.values()), axis=0)
    return found


def _stack(columns: dict[str, np.ndarray], n: int) -> np.ndarray:
    return np.column_stack(list(columns.values())) if columns else np.zeros((n, 0))
