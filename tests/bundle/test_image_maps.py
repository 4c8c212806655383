"""Explanations of a study with volumes: the volumes are occluded as a modality, in cores, networks and mixtures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.explain import network_view, study
from connectome_tl.evaluation.explain.items import split_sets
from connectome_tl.evaluation.explain.network_view import NetworkView
from connectome_tl.evaluation.explain.study import items_of
from connectome_tl.evaluation.explain.targets import targets_of
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted_models import NetworkModel, stored_model, to_batch
from connectome_tl.training.images.predictor import VolumePredictor
from connectome_tl.workflows.images import maps as volume_maps
from connectome_tl.workflows.images.maps import map_volumes
from connectome_tl.workflows.study.explain import explain_run
from connectome_tl.workflows.study.explain_files import table_name
from tests.bundle.image_study import fused_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fused_run(tmp_path_factory.mktemp("maps"))[0]


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coarse integrated gradients: their sums are tested below with all steps."""
    monkeypatch.setattr(network_view, "STEPS", 4)


@pytest.mark.usefixtures("few_steps")
def test_maps_of_every_model_have_the_volumes_as_a_modality_and_in_cells(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (study, volume_maps):
        monkeypatch.setattr(module, "not_above_chance", lambda *_: "")
    found = explain_run(run, models=("full", "core", "network"), n_permutations=9, n_refitted=0)
    occlusions = {one.model: one for one in found.maps if one.method == "occlusion"}
    assert set(occlusions) == {"full", "core", "network"}
    for one in occlusions.values():
        values = {item.name: item.value for item in one.modalities}
        assert set(values) == {"edges", "clinical", "image"}
        assert values["image"] > 0
    assert {one.method for one in found.maps if one.regions} == {"pattern", "integrated gradients", "occlusion"}

    page = (run / "explanations" / "explanations.html").read_text("utf-8")
    for one in found.maps:
        assert [cell.name for cell in one.cells] == [cell.name for cell in found.cells]
        assert any(cell.value for cell in one.cells)
        assert {stable.over for stable in one.stability if stable.kind == "cell"} >= {"folds"}
        table = pd.read_csv(run / "explanations" / table_name(one, "cell"), sep="\t")
        assert {"cell", "x", "y", "z", "value"} <= set(table.columns)
        assert (table["stability_low"] <= table["stability"]).all()
        assert (table["stability"] <= table["stability_high"]).all()
        if one.model == "network":
            assert set(table["no_p"]) == {"--refitted 0"}
            assert table["p_corrected"].isna().all()
        if one.model == "core":
            assert table["p_corrected"].between(0.1, 1).all()
            assert "no_p" not in table
    assert "not tested against permuted outcomes (--refitted 0)" in page
    assert page.count("Strongest cells of the volumes") > 3
    made = {file.name for file in (run / "explanations" / "volume_maps").iterdir()}
    assert {"cognitive_occlusion.nii.gz", "cognitive_gradients.nii.gz", "cognitive_gradients.tsv"} <= made
    assert "cognitive_noise.nii.gz" not in made  # needs a network on volumes alone
    with pytest.raises(UsageError, match="network on volumes alone"):
        map_volumes(run, kinds=["noise"])


@pytest.mark.usefixtures("few_steps", "without_figures")
def test_refits_give_p_values_of_cells(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "not_above_chance", lambda *_: "")
    found = explain_run(run, models=("network",), n_refitted=1)
    for one in found.maps:
        assert {cell.p for cell in one.cells if cell.value} <= {0.5, 1.0}
        assert one.untested == ""


def network_of(run: Path) -> NetworkModel:
    records = [json.loads(file.read_text()) for file in (run / "models").glob("*.json")]
    model = stored_model(FitStore(run / "models"), next(one["key"] for one in records if one["stage"] == "finetune"))
    assert isinstance(model, NetworkModel)
    return model


def test_a_cell_is_occluded_and_attributed_at_its_own_voxels(run: Path) -> None:
    cohort, model = read_cohort(run.parent / "target" / "cohort.yaml"), network_of(run)
    items = items_of(cohort, [model.features])
    view = NetworkView.of(model, cohort, cohort.ids, items)
    (target,) = targets_of(model.tasks)
    lost = split_sets(view.occlusions(target), items)["cell"]
    mean, whole = view.means["image", "volume"], view.batch.image.volumes
    cell = int(np.abs(lost).sum(axis=1).argmax())
    changed = torch.where(torch.from_numpy(items.cells.voxels == cell), mean, whole)
    swapped = view.batch.with_image(replace(view.batch.image, volume=changed, where=None, source=None))
    with torch.no_grad():
        wanted = (view.explained(target) - view.explained(target, swapped)).numpy()
    np.testing.assert_allclose(lost[cell], wanted, atol=1e-5)

    start = items.n_edges + items.n_regions + len(items.covariates)
    attributed = view.attributions(target)
    assert view.gap(target) < 0.05 * np.abs(attributed).sum(axis=1).mean()  # the volumes are part of the sum
    absent = [i for i, file in enumerate(cohort.volumes) if not file]
    assert np.abs(attributed[absent, start:]).max() < 1e-7
    assert np.abs(np.delete(attributed, absent, axis=0)[:, start:]).max() > 1e-6


def test_maps_of_a_fused_network_keep_the_other_modalities_of_each_subject(run: Path) -> None:
    cohort, model = read_cohort(run.parent / "target" / "cohort.yaml"), network_of(run)
    predictor = VolumePredictor(model, "cognitive").eval()
    assert predictor.is_fused
    (target,) = targets_of(model.tasks)
    view = NetworkView.of(model, cohort, cohort.ids, items_of(cohort, [model.features]))
    scale, mean = float(model.targets.scale[0]), float(model.targets.mean[0])
    encoded = []
    for network in predictor.networks:
        network.branches["connectome"].register_forward_hook(lambda *_: encoded.append(1))
    for i in (0, 1):
        volume = view.batch.rows(torch.tensor([i, i])).image.volumes
        with torch.no_grad():
            shown = predictor.beside(cohort, cohort.ids[i])(volume)[:, 0]
            np.testing.assert_array_equal(predictor(volume)[:, 0], shown)
        wanted = view.value(target)[i]
        got = shown.numpy() * scale + mean if target.task.kind == "regression" else shown.numpy()
        np.testing.assert_allclose(got, wanted, atol=2e-2 * max(1.0, abs(wanted)))
    assert len(encoded) == 2 * len(predictor.networks)  # once per subject, not per volume


def test_an_occluded_volume_is_the_mean_of_the_training_volumes(run: Path) -> None:
    cohort = read_cohort(run.parent / "target" / "cohort.yaml")
    records = [json.loads(file.read_text()) for file in (run / "models").glob("*.json")]
    model = stored_model(FitStore(run / "models"), next(one["key"] for one in records if one["stage"] == "finetune"))
    assert isinstance(model, NetworkModel)
    items = items_of(cohort, [model.features])
    view = NetworkView.of(model, cohort, cohort.ids, items)
    (target,) = targets_of(model.tasks)
    lost = view.occlusions(target)[-len(items.modalities) + items.modalities.index("image")]

    steps = model.features.steps["image"].apply(cohort, model.targets.ids)
    volumes = [grid.read() for grid in steps.shared["source"].grids if grid is not None]
    batch = to_batch(model.features.rows(cohort, cohort.ids))
    source = batch.image.source
    assert source is not None
    known = [i for i, file in enumerate(cohort.volumes) if file and cohort.ids[i] in model.targets.ids]
    assert len(known) == len(volumes)
    mean = np.mean([source.read([int(batch.image.where[i])])[0] for i in known], axis=0)
    whole = torch.from_numpy(mean).float().expand(len(batch), *mean.shape)
    swapped = batch.with_image(replace(batch.image, volume=whole, where=None, source=None))
    with torch.no_grad():
        wanted = (view.explained(target) - view.explained(target, swapped)).numpy()
    np.testing.assert_allclose(lost, wanted, atol=1e-5)
    absent = [i for i, file in enumerate(cohort.volumes) if not file]
    assert np.abs(lost[absent]).max() < 1e-7
    assert np.abs(lost).max() > 1e-6


def test_the_explained_number_is_the_prediction_also_for_mirrored_volumes(run: Path) -> None:
    cohort = read_cohort(run.parent / "target" / "cohort.yaml")
    records = [json.loads(file.read_text()) for file in (run / "models").glob("*.json")]
    model = stored_model(FitStore(run / "models"), next(one["key"] for one in records if one["stage"] == "finetune"))
    assert isinstance(model, NetworkModel)
    (target,) = targets_of(model.tasks)
    made = []
    for flip_test in (False, True):
        chosen = replace(model, flip_test=flip_test)
        view = NetworkView.of(chosen, cohort, cohort.ids, items_of(cohort, [model.features]))
        risk = chosen.predict(cohort, cohort.ids)[:, 0]
        shown = view.value(target)
        expected = np.log(risk / (1 - risk)) if target.task.kind == "binary" else risk
        np.testing.assert_allclose(shown, expected, atol=1e-4)
        made.append(shown)
    assert np.abs(made[0] - made[1]).max() > 1e-4
