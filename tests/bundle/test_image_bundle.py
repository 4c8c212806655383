"""Models of volumes are released like others: same predictions, same refusals, no data of a subject."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from connectome_tl.bundle.activations import check_activations
from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.folder import CARD, FILES, METADATA, SELF_TEST, SELF_TEST_ROWS, STRUCTURE, open_folder
from connectome_tl.bundle.images import image_limits, image_problems
from connectome_tl.bundle.limits import said_of_each, shifts
from connectome_tl.bundle.release import Release
from connectome_tl.bundle.scan import Secrets, scan
from connectome_tl.bundle.self_test import run_self_test
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError
from connectome_tl.imaging.volumes.grids import gridded
from connectome_tl.nn.voxel.resnet import VoxelResNet
from connectome_tl.nn.voxel.sfcn import Sfcn
from connectome_tl.settings.images.volumes import ImageSettings, ResNetEncoder, SfcnEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.records.bundles import SelfTest
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fitted_models import NetworkModel, stored_model
from connectome_tl.workflows.release.bundle import BundleOptions, bundle_run
from connectome_tl.workflows.release.predict import predict_cohort
from connectome_tl.workflows.release.validate import validate_on
from tests.bundle.image_study import IMAGES, fused_run
from tests.properties.bundle_mutations import MUTATIONS, judged, signed

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Home:
    folder: Path
    bundle: Path
    others: Path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A fused study, the bundle of its network, and infants of another site."""
    folder = tmp_path_factory.mktemp("images")
    run, others = fused_run(folder)
    return Home(folder, bundle_run(run, folder / "bundle", BundleOptions(model="network")), others)


def test_a_bundle_with_volumes_predicts_what_the_stored_fits_predict(home: Home, tmp_path: Path) -> None:
    """Compared with the fits of the run, whose grids are computed without the code of bundles."""
    predicts_what_the_fits_predict(home, tmp_path)


def test_a_default_residual_network_leaves_and_predicts_the_same(tmp_path: Path) -> None:
    run, others = fused_run(tmp_path, size=16, encoder={"kind": "resnet"})
    bundle = bundle_run(run, tmp_path / "bundle", BundleOptions(model="network"))
    assert [settings.others for settings in networks_of(bundle)] == [(ResNetEncoder(),)] * 2
    predicts_what_the_fits_predict(Home(tmp_path, bundle, others), tmp_path)


def networks_of(bundle: Path) -> list[ModelSettings]:
    return [one.settings for one in open_bundle(bundle).members.models if isinstance(one, NetworkModel)]


def predicts_what_the_fits_predict(home: Home, folder: Path) -> None:
    table = predict_cohort(home.bundle, home.others, folder / "p.tsv", research_individual=True).rows
    assert table["value"].notna().all()  # also of those without a volume
    cohort = read_cohort(home.others)
    store = FitStore(home.folder / "run" / "models")
    found = [stored_model(store, key) for key in finetuned(home.folder / "run")]
    assert len(found) == 2
    wanted = np.mean([model.predict(cohort, cohort.ids)[:, 0] for model in found], axis=0)
    np.testing.assert_allclose(table["value"], wanted, rtol=0, atol=1e-6)
    again = [model.predict(replace(cohort, volumes=("",) * cohort.n_subjects), cohort.ids)[:, 0] for model in found]
    assert np.abs(np.mean(again, axis=0) - wanted).max() > 1e-6  # the volumes have an effect


def finetuned(run: Path) -> list[str]:
    records = [json.loads(file.read_text()) for file in (run / "models").rglob("*.json")]
    return [one["key"] for one in records if one.get("stage") == "finetune"]


def test_the_core_and_the_mixture_leave_too(home: Home, tmp_path: Path) -> None:
    for model in ("core", "full"):
        opened = open_bundle(bundle_run(home.folder / "run", tmp_path / model, BundleOptions(model=model)))
        assert {"connectome", "clinical", "image"} == set(opened.facts.inputs.modalities)


def test_the_card_says_grid_contrast_and_limits(home: Home) -> None:
    facts, card = open_bundle(home.bundle).facts, (home.bundle / CARD).read_text()
    assert facts.limits.images is not None
    assert facts.limits.images.voxel.low <= 10 <= facts.limits.images.voxel.high
    assert facts.limits.images.extent.low <= 160 <= facts.limits.images.extent.high
    assert not facts.limits.images.all_have_one
    for said in ("contrast ADC", "resampled to 13 mm", "native voxel edge", "field of view", "head volume"):
        assert said in card
    assert facts.limits.images.stripped == "none"
    assert "| skull stripping | none of the images |" in card
    inputs = json.loads((home.bundle / METADATA).read_text())["network_data_format"]["inputs"]
    assert inputs["image"]["spatial_shape"] == [12, 12, 12]


