"""A group response is MRtrix3's mean of its subjects' responses, and a second run uses it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from connectome_tl.cli import main
from connectome_tl.errors import DataError, MissingInputError, OutputError
from connectome_tl.imaging.track.group_response import mean_response
from connectome_tl.imaging.track.reconstruction import Response, response_from_record
from connectome_tl.workflows.scans.group_response import write_group_response


def responses(n: int, *, fluid: bool = True) -> dict[str, Response]:
    """Scanners with very different gains, and subjects with small differences."""
    rng = np.random.default_rng(0)
    fibre = np.array([[1000.0, 0, 0], [700, -200, 40], [400, -250, 90]])
    made = {}
    for k in range(n):
        gain, own = 10 ** rng.uniform(-1, 1), rng.normal(1, 0.05, (3, 1))
        drop = gain * np.array([1200.0, 300, 20]) * own[:, 0] if fluid else None
        made[f"sub-{k + 1:02d}"] = Response(np.array([0.0, 1000, 2600]), gain * fibre * own, drop)
    return made


@pytest.mark.mrtrix
@pytest.mark.parametrize("part", ["fibre", "fluid"])
def test_the_mean_is_responsemeans(part: str, tmp_path: Path) -> None:
    if shutil.which("responsemean") is None:
        pytest.skip("MRtrix3 is not installed")
    made = responses(5)
    files = []
    for scan, own in made.items():
        rows = getattr(own, part)
        files.append(tmp_path / f"{scan}.txt")
        np.savetxt(files[-1], rows if rows.ndim == 2 else rows[:, None], fmt="%.17g")
    subprocess.run(["responsemean", *files, tmp_path / "mean.txt", "-quiet"], check=True)
    expected = np.loadtxt(tmp_path / "mean.txt")
    np.testing.assert_allclose(getattr(mean_response(made), part), expected, rtol=1e-12)


def test_a_scanners_gain_has_no_say_in_the_shape() -> None:
    made = responses(3, fluid=False)
    first = next(iter(made.values()))
    louder = {**made, "sub-01": Response(first.bvals, first.fibre * 1000, None)}
    shapes = [mean_response(group).fibre for group in (made, louder)]
    np.testing.assert_allclose(*(shape / shape[0, 0] for shape in shapes), rtol=1e-12)


def test_responses_of_other_kinds_are_named() -> None:
    made = responses(3)
    made["sub-02"] = Response(np.array([0.0, 1000, 3000]), made["sub-02"].fibre, made["sub-02"].fluid)
    made["sub-03"] = Response(made["sub-03"].bvals, made["sub-03"].fibre, None)
    with pytest.raises(DataError, match=r"sub-02[\s\S]*3000[\s\S]*sub-03[\s\S]*1 tissue"):
        mean_response(made)


def finished(out: Path, made: dict[str, Response], of: str = "this subject") -> None:
    """Files of `connectomes` for scans that concern their responses."""
    for scan, own in made.items():
        folder = out / scan / "dwi"
        folder.mkdir(parents=True, exist_ok=True)
        for measure in ("count", "FA"):
            record = {"Response": own.as_record() | {"of": of}}
            (folder / f"{scan}_atlas-x_meas-{measure}_relmat.json").write_text(json.dumps(record))
        (folder / f"{scan}_provenance.json").write_text("{}")


def test_the_group_level_writes_what_response_file_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = responses(4)
    finished(tmp_path, made)
    (tmp_path / "sub-04" / "dwi" / "sub-04_provenance.json").unlink()  # it failed later
    with pytest.raises(SystemExit) as left:
        main(["connectomes", "bids", str(tmp_path), "group"])
    assert left.value.code == 0
    assert "the mean of 3 scans" in capsys.readouterr().out
    record = json.loads((tmp_path / "group_response.json").read_text())
    assert record["Scans"] == ["sub-01", "sub-02", "sub-03"]
    some = {scan: made[scan] for scan in ("sub-01", "sub-03")}
    file, n = write_group_response(tmp_path, participants=["01", "sub-03"])
    assert n == 2
    np.testing.assert_allclose(response_from_record(json.loads(file.read_text())).fibre, mean_response(some).fibre)


def test_there_is_no_mean_of_nothing_nor_of_a_mean(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no finished scan"):
        write_group_response(tmp_path)
    finished(tmp_path, responses(2))
    with pytest.raises(MissingInputError, match="sub-09"):
        write_group_response(tmp_path, participants=["01", "09"])
    finished(tmp_path, responses(2), of="declared group")
    with pytest.raises(DataError, match="was made with a group response"):
        write_group_response(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {"fibre": None},
        {"bvals": "1000"},
        {"fluid": [1.0]},
        {"bvals": [[0.0, 1000.0]]},
        {"fibre": [["a"]]},
        {"fibre": [[float("nan")] * 3, [1.0, 2.0, 3.0]], "bvals": [0.0, 1000.0], "fluid": None},
    ],
)
def test_a_file_that_is_no_response_is_refused_by_name(damage: dict[str, object]) -> None:
    record = next(iter(responses(1).values())).as_record() | damage
    with pytest.raises(DataError, match=r"file group_response\.json: not a response function"):
        response_from_record(record, "group_response.json")
    for other in ([], "text", None, {}):
        with pytest.raises(DataError, match="not a response function"):
            response_from_record(other)


def test_sidecars_without_a_response_are_named(tmp_path: Path) -> None:
    finished(tmp_path, responses(2))
    broken = tmp_path / "sub-02" / "dwi" / "sub-02_atlas-x_meas-FA_relmat.json"
    for text, message in (("[1]", "JSON object"), ("{}", "lacks Response")):
        broken.write_text(text)
        with pytest.raises(OutputError, match=message):
            write_group_response(tmp_path)
