"""The order of rows that files do not name is checked over the subjects of a cohort."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from connectome_tl.atlas import load_atlas

from .conftest import OnDisk

ATLAS = load_atlas("aal90")
AT = ATLAS.coordinates
MATRIX = np.round(1000 * np.exp(-np.linalg.norm(AT[:, None] - AT[None], axis=-1) / 40)) * (1 - np.eye(90))
TURN = np.lexsort((np.arange(90), np.array([region.hemisphere for region in ATLAS.regions])))


def test_each_file_is_checked_for_the_origin_of_its_numbers(on_disk: OnDisk) -> None:
    """The files of pandas count from 0; one lost region 0, and its numbers could be label numbers."""
    for subject in on_disk.matrices:
        first = int(subject == "sub-03")
        pd.DataFrame(MATRIX).loc[first:, first:].to_csv(on_disk.folder / f"{subject}.csv")
    on_disk.matrices = {}
    on_disk.settings["connectomes"] |= {"files": "{id}.csv"}
    (problem,) = on_disk.problems()
    assert "another origin" in problem


@pytest.mark.parametrize("kind", ["files", "stack"])
@pytest.mark.parametrize("half", ["upper", "lower"])
def test_triangles_in_another_order_are_refused(on_disk: OnDisk, kind: str, half: str) -> None:
    matrix = MATRIX[np.ix_(TURN, TURN)]
    ids = list(on_disk.matrices)
    on_disk.matrices = {}
    on_disk.settings["connectomes"] = {"atlas": "aal90", "layout": half}
    if kind == "files":
        for subject in ids:
            np.save(on_disk.folder / f"{subject}.npy", (np.triu if half == "upper" else np.tril)(matrix))
        on_disk.settings["connectomes"] |= {"files": "{id}.npy"}
    else:
        stack = np.tile(matrix[np.triu_indices(90, 1) if half == "upper" else np.tril_indices(90, -1)], (6, 1))
        np.save(on_disk.folder / "all.npy", stack)
        on_disk.settings["connectomes"] |= {"stack": "all.npy", "rows": "participants.tsv"}
    assert any("left hemisphere" in problem for problem in on_disk.problems())


def test_a_region_missing_in_one_subject_does_not_switch_off_the_check_of_a_stack(on_disk: OnDisk) -> None:
    stack = np.tile(MATRIX[np.ix_(TURN, TURN)], (6, 1, 1))
    stack[1, 7], stack[1, :, 7] = np.nan, np.nan
    np.save(on_disk.folder / "all.npy", stack)
    on_disk.matrices = {}
    on_disk.settings["connectomes"] = {"atlas": "aal90", "stack": "all.npy", "rows": "participants.tsv"}
    assert any("left hemisphere" in problem for problem in on_disk.problems())
