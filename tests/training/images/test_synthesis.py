"""Synthetic volumes: their source subjects, their accuracy, and the generator's dependence on age."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_rows import planted, rows_of, simulated

from connectome_tl.errors import DataError
from connectome_tl.evaluation.images.map_checks import planted_auc
from connectome_tl.settings.images.descent import Descent
from connectome_tl.settings.images.synthesis import RandomContrast, TaskGuidedGan
from connectome_tl.training.images.synthesis import (
    Synthesiser,
    fit_synthesiser,
    joined,
    nearness,
    random_contrast_rows,
    synthesise,
)

SETTINGS = TaskGuidedGan(width=8, depth=2, latent=8, bin_width=6.0, descent=Descent(steps=80, learning_rate=3e-3))
MIXUP = SETTINGS.model_copy(update={"source": "mixup"})


@pytest.fixture(scope="module")
def fitted() -> Synthesiser:
    rows = planted()[0]
    return fit_synthesiser(rows, rows.ids[:20], SETTINGS, seed=0)


def test_reconstruction_is_nearer_than_the_mean_volume(fitted: Synthesiser) -> None:
    volumes = planted()[0].volumes
    test, mean = volumes[20:], volumes[:20].mean(dim=0)
    assert float((fitted.reconstructed(test) - test).abs().mean()) < 0.85 * float((mean - test).abs().mean())


def test_ages_and_volumes_are_mixed_with_the_same_weight_within_a_bin(fitted: Synthesiser) -> None:
    rows = planted()[0]
    made = synthesise(rows, rows.ids[:20], MIXUP, seed=1)
    age = dict(zip(rows.ids, rows.ages, strict=True))
    volume = dict(zip(rows.ids, rows.volumes, strict=True))
    for i, (a, b) in enumerate(made.parents):
        w = made.weight[i]
        assert a != b
        assert np.floor(age[a] / 6.0) == np.floor(age[b] / 6.0)
        assert made.rows.ages[i] == pytest.approx(w * age[a] + (1 - w) * age[b])
        assert torch.allclose(made.rows.volumes[i], w * volume[a] + (1 - w) * volume[b], atol=1e-5)
    through = synthesise(rows, rows.ids[:20], SETTINGS, seed=1, model=fitted)
    assert through.parents == made.parents
    assert not torch.allclose(through.rows.volumes, made.rows.volumes, atol=1e-2)


def test_small_bins_are_filled_first() -> None:
    rows = planted()[0]
    made = synthesise(rows, rows.ids, MIXUP, seed=0)
    bins = np.floor(rows.ages / 6.0)
    real = {b: int((bins == b).sum()) for b in np.unique(bins)}
    new = np.floor(made.rows.ages / 6.0)
    total = {b: n + int((new == b).sum()) for b, n in real.items() if n > 1}
    assert max(total.values()) - min(total.values()) <= max(0, max(real.values()) - min(total.values())) + 1
    assert len(made.rows) == len(rows)


def test_a_generator_of_other_rows_is_refused(fitted: Synthesiser) -> None:
    rows = planted()[0]
    with pytest.raises(DataError, match="not fitted on the subjects"):
        synthesise(rows, rows.ids[:19], SETTINGS, seed=0, model=fitted)


def test_no_bin_with_two_subjects_is_said() -> None:
    rows = planted()[0]
    with pytest.raises(DataError, match="bin_width"):
        synthesise(rows, rows.ids[:3], MIXUP.model_copy(update={"bin_width": 1e-3}), seed=0)


@pytest.mark.parametrize("ages", [(0.0, 11.0, 23.0), (-5.0, 5.0), (1.0, 2.0, 4.0, 8.0, 16.0)])
def test_automatic_bins_hold_two_of_few_subjects(ages: tuple[float, ...]) -> None:
    rows = replace(rows_of(simulated()).at(range(len(ages))), ages=np.array(ages))
    made = synthesise(rows, rows.ids, MIXUP.model_copy(update={"bin_width": "auto"}), seed=0)
    assert all(one != other for one, other in made.parents)


def test_the_difference_of_two_ages_lies_in_the_planted_region(fitted: Synthesiser) -> None:
    rows, region, ball = planted()
    maps = np.abs(fitted.age_map(rows.volumes[:20], rows.ages[:20], 0.0, 24.0))
    found = [planted_auc(one, region, ball) for one in maps]
    print(f"AUC of the difference of two syntheses against the planted region {np.mean(found):.3f}")
    assert np.mean(found) > 0.9


def test_another_age_is_reached_along_the_slope(fitted: Synthesiser) -> None:
    rows = planted()[0].at(range(3))
    same = fitted.at_age(rows.volumes[:1], rows.ages[:1], float(rows.ages[0]))
    assert torch.allclose(same, fitted.reconstructed(rows.volumes[:1]), atol=1e-5)


def test_copies_have_no_distance_and_new_volumes_have() -> None:
    training = torch.randn(6, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    copied = nearness(training[:3], training)
    assert np.allclose(copied.synthetic, 0, atol=1e-6)
    assert copied.ratio == pytest.approx(0, abs=1e-6)
    shifted = nearness(training[:3] + 0.5, training[:1])
    assert shifted.synthetic[0] == pytest.approx(0.5)


def test_without_guidance_the_age_network_learns_nothing() -> None:
    rows = planted()[0]
    brief = SETTINGS.model_copy(update={"descent": Descent(steps=40, learning_rate=3e-3), "adversarial": 0.0})
    errors = [
        fit_synthesiser(rows, rows.ids, brief.model_copy(update={"age": weight}), seed=0).errors[1]
        for weight in (0.0, 1.0)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_random_contrast_keeps_labels_and_changes_grey_levels() -> None:
    rows = rows_of(simulated())
    made = random_contrast_rows(rows, rows.ids[:4], RandomContrast(copies=3), seed=0)
    assert len(made) == 12
    assert made.families == tuple(rows.ids[i // 3] for i in range(12))
    assert torch.equal(made.need_labels()[5], rows.need_labels()[1])
    white = [float(v[0][lab == 4].mean()) for v, lab in zip(made.volumes, made.need_labels(), strict=True)]
    grey = [float(v[0][lab == 3].mean()) for v, lab in zip(made.volumes, made.need_labels(), strict=True)]
    brighter = np.array(white) > np.array(grey)
    assert 0 < brighter.sum() < 12  # both contrasts occur
    both = joined(rows, made)
    assert len(both) == len(rows) + 12
