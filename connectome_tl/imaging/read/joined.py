"""Concatenate several diffusion runs of one session on one grid and one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.dwi import Dwi, read_dwi
from connectome_tl.imaging.read.gradients import B0_MAX
from connectome_tl.imaging.read.images import Volume, grid_problem, same_grid
from connectome_tl.imaging.read.run_files import RunFiles
from connectome_tl.settings.imaging import BvecLengths


def read_runs(
    runs: Sequence[RunFiles],
    *,
    bvec_axes: str = "fsl",
    mask: Path | None = None,
    subject: str | None = None,
    b0_max: float = B0_MAX,
    lengths: BvecLengths = "auto",
) -> Dwi:
    """Read and concatenate the runs of one scan.

    Scanners may scale runs differently: each run is scaled to the mean unweighted signal of the first.

    Raises:
        MissingInputError, DataError: as `read_dwi`; a run on another grid.
    """
    found = [
        read_dwi(
            run.image, run.bval, run.bvec, table=run.table, bvec_axes=bvec_axes, mask=mask, subject=subject,
            b0_max=b0_max, lengths=lengths,
        )
        for run in runs
    ]  # fmt: skip
    return found[0] if len(found) == 1 else join(found)


def join(runs: Sequence[Dwi]) -> Dwi:
    """Concatenate the runs of one scan.

    Raises:
        DataError: the runs have different grids.
    """
    first = runs[0]
    here = Volume(first.data, first.affine, first.subject, first.file)
    others = [Volume(run.data, run.affine, run.subject, run.file) for run in runs[1:]]
    problems = [grid_problem("a run", other, here) for other in others if not same_grid(other, here)]
    if problems:
        raise DataError("the runs of this session cannot be joined", problems=problems)
    mask = np.logical_and.reduce([run.mask for run in runs])
    levels = [float(run.data[mask][:, run.is_b0].mean()) for run in runs]
    factors = [levels[0] / level if level > 0 else 1.0 for level in levels]
    warnings = [warning for run in runs for warning in run.warnings]
    said = ", ".join(f"{factor:.3g}" for factor in factors)
    warnings.append(
        f"{len(runs)} runs are joined: {', '.join(Path(run.file or '').name for run in runs)}; scaled by {said}"
    )
    return replace(
        first,
        data=np.concatenate([run.data * np.float32(factor) for run, factor in zip(runs, factors, strict=True)], axis=3),
        bvals=np.concatenate([run.bvals for run in runs]),
        directions=np.concatenate([run.directions for run in runs]),
        mask=mask,
        warnings=tuple(dict.fromkeys(warnings)),
        runs=np.concatenate([np.full(run.n_volumes, number) for number, run in enumerate(runs)]),
    )
