"""Files are written completely or not at all; equal content has equal bytes and hashes."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectome_tl.errors import MissingInputError, OutputError
from connectome_tl.provenance import (
    canonical_json,
    content_hash,
    file_hash,
    read_json,
    read_own_json_object,
    remove_halves,
    sidecar_path,
    write_bytes,
    write_json,
    write_sidecar,
    write_table,
    write_text,
)
from connectome_tl.settings.training import Training


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_text(tmp_path / "scores.json", "old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        write_text(file, "new, and longer")
    assert caught.value.exit_code == 74
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]


def test_what_a_killed_write_left_is_removed_and_the_half_of_a_running_one_is_not(tmp_path: Path) -> None:
    target = tmp_path / "result [1].json"
    killed, running, other = (
        tmp_path / f".{name}.part" for name in ("result [1].json.a1", "result [1].json.b2", "x.c3")
    )
    for file in (killed, running, other):
        file.write_bytes(b"half")
    with running.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        remove_halves(target)
        assert set(tmp_path.iterdir()) == {running, other}
    remove_halves(target)
    assert set(tmp_path.iterdir()) == {other}


def test_what_cannot_be_written_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "file", "x")
    with pytest.raises(OutputError):  # a file where a folder is needed
        write_text(tmp_path / "file" / "below.txt", "x")

    def read_only(**_: object) -> None:  # as for a read-only folder; a real one does not restrict root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "mkstemp", read_only)
    with pytest.raises(OutputError, match="Permission denied") as caught:
        write_text(tmp_path / "scores.json", "x")
    assert caught.value.exit_code == 74
    assert caught.value.problems[0].file == tmp_path / "scores.json"


def test_devices_pipes_and_folders_are_not_replaced_by_a_file(tmp_path: Path) -> None:
    """As root, a rename onto /dev/null would replace the device of the whole machine."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for name, what in (("pipe", "a device or a pipe"), ("folder", "a folder"), ("link", "a device or a pipe")):
        with pytest.raises(OutputError, match=f"the output is {what}; expected the name of a file"):
            write_text(tmp_path / name, "x")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "link", "pipe"]


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out.txt").symlink_to(Path("disk") / "real.txt")
    for text in ("one", "two"):
        write_text(tmp_path / "out.txt", text)
        assert (tmp_path / "out.txt").is_symlink()
        assert (tmp_path / "disk" / "real.txt").read_text() == text


def test_written_files_can_be_read_by_others(tmp_path: Path) -> None:
    assert write_bytes(tmp_path / "a" / "b" / "c.bin", b"x").stat().st_mode & 0o777 == 0o644


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_canonical_json_reads_back_and_does_not_depend_on_the_order_of_keys(value: object) -> None:
    def turned(item: object) -> object:
        if isinstance(item, dict):
            return {key: turned(below) for key, below in reversed(item.items())}
        return [turned(below) for below in item] if isinstance(item, list) else item

    assert json.loads(canonical_json(value)) == value
    assert canonical_json(turned(value)) == canonical_json(value)


def test_canonical_json_takes_what_the_package_holds() -> None:
    held = {
        "b": np.float64(0.1),
        "a": np.arange(2),
        "c": {3, 1},
        "d": Path("x/y"),
        "e": np.nan,
        "f": Training(steps=1),
    }
    text = canonical_json(held)
    assert text.startswith('{"a":[0,1],"b":0.1,"c":[1,3],"d":"x/y","e":null,"f":{')
    with pytest.raises(ValueError):
        canonical_json(np.inf)


def test_content_hash_depends_on_type_and_shape() -> None:
    parts = [
        (1,),
        (1.0,),
        ("1",),
        (True,),
        (None,),
        (b"1",),
        ([1],),
        (1, 1),
        ([1, 1],),
        (b"1", b"1"),
        (b"1\x00bytes1",),
        (b"1\x00bytes1 1",),
        (np.array(1),),
        (np.array([1]),),
        (np.array([[1]]),),
        (np.array([1.0]),),
        (np.array([1], dtype=np.int32),),
        (np.zeros(0),),
        (np.zeros((0, 2)),),
        (pd.DataFrame({"a": [1]}),),
        (pd.DataFrame({"a": [1.0]}),),
        (pd.DataFrame({"a": ["1"]}),),
        (pd.DataFrame({"b": [1]}),),
        (),
    ]
    hashes = [content_hash(*part) for part in parts]
    assert len(set(hashes)) == len(parts)
    assert hashes == [content_hash(*part) for part in parts]


