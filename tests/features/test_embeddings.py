"""The age gap as a feature: its correction for age, with ages that are partly unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_study import small_cohorts

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.features.embeddings import fit_embedding
from connectome_tl.settings.images.embedding import EmbeddedFit, EmbeddingUse, ImageEmbeddings

USE = EmbeddingUse(file="embedding.json", what="age_gap", fit="fit")
N, N_TRAIN = 20, 12
RNG = np.random.default_rng(0)
AGE = RNG.uniform(38, 46, N)
GAP = 5 - 0.5 * (AGE - 40) + RNG.normal(size=N)


def cohort_of(age: np.ndarray) -> Cohort:
    """Infants with age gaps (weeks) of a network of another study, and these ages."""
    made = small_cohorts(n_source=4, n_pool=4, n_target=N).target
    gap = dict(zip(made.ids, GAP.tolist(), strict=True))
    embedding = dict.fromkeys(made.ids, (0.0,))
    fit = EmbeddedFit(fit="fit", stage="pretrain", seen=("o",), age_unit="weeks", embedding=embedding, gap=gap)
    found = ImageEmbeddings(made_of={}, images=dict.fromkeys(made.ids, "hash"), fits=(fit,))
    return replace(made, age=age, age_unit="weeks", volumes=tuple(made.ids), embeddings=found)


@pytest.mark.parametrize("unknown", [3, N_TRAIN + 3])
def test_the_age_gap_of_a_subject_of_unknown_age_is_missing_and_the_others_are_corrected(unknown: int) -> None:
    age = AGE.copy()
    age[unknown] = np.nan
    cohort = cohort_of(age)
    steps = fit_embedding(cohort, cohort.ids[:N_TRAIN], USE)
    assert steps is not None
    train = np.isfinite(age) & (np.arange(N) < N_TRAIN)
    np.testing.assert_allclose(steps.line, np.polyfit(AGE[train], GAP[train], 1))
    made = steps.apply(cohort, cohort.ids)
    assert list(made.present) == list(np.isfinite(age))
    values = made.rows["embedding"][:, 0]
    assert np.isfinite(values).all()
    assert values[unknown] == 0
    assert np.corrcoef(values[train], AGE[train])[0, 1] == pytest.approx(0, abs=1e-6)


def test_the_age_gap_of_a_cohort_without_ages_is_refused() -> None:
    cohort = cohort_of(np.full(N, np.nan))
    with pytest.raises(DataError, match="needs the ages of cohort"):
        fit_embedding(cohort, cohort.ids[:N_TRAIN], USE)
