"""A run whose fits repeat up to rounding, as on a GPU, passes its audit; without that device, fits must be equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from voxel_study import write_study

from connectome_tl.training.networks import ensemble, loop, setting
from connectome_tl.workflows.study.audit import audit_run
from connectome_tl.workflows.study.run import run_study


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are trained on the CPU in place of a GPU, and have other rounding errors in every fit."""
    unseeded = np.random.default_rng()

    def train(model: Any, *given: Any, **more: Any) -> np.ndarray:
        curve = loop.train(model, *given, **more)
        for parameter in model.parameters():
            parameter.data *= 1 + 1e-6 * float(unseeded.normal())
        return curve * (1 + 1e-7 * unseeded.normal(size=curve.shape))

    monkeypatch.setattr("connectome_tl.training.networks.volumes.device_of", lambda asked: asked)
    monkeypatch.setattr(setting, "device_of", lambda _: "cpu")
    for module in (setting, ensemble):
        monkeypatch.setattr(module, "train", train)


def test_rounding_is_no_leak_and_no_edit(rounding: None, tmp_path: Path) -> None:
    file = write_study(tmp_path, without=(3, 8), device="cuda", controls=[], baselines=["prevalence"])
    run = run_study(file, tmp_path / "run")
    found = audit_run(run.folder)
    assert [one.what for one in found.findings if one.status == "failed"] == []
    said = {one.check: one.what for one in found.findings}
    assert said["poisoned test fold"] == "corrupting the test rows changes no fit beyond the rounding of a GPU"
