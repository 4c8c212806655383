"""Write a `Cohort` as `cohort.yaml`, a table and one stack, so that `read_cohort` returns an equal one."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from connectome_tl.arguments import checked_arguments
from connectome_tl.atlas import atlas_names, load_atlas
from connectome_tl.cohort.arrays.matrices import kept_regions
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.config import dump_settings
from connectome_tl.errors import InternalError
from connectome_tl.provenance import write_bytes, write_table, write_text
from connectome_tl.settings.cohort import (
    AgeColumn,
    CohortSettings,
    ConnectomeFiles,
    Outcome,
    RegionFeatureFiles,
    StatusRule,
    VolumeFiles,
)
from connectome_tl.tasks import Task

_UNSAFE = re.compile(r"[^A-Za-z0-9_+-]")
_ID, _SCAN, _AGE, _SITE, _FAMILY = "participant_id", "scan_id", "age_at_scan", "site", "family_id"
_VOLUME, _LABELS = "volume", "label_map"


@checked_arguments
def write_cohort(cohort: Cohort, folder: str | Path) -> Path:
    """Write `cohort.yaml`, `participants.tsv`, `matrices.npz` and the table of regions.

    `read_cohort` of the result has equal ids, matrices, masks, covariates, tasks, targets, status, ages, sites,
    families and images (which are not copied); its flow, sources and notes are those of the new files. A binary task
    with a cut-off whose scores are unavailable is written as a 0/1 column. The age column is `age_at_scan`.

    Returns:
        Path of `cohort.yaml`.

    Raises:
        InternalError: a died or untestable subject is counted differently within one task.
        OutputError: the folder cannot be written.
    """
    target = Path(folder)
    table: dict[str, Any] = {_ID: list(cohort.ids)}
    settings: dict[str, Any] = {"name": cohort.name, "participants": "participants.tsv", "id": _ID}
    pairs = list(zip(cohort.ids, cohort.children, strict=False))
    if pairs and all(one.startswith(f"{child}_") for one, child in pairs):
        table = {_ID: list(cohort.children), _SCAN: [one.removeprefix(f"{child}_") for one, child in pairs]}
        settings["id"] = (_ID, _SCAN)
    if cohort.simulated:
        settings["simulated"] = True
    if cohort.exploratory:
        settings["exploratory"] = True
    if cohort.origin:
        settings["origin"] = cohort.origin
    if cohort.age_unit:
        table[_AGE] = cohort.age
        settings["age"] = AgeColumn.model_validate(
            {"column": _AGE, "unit": cohort.age_unit, "reference": cohort.age_reference}
        )
    for key, column, values in (("site", _SITE, cohort.site), ("family", _FAMILY, cohort.family)):
        if any(values):
            table[column] = [value or None for value in values]
            settings[key] = column
    for spec in cohort.covariate_specs:
        if spec.column in table and not _same(table[spec.column], cohort.covariates[spec.column]):
            raise InternalError(f"a covariate cannot be called {spec.column!r}: the table has another such column")
        table[spec.column] = cohort.covariates[spec.column].to_numpy()
    outcomes = tuple(_outcome(cohort, task, table) for task in cohort.tasks)
    if cohort.n_regions:
        _write_stack(cohort, target)
        settings["connectomes"] = _connectomes(cohort)
        if cohort.region_features is not None and cohort.region_feature_names:
            settings["region_features"] = RegionFeatureFiles(stack="matrices.npz", names=cohort.region_feature_names)
    if any(cohort.volumes):
        table[_VOLUME] = [os.path.relpath(file, target) if file else None for file in cohort.volumes]
        labels = _LABELS if any(cohort.volume_labels) else None
        if labels is not None:
            table[labels] = [os.path.relpath(file, target) if file else None for file in cohort.volume_labels]
        settings["volumes"] = VolumeFiles(
            column=_VOLUME, contrast=cohort.volume_contrast, labels=labels, missing="allow"
        )
    write_table(target / "participants.tsv", pd.DataFrame(table))
    made = CohortSettings(**settings, covariates=cohort.covariate_specs, outcomes=outcomes)
    return write_text(target / "cohort.yaml", dump_settings(made))


def _same(one: Any, other: pd.Series) -> bool:
    return pd.Series(list(one), dtype=object).fillna("").tolist() == other.astype(object).fillna("").tolist()


def _outcome(cohort: Cohort, task: Task, table: dict[str, Any]) -> Outcome:
    status = cohort.status[task.name]
    rule = _rule(cohort, task, status)
    status_column = f"{task.name}_status"
    table[status_column] = status.to_numpy()
    targets = cohort.targets[task.name].to_numpy(dtype=float)
    unseen = ~status.eq("observed").to_numpy()
    fields = task.model_dump()
    raw = next((t for t in cohort.tasks if t.column == task.column and t.operator is None), None)
    if cohort.scores is not None and task.column in cohort.scores.columns:
        scores = cohort.scores[task.column].to_numpy(dtype=float)
    elif task.operator is not None and raw is not None:
        scores = cohort.targets[raw.name].to_numpy(dtype=float)
    elif task.operator is None:
        scores = np.where(unseen, np.nan, targets)
    else:
        scores = np.where(unseen, np.nan, targets)
        fields |= {"operator": None, "cutoff": None, "column": f"{task.name}_class"}
    column = str(fields["column"])
    if task.levels:
        table[column] = [None if np.isnan(score) else task.levels[int(score)] for score in scores]
    elif task.is_binary and fields["operator"] is None:
        table[column] = [None if np.isnan(score) else str(int(score)) for score in scores]
    else:
        table[column] = scores
    return Outcome(**fields, status=StatusRule(column=status_column, **rule))


def _rule(cohort: Cohort, task: Task, status: pd.Series) -> dict[str, Any]:
    """Meaning of death and untestable for this task, derived from its targets."""
    rule: dict[str, Any] = {}
    for state in ("died", "untestable"):
        targets = cohort.targets.loc[status.eq(state), task.name].to_numpy(dtype=float)
        meanings = {"missing" if np.isnan(t) else "positive" if t == 1 else "negative" for t in targets}
        if len(meanings) > 1:
            raise InternalError(f"{state} means different things within task {task.name!r}", got=str(sorted(meanings)))
        rule[state] = meanings.pop() if meanings else "missing"
    return rule


def _connectomes(cohort: Cohort) -> ConnectomeFiles:
    atlas, regions = _atlas_of(cohort.atlas, cohort.regions)
    return ConnectomeFiles(
        stack="matrices.npz",
        key="weights",
        rows="participants.tsv",
        layout="full",
        atlas=atlas,
        regions=regions,
        labels=_label_file(cohort),
        measure=cohort.measures,
        transform="none",
        diagonal="keep",
    )


def _label_file(cohort: Cohort) -> str:
    return f"{_UNSAFE.sub('', cohort.atlas) or 'regions'}.tsv"  # never use a name from a file as a path


def _atlas_of(name: str, regions: Sequence[str]) -> tuple[str | None, Any]:
    """Name of the atlas if it has all these regions in its order, and the regions to keep."""
    if name not in atlas_names():
        return None, "all"
    atlas = load_atlas(name)
    known = atlas.names
    if tuple(regions) == known:
        return name, "all"
    if tuple(regions) == tuple(known[i] for i in kept_regions("cerebrum", known, atlas)):
        return name, "cerebrum"
    return (name, tuple(regions)) if set(regions) <= set(known) else (None, "all")


def _write_stack(cohort: Cohort, folder: Path) -> None:
    arrays: dict[str, np.ndarray] = {
        "weights": cohort.weights,
        "node_mask": cohort.node_mask,
        "ids": np.array(cohort.ids, dtype=np.str_),
        "regions": np.array(cohort.regions, dtype=np.str_),
    }
    if cohort.region_features is not None and cohort.region_feature_names:
        arrays["region_features"] = cohort.region_features
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(folder / "matrices.npz", buffer.getvalue())
    write_table(folder / _label_file(cohort), pd.DataFrame({"name": list(cohort.regions)}))
