"""Bad images on the command line: one message with subject and file, exit code 65, nothing fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from voxel_study import STUDY

from connectome_tl.cli import main
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import VolumeSettings

SUBJECT = "infant0001"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_volumes")
    write_volume_cohort(4, VolumeSettings(size=16), folder / "infants", name="infant", seed=3)
    return folder


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Path:
    """A study with a changed first image."""
    images = sorted((written / "infants" / "images").glob("*.nii.gz"))
    own = tmp_path / "infants"
    (own / "images").mkdir(parents=True)
    for file in images:
        (own / "images" / file.name).write_bytes(file.read_bytes())
    declared = yaml.safe_load((written / "infants" / "cohort.yaml").read_text())
    table = next((written / "infants").glob("*.tsv"))
    (own / table.name).write_text(table.read_text().replace(str(written), str(tmp_path)))
    declared["volumes"] = {"files": "images/sub-{id}_T1w.nii.gz", "contrast": "T1w"}
    (own / "cohort.yaml").write_text(yaml.safe_dump(declared))
    settings = {key: value for key, value in STUDY.items() if key not in ("source", "pool")}
    settings |= {"target": {"cohort": "infants/cohort.yaml"}, "controls": [], "splits": {"repeats": 1, "outer": 2}}
    settings["stages"] = {"finetune": STUDY["stages"]["finetune"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path / "study.yaml"


Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]


def rewritten(change: Change) -> Callable[[Path], None]:
    def apply(file: Path) -> None:
        image = nib.load(file)
        data, affine = change(np.asarray(image.dataobj), image.affine.copy())
        made = nib.Nifti1Image(data, affine)
        if affine is None:
            made.header["sform_code"] = made.header["qform_code"] = 0
        nib.save(made, file)

    return apply


def _sheared(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    affine[0, 1] = 0.5 * affine[1, 1]
    return data, affine


def _with_nan(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    data = data.copy()
    data[8, 8, 8] = np.nan
    return data, affine


def _overflowed(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.minimum(data / data.max() * 60000, 32767).astype(np.int16), affine


def _halved(data: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    data = data.copy()
    data[:9] = 0
    return data, affine


BAD: dict[str, tuple[Callable[[Path], None], int, str, dict[str, Any]]] = {
    "four dimensions": (rewritten(lambda d, a: (np.stack([d] * 3, axis=-1), a)), 65, "wrong number of axes", {}),
    "a slice": (rewritten(lambda d, a: (d[:, :, 8:9], a)), 65, "a slice, not a volume", {}),
    "all zeros": (rewritten(lambda d, a: (np.zeros_like(d), a)), 65, "contains only 0", {}),
    "constant": (rewritten(lambda d, a: (np.full_like(d, 7), a)), 65, "contains only 7", {}),
    "not a number": (rewritten(_with_nan), 65, "voxels are not numbers", {}),
    "no affine": (rewritten(lambda d, _: (d, None)), 65, "sform and qform codes are 0", {}),
    "a sheared affine": (rewritten(_sheared), 65, "not at right angles", {"grid": "zoom"}),
    "a tenth of the voxel size": (rewritten(lambda d, a: (d, a / 10)), 65, "may not be in mm", {"grid": "raw"}),
    "half the voxel size": (
        rewritten(lambda d, a: (d, a / 2)),
        65,
        "grid: isotropic",
        {"grid": "raw", "spread": 1.5},
    ),
    "overflow": (rewritten(_overflowed), 65, "overflowed", {}),
    "half a brain": (rewritten(_halved), 65, "half a brain", {}),
    "another contrast": (
        lambda file: file.rename(file.with_name(f"sub-{SUBJECT}_T2w.nii.gz")),
        65,
        "no such file; found sub-infant0001_T2w",
        {},
    ),
    "no image at all": (lambda file: file.write_text("hello"), 65, "the compressed file is damaged: Not a gzipped", {}),
    "cut short": (lambda file: file.write_bytes(file.read_bytes()[:300]), 65, "before the end-of-stream", {}),
    "missing": (Path.unlink, 65, "without a volume: 1 of 4 rows", {}),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_image_ends_in_one_message_with_subject_and_file(
    what: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, code, said, image = BAD[what]
    settings = yaml.safe_load(study.read_text())
    settings["image"] = {**settings["image"], **image}
    study.write_text(yaml.safe_dump(settings))
    spoil(study.parent / "infants" / "images" / f"sub-{SUBJECT}_T1w.nii.gz")
    with pytest.raises(SystemExit) as left:
        main(["run", str(study), "--out", str(study.parent / "run")])
    error = capsys.readouterr().err
    assert left.value.code == code, error
    assert f"sub-{SUBJECT}_T1w.nii.gz" in error
    assert said in error
    assert "Traceback" not in error
    assert error.count("Error:") == 1
    assert error.rstrip().endswith("."), "no remedy"
    assert not (study.parent / "run" / "models").exists()


@pytest.mark.parametrize("kind", ["column: scan", "files: 'images/sub-{id}_T1w.nii.gz', labels: scan"])
def test_a_file_that_names_another_subject_of_the_table_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "images").mkdir()
    for one in ("01", "02", "C"):
        (tmp_path / "images" / f"sub-{one}_T1w.nii.gz").write_bytes(b"")
    (tmp_path / "images" / "sub-zz_02.nii.gz").write_bytes(b"")  # of no other subject of the table
    named = {"01": "sub-02_T1w", "02": "sub-zz_02", "C": "sub-C_T1w"}
    rows = [f"sub-{one}\timages/{name}.nii.gz" for one, name in named.items()]
    (tmp_path / "cohort.tsv").write_text("\n".join(["id\tscan", *rows]) + "\n")
    declared = f"name: few\nparticipants: cohort.tsv\nid: id\nvolumes: {{{kind}}}\n"
    (tmp_path / "cohort.yaml").write_text(declared)
    with pytest.raises(DataError, match=r"another subject by its name; got sub-02") as refused:
        read_cohort(tmp_path / "cohort.yaml")
    assert [one.subject for one in refused.value.problems] == ["sub-01"]


def test_a_missing_image_of_an_id_with_a_prefix_is_named_without_a_second_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "sub-a_T1w.nii.gz").write_bytes(b"")
    (tmp_path / "cohort.tsv").write_text("id\nsub-a\nsub-b\n")
    volumes = 'volumes: {files: "images/sub-{id}_T1w.nii.gz"}'
    (tmp_path / "cohort.yaml").write_text(f"name: few\nparticipants: cohort.tsv\nid: id\n{volumes}\n")
    with pytest.raises(DataError, match=r"expected images/sub-b_T1w\.nii\.gz"):
        read_cohort(tmp_path / "cohort.yaml")


def test_an_image_that_the_table_names_and_that_is_not_there_is_named(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = study.parent / "infants"
    declared = yaml.safe_load((folder / "cohort.yaml").read_text())
    declared["volumes"] = {"column": "scan"}
    (folder / "cohort.yaml").write_text(yaml.safe_dump(declared))
    table = next(folder.glob("*.tsv"))
    header, *rows = table.read_text().splitlines()
    rows = [f"{row}\timages/sub-infant{i + 1:04d}_T1w.nii.gz" for i, row in enumerate(rows)]
    table.write_text("\n".join([f"{header}\tscan", *rows]) + "\n")
    (folder / "images" / f"sub-{SUBJECT}_T1w.nii.gz").unlink()
    with pytest.raises(SystemExit) as left:
        main(["run", str(study), "--out", str(study.parent / "run")])
    error = capsys.readouterr().err
    assert left.value.code == 65
    assert "was not found" in error
    assert SUBJECT in error
    assert f"sub-{SUBJECT}_T1w.nii.gz" in error
