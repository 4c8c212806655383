"""Checks detect and name planted faults."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.atlas import load_atlas
from connectome_tl.connectome.quality import QualityLimits, duplicates, findings, matrix_images, subject_measures

ATLAS = load_atlas("aal90")
IDS = [f"s{i}" for i in range(30)]


def brains(n: int = 30, *, lateral: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Near regions are connected, the left hemisphere more in front; all regions present."""
    rng = np.random.default_rng(seed)
    at = ATLAS.coordinates
    distance = np.linalg.norm(at[:, None] - at[None], axis=-1)
    side = (at[:, 0] < 0) & (at[:, 1] > 0)
    template = 50 * np.exp(-distance / 25) * (1 + lateral * (side[:, None] & side[None]))
    weights = rng.poisson(np.broadcast_to(template, (n, 90, 90))).astype(float)
    upper = np.triu(weights, 1)
    return upper + upper.swapaxes(1, 2), np.ones((n, 90), dtype=bool)


def found_in(weights: np.ndarray, mask: np.ndarray) -> dict[str, list[str]]:
    measures = subject_measures(weights, mask, ATLAS.names, ATLAS)
    limits = QualityLimits.fit(measures, IDS)
    out: dict[str, list[str]] = {}
    for one in findings(weights, mask, IDS, ATLAS.names, measures, limits):
        out.setdefault(one.check, []).append(one.subject)
    return out


def test_a_clean_cohort_has_no_errors_or_warnings() -> None:
    assert set(found_in(*brains())) <= {"outlier"}


def test_exchanged_hemispheres_are_found() -> None:
    weights, mask = brains()
    weights[4] = weights[4][np.ix_(ATLAS.partners, ATLAS.partners)]
    assert found_in(weights, mask)["swap"] == ["s4"]


def test_hemispheres_that_are_alike_are_not_called_exchanged() -> None:
    weights, mask = brains(lateral=0.0)
    assert "swap" not in found_in(weights, mask)


def test_one_scan_under_two_ids_is_found() -> None:
    weights, mask = brains()
    weights[9] = weights[2] * 1.01
    assert found_in(weights, mask)["duplicate"] == ["s2"]
    assert duplicates(np.zeros((4, 5, 5)), list("abcd")) == []


def test_all_pairs_above_the_limit_are_found_and_no_others() -> None:
    """Compared with all correlations, with pairs just above and just below 0.999."""
    weights, _ = brains(40)
    rng = np.random.default_rng(3)
    for i, noise in enumerate(np.linspace(0.02, 0.5, 12)):
        edges = np.triu(rng.normal(0, noise, (90, 90)), 1)
        weights[20 + i] = weights[i] + edges + edges.T
    first, second = np.triu_indices(90, 1)
    expected = np.triu(np.corrcoef(weights[:, first, second]) > 0.999, 1)
    assert 3 < expected.sum() < 12
    found = duplicates(weights, [str(i) for i in range(40)])
    assert {(int(a), int(b)) for a, b, _ in found} == set(map(tuple, np.argwhere(expected).tolist()))


def test_a_cohort_in_blocks_gives_the_same_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, mask = brains()
    mask[4, 7] = False
    whole = subject_measures(weights, mask, ATLAS.names, ATLAS)
    monkeypatch.setattr("connectome_tl.connectome.quality._BLOCK_BYTES", 3 * weights[0].nbytes)
    for name, values in subject_measures(weights, mask, ATLAS.names, ATLAS).items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-12, err_msg=name)


def test_an_isolated_region_is_named_and_a_missing_one_is_not() -> None:
    weights, mask = brains()
    weights[3, 10], weights[3, :, 10] = 0, 0
    weights[5, 10], weights[5, :, 10] = 0, 0
    mask[5, 10] = False
    measures = subject_measures(weights, mask, ATLAS.names, ATLAS)
    found = findings(weights, mask, IDS, ATLAS.names, measures, QualityLimits.fit(measures, IDS))
    isolated = [one for one in found if one.check == "isolated"]
    assert [(one.subject, one.regions) for one in isolated] == [("s3", (ATLAS.names[10],))]
    assert measures["components"][3] == 2
    assert measures["components"][5] == 1


def test_shuffled_rows_show_as_length_and_typicality() -> None:
    weights, mask = brains()
    turn = np.random.default_rng(1).permutation(90)
    weights[7] = weights[7][np.ix_(turn, turn)]
    measures = subject_measures(weights, mask, ATLAS.names, ATLAS)
    assert measures["length"][7] > -0.1 > np.delete(measures["length"], 7).max()
    assert QualityLimits.fit(measures, IDS).outliers(measures)["typicality"][7]


def test_limits_come_from_the_rows_they_were_fitted_on() -> None:
    weights, mask = brains()
    measures = subject_measures(weights, mask, ATLAS.names, ATLAS)
    train = {name: values[:20] for name, values in measures.items()}
    limits = QualityLimits.fit(train, IDS[:20])
    measures["density"][25] = 99.0
    assert QualityLimits.fit({n: v[:20] for n, v in measures.items()}, IDS[:20]).limits == limits.limits
    assert limits.ids == tuple(IDS[:20])
    assert limits.outliers(measures)["density"][25]


def test_without_an_atlas_or_edges_there_are_numbers_and_no_warnings() -> None:
    weights, mask = np.zeros((3, 5, 5)), np.ones((3, 5), dtype=bool)
    measures = subject_measures(weights, mask, list("abcde"))
    assert "swap" not in measures
    assert measures["components"].tolist() == [5, 5, 5]
    mask[0] = False
    assert np.isnan(subject_measures(weights, mask, list("abcde"))["typicality"]).all()


def test_the_strip_shows_the_least_typical_first() -> None:
    weights, mask = brains()
    typical = np.linspace(1, 0, 30)
    images = matrix_images(weights, mask, IDS, typical, flagged=["s29"])
    assert [image.title for image in images[:3]] == ["mean of all", "s29", "s28"]
    assert [image.flagged for image in images[:3]] == [False, True, False]
    assert len(images[1].values) == 90 * 90


def test_partners_are_the_other_side() -> None:
    for name in ("aal90", "aal116", "unc_aal90"):
        atlas = load_atlas(name)
        assert (atlas.partners[atlas.partners] == np.arange(atlas.n_regions)).all()
        midline = [region.hemisphere == "M" for region in atlas.regions]
        assert ((atlas.partners == np.arange(atlas.n_regions)) == midline).all()
        mirrored = atlas.coordinates[atlas.partners] * [-1, 1, 1]
        assert np.linalg.norm(mirrored - atlas.coordinates, axis=1).max() < 15


@pytest.mark.parametrize("n", [1, 2])
def test_very_few_subjects_have_no_limits(n: int) -> None:
    weights, mask = brains(n)
    measures = subject_measures(weights, mask, ATLAS.names, ATLAS)
    assert QualityLimits.fit(measures, IDS[:n]).limits == {}


def test_a_missing_region_is_grey_in_the_strip_and_an_isolated_one_is_not() -> None:
    weights, mask = brains()
    weights[:, 3], weights[:, :, 3] = 0, 0
    mask[29, 3] = False
    images = matrix_images(weights, mask, IDS, np.linspace(1, 0, 30))
    shown = {image.title: np.array(image.values).reshape(90, 90) for image in images}
    assert np.isnan(shown["s29"][3]).all()
    assert np.isfinite(np.delete(np.delete(shown["s29"], 3, 0), 3, 1)).all()
    assert (shown["s28"][3] == 0).all()
    assert np.isfinite(shown["mean of all"]).all()
