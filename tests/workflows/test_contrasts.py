"""Volumes of random contrast from label maps, and a study that pretrains on them."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from voxel_study import STUDY

from connectome_tl.cli import main
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError, LeakageError, MissingInputError, OutputError, UsageError
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.settings.images.synthesis import RandomContrast
from connectome_tl.simulation.volume_cohorts import write_volume_cohort, write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.workflows.folder import claim
from connectome_tl.workflows.images.contrasts import contrast_cohort
from connectome_tl.workflows.study.run import run_study

pytestmark = pytest.mark.usefixtures("without_figures")

LABELS = "labels/sub-{id}_dseg.nii.gz"
SMALL = VolumeSettings(size=16)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contrasts")
    cohort = write_volumes(6, SMALL, folder / "older", name="older", seed=1, labels=True)
    write_cohort(cohort, folder / "older")
    write_volume_cohort(12, VolumeSettings(size=16, contrast="T2w"), folder / "infants", name="infant", seed=2)
    return folder


@pytest.fixture(scope="module")
def made(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = home / "synthetic"
    with pytest.raises(SystemExit) as left:
        main(["contrasts", str(home / "older" / "cohort.yaml"), "--labels", LABELS, "--out", str(out), "--copies", "2"])
    assert left.value.code == 0
    return out / "cohort.yaml"


def test_each_label_map_gives_copies_whose_grey_levels_follow_the_labels_alone(home: Path, made: Path) -> None:
    old, new = read_cohort(home / "older" / "cohort.yaml"), read_cohort(made)
    assert new.n_subjects == 12
    assert list(new.family[:2]) == [old.ids[0]] * 2
    assert new.targets["age"].iloc[0] == new.targets["age"].iloc[1] == old.targets["age"].iloc[0]
    assert new.simulated
    assert (old.volume_contrast, new.volume_contrast) == ("T1w", "")
    labels = read_volume(home / "older" / LABELS.replace("{id}", old.ids[0])).data
    copies = [read_volume(file).data for file in new.volumes[:2]]
    means = np.array([[copy[labels == k].mean() for k in np.unique(labels)] for copy in copies])
    spread = [copy[labels == 4].std() for copy in copies]
    assert np.abs(means[0] - means[1]).max() > 3 * max(spread) / 2
    assert (means[:, 0] < 0.3).all()


def test_without_a_pattern_the_label_maps_are_those_of_the_cohort(
    home: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "older"
    declared = yaml.safe_load((folder / "cohort.yaml").read_text())
    assert declared["volumes"]["labels"]
    table = pd.read_csv(folder / declared["participants"], sep="	")
    table.loc[5, declared["volumes"]["labels"]] = None
    table.to_csv(folder / "fewer.tsv", sep="	", index=False)
    (folder / "fewer.yaml").write_text(yaml.safe_dump({**declared, "participants": "fewer.tsv"}))
    found, twice = read_cohort(contrast_cohort(folder / "fewer.yaml", None, tmp_path / "out")), read_cohort(made)
    assert list(found.family) == list(twice.family[:10:2])
    np.testing.assert_array_equal(*(read_volume(one.volumes[0]).data for one in (found, twice)))
    with pytest.raises(SystemExit) as left:
        main(["contrasts", str(home / "infants" / "cohort.yaml"), "--out", str(tmp_path / "none")])
    assert left.value.code == 64
    error = capsys.readouterr().err
    assert "the cohort names no label maps" in error
    assert "--labels" in error


def test_equal_seeds_give_equal_volumes_and_others_others(home: Path, made: Path, tmp_path: Path) -> None:
    again = contrast_cohort(home / "older" / "cohort.yaml", LABELS, tmp_path / "again")
    other = contrast_cohort(home / "older" / "cohort.yaml", LABELS, tmp_path / "other", seed=1)
    first, same, changed = (read_volume(read_cohort(file).volumes[0]).data for file in (made, again, other))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, changed)


def study(home: Path, source: Path, target: Path) -> Path:
    settings = {key: value for key, value in STUDY.items() if key != "pool"}
    settings |= {
        "source": {"cohort": str(source)},
        "target": {"cohort": str(target)},
        "stages": {key: value for key, value in STUDY["stages"].items() if key != "adapt"},
        "splits": {"repeats": 1, "outer": 2},
        "controls": ["scratch"],
        "baselines": ["prevalence"],
    }
    file = home / f"{target.parent.name}.yaml"
    file.write_text(yaml.safe_dump(settings))
    return file


def test_a_study_pretrains_on_them(home: Path, made: Path) -> None:
    run = run_study(study(home, made, home / "infants" / "cohort.yaml"), home / "run")
    assert {"full", "scratch", "network"} <= set(run.predictions["model"])
    assert np.isfinite(run.predictions["y_score"]).all()


def test_a_study_that_tests_their_subjects_is_refused(home: Path, made: Path) -> None:
    with pytest.raises(LeakageError, match="of a test fold, or relatives of them"):
        run_study(study(home, made, home / "older" / "cohort.yaml"), home / "leak")


def test_what_is_no_label_map_is_named_with_subject_and_file(home: Path, tmp_path: Path) -> None:
    file = home / "older" / "cohort.yaml"
    with pytest.raises(UsageError, match=r"needs \{id\}"):
        contrast_cohort(file, "labels/all.nii.gz", tmp_path / "x")
    with pytest.raises(MissingInputError) as missing:
        contrast_cohort(file, "nowhere/{id}.nii.gz", tmp_path / "x")
    assert len(missing.value.problems) == 6
    with pytest.raises(DataError, match="labels are not whole numbers") as caught:
        contrast_cohort(file, "images/sub-{id}_T1w.nii.gz", tmp_path / "x")
    assert caught.value.problems[0].subject == "older0001"
    assert caught.value.problems[0].file is not None
    assert not (tmp_path / "x").exists()


def test_a_map_without_background_keeps_every_label_bright(home: Path, tmp_path: Path) -> None:
    cohort = write_volumes(1, SMALL, tmp_path / "one", name="one", seed=1, labels=True)
    write_cohort(cohort, tmp_path / "one")
    labels = tmp_path / "one" / LABELS.replace("{id}", cohort.ids[0])
    volume = read_volume(labels)
    write_volume(labels, volume.data + 1, volume.affine)
    file = contrast_cohort(tmp_path / "one" / "cohort.yaml", LABELS, tmp_path / "out")
    assert read_volume(read_cohort(file).volumes[0]).data.mean() > 0.1


def test_scaled_integers_are_labels_as_in_every_other_label_map(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "older", tmp_path / "older")
    plain = contrast_cohort(tmp_path / "older" / "cohort.yaml", LABELS, tmp_path / "plain")
    for file in (tmp_path / "older" / "labels").glob("*.nii.gz"):
        old = nib.load(file)
        image = nib.Nifti1Image(np.rint(np.asarray(old.dataobj) / 0.1).astype(np.int16), old.affine)
        image.header.set_slope_inter(0.1, 0.0)
        nib.save(image, file)
    scaled = contrast_cohort(tmp_path / "older" / "cohort.yaml", LABELS, tmp_path / "scaled")
    for one, other in zip(read_cohort(plain).volumes, read_cohort(scaled).volumes, strict=True):
        np.testing.assert_array_equal(read_volume(one).data, read_volume(other).data)


def test_volumes_of_an_earlier_call_do_not_stay(home: Path, tmp_path: Path) -> None:
    file = home / "older" / "cohort.yaml"
    contrast_cohort(file, LABELS, tmp_path / "out", settings=RandomContrast(copies=2))
    cohort = read_cohort(contrast_cohort(file, LABELS, tmp_path / "out"))
    assert {str(one) for one in (tmp_path / "out" / "images").glob("*.nii.gz")} == set(cohort.volumes)


def test_two_calls_do_not_write_to_one_folder(home: Path, tmp_path: Path) -> None:
    with claim(tmp_path / "out"), pytest.raises(OutputError, match="another run is writing"):
        contrast_cohort(home / "older" / "cohort.yaml", LABELS, tmp_path / "out")


def test_a_cohort_of_the_user_is_never_overwritten(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "older", tmp_path / "older")
    before = {file: file.read_bytes() for file in (tmp_path / "older").rglob("*") if file.is_file()}
    with pytest.raises(UsageError, match="would overwrite a cohort that this command did not write"):
        contrast_cohort(tmp_path / "older" / "cohort.yaml", LABELS, tmp_path / "older")
    (tmp_path / "older" / "cohort.yaml").rename(tmp_path / "elsewhere.yaml")
    with pytest.raises(UsageError, match="would overwrite"):  # its participants.tsv
        contrast_cohort(home / "older" / "cohort.yaml", LABELS, tmp_path / "older")
    (tmp_path / "elsewhere.yaml").rename(tmp_path / "older" / "cohort.yaml")
    assert {file: file.read_bytes() for file in (tmp_path / "older").rglob("*") if file.is_file()} == before


def test_a_slice_is_no_label_map_and_ids_with_their_prefix_fit_the_pattern(home: Path, tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    old = read_cohort(home / "older" / "cohort.yaml")
    for name, source in zip(("s1", "s2"), old.volume_labels, strict=False):
        shutil.copy(source, tmp_path / "labels" / f"sub-{name}_dseg.nii.gz")
    (tmp_path / "cohort.tsv").write_text("id\nsub-s1\nsub-s2\n")
    file = tmp_path / "cohort.yaml"
    file.write_text("name: few\nparticipants: cohort.tsv\nid: id\n")
    assert read_cohort(contrast_cohort(file, LABELS, tmp_path / "out")).n_subjects == 2
    labels = read_volume(tmp_path / "labels" / "sub-s2_dseg.nii.gz")
    write_volume(tmp_path / "labels" / "sub-s2_dseg.nii.gz", labels.data[:, :, 8:9], labels.affine)
    with pytest.raises(DataError, match=r"(?s)subject sub-s2.*a slice, not a volume"):
        contrast_cohort(file, LABELS, tmp_path / "other")
