"""Decisions and checks of a conversion."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

import numpy as np

from connectome_tl.connectome.connectome import Connectome
from connectome_tl.connectome.names.labels import listed
from connectome_tl.connectome.names.naming import Layout, MatrixFile
from connectome_tl.errors import DataError
from connectome_tl.plurals import counted

_LISTED = 10


def only_measure(connectome: Connectome, measure: str, *, named: bool, file: Path) -> Connectome:
    """Select one measure of a connectome; a single unnamed measure gets the name."""
    if measure in connectome.measures:
        at = connectome.measures.index(measure)
        return replace(connectome, weights=connectome.weights[at : at + 1], measures=(measure,))
    if connectome.n_measures == 1 and not named:
        return replace(connectome, measures=(measure,))
    near = difflib.get_close_matches(measure, connectome.measures, n=3, cutoff=0.3)
    raise DataError(
        f"measure {measure!r} is not in the file",
        expected=f"one of {', '.join(connectome.measures)}",
        file=file,
        remedy=f"Nearest: {', '.join(near)}." if near else None,
    )


def content_notes(connectome: Connectome, file: Path, *, estimated: bool) -> tuple[str, ...]:
    """Notes on missing, isolated and constant data.

    Args:
        estimated: whether the matrix was estimated from time series; shrinkage may give correlations of 0.

    Raises:
        DataError: there are no edges.
    """
    weights, there = connectome.weights, connectome.node_mask
    off_diagonal = ~np.eye(connectome.n_regions, dtype=bool)
    linked = ((weights != 0) & off_diagonal).any(axis=(0, 1))
    if not linked.any() and not estimated:
        raise DataError(
            "the connectome has no edge",
            file=file,
            got=f"0 between all {counted(int(there.sum()), 'region')}",
            remedy="Was the tractogram empty, or in another space than the parcellation?",
        )
    notes = []
    missing = [name for name, present in zip(connectome.regions, there, strict=True) if not present]
    if missing:
        notes.append(
            f"{counted(len(missing), 'region is', 'regions are')} missing and masked: {listed(missing, _LISTED)}"
        )
    lonely = [connectome.regions[i] for i in np.flatnonzero(there & ~linked)]
    if lonely:
        notes.append(
            f"{counted(len(lonely), 'region')} without an edge, isolated or not measured: {listed(lonely, _LISTED)}"
        )
    pairs = off_diagonal & there[:, None] & there[None, :]
    for measure, matrix in zip(connectome.measures, weights, strict=True):
        if pairs.sum() > 2 and np.ptp(matrix[pairs]) == 0:
            notes.append(f"WARNING: all edges of {measure!r} are {matrix[pairs][0]:g}; it contains no information")
    return tuple(notes)


def chosen_layout(matrix: MatrixFile, asked: Layout | None) -> tuple[Layout, tuple[str, ...]]:
    """Layout of a matrix given as a list of values, or as a square with one empty triangle."""
    if asked is not None:
        return asked, (f"the {asked} triangle was mirrored",) if asked != "full" else ()
    if matrix.values.ndim == 2:
        return "upper", (
            "the values were read as the upper triangle of the matrix, row by row, and mirrored "
            "(for nilearn's vectorised matrices use --layout lower)",
        )
    lower = np.nan_to_num(np.tril(matrix.values, -1)).any()
    upper = np.nan_to_num(np.triu(matrix.values, 1)).any()
    if upper and not lower:
        return "upper", ("the upper triangle was mirrored",)
    if lower and not upper:
        return "lower", ("the lower triangle was mirrored",)
    return "full", ()
