"""Tissue maps of every kind give the same four fractions; the simple segmentation uses a newborn's contrast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectome_tl.errors import DataError
from connectome_tl.imaging.preprocess.tissues import Tissues, read_tissues, segment_tissues, tissue_warnings
from connectome_tl.imaging.read.images import Volume, write_volume
from connectome_tl.simulation.phantom import PhantomSettings, make_anatomy, make_head

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def classes() -> np.ndarray:
    """Draw-EM's labels in shells: fluid outside, cortex, white matter, deep grey, a ventricle."""
    grid = np.stack(np.meshgrid(*(np.arange(n) - n / 2 for n in (28, 32, 24)), indexing="ij"), axis=-1)
    radius = np.linalg.norm(grid / (13, 15, 11), axis=-1)
    return np.select([radius < 0.15, radius < 0.3, radius < 0.7, radius < 0.88, radius < 1], [5, 7, 3, 2, 1], 0)


def written(tmp_path: Path, kind: str) -> list[Path]:
    labels = classes()
    if kind == "drawem":
        return [write_volume(tmp_path / "drawem9.nii.gz", labels.astype(np.int16), AFFINE)]
    cortex, deep, white = labels == 2, labels == 7, labels == 3
    fluid = (labels == 1) | (labels == 5)
    if kind == "5tt":
        five = np.stack([cortex, deep, white, fluid, np.zeros_like(fluid)], axis=-1).astype(np.float32)
        return [write_volume(tmp_path / "5tt.nii.gz", five, AFFINE)]
    parts = {"WM": white, "GM": cortex | deep, "CSF": fluid}
    return [write_volume(tmp_path / f"{n}.nii.gz", part.astype(np.float32), AFFINE) for n, part in parts.items()]


@pytest.mark.parametrize("kind", ["drawem", "5tt", "maps"])
def test_every_kind_gives_the_same_tissues(kind: str, tmp_path: Path) -> None:
    found, labels = read_tissues(written(tmp_path, kind), subject="sub-01"), classes()
    np.testing.assert_array_equal(found.white > 0.5, labels == 3)
    np.testing.assert_array_equal(found.grey > 0.5, np.isin(labels, (2, 7)))
    np.testing.assert_array_equal(found.fluid > 0.5, np.isin(labels, (1, 5)))
    if kind != "maps":
        np.testing.assert_array_equal(found.deep > 0.5, labels == 7)
    np.testing.assert_allclose(found.five().sum(axis=-1), labels > 0)


def test_tissues_come_onto_another_grid() -> None:
    labels = classes()
    parts = [(labels == k).astype(float) for k in (3, 2, 7, 1)]
    fine = Tissues(*parts, AFFINE, "5TT")
    coarse = fine.on_grid(Volume(np.zeros((14, 16, 12)), np.diag([4.0, 4.0, 4.0, 1.0])))
    for part, whole in zip(coarse.parts, parts, strict=True):
        np.testing.assert_allclose(part, whole[::2, ::2, ::2], atol=1e-6)


@pytest.mark.parametrize(
    ("contrast", "months", "grey", "white", "fluid"),
    [
        ("T2w", None, 400.0, 650.0, 1000.0),
        ("T1w", 1.0, 800.0, 600.0, 250.0),
        ("T2w", 9.0, 650.0, 400.0, 1000.0),
        ("T1w", 24.0, 600.0, 800.0, 250.0),
    ],
)
def test_the_contrast_of_an_age_is_segmented(
    contrast: str, months: float | None, grey: float, white: float, fluid: float
) -> None:
    labels = classes()
    image = np.select([np.isin(labels, (2, 7)), labels == 3, np.isin(labels, (1, 5))], [grey, white, fluid], 0.0)
    image = np.where(labels > 0, image + np.random.default_rng(0).normal(0, 40, image.shape), 0)
    found = segment_tissues(Volume(image, AFFINE), labels > 0, contrast, months=months)
    for share, truth in ((found.grey, (2, 7)), (found.white, (3,)), (found.fluid, (1, 5))):
        a, b = share > 0.5, np.isin(labels, truth)
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.95
    assert found.source == "segmented"


