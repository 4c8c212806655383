"""Result records of `connectome-tl maps`."""

from __future__ import annotations

from typing import Literal

from connectome_tl.settings.base import Record

MapKind = Literal["noise", "occlusion", "gradients"]


class VolumeMap(Record):
    """Maps of one outcome and kind, over the first repeat's folds.

    Attributes:
        n_subjects: held-out subjects with a map.
        deletion, insertion: mean area under the curve of the change of the output, of the subjects' maps; and of
            random maps.
        agreement: mean rank correlation of the mean maps of the folds.
        randomised: rank correlation of the mean map with that of the network with random weights (first fold).
        file: of the mean map.
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


class VolumeMapsRecord(Record):
    """All maps of a run, and outcomes without, with the reason."""

    model: str
    maps: tuple[VolumeMap, ...]
    withheld: dict[str, str]
