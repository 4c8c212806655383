"""Embeddings of one study as the images of another: for each fold a fit that has not seen its test subjects."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from small_study import FLAT, small_cohorts
from voxel_study import STUDY

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.config import load_settings
from connectome_tl.errors import DataError, LeakageError, MissingInputError, UsageError
from connectome_tl.evaluation.instability import resampled
from connectome_tl.imaging.read.images import read_volume, write_volume
from connectome_tl.settings.images.embedding import ImageEmbeddings
from connectome_tl.settings.study import StudySettings
from connectome_tl.simulation.volume_cohorts import write_volume_cohort, write_volumes
from connectome_tl.simulation.volumes import VolumeSettings
from connectome_tl.training.checkpoint import FitResult, FitStore
from connectome_tl.training.checks import check_embedded
from connectome_tl.training.core_stage import PREDICTABLE
from connectome_tl.training.images.embedding import image_embedding
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.training.stages import unseen_fit
from connectome_tl.workflows.audit.audit import audit_run
from connectome_tl.workflows.images.embed import UNUSED, embed_cohort, is_unused
from connectome_tl.workflows.images.grids import with_grids
from connectome_tl.workflows.study.inputs import read_cohorts
from connectome_tl.workflows.study.run import run_study
from connectome_tl.workflows.study.study_run import StudyRun

pytestmark = pytest.mark.usefixtures("without_figures")

N = 20


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Infants with connectomes, covariates and volumes; a network of the volumes only; its embeddings."""
    folder = tmp_path_factory.mktemp("embedded")
    small = VolumeSettings(size=16)
    write_volume_cohort(10, small, folder / "older", name="older", seed=1)
    made = small_cohorts(n_source=16, n_pool=12, n_target=N).target
    images = write_volumes(N, small, folder / "infants", name="x", seed=4)
    files = tuple("" if i in (3, 11) else file for i, file in enumerate(images.volumes))
    write_cohort(
        replace(made, volumes=files, age=images.age, age_unit="months", age_reference="birth"), folder / "infants"
    )
    steps = {"training": {"steps": 2}}
    study = {
        **{key: STUDY[key] for key in ("image", "refits", "n_jobs")},
        "source": {"cohort": "older/cohort.yaml", "tasks": ["age"]},
        "target": {"cohort": "infants/cohort.yaml", "tasks": ["cognitive"]},
        "model": STUDY["model"],
        "stages": {"pretrain": steps, "finetune": {**steps, "ensemble": {"networks": 2}}},
        "splits": {"repeats": 1, "outer": 2, "stratum": "cognitive"},
        "controls": [],
        "baselines": ["prevalence"],
    }
    (folder / "volumes.yaml").write_text(yaml.safe_dump(study))
    run_study(folder / "volumes.yaml", folder / "run")
    before = sorted(file for file in (folder / "run").rglob("*"))
    embed_cohort(folder / "run", folder / "infants" / "cohort.yaml", folder / "embedding.json")
    embed_cohort(folder / "run", folder / "infants" / "cohort.yaml", folder / "of_source.json", stage="pretrain")
    assert sorted(file for file in (folder / "run").rglob("*")) == before
    return folder


def fused(home: Path, **changed: Any) -> StudySettings:
    """A study of connectome, covariates and the embeddings of the images."""
    study = yaml.safe_load((home / "volumes.yaml").read_text())
    study |= {
        "source": None,
        "image": {"embedding": {"file": "embedding.json"}},
        "model": {
            "encoder": FLAT.encoder.model_dump(),
            "others": [{"kind": "embedding", "width": 3}],
            "fused_width": 4,
        },
        "stages": {"pretrain": None, **{k: v for k, v in study["stages"].items() if k == "finetune"}},
        "controls": ["no_image", "no_connectome"],
        "baselines": ["prevalence", "linear_all"],
    }
    return StudySettings.model_validate(study | changed)


@pytest.fixture(scope="module")
def run(home: Path) -> StudyRun:
    return run_study(fused(home), home / "fused", base=home)


