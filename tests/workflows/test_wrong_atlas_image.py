"""A label image with another numbering than its atlas is refused once, before any scan is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.imaging.track.streamlines import write_tck
from connectome_tl.settings.imaging import AssemblySettings
from connectome_tl.workflows.data.assemble import assemble_files
from connectome_tl.workflows.scans.connectomes import build_connectomes
from connectome_tl.workflows.scans.morphometry import build_networks, morphometry_files


def label_image(path: Path, shift: int) -> Path:
    """aal90 in the size of a newborn's head; each label at the position of the one `shift` numbers later."""
    atlas = load_atlas("aal90")
    places = np.round(atlas.coordinates * 0.6 / 2).astype(int)
    places -= places.min(axis=0) - 2
    data = np.zeros(places.max(axis=0) + 3, dtype=np.int16)
    for region, (x, y, z) in zip(atlas.regions, places, strict=True):
        data[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = (region.index + shift - 1) % 90 + 1
    affine = np.diag([2.0, 2, 2, 1])
    affine[:3, 3] = [-60, -70, -30]
    return write_volume(path, data, affine)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "bids"
    for subject in ("sub-01", "sub-02"):
        for name in ("anat/{}_T2w.nii.gz", "dwi/{}_dwi.nii.gz", "dwi/{}_dwi.bval", "dwi/{}_dwi.bvec"):
            file = root / subject / name.format(subject)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    (root / "template_T2w.nii.gz").touch()
    label_image(root / "labels.nii.gz", 2)
    text = "atlas: aal90\ntemplate: {image: template_T2w.nii.gz, labels: labels.nii.gz}\n"
    (root / "config.yaml").write_text(text)
    return root


@pytest.mark.parametrize("build", [build_connectomes, build_networks])
def test_a_template_of_another_numbering_stops_the_run_in_one_line(build: object, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.nii\.gz: the image is not one of aal90") as caught:
        build(folder, tmp_path / "out", config=folder / "config.yaml")  # type: ignore[operator]
    assert len(caught.value.problems) == 1
    assert not list(tmp_path.glob("out/sub-*"))


def test_assembly_and_morphometry_of_one_subject_compare_too(tmp_path: Path) -> None:
    wrong, right = label_image(tmp_path / "wrong.nii.gz", 2), label_image(tmp_path / "right.nii.gz", 0)
    places = load_atlas("aal90").coordinates * 0.6
    places = places - np.round(places / 2).min(axis=0) * 2 + 4 + np.array([-60, -70, -30])
    write_tck(tmp_path / "t.tck", [np.linspace(places[i], places[i + 2], 5) for i in range(80)])
    out = tmp_path / "o.tsv"
    with pytest.raises(DataError, match="not one of aal90"):
        assemble_files(tmp_path / "t.tck", wrong, out, atlas="aal90")
    with pytest.raises(DataError, match="not one of aal90"):
        morphometry_files([wrong], wrong, out, atlas="aal90")
    assert not out.exists()
    assert assemble_files(tmp_path / "t.tck", right, out, atlas="aal90").assembly.account.edges > 70
    allowed = AssemblySettings(max_misplaced=1)
    assert assemble_files(tmp_path / "t.tck", wrong, out, atlas="aal90", settings=allowed).assembly.account.edges > 70
