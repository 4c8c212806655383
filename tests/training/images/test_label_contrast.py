"""Contrast between voxels of the labels of a pool's label maps: reading, grids, augmentation, adaptation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.evaluation.nested_cv import cross_validate
from connectome_tl.features.volumes import read_volumes
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.imaging.volumes.grids import gridded
from connectome_tl.imaging.volumes.label_maps import labels_on_grid
from connectome_tl.settings.images.volumes import Augmentation, ImageSettings
from connectome_tl.settings.objectives import VolumeContrast
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checks import check_names
from connectome_tl.training.networks.augmentation import augmentation
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.images.grids import with_grids

IMAGE = {"size": 16, "voxel": 10.0}
GRID = ImageSettings(size=16, voxel=10.0)


def study(**objective: object) -> StudySettings:
    brief = {"training": {"steps": 2}}
    given = {
        "target": {"cohort": "target"},
        "pool": {"cohort": "pool"},
        "model": {"encoder": {"kind": "resnet", "width": 0.0625, "stem_stride": 1}},
        "image": IMAGE,
        "stages": {
            "pretrain": None,
            "adapt": {"objective": {"kind": "voxel_contrast", **objective}, **brief},
            "finetune": {**brief, "ensemble": {"networks": 2}},
        },
        "splits": {"repeats": 1, "outer": 2},
        "controls": [],
        "baselines": ["prevalence"],
        "n_jobs": 1,
        "refits": {"linear": 0},
    }
    return StudySettings.model_validate(given)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> StudyCohorts:
    home = tmp_path_factory.mktemp("volumes")
    small = VolumeSettings(size=16)
    target = write_volumes(12, small, home / "target", name="target", seed=4)
    return StudyCohorts(
        {
            "target": target,
            "pool": write_volumes(6, small, home / "pool", name="pool", seed=5, outcomes=(), labels=True),
        }
    )


def pool_of(cohorts: StudyCohorts) -> Cohort:
    assert cohorts.pool is not None
    return cohorts.pool


def adapted(settings: StudySettings, cohorts: StudyCohorts) -> dict[str, np.ndarray]:
    found = cross_validate(settings, cohorts, make_split_plan(cohorts.target, settings.splits))
    (arrays,) = [one.arrays for one in found.results.values() if one.stage == "adapt"]
    return arrays


@pytest.mark.slow
def test_a_study_adapts_by_the_labels_of_the_pool(cohorts: StudyCohorts, tmp_path: Path) -> None:
    by_label, pool = study(classes="labels"), pool_of(cohorts)
    found = adapted(by_label, with_grids(by_label, cohorts, tmp_path))
    files = []
    for i, file in enumerate(pool.volume_labels):  # left and right instead of tissues
        labels = read_volume(file)
        sides = (labels.data > 0) * (1 + (np.arange(len(labels.data)) > 7)[:, None, None])
        files.append(str(write_volume(tmp_path / f"{i}.nii.gz", sides.astype(np.int32), labels.affine)))
    others = StudyCohorts({**cohorts.roles, "pool": replace(pool, volume_labels=tuple(files))})
    for arrays, is_equal in (
        (adapted(by_label, cohorts), True),  # without a cache
        (adapted(by_label, with_grids(by_label, others, tmp_path)), False),
        (adapted(study(), with_grids(study(), cohorts, tmp_path)), False),
    ):
        assert all(np.array_equal(found[name], arrays[name]) for name in found) == is_equal


def test_fits_depend_on_label_maps_only_where_an_objective_uses_them(cohorts: StudyCohorts, tmp_path: Path) -> None:
    pool = pool_of(cohorts)
    without = StudyCohorts({**cohorts.roles, "pool": replace(pool, volume_labels=())})
    none = pool_of(with_grids(study(), without, tmp_path)).row_hashes
    for settings, is_equal in ((study(), True), (study(classes="labels"), False)):
        assert (pool_of(with_grids(settings, cohorts, tmp_path)).row_hashes == none) == is_equal
    assert "label maps are not used" in " ".join(pool_of(with_grids(study(), cohorts, tmp_path)).notes)
    with pytest.raises(UsageError, match="needs label maps, and the pool pool has none"):
        check_names(study(classes="labels"), without)


def test_labels_are_classes_of_one_order_in_all_subjects(cohorts: StudyCohorts) -> None:
    pool = pool_of(cohorts)
    reader, _, _ = read_volumes(pool, pool.ids, GRID)
    values, classes = reader.label_values, reader.classes([0, -1, 3])
    assert (classes[1] == 0).all()
    for row, at in ((0, 0), (3, 2)):
        grid = gridded(pool.volumes[row], pool.ids[row], GRID)
        raw = labels_on_grid(pool.volume_labels[row], pool.ids[row], grid, GRID).read()
        assert np.array_equal(np.where(classes[at] > 0, values[classes[at] - 1], 0), raw)


def test_a_label_map_of_another_resolution_gives_nearly_the_same_labels(cohorts: StudyCohorts, tmp_path: Path) -> None:
    pool = pool_of(cohorts)
    grid = gridded(pool.volumes[0], "a", GRID)
    own = labels_on_grid(pool.volume_labels[0], "a", grid, GRID).read()
    labels = read_volume(pool.volume_labels[0])
    fine = np.repeat(np.repeat(np.repeat(labels.data, 2, 0), 2, 1), 2, 2)
    affine = labels.affine @ np.array([[0.5, 0, 0, -0.25], [0, 0.5, 0, -0.25], [0, 0, 0.5, -0.25], [0, 0, 0, 1]])
    file = write_volume(tmp_path / "fine.nii.gz", fine.astype(np.int32), affine)
    found = labels_on_grid(str(file), "a", grid, GRID).read()
    assert (found == own).mean() > 0.98
    assert (own > 0).any()


def test_bad_label_maps_are_refused_with_subject_and_file(cohorts: StudyCohorts, tmp_path: Path) -> None:
    pool = pool_of(cohorts)
    labels = read_volume(pool.volume_labels[0])
    away = labels.affine.copy()
    away[:3, 3] += 400
    many = np.arange(labels.data.size).reshape(labels.shape)
    for name, data, affine, text in (
        ("half", labels.data / 2, labels.affine, "labels are not whole numbers"),
        ("below", labels.data - 1, labels.affine, "labels are outside"),
        ("empty", labels.data * 0, labels.affine, "every voxel is background"),
        ("away", labels.data, away, "no labelled voxel on the grid"),
        ("air", (labels.data == 0).astype(float), labels.affine, "does not lie within the head"),
        ("many", many, labels.affine, "more than 512 labels"),
    ):
        file = str(write_volume(tmp_path / f"{name}.nii.gz", data.astype(np.float64), affine))
        wrong = replace(pool, volume_labels=(file, *pool.volume_labels[1:]))
        with pytest.raises(DataError) as caught:
            with_grids(study(classes="labels"), StudyCohorts({"target": wrong, "pool": wrong}), tmp_path / "cache")
        assert text in str(caught.value)
        assert file in str(caught.value)
        assert pool.ids[0] in str(caught.value)
    lost = replace(pool, volume_labels=(str(tmp_path / "none.nii.gz"), *pool.volume_labels[1:]))
    with pytest.raises(MissingInputError, match=pool.ids[0]):
        with_grids(study(classes="labels"), StudyCohorts({"target": lost, "pool": lost}), tmp_path / "cache")


def test_label_maps_without_two_labels_or_a_common_one_are_refused(cohorts: StudyCohorts, tmp_path: Path) -> None:
    pool = pool_of(cohorts)

    def relabelled(how: str) -> StudyCohorts:
        files = []
        for i, file in enumerate(pool.volume_labels):
            labels = read_volume(file)
            inside = labels.data > 0
            shift = {"one": 0, "own": 100 * i, "first": 100 * (i == 0)}[how]
            data = inside * 1.0 if how == "one" else np.where(inside, labels.data + shift, 0)
            files.append(str(write_volume(tmp_path / how / f"{i}.nii.gz", data.astype(np.int32), labels.affine)))
        wrong = replace(pool, volume_labels=tuple(files))
        return StudyCohorts({**cohorts.roles, "pool": wrong})

    with pytest.raises(DataError, match="have 1 label, and a contrast needs two"):
        with_grids(study(classes="labels"), relabelled("one"), tmp_path / "cache")
    for how, n in (("own", pool.n_subjects), ("first", 1)):
        own = relabelled(how)
        with pytest.raises(DataError, match="no other subject has a label of this map") as caught:
            with_grids(study(classes="labels"), own, tmp_path / "cache")
        assert [(one.subject, one.file) for one in caught.value.problems] == [
            (i, file) for i, file in zip(pool.ids[:n], own.roles["pool"].volume_labels[:n], strict=True)
        ]
        with_grids(study(classes="labels", contrast={"scope": "within", "bank": "none"}), own, tmp_path / "cache")


def test_the_label_map_of_another_subject_is_refused_and_that_of_one_template_is_not(
    cohorts: StudyCohorts, tmp_path: Path
) -> None:
    pool, settings = pool_of(cohorts), study(classes="labels")
    first, second, *others = pool.volume_labels
    copied = str(tmp_path / "copy.nii.gz")
    Path(copied).write_bytes(Path(second).read_bytes())
    twice = replace(pool, volume_labels=(copied, second, *others))
    with pytest.raises(DataError, match=f"the same label map as {pool.ids[0]}") as caught:
        with_grids(settings, StudyCohorts({**cohorts.roles, "pool": twice}), tmp_path / "cache")
    assert [(one.subject, one.file) for one in caught.value.problems] == [(pool.ids[1], second)]
    n = pool.n_subjects
    for templates in ((first,) * n, (first,) * (n - 1) + (others[-1],)):  # one, or one for each age
        shared = replace(pool, volume_labels=templates)
        with_grids(settings, StudyCohorts({**cohorts.roles, "pool": shared}), tmp_path / "cache")


def test_label_maps_are_found_by_pattern_or_column(cohorts: StudyCohorts, tmp_path: Path) -> None:
    home = Path(pool_of(cohorts).volumes[0]).parent.parent
    text = write_cohort(pool_of(cohorts), home).read_text("utf-8")
    known = read_cohort(home / "cohort.yaml")
    assert [Path(file).resolve() for file in known.volume_labels] == [
        Path(file).resolve() for file in pool_of(cohorts).volume_labels
    ]
    by_pattern = text.replace("labels: label_map", 'labels: "labels/sub-{id}_dseg.nii.gz"')
    assert by_pattern != text
    (home / "pattern.yaml").write_text(by_pattern, "utf-8")
    assert read_cohort(home / "pattern.yaml").volume_labels == known.volume_labels
    (home / "none.yaml").write_text(by_pattern.replace("_dseg", "_seg").replace("missing: allow", ""), "utf-8")
    with pytest.raises(DataError, match="without a label map"):
        read_cohort(home / "none.yaml")
    (home / "column.yaml").write_text(text.replace("labels: label_map", "labels: segmentation"), "utf-8")
    with pytest.raises(DataError, match=r"volumes.labels: column 'segmentation' is not in the table"):
        read_cohort(home / "column.yaml")


def test_augmentation_moves_label_maps_with_their_volumes() -> None:
    places = np.indices((24, 24, 24)).sum(axis=0) // 12
    labels = torch.from_numpy(places)[None].repeat(6, 1, 1, 1)
    volumes = labels[:, None].float()
    settings = Augmentation(flip=0.5, affine=1.0, scale=0.1, noise=0.0, gamma=0.0)
    one, other = augmentation(settings, 3), augmentation(settings, 3)
    assert one is not None
    assert other is not None
    for _ in range(2):
        moved, classes = one.both(volumes, labels)
        assert classes is not None
        assert torch.equal(moved, other(volumes))
        assert (moved[:, 0].round().long() == classes).float().mean() > 0.95
        assert not torch.equal(classes, labels)


def test_the_methods_text_names_the_classes() -> None:
    assert "the classes of label maps" in VolumeContrast(classes="labels").describe()
    assert "4 grey-level classes" in VolumeContrast().describe()
