"""Source and pool have the edges and regional measures of the target, in its order, or are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_study import small_cohorts, small_settings

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.people import people_of
from connectome_tl.cohort.splits import make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import UsageError
from connectome_tl.settings.study import SplitSettings
from connectome_tl.tasks import Task
from connectome_tl.training.checks import check_names
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.judge import _warnings
from connectome_tl.workflows.study.presence import presence_notes

MEASURES = ("thickness", "volume")
FOLDERS = {"target": "target", "source": "older", "pool": "pool"}


def measured(cohort: Cohort, names: tuple[str, ...]) -> Cohort:
    """The cohort with a regional measure per name, whose values depend on the name."""
    values = [np.full((cohort.n_subjects, cohort.n_regions), len(name), np.float32) for name in names]
    return replace(cohort, region_features=np.stack(values, axis=2), region_feature_names=names)


def written(home: Path, source: tuple[str, ...] = MEASURES) -> None:
    small = small_cohorts(n_source=12, n_pool=10, n_target=12)
    for role, folder in FOLDERS.items():
        names = source if role == "source" else MEASURES
        write_cohort(measured(small.roles[role], names), home / folder)


def test_regional_measures_take_the_order_of_the_target(tmp_path: Path) -> None:
    written(tmp_path, source=MEASURES[::-1])
    cohorts = read_cohorts(small_settings(), tmp_path)
    check_names(small_settings(), cohorts)
    for cohort in cohorts.roles.values():
        assert cohort.region_feature_names == MEASURES
        assert np.nanmax(np.abs(cohort.region_features - [9, 6])) == 0


def test_other_regional_measures_of_the_same_number_are_refused(tmp_path: Path) -> None:
    written(tmp_path, source=("thickness", "area"))
    with pytest.raises(UsageError, match="different regional measures") as refused:
        check_names(small_settings(), read_cohorts(small_settings(), tmp_path))
    assert "thickness, area" in str(refused.value)


@pytest.mark.parametrize("role", ["source", "pool"])
def test_edges_that_are_transformed_differently_are_named(tmp_path: Path, role: str) -> None:
    written(tmp_path)
    read_cohorts(small_settings(), tmp_path)
    file = tmp_path / FOLDERS[role] / "cohort.yaml"
    plain = file.read_text()
    file.write_text(plain.replace("transform: none", "transform: log1p"))
    notes = " ".join(read_cohorts(small_settings(), tmp_path).by_name()[role].notes)
    assert "connectomes.transform is none in " in notes
    assert "give both cohorts the same transform" in notes
    file.write_text(plain)
    assert "connectomes.transform" not in " ".join(read_cohorts(small_settings(), tmp_path).by_name()[role].notes)


def warnings_of(target: Cohort, tasks: Sequence[Task], splits: SplitSettings) -> tuple[str, ...]:
    settings = small_settings().model_copy(update={"splits": splits})
    return _warnings(settings, StudyCohorts({"target": target}), tasks, make_split_plan(target, splits))


def test_a_site_without_a_case_is_said_to_have_no_effect_on_the_auc() -> None:
    target = small_cohorts(n_target=24).target
    task = next(task for task in target.tasks if task.is_binary)
    known = target.targets[task.name].dropna()
    negative, positive = (list(known.index[known == level]) for level in (0, 1))
    for without in (negative[:2], [negative[0], positive[0]]):
        site = np.full(target.n_subjects, "A", dtype=object)
        site[target.positions([negative[-1], positive[-1]])] = "B"
        site[target.positions(without)] = "C"
        found = warnings_of(replace(target, site=site), [task], SplitSettings(scheme="site_out"))
        assert not any("random folds" in said for said in found)
        said = [one for one in found if "two different outcomes" in one]
        if without == negative[:2]:
            assert said == [
                f"{task.name}: 1 of 3 test folds has no two different outcomes; the ranks of 2 subjects in it do not "
                "affect the AUC."
            ]
        else:
            assert said == []


def test_a_small_class_is_counted_in_subjects() -> None:
    once = small_cohorts(n_target=12).target
    names = [f"{name}_ses-{k}" for name in once.ids for k in (1, 2)]
    twice = once.drawn(np.repeat(np.arange(once.n_subjects), 2), names)
    twice = replace(twice, children=tuple(name.split("_")[0] for name in names))
    tasks = [task for task in once.tasks if task.is_binary]
    found = [
        [said for said in warnings_of(cohort, tasks, small_settings().splits) if "smaller" in said]
        for cohort in (once, twice)
    ]
    assert found[0] == found[1] != []
    assert (people_of(once).rows, people_of(twice).rows) == ("infants", "scans")


def test_settings_of_modalities_that_the_cohorts_do_not_have_are_refused() -> None:
    cohorts = small_cohorts(n_source=12, n_pool=10, n_target=12)
    check_names(small_settings().with_settings({"model.modality_dropout": 0.5}), cohorts)
    alone = StudyCohorts({**cohorts.roles, "target": replace(cohorts.target, covariate_specs=())})
    with pytest.raises(UsageError) as refused:
        check_names(small_settings().with_settings({"model.modality_dropout": 0.5, "devices": 2}), alone)
    assert "model.modality_dropout has no effect: the only modality is connectome" in str(refused.value)
    assert "devices has no effect" in str(refused.value)


def test_a_subject_without_any_input_and_a_fold_without_images_are_said() -> None:
    target = small_cohorts(n_target=12).target
    covariates, mask = target.covariates.copy(), target.node_mask.copy()
    covariates.iloc[3], mask[3] = None, False
    plan = make_split_plan(target, small_settings().splits)
    tested = next(subject for subject in plan.repeats[0][0].test if subject != target.ids[3])
    volumes = tuple("image.nii" if subject == tested else "" for subject in target.ids)
    target = replace(target, covariates=covariates, node_mask=mask, volumes=volumes)
    modalities = ("connectome", "clinical", "image")
    bare, unused = presence_notes(target, modalities, plan)
    assert bare.startswith(f"1 subject has no connectome and no image and no clinical covariate ({target.ids[3]})")
    assert unused.startswith("no training subject of 1 tested subject with an image has one")
    assert presence_notes(target, (*modalities, "cortex"), plan) == (unused,)
    with_images = replace(target, volumes=("image.nii",) * 12)
    assert presence_notes(with_images, modalities, plan) == ()
