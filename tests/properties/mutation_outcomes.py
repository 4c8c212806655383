"""Result of a mutant: right, refused, warned, or a failure (silently wrong, a traceback, too slow)."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from matrix_mutants import Maker
from matrix_truth import Mutant

from connectome_tl.atlas import load_atlas
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import ConnectomeTLError
from connectome_tl.workflows.data.convert import convert_file

SLOW = 5.0  # seconds
FAILURES = ("silently wrong", "traceback", "over 5 s")


def outcome(make: Maker, folder: Path, seed: list[int]) -> tuple[str, str]:
    """Write a mutant to an empty folder and convert it; returns the outcome and the reason of a failure.

    `not made`: the format cannot represent the change.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    mutant = make(folder, np.random.default_rng(seed))
    if mutant is None:
        return "not made", ""
    notes: list[str] = []
    start = time.process_time()
    try:
        values = _read(mutant, folder, notes)
        found, text = "read", ""
    except ConnectomeTLError as error:
        values, found, text = np.zeros(0), "refused", str(error)
        if error.exit_code not in (64, 65, 66) or not text or len(error.problems) > 4:
            return "traceback", f"exit {error.exit_code}: {text[:200]}"
    except Exception as error:  # the tested property is that there is none
        return "traceback", f"{type(error).__name__}: {error}"
    if time.process_time() - start > SLOW:
        return "over 5 s", mutant.what
    if found == "refused":
        return ("refused", "") if mutant.expected is None else ("refused although it could be read", text)
    return _judged(mutant, values, notes)


def _read(mutant: Mutant, folder: Path, notes: list[str]) -> np.ndarray:
    """(..., n_regions, n_regions) over the atlas, NaN for missing regions, as written or returned by the package."""
    if mutant.path.suffix == ".yaml":
        cohort = read_cohort(mutant.path)
        notes += [note.replace("edge weights neither", "WARNING") for note in cohort.notes]
        there = cohort.node_mask[:, :, None] & cohort.node_mask[:, None, :]
        return np.where(there, cohort.weights[:, 0], np.nan)
    options: dict[str, Any] = mutant.options
    (made, *_) = convert_file(
        mutant.path, folder / "out" / "m_relmat.tsv", atlas=mutant.atlas, say=notes.append, **options
    )
    with made.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream, delimiter="\t")
    values = np.array([[np.nan if cell == "n/a" else float(cell) for cell in row] for row in rows])
    return values if header == list(load_atlas(mutant.atlas).names) else np.zeros((1, 1))


def _judged(mutant: Mutant, values: np.ndarray, notes: list[str]) -> tuple[str, str]:
    warned = any(note.startswith("WARNING") for note in notes)
    if mutant.expected is None:
        return ("warned", "") if warned else ("silently wrong", "read, and must be refused")
    if values.shape != mutant.expected.shape:
        return "silently wrong", "other names, or another size"
    off = ~np.eye(values.shape[-1], dtype=bool)
    if np.allclose(values[..., off], mutant.expected[..., off], rtol=1e-6, atol=0, equal_nan=True):
        return "right", ""
    return ("warned", "") if warned else ("silently wrong", "other values")
