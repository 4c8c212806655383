"""Result records of `connectome-tl maps`."""

from __future__ import annotations

from typing import Literal

from connectome_tl.settings.base import Record

MapKind = Literal["noise", "occlusion", "gradients"]


class VolumeMap(Record):
    """Maps of one outcome and kind, over the first repeat's folds.

    Attributes:
        n_subjects: held-out subjects with a map.
        deletion, insertion: mean area under the curve of the change of the output, for the subjects' maps and for
            random maps.
        agreement: mean rank correlation between the mean maps of the folds.
        randomised: rank correlation of the mean map with that of a network with random weights (first fold).
        file: file of the mean map.
        is_one_space: whether the grids of all subjects, at least two, have the same place in the space of their images.
    """

    task: str
    kind: MapKind
    n_subjects: int
    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    agreement: float
    randomised: float
    file: str
    is_one_space: bool = False


class VolumeMapsRecord(Record):
    """All maps of a run, and reasons for outcomes without maps."""

    model: str
    maps: tuple[VolumeMap, ...]
    withheld: dict[str, str]
