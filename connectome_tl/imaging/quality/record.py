"""Quality record of a scan: a table with one row per volume, summary numbers, warnings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from connectome_tl.errors import DataError
from connectome_tl.imaging.preprocess.motion import Motion
from connectome_tl.imaging.quality.noise import neighbour_correlation, noise_measures
from connectome_tl.imaging.quality.signal_check import SignalCheck, check_signal
from connectome_tl.imaging.quality.volumes import Slices, check_slices, copied_volumes, empty_volumes
from connectome_tl.imaging.read.dwi import Dwi, numbered
from connectome_tl.plurals import counted

POSES = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")  # as fMRIPrep and QSIPrep call them
COLUMNS = {  # columns of the table: description and unit
    "volume": ("counted from 1", ""),
    "bval": ("b-value", "s/mm2"),
    "signal": ("mean signal in the brain", "arbitrary"),
    "expected_signal": ("expected signal for b-value and direction", "arbitrary"),
    "trans_x": ("shift of the head's centre to the right", "mm"),
    "trans_y": ("shift of the head's centre to the front", "mm"),
    "trans_z": ("shift of the head's centre upwards", "mm"),
    "rot_x": ("rotation about the axis to the right", "rad"),
    "rot_y": ("rotation about the axis to the front", "rad"),
    "rot_z": ("rotation about the upward axis", "rad"),
    "framewise_displacement": ("Power et al. 2012, rotations at 50 mm; expected, given the noise of poses", "mm"),
    "slices_lost": ("slices with signal dropout", ""),
    "slices_bright": ("slices brighter than predicted", ""),
    "slices_striped": ("slices with stripes or spikes", ""),
    "prediction_correlation": ("with what the other volumes predict", ""),
    "neighbour_correlation": ("with the nearest volume in q-space", ""),
    "left_out": ("1 if the volume is empty", ""),
}


@dataclass(frozen=True, eq=False)
class ScanQuality:
    """Quality of the original diffusion data of one scan.

    Attributes:
        volumes: one row per volume with the columns `COLUMNS`.
        numbers: summary numbers of the scan, by name.
    """

    volumes: pd.DataFrame
    numbers: dict[str, float]
    warnings: tuple[str, ...]


def usable_volumes(dwi: Dwi, *, refuse: bool = True) -> tuple[Dwi, np.ndarray, SignalCheck]:
    """The data without empty volumes, a mask of empty volumes, and the check of the signal against the table.

    Args:
        refuse: raise an error if the table is wrong, else warn.

    Raises:
        DataError: the table is wrong, or too few volumes remain.
    """
    empty = empty_volumes(dwi)
    left = ~empty
    if empty.any() and (not dwi.is_b0[left].any() or (left & ~dwi.is_b0).sum() < 6):
        raise DataError(
            "too few volumes contain signal",
            expected="an unweighted and six weighted volumes",
            got=f"{int(left.sum())} of {len(left)} volumes; empty: {numbered(empty)}",
            subject=dwi.subject,
            file=dwi.file,
        )
    copied = copied_volumes(dwi) & left
    if copied.any() and (left & ~dwi.is_b0 & ~copied).sum() < 6:
        raise DataError(
            "weighted volumes are copies of each other",
            expected="six that differ",
            got=f"{numbered(copied)} equal to earlier ones",
            subject=dwi.subject,
            file=dwi.file,
            remedy="Convert the data again.",
        )
    check = check_signal(dwi, empty)
    if copied.any():
        said = f"{counted(int(copied.sum()), 'volume is a copy', 'volumes are copies')} of earlier ones"
        check = replace(check, warnings=(f"{said}: {numbered(copied)}", *check.warnings))
    if check.problem is not None and refuse:
        raise DataError("the gradient table must be wrong", problems=[check.problem])
    if not empty.any():
        return dwi, empty, check
    return dwi.part(left), empty, check


def scan_quality(dwi: Dwi, empty: np.ndarray, check: SignalCheck, motion: Motion | None) -> ScanQuality:
    """Measure the quality of the original data.

    Args:
        dwi: without the empty volumes.
        empty: (n_volumes of the file,) bool.
        motion: of `dwi`; None where it was not estimated.
    """
    slices = check_slices(dwi, None if motion is None else motion.poses)
    bad = (slices.lost | slices.gained | slices.rough).any(axis=1)
    alike = neighbour_correlation(dwi, bad)
    kept = np.flatnonzero(~empty)

    def spread(values: np.ndarray, fill: float = np.nan) -> np.ndarray:
        out = np.full((len(empty), *values.shape[1:]), fill)
        out[kept] = values
        return out

    table = pd.DataFrame({"volume": np.arange(1, len(empty) + 1), "bval": spread(dwi.bvals)})
    table["signal"], table["expected_signal"] = check.measured, check.expected
    if motion is not None:
        poses = spread(motion.table())
        poses[:, 3:] = np.radians(poses[:, 3:])
        table[list(POSES)] = poses
        table["framewise_displacement"] = spread(motion.displacement)
    for name, found in (("lost", slices.lost), ("bright", slices.gained), ("striped", slices.rough)):
        table[f"slices_{name}"] = spread(found.sum(axis=1).astype(float), 0).astype(int)
    table["prediction_correlation"], table["neighbour_correlation"] = spread(slices.correlation), spread(alike)
    table["left_out"] = empty.astype(int)
    return ScanQuality(table, _numbers(dwi, slices, bad, alike, motion, empty), _said(slices, empty, check))


def _numbers(
    dwi: Dwi, slices: Slices, bad: np.ndarray, alike: np.ndarray, motion: Motion | None, empty: np.ndarray
) -> dict[str, float]:
    shown = max(int(np.isfinite(slices.ratio).sum()), 1)
    found = noise_measures(dwi, bad)
    found["share_slices_lost"] = float(slices.lost.sum()) / shown
    found["n_volumes_flagged"] = float(bad.sum() + empty.sum())
    if np.isfinite(alike).any():
        found["neighbour_correlation"] = float(np.nanmean(alike))
    if motion is not None and np.isfinite(motion.displacement).any():
        found["mean_fd"] = round(float(np.nanmean(motion.displacement)), 4)
        found["max_fd"] = round(float(np.nanmax(motion.displacement)), 4)
    return found


def _said(slices: Slices, empty: np.ndarray, check: SignalCheck) -> tuple[str, ...]:
    said = [] if check.problem is None else [f"the gradient table must be wrong: {check.problem.what}"]
    if empty.any():
        said.append(f"{counted(int(empty.sum()), 'volume is', 'volumes are')} empty and left out: {numbered(empty)}")
    return (*said, *slices.warnings(original=np.flatnonzero(~empty)), *check.warnings)
