"""`connectome-tl maps` on a small finished image study."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from voxel_study import STUDY

from connectome_tl.errors import UsageError
from connectome_tl.evaluation.explain import study as explaining
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.importance import NoiseMap
from connectome_tl.settings.records.results import Score
from connectome_tl.simulation.volume_cohorts import write_volume_cohort
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.tasks import Task
from connectome_tl.workflows.images import maps as volume_maps
from connectome_tl.workflows.images.map_files import read_map_images
from connectome_tl.workflows.images.maps import map_volumes
from connectome_tl.workflows.study.explain import explain_run
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import read_run

pytestmark = pytest.mark.slow

BRIEF = NoiseMap(width=4, depth=1, descent=Descent(steps=2))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    write_volume_cohort(16, VolumeSettings(size=16), folder / "target", name="target", seed=3)
    study = {**STUDY, "splits": {"repeats": 1, "outer": 2}, "controls": [], "baselines": ["prevalence"]}
    study = {key: value for key, value in study.items() if key not in ("source", "pool")}
    study["stages"] = {"finetune": STUDY["stages"]["finetune"]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    run_study(folder / "study.yaml", folder / "run")
    return folder / "run"


def test_mean_maps_and_measures_are_written_for_an_outcome_above_chance(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_maps, "not_above_chance", lambda *_: "")  # three steps are too few to learn
    monkeypatch.setattr("connectome_tl.features.volumes.gridded", None)  # the grids of the run are used
    monkeypatch.setattr("connectome_tl.imaging.volumes.cache.gridded", None)
    found = map_volumes(run_dir, n_subjects=2, noise=BRIEF)
    assert [(one.task, one.kind) for one in found.maps] == [("age", kind) for kind in volume_maps.KINDS]
    for one in found.maps:
        image = nib.load(run_dir / "volume_maps" / one.file)
        assert image.shape == (12, 12, 12)
        assert image.header.get_zooms() == (13.0, 13.0, 13.0)
        assert one.n_subjects == 4
        assert -1 <= one.agreement <= 1
        assert np.isfinite(one.randomised)
    assert (run_dir / "volume_maps" / "maps.html").read_text("utf-8").count("<img") == 1
    read = read_map_images(run_dir)
    assert read is not None
    assert read.record == found
    assert read.inside["age"].any()
    assert not read.backgrounds["age"][~read.inside["age"]].any()
    assert len([axes for axes in read_run(run_dir).plot.maps("age").axes if axes.images]) >= 9
    assert not any(one.is_one_space for one in found.maps)  # grids are centred on each head
    table = pd.read_csv(run_dir / "volume_maps" / "subjects.tsv", sep="\t")
    for file, subject in zip(table["file"], table["subject"], strict=True):
        shown = nib.load(run_dir / "volume_maps" / file)
        (image,) = (run_dir.parent / "target").rglob(f"*{subject}*.nii*")
        head = nib.load(image)
        # The middle of the grid is within the head of the subject's image.
        at = np.linalg.inv(head.affine) @ shown.affine @ [5.5, 5.5, 5.5, 1]
        assert head.get_fdata()[tuple(np.rint(at[:3]).astype(int))] != 0
    assert len(table) == 12
    assert set(table["kind"]) == set(volume_maps.KINDS)


def test_explain_makes_voxel_maps_too_and_leaves_those_of_maps_alone(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (volume_maps, explaining):
        monkeypatch.setattr(module, "not_above_chance", lambda *_: "")
    kept = run_dir / "volume_maps" / "earlier.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("earlier")
    found = explain_run(run_dir, models=("network",), n_refitted=0)
    assert kept.is_file()
    made = {file.name for file in (run_dir / "explanations" / "volume_maps").iterdir()}
    assert {"maps.html", "subjects.tsv", "age_occlusion.nii.gz", "age_gradients.nii.gz", "age_gradients.tsv"} <= made
    assert "explanations/volume_maps/maps.html" in " ".join(found.notes)
    assert found.notes[-1] in (run_dir / "explanations" / "explanations.html").read_text("utf-8")


def test_folds_smaller_than_the_number_of_subjects_are_mapped_whole(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volume_maps, "not_above_chance", lambda *_: "")
    found = map_volumes(run_dir, kinds=["gradients"], n_subjects=100)
    assert [one.n_subjects for one in found.maps] == [16]
    mapped = list((run_dir / "volume_maps" / "subjects").iterdir())
    assert len(mapped) == 16  # those of an earlier call are gone


def test_maps_of_a_model_at_chance_are_withheld_with_the_reason(run_dir: Path) -> None:
    found = map_volumes(run_dir, n_subjects=1, noise=BRIEF)
    assert found.maps == ()
    assert "not distinguishable" in found.withheld["age"]


def test_maps_of_a_mixture_are_withheld_if_its_network_alone_is_at_chance() -> None:
    """The maps are those of the network, which a mixture above chance may not use at all."""
    age = Task(name="age", kind="regression", column="age")
    above, chance = ((0.5, 0.3, 0.7), (-0.1, -0.4, 0.4))

    def scores(**models: tuple[float, float, float]) -> list[Score]:
        rest = {"task": "age", "metric": "r2", "n": 20}
        return [Score(model=m, value=v, low=low, high=high, **rest) for m, (v, low, high) in models.items()]

    no_map = volume_maps._no_map
    assert "network alone: R2 -0.10" in no_map(age, "full", scores(full=above, network=chance))
    assert no_map(age, "full", scores(full=chance, network=above)) == ""
    assert "network alone" in no_map(age, "scratch", scores(scratch=above, network=above, network_scratch=chance))
    assert no_map(age, "scratch", scores(scratch=above, network=chance)) == ""
    assert "network alone" not in no_map(age, "network", scores(full=above, network=chance))


def test_an_unknown_model_is_refused_and_earlier_maps_stay(run_dir: Path) -> None:
    kept = run_dir / "volume_maps" / "earlier.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("earlier")
    with pytest.raises(UsageError, match="no model 'nobody'"):
        map_volumes(run_dir, model="nobody")
    assert kept.is_file()