def with_grids_of(home: Path, cohort: Cohort) -> Cohort:
    """The cohort as read by its study of volumes."""
    return with_grids(
        load_settings(home / "volumes.yaml", StudySettings), StudyCohorts({"target": cohort}), home / "grids"
    ).target


def made_by(home: Path, name: str = "embedding") -> ImageEmbeddings:
    return ImageEmbeddings.model_validate_json((home / f"{name}.json").read_text())


def test_each_fold_uses_a_fit_without_its_test_subjects(home: Path, run: StudyRun) -> None:
    plan, record = SplitPlan.load(home / "run" / "split_plan.json"), made_by(home)
    assert plan.hash == SplitPlan.load(run.folder / "split_plan.json").hash
    assert len(record.fits) == 2
    cohorts = read_cohorts(fused(home), home)
    for _, number, fold in plan.folds():
        one = record.of(unseen_fit(cohorts.target, fold))
        assert one is not None
        assert not set(one.seen) & set(fold.test), number
        assert set(fold.train) <= set(one.seen)
    store = FitStore(run.folder / "models")
    fits = [store.load(file.stem, state=True) for file in store.folder.glob("*.json")]
    used = {
        value
        for one in fits
        if one is not None and one.stage == "finetune"
        for value in json.dumps(one.plain).split('"')
        if record.of(value)
    }
    assert used == {one.fit for one in record.fits}


