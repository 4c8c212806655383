"""A baseline of all inputs uses the modality of an extension as the full model does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from small_study import small_cohorts, small_settings

from connectome_tl import extend
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.baselines.data import BaselineData
from connectome_tl.evaluation.baselines.ridges import linear_all
from connectome_tl.features.arrays import Arrays
from connectome_tl.nn.batch import ClinicalRows
from connectome_tl.nn.branch import Branch, Sizes
from connectome_tl.settings.encoders import EncoderSettings
from connectome_tl.settings.features import FeatureSettings
from connectome_tl.settings.model import ModelSettings

N_COLUMNS = 3


class GeneSettings(EncoderSettings):
    modality = "genes"
    kind: Literal["genes"] = "genes"


@dataclass(frozen=True, eq=False)
class GeneSteps:
    """Three columns drawn from the id of each subject."""

    ids: tuple[str, ...]

    def apply(self, cohort: Cohort, ids: Sequence[str]) -> Arrays:
        del cohort
        values = [np.random.default_rng(list(subject.encode())).normal(size=N_COLUMNS) for subject in ids]
        return Arrays({"values": np.array(values, dtype=np.float32)}, np.ones(len(ids), dtype=bool))


def fit_genes(cohort: Cohort, ids: Sequence[str], settings: FeatureSettings) -> GeneSteps:
    del cohort, settings
    return GeneSteps(tuple(ids))


def no_branch(settings: GeneSettings, sizes: Sizes) -> Branch:
    del settings, sizes
    raise NotImplementedError("a baseline needs no network")


@pytest.fixture(scope="module", autouse=True)
def registered(forgotten: None) -> None:
    extend(modality=("genes", fit_genes, ClinicalRows), records=(GeneSteps,))
    extend(settings=GeneSettings, encoder=no_branch)


def test_a_linear_model_of_all_inputs_has_the_columns_of_a_further_modality() -> None:
    cohorts = small_cohorts()
    target = cohorts.target
    fold = Fold(target.ids[:16], target.ids[16:])
    model = small_settings().model.model_dump()
    wide = ModelSettings.model_validate({**model, "others": [{"kind": "genes"}]})
    designs = [
        linear_all(BaselineData(small_settings(model=settings), cohorts, target.tasks[:1]))[0].design(fold)
        for settings in (ModelSettings.model_validate(model), wide)
    ]
    without, with_genes = (design.test.shape[1] for design in designs)
    assert with_genes == without + N_COLUMNS + 1  # and their presence
    genes = GeneSteps(()).apply(target, fold.test).rows["values"]
    np.testing.assert_allclose(designs[1].test[:, without : without + N_COLUMNS], genes)
