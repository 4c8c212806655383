"""A run whose fits repeat up to rounding, as on a GPU: it passes its audit, and smaller edits and leaks are found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from voxel_study import write_study

from connectome_tl.audit import replay as audit_replay
from connectome_tl.audit.replay import Replay
from connectome_tl.audit.rounding import same_state
from connectome_tl.audit.stored import stored_finding
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.config import load_settings
from connectome_tl.evaluation.nested_cv import tasks_of
from connectome_tl.provenance import content_hash, file_hash, write_json
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checkpoint import FitResult, tensor_bytes
from connectome_tl.training.networks import ensemble, loop, setting
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.audit.stored_fits import StoredFits
from connectome_tl.workflows.images.grids import CACHE, with_grids
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.run import run_study

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture(scope="module")
def rounding() -> Iterator[None]:
    """Networks are trained on the CPU in place of a GPU, and have other rounding errors in every fit."""
    unlike = np.random.default_rng(0)  # other numbers in every fit

    def train(model: Any, *given: Any, **more: Any) -> np.ndarray:
        curve = loop.train(model, *given, **more)
        for parameter in model.parameters():
            parameter.data *= 1 + 1e-6 * float(unlike.normal())
        return curve * (1 + 1e-7 * unlike.normal(size=curve.shape))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connectome_tl.training.networks.volumes.device_of", lambda asked: asked)
        patch.setattr(setting, "device_of", lambda _: "cpu")
        for module in (setting, ensemble):
            patch.setattr(module, "train", train)
        yield


@pytest.fixture(scope="module")
def run(rounding: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    home = tmp_path_factory.mktemp("gpu")
    file = write_study(home, without=(3, 8), device="cuda", controls=[], baselines=["prevalence"])
    return run_study(file, home / "run").folder


@pytest.fixture(scope="module")
def replay(run: Path) -> Replay:
    """Its first fold, to be fitted again."""
    study = load_settings(run / "study.yaml", StudySettings)
    cohorts = with_grids(study, read_cohorts(study, run), run / CACHE)
    return Replay(study, cohorts, SplitPlan.load(run / "split_plan.json"), tasks_of(study, cohorts), 0, 0)


@pytest.fixture(scope="module")
def fits(replay: Replay) -> dict[str, FitResult]:
    """The fits of that fold, made again."""
    return audit_replay._fit(replay, replay.on_fold(replay.everything), replay.cohorts, None)


@pytest.mark.slow
def test_rounding_is_no_leak_and_no_edit(run: Path) -> None:
    found = audit_run(run)
    assert [one.what for one in found.findings if one.status == "failed"] == []
    said = {one.check: one for one in found.findings}
    assert said["poisoned test fold"].what == "corrupting the test rows changes no fit beyond the rounding of a GPU"
    assert said["networks fitted again (all folds)"].status == "passed"


def test_a_leak_into_one_small_array_is_found(
    replay: Replay, fits: dict[str, FitResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    planned, honest = replay.on_fold(replay.everything), audit_replay._fit
    assert audit_replay._poisoned(replay, planned, fits, None).status == "passed"

    def leaking(one: Replay, items: Any, cohorts: Any, progress: Any) -> dict[str, FitResult]:
        made = honest(one, items, cohorts, progress)
        if cohorts is not one.spoiled:
            return made
        return {key: _with_a_moved_array(fit) if fit.stage == "finetune" else fit for key, fit in made.items()}

    monkeypatch.setattr(audit_replay, "_fit", leaking)
    found = audit_replay._poisoned(replay, planned, fits, None)
    assert (found.status, found.what) == ("failed", "fitted numbers changed with the test rows: network")
    key = next(key for key, fit in fits.items() if fit.stage == "finetune")
    assert same_state(fits[key], _with_a_moved_array(fits[key]), exactly=False)  # 0.1 % of all weights together


def test_a_device_that_hardly_repeats_is_not_tested(
    replay: Replay, fits: dict[str, FitResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With limits as large as the weights, any leak would pass."""
    loud = {key: replace(fit, arrays={n: 1.05 * v for n, v in fit.arrays.items()}) for key, fit in fits.items()}
    monkeypatch.setitem(replay.__dict__, "twins", loud)
    found = audit_replay._poisoned(replay, replay.on_fold(replay.everything), fits, None)
    assert found.status == "skipped"
    assert "too much to recognise a leak" in found.what


def _with_a_moved_array(fit: FitResult) -> FitResult:
    """The fit, its smallest array moved by a thousandth of the size of all arrays."""
    sizes = {name: float(np.linalg.norm(value)) for name, value in fit.arrays.items() if name.startswith("state/")}
    name = min(sizes, key=lambda name: (fit.arrays[name].size, name))
    by = 1e-3 * np.sqrt(sum(size**2 for size in sizes.values()))
    return replace(fit, arrays={**fit.arrays, name: fit.arrays[name] + np.float32(by)})


def test_weights_of_stage_one_that_compute_something_else_are_found(run: Path, replay: Replay, fits: Any) -> None:
    store, apply = StoredFits(run / "models"), replay.applied(fits)
    assert stored_finding(fits, store, exactly=False, apply=apply).status == "passed"
    key = next(key for key, fit in fits.items() if fit.stage == "pretrain")
    record_file, file = run / "models" / f"{key}.json", run / "models" / f"{key}.safetensors"
    before = record_file.read_bytes(), file.read_bytes()
    arrays = load_file(file)
    file.write_bytes(tensor_bytes({n: v * np.float32(1.1) if "state/" in n else v for n, v in arrays.items()}))
    record = json.loads(before[0]) | {"tensors": file_hash(file)}
    record.pop("content")
    write_json(record_file, {**record, "content": content_hash(record)})
    found = stored_finding(fits, store, exactly=False, apply=apply)
    record_file.write_bytes(before[0]), file.write_bytes(before[1])
    assert found.status == "failed"
    assert f"{key[:12]} (pretrain): what it computes differs by up to" in found.what
