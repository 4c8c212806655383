"""Labels of real atlases that are turned by 180 degrees are recognised, correct ones accepted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.imaging.read.images import Volume, read_labels, read_volume
from connectome_tl.imaging.register.label_turn import turn_of_labels
from connectome_tl.imaging.register.orientation import turned_about


@pytest.mark.parametrize("kind", ["adult", "fetus", "one subject"])
def test_turned_labels_of_a_real_head_are_recognised_without_knowing_their_regions(
    kind: str, shared_data: Path
) -> None:
    if kind == "adult":
        image, labels = (sorted((shared_data / "ixi_10" / part).iterdir())[5] for part in ("T1w", "labels"))
    elif kind == "fetus":
        folder = next((shared_data / "fetal_atlases" / "SpinaBifida_Fidon2021").glob("*GA25_notoperated"))
        image, labels = folder / "srr.nii.gz", folder / "parcellation.nii.gz"
    else:
        folder = shared_data / "mrtrix_bids_sub01" / "anat"
        image, labels = folder / "sub-01_desc-brain_T1w.nii.gz", folder / "sub-01_parc-desikan_indices.nii.gz"
    head, parcels = read_volume(image), read_labels(labels)
    if kind != "one subject":
        head = Volume(np.where(parcels.data > 0, np.maximum(head.data, 0), 0), head.affine)
    assert turn_of_labels(head, parcels) is None
    for said, signs in (("upside down", (1, 1, -1)), ("turned front to back", (1, -1, 1))):
        turned = Volume(parcels.data, turned_about(np.diag(signs), head) @ parcels.affine)
        found = turn_of_labels(head, turned)
        assert found is not None
        assert found[0] == said
        assert found[1] < 0.6 * found[2]
