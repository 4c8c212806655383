"""Settings of scans that cannot work are refused at once, and methods sentences say what was done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from connectome_tl.imaging.preprocess.tissues import SEGMENTED
from connectome_tl.imaging.read.run_files import RunFiles
from connectome_tl.imaging.read.scan import Scan
from connectome_tl.settings.imaging import ConnectomesSettings, MorphometrySettings
from connectome_tl.workflows.scans.age import ScanAges
from connectome_tl.workflows.scans.cohort import origin_of
from connectome_tl.workflows.scans.forecast import cost_of_scan
from connectome_tl.workflows.scans.result import Plan, status_of
from connectome_tl.workflows.scans.scan import Done
from connectome_tl.workflows.scans.template import ChosenTemplate

SURFACES = {"white": "{subject}.w.gii", "pial": "{subject}.p.gii", "labels": "{subject}.l.gii"}
BY_AGE = {"age": {"column": "a", "unit": "weeks", "reference": "postmenstrual"}}


@pytest.mark.parametrize("file", ["{subj}/x.nii.gz", "a{/x", "{subject:>5}", "{}", "{subject.name}"])
def test_placeholders_of_files_are_those_of_scans(file: str) -> None:
    given: list[dict[str, Any]] = [
        {"parcellation": file},
        *({"surfaces": {"left": SURFACES | {part: file}}} for part in SURFACES),
        {"surfaces": {"left": SURFACES, "ribbon": file}},
        BY_AGE | {"template": {"by_age": "templateflow", "labels": file}},
    ]
    for settings in given:
        for kind in (ConnectomesSettings, MorphometrySettings):
            with pytest.raises(ValidationError, match=r"is not known here|an unclosed brace|no format after"):
                kind.model_validate(settings)


def test_files_with_known_placeholders_and_literal_braces_are_accepted() -> None:
    file = "{subject}/{session}/{{x}}.nii.gz"
    assert ConnectomesSettings.model_validate({"parcellation": file}).parcellation == file
    surfaces = ConnectomesSettings.model_validate(
        {"surfaces": {"left": SURFACES, "ribbon": "{subject}.nii.gz"}}
    ).surfaces
    assert surfaces is not None
    assert surfaces.ribbon == "{subject}.nii.gz"
    own = {"by_age": "templateflow", "labels": "{template}_{cohort}.nii.gz"}
    template = ConnectomesSettings.model_validate(BY_AGE | {"template": own}).template
    assert template is not None
    assert template.labels == own["labels"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tracking": {"seed": -1}}, "greater than or equal to 0"),
        ({"tracking": {"min_length_mm": 200}}, "min_length_mm is 200, max_length_mm 150"),
        ({"tracking": {"max_length_mm": 10}}, "min_length_mm is 10, max_length_mm 10"),
        ({"measures": ["FA", "FA"]}, "each measure once"),
        ({"registration": {"affine_steps": [-1, 5]}}, "greater than or equal to 0"),
    ],
)
def test_values_that_every_scan_would_fail_with_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ConnectomesSettings.model_validate(settings)


@pytest.mark.parametrize(
    "tracking", [{"algorithm": "deterministic"}, {"step_voxels": 1.0}, {"max_angle_deg": 45}, {"seed_amplitude": 0.1}]
)
def test_settings_that_mrtrix3_does_not_take_are_refused_with_it(tracking: dict[str, Any]) -> None:
    ConnectomesSettings.model_validate({"tracking": tracking})
    with pytest.raises(ValidationError, match=f"tracking.{next(iter(tracking))} is for engine: dipy"):
        ConnectomesSettings.model_validate({"engine": "mrtrix3", "tracking": tracking})


def said_of(settings: dict[str, Any], *warnings: str, raw: int = 2) -> str:
    """The methods sentence on two scans, of which `raw` are raw."""
    given = ConnectomesSettings.model_validate(settings)
    plan = Plan(given, None, "labels", {}, ScanAges(), Path())
    stamps = [(status_of(False, given),) if k < raw else () for k in range(2)]
    return origin_of(plan, [Done(f"sub-{k}", "computed", {}, (*stamp, *warnings)) for k, stamp in enumerate(stamps)])


def test_the_methods_sentence_says_what_was_corrected() -> None:
    def hook(*corrects: str) -> dict[str, Any]:
        return {"hooks": {"distortion": {"command": ["x"], "corrects": corrects}}}

    assert "from preprocessed diffusion MRI" in said_of({}, SEGMENTED, raw=0)
    assert "corrected" not in said_of({}, SEGMENTED, raw=0)
    assert "from partly raw (1 of 2) diffusion" in said_of({}, raw=1)
    raw = "from raw diffusion MRI"
    plain = "susceptibility, eddy currents and motion{} were not corrected)"
    assert raw in said_of({})
    assert plain.format(" within volumes") in said_of({})
    assert plain.format("") in said_of({"preprocessing": {"motion": "none"}})
    assert "; eddy currents and motion within volumes were not corrected)" in said_of(hook("susceptibility"))
    both = said_of(hook("susceptibility", "eddy"))
    assert raw in both
    assert "; corrected by hooks.distortion: susceptibility and eddy currents)" in both
    unmoved = {"preprocessing": {"motion": "none"}}
    assert "; motion was not corrected)" in said_of(hook("susceptibility", "eddy") | unmoved)
    every = said_of(hook("susceptibility", "eddy", "motion") | unmoved)
    assert "; corrected by hooks.distortion: susceptibility, eddy currents and motion)" in every


def test_time_and_memory_of_a_scan_follow_the_values_of_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectome_tl.workflows.scans.forecast._shape", lambda _: (100, 100, 50, 80))
    scan = Scan("sub-01", None, dwi=Path("a.nii"), further=(RunFiles(Path("b.nii")),), parcellation=Path("x.nii"))
    n_voxels, size = 500_000, 500_000 * 160

    def cost(preprocessing: dict[str, str], *, preprocessed: bool = False, n_threads: int = 1) -> tuple[float, float]:
        settings = ConnectomesSettings.model_validate(
            {"preprocessing": preprocessing, "tracking": {"n_streamlines": 1000}}
        )
        plan = Plan(settings, None, "labels", {}, ScanAges(), Path(), n_threads=n_threads)
        seconds, held = cost_of_scan(plan, replace(scan, preprocessed=preprocessed))
        return seconds, held - 300e6

    nothing = {"denoise": "none", "motion": "none"}
    assert cost(nothing) == pytest.approx((1.5e-6 * size + 5.4, 24 * size + 350 * n_voxels + 3e6))
    assert cost({}, preprocessed=True) == cost(nothing)
    assert cost({})[0] == pytest.approx(9.5e-6 * size + 5.4)
    assert cost({})[1] == pytest.approx(28 * size + 155 * n_voxels)
    assert cost({}, n_threads=2)[1] == pytest.approx(28 * size + 285 * n_voxels)


@pytest.mark.parametrize("installed", [True, False])
def test_the_time_of_a_registration_is_that_of_its_engine(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectome_tl.workflows.scans.forecast.ants_is_installed", lambda: installed)
    template = ChosenTemplate("t", Path("t_T2w.nii"), Path("t_dseg.nii"), None, "T2w", "declared for all scans")

    def seconds(engine: str, image: str, metric: str = "auto") -> float:
        settings = ConnectomesSettings.model_validate({"registration": {"engine": engine, "ants_metric": metric}})
        plan = Plan(settings, None, "labels", {"sub-01": template}, ScanAges(), Path())
        return cost_of_scan(plan, Scan("sub-01", None, anatomical=Path(f"sub-01_{image}.nii")))[0]

    ants, own = seconds("ants", "T2w"), seconds("dipy", "T2w")
    assert seconds("ants", "T1w") < ants < own
    assert (seconds("ants", "T2w", "local"), seconds("ants", "T2w", "mutual")) == (ants, seconds("ants", "T1w"))
    assert seconds("auto", "T2w") == (ants if installed else own)
    assert seconds("auto", "T1w") == own
