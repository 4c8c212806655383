"""Tractograms: the same points as read by nibabel, for any block size; damaged files are refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from connectome_tl.errors import DataError, MissingInputError, UsageError
from connectome_tl.imaging.read.images import Volume, read_volume, write_volume
from connectome_tl.imaging.track import tck, trk, trx
from connectome_tl.imaging.track.sampling import mean_along, precise_mean_along, reduce_streamlines
from connectome_tl.imaging.track.streamlines import from_list, read_blocks, read_streamlines, write_tck


def curves(seed: int = 0, n: int = 40) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(0, 20, (k, 3)).astype(np.float32) for k in rng.integers(1, 30, n)]


def save(path: Path, lines: list[np.ndarray]) -> Path:
    affine = np.diag([2.0, 1.5, 1.0, 1.0])
    tractogram = nib.streamlines.Tractogram(lines, affine_to_rasmm=np.eye(4))
    header = {"voxel_to_rasmm": affine, "dimensions": (20, 20, 20), "voxel_sizes": (2, 1.5, 1), "voxel_order": "RAS"}
    nib.streamlines.save(tractogram, str(path), header=header if path.suffix == ".trk" else None)
    return path


@pytest.mark.parametrize("suffix", [".tck", ".trk"])
@pytest.mark.parametrize("rows", [4, 64, 1 << 16])
def test_points_are_those_nibabel_wrote(
    suffix: str, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tck, "_ROWS", rows)
    monkeypatch.setattr(trk, "_POINTS", rows)
    lines = curves()
    path = save(tmp_path / f"t{suffix}", lines)
    found = read_streamlines(path)
    assert found.n_streamlines == len(lines)
    for line, first, n in zip(lines, found.first, found.n_points, strict=True):
        np.testing.assert_allclose(found.points[first : first + n], line, atol=1e-4)
    ends = reduce_streamlines(read_blocks(path), lengths=True)
    np.testing.assert_allclose(ends.head, [line[0] for line in lines], atol=1e-4)
    np.testing.assert_allclose(ends.tail, [line[-1] for line in lines], atol=1e-4)
    lengths = [np.linalg.norm(np.diff(line, axis=0), axis=1).sum() for line in lines]
    np.testing.assert_allclose(ends.lengths, lengths, rtol=1e-4)


def test_what_is_written_reads_back_here_and_in_nibabel(tmp_path: Path) -> None:
    lines = curves(1)
    path = write_tck(tmp_path / "t.tck", lines)
    again = nib.streamlines.load(path).streamlines
    assert all(np.array_equal(a, b) for a, b in zip(lines, again, strict=True))
    assert write_tck(tmp_path / "u.tck", lines).read_bytes() == path.read_bytes()
    assert read_streamlines(write_tck(tmp_path / "none.tck", [])).n_streamlines == 0


def test_empty_streamlines_and_big_endian_are_read(tmp_path: Path) -> None:
    rows = np.array([[np.nan] * 3, [1, 2, 3], [4, 5, 6], [np.nan] * 3, [np.inf] * 3], dtype=">f4")
    head = b"mrtrix tracks\ndatatype: Float32BE\nfile: . 67\nEND\n"
    path = tmp_path / "t.tck"
    path.write_bytes(head.ljust(67, b" ") + rows.tobytes())
    found = read_streamlines(path)
    assert found.n_points.tolist() == [0, 2]
    np.testing.assert_array_equal(found.ends()[1], [[np.nan] * 3, [4, 5, 6]])


def test_damaged_tractograms_are_refused(tmp_path: Path) -> None:
    good = write_tck(tmp_path / "t.tck", curves()).read_bytes()
    bad = tmp_path / "bad.tck"
    for data in (
        good[: len(good) // 2],
        good[:-12],
        good.replace(b"count: 40", b"count: 41"),
        good.replace(b"Float32LE", b"Float99LE"),
        good.replace(b"mrtrix tracks", b"mrtrix images"),
        good.replace(b"file: . ", b"file: x "),
        b"",
    ):
        bad.write_bytes(data)
        with pytest.raises(DataError):
            read_streamlines(bad)
    for axis in (0, 1, 2):
        lines = curves()
        lines[3][2, axis] = np.nan
        write_tck(bad, lines)
        with pytest.raises(DataError, match=r"bad\.tck"):
            read_streamlines(bad)
    for suffix in (".trk", ".trx"):
        (tmp_path / f"bad{suffix}").write_bytes(b"nothing of the kind")
        with pytest.raises(DataError):
            read_streamlines(tmp_path / f"bad{suffix}")
    with pytest.raises(MissingInputError):
        read_streamlines(tmp_path / "absent.tck")
    (tmp_path / "folder.tck").mkdir()
    with pytest.raises(MissingInputError, match="is a folder"):
        read_streamlines(tmp_path / "folder.tck")
    (tmp_path / "t.vtk").write_bytes(b"")
    with pytest.raises(UsageError):
        read_streamlines(tmp_path / "t.vtk")


def test_the_mean_along_a_streamline_is_exact_for_a_linear_image() -> None:
    grid = np.stack(np.meshgrid(*(np.arange(12.0),) * 3, indexing="ij"))
    image = Volume(grid[0] * 2 + grid[1] - grid[2], np.eye(4))
    lines = [np.linspace((1, 1, 1), (9, 5, 3), 30), np.array([(2.0, 2, 2), (4, 2, 2), (5, 2, 2)]), np.full((1, 3), 3.0)]
    means = mean_along(from_list(lines), image)
    assert means[0] == pytest.approx(2 * 5 + 3 - 2, abs=1e-5)
    assert means[1] == pytest.approx(2 * (2 * 1 + 4 * 1.5 + 5 * 0.5) / 3, abs=1e-5)  # by length, as MRtrix does
    assert np.isnan(means[2])


def test_points_without_a_value_have_no_part_in_the_mean() -> None:
    data = np.ones((10, 10, 10))
    data[:5] = np.nan
    line = np.linspace((1, 5, 5), (20, 5, 5), 60)
    assert mean_along(from_list([line]), Volume(data, np.eye(4)))[0] == pytest.approx(1.0)
    outside = from_list([line + 100])
    assert np.isnan(mean_along(outside, Volume(data, np.eye(4)))[0])


def test_the_precise_mean_counts_each_voxel_by_the_length_within_it() -> None:
    image = Volume(np.arange(10.0)[:, None, None] * np.ones((10, 4, 4)), np.diag([2.0, 2, 2, 1]))
    straight = np.array([(1.5, 2, 2), (7.5, 2, 2)])  # 1.5 mm in voxel 1, 2 in 2, 2 in 3, 0.5 in 4
    bent = np.array([(2.0, 2, 2), (2.0, 4, 2), (4.0, 4, 2)])  # 2 + 1 mm in voxel 1, 1 in voxel 2
    still, leaving = np.full((2, 3), 3.0), np.array([(17.0, 2, 2), (30.0, 2, 2)])  # 2 mm inside, in voxel 9
    means = precise_mean_along(from_list([straight, bent, np.full((1, 3), 2.0), still, leaving, straight + 99]), image)
    expected = [(1.5 + 4 + 6 + 2) / 6, 1.25, np.nan, np.nan, 9.0, np.nan]
    np.testing.assert_allclose(means, expected, atol=1e-6)


def test_the_precise_mean_is_the_limit_of_finely_cut_streamlines_and_skips_what_is_no_number() -> None:
    rng = np.random.default_rng(1)
    data = rng.random((9, 9, 9))
    data[4] = np.nan
    affine = np.array([[1.1, 0.2, 0, -1], [-0.3, 1.3, 0, -1], [0, 0.1, 0.9, -1], [0, 0, 0, 1]])
    lines = [rng.uniform(-1, 8, (k, 3)) for k in (2, 5, 9)]
    found = precise_mean_along(from_list(lines), Volume(data, affine))
    for line, mean in zip(lines, found, strict=True):
        t = (np.arange(20_000) + 0.5) / 20_000
        points = np.concatenate([a + t[:, None] * (b - a) for a, b in pairwise(line)])
        share = np.repeat(np.linalg.norm(np.diff(line, axis=0), axis=1), len(t))
        voxel = np.floor((points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T + 0.5).astype(int)
        inside = ((voxel >= 0) & (voxel < 9)).all(axis=1)
        values, share = data[tuple(voxel[inside].T)], share[inside]
        known = np.isfinite(values)
        assert mean == pytest.approx(np.average(values[known], weights=share[known]), abs=1e-3)


@pytest.mark.mrtrix
def test_precise_means_are_those_of_tcksample_on_smooth_streamlines(tmp_path: Path) -> None:
    import shutil
    import subprocess

    if shutil.which("tcksample") is None:
        pytest.skip("MRtrix3 is not installed")
    rng = np.random.default_rng(3)
    affine = np.diag([2.0, 1.5, 2.5, 1.0])
    path = write_volume(tmp_path / "s.nii", rng.random((18, 19, 12)).astype(np.float32), affine)
    t = np.linspace(0, 1, 60)[:, None]
    ends = rng.uniform(2, 24, (40, 2, 3))
    lines = [(1 - t) * a + t * b + 2 * np.sin(3 * t) for a, b in ends]
    tracks = write_tck(tmp_path / "t.tck", lines)
    out = tmp_path / "m.txt"
    subprocess.run(["tcksample", "-quiet", "-precise", tracks, path, out, "-stat_tck", "mean"], check=True)
    image = {"s": read_volume(path)}
    found, plain = (
        reduce_streamlines(read_blocks(tracks), images=image, precise=precise).means["s"] for precise in (True, False)
    )
    reference = np.loadtxt(out)
    assert np.abs(found - reference).max() < 0.005  # MRtrix3 resamples segments by Hermite splines before it cuts them
    assert np.abs(plain - reference).max() > 0.01


@pytest.mark.mrtrix
def test_means_are_those_of_tcksample(tmp_path: Path) -> None:
    import shutil
    import subprocess

    if shutil.which("tcksample") is None:
        pytest.skip("MRtrix3 is not installed")
    rng = np.random.default_rng(3)
    affine = np.diag([2.0, 1.5, 2.5, 1.0])
    path = write_volume(tmp_path / "s.nii", rng.random((8, 9, 10)).astype(np.float32), affine)
    lines = [rng.uniform(0, 1, (k, 3)) * [14, 12, 22] for k in rng.integers(2, 9, 100)]
    tracks = write_tck(tmp_path / "t.tck", lines)
    out = tmp_path / "m.txt"
    subprocess.run(["tcksample", "-quiet", tracks, path, out, "-stat_tck", "mean"], check=True)
    found = reduce_streamlines(read_blocks(tracks), images={"s": read_volume(path)}).means["s"]
    np.testing.assert_allclose(found, np.loadtxt(out), atol=1e-5)


@pytest.fixture
def trx_file(tmp_path: Path) -> Path:
    trx = pytest.importorskip("trx.trx_file_memmap")
    tractogram = nib.streamlines.Tractogram(curves(2), affine_to_rasmm=np.eye(4))
    reference = nib.Nifti1Image(np.zeros((20, 20, 20), dtype=np.uint8), np.eye(4))
    file = trx.TrxFile.from_tractogram(tractogram, reference)
    trx.save(file, str(tmp_path / "t.trx"))
    file.close()
    return tmp_path / "t.trx"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # trx-python removes its folder twice
def test_trx_gives_the_points_that_were_put_in(trx_file: Path) -> None:
    lines = curves(2)
    found = read_streamlines(trx_file)
    assert found.n_points.tolist() == [len(line) for line in lines]
    np.testing.assert_allclose(found.points, np.concatenate(lines), atol=1e-2)  # TRX may contain float16


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_trx_whose_parts_disagree_is_refused(trx_file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(trx_file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    offsets = next(name for name in parts if name.startswith("offsets"))
    kind = "<u8" if "64" in offsets else "<u4"
    positions = next(name for name in parts if name.startswith("positions"))
    header = json.loads(parts["header.json"])

    def with_header(**change: object) -> dict[str, bytes]:
        return parts | {"header.json": json.dumps(header | change).encode()}

    def with_offsets(change: Callable[[np.ndarray], np.ndarray]) -> dict[str, bytes]:
        return parts | {offsets: change(np.frombuffer(parts[offsets], kind).copy()).astype(kind).tobytes()}

    for wrong in (
        with_header(NB_STREAMLINES=header["NB_STREAMLINES"] - 2),
        with_header(NB_VERTICES=header["NB_VERTICES"] - 3),
        with_header(NB_VERTICES=None),
        with_offsets(lambda found: found[:-5]),
        with_offsets(lambda found: found[::-1]),
        with_offsets(lambda found: found + 1),
        parts | {positions: parts[positions][:-6]},
        {name: data for name, data in parts.items() if name != positions},
    ):
        with zipfile.ZipFile(tmp_path / "wrong.trx", "w") as archive:
            for name, data in wrong.items():
                archive.writestr(name, data)
        with pytest.raises(DataError, match=r"wrong\.trx"):
            read_streamlines(tmp_path / "wrong.trx")


def changed_trk(path: Path, field: str, value: object) -> Path:
    header = np.frombuffer(path.read_bytes()[:1000], nib.streamlines.trk.header_2_dtype).copy()
    header[field] = value
    changed = path.with_name("changed.trk")
    changed.write_bytes(header.tobytes() + path.read_bytes()[1000:])
    return changed


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("voxel_to_rasmm", 0.0, "no affine"),
        ("version", 1, "no affine"),
        ("voxel_to_rasmm", np.nan, "affine"),
        ("voxel_order", b"", "order of the axes"),
        ("voxel_order", b"LLS", "order of the axes"),
        ("voxel_sizes", (1, 1, 1), "contradictory voxel sizes"),
        ("voxel_sizes", 0.0, "contradictory voxel sizes"),
        ("nb_streamlines", 39, "differs from the header"),
        ("nb_streamlines", 41, "differs from the header"),
        ("nb_scalars_per_point", 1, "ends within|differs from|not a finite"),
        ("nb_properties_per_streamline", -1, "negative number of streamlines"),
        ("hdr_size", 999, "damaged"),
    ],
)
def test_a_trk_header_that_lacks_or_contradicts_something_is_refused(
    field: str, value: object, message: str, tmp_path: Path
) -> None:
    path = changed_trk(save(tmp_path / "t.trk", curves()), field, value)
    with pytest.raises(DataError, match=rf"changed\.trk.*({message})"):
        read_streamlines(path)


def test_a_trk_cut_between_streamlines_is_refused_and_a_count_of_zero_means_unknown(tmp_path: Path) -> None:
    lines = curves()
    path = save(tmp_path / "t.trk", lines)
    whole = path.read_bytes()
    kept = 1000 + sum(4 + 12 * len(line) for line in lines[:25])
    (tmp_path / "cut.trk").write_bytes(whole[:kept])
    with pytest.raises(DataError, match="expected 40; got 25"):
        read_streamlines(tmp_path / "cut.trk")
    assert read_streamlines(path).notes == ()
    uncounted = read_streamlines(changed_trk(path, "nb_streamlines", 0))
    assert uncounted.n_streamlines == 40
    assert "states no number of streamlines" in uncounted.notes[0]


@pytest.mark.parametrize("order", ["LPS", "RAS", "PSR"])
def test_points_of_a_trk_of_any_order_of_axes_are_nibabels(order: str, tmp_path: Path) -> None:
    path = changed_trk(save(tmp_path / "t.trk", curves()), "voxel_order", order.encode())
    expected = np.concatenate(list(nib.streamlines.load(path).streamlines))
    np.testing.assert_allclose(read_streamlines(path).points, expected, atol=1e-3)


def test_a_tck_with_more_streamlines_than_it_counts_is_read_whole_with_a_note(tmp_path: Path) -> None:
    """A stopped tckgen leaves whole streamlines, an end mark and an old count; MRtrix3 reads them all."""
    path = write_tck(tmp_path / "t.tck", curves())
    path.write_bytes(path.read_bytes().replace(b"count: 40", b"count: 35"))
    found = read_streamlines(path)
    assert found.n_streamlines == 40
    assert "counts 35" in found.notes[0]
    assert reduce_streamlines(read_blocks(path)).notes == found.notes


def test_a_tck_whose_points_begin_elsewhere_or_that_goes_on_is_refused(tmp_path: Path) -> None:
    good = write_tck(tmp_path / "t.tck", curves()).read_bytes()
    offset = good.index(b"END\n") + 4
    said = f"file: . {offset:06d}".encode()
    for data in (
        good.replace(said, f"file: . {offset + 12:06d}".encode()),
        good.replace(said, f"file: . {offset - 12:06d}".encode()),
        good + good[offset:],
    ):
        (tmp_path / "bad.tck").write_bytes(data)
        with pytest.raises(DataError, match=r"bad\.tck"):
            read_streamlines(tmp_path / "bad.tck")


def test_what_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (tck, trk, trx):
        monkeypatch.setattr(module, "MAX_POINTS", 25)
    monkeypatch.setattr(tck, "_ROWS", 4)
    lines = [np.zeros((60, 3), np.float32), *curves(n=5)]
    for suffix in (".tck", ".trk"):
        with pytest.raises(DataError, match="too long"):
            read_streamlines(save(tmp_path / f"t{suffix}", lines))
    n = 3_000_000
    header = {"NB_STREAMLINES": 1, "NB_VERTICES": n}
    with zipfile.ZipFile(tmp_path / "bomb.trx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps(header))
        archive.writestr("positions.3.float16", bytes(6 * n))
        archive.writestr("offsets.uint64", np.array([0, n], "<u8").tobytes())
    for limit, message in ((25, "too long"), (n, "too large when unpacked")):
        monkeypatch.setattr(trx, "MAX_POINTS", limit)
        with pytest.raises(DataError, match=message):
            read_streamlines(tmp_path / "bomb.trx")
