"""One image under the ids of two subjects, in one cohort or in two: notes of the run, and findings of the audit."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import yaml
from voxel_study import write_study

from connectome_tl.audit.duplicates import duplicate_findings
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.errors import UsageError
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checks import check_bins
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.images.grids import with_grids
from connectome_tl.workflows.study.inputs import read_cohorts


def _cohorts(folder: Path) -> tuple[StudySettings, StudyCohorts]:
    settings = load_settings(folder / "study.yaml", StudySettings)
    return settings, read_cohorts(settings, folder)


def _as(source: str, goal: str, change: str) -> None:
    """The image under another name: the same bytes, stored again, or rescaled."""
    volume = read_volume(source)
    if change == "bytes":
        Path(goal).write_bytes(Path(source).read_bytes())
        return
    data = volume.data.astype(np.float64) * (3.7 if change == "rescaled" else 1.0)
    write_volume(goal, data, volume.affine)


@pytest.mark.parametrize("change", ["bytes", "stored again", "rescaled"])
@pytest.mark.parametrize("role", ["target", "pool"])
def test_an_image_of_two_subjects_is_noted_and_found_by_the_audit(tmp_path: Path, change: str, role: str) -> None:
    write_study(tmp_path, n=8)
    settings, cohorts = _cohorts(tmp_path)
    plan = make_split_plan(cohorts.target, settings.splits)
    fold = plan.repeats[0][0]
    first, second = fold.train[0], fold.test[0]
    target = dict(zip(cohorts.target.ids, cohorts.target.volumes, strict=True))
    goal = target[second] if role == "target" else cohorts.roles["pool"].volumes[3]
    other = second if role == "target" else cohorts.roles["pool"].ids[3]
    clean = with_grids(settings, cohorts, tmp_path / "grids")
    assert not any("same image" in note or "is that of" in note for one in clean.roles.values() for note in one.notes)
    assert all(f.status != "failed" for f in duplicate_findings(clean.by_name(), plan, settings.image))
    _as(target[first], goal, change)
    made = with_grids(settings, cohorts, tmp_path / "grids")
    notes = [note for note in made.roles[role].notes if first in note and other in note]
    assert len(notes) == 1
    failed = [f.what for f in duplicate_findings(made.by_name(), plan, settings.image) if f.status == "failed"]
    assert len(failed) == 1
    assert first in failed[0]
    assert other in failed[0]


@pytest.mark.parametrize(("width", "refused"), [(1e-6, True), (1e3, False), ("auto", False)])
def test_bins_that_hold_no_two_training_subjects_are_refused_before_anything_is_fitted(
    tmp_path: Path, width: float | str, refused: bool
) -> None:
    write_study(tmp_path, n=4)
    file = tmp_path / "study.yaml"
    study = yaml.safe_load(file.read_text())
    study |= {
        "target": {"cohort": "older/cohort.yaml"},
        "baselines": ["prevalence", "synthetic_volumes"],
        "baseline_settings": {"synthetic_volumes": {"synthesis": {"bin_width": width}}},
        "splits": {"repeats": 1, "outer": 2},
    }
    del study["source"], study["pool"], study["stages"]["pretrain"], study["stages"]["adapt"], study["controls"]
    file.write_text(yaml.safe_dump(study))
    settings, cohorts = _cohorts(tmp_path)
    plan = make_split_plan(cohorts.target, settings.splits)
    expected = pytest.raises(UsageError, match=r"repeat 1, fold 1 are in one bin of age.*Set a larger bin_width")
    with expected if refused else nullcontext():
        check_bins(settings, cohorts.target, plan)
