"""Regional measures beside the connectome: thickness, volume, FA per region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from connectome_tl.cohort.files import found_files, matched
from connectome_tl.cohort.matrices import Matrices
from connectome_tl.cohort.tables import Findings, numbers, read_table
from connectome_tl.connectome.array_matrices import load_array
from connectome_tl.errors import ConnectomeTLError, DataError, Problem
from connectome_tl.settings.cohort import RegionFeatureFiles


def read_region_features(
    spec: RegionFeatureFiles, matrices: Matrices, everyone: Sequence[str], folder: Path, findings: Findings
) -> np.ndarray | None:
    """(n_subjects, n_regions, n_features) float64 in the order of the matrices, NaN where unknown."""
    try:
        if spec.stack is not None:
            return _from_stack(spec, matrices, folder)
        return _from_files(spec, matrices, everyone, folder, findings)
    except ConnectomeTLError as error:
        findings.problems += error.problems
        return None


def _from_stack(spec: RegionFeatureFiles, matrices: Matrices, folder: Path) -> np.ndarray:
    expected = (len(matrices.ids), len(matrices.regions), len(spec.names))
    values = matrices.region_features
    if values is None or spec.key not in (None, "region_features"):
        values = load_array(folder / str(spec.stack), spec.key)
    if values.shape != expected:
        raise DataError(
            "region features do not fit the connectomes",
            file=folder / str(spec.stack),
            expected=f"{expected} (subjects, regions, features)",
            got=str(values.shape),
            remedy="Rows and regions of the stack are those of the connectomes.",
        )
    return values.astype(float)


def _from_files(
    spec: RegionFeatureFiles, matrices: Matrices, everyone: Sequence[str], folder: Path, findings: Findings
) -> np.ndarray:
    files = found_files(str(spec.files), folder, findings)
    names = matched(matrices.ids, everyone, files, findings, what="region features", file=str(spec.files))
    position = {region: i for i, region in enumerate(matrices.regions)}
    out = np.full((len(matrices.ids), len(matrices.regions), len(spec.names)), np.nan)
    for i, subject in enumerate(matrices.ids):
        if subject not in names:
            continue
        path = files[names[subject]]
        table = read_table(path)
        absent = [column for column in ("name", *spec.names) if column not in table.columns]
        if absent:
            findings.problems.append(Problem(f"lacks columns {', '.join(absent)}", subject=subject, file=path))
            continue
        rows = list(table["name"])
        unknown = [name for name in rows if name not in position]
        if unknown:
            findings.problems.append(Problem(f"unknown regions {', '.join(unknown[:5])}", subject=subject, file=path))
            continue
        for k, column in enumerate(spec.names):
            out[i, [position[name] for name in rows], k] = numbers(table[column], rows, path, findings)
    return out
