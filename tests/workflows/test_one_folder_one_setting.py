"""A run for some participants does not change the others; scans with different settings never form one cohort."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError, UsageError
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.workflows.scans import scan as scan_module
from connectome_tl.workflows.scans.morphometry import build_networks

SETTINGS = """\
labels: labels.tsv
network: similarity
age: {column: pma, unit: weeks, reference: postmenstrual}
"""
SUBJECTS = ("01", "02", "03")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bids")
    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(24)] * 3, indexing="ij")) - 11.5
    brain = (places**2).sum(axis=0) < 100
    labels = np.where(brain, 1 + (places[0] > 2) + 2 * (places[1] > -2) + 4 * (places[2] > 2), 0).astype(np.int16)
    affine = np.diag([4.0, 4, 4, 1])
    for subject in SUBJECTS:
        stem = root / f"sub-{subject}" / "anat" / f"sub-{subject}"
        image = np.where(brain, 100 + 9 * labels + rng.normal(0, 5, labels.shape), 0).astype(np.float32)
        write_volume(f"{stem}_T2w.nii.gz", image, affine)
        write_volume(f"{stem}_desc-brain_mask.nii.gz", brain, affine)
        write_volume(f"{stem}_seg-eight_dseg.nii.gz", labels, affine)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    (root / "participants.tsv").write_text("participant_id\tpma\nsub-01\t40\nsub-02\t41\nsub-03\t42\n")
    (root / "labels.tsv").write_text("index\tname\n" + "".join(f"{k}\tr{k}\n" for k in range(1, 9)))
    (root / "plain.yaml").write_text(SETTINGS)
    (root / "other.yaml").write_text(SETTINGS + "tissues: segmented\n")
    return root


def run(folder: Path, out: Path, *participants: str, config: str = "plain.yaml") -> list[str]:
    return [done.state for done in build_networks(folder, out, participants=participants, config=folder / config).done]


def snapshot(out: Path) -> dict[str, bytes]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and "log" not in path.parts)
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_one_job_per_subject_ends_as_one_run_over_all(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "all")
    for subject in SUBJECTS:
        run(folder, tmp_path / "jobs", subject)
    whole, parts = snapshot(tmp_path / "all"), snapshot(tmp_path / "jobs")
    assert parts == whole
    assert read_cohort(tmp_path / "jobs" / "cohort.yaml").age.tolist() == [40, 41, 42]
    run(folder, tmp_path / "all", "02")
    assert snapshot(tmp_path / "all") == whole


def test_a_job_that_does_not_see_the_others_leaves_what_is_said_of_them(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path)
    listed = folder / "participants.tsv"
    before = listed.read_text()
    try:
        listed.write_text("participant_id\tpma\nsub-03\t42.5\n")
        run(folder, tmp_path, "03")
    finally:
        listed.write_text(before)
    table = pd.read_csv(tmp_path / "participants.tsv", sep="\t")
    assert table["age_at_scan"].tolist() == [40, 41, 42.5]
    assert table["pma"].tolist() == [40, 41, 42.5]


def test_other_settings_for_some_are_refused_and_for_all_make_all_anew(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match=re.escape("2 scans, among them sub-01 (tissues: none to segmented)")):
        run(folder, tmp_path, "03", config="other.yaml")
    assert snapshot(tmp_path) == before
    assert run(folder, tmp_path, config="other.yaml") == ["computed"] * 3
    assert "grey" in read_cohort(tmp_path / "cohort.yaml").region_feature_names


def test_another_version_of_the_method_is_another_setting(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path)
    monkeypatch.setattr(scan_module, "_CODE", -1)
    with pytest.raises(UsageError, match="one set of settings per folder"):
        run(folder, tmp_path, "01")
    assert run(folder, tmp_path) == ["computed"] * 3


def test_scans_that_left_the_folder_are_named_and_leave_the_cohort_by_the_remedy(folder: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "bids", tmp_path / "out"
    shutil.copytree(folder, root)
    run(root, out)
    (root / "sub-02").rename(root / "sub-04")
    for file in (root / "sub-04").rglob("*.nii.gz"):
        file.rename(file.with_name(file.name.replace("sub-02", "sub-04")))
    (root / "participants.tsv").write_text("participant_id\tpma\nsub-01\t40\nsub-04\t41\nsub-03\t42\n")
    run(root, out)
    said = "1 scan of earlier runs is not in the folder any more; got sub-02. They stay in the cohort; where they were"
    assert said in (out / "inventory.txt").read_text()
    assert said in (out / "index.html").read_text()
    assert len(read_cohort(out / "cohort.yaml").ids) == 4
    shutil.rmtree(out / "sub-02")
    run(root, out, "01")
    assert (out / "inventory.txt").read_text() == "no problems found\n"
    assert list(read_cohort(out / "cohort.yaml").ids) == ["sub-01", "sub-03", "sub-04"]


SEXES = "participant_id\tpma\tsex\nsub-01\t40\tweiblich\nsub-02\t41\tmännlich\nsub-03\t42\tmännlich\n"


def test_a_table_that_cannot_be_read_stops_the_run_before_anything_is_made(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "bids"
    shutil.copytree(folder, root)
    (root / "participants.tsv").write_text(SEXES, encoding="mac_roman")
    (root / "ageless.yaml").write_text("labels: labels.tsv\nnetwork: similarity\n")
    for config in ("plain.yaml", "ageless.yaml"):
        with pytest.raises(DataError, match=r"participants.tsv, line 3: not a text file in UTF-8"):
            run(root, tmp_path / "out", config=config)
        assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="move it out of the folder to continue without its columns"):
        run(root, tmp_path / "out", config="ageless.yaml")
    (root / "participants.tsv").rename(tmp_path / "participants.tsv")
    run(root, tmp_path / "out", "01", config="ageless.yaml")  # the remedy works


def test_a_table_of_windows_keeps_its_columns_and_that_is_told(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "bids"
    shutil.copytree(folder, root)
    (root / "participants.tsv").write_text(SEXES, encoding="cp1252")
    run(root, tmp_path / "out", "01", "02")
    table = pd.read_csv(tmp_path / "out" / "participants.tsv", sep="\t")
    assert table["sex"].tolist() == ["weiblich", "männlich"]
    told = (tmp_path / "out" / "inventory.txt").read_text("utf-8")
    assert "read as Windows-1252 (Western European): männlich; BIDS requires UTF-8" in told
