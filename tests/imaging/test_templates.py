"""Age to template: the unit decides, the borders are those of TemplateFlow's descriptions."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from connectome_tl.cli import main
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.imaging.templates import Template, fetch_template, template_for_age


@pytest.mark.parametrize(
    ("age", "unit", "reference", "name", "cohort", "contrast"),
    [
        (35.6, "weeks", "postmenstrual", "dhcpVol", "36", "T2w"),
        (40.4, "weeks", "postmenstrual", "dhcpVol", "40", "T2w"),
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


def test_the_client_fetches_and_is_only_asked_then(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict] = []
    client = ModuleType("templateflow")
    client.api = SimpleNamespace(  # type: ignore[attr-defined]
        get=lambda name, **query: (
            asked.append({"name": name, **query}) or [Path("/cache/res-2.nii.gz"), Path("/cache/res-1.nii.gz")]
        )
    )
    monkeypatch.setitem(sys.modules, "templateflow", client)
    assert fetch_template(Template("dhcpVol", "40", "T2w")) == Path("/cache/res-1.nii.gz")
    assert asked == [{"name": "dhcpVol", "cohort": "40", "suffix": "T2w", "desc": None, "extension": "nii.gz"}]
    monkeypatch.setitem(sys.modules, "templateflow", None)
    with pytest.raises(MissingInputError, match="client"):
        fetch_template(Template("dhcpVol", "40", "T2w"))
