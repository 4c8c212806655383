"""A model with the encoder and the modality of an extension as a bundle, which names the extension that it needs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectome_tl import extension_code
from connectome_tl.bundle import extensions
from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.release import Release
from connectome_tl.errors import DataError, MissingInputError
from connectome_tl.extension import load_extensions
from connectome_tl.features.steps import Features
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.study import SplitSettings
from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run
from tests.bundle.bundle_study import infants_elsewhere, run_of, study_cohorts

GUIDE = Path(__file__).parents[2] / "docs" / "howto" / "extend.md"
PARTS = ("encoder edge_quantiles", "encoder strength", "modality edge_quantiles")


@pytest.fixture(scope="module")
def module(forgotten: None, install: Callable[..., None]) -> Any:
    """The encoder and the modality of the guide in an installed package."""
    del forgotten
    text = GUIDE.read_text("utf-8")
    blocks = [
        re.findall(r"```python\n(.*?)```", part, re.DOTALL)[0] for part in (text, text.partition("## A modality")[2])
    ]
    install("guide_parts", "\n".join(blocks))
    load_extensions()
    return sys.modules["guide_parts"]


@pytest.fixture(scope="module")
def run(module: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    del module
    home = tmp_path_factory.mktemp("with_extension")
    model = {"encoder": {"kind": "strength", "width": 3}, "others": [{"kind": "edge_quantiles"}]}
    return run_of(
        home,
        model=ModelSettings.model_validate(model),
        splits=SplitSettings(repeats=1, outer=2, stratum="cognitive"),
    )


@pytest.fixture(scope="module")
def bundle(run: Path) -> Path:
    """The network, whatever its weight in the full model."""
    return bundle_run(run, run.parent / "bundle", BundleOptions(model="network"))  # compares it with the fits


def test_a_bundle_names_its_extensions_and_predicts(bundle: Path) -> None:
    facts = json.loads((bundle / "configs" / "metadata.json").read_text())["connectome_tl"]
    named = {one["part"]: (one["module"], one["package"], one["version"]) for one in facts["extensions"]}
    assert named == dict.fromkeys(PARTS, ("guide_parts", "guide_parts", "1.0"))
    assert "edge_quantiles of guide_parts 1.0" in (bundle / "docs" / "README.md").read_text().replace("\\", "")
    assert np.isfinite(open_bundle(bundle).predict(infants_elsewhere())).all()


def test_the_core_with_the_modality_of_an_extension_is_bundled(run: Path) -> None:
    bundle = bundle_run(run, run.parent / "core", BundleOptions(model="core"))
    facts = json.loads((bundle / "configs" / "metadata.json").read_text())["connectome_tl"]
    assert [one["part"] for one in facts["extensions"]] == ["modality edge_quantiles"]
    assert np.isfinite(open_bundle(bundle).predict(infants_elsewhere())).all()


def test_without_the_extension_one_message_says_what_is_missing(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extensions, "load_extensions", lambda: None)
    for part in PARTS[1:]:
        monkeypatch.delitem(extension_code._REGISTERED, part)
    with pytest.raises(MissingInputError, match="not installed") as told:
        open_bundle(bundle)
    assert told.value.exit_code == 66
    assert [problem.what for problem in told.value.problems] == [f"the {part} of guide_parts 1.0" for part in PARTS[1:]]


def test_another_version_that_computes_something_else_is_named(
    bundle: Path, module: Any, install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("guide_parts", "", version="2.0")
    applied = module.QuantileSteps.apply
    assert open_bundle(bundle)

    def apply(self: Any, cohort: Any, ids: Any) -> Any:
        found = applied(self, cohort, ids)
        return replace(found, rows={"values": found.rows["values"] * np.nan})

    monkeypatch.setattr(module.QuantileSteps, "apply", apply)
    with pytest.raises(DataError, match=r"guide_parts 1.0 is 2.0 here"):
        open_bundle(bundle)


@pytest.mark.parametrize("kept", ["method", "ids"])
def test_steps_of_an_extension_that_keep_ids_are_not_released(
    module: Any, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = study_cohorts().target
    steps = module.QuantileSteps(np.zeros(3), np.ones(3), cohort.ids)
    release = Release({"target": cohort})
    assert release.features(Features({"edge_quantiles": steps})).ids == ()
    if kept == "method":
        monkeypatch.delattr(module.QuantileSteps, "released")
    else:
        monkeypatch.setattr(module.QuantileSteps, "released", lambda self: self)
    with pytest.raises(DataError, match="released"):
        release.features(Features({"edge_quantiles": steps}))
