"""Cards beside weight files: a study prepares its volumes as the weights require, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from connectome_tl.errors import DataError, UsageError
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.settings.study import StudySettings
from connectome_tl.workflows.images.grids import settled


@pytest.fixture
def home(tmp_path: Path) -> Path:
    torch.save(VoxelResNet(10, width=1 / 16, norm="batch").state_dict(), tmp_path / "small.pth")
    return tmp_path


def study(**image: object) -> StudySettings:
    encoder = {"kind": "resnet", "width": 1 / 16, "norm": "batch", "weights": "small.pth"}
    given = {"target": {"cohort": "x"}, "model": {"encoder": encoder}, "image": {"size": 16, **image}}
    return StudySettings.model_validate(given)


def test_a_study_prepared_as_the_card_says_uses_the_weights(home: Path) -> None:
    without = settled(study(voxel=8.0), home, home / "run").model.encoder
    (home / "small.card.yaml").write_text("source: simulated\nimage: {voxel: 8.0, normalise: minmax}\n")
    used = settled(study(voxel=8.0, normalise="minmax"), home, home / "run").model.encoder
    assert used == without
    assert Path(used.weights).is_file()  # type: ignore[attr-defined]


def test_a_study_prepared_in_another_way_is_refused_with_the_keys(home: Path) -> None:
    (home / "small.card.yaml").write_text("image: {voxel: 8.0, normalise: minmax}\n")
    with pytest.raises(DataError, match=r"voxel: 8.0, not 2.5; normalise: minmax, not zscore") as caught:
        settled(study(), home, home / "run")
    (problem,) = caught.value.problems
    assert str(problem.file) == str(home / "small.card.yaml")


def test_one_size_of_a_cube_may_be_written_in_two_ways(home: Path) -> None:
    (home / "small.card.yaml").write_text("source: simulated\nimage: {size: [16, 16, 16]}\n")
    used = settled(study(), home, home / "run").model.encoder
    assert json.loads(Path(used.weights).with_suffix(".json").read_text())["source"] == "simulated"  # type: ignore[attr-defined]


BAD = ["image: {voxels: 8.0}", "image: {voxel: -1}", "image: 3", "weights: 4", "image: {precision: bf16}"]


@pytest.mark.parametrize("card", BAD)
def test_a_card_with_errors_is_named(home: Path, card: str) -> None:
    (home / "small.card.yaml").write_text(card + "\n")
    with pytest.raises(UsageError, match=r"small\.card\.yaml"):
        settled(study(), home, home / "run")
