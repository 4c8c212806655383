"""An external modality: a precomputed image embedding per subject, missing in some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from small_study import plan_of, small_cohorts, small_settings
from torch import nn

from connectome_tl import extend
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.features.arrays import Arrays
from connectome_tl.features.steps import fit_steps
from connectome_tl.nn.batch import ImageRows
from connectome_tl.nn.branch import Branch, Encoded, Sizes
from connectome_tl.settings.encoders import EncoderSettings
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import stored_model
from connectome_tl.training.schemes import StudyCohorts

WIDTH = 5


class FrozenSettings(EncoderSettings):
    modality = "image"
    kind: Literal["frozen_embedding"] = "frozen_embedding"
    width: int = 4

    @property
    def is_atlas_bound(self) -> bool:
        return False

    def describe(self) -> str:
        return f"a dense layer of width {self.width} on frozen image embeddings"


class FrozenBranch(Branch):
    def __init__(self, settings: FrozenSettings, sizes: Sizes) -> None:
        super().__init__()
        self.width = settings.width
        self.linear = nn.Linear(sizes["n_columns"], settings.width)

    def forward(self, rows: ImageRows) -> Encoded:
        return Encoded(torch.relu(self.linear(rows.embedding)))


@dataclass(frozen=True, eq=False)
class ImageSteps:
    """Mean and spread of every column over the training rows that have an image."""

    mean: np.ndarray
    scale: np.ndarray
    ids: tuple[str, ...]

    def apply(self, cohort: Cohort, ids: Sequence[str]) -> Arrays:
        values, present = embeddings(cohort, ids, len(self.mean))
        scaled = np.where(present[:, None], (values - self.mean) / self.scale, 0.0).astype(np.float32)
        return Arrays({"embedding": scaled}, present)


def embeddings(cohort: Cohort, ids: Sequence[str], width: int) -> tuple[np.ndarray, np.ndarray]:
    files = [cohort.volumes[i] for i in cohort.positions(ids)]
    present = np.array([bool(file) for file in files])
    rows = [np.load(file, allow_pickle=False) if file else np.zeros(width) for file in files]
    return np.array(rows, dtype=float), present


def fit_images(cohort: Cohort, ids: Sequence[str], settings: FeatureSettings) -> ImageSteps | None:
    del settings
    if not cohort.volumes:
        return None
    values, present = embeddings(cohort, ids, WIDTH)
    seen = values[present]
    return ImageSteps(seen.mean(axis=0), seen.std(axis=0) + 1e-6, tuple(ids))


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(modality=("image", fit_images, ImageRows), records=(ImageSteps,))
    extend(settings=FrozenSettings, encoder=FrozenBranch)


def write_images(cohort: Cohort, folder: Path) -> list[str]:
    """One file per subject, except every fifth."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    files = []
    for i, subject in enumerate(cohort.ids):
        file = folder / f"{subject}.npy"
        if i % 5:
            np.save(file, rng.normal(size=WIDTH))
        files.append(str(file) if i % 5 else "")
    return files


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> StudyCohorts:
    made = small_cohorts()
    files = write_images(made.target, tmp_path_factory.mktemp("embedded") / "images")
    return made.with_role("target", replace(made.target, volumes=tuple(files)))


STUDY = {"others": [{"kind": "frozen_embedding"}]}


def with_images() -> ModelSettings:
    return ModelSettings.model_validate({**small_settings().model.model_dump(), **STUDY})


def test_who_has_no_image_is_predicted_and_the_presence_reaches_the_models(
    cohorts: StudyCohorts, tmp_path: Path
) -> None:
    fold = Fold(cohorts.target.ids[:16], cohorts.target.ids[16:])
    study, store = small_settings(model=with_images()), FitStore(tmp_path)
    plan = plan_of(fold, study, cohorts=cohorts)
    assert plan.modalities == ("connectome", "clinical", "image")
    results = fit([plan], cohorts.by_name(), store=store)
    model = stored_model(store, plan.key)
    found = model.predict(cohorts.target, fold.test)
    assert np.isfinite(found).all()
    assert found.tobytes() == np.array([results[plan.key].predictions[i] for i in fold.test]).tobytes()
    # Predictions change without the images, except for an infant that has none.
    lacking = [i for i in fold.test if not cohorts.target.volumes[cohorts.target.positions([i])[0]]]
    assert lacking
    assert len(lacking) < len(fold.test)
    blind = replace(cohorts.target, volumes=("",) * cohorts.target.n_subjects)
    for part in ("core", "network"):
        fitted = stored_model(store, dict(plan.parents)[part].key)
        with_them, without = fitted.predict(cohorts.target, fold.test), fitted.predict(blind, fold.test)
        for subject, a, b in zip(fold.test, with_them, without, strict=True):
            assert np.allclose(a, b, rtol=1e-6) == (subject in lacking), (part, subject)


def test_a_changed_image_of_a_training_infant_is_another_fit_wherever_the_file_lies(
    cohorts: StudyCohorts, tmp_path: Path
) -> None:
    fold = Fold(cohorts.target.ids[:16], cohorts.target.ids[16:])
    study = small_settings(model=with_images())
    moved = write_images(cohorts.target, tmp_path / "elsewhere")
    again = cohorts.with_role("target", replace(cohorts.target, volumes=tuple(moved)))
    assert plan_of(fold, study, cohorts=again).key == plan_of(fold, study, cohorts=cohorts).key
    np.save(moved[1], np.zeros(WIDTH))
    changed = cohorts.with_role("target", replace(cohorts.target, volumes=tuple(moved)))
    assert plan_of(fold, study, cohorts=changed).key != plan_of(fold, study, cohorts=cohorts).key


def test_steps_of_images_see_training_rows_alone(cohorts: StudyCohorts) -> None:
    ids = cohorts.target.ids
    steps = fit_steps(cohorts.target, ids[:16], FeatureSettings(), ("image",)).steps["image"]
    shuffled = replace(cohorts.target, volumes=(*cohorts.target.volumes[:16], *cohorts.target.volumes[16:][::-1]))
    again = fit_steps(shuffled, ids[:16], FeatureSettings(), ("image",)).steps["image"]
    assert isinstance(steps, ImageSteps)
    assert isinstance(again, ImageSteps)
    np.testing.assert_array_equal(steps.mean, again.mean)
    assert steps.ids == ids[:16]


def test_a_study_with_it_runs_to_a_report_that_says_so(
    run_small: Callable, unknown_to_the_package: Callable[[str], bool]
) -> None:
    run = run_small(
        {"model.others": STUDY["others"], "controls": ["no_image", "no_connectome", "no_pretrain"]},
        images=write_images,
    )
    page = run.report.read_text("utf-8")
    assert "a dense layer of width 4 on frozen image embeddings" in page
    assert "one block each for edges, clinical covariates and image" in page
    assert {"no_image", "no_connectome"} <= set(run.predictions["model"])
    assert np.isfinite(run.predictions["y_score"]).all()
    assert unknown_to_the_package("frozen_embedding")
    assert unknown_to_the_package("frozen image embeddings")
