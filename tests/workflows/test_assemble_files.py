"""`assemble` from files to a labelled table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.imaging.read.images import read_labels, write_volume
from connectome_tl.imaging.track.streamlines import write_tck
from connectome_tl.settings.imaging import AssemblySettings
from connectome_tl.workflows.data.assemble import assemble_files, read_weights


@pytest.fixture
def files(tmp_path: Path) -> Path:
    data = np.zeros((20, 4, 4), dtype=np.int32)
    data[:3], data[8:10], data[17:] = 7, 3, 2035
    write_volume(tmp_path / "parc.nii.gz", data, np.eye(4))
    write_volume(tmp_path / "fa.nii.gz", np.full(data.shape, 0.25, dtype=np.float32), np.eye(4))
    lines = [np.linspace((1, 1, 1), (x, 1, 1), 9) for x in (9, 9, 18, 13.5)]
    write_tck(tmp_path / "t.tck", [*lines, np.ones((1, 3))])
    (tmp_path / "w.txt").write_text("# tcksift2\n0.5 1.5 2 1 1\n")
    (tmp_path / "labels.tsv").write_text("index\tname\n2035\tend\n7\tstart\n3\tmiddle\n9\tghost\n")
    return tmp_path


def table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t")


def test_columns_are_label_numbers_without_a_table(files: Path) -> None:
    settings = AssemblySettings(radius_mm=2)
    done = assemble_files(files / "t.tck", files / "parc.nii.gz", files / "out" / "c.tsv", settings=settings)
    found = table(done.file)
    assert list(found.columns) == ["3", "7", "2035"]
    np.testing.assert_array_equal(found.to_numpy(), [[0, 2, 0], [2, 0, 1], [0, 1, 0]])
    sidecar = json.loads(done.file.with_suffix(".json").read_text())
    account = sidecar["Streamlines"]
    assert account == {"total": 5, "edges": 3, "within_one_region": 0, "unassigned": 1, "too_short": 1}
    assert set(sidecar["Inputs"]) == {"t.tck", "parc.nii.gz"}
    assert sidecar["Directed"] is False


def test_rows_are_the_tables_and_what_is_absent_is_not_zero(files: Path) -> None:
    done = assemble_files(
        files / "t.tck", files / "parc.nii.gz", files / "c.tsv", labels=files / "labels.tsv", weights=files / "w.txt"
    )
    found = table(done.file)
    assert list(found.columns) == ["end", "start", "middle", "ghost"]
    assert found["ghost"].isna().all()
    assert found["start"].tolist()[:3] == [3.0, 0.0, 2.0]  # 4 mm reach the last region from 13.5
    rows = table(done.regions)
    assert rows["label"].tolist() == [2035, 7, 3, 9]
    assert rows["present"].tolist() == [1, 1, 1, 0]


def test_a_tractogram_without_streamlines_is_named(files: Path) -> None:
    write_tck(files / "none.tck", [])
    with pytest.raises(DataError, match=r"none\.tck: the tractogram contains no streamline"):
        assemble_files(files / "none.tck", files / "parc.nii.gz", files / "c.tsv")


@pytest.mark.parametrize("numbers", [(3, 1, 2), (7, 3, 2035)])
def test_the_written_table_of_regions_gives_the_same_matrix(files: Path, numbers: tuple[int, ...]) -> None:
    parcels = read_labels(files / "parc.nii.gz")
    data = np.zeros_like(parcels.data)
    for old, new in zip((7, 3, 2035), numbers, strict=True):
        data[parcels.data == old] = new
    write_volume(files / "p.nii.gz", data, parcels.affine)
    (files / "labels.tsv").write_text("index\tname\n" + "".join(f"{n}\tR{n}\n" for n in numbers))
    done = assemble_files(files / "t.tck", files / "p.nii.gz", files / "c.tsv", labels=files / "labels.tsv")
    again = assemble_files(files / "t.tck", files / "p.nii.gz", files / "d.tsv", labels=done.regions)
    assert again.regions.read_bytes() == done.regions.read_bytes()
    assert again.file.read_bytes() == done.file.read_bytes()


@pytest.mark.parametrize(("measure", "expected"), [("length", 8.0), ("invnodevol", 2 * 2 / 80), ("mean", 0.25)])
def test_every_measure_is_written(measure: str, expected: float, files: Path) -> None:
    measure = f"mean={files / 'fa.nii.gz'}" if measure == "mean" else measure
    done = assemble_files(files / "t.tck", files / "parc.nii.gz", files / "c.tsv", measure=measure)
    assert table(done.file)["3"].tolist()[1] == pytest.approx(expected, rel=1e-6)


def test_the_same_inputs_give_the_same_bytes(files: Path) -> None:
    first = assemble_files(files / "t.tck", files / "parc.nii.gz", files / "a" / "c.tsv")
    second = assemble_files(files / "t.tck", files / "parc.nii.gz", files / "b" / "c.tsv")
    for a, b in zip(sorted(first.file.parent.iterdir()), sorted(second.file.parent.iterdir()), strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_what_cannot_be_done_is_said(files: Path) -> None:
    tracks, parcels = files / "t.tck", files / "parc.nii.gz"
    with pytest.raises(UsageError, match="no such edge measure"):
        assemble_files(tracks, parcels, files / "c.tsv", measure="fa")
    with pytest.raises(UsageError, match="not both"):
        assemble_files(tracks, parcels, files / "c.tsv", labels="a", atlas="b")
    with pytest.raises(UsageError, match="table"):
        assemble_files(tracks, parcels, files / "c.csv")
    with pytest.raises(MissingInputError):
        assemble_files(files / "absent.tck", parcels, files / "c.tsv")
    (files / "names.txt").write_text("a\nb\nc\n")
    with pytest.raises(DataError, match="no numbers"):
        assemble_files(tracks, parcels, files / "c.tsv", labels=files / "names.txt")
    (files / "w.txt").write_text("1 2 x")
    with pytest.raises(DataError, match="not a list"):
        read_weights(files / "w.txt")
    assert not (files / "c.tsv").exists()


def test_every_fault_of_the_inputs_is_listed_at_once_in_the_order_of_the_command(files: Path) -> None:
    (files / "names.txt").write_text("a\nb\nc\n")
    (files / "w.txt").write_text("1 2 x")
    with pytest.raises(MissingInputError) as caught:
        assemble_files(
            files / "absent.tck",
            files / "none.nii.gz",
            files / "c.tsv",
            measure=f"mean={files / 'no.nii'}",
            labels=files / "names.txt",
            weights=files / "w.txt",
        )
    said = [Path(str(problem.file)).name for problem in caught.value.problems]
    assert said == ["absent.tck", "none.nii.gz", "names.txt", "no.nii", "w.txt"]
    (files / "bad.tck").write_bytes(b"mrtrix tracks\nEND\n")
    with pytest.raises(DataError) as caught_too:
        assemble_files(files / "bad.tck", files / "parc.nii.gz", files / "c.tsv", weights=files / "w.txt")
    assert len(caught_too.value.problems) == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [("1\n2\n3", [1, 2, 3]), ("# c\n1 2,3;4\t5\n", [1, 2, 3, 4, 5]), ("1e-3", [0.001]), ("nan", [np.nan])],
)
def test_weights_are_the_numbers_of_the_file(words: str, expected: list[float], tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text(words)
    np.testing.assert_array_equal(read_weights(tmp_path / "w.txt"), expected)
    np.save(tmp_path / "w.npy", np.array(expected)[:, None])
    np.testing.assert_array_equal(read_weights(tmp_path / "w.npy"), expected)


@pytest.mark.parametrize("words", ["", "1_000 2", "1 two", "0x10"])
def test_what_is_no_list_of_weights_is_refused(words: str, tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text(words)
    with pytest.raises(DataError, match="not a list of numbers"):
        read_weights(tmp_path / "w.txt")
    for array in (np.ones((2, 3)), np.ones(3, dtype=complex), np.ones(3, dtype=bool), np.array(["1", "2"])):
        np.save(tmp_path / "w.npy", array)
        with pytest.raises(DataError):
            read_weights(tmp_path / "w.npy")


@pytest.mark.parametrize("taken", ["labels.tsv", "labels.json", "labels_nodeindices.tsv"])
def test_no_input_and_no_foreign_json_is_overwritten(files: Path, taken: str) -> None:
    """`--out labels.tsv` writes three files: the table, its sidecar and the regions."""
    labels = files / "labels.tsv"
    out = labels
    if taken != "labels.tsv":
        labels = labels.rename(files / ("mine.tsv" if taken.endswith(".json") else taken))
    if taken.endswith(".json"):
        (files / taken).write_text('{"mine": true}')
    before = {file.name: file.read_bytes() for file in files.iterdir() if file.is_file()}
    with pytest.raises(UsageError, match="would overwrite"):
        assemble_files(files / "t.tck", files / "parc.nii.gz", out, labels=labels)
    assert {file.name: file.read_bytes() for file in files.iterdir() if file.is_file()} == before
