"""Phase encoding of runs and reversed b=0 volumes, in the format of FSL's topup and eddy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from connectome_tl.errors import DataError, MissingInputError, Problem
from connectome_tl.imaging.read.dwi import Dwi
from connectome_tl.imaging.read.images import Volume, grid_problem, read_volume, same_grid
from connectome_tl.imaging.read.run_files import RunFiles, read_sidecars

_AXES = {"i": (1, 0, 0), "j": (0, 1, 0), "k": (0, 0, 1)}
_MOST = 3  # unweighted volumes per run and direction; more are slow and of little use for topup


@dataclass(frozen=True, eq=False)
class Pairs:
    """Unweighted volumes and their acquisition parameters.

    Attributes:
        b0s: (x, y, z, n_b0s), of the runs in their order, then of the other direction.
        rows: (n_b0s, 4) axis and sign of the phase encoding, and total readout time in s.
        index: (n_volumes,) row of each volume of the data, counted from 1.
    """

    b0s: np.ndarray
    rows: np.ndarray
    index: np.ndarray


def phase_problems(runs: Sequence[RunFiles], subject: str) -> list[Problem]:
    """Problems of sidecars without acquisition parameters."""
    found: list[Problem] = []
    for run in runs:
        try:
            _row(run, subject)
        except (DataError, MissingInputError) as error:
            found += error.problems
    return found


def pairs(dwi: Dwi, runs: Sequence[RunFiles], opposite: Sequence[RunFiles]) -> Pairs:
    """Unweighted volumes of the data and of the other direction.

    Raises:
        MissingInputError, DataError: as the readers; a sidecar without `PhaseEncodingDirection` and `TotalReadoutTime`;
            an image of the other direction on another grid; a run without an unweighted volume.
    """
    subject = dwi.subject or ""
    of_run = np.zeros(dwi.n_volumes, dtype=int) if dwi.runs is None else dwi.runs
    images, rows, first = [], list[tuple[float, ...]](), {}
    for number, run in enumerate(runs):
        volumes = np.flatnonzero(dwi.is_b0 & (of_run == number))[:_MOST]
        if (of_run == number).any() and not len(volumes):
            raise DataError("a run has no unweighted volume", subject=subject, file=run.image)
        first[number] = len(rows) + 1
        rows += [_row(run, subject)] * len(volumes)
        images.append(dwi.data[..., volumes])
    here = Volume(dwi.data, dwi.affine, dwi.subject, dwi.file)
    for other in opposite:
        image = read_volume(other.image, subject=subject, n_dimensions=(3, 4))
        if not same_grid(image, here):
            raise DataError(
                "unweighted volumes of the other phase direction cannot be used",
                problems=[grid_problem("the image", image, here)],
            )
        data = image.data if image.data.ndim == 4 else image.data[..., None]
        images.append(data[..., :_MOST])
        rows += [_row(other, subject)] * images[-1].shape[3]
    index = np.array([first[number] for number in of_run])
    return Pairs(np.concatenate(images, axis=3), np.array(rows), index)


def _row(run: RunFiles, subject: str) -> tuple[float, ...]:
    said: dict[str, Any] = read_sidecars(run.sidecars)
    axis, seconds = str(said.get("PhaseEncodingDirection", "")), said.get("TotalReadoutTime")
    if axis.rstrip("-") not in _AXES or not isinstance(seconds, (int, float)) or not 0 < seconds < 10:
        raise MissingInputError(
            "it is not known how this image was acquired",
            expected="PhaseEncodingDirection (i, j, k; with - the other way) and TotalReadoutTime (s) in a sidecar",
            got=f"PhaseEncodingDirection {axis or None}, TotalReadoutTime {seconds}",
            subject=subject,
            file=run.image,
            remedy=f"Add them to {run.image.name.split('.')[0]}.json.",
        )
    sign = -1 if axis.endswith("-") else 1
    return (*(sign * part for part in _AXES[axis.rstrip("-")]), float(seconds))