def test_content_hash_depends_on_values_and_not_on_memory_layout() -> None:
    values = np.random.default_rng(0).normal(size=(4, 6))
    assert content_hash(values) == content_hash(np.asfortranarray(values)) == content_hash(values[::-1][::-1])
    assert content_hash(values) != content_hash(values.T)
    for i in range(4):
        other = values.copy()
        other[i, i] = np.nextafter(other[i, i], 9)
        assert content_hash(other) != content_hash(values)


def test_json_that_is_not_there_or_damaged_says_which(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        read_json(tmp_path / "absent.json")
    with pytest.raises(MissingInputError):
        file_hash(tmp_path / "absent.json")
    write_text(tmp_path / "cut.json", '{"a": ')
    with pytest.raises(OutputError, match="Delete the file"):
        read_json(tmp_path / "cut.json")


@pytest.mark.parametrize("text", ["null", "[]", "3", '"a"'])
def test_json_that_is_no_object_is_refused_where_one_is_needed(tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "provenance.json", text)
    with pytest.raises(OutputError, match="does not contain a JSON object"):
        read_own_json_object(tmp_path / "provenance.json")
    write_text(tmp_path / "provenance.json", '{"a": null}')
    assert read_own_json_object(tmp_path / "provenance.json") == {"a": None}


def test_a_table_keeps_every_bit_and_writes_missing_as_bids_does(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", "b"], "x": [1 / 3, np.nan], "text": ["t", None]})
    file = write_table(tmp_path / "t.tsv", table)
    assert file.read_text().splitlines()[2] == "b\tn/a\tn/a"
    assert float(file.read_text().splitlines()[1].split("\t")[1]) == 1 / 3


def test_a_sidecar_describes_its_file_and_is_the_same_every_time(tmp_path: Path) -> None:
    file = write_text(tmp_path / "predictions.tsv", "x\n")
    arguments = {"inputs": {"target": "abc"}, "settings": Training(steps=1), "seed": 3, "units": "points"}
    first = write_sidecar(file, **arguments).read_bytes()
    assert write_sidecar(file, **arguments).read_bytes() == first
    record = read_json(tmp_path / "predictions.json")
    assert record["Sha256"] == file_hash(file)
    assert record["Settings"]["steps"] == 1
    assert record["Versions"]["numpy"] == np.__version__
    assert not {"dipy", "optuna"} & set(record["Versions"])  # installed here, without a part in a study
    searched = read_json(write_sidecar(file, libraries=["optuna"], **arguments))
    assert set(searched["Versions"]) == {*record["Versions"], "optuna"}
    assert str(tmp_path) not in first.decode()


@pytest.mark.parametrize(("name", "sidecar"), [("a.tsv", "a.json"), ("b.nii.gz", "b.json"), ("c", "c.json")])
def test_a_sidecar_has_its_files_name(name: str, sidecar: str) -> None:
    assert sidecar_path(Path("folder") / name) == Path("folder") / sidecar


def test_json_files_end_with_a_newline(tmp_path: Path) -> None:
    assert write_json(tmp_path / "a.json", {"z": 1, "a": [1]}).read_text() == '{\n "a": [\n  1\n ],\n "z": 1\n}\n'


def test_half_a_character_is_hashed_and_written(tmp_path: Path) -> None:
    """An invalid byte of a file name, as Python represents it."""
    name = "sub-\udcff"
    assert content_hash({name: 1}) != content_hash({"sub-\udcfe": 1})
    assert content_hash(pd.DataFrame({"a": [name]})) != content_hash(pd.DataFrame({"a": ["sub-\udcfe"]}))
    assert read_json(write_json(tmp_path / "a.json", {"name": name})) == {"name": name}