def test_other_contrasts_are_refused_and_other_images_flagged(home: Home, tmp_path: Path) -> None:
    cohort = read_cohort(home.others)
    with pytest.raises(DataError, match=r"another contrast.*expected ADC.*got T2w"):
        predict_cohort(home.bundle, with_images(cohort, replace(IMAGES, contrast="T2w"), tmp_path), tmp_path / "p.tsv")
    bare = write_cohort(replace(cohort, volumes=(), volume_contrast=""), tmp_path / "bare")
    with pytest.raises(DataError, match="the model needs volumes"):
        predict_cohort(home.bundle, bare, tmp_path / "p.tsv")
    fine = with_images(cohort, replace(IMAGES, size=24), tmp_path)
    limits = predict_cohort(home.bundle, fine, tmp_path / "p.tsv").rows.groupby("subject")["limits"].first()
    seen = limits.str.contains("native voxel edge outside")
    assert list(seen) == [bool(file) for file in read_cohort(fine).volumes]


def test_an_image_under_two_ids_is_noted_by_predict_and_validate(home: Home, tmp_path: Path) -> None:
    cohort = read_cohort(home.others)
    first, second = [i for i, file in enumerate(cohort.volumes) if file][:2]
    files = list(cohort.volumes)
    files[second] = files[first]
    twice = write_cohort(replace(cohort, volumes=tuple(files)), tmp_path / "twice")
    said = f"{cohort.ids[first]} and {cohort.ids[second]} have the same image"
    assert said in predict_cohort(home.bundle, twice, tmp_path / "p.tsv").notes
    assert said in validate_on(home.bundle, twice, tmp_path / "v").notes
    assert said not in predict_cohort(home.bundle, home.others, tmp_path / "q.tsv").notes


def test_stripped_brains_are_flagged_where_the_model_knows_heads_and_the_reverse(home: Home) -> None:
    """Eight volumes of sixteen are of the other kind; a model of both kinds flags none."""
    opened, cohort = open_bundle(home.bundle), read_cohort(home.others)
    facts, limits = opened.facts, opened.facts.limits
    assert limits.images is not None
    assert facts.inputs.image is not None
    there = [file for file in cohort.volumes if file]
    grids = with_grids_of(cohort, facts.inputs.image.grid).grids
    assert not any(grid.is_stripped for grid in grids.values())
    half = {file: replace(grid, is_stripped=file in there[:8]) for file, grid in grids.items()}
    mixed = replace(cohort, grids=half)
    for known, flagged in (("none", there[:8]), ("all", there[8:]), ("some", []), ("unknown", [])):
        images = limits.images.model_copy(update={"stripped": known})
        told = facts.model_copy(update={"limits": limits.model_copy(update={"images": images})})
        said = said_of_each(told, mixed)
        found = [
            file
            for file, one in zip(cohort.volumes, said, strict=True)
            if "skull-stripped, unlike the training images" in one
        ]
        assert found == flagged, known
        rows = [row for row in shifts(told, mixed) if row.what == "skull stripping"]
        assert [row.here for row in rows] == ([] if known == "unknown" else [f"8 of {len(there)} images"])
    whole = replace(mixed, volumes=tuple(file if file in there[:8] else "" for file in mixed.volumes))
    assert image_limits(whole, facts.inputs.image.grid).stripped == "all"
    assert image_limits(mixed, facts.inputs.image.grid).stripped == "some"


def test_a_subject_without_a_volume_is_told_so_if_every_training_subject_had_one(home: Home) -> None:
    facts, cohort = open_bundle(home.bundle).facts, read_cohort(home.others)
    assert facts.limits.images is not None
    assert facts.inputs.image is not None
    cohort = with_grids_of(cohort, facts.inputs.image.grid)
    without = [not file for file in cohort.volumes]
    assert any(without)
    for complete in (True, False):
        images = facts.limits.images.model_copy(update={"all_have_one": complete})
        told = facts.model_copy(update={"limits": facts.limits.model_copy(update={"images": images})})
        said = [("no volume, which every training subject had" in one) for one in said_of_each(told, cohort)]
        assert said == [complete and one for one in without]


