"""Images of a template that contradict each other, or its table, stop a run before any scan is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.connectome.names.unlisted import refuse_other_numbering
from connectome_tl.connectome.regions import RegionTable
from connectome_tl.errors import DataError
from connectome_tl.imaging.preprocess.structural import above_zero
from connectome_tl.imaging.read.images import Volume, write_volume
from connectome_tl.imaging.read.inputs import Scan
from connectome_tl.settings.imaging import MorphometrySettings
from connectome_tl.workflows.scans.age import ScanAges
from connectome_tl.workflows.scans.result import Plan
from connectome_tl.workflows.scans.structural import _others
from connectome_tl.workflows.scans.template import ChosenTemplate
from connectome_tl.workflows.scans.template_images import read_template, template_problems

from .heads import AFFINE, head

IMAGE, LABELS = head()
NUMBERS = tuple(int(number) for number in np.unique(LABELS) if number)
TABLE = RegionTable(tuple(f"R{number}" for number in NUMBERS), NUMBERS)


def moved(mm: float) -> np.ndarray:
    affine = AFFINE.copy()
    affine[1, 3] += mm
    return affine


@pytest.fixture
def template(tmp_path: Path) -> ChosenTemplate:
    files = [tmp_path / name for name in ("t_T2w.nii.gz", "labels.nii.gz", "mask.nii.gz")]
    for file, data in zip(files, (IMAGE.astype(np.float32), LABELS, IMAGE > 0), strict=True):
        write_volume(file, data, AFFINE)
    return ChosenTemplate("t", files[0], files[1], files[2], "T2w", "declared")


def test_a_whole_template_is_read_as_it_is(template: ChosenTemplate) -> None:
    found = read_template(template)
    np.testing.assert_array_equal(found.brain, IMAGE > 0)
    np.testing.assert_allclose(found.image.data, IMAGE, rtol=1e-6)
    assert not found.notes
    assert not template_problems([template, template], TABLE)


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (np.zeros(IMAGE.shape, np.uint8), "the mask is empty"),
        (np.ones(IMAGE.shape, np.uint8), "covers the background"),
        (IMAGE == 0, "covers the background"),
        (IMAGE[1:] > 0, "does not have the same grid"),
    ],
)
def test_a_mask_that_is_no_brain_is_refused(mask: np.ndarray, what: str, template: ChosenTemplate) -> None:
    assert template.mask is not None
    write_volume(template.mask, mask, AFFINE)
    with pytest.raises(DataError, match=rf"mask\.nii\.gz.*{what}"):
        read_template(template)


def test_labels_beside_the_brain_are_reported_and_far_beside_it_refused(template: ChosenTemplate) -> None:
    write_volume(template.labels, LABELS, moved(16.0))
    (note,) = read_template(template).notes
    assert "outside its brain" in note
    write_volume(template.labels, LABELS, moved(60.0))
    with pytest.raises(DataError, match=r"labels\.nii\.gz: the template's labels are not where its brain is"):
        read_template(template)


def test_labels_on_a_coarser_grid_lie_in_the_brain_as_well(template: ChosenTemplate) -> None:
    write_volume(template.labels, LABELS[::2, ::2, ::2], AFFINE @ np.diag([2.0, 2, 2, 1]))
    assert not read_template(template).notes


def test_values_that_are_no_numbers_become_background(template: ChosenTemplate) -> None:
    image = IMAGE.astype(np.float32)
    image[:, :, 20] = np.nan
    write_volume(template.image, image, AFFINE)
    assert np.isfinite(read_template(template).image.data).all()
    write_volume(template.image, np.full(IMAGE.shape, 5, np.float32), AFFINE)
    with pytest.raises(DataError, match="the image contains only 5"):
        read_template(template)


def test_a_problem_of_a_template_is_reported_once(template: ChosenTemplate) -> None:
    write_volume(template.labels, np.where(LABELS > 100, LABELS + 10_000, LABELS), AFFINE)
    (problem,) = template_problems([template, template], TABLE)
    assert "different numberings" in problem.what
    assert problem.file is not None


@pytest.mark.parametrize("rows", [TABLE.numbers[:5], (*TABLE.numbers, 9001, 9002), TABLE.numbers[2:]])
def test_a_table_may_have_fewer_or_more_rows_than_an_image(rows: tuple[int, ...], template: ChosenTemplate) -> None:
    assert template_problems([template], RegionTable(tuple(map(str, rows)), rows)) == []


def test_an_image_without_any_row_of_the_table_is_refused() -> None:
    with pytest.raises(DataError, match="24 of 24 rows without a label"):
        refuse_other_numbering(Volume(LABELS[:1], AFFINE), TABLE)


def test_standardised_intensities_become_positive_in_the_same_order_and_others_stay() -> None:
    inside = IMAGE > 0
    standard = np.where(inside, (IMAGE - IMAGE[inside].mean()) / IMAGE[inside].std(), 0.0)
    lifted = above_zero(Volume(standard, AFFINE)).data
    np.testing.assert_array_equal(lifted > 0, inside)
    assert np.corrcoef(lifted[inside], IMAGE[inside])[0, 1] > 0.999
    few = IMAGE.copy()
    few[tuple(np.argwhere(inside)[0])] = -3
    assert above_zero(Volume(few, AFFINE)).data is few


def test_a_second_image_with_values_that_are_no_numbers_is_registered(tmp_path: Path) -> None:
    image = IMAGE.astype(np.float32)
    image[IMAGE == 0] = np.nan
    file = write_volume(tmp_path / "sub-01_T1w.nii.gz", image[2:], AFFINE)
    scan = Scan(subject="sub-01", session=None, anatomical=file, other_anatomical=file)
    plan = Plan(MorphometrySettings(), None, "labels", {}, ScanAges(), tmp_path)
    (moved,) = _others(scan, Volume(IMAGE.astype(np.float32), AFFINE), plan)
    shown = np.isfinite(moved.data) & (IMAGE > 0)
    assert shown.sum() > 0.7 * (IMAGE > 0).sum()
    assert np.corrcoef(moved.data[shown], IMAGE[shown])[0, 1] > 0.9


def test_a_standardised_template_without_a_mask_is_refused_with_the_reason(template: ChosenTemplate) -> None:
    inside = IMAGE > 0
    scores = np.where(inside, (IMAGE - IMAGE[inside].mean()) / IMAGE[inside].std(), 0).astype(np.float32)
    write_volume(template.image, scores, AFFINE)
    with pytest.raises(DataError, match=r"values below 0.*Give the mask"):
        read_template(replace(template, mask=None))
    np.testing.assert_array_equal(read_template(template).brain, inside)


@pytest.mark.parametrize(
    ("signs", "said"),
    [
        ((1, 1, -1), "upside down"),
        ((1, -1, 1), "turned front to back"),
        ((1, -1, -1), "upside down and turned front to back"),
    ],
)
def test_labels_that_are_turned_within_the_brain_are_refused(
    signs: tuple[int, int, int], said: str, template: ChosenTemplate
) -> None:
    middle = AFFINE[:3, :3] @ ((np.array(IMAGE.shape) - 1) / 2) + AFFINE[:3, 3]
    turn = np.diag([*signs, 1.0])
    turn[:3, 3] = middle - turn[:3, :3] @ middle
    write_volume(template.labels, LABELS, turn @ AFFINE)
    with pytest.raises(DataError, match=rf"labels\.nii\.gz: the template's labels are {said} in its image"):
        read_template(template)
    (note,) = read_template(template, trust_header=True).notes
    assert f"are {said}" in note


@pytest.mark.parametrize("n_parcels", [4, 40])
def test_parcels_that_do_not_follow_the_anatomy_are_accepted(n_parcels: int, template: ChosenTemplate) -> None:
    inside = np.argwhere(IMAGE > 0)
    parcels = np.zeros(IMAGE.shape, np.int32)
    for seed in range(3):
        centres = np.random.default_rng(seed).choice(inside, n_parcels, replace=False)
        nearest = np.linalg.norm(inside[:, None] - centres, axis=2).argmin(axis=1)
        parcels[tuple(inside.T)] = nearest + 1
        write_volume(template.labels, parcels, AFFINE)
        assert not read_template(template).notes
