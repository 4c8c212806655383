"""Age to template: units matter, age limits are those of TemplateFlow's descriptions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from connectome_tl.cli import main
from connectome_tl.errors import DataError, MissingInputError, OutputError
from connectome_tl.imaging.register.templates import Template, fetch_template, find_template, template_for_age


@pytest.mark.parametrize(
    ("age", "unit", "reference", "name", "cohort", "contrast"),
    [
        (35.6, "weeks", "postmenstrual", "dhcpVol", "36", "T2w"),
        (40.4, "weeks", "postmenstrual", "dhcpVol", "40", "T2w"),
        (38.5, "weeks", "postmenstrual", "dhcpVol", "39", "T2w"),
        (44.4, "weeks", "postmenstrual", "dhcpVol", "44", "T2w"),
        (3, "days", "birth", "dhcpVol", "40", "T2w"),
        (44.6, "weeks", "postmenstrual", "MNIInfant", "1", "T2w"),
        (2.5, "months", "birth", "MNIInfant", "2", "T2w"),
        (3.5, "months", "birth", "MNIInfant", "2", "T1w"),
        (42, "weeks", "birth", "MNIInfant", "4", "T1w"),  # nine months, not term
        (2, "years", "birth", "MNIInfant", "8", "T1w"),
        (59.9, "months", "birth", "MNIInfant", "11", "T1w"),
        (60, "months", "birth", "MNIPediatricAsym", "1", "T1w"),
        (25, "years", "birth", "MNI152NLin2009cAsym", None, "T1w"),
    ],
)
def test_an_age_finds_its_template(
    age: float, unit: str, reference: str, name: str, cohort: str | None, contrast: str
) -> None:
    found = template_for_age(age, unit, reference)
    assert (found.name, found.cohort, found.contrast) == (name, cohort, contrast)


@pytest.mark.parametrize("age", [29.0, -3.0, float("nan"), 9e9])
def test_what_no_template_fits_is_refused(age: float) -> None:
    with pytest.raises(DataError, match="no template for this age"):
        template_for_age(age, "weeks", "postmenstrual")


def test_the_command_asks_for_the_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["fetch", "template", "--age", "42", "--unit", "w", "--reference", "birth", "--name-only"])
    assert left.value.code == 64
    with pytest.raises(SystemExit) as left:
        main(["fetch", "template", "--age", "42", "--unit", "weeks", "--reference", "postmenstrual", "--name-only"])
    assert left.value.code == 0
    assert "dhcpVol cohort 42, T2w" in capsys.readouterr().out


DHCP = "tpl-dhcpVol/cohort-40/tpl-dhcpVol_cohort-40"
STEMS = ("T2w", "desc-brain_mask", "desc-structures_dseg")
NEWBORN = Template("dhcpVol", "40", "T2w")


def cached(home: Path, *names: str) -> None:
    """Files as in the cache of TemplateFlow's client."""
    for name in names:
        file = home / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"content")


def client(monkeypatch: pytest.MonkeyPatch, home: Path, get: object) -> None:
    module = ModuleType("templateflow")
    module.api = SimpleNamespace(get=get)  # type: ignore[attr-defined]
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(home))
    monkeypatch.setitem(sys.modules, "templateflow", module)


def test_the_client_fetches_what_belongs_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []

    def get(name: str, **query: object) -> list[Path]:
        asked.append({"name": name, **query})
        parts = [f"desc-{query['desc']}"] if query["desc"] else []
        top = DHCP if "cohort" in query else "tpl-dhcpVol/tpl-dhcpVol"
        cached(tmp_path, "_".join([top, *parts, f"{query['suffix']}{query['extension']}"]))
        return []

    client(monkeypatch, tmp_path, get)
    found = fetch_template(NEWBORN, "desc-structures")
    images = [f"tpl-dhcpVol_cohort-40_{stem}.nii.gz" for stem in STEMS]
    assert [path.name for path in found] == [*images, "tpl-dhcpVol_desc-structures_dseg.tsv"]
    common = {"name": "dhcpVol", "cohort": "40", "extension": ".nii.gz"}
    assert asked[0] == {**common, "suffix": "T2w", "desc": None}
    assert asked[1] == {**common, "suffix": "mask", "desc": "brain"}
    assert asked[2] == {**common, "suffix": "dseg", "desc": "structures", "atlas": None, "segmentation": None}
    monkeypatch.setitem(sys.modules, "templateflow", None)
    with pytest.raises(MissingInputError, match="client"):
        fetch_template(NEWBORN)


def test_without_a_network_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(name: str, **query: object) -> list[Path]:
        raise RuntimeError("Failed to download")

    client(monkeypatch, tmp_path, get)
    with pytest.raises(OutputError, match="network"):
        fetch_template(NEWBORN)


def test_what_was_not_fetched_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    assert find_template(NEWBORN, "desc-structures") is None
    cached(tmp_path, *(f"{DHCP}_{stem}.nii.gz" for stem in STEMS))
    found = find_template(NEWBORN, "desc-structures")
    assert found is not None
    assert [found.image, found.mask, found.labels] == [tmp_path / f"{DHCP}_{stem}.nii.gz" for stem in STEMS]
    assert find_template(NEWBORN, "desc-tissues") is None
    assert find_template(Template("dhcpVol", "41", "T2w"), "desc-structures") is None
    mask = tmp_path / f"{DHCP}_desc-brain_mask.nii.gz"
    mask.write_bytes(b"")  # the client's stub
    assert find_template(NEWBORN, "desc-structures") is None
    mask.unlink()
    mask.symlink_to("nowhere")  # DataLad's
    assert find_template(NEWBORN, "desc-structures") is None


def test_files_of_one_resolution_are_taken_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    top, own = "tpl-MNI152NLin2009cAsym/tpl-MNI152NLin2009cAsym", "atlas-Schaefer2018_desc-400Parcels7Networks"
    stems = ("res-01_T1w", "res-01_desc-brain_T1w", "res-02_T1w", "res-01_desc-brain_mask", "res-02_desc-brain_mask")
    cached(tmp_path, *(f"{top}_{stem}.nii.gz" for stem in stems), f"{top}_res-02_{own}_dseg.nii.gz")
    cached(tmp_path, f"{top}_{own}_dseg.tsv")
    adult = Template("MNI152NLin2009cAsym", None, "T1w")
    for asked in (own, "desc-400Parcels7Networks_atlas-Schaefer2018"):  # in any order
        found = find_template(adult, asked)
        assert found is not None
        assert all("res-02" in str(path) for path in (found.image, found.mask, found.labels))
        assert found.table == tmp_path / f"{top}_{own}_dseg.tsv"
    without = find_template(adult)
    assert without is not None
    assert without.image.name.endswith("res-01_T1w.nii.gz")