def test_where_white_and_grey_matter_look_alike_nothing_is_guessed() -> None:
    image = Volume(np.random.default_rng(0).normal(500, 50, (8, 8, 8)), AFFINE, "sub-09")
    with pytest.raises(DataError, match=r"sub-09.*look alike at this age.*got 6\.0 months"):
        segment_tissues(image, image.data > 0, "T1w", months=6.0)


def test_a_few_voxels_more_or_less_change_no_class() -> None:
    head = make_head(make_anatomy(PhantomSettings()), seed=200)
    brain, rng = head.t2w > 200, np.random.default_rng(1)
    most = brain & (rng.random(brain.shape) < 0.95)
    whole, parts = (segment_tissues(Volume(head.t2w, head.t2w_affine), mask, "T2w") for mask in (brain, most))
    for name in ("grey", "white", "fluid"):
        a, b = (getattr(found, name)[most] > 0.5 for found in (whole, parts))
        assert (a == b).mean() > 0.99


def test_what_is_no_tissue_map_is_refused(tmp_path: Path) -> None:
    labels = classes()
    with pytest.raises(DataError, match="not a known kind of tissue image"):
        read_tissues([write_volume(tmp_path / "a.nii.gz", (labels * 100).astype(np.int16), AFFINE)])
    with pytest.raises(DataError, match="no white matter"):
        read_tissues([write_volume(tmp_path / "b.nii.gz", (labels == 2).astype(np.int16) * 2, AFFINE)])
    maps = written(tmp_path, "maps")
    write_volume(maps[1], 100.0 * (labels == 2), AFFINE)
    with pytest.raises(DataError, match=r"0 to 1.*sub-07|sub-07.*0 to 1"):
        read_tissues(maps, subject="sub-07")
    with pytest.raises(DataError, match="cannot be segmented"):
        segment_tissues(Volume(np.ones((4, 4, 4)), AFFINE), np.ones((4, 4, 4), dtype=bool), "T2w")


@pytest.mark.data
def test_a_real_five_tissue_image_is_read(shared_data: Path) -> None:
    found = read_tissues([shared_data / "mrtrix_bids_sub01" / "anat" / "sub-01_5TT.nii.gz"])
    assert found.source == "5TT"
    volumes = [float(part.sum() * np.prod(Volume(part, found.affine).zooms) / 1000) for part in found.parts]
    assert all(volume > 10 for volume in volumes)  # ml; an adult


def of_codes(tmp_path: Path, codes: dict[int, int]) -> tuple[Tissues, np.ndarray, np.ndarray]:
    """Tissues from Draw-EM's labels with other numbers; MD and FA of the true tissues."""
    labels, noise = classes(), np.random.default_rng(0).normal(0, 0.1, classes().shape)
    fluid, white = np.isin(labels, (1, 5)), labels == 3
    written_as = np.vectorize(lambda number: codes.get(number, number))(labels).astype(np.int16)
    found = read_tissues([write_volume(tmp_path / "codes.nii.gz", written_as, AFFINE)])
    return found, (1e-3 + 2e-3 * fluid) * (1 + noise) * (labels > 0), (0.15 + 0.1 * white) * (1 + noise)


def test_tissues_with_their_numbers_do_not_contradict_diffusion(tmp_path: Path) -> None:
    assert tissue_warnings(*of_codes(tmp_path, {})) == []


def test_numbers_of_another_program_are_refused_or_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Draw-EM: the tissue maps contradict the diffusion data; .*Check the codes"):
        tissue_warnings(*of_codes(tmp_path, {1: 3, 5: 3, 3: 1}))  # 1 is white matter, 3 is fluid
    assert "less anisotropic than grey" in " ".join(tissue_warnings(*of_codes(tmp_path, {2: 3, 3: 2})))
    assert "contain no fluid" in " ".join(tissue_warnings(*of_codes(tmp_path, {1: 4, 5: 4})))
