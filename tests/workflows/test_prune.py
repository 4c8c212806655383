"""`connectome-tl prune` on a small finished image study."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file
from voxel_study import STUDY

from connectome_tl.cli import main
from connectome_tl.config import load_settings
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.images.study_pruning import pruned_network
from connectome_tl.evaluation.nested_cv import PlannedFold
from connectome_tl.imaging.read.images import write_volume
from connectome_tl.nn.batch import Batch, ImageRows
from connectome_tl.nn.heads import SoftLabelHead
from connectome_tl.nn.losses import Outcomes
from connectome_tl.nn.model import build_model
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.pruning import TaylorPruning
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.records.volume_pruning import VolumePruningRecord
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.tasks import Task
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.images.plain import (
    PlainNetwork,
    loss_between,
    network_of,
    plain_networks,
    rebuilt,
    training_loss,
)
from connectome_tl.training.objectives.supervised import Supervised
from connectome_tl.workflows.images.prune import prune_run
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.run import run_study

pytestmark = pytest.mark.usefixtures("without_figures")

BRIEF = TaylorPruning(
    target=0.3, per_event=0.3, between=Descent(steps=1, batch_size=4), after=Descent(steps=1, batch_size=4)
)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pruned")
    write_volume_cohort(16, VolumeSettings(size=16), folder / "target", name="target", seed=3)
    study = {key: value for key, value in STUDY.items() if key not in ("source", "pool")}
    study |= {"splits": {"repeats": 1, "outer": 2}, "controls": [], "baselines": ["prevalence"]}
    study["model"] = {"encoder": {"kind": "resnet", "width": 0.125, "stem_stride": 1}, "fused_width": 6}
    study["stages"] = {"finetune": STUDY["stages"]["finetune"]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    run_study(folder / "study.yaml", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def found(run_dir: Path) -> VolumePruningRecord:
    return prune_run(run_dir, settings=BRIEF)


def test_every_network_of_every_fold_becomes_cheaper_by_what_was_asked(found: VolumePruningRecord) -> None:
    assert [(one.fold, one.network) for one in found.networks] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for one in found.networks:
        # the target is of convolutions and dense layers; the printed cost includes norms
        assert one.macs[1] <= (1 - BRIEF.target) * one.macs[0] * 1.02
        assert one.parameters[1] < one.parameters[0]
        assert np.isfinite([one.loss, one.tuned_loss, one.pruned_loss]).all()
        assert sum(map(len, one.removed.values())) > 0
    assert found.low <= found.relative_loss <= found.high


def test_the_kept_weights_make_the_pruned_network_again(run_dir: Path, found: VolumePruningRecord) -> None:
    study = load_settings(run_dir / "study.yaml", StudySettings)
    target = read_cohorts(study, run_dir).target
    one = found.networks[0]
    sidecar = json.loads((run_dir / "pruning" / one.file).with_suffix(".json").read_text())
    model = network_of(stored_model(FitStore(run_dir / "models"), sidecar["Fit"]))
    network = plain_networks(model, "age")[0]
    small = rebuilt(network, one.removed, load_file(run_dir / "pruning" / one.file), torch.zeros(1, 1, 12, 12, 12))
    assert sum(p.numel() for p in small.parameters()) == one.parameters[1] < one.parameters[0]
    # The loss of the tested subjects equals the one in the record.
    rows = model.features.rows(target, tuple(i for i in target.ids if i not in model.features.ids))
    volumes = torch.from_numpy(rows.arrays["image"].shared["source"].read(range(len(rows.ids))))  # type: ignore[attr-defined]
    truth = target.targets.loc[list(rows.ids), "age"].to_numpy()
    with torch.no_grad():
        said = small(volumes)[:, 0].numpy()
    error = (said - (truth - model.targets.mean[0]) / model.targets.scale[0]) ** 2
    assert float(error.mean()) == pytest.approx(one.pruned_loss, rel=1e-4)


def test_a_plain_network_says_what_the_whole_one_says(run_dir: Path) -> None:
    store = FitStore(run_dir / "models")
    fits = [store.load(file.stem, state=True) for file in sorted(store.folder.glob("*.json"))]
    key = next(one.key for one in fits if one is not None and one.stage == "finetune")
    model = network_of(stored_model(store, key))
    volumes = torch.randn(2, 1, 12, 12, 12)
    whole = model.networks("age")[0]
    batch = Batch({"image": ImageRows(volume=volumes)}, {"image": torch.ones(2, dtype=torch.bool)})
    with torch.no_grad():
        torch.testing.assert_close(PlainNetwork(whole, "age").eval()(volumes), whole(batch))


def test_the_command_says_what_a_network_costs_and_loses(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from connectome_tl.workflows.images import prune

    real = prune.prune_run
    monkeypatch.setattr(prune, "prune_run", lambda run, **asked: real(run, **{**asked, "settings": BRIEF}))
    with pytest.raises(SystemExit) as left:
        main(["prune", str(run_dir), "--target", "0.3"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines() if line.startswith("fold")] == [
        "fold 1, network 1",
        "fold 1, network 2",
        "fold 2, network 1",
        "fold 2, network 2",
    ]
    assert "against the unpruned networks" in said
    assert f"Page: {run_dir / 'pruning' / 'pruning.html'}" in said
    page = (run_dir / "pruning" / "pruning.html").read_text("utf-8")
    assert all(file.name in page for file in (run_dir / "pruning").glob("*.safetensors"))
    with pytest.raises(SystemExit) as left:
        main(["prune", str(run_dir), "--target", "1.5"])
    assert left.value.code == 64


def test_a_head_of_distributions_is_tuned_by_its_own_loss() -> None:
    """Two distributions with one mean: equal squared errors, but different losses of the head."""
    settings = ModelSettings.model_validate(
        {
            "encoder": {"kind": "resnet", "width": 0.0625, "stem_stride": 1},
            "fused_width": 6,
            "regression": {"kind": "distribution", "bins": 5},
        }
    )
    torch.manual_seed(0)
    model = build_model(settings, {"image": {"n_channels": 1}}, {"age": 1}, ("age",))
    network = PlainNetwork(model, "age")
    head = network.head
    assert isinstance(head, SoftLabelHead)
    task = Task(name="age", kind="regression", column="age", unit="months")
    volumes, goal = torch.randn(3, 1, 8, 8, 8), torch.tensor([0.0, float("nan"), 0.0])
    found = []
    for logits in ([-9.0, 0.0, 9.0, 0.0, -9.0], [9.0, 0.0, -9.0, 0.0, 9.0]):
        torch.nn.init.zeros_(head.linear.weight)
        head.linear.bias.data = torch.tensor(logits)
        both = training_loss(network, volumes, goal, task), loss_between(network(volumes), goal, task)
        found.append([one.item() for one in both])
        # The network as trained in a study gives the same; a row without an outcome has no effect.
        batch = Batch({"image": ImageRows(volume=volumes)}, {"image": torch.ones(3, dtype=torch.bool)})
        terms = Supervised(Outcomes({"age": "regression"}, {"age": 1}))(
            model, {"train": batch}, {"train": goal[:, None]}
        )
        assert terms["outcomes"].item() == pytest.approx(found[-1][0], rel=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-6)
    assert found[1][0] > 2 * found[0][0]
    training_loss(network, volumes, goal, task).backward()
    assert head.linear.bias.grad is not None


@pytest.mark.parametrize("command", ["maps", "prune", "embed", "explain", "bundle"])
def test_an_image_that_has_changed_since_the_run_is_named_by_every_command(
    run_dir: Path, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sorted((run_dir.parent / "target").rglob("*.nii.gz"))[3]
    more = {"embed": [str(run_dir.parent / "target" / "cohort.yaml")]}.get(command, [])
    more += ["--out", str(tmp_path / "out")] if command in ("embed", "bundle") else []
    content = file.read_bytes()
    image = nib.load(file)
    write_volume(file, np.flip(np.asarray(image.dataobj), 2), image.affine)
    try:
        with pytest.raises(SystemExit) as left:
            main([command, str(run_dir), *more])
    finally:
        file.write_bytes(content)
    assert left.value.code == 65
    said = " ".join(capsys.readouterr().err.split())
    assert "cohorts have changed since the run: target; got another image of " in said
    assert file.name in said


def test_an_outcome_that_the_study_lacks_is_refused(run_dir: Path) -> None:
    with pytest.raises(UsageError, match="no outcome 'injury'"):
        prune_run(run_dir, task="injury")


@pytest.mark.slow
def test_a_call_that_is_killed_at_its_writes_resumes_to_the_same_files(run_dir: Path) -> None:
    """SIGKILL before the weights, the sidecar, weights beside a finished network, and the page."""
    out = run_dir / "pruning"
    prune_run(run_dir, settings=BRIEF)
    whole = {file.name: file.read_bytes() for file in out.iterdir()}
    shutil.rmtree(out)
    for writes, left in ((1, 0), (2, 1), (4, 1), (10, 4)):  # files replaced before the kill, weights afterwards
        child = os.fork()
        if child == 0:
            _kill_after(writes)
            prune_run(run_dir, settings=BRIEF)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert len(list(out.glob("*.safetensors"))) == left
    assert not (out / "pruning.html").exists()
    prune_run(run_dir, settings=BRIEF)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == whole


def _kill_after(writes: int) -> None:
    """Kill this process by SIGKILL at the next write after this number, with the temporary file there."""
    real, left = os.replace, iter(range(writes))

    def replace(*names: Path) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*names)

    os.replace = replace  # type: ignore[assignment]


@pytest.mark.slow
def test_an_interrupted_call_resumes_and_a_finished_one_prunes_nothing(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from connectome_tl.workflows.images import prune

    real, settings = pruned_network, BRIEF.model_copy(update={"momentum": 0.5})
    pruned: list[tuple[int, int]] = []
    resumed: list[bool] = []

    def counted(fold: PlannedFold, number: int, *rest: object, **more: object) -> object:
        if len(pruned) == 3 and not resumed:
            raise KeyboardInterrupt
        pruned.append((fold.fold_number, number))
        return real(fold, number, *rest, **more)  # type: ignore[arg-type]

    before = prune_run(run_dir, settings=BRIEF)
    monkeypatch.setattr(prune, "pruned_network", counted)
    with pytest.raises(KeyboardInterrupt):
        prune_run(run_dir, settings=settings)
    # The interrupted call leaves the earlier result as it is.
    written = VolumePruningRecord.model_validate_json((run_dir / "pruning" / "pruning.json").read_bytes())
    assert written.model_dump() == before.model_dump()
    assert all((run_dir / "pruning" / one.file).is_file() for one in before.networks)
    first = list(pruned)
    pruned.clear()
    resumed.append(True)
    found = prune_run(run_dir, settings=settings)
    assert first == [(0, 0), (0, 1), (1, 0)]
    assert pruned == [(1, 1)]
    files = {file.name: file.read_bytes() for file in (run_dir / "pruning").iterdir()}
    assert {one.file for one in found.networks} == {name for name in files if name.endswith(".safetensors")}
    pruned.clear()
    assert prune_run(run_dir, settings=settings) == found
    assert pruned == []
    assert {file.name: file.read_bytes() for file in (run_dir / "pruning").iterdir()} == files
    # Nothing but the log has measured times: the same call from the beginning writes the same files.
    assert all(one.seconds is not None for one in found.networks)
    assert set(json.loads((run_dir / "log" / "pruning_seconds.json").read_text())) == {
        one.file for one in found.networks
    }
    shutil.rmtree(run_dir / "pruning")
    (run_dir / "log" / "pruning_seconds.json").write_text("damaged")
    prune_run(run_dir, settings=settings)
    assert {file.name: file.read_bytes() for file in (run_dir / "pruning").iterdir()} == files
    pruned.clear()
    # A damaged file of weights is made again.
    (run_dir / "pruning" / found.networks[2].file).write_bytes(b"damaged")
    prune_run(run_dir, settings=settings)
    assert pruned == [(1, 0)]
    assert (run_dir / "pruning" / found.networks[2].file).read_bytes() == files[found.networks[2].file]