def test_a_network_of_a_source_that_was_not_used_is_noted(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As stage 1 is stored where the core of the source judged it; a source of volumes alone has no core."""
    assert made_by(home).notes == made_by(home, "of_source").notes == ()
    load = FitStore.load

    def judged(store: FitStore, key: str, *, state: bool) -> FitResult | None:
        found = load(store, key, state=state)
        return None if found is None else replace(found, facts={**found.facts, PREDICTABLE: 0.0})

    monkeypatch.setattr(FitStore, "load", judged)
    file = home / "infants" / "cohort.yaml"
    assert embed_cohort(home / "run", file, tmp_path / "a.json", stage="pretrain").notes == (UNUSED,)
    assert embed_cohort(home / "run", file, tmp_path / "b.json").notes == ()
    study = load_settings(home / "run" / "study.yaml", StudySettings)
    assert study.stages.pretrain is not None
    asked = study.stages.model_copy(update={"pretrain": study.stages.pretrain.model_copy(update={"use_if": "always"})})
    fits = [FitResult("", "pretrain", frozenset(), (), facts={PREDICTABLE: 0.0})]
    assert is_unused(study, fits)
    assert not is_unused(study.model_copy(update={"stages": asked}), fits)


def test_a_single_missing_fit_is_missing_input(home: Path, tmp_path: Path) -> None:
    """Otherwise a fold would later have no encoder that had not seen its tested subjects."""
    copy = shutil.copytree(home / "run", tmp_path / "run")
    made = made_by(home)
    (copy / "models" / f"{made.fits[1].fit}.safetensors").unlink()
    with pytest.raises(MissingInputError, match=made.fits[1].fit):
        embed_cohort(copy, home / "infants" / "cohort.yaml", tmp_path / "a.json", base=home / "run")
    assert not (tmp_path / "a.json").exists()


def test_who_has_no_embedding_is_predicted_and_the_report_says_what_was_seen(home: Path, run: StudyRun) -> None:
    assert len(made_by(home).images) == N - 2
    assert {"full", "no_image", "no_connectome", "linear_all"} <= set(run.predictions["model"])
    assert np.isfinite(run.predictions["y_score"]).all()
    page = run.report.read_text("utf-8")
    assert "a dense layer of width 3 on precomputed image embeddings" in page
    assert "without the tested subjects and their relatives" in page
    assert audit_run(run.folder).accused is False


def test_an_encoder_that_saw_a_tested_subject_is_refused(home: Path, tmp_path: Path) -> None:
    """Other splits: every fit has seen test subjects of each fold."""
    splits = {"repeats": 1, "outer": 2, "stratum": "cognitive", "seed": 5}
    with pytest.raises(LeakageError, match="was trained on subjects of a test fold") as caught:
        run_study(fused(home, splits=splits), tmp_path / "run", base=home)
    assert not list((tmp_path / "run" / "models").rglob("*.json"))
    assert "--stage pretrain" in str(caught.value)
    # The remedy: stage 1 has seen the source only, which has other ids.
    found = run_study(
        fused(home, splits=splits, image={"embedding": {"file": "of_source.json"}}), tmp_path / "other", base=home
    )
    assert np.isfinite(found.predictions["y_score"]).all()


def test_inner_folds_are_refused_before_anything_is_fitted_and_the_remedy_serves(home: Path, tmp_path: Path) -> None:
    """Every fit of stage finetune has seen the test rows of inner folds."""
    splits = {"repeats": 1, "outer": 2, "inner": 2, "stratum": "cognitive"}
    with pytest.raises(LeakageError, match="was trained on subjects of a test fold") as caught:
        run_study(fused(home, splits=splits), tmp_path / "run", base=home)
    assert not list((tmp_path / "run" / "models").rglob("*.json"))
    assert "--stage pretrain" in str(caught.value)
    study = fused(home, splits=splits, image={"embedding": {"file": "of_source.json"}})
    target = read_cohorts(study, home).target
    check_embedded(target, make_split_plan(target, study.splits))


def test_the_embedding_of_a_training_row_is_that_of_the_network_that_had_not_seen_it(home: Path) -> None:
    store, cohort = FitStore(home / "run" / "models"), read_cohort(home / "infants" / "cohort.yaml")
    for one in made_by(home).fits:
        fit = store.load(one.fit, state=True)
        assert fit is not None
        ids = tuple(one.embedding)
        plain = image_embedding(fit, with_grids_of(home, cohort), ids)
        rows = np.array([one.embedding[i] for i in ids])
        width = rows.shape[1]
        assert plain.shape[1] == 2 * width
        # The first network's axes are the common ones: its held-out rows are as it made them.
        first = [k for k, row in enumerate(rows) if np.allclose(row, plain[k, :width], atol=1e-5)]
        assert {ids[k] for k in first} < set(one.seen)
        assert 0 < len(first) < len(set(ids) & set(one.seen))


def test_a_cohort_with_few_of_the_training_rows_is_refused_and_the_remedy_serves(home: Path, tmp_path: Path) -> None:
    cohort = read_cohort(home / "infants" / "cohort.yaml")
    write_cohort(cohort.take(cohort.ids[:1]), tmp_path / "few")
    file = tmp_path / "few" / "cohort.yaml"
    with pytest.raises(UsageError, match="too few of the subjects") as caught:
        embed_cohort(home / "run", file, tmp_path / "few.json")
    assert "--stage pretrain" in str(caught.value)
    assert len(embed_cohort(home / "run", file, tmp_path / "few.json", stage="pretrain").images) == 1


def test_kin_of_whom_the_encoder_saw_counts_as_seen(home: Path) -> None:
    cohorts = read_cohorts(fused(home), home)
    fold = SplitPlan.load(home / "run" / "split_plan.json").repeats[0][0]
    record = made_by(home)
    family = np.array(cohorts.target.family, dtype=object)
    family[cohorts.target.positions(fold.test[:1])] = "twins"
    fits = tuple(one.model_copy(update={"families": ("twins",)}) for one in record.fits)
    target = replace(cohorts.target, family=family, embeddings=record.model_copy(update={"fits": fits}))
    with pytest.raises(LeakageError):
        unseen_fit(target, fold)


def test_a_family_called_by_the_id_of_a_tested_subject_counts_as_seen(home: Path) -> None:
    """As for volumes of random contrast, which `contrasts` makes from a subject's label map."""
    cohorts = read_cohorts(fused(home), home)
    fold = SplitPlan.load(home / "run" / "split_plan.json").repeats[0][0]
    record = made_by(home)
    fits = tuple(one.model_copy(update={"families": (fold.test[0],)}) for one in record.fits)
    target = replace(cohorts.target, embeddings=record.model_copy(update={"fits": fits}))
    with pytest.raises(LeakageError):
        unseen_fit(target, fold)


def test_draws_of_a_subject_keep_its_embedding(home: Path) -> None:
    target = read_cohorts(fused(home), home).target
    first = next(i for i in target.ids if made_by(home).fits[0].embedding.get(i))
    drawn = resampled(target, [first, first], [])
    assert drawn.embeddings is not None
    fit = drawn.embeddings.fits[0].embedding
    assert fit[f"{first} #2"] == fit[first] == made_by(home).fits[0].embedding[first]


def test_the_age_gap_of_a_training_row_is_that_of_networks_that_had_not_seen_it(home: Path, tmp_path: Path) -> None:
    cohort_file = home / "older" / "cohort.yaml"
    (found,) = embed_cohort(home / "run", cohort_file, tmp_path / "older.json", stage="pretrain").fits
    fit, older = FitStore(home / "run" / "models").load(found.fit, state=True), read_cohort(cohort_file)
    assert fit is not None
    assert set(fit.rows) == set(older.ids)
    assert set(found.gap) == {i for i, values in fit.held_out.items() if np.isfinite(values[0])}
    ages = dict(zip(older.ids, older.age, strict=True))
    for subject, gap in found.gap.items():
        assert gap == pytest.approx(fit.held_out[subject][0] - ages[subject], abs=1e-5)


def test_the_age_gap_is_corrected_on_training_rows_and_fused(home: Path, tmp_path: Path) -> None:
    record = made_by(home, "of_source")
    (fit,) = record.fits
    assert fit.age_unit == "months"
    assert set(fit.gap) == set(record.images)
    use = {"file": "of_source.json", "what": "age_gap"}
    found = run_study(fused(home, image={"embedding": use}), tmp_path / "run", base=home)
    assert np.isfinite(found.predictions["y_score"]).all()
    assert "corrected for age on the training rows of each fold" in found.report.read_text("utf-8")
    store = FitStore(tmp_path / "run" / "models")
    cohort = read_cohort(home / "infants" / "cohort.yaml")
    age = dict(zip(cohort.ids, cohort.age, strict=True))
    fold = SplitPlan.load(tmp_path / "run" / "split_plan.json").repeats[0][0]
    fits = [store.load(file.stem, state=True) for file in store.folder.glob("*.json")]
    (core,) = [
        one for one in fits
        if one is not None and one.stage == "core" and set(one.predictions) == set(fold.test)
        and "features/image.line" in one.arrays and "features/connectome.scaler.mean" in one.arrays
    ]  # fmt: skip
    train = [i for i in fold.train if i in fit.gap]
    want = np.polyfit([age[i] for i in train], [fit.gap[i] for i in train], 1)
    np.testing.assert_allclose(core.arrays["features/image.line"], want, rtol=1e-8)


def test_a_changed_image_is_refused_with_subject_and_file(home: Path, tmp_path: Path) -> None:
    cohort = read_cohort(home / "infants" / "cohort.yaml")
    volume = read_volume(cohort.volumes[0])
    other = write_volume(tmp_path / "other.nii.gz", volume.data * 2, volume.affine)
    write_cohort(replace(cohort, volumes=(str(other), *cohort.volumes[1:])), tmp_path / "infants")
    study = fused(
        home,
        target={"cohort": str(tmp_path / "infants" / "cohort.yaml"), "tasks": ["cognitive"]},
    )
    with pytest.raises(DataError, match="another image") as caught:
        read_cohorts(study, home)
    assert caught.value.problems[0].subject == cohort.ids[0]


def test_files_that_are_no_embeddings_are_refused(home: Path, tmp_path: Path) -> None:
    for text, kind in ((None, MissingInputError), ("{}", DataError), ("\x00", DataError)):
        file = tmp_path / "wrong.json"
        if text is not None:
            file.write_text(text)
        with pytest.raises(kind):
            read_cohorts(fused(home, image={"embedding": {"file": str(file)}}), home)


def test_encoder_and_file_go_together(home: Path) -> None:
    with pytest.raises(ValueError, match="give both or neither"):
        fused(home, image={"size": 12})
    settings = load_settings(home / "volumes.yaml", StudySettings)
    with pytest.raises(UsageError, match="both or neither"):
        settings.with_settings({"image.embedding": {"file": "embedding.json"}})
