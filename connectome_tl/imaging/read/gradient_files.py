"""Read the gradient table of an image: `.bval` and `.bvec`, or MRtrix's `.b`; where both exist, they must agree."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from connectome_tl.errors import DataError
from connectome_tl.imaging.read.gradients import (
    checked_bvals,
    finite_vectors,
    fsl_to_world,
    image_to_world,
    normalised,
    read_bvals,
    read_bvecs,
    unit_directions,
)
from connectome_tl.imaging.read.text import read_number_rows
from connectome_tl.settings.imaging import BvecLengths

_SAME_B, _SAME_SHARE = 50.0, 0.05  # s/mm2, and relative to b: larger differences are other b-values
_SAME_ANGLE = np.cos(np.deg2rad(5.0))


class GradientTable(NamedTuple):
    """b-values (n,) in s/mm2, directions (n, 3) in world axes, their two files, and a note on their lengths."""

    bvals: np.ndarray
    directions: np.ndarray
    files: tuple[str | Path, str | Path]
    note: str | None


def read_gradients(
    image: str | Path,
    affine: np.ndarray,
    bval: str | Path | None,
    bvec: str | Path | None,
    table: str | Path | None,
    *,
    bvec_axes: str,
    subject: str | None,
    b0_max: float,
    lengths: BvecLengths,
) -> GradientTable:
    """The table of an image; MRtrix's is preferred, and must agree with FSL's files where both exist.

    Args:
        image, affine: file and (4, 4) affine of the diffusion data.
        bvec_axes: `fsl`, or `image` for QSIPrep's files, of which only the b-values are compared with a `.b`.
        b0_max, lengths: as in `unit_directions`.

    Raises:
        MissingInputError, DataError: a file that cannot be read, no table, or two that disagree.
    """
    found = []
    if table is not None:
        rows = read_number_rows(table, subject=subject)
        if rows.ndim != 2 or rows.shape[1] != 4:
            raise DataError(
                "not a gradient table",
                expected="x y z b in rows",
                got=str(rows.shape),
                subject=subject,
                file=table,
                remedy="Write one row per volume, in the format of mrinfo -export_grad_mrtrix.",
            )
        bvals = checked_bvals(rows[:, 3], table, subject=subject)
        found.append(_in_units(bvals, finite_vectors(rows[:, :3]), (table, table), b0_max, lengths))
    if bval is not None and bvec is not None:
        bvals, vectors = read_bvals(bval, subject=subject), read_bvecs(bvec, subject=subject)
        to_world = fsl_to_world if bvec_axes == "fsl" else image_to_world
        found.append(_in_units(bvals, to_world(vectors, affine), (bval, bvec), b0_max, lengths))
    if not found:
        raise DataError("the gradient table is missing", expected="bval and bvec, or .b", subject=subject, file=image)
    if len(found) == 2:
        _require_same(*found, b0_max=b0_max, directions=bvec_axes == "fsl", subject=subject)
    return found[0]


def _in_units(
    bvals: np.ndarray,
    directions: np.ndarray,
    files: tuple[str | Path, str | Path],
    b0_max: float,
    lengths: BvecLengths,
) -> GradientTable:
    bvals, directions, note = unit_directions(bvals, directions, b0_max, lengths)
    return GradientTable(bvals, directions, files, note)


def _require_same(
    table: GradientTable, fsl: GradientTable, *, b0_max: float, directions: bool, subject: str | None
) -> None:
    """Raise an error if two tables of one image differ by more than rounding; opposite directions are the same."""
    got, file = None, fsl.files[0]
    if len(table.bvals) != len(fsl.bvals):
        got = f"{len(table.bvals)} and {len(fsl.bvals)} b-values"
    elif (apart := np.abs(table.bvals - fsl.bvals) > np.maximum(_SAME_B, _SAME_SHARE * fsl.bvals)).any():
        at = int(np.flatnonzero(apart)[0])
        got = f"b = {table.bvals[at]:g} and {fsl.bvals[at]:g} at volume {at + 1}"
    elif directions and len(table.directions) == len(fsl.directions):
        ours, theirs = normalised(table.directions), normalised(fsl.directions)
        known = (fsl.bvals > b0_max) & ours.any(axis=1) & theirs.any(axis=1)  # wrong lengths are another problem
        cosines = np.abs((ours * theirs).sum(axis=1))
        if (turned := known & (cosines < _SAME_ANGLE)).any():
            at, file = int(np.flatnonzero(turned)[0]), fsl.files[1]
            got = f"directions {np.rad2deg(np.arccos(min(cosines[at], 1.0))):.0f} degrees apart at volume {at + 1}"
    if got is not None:
        raise DataError(
            "the image has two gradient tables that disagree",
            expected=f"the table of {table.files[0]}",
            got=got,
            subject=subject,
            file=file,
            remedy="Remove the one that does not belong to the image.",
        )
