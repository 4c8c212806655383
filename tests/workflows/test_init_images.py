"""`init --from TABLE --images FOLDER`: from a lab's images to a study, its maps, a bundle and a prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cli import main
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, UsageError
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volumes import VolumeSettings, affine_of, each_volume
from connectome_tl.workflows.init.from_files import init_study

pytestmark = pytest.mark.usefixtures("without_figures")

SMALL = (
    "image.size=12",
    "image.voxel=13",
    "model.encoder.width=0.0625",
    "permutations=0",
    "splits.outer=2",
    "n_jobs=1",
)


def write_lab(folder: Path, n: int, *, seed: int, first: int = 0) -> Path:
    """Images, label maps and a fourth axis of some scans in one folder, and a sheet in another order."""
    settings, rows = VolumeSettings(size=16), []
    for i, one in enumerate(each_volume(n, settings, seed=seed)):
        subject = f"{first + i:03d}"
        for name, data in (("dseg", one.labels), ("T2w", 1 - one.volume), ("T1w", one.volume)):
            write_volume(folder / "images" / f"sub-{subject}_{name}.nii.gz", data, affine_of(settings))
        series = np.stack([one.volume] * 2, axis=-1)
        write_volume(folder / "images" / f"sub-{subject}_bold.nii.gz", series, affine_of(settings))
        rows.append((f"sub-{subject}", round(one.age, 2), ("F", "M")[i % 2]))
    table = pd.DataFrame(rows, columns=["participant_id", "age_months", "sex"])
    table.iloc[::-1].to_csv(folder / "sheet.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lab(tmp_path_factory.mktemp("lab"), 24, seed=5)


def start(lab: Path, folder: Path, pattern: str | None = None) -> tuple[Path, ...]:
    answers = {"outcomes": "age_months"}
    return init_study(lab / "sheet.csv", lab / "images", folder, images=True, answers=answers, pattern=pattern)


def test_grey_levels_are_taken_before_label_maps_and_series_are_left_out(lab: Path, tmp_path: Path) -> None:
    written, study = start(lab, tmp_path / "study")
    cohort = read_cohort(written)
    assert [Path(file).name for file in cohort.volumes] == [f"{i}_T1w.nii.gz" for i in cohort.ids]
    assert cohort.volume_contrast == "T1w"
    assert load_settings(study, StudySettings).model.reads_volumes
    text = written.read_text("utf-8")
    assert "# files: " in text
    assert "sub-{id}_T2w.nii.gz" in text
    assert "# labels: " in text
    assert "bold" not in text


def test_an_age_that_is_the_outcome_keeps_its_unit_and_stays_the_age(lab: Path, tmp_path: Path) -> None:
    cohort = read_cohort(start(lab, tmp_path / "study")[0])
    assert cohort.tasks[0].unit == "months"
    assert cohort.age_unit == "months"
    np.testing.assert_allclose(cohort.age, cohort.targets["age_months"])


def test_another_pattern_is_taken_if_it_is_named(lab: Path, tmp_path: Path) -> None:
    cohort = read_cohort(start(lab, tmp_path / "study", pattern="sub-{id}_T2w.nii.gz")[0])
    assert cohort.volume_contrast == "T2w"
    with pytest.raises(UsageError, match=r"one of sub-\{id\}_T1w\.nii\.gz"):
        start(lab, tmp_path / "other", pattern="sub-{id}_flair.nii.gz")


def test_a_folder_of_series_names_what_is_wrong_with_the_first(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for file in (lab / "images").glob("*_bold.nii.gz"):
        (tmp_path / "images" / file.name).symlink_to(file)
    (tmp_path / "sheet.csv").write_bytes((lab / "sheet.csv").read_bytes())
    with pytest.raises(DataError, match=r"(?s)bold\.nii\.gz.*cannot be read as volumes: .*number of axes"):
        start(tmp_path, tmp_path / "study")


def test_images_that_are_given_as_matrices_are_told_the_option(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="init --images FOLDER"):
        init_study(lab / "sheet.csv", lab / "images", tmp_path / "study")


@pytest.mark.slow
def test_the_commands_of_the_page_lead_from_images_to_a_prediction(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lab(tmp_path / "later", 2, seed=8, first=500)
    less = [part for one in SMALL for part in ("--set", one)]
    quick = ["--set", "stages.finetune.training.steps=3", "--set", "stages.finetune.ensemble.networks=2"]
    commands = [
        ["init", "study", "--from", str(lab / "sheet.csv"), "--images", str(lab / "images"),
         "--answer", "outcomes=age_months"],
        ["cohort", "study/cohort.yaml", "--study", "study/study.yaml", "--report", "study/cohort.html"],
        ["run", "study/study.yaml", "--out", "results", "--dry-run", *less, *quick],
        ["run", "study/study.yaml", "--out", "results", *less, *quick],
        ["maps", "results", "--subjects", "1", "--steps", "1"],
        ["bundle", "results", "--out", "bundle"],
        ["init", "new", "--from", "later/sheet.csv", "--images", "later/images"],
        ["predict", "bundle", "new/cohort.yaml", "--out", "predictions.tsv"],
    ]  # fmt: skip
    for words in commands:
        with pytest.raises(SystemExit) as left:
            main(words)
        assert left.value.code == 0, (words, capsys.readouterr().err)
    assert "24 infants, 24 volumes" in capsys.readouterr().out
    found = pd.read_csv("predictions.tsv", sep="\t")
    assert sorted(found["subject"].unique()) == ["sub-500", "sub-501"]
    assert set(found["task"]) == {"age_months"}
