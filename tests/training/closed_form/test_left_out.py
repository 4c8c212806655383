"""Predictions that leave out a family equal refits without it; scikit-learn is the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from core_cases import case
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut

from connectome_tl.training.closed_form.average import kernel_average, sobol_points
from connectome_tl.training.closed_form.combine import best_fit, stack
from connectome_tl.training.closed_form.spectrum import Design, Families, Spectrum

PENALTIES = np.array([0.01, 0.3, 10.0, 1000.0])


def _design(z: np.ndarray, names: list[str]) -> Design:
    return Design.of(z, Families.of(names))


@pytest.mark.parametrize("twins", [False, True])
def test_every_penalty_equals_refits_of_scikit_learn(twins: bool) -> None:
    given = case(twins=twins)
    design = _design(np.ones((40, 1)), given.families)
    spectrum = Spectrum.of(given.wide @ given.wide.T, np.arange(40), design)
    errors = design.residuals(given.y)
    path = spectrum.path(given.y, errors, PENALTIES)
    for k, penalty in enumerate(PENALTIES):
        expected = np.empty_like(given.y)
        for train, test in LeaveOneGroupOut().split(given.wide, groups=given.families):
            refit = Ridge(alpha=penalty).fit(given.wide[train], given.y[train])
            expected[test] = refit.predict(given.wide[test])
        np.testing.assert_allclose(given.y - errors + path[k], expected, rtol=1e-7, atol=1e-7)


def test_unpenalised_columns_equal_refits_with_those_columns_residualised() -> None:
    given = case()
    z = np.column_stack([np.ones(40), given.narrow])
    design = _design(z, given.families)
    spectrum = Spectrum.of(given.wide @ given.wide.T, np.arange(40), design)
    errors = design.residuals(given.y)
    path = spectrum.path(given.y, errors, np.array([5.0]))
    expected = np.empty_like(given.y)
    for train, test in LeaveOneGroupOut().split(z, groups=given.families):
        # An unpenalised column: scaled so that its penalty is negligible.
        wide = np.hstack([given.wide, 1e5 * given.narrow])
        expected[test] = Ridge(alpha=5.0, solver="svd").fit(wide[train], given.y[train]).predict(wide[test])
    np.testing.assert_allclose(given.y - errors + path[0], expected, rtol=1e-5)


def test_a_column_that_only_one_family_has_falls_back_to_the_mean_of_the_others() -> None:
    given = case(twins=False)
    z = np.column_stack([np.ones(40), np.eye(40)[:, 7]])
    design = _design(z, given.families)
    errors = design.residuals(given.y)
    others = np.delete(given.y, 7, axis=0).mean(axis=0)
    np.testing.assert_allclose(given.y[7] - errors[7], others)
    path = Spectrum.of(given.wide @ given.wide.T, np.arange(40), design).path(given.y, errors, PENALTIES)
    np.testing.assert_allclose(path[:, 7], 0, atol=1e-8)


def test_dual_weights_are_those_of_kernel_ridge() -> None:
    given = case()
    design = _design(np.ones((40, 1)), given.families)
    kernel = np.exp(-((given.wide[:, None] - given.wide) ** 2).sum(axis=2) / 100)
    centring = np.eye(40) - 1 / 40
    spectrum = Spectrum.of(kernel, np.arange(40), design)
    shares = np.array([[1.0, 0.0], [0.0, 2.0]])
    dual = spectrum.dual(given.y, np.array([0.5, 3.0]), shares)
    for column, penalty, share in ((0, 0.5, 1.0), (1, 3.0, 2.0)):
        oracle = KernelRidge(alpha=penalty, kernel="precomputed")
        oracle.fit(centring @ kernel @ centring, given.y[:, column] - given.y[:, column].mean())
        # The oracle's dual of the centred kernel has mean 0 too, since its target has.
        np.testing.assert_allclose(dual[:, column], share * oracle.dual_coef_, atol=1e-9)


def test_the_landmark_form_with_all_rows_is_the_exact_one() -> None:
    given = case()
    design = _design(np.ones((40, 1)), given.families)
    gram = given.wide @ given.wide.T
    exact, errors = Spectrum.of(gram, np.arange(40), design), design.residuals(given.y)
    doubled = np.concatenate([np.arange(40), [0]])  # one landmark twice: not square, same span
    other = Spectrum.of(gram[:, doubled], doubled, design)
    np.testing.assert_allclose(
        exact.path(given.y, errors, PENALTIES), other.path(given.y, errors, PENALTIES), rtol=1e-5, atol=1e-5
    )
    shares = np.ones((4, 2))
    new = np.random.default_rng(1).normal(size=(5, 60))
    kernel = new @ given.wide.T
    ours = kernel @ exact.dual(given.y, PENALTIES, shares)
    np.testing.assert_allclose(
        ours - ours.mean(axis=0),
        (lambda p: p - p.mean(axis=0))(kernel[:, doubled] @ other.dual(given.y, PENALTIES, shares)),
        rtol=1e-5,
    )


def test_the_slope_and_the_penalty_have_the_least_error_of_all() -> None:
    given = case()
    design = _design(np.ones((40, 1)), given.families)
    errors = design.residuals(given.y)
    path = Spectrum.of(given.wide @ given.wide.T, np.arange(40), design).path(given.y, errors, PENALTIES)
    shares, prediction = best_fit(path, errors, np.array([True, False]))
    best = min(((errors[:, 0] - slope * added[:, 0]) ** 2).sum() for added in path for slope in np.linspace(0, 5, 5001))
    assert ((errors[:, 0] - prediction[:, 0]) ** 2).sum() <= best + 1e-9
    assert sorted(shares[:, 1]) == [0, 0, 0, 1]
    np.testing.assert_allclose(prediction[:, 1], path[shares[:, 1].argmax(), :, 1])


def test_a_stack_of_labels_is_never_constant() -> None:
    rng = np.random.default_rng(3)
    errors = rng.normal(size=(30, 2))
    path = -np.abs(rng.normal(size=(3, 1, 1))) * errors  # no prediction is informative
    shares, prediction = stack([path], errors, np.array([True, False]), 0)
    assert not shares[0][:, 0].any()
    assert shares[0][:, 1].sum() == 1
    assert prediction[:, 1].std() > 0


@pytest.mark.parametrize("n_blocks", [1, 2])
def test_the_kernel_average_is_the_integral_over_scales(n_blocks: int) -> None:
    given = case(12)
    grams = [given.wide @ given.wide.T / 60, given.narrow @ given.narrow.T / 3][:n_blocks]
    design = _design(np.ones((12, 1)), given.families)
    y = (given.y - given.y.mean(axis=0)) / given.y.std(axis=0)
    errors = design.residuals(y)
    dual, added = kernel_average(grams, y, errors, design, sobol_points(1024, n_blocks, -7.0, 3.0))
    # Explicitly: a midpoint rule over the box, each model by the textbook formulas in the space of all rows.
    steps = 400 if n_blocks == 1 else 60
    axis = -7 + 10 * (np.arange(steps) + 0.5) / steps
    one, total, mean, left = np.ones((12, 1)), np.zeros(2), np.zeros((12, 2)), np.zeros((12, 2))
    for scales in np.stack(np.meshgrid(*[axis] * n_blocks), axis=-1).reshape(-1, n_blocks):
        kernel = sum(np.exp(v) * gram for v, gram in zip(scales, grams))
        covariance = np.eye(12) + kernel
        inverse = np.linalg.inv(covariance)
        inside = float((one.T @ inverse @ one).item())
        projected = inverse - inverse @ one @ one.T @ inverse / inside
        quadratic = np.einsum("rc,rs,sc->c", y, projected, y)
        weight = np.exp(-0.5 * np.linalg.slogdet(covariance)[1] - 0.5 * np.log(inside)) * quadratic ** (-11 / 2)
        total += weight
        mean += weight * np.exp(scales[0]) * (projected @ y)
        for family in sorted(set(given.families)):
            out = np.array([name == family for name in given.families])
            inner = covariance[np.ix_(~out, ~out)]
            solved = np.linalg.solve(inner, np.column_stack([y[~out], np.ones((~out).sum())]))
            base = solved[:, :2].sum(axis=0) / solved[:, 2].sum()
            others = np.linalg.solve(inner, y[~out] - base)
            left[out] += weight * (base + kernel[np.ix_(out, ~out)] @ others)
    np.testing.assert_allclose(dual[0], mean / total, rtol=0.01, atol=0.003)
    np.testing.assert_allclose(y - errors + added, left / total, rtol=0.01, atol=0.003)