def test_one_infant_without_a_volume_is_predicted_as_among_others(home: Home, tmp_path: Path) -> None:
    among = predict_cohort(home.bundle, home.others, tmp_path / "all.tsv", research_individual=True).rows
    shutil.copytree(home.others.parent, tmp_path / "one")
    table = pd.read_csv(tmp_path / "one" / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    subject = table.loc[~table["volume"].str.contains("nii"), "participant_id"].iloc[0]
    cohort = tmp_path / "one" / home.others.name
    cohort.write_text(cohort.read_text() + f"select: participant_id == '{subject}'\n")
    alone = predict_cohort(home.bundle, cohort, tmp_path / "one.tsv", research_individual=True).rows
    np.testing.assert_allclose(alone["value"], among.loc[among["subject"] == subject, "value"], rtol=0, atol=1e-6)
    facts = open_bundle(home.bundle).facts
    assert facts.inputs.image is not None
    nobody = replace(read_cohort(home.others), volumes=())
    for others, is_alone in ((nobody, False), (replace(nobody, volumes=("",) * nobody.n_subjects), True)):
        (problem,) = image_problems(facts.inputs.image, others, is_alone=is_alone)
        assert problem.what == "the model needs volumes"


def with_grids_of(cohort: Cohort, settings: ImageSettings) -> Cohort:
    grids = {file: gridded(file, "x", settings) for file in cohort.volumes if file}
    return replace(cohort, grids=grids)


def with_images(cohort: Cohort, settings: VolumeSettings, folder: Path) -> Path:
    images = write_volumes(cohort.n_subjects, settings, folder / "images", name=settings.contrast, seed=5)
    files = tuple(new if old else "" for new, old in zip(images.volumes, cohort.volumes, strict=True))
    made = replace(cohort, volumes=files, volume_contrast=settings.contrast)
    return write_cohort(made, folder / f"{settings.contrast}{settings.size}")


def test_validation_scores_other_volumes_and_refuses_the_training_cohort(home: Home, tmp_path: Path) -> None:
    record = validate_on(home.bundle, home.others, tmp_path / "v").record
    assert record.tasks[0].n == str(int(read_cohort(home.others).targets["cognitive"].notna().sum()))
    assert {row.what for row in record.shifts} >= {"native voxel edge", "head volume", "grey levels"}
    with pytest.raises(DataError, match="appears to be the training cohort of the bundle"):
        validate_on(home.bundle, home.folder / "target" / "cohort.yaml", tmp_path / "w")


def test_nothing_of_a_subject_or_a_file_is_inside(home: Home) -> None:
    cohort = read_cohort(home.folder / "target" / "cohort.yaml")
    files = {name: (home.bundle / name).read_bytes() for name in FILES}
    secrets = Secrets.of([cohort], site_names=False, public=(open_bundle(home.bundle).facts.inputs.atlas_sha256,))
    assert scan(files, secrets) == []
    name = next(Path(file).name for file in cohort.volumes if file)
    hits = scan({METADATA: json.dumps({"contrast": f"as {name} has"}).encode()}, secrets)
    assert any("the name of an image" in str(one) for one in hits)
    for text in (*cohort.ids, "targetscan", str(home.folder)):
        assert not any(text.encode() in data for data in files.values())


def test_no_voxel_of_a_training_subject_is_inside(home: Home) -> None:
    """The tensors of volumes are means over ten subjects or more, and simulated brains."""
    cohort = read_cohort(home.folder / "target" / "cohort.yaml")
    model = stored_model(FitStore(home.folder / "run" / "models"), finetuned(home.folder / "run")[0])
    assert isinstance(model, NetworkModel)
    steps = model.features.steps["image"]
    grids = [grid.read() for grid in steps.apply(cohort, cohort.ids).shared["source"].grids if grid is not None]
    simulated = load_file(home.bundle / SELF_TEST_ROWS)["volumes"]
    for one in simulated:
        assert max(np.corrcoef(one.ravel(), grid.astype(float).ravel())[0, 1] for grid in grids) < 0.98
    few = replace(cohort, volumes=tuple(file if i < 9 else "" for i, file in enumerate(cohort.volumes)))
    with pytest.raises(DataError, match="fewer than 10 training subjects have a volume"):
        Release({"target": few}).model(model)


def test_the_file_that_an_encoder_started_from_stays(home: Home) -> None:
    model = stored_model(FitStore(home.folder / "run" / "models"), finetuned(home.folder / "run")[0])
    assert isinstance(model, NetworkModel)
    encoder = SfcnEncoder(widths=(4, 4), weights="/data/secret/start.safetensors", weights_hash="ab" * 32)
    settings: ModelSettings = model.settings.model_copy(update={"others": (encoder,)})
    cohort = read_cohort(home.folder / "target" / "cohort.yaml")
    released = Release({"target": cohort}).model(replace(model, settings=settings))
    assert isinstance(released, NetworkModel)
    text = released.settings.model_dump_json()
    assert "secret" not in text
    assert "ab" * 32 not in text


def test_damaged_bundles_with_volumes_are_refused(home: Home, tmp_path: Path) -> None:
    open_bundle(home.bundle)
    found = [judged(home.bundle, seed, tmp_path / "mutant") for seed in range(1000, 1000 + 2 * len(MUTATIONS))]
    wrong = [one for one in found if one.word not in ("refused", "consistent")]
    assert not wrong, wrong[:3]


def changed(home: Home, to: Path, file: str, change: Any) -> Path:
    shutil.copytree(home.bundle, to)
    said = json.loads((to / file).read_text())
    change(said)
    (to / file).write_text(json.dumps(said))
    signed(to)
    return to


def test_a_grid_that_the_volumes_do_not_have_is_refused_before_it_is_allocated(home: Home, tmp_path: Path) -> None:
    def larger(said: Any) -> None:
        said["connectome_tl"]["inputs"]["image"]["grid"]["size"] = size

    size = 512

    with pytest.raises(DataError, match="another grid than the bundle"):
        open_bundle(changed(home, tmp_path / "one", METADATA, larger))

    def everywhere(said: Any) -> None:
        for key, value in said.items() if isinstance(said, dict) else enumerate(said):
            if key == "grid":
                said[key] = value.replace('"size":12', f'"size":{size}')
            elif isinstance(value, (dict, list)):
                everywhere(value)

    for size, said in ((512, "needs far more memory"), (24, "do not match its subjects")):
        both = changed(home, tmp_path / f"two{size}", METADATA, larger)
        text = json.loads((both / STRUCTURE).read_text())
        everywhere(text)
        (both / STRUCTURE).write_text(json.dumps(text))
        signed(both)
        tracemalloc.start()
        with pytest.raises(DataError, match=said):
            open_bundle(both)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()
    unknown = tmp_path / "three"
    shutil.copytree(home.bundle, unknown)
    tensors = load_file(unknown / SELF_TEST_ROWS)
    tensors["volumes"][0, 0, 0, 0] = np.nan
    save_file(tensors, unknown / SELF_TEST_ROWS)
    signed(unknown)
    with pytest.raises(DataError, match="not numeric"):
        open_bundle(unknown)


def test_volumes_of_the_self_test_are_read_one_at_a_time(home: Home) -> None:
    """Six volumes at once, with those of absent ones, would take more than the rest of a small bundle."""
    opened, folder = open_bundle(home.bundle), open_folder(home.bundle)
    test, read = SelfTest.model_validate(folder.json(SELF_TEST)), []
    with folder.rows(SELF_TEST_ROWS) as rows:

        def recorded(name: str, start: int, stop: int) -> np.ndarray:
            read.append((name, start, stop))
            return rows.read(name, start, stop)

        run_self_test(opened.members, opened.facts, test, replace(rows, read=recorded))
    assert [one for one in read if one[0] == "volumes"] == [("volumes", i, i + 1) for i in range(3)]
    assert [one for one in read if one[0] == "weights"] == [("weights", i, i + 1) for i in range(6)]


def test_a_network_with_more_channels_than_a_bundle_needs_is_refused_before_they_are_computed() -> None:
    """A layer of 20,000 channels has weights of 2 MB and needs 2.6 GB for a small volume."""
    shape = (32, 32, 32)
    with torch.device("meta"):
        wide, small = Sfcn((20_000, 4)), Sfcn((8, 8))
        strided = VoxelResNet(10, width=0.25, stem_stride=2)  # the default, whose stem has a path of its own
    check_activations(small, shape, 2_000_000)
    check_activations(strided, shape, 2_000_000)
    with pytest.raises(DataError, match="at most 67 MB for a layer and a volume; got 2621 MB"):
        check_activations(wide, shape, 2_000_000)
    check_activations(wide, shape, 200_000_000)
