"""`connectome-tl segment`: label maps of all subjects, overlap on subjects not used for training, further cohorts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml

from connectome_tl.cli import main
from connectome_tl.cli.volumes import _overlap
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError, LeakageError, MissingInputError, UsageError
from connectome_tl.evaluation.images.segmentation import arms_of, dice_differences, interval, mean_dice
from connectome_tl.imaging.read.images import read_labels, read_volume, write_volume
from connectome_tl.provenance import file_hash
from connectome_tl.settings.images.contrast import Segmentation
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.records.segmentation import SegmentationRecord
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.workflows.images import segment as segmenting
from connectome_tl.workflows.images.segment import segment_cohort

BRIEF = Segmentation(width=4, depth=1, descent=Descent(steps=12, batch_size=3, learning_rate=2e-2))
N, N_LABELLED = 8, 6


def written(folder: Path, name: str, seed: int, n: int, n_labelled: int, contrast: str = "T1w") -> Path:
    """A cohort whose last subjects have no label map, and a study.yaml of its grid; label 20 is the brain."""
    settings = VolumeSettings(size=16, contrast=contrast, site_effect=0.3)  # type: ignore[arg-type]
    cohort = write_volumes(n, settings, folder, name=name, seed=seed, labels=True)
    for file in cohort.volume_labels:
        volume = read_labels(file)
        write_volume(file, np.digitize(volume.data, (1, 3)).astype(np.int32) * np.int32(10), volume.affine)
    maps = (*cohort.volume_labels[:n_labelled], *[""] * (n - n_labelled))
    family = np.array([f"{name} twins"] * 2 + [""] * (n - 2), dtype=object)
    file = write_cohort(replace(cohort, volume_labels=maps, family=family), folder)
    study = {"target": {"cohort": "cohort.yaml"}, "image": {"size": 16, "voxel": 10.0}}
    (folder / "study.yaml").write_text(yaml.safe_dump({**study, "model": {"encoder": {"kind": "resnet"}}}))
    return file


def written_to(out: Path, subject: str) -> Path:
    return out / "segmentations" / f"sub-{subject}_dseg.nii.gz"


@pytest.fixture(scope="module")
def cohort_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("segment") / "infants", "infant", 1, N, N_LABELLED)


@pytest.fixture(scope="module")
def home(cohort_file: Path) -> Path:
    return cohort_file.parent


@pytest.fixture(scope="module")
def found(cohort_file: Path, home: Path) -> SegmentationRecord:
    return segment_cohort(cohort_file, home / "out", study=home / "study.yaml", settings=BRIEF, folds=2)


def test_every_subject_has_a_label_map_in_the_voxels_of_its_image(
    found: SegmentationRecord, cohort_file: Path, home: Path
) -> None:
    cohort = read_cohort(cohort_file)
    assert found.segmented == cohort.ids
    assert found.training == cohort.ids[:N_LABELLED]
    assert found.labels == (10, 20)
    training = []
    for subject, source in zip(cohort.ids, cohort.volumes, strict=True):
        file = written_to(home / "out", subject)
        image, made = nib.load(source), nib.load(file)
        assert made.shape == image.shape
        np.testing.assert_allclose(made.affine, image.affine)
        assert set(np.unique(made.dataobj)) <= {0, *found.labels}
        record = json.loads(file.with_name(f"sub-{subject}_dseg.json").read_text())
        assert file_hash(source) in json.dumps(record)
        training.append(record["Training"])
    assert all(one.startswith("label maps of other families") for one in training[:N_LABELLED])
    assert set(training[N_LABELLED:]) == {"all label maps"}


def test_overlap_is_that_of_subjects_not_used_for_training_beside_both_controls(
    found: SegmentationRecord, cohort_file: Path, home: Path
) -> None:
    table = pd.read_csv(home / "out" / "dice.tsv", sep="\t")
    assert list(table["arm"].unique()) == ["across", "within", "none"]
    assert set(table["subject"]) == set(found.training)
    means = {one.arm: one for one in found.scores if one.label is None}
    for arm, one in means.items():
        own = table[table["arm"] == arm].groupby("subject")["dice"].mean()
        assert one.dice == pytest.approx(own.mean())
        assert 0 <= one.low <= one.dice <= one.high <= 1
        assert one.n == N_LABELLED
    assert [(one.arm, one.control) for one in found.differences] == [("across", "within"), ("across", "none")]
    one = found.differences[0]
    assert one.difference == pytest.approx(means["across"].dice - means["within"].dice)
    # The segmentation on the grid, which has the voxels of the images here, is the one that is scored.
    scores = table[table["arm"] == "across"].set_index(["subject", "label"])["dice"]
    assert scores.max() > 0.3
    for subject, source in zip(found.training, read_cohort(cohort_file).volume_labels, strict=False):
        truth, made = (read_volume(file).data for file in (source, written_to(home / "out", subject)))
        for label in found.labels:
            both, either = ((truth == label) & (made == label)).sum(), (truth == label).sum() + (made == label).sum()
            assert 2 * both / either == pytest.approx(scores[subject, label], abs=0.15)


def test_relatives_are_segmented_by_a_network_that_saw_neither(found: SegmentationRecord, home: Path) -> None:
    """Each fit of a fold names its training subjects in its sidecar."""
    sides = {
        subject: json.loads((home / "out" / "segmentations" / f"sub-{subject}_dseg.json").read_text())
        for subject in found.training
    }
    for subject, side in sides.items():
        fit = json.loads((home / "out" / "models" / f"{side['Fit']}.json").read_text())
        assert subject not in fit["Training"]
    assert sides[found.training[0]]["Fit"] == sides[found.training[1]]["Fit"]  # twins


def test_a_second_call_trains_nothing_and_changed_labels_do(
    found: SegmentationRecord, cohort_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def files() -> dict[str, str]:
        every = (file for file in (home / "out").rglob("*") if file.is_file() and "log" not in file.parts)
        return {file.relative_to(home).as_posix(): file_hash(file) for file in every}

    before, fitted = files(), []
    monkeypatch.setattr(segmenting, "fit_segmenter", lambda *_: fitted.append(1))
    segment_cohort(cohort_file, home / "out", study=home / "study.yaml", settings=BRIEF, folds=2)
    assert files() == before
    cohort = read_cohort(cohort_file)
    volume = read_labels(cohort.volume_labels[0])
    write_volume(tmp_path / "0.nii.gz", np.where(volume.data == 10, 20, volume.data), volume.affine)
    changed = replace(cohort, volume_labels=(str(tmp_path / "0.nii.gz"), *cohort.volume_labels[1:]))
    file = write_cohort(changed, home / "changed")
    with pytest.raises(AttributeError):  # the replaced function returns no network
        segment_cohort(file, home / "out", study=home / "study.yaml", settings=BRIEF, folds=2)
    assert fitted


@pytest.fixture(scope="module")
def further(home: Path) -> Path:
    return written(home.parent / "further", "further", 7, 3, 2)


def test_a_trained_network_segments_another_cohort(
    found: SegmentationRecord, home: Path, further: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = home.parent / "applied"
    with pytest.raises(SystemExit) as left:
        main(["segment", str(further), "--out", str(out), "--model", str(home / "out")])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "across, mean of the classes: Dice 0." in said
    assert "3 label maps" in said
    record = SegmentationRecord.model_validate_json((out / "segmentation.json").read_text())
    assert (record.fit, record.training, record.folds) == (found.fit, found.training, 0)
    assert [one.n for one in record.scores if one.label is None] == [2]
    assert len(list((out / "segmentations").glob("*.nii.gz"))) == 3


def test_training_subjects_and_their_images_are_refused(
    found: SegmentationRecord, cohort_file: Path, home: Path, further: Path, tmp_path: Path
) -> None:
    with pytest.raises(LeakageError, match=found.training[0]):
        segment_cohort(cohort_file, tmp_path / "x", model=home / "out")
    one = read_cohort(further)
    again = replace(one, volumes=(read_cohort(cohort_file).volumes[2], *one.volumes[1:]), volume_labels=())
    with pytest.raises(LeakageError, match=again.ids[0]):
        segment_cohort(write_cohort(again, tmp_path / "renamed"), tmp_path / "y", model=home / "out")


def test_a_relative_of_the_training_is_segmented_but_has_no_overlap(
    found: SegmentationRecord, home: Path, further: Path, tmp_path: Path
) -> None:
    assert found.families == ("infant twins",)
    cohort = read_cohort(further)
    family = np.array(["infant twins", *[""] * (cohort.n_subjects - 1)], dtype=object)
    kin = replace(cohort, family=family)
    with pytest.raises(LeakageError, match="or on a relative") as refused:
        segment_cohort(write_cohort(kin, tmp_path / "kin"), tmp_path / "x", model=home / "out")
    assert cohort.ids[0] in str(refused.value)
    # The remedy: without its label map, no overlap is computed.
    bare = replace(kin, volume_labels=("", *cohort.volume_labels[1:]))
    record = segment_cohort(write_cohort(bare, tmp_path / "bare"), tmp_path / "y", model=home / "out")
    assert cohort.ids[0] in record.segmented
    assert [one.n for one in record.scores if one.label is None] == [1]
    respelled = replace(cohort, ids=(f"sub-{found.training[0]}_ses-2", *cohort.ids[1:]))
    with pytest.raises(LeakageError, match="under another id"):
        segment_cohort(write_cohort(respelled, tmp_path / "other"), tmp_path / "z", model=home / "out")


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--seed", "0"], "--seed"), (["--folds", "3", "--steps", "9"], "--steps, --folds")],
)
def test_options_of_the_training_are_refused_beside_a_trained_network(
    found: SegmentationRecord,
    home: Path,
    further: Path,
    tmp_path: Path,
    options: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    call = ["segment", str(further), "--out", str(tmp_path / "x"), "--model", str(home / "out"), *options]
    with pytest.raises(SystemExit) as left:
        main(call)
    assert left.value.code == 64
    said = capsys.readouterr().err
    assert "no effect with --model" in said
    assert named in said


def test_a_study_of_another_grid_is_refused_beside_a_trained_network(
    found: SegmentationRecord, home: Path, further: Path, tmp_path: Path
) -> None:
    study = yaml.safe_load((home / "study.yaml").read_text())
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study | {"image": {"size": 12, "voxel": 13.0}}))
    with pytest.raises(UsageError, match="another grid"):
        segment_cohort(further, tmp_path / "x", study=tmp_path / "study.yaml", model=home / "out")
    again = segment_cohort(further, tmp_path / "y", study=home / "study.yaml", model=home / "out")
    assert again.image == found.image


def test_a_missing_network_is_missing_input(
    found: SegmentationRecord, home: Path, further: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "segmentation.json").write_bytes((home / "out" / "segmentation.json").read_bytes())
    with pytest.raises(MissingInputError, match="network not found"):
        segment_cohort(further, tmp_path / "x", model=tmp_path / "model")


def test_what_has_no_overlap_is_said_in_words() -> None:
    """A label that no tested subject has, and subjects of one family, have no Dice or no interval."""
    table = pd.DataFrame([{"subject": "a", "arm": "none", "label": k, "dice": d} for k, d in ((10, 0.5), (20, np.nan))])
    whole, first, second = mean_dice(table, {"a": 0})
    assert [_overlap(one) for one in (first, second)] == [
        "Dice 0.500 [no interval from one family]",
        "in no tested subject",
    ]
    assert "nan" not in _overlap(whole)


def test_label_maps_of_another_scheme_are_refused_and_the_remedy_serves(
    found: SegmentationRecord, home: Path, further: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(further)
    maps = []
    for i, file in enumerate(filter(None, cohort.volume_labels)):
        volume = read_labels(file)
        maps.append(str(write_volume(tmp_path / f"{i}.nii.gz", volume.data.astype(np.int32) * 4, volume.affine)))
    other = replace(cohort, volume_labels=(*maps, *[""] * (cohort.n_subjects - len(maps))))
    with pytest.raises(DataError, match="labels that the network was not trained on") as refused:
        segment_cohort(write_cohort(other, tmp_path / "other"), tmp_path / "x", model=home / "out")
    assert "expected 10, 20; got 40, 80" in str(refused.value)
    bare = write_cohort(replace(cohort, volume_labels=()), tmp_path / "bare")
    assert segment_cohort(bare, tmp_path / "y", model=home / "out").scores == ()


def test_one_label_map_of_another_scheme_is_named_before_training(
    cohort_file: Path, home: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(cohort_file)
    volume = read_labels(cohort.volume_labels[1])
    file = str(write_volume(tmp_path / "1.nii.gz", volume.data.astype(np.int32) * 4, volume.affine))
    other = replace(cohort, volume_labels=(cohort.volume_labels[0], file, *cohort.volume_labels[2:]))
    with pytest.raises(DataError, match=r"no other subject has a label of this map; got 40, 80") as refused:
        segment_cohort(write_cohort(other, tmp_path / "c"), tmp_path / "x", study=home / "study.yaml", settings=BRIEF)
    assert [one.subject for one in refused.value.problems] == [cohort.ids[1]]
    assert not (tmp_path / "x" / "models").exists()


def test_label_maps_of_the_call_that_trained_the_network_are_not_replaced(
    found: SegmentationRecord, home: Path, further: Path
) -> None:
    with pytest.raises(UsageError, match="would be replaced"):
        segment_cohort(further, home / "out", model=home / "out")
    assert all(written_to(home / "out", subject).is_file() for subject in found.segmented)


def test_what_cannot_be_segmented_is_said_before_training(
    found: SegmentationRecord, cohort_file: Path, home: Path, tmp_path: Path
) -> None:
    cohort = read_cohort(cohort_file)

    def file_of(name: str, made: Cohort) -> Path:
        return write_cohort(made, tmp_path / name)

    few = file_of("few", replace(cohort, volume_labels=(*cohort.volume_labels[:3], *[""] * (N - 3))))
    for file in (few, file_of("none", replace(cohort, volume_labels=()))):
        with pytest.raises(UsageError, match="label maps of four families"):
            segment_cohort(file, tmp_path / "out", study=home / "study.yaml", settings=BRIEF)
    with pytest.raises(UsageError, match="has no volumes"):
        segment_cohort(file_of("bare", replace(cohort, volumes=(), volume_labels=())), tmp_path / "out")
    other = written(tmp_path / "other", "other", 3, 2, 0, contrast="T2w")
    with pytest.raises(DataError, match="another contrast"):
        segment_cohort(other, tmp_path / "out", model=home / "out")
    volume = read_volume(cohort.volumes[0])
    inside = tmp_path / "own" / "segmentations" / "sub-a_T1w.nii.gz"
    write_volume(inside, volume.data, volume.affine)
    own = file_of("there", replace(cohort, volumes=(str(inside), *cohort.volumes[1:])))
    with pytest.raises(UsageError, match=r"other files.*segmentations"):
        segment_cohort(own, tmp_path / "own", study=home / "study.yaml", settings=BRIEF)
    (tmp_path / "own" / "log").mkdir()
    (tmp_path / "own" / "log" / "claim").touch()  # of a folder that an earlier call has written to
    with pytest.raises(UsageError, match="beside the cohort's own files"):
        segment_cohort(own, tmp_path / "own", study=home / "study.yaml", settings=BRIEF)


def test_intervals_count_families_and_absent_classes_are_left_out() -> None:
    table = pd.DataFrame(
        [
            {"subject": s, "arm": arm, "label": k, "dice": d + (arm == "across") * 0.1}
            for s, one in {"a": (0.5, 0.7), "b": (0.5, 0.7), "c": (0.3, np.nan)}.items()
            for k, d in enumerate(one, start=1)
            for arm in ("across", "none")
        ]
    ).sort_values("arm", kind="stable")
    alone, twins = ({s: i // share for i, s in enumerate("abc")} for share in (1, 2))
    whole = {one.label: one for one in mean_dice(table, alone) if one.arm == "across"}
    assert whole[None].dice == pytest.approx((0.7 + 0.7 + 0.4) / 3)
    assert whole[2].n == 2
    paired = mean_dice(table, twins)[0]
    assert paired.high - paired.low > whole[None].high - whole[None].low
    (one,) = dice_differences(table, alone)
    assert (one.difference, one.low, one.high) == pytest.approx((0.1, 0.1, 0.1))
    assert np.isnan(interval(np.array([0.2, 0.4]), [1, 1])[1])


def test_controls_differ_in_the_contrast_only() -> None:
    arms = arms_of(BRIEF)
    assert list(arms) == ["across", "within", "none"]
    assert {arm: one.contrast and (one.contrast.scope, one.contrast.bank) for arm, one in arms.items()} == {
        "across": ("across", "prototypes"),
        "within": ("within", "none"),
        "none": None,
    }
    assert len({one.model_copy(update={"contrast": None}) for one in arms.values()}) == 1
    assert list(arms_of(arms["within"])) == ["within", "none"]
    assert list(arms_of(arms["none"])) == ["none"]
