"""Explanations of a study with volumes: the volumes are occluded as a modality, in cores, networks and mixtures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.evaluation.explain import study
from connectome_tl.evaluation.explain.network_view import NetworkView
from connectome_tl.evaluation.explain.study import items_of
from connectome_tl.evaluation.explain.targets import targets_of
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted import NetworkModel, stored_model, to_batch
from connectome_tl.workflows.study.explain import explain_run
from tests.bundle.image_study import fused_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fused_run(tmp_path_factory.mktemp("maps"))[0]


def test_maps_of_every_model_have_the_volumes_as_a_modality(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "not_above_chance", lambda *_: "")
    found = explain_run(run, models=("full", "core", "network"), n_permutations=9, n_refitted=0)
    occlusions = {one.model: one for one in found.maps if one.method == "occlusion"}
    assert set(occlusions) == {"full", "core", "network"}
    for one in occlusions.values():
        values = {item.name: item.value for item in one.modalities}
        assert set(values) == {"edges", "clinical", "image"}
        assert values["image"] > 0
    assert {one.method for one in found.maps if one.regions} == {"pattern", "integrated gradients", "occlusion"}


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
