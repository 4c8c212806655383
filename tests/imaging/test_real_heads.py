"""Real heads with wrong headers: no wrong rotation is similar enough to end the search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.read.images import Volume, read_volume
from connectome_tl.imaging.register.orientation import CLEAR, _Search


def brain(shared_data: Path, number: int) -> Volume:
    image, labels = (
        read_volume(sorted((shared_data / "ixi_10" / kind).iterdir())[number]) for kind in ("T1w", "labels")
    )
    return Volume(np.where(labels.data > 0, image.data, 0), image.affine)


HALF_TURNS = [np.diag(signs) for signs in ((-1, -1, 1), (1, -1, -1), (-1, 1, -1))]
ABOUT_A_DIAGONAL = np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0]])


@pytest.mark.parametrize("turn", [*HALF_TURNS, ABOUT_A_DIAGONAL])
def test_a_half_turn_of_an_adult_head_does_not_end_the_search(turn: np.ndarray, shared_data: Path) -> None:
    fixed, affine = brain(shared_data, 0), np.eye(4)
    affine[:3, :3] = turn
    search = _Search(Volume(fixed.data, affine @ fixed.affine), brain(shared_data, 3), None)
    assert search.likeness(np.eye(3)) < CLEAR
    assert search.likeness(affine[:3, :3].T) > CLEAR
