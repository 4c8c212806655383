"""The quality page of a cohort of volumes: a picture of each, its processing and its problems."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from voxel_study import write_study

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.imaging.volumes.grids import gridded
from connectome_tl.report.figures.cohort import volume_pngs
from connectome_tl.settings.images.volumes import ImageSettings
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.workflows.data.cohort import check_cohort
from connectome_tl.workflows.images.cohort_volumes import volume_images

SMALL = ImageSettings(size=12, voxel=13.0)


@pytest.fixture
def cohort_file(tmp_path: Path) -> Path:
    return write_volume_cohort(5, VolumeSettings(size=16), tmp_path / "infants", name="infant", seed=3, without=(4,))


def test_the_page_shows_every_volume_and_what_was_done_to_it(cohort_file: Path, tmp_path: Path) -> None:
    screen = Console(file=io.StringIO())
    check_cohort(cohort_file, tmp_path / "page.html", console=screen)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count('alt="Cuts through the volume of') == 4
    assert "resampled from 10 x 10 x 10 mm to 3.5 mm" in page
    assert "1 subject has no volume" in page
    assert "Connectome of" not in page


def test_the_pictures_follow_the_image_settings_of_a_study(tmp_path: Path) -> None:
    study = write_study(tmp_path, n=4, image={"grid": "zoom", "size": 12})
    check_cohort(
        tmp_path / "target" / "cohort.yaml", tmp_path / "p.html", study=study, console=Console(file=io.StringIO())
    )
    assert "resized from 10 x 10 x 10 mm to 12 x 12 x 12 voxels, its size lost" in (tmp_path / "p.html").read_text()


def test_cuts_go_through_the_middle_with_the_right_on_the_right_and_the_top_above(cohort_file: Path) -> None:
    cohort = read_cohort(cohort_file)
    volume = read_volume(cohort.volumes[0])
    data = volume.data.copy()
    data[8:, 8:, 8:] *= 1.7  # brighter at the right, the front and the top
    write_volume(cohort.volumes[0], data, volume.affine)
    images, found = volume_images(cohort, SMALL.model_copy(update={"outside": "keep"}))  # the whole grid is shown
    assert [one.subject for one in images] == list(cohort.ids[:4])
    assert [one.level for one in found] == ["note"]
    pixels = np.frombuffer(base64.b64decode(images[0].pixels), np.uint8).reshape(12, 36)
    values = gridded(cohort.volumes[0], "x", SMALL).values
    assert values[6:, 6:, 6:].mean() > values[:6, 6:, 6:].mean()
    front = pixels[:, 12:24]  # x to the right, z upwards
    assert front[:6, 6:].mean() > front[:6, :6].mean()
    assert front[:6, 6:].mean() > front[6:, 6:].mean()
    cut, _ = volume_images(cohort, SMALL)
    assert len({(one.height, one.width) for one in cut}) == 1
    assert cut[0].height * cut[0].width < images[0].height * images[0].width
    rows = [np.frombuffer(base64.b64decode(one.pixels), np.uint8).reshape(one.height, one.width) for one in cut]
    assert np.max(rows, axis=0)[1].any()  # a margin of one voxel
    assert volume_pngs(images)[0].startswith("data:image/png;base64,")


def test_volumes_that_cannot_be_used_are_findings_with_subject_and_file(cohort_file: Path, tmp_path: Path) -> None:
    cohort = read_cohort(cohort_file)
    volume = read_volume(cohort.volumes[1])
    write_volume(cohort.volumes[1], np.zeros_like(volume.data), volume.affine)
    one = read_volume(cohort.volumes[2])
    write_volume(cohort.volumes[3], 2 * one.data, one.affine)
    with pytest.raises(DataError, match=r"--study STUDY\.yaml") as refused:
        check_cohort(cohort_file, tmp_path / "page.html", console=Console(file=io.StringIO()))
    zeros, twice = refused.value.problems
    assert zeros.subject == cohort.ids[1]
    assert Path(cohort.volumes[1]).name in zeros.what
    assert str(zeros).count(cohort.ids[1]) == 2  # as the subject, and in the name of the file
    assert str(twice) == f"subject {cohort.ids[2]}: the same image as {cohort.ids[3]}"
    assert (tmp_path / "page.html").read_text().count('alt="Cuts through the volume of') == 3


def test_a_page_of_neither_volumes_nor_connectomes_is_refused(tmp_path: Path) -> None:
    file = write_volume_cohort(2, VolumeSettings(size=16), tmp_path / "x", name="x", seed=1, without=(0, 1))
    with pytest.raises(UsageError, match="needs volumes"):
        check_cohort(file, tmp_path / "page.html", console=Console(file=io.StringIO()))
