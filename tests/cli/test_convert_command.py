"""`connectome-tl convert` for users: exit codes, output streams, and lines that can be pasted."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.formats.table import read_matrix

from .study_on_disk import Command


def near_is_strong() -> np.ndarray:
    at = load_atlas("dk68").coordinates
    matrix = np.exp(-np.linalg.norm(at[:, None] - at[None], axis=-1) / 30)
    np.fill_diagonal(matrix, 0)
    return matrix


def test_the_remedy_for_a_lower_triangle_works_as_printed(command: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", near_is_strong()[np.tril_indices(68, -1)])
    arguments = ["convert", tmp_path / "v.npy", "--atlas", "dk68", "--out", tmp_path / "o.tsv"]
    refused = command(*arguments)
    assert refused.code == 65
    option = re.search(r"\((--layout \w+)\)", refused.err)
    assert option is not None
    done = command(*arguments, *option[1].split())
    assert done.code == 0
    assert "note: the rows have no names" in done.err
    assert done.out.strip() == f"wrote {tmp_path / 'o.tsv'}"
    np.testing.assert_array_equal(read_matrix(tmp_path / "o.tsv").values[0], near_is_strong())
    assert command(*arguments, "--layout", "left").code == 64


def test_warnings_reach_the_terminal(command: Command, tmp_path: Path) -> None:
    noise = np.triu(np.random.default_rng(0).random((68, 68)), 1)
    np.save(tmp_path / "m.npy", noise + noise.T)
    done = command("convert", tmp_path / "m.npy", "--atlas", "dk68", "--out", tmp_path / "o.tsv")
    assert done.code == 0
    assert "WARNING: edge weights neither fall with distance" in done.err


def test_an_input_is_not_overwritten_and_rows_may_be_numbered(command: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", near_is_strong())
    (tmp_path / "t.tsv").write_text("\n".join(load_atlas("dk68").names) + "\n")
    arguments = ["convert", tmp_path / "m.npy", "--labels", tmp_path / "t.tsv", "--out", tmp_path / "t.tsv"]
    assert command(*arguments).code == 64
    done = command("convert", tmp_path / "m.npy", "--labels", "numbered", "--out", tmp_path / "n.tsv")
    assert done.code == 0
    assert "numbered" in done.err


def test_a_folder_ends_with_the_line_for_a_cohort(command: Command, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in (1, 2):
        np.savez(
            tmp_path / "in" / f"sub-{i}.npz", weights=near_is_strong() * i, regions=np.array(load_atlas("dk68").names)
        )
    done = command("convert", tmp_path / "in", "--out", tmp_path / "out")
    assert done.code == 0
    assert f"files: {tmp_path.as_posix()}/out/sub-{{id}}_meas-weight_relmat.tsv" in done.out
