"""Brain age in two stages: out-of-fold first estimates, rounding, residuals, ensembles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_rows import SmallEncoder, rows_of, simulated

from connectome_tl.errors import DataError
from connectome_tl.settings.images.cascade import TwoStage
from connectome_tl.settings.images.descent import Descent
from connectome_tl.training.images.cascade import AgeNetwork, TwoStageAge, fit_two_stage

QUICK = Descent(steps=50, learning_rate=5e-3, batch_size=12)
SETTINGS = TwoStage(folds=2, first=QUICK, second=QUICK)


@pytest.fixture(scope="module")
def fitted() -> TwoStageAge:
    rows = rows_of(simulated(48))
    return fit_two_stage(rows, rows.ids[:36], SmallEncoder, SETTINGS, seed=0)


def test_a_first_estimate_comes_from_a_network_that_did_not_see_its_subject(fitted: TwoStageAge) -> None:
    rows = rows_of(simulated(48))
    volumes = rows.volumes.clone()
    volumes[4] *= 1.5
    other = fit_two_stage(replace(rows, volumes=volumes), rows.ids[:36], SmallEncoder, SETTINGS, seed=0)
    same = [
        all(torch.equal(a, b) for a, b in zip(x.state_dict().values(), y.state_dict().values(), strict=True))
        for x, y in zip(fitted.first, other.first, strict=True)
    ]
    assert sorted(same) == [False, True]
    assert other.estimates[4, 0] != fitted.estimates[4, 0]  # the unchanged network, on the changed volume
    held = same.index(True)
    network, one = fitted.first[held], replace(rows, volumes=volumes).at([4])
    own = network(one.volumes, torch.tensor([[1.0, 0.0]])).detach() * other.scale + other.centre
    assert other.estimates[4, 0] == pytest.approx(float(own), rel=1e-5)


def test_the_second_stage_starts_from_the_rounded_first_estimate() -> None:
    rows = rows_of(simulated(48))
    still = SETTINGS.model_copy(update={"second": Descent(steps=0), "first": Descent(steps=2), "rounding": 3.0})
    found = fit_two_stage(rows, rows.ids[:12], SmallEncoder, still, seed=0)
    assert np.allclose(found.estimates[:, 1], np.round(found.estimates[:, 0] / 3) * 3, atol=1e-6)
    new = found.predict(rows.at(range(36, 48)))
    assert new.shape == (12, 2)
    assert np.allclose(new[:, 1], np.round(new[:, 0] / 3) * 3, atol=1e-6)


def test_it_learns_more_than_the_mean_age(fitted: TwoStageAge) -> None:
    rows = rows_of(simulated(48))
    test = rows.at(range(36, 48))
    error = np.abs(fitted.predict(test)[:, 1] - test.ages).mean()
    assert error < 0.9 * np.abs(test.ages - rows.ages[:36].mean()).mean()


def test_families_stay_together_in_inner_folds() -> None:
    from connectome_tl.training.images.cascade import _parts

    rows = rows_of(simulated(48)).at(range(12))
    twins = type(rows)(rows.ids, rows.volumes, rows.ages, families=tuple(f"f{i // 3}" for i in range(12)))
    for train, held in _parts(twins, SETTINGS, np.random.default_rng(0)):
        assert not {twins.families[i] for i in train} & {twins.families[i] for i in held}
    with pytest.raises(DataError, match="too few training families"):
        _parts(twins, TwoStage(folds=5), np.random.default_rng(0))


def test_in_sample_estimates_are_the_published_way_and_fit_one_network_each() -> None:
    rows = rows_of(simulated(48))
    brief = Descent(steps=2)
    settings = TwoStage(first_estimates="in_sample", first=brief, second=brief, rounding=5.0)
    fitted = fit_two_stage(rows, rows.ids[:8], SmallEncoder, settings, seed=0)
    assert len(fitted.first) == len(fitted.second) == 1
    assert np.allclose(fitted.predict(rows.at(range(8))), fitted.estimates, atol=1e-4)


def test_sex_reaches_the_age_and_unknown_sex_is_neither() -> None:
    torch.manual_seed(0)
    network = AgeNetwork(SmallEncoder(), second=False).eval()
    volumes = torch.randn(1, 1, 8, 8, 8).expand(3, -1, -1, -1, -1)
    found = network(volumes, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
    assert len(set(found.tolist())) == 3


def test_a_training_subject_without_age_is_named() -> None:
    rows = rows_of(simulated(48))
    ages = rows.ages.copy()
    ages[2] = np.nan
    unknown = type(rows)(rows.ids, rows.volumes, ages)
    with pytest.raises(DataError, match=rows.ids[2]):
        fit_two_stage(unknown, rows.ids[:8], SmallEncoder, SETTINGS, seed=0)
