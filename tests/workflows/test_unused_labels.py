"""Label maps that no objective uses change nothing: neither fits, nor the commands on a finished run or a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from voxel_study import STUDY

from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.workflows.images.embed import embed_cohort
from connectome_tl.workflows.release.bundle import bundle_run
from connectome_tl.workflows.release.predict import predict_cohort
from connectome_tl.workflows.study.explain import explain_run
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.run import run_study

pytestmark = pytest.mark.usefixtures("without_figures")


def _cohort(folder: Path, name: str, n: int, seed: int) -> Path:
    made = write_volumes(n, VolumeSettings(size=16), folder / name, name=name, seed=seed, labels=True)
    return write_cohort(made, folder / name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    _cohort(folder, "target", 24, 3)
    _cohort(folder, "new", 2, 8)
    study = {key: value for key, value in STUDY.items() if key not in ("source", "pool")}
    study |= {"splits": {"repeats": 1, "outer": 2}, "controls": [], "baselines": ["prevalence"]}
    study["stages"] = {"finetune": STUDY["stages"]["finetune"]}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    run_study(folder / "study.yaml", folder / "run")
    return folder


def test_the_cohorts_of_a_study_have_no_label_maps_that_it_does_not_use(home: Path) -> None:
    assert any(read_cohort(home / "target" / "cohort.yaml").volume_labels)
    assert not any(read_cohorts(load_settings(home / "study.yaml", StudySettings), home).target.volume_labels)


def test_a_run_can_be_explained_and_its_networks_embed(home: Path, tmp_path: Path) -> None:
    found = embed_cohort(home / "run", home / "target" / "cohort.yaml", tmp_path / "embedding.json")
    assert len(found.fits) == 2
    explain_run(home / "run", models=["core"], n_permutations=9)


def test_a_bundle_predicts_whatever_the_label_maps_are(home: Path, tmp_path: Path) -> None:
    bundle_run(home / "run", tmp_path / "bundle")
    before = predict_cohort(tmp_path / "bundle", home / "new" / "cohort.yaml", tmp_path / "p.tsv").rows
    labels = Path(read_cohort(home / "new" / "cohort.yaml").volume_labels[0])
    kept = labels.read_bytes()
    labels.write_bytes(b"not a label map")
    after = predict_cohort(tmp_path / "bundle", home / "new" / "cohort.yaml", tmp_path / "p.tsv").rows
    labels.write_bytes(kept)
    assert before.equals(after)


def test_where_the_image_settings_are_fixed_no_remedy_names_one(home: Path, tmp_path: Path) -> None:
    cohort = read_cohort(home / "new" / "cohort.yaml")
    file, volume = Path(cohort.volumes[0]), read_volume(cohort.volumes[0])
    kept, data = file.read_bytes(), volume.data.copy()
    data[8, 8, 8] = np.nan
    write_volume(file, data, volume.affine)
    with pytest.raises(DataError, match=r"(?s)cannot be changed.*leave the subject out") as refused:
        embed_cohort(home / "run", home / "new" / "cohort.yaml", tmp_path / "embedding.json")
    file.write_bytes(kept)
    assert "image.nan" not in str(refused.value)
