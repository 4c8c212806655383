"""One fit by two processes (gloo) equals that of one process up to rounding; killed fits end the same."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from optional import needs

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.nested_cv import plan_folds, tasks_of
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.networks.parallel import fabric_of
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import StudyCohorts

pytestmark = needs("lightning_fabric")


def settings(norm: str = "group") -> StudySettings:
    training = {"steps": 5, "batch_size": 5, "mixup": {"alpha": 0.5}, "learning_rate": 0.01}
    return StudySettings.model_validate(
        {
            "target": {"cohort": "target"},
            "model": {"encoder": {"kind": "resnet", "width": 0.0625, "stem_stride": 1, "norm": norm}, "fused_width": 6},
            "image": {"size": 12, "voxel": 13.0, "augment": {"noise": 0.5}},
            "stages": {"finetune": {"training": training, "ensemble": {"networks": 2, "checkpoints": []}}},
            "splits": {"repeats": 1, "outer": 2},
        }
    )


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Fourteen subjects, one of them without an outcome: shares of a batch then count different rows."""
    folder = tmp_path_factory.mktemp("volumes")
    made = write_volumes(14, VolumeSettings(size=16), folder, name="target", seed=4)
    targets = made.targets.copy()
    targets.iloc[3] = np.nan
    return replace(made, targets=targets, status=made.status.mask(targets.isna(), "unknown"), volume_cache=str(folder))


def network_plan(cohort: Cohort, norm: str = "group", devices: int = 1) -> FitPlan:
    study = settings(norm).model_copy(update={"devices": devices})
    cohorts = StudyCohorts({"target": cohort})
    splits = make_split_plan(cohort, study.splits)
    planned = plan_folds(study, cohorts, splits, tasks_of(study, cohorts))
    return next(one for one in planned if one.model == "network").plans[0]


def fitted(cohort: Cohort, plan: FitPlan) -> FitResult:
    return fit([plan], {"target": cohort})[plan.key]


@pytest.fixture(scope="module")
def both(cohort: Cohort) -> FitResult:
    return fitted(cohort, network_plan(cohort, devices=2))


def test_two_processes_lose_and_learn_what_one_does(cohort: Cohort, both: FitResult) -> None:
    """Batches of seven or fewer rows, mixup, noise and a missing outcome included."""
    plan = network_plan(cohort)
    assert plan.devices == 1
    one = fitted(cohort, plan)
    np.testing.assert_allclose(both.curve, one.curve, rtol=1e-6)
    assert one.curve[0] != pytest.approx(one.curve[-1], rel=1e-3)  # training has an effect
    assert one.arrays.keys() == both.arrays.keys()
    for name, value in one.arrays.items():
        np.testing.assert_allclose(both.arrays[name], value, atol=2e-4, err_msg=name)
    for subject, value in one.predictions.items():
        np.testing.assert_allclose(both.predictions[subject], value, rtol=1e-3)


def test_a_job_of_slurm_starts_its_processes_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fabric would use the processes of a job, and warns if srun is installed and not used."""
    from lightning_fabric.plugins.environments import LightningEnvironment

    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\n")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for job in ({}, {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "study", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}):
        for name, value in job.items():
            monkeypatch.setenv(name, value)
        fabric = fabric_of("cpu", 2)
        assert isinstance(fabric._connector.cluster_environment, LightningEnvironment)
        assert fabric.world_size == 2


def test_batch_normalisation_is_another_fit(cohort: Cohort, capfd: pytest.CaptureFixture[str]) -> None:
    """Its statistics are those of each share, which is reported but not corrected."""
    one, two = (fitted(cohort, network_plan(cohort, "batch", devices)) for devices in (1, 2))
    assert np.isfinite(two.curve).all()
    assert abs(one.curve - two.curve).max() > 1e-4
    assert "".join(capfd.readouterr()) == ""  # the output of a command is not mixed


def test_a_port_in_use_disturbs_no_fit(cohort: Cohort, both: FitResult, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        monkeypatch.setenv("MASTER_PORT", port)
        assert fitted(cohort, network_plan(cohort, devices=2)).curve.tobytes() == both.curve.tobytes()
        assert os.environ["MASTER_PORT"] == port


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes under /proc")
def test_a_fit_that_was_killed_ends_as_one_that_was_not(cohort: Cohort, both: FitResult, tmp_path: Path) -> None:
    plan, store = network_plan(cohort, devices=2), FitStore(tmp_path / "models")
    worker = multiprocessing.get_context("fork").Process(
        target=fit, args=([plan], {"target": cohort}), kwargs={"store": store}
    )
    worker.start()
    assert worker.pid is not None
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    while len(children.read_text().split()) < 2:  # both processes of the fit are running
        time.sleep(0.01)
    time.sleep(0.2)
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    again = fit([plan], {"target": cohort}, store=store)[plan.key]
    assert again.curve.tobytes() == both.curve.tobytes()
    assert {n: v.tobytes() for n, v in again.arrays.items()} == {n: v.tobytes() for n, v in both.arrays.items()}
    assert {n: v.tobytes() for n, v in again.predictions.items()} == {
        n: v.tobytes() for n, v in both.predictions.items()
    }


def test_what_cannot_be_shared_is_refused(cohort: Cohort) -> None:
    plan = network_plan(cohort, devices=2)
    with pytest.raises(UsageError, match="devices: 1"):
        fit([plan], {"target": cohort}, hook=print)
    if torch.cuda.device_count() < 2:
        with pytest.raises(UsageError, match="fewer GPUs"):
            fitted(cohort, replace(plan, device="cuda"))
