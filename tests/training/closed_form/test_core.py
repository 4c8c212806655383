"""The fitted core: predictions, stored values and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from core_cases import KINDS, case
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from connectome_tl.errors import DataError, InternalError
from connectome_tl.settings.core import CoreSettings
from connectome_tl.training.closed_form.blocks import Block, SourceScores, kernels
from connectome_tl.training.closed_form.core import fit_core
from connectome_tl.training.closed_form.fitted_core import CoreFit
from connectome_tl.training.closed_form.targets import class_probabilities, one_vs_rest

RADIAL = CoreSettings(rbf_from=0)


def test_it_learns_a_planted_signal_and_predicts_new_rows() -> None:
    given = case(400, twins=False)
    fit = fit_core(given.blocks(slice(0, 200)), given.y[:200], KINDS, given.families[:200])
    predicted, test = fit.predict(given.blocks(slice(200, 400))), given.y[200:]
    # The signal explains 2.25 / 3.25 = 0.69 of the value's variance at most; ridge on both blocks reaches 0.7 of AUC.
    assert r2_score(test[:, 0], predicted[:, 0]) > 0.45
    assert roc_auc_score(test[:, 1], predicted[:, 1]) > 0.7
    assert r2_score(given.y[:200, 0], fit.left_out[:, 0]) == pytest.approx(
        r2_score(test[:, 0], predicted[:, 0]), abs=0.12
    )


def test_left_out_predictions_are_blind_to_the_outcome_of_the_family() -> None:
    """A fit whose choices are fixed: changing one family's outcome does not change its own left-out values."""
    given = case()
    fixed = CoreSettings(penalties=(1.0,), relax=False, stein=False, average_below=0)
    blocks = [Block("clinical", given.narrow)]
    moved = given.y.copy()
    family = np.array([name == given.families[0] for name in given.families])
    moved[family, 0] += 40.0
    first = fit_core(blocks, given.y[:, [0]], ["regression"], given.families, fixed)
    second = fit_core(blocks, moved[:, [0]], ["regression"], given.families, fixed)
    difference = np.abs(second.left_out - first.left_out)[:, 0]
    # The single weight of the stack still changes a little; the family's own outcome would change it by tens.
    assert difference[family].max() < 1.5
    assert difference[~family].max() > 0


@pytest.mark.parametrize("settings", [CoreSettings(), RADIAL, CoreSettings(exact_up_to=20, landmarks=15)])
def test_state_and_back_predicts_the_same_bytes(settings: CoreSettings) -> None:
    given = case()
    fit = fit_core(given.blocks(kernel="both"), given.y, KINDS, given.families, settings)
    arrays, plain = fit.state()
    again = CoreFit.of({name: values.copy() for name, values in arrays.items()}, json.loads(json.dumps(plain)))
    assert again.predict(given.blocks()).tobytes() == fit.predict(given.blocks()).tobytes()
    assert again.probabilities(given.blocks()).tobytes() == fit.probabilities(given.blocks()).tobytes()
    assert again.left_out.tobytes() == fit.left_out.tobytes()
    assert again.form == fit.form == ("exact" if settings.exact_up_to > 40 else "nystrom 15")
    del arrays["linear.tangent"], arrays["columns.tangent.center"]
    with pytest.raises(DataError, match=r"columns\.tangent\.center"):
        CoreFit.of(arrays, plain)


def test_weights_are_the_prediction() -> None:
    given = case(twins=False)
    settings = CoreSettings(clip=None)
    fit = fit_core(given.blocks(), given.y, KINDS, given.families, settings)
    weights = fit.weights()
    assert {name: values.shape for name, values in weights.items()} == {"tangent": (60, 2), "clinical": (3, 2)}
    new = case(30, seed=5)
    by_hand = fit.intercept.copy() + np.zeros((30, 2))
    for columns, rows in zip(fit.columns, (new.wide, new.narrow), strict=True):
        by_hand += (rows - columns.center) @ weights[columns.name]
    by_hand[:, 0] = by_hand[:, 0].clip(given.y[:, 0].min(), given.y[:, 0].max())
    np.testing.assert_allclose(fit.predict(new.blocks()), by_hand, rtol=1e-8)


def test_the_order_of_training_rows_changes_nothing() -> None:
    given = case(60)
    order = np.random.default_rng(1).permutation(60)
    for settings in (RADIAL, CoreSettings(exact_up_to=40, landmarks=30)):
        first = fit_core(given.blocks(kernel="both"), given.y, KINDS, given.families, settings)
        turned = [given.families[k] for k in order]
        second = fit_core(given.blocks(order, kernel="both"), given.y[order], KINDS, turned, settings)
        new = case(20, seed=9).blocks()
        np.testing.assert_allclose(first.predict(new), second.predict(new), rtol=1e-6)
        np.testing.assert_allclose(first.left_out[order], second.left_out, rtol=1e-6)


def test_an_outcome_is_fitted_as_if_it_were_alone_and_its_missing_rows_were_not_there() -> None:
    given = case(60)
    y = np.column_stack([given.y, given.y])
    gone = np.arange(60) % 7 == 0
    y[gone, 2] = np.nan
    fit = fit_core(given.blocks(), y, (*KINDS, *KINDS), given.families, CoreSettings(clip=None))
    alone = fit_core(given.blocks(), y[:, [0]], KINDS[:1], given.families, CoreSettings(clip=None))
    new = case(20, seed=9).blocks()
    np.testing.assert_allclose(fit.predict(new)[:, 0], alone.predict(new)[:, 0], rtol=1e-9)
    assert np.isnan(fit.left_out[gone, 2]).all()
    assert np.isfinite(fit.left_out[:, [0, 1, 3]]).all()
    kept = [name for name, out in zip(given.families, gone, strict=True) if not out]
    assert fit.sizes.tolist() == [len(set(given.families))] * 2 + [len(set(kept)), len(set(given.families))]
    # Kernels are scaled on all rows, so the two differ at most by the choice of a penalty.
    fewer = fit_core(given.blocks(~gone), y[~gone][:, [2]], ["regression"], kept, CoreSettings(clip=None))
    assert np.corrcoef(fit.predict(new)[:, 2], fewer.predict(new)[:, 0])[0, 1] > 0.99


def test_constant_outcomes_and_blocks_and_eight_rows() -> None:
    given = case(8, twins=False)
    y = np.column_stack([given.y, np.full(8, 3.0), np.ones(8)])
    kinds = (*KINDS, "regression", "binary")
    blocks = [*given.blocks(), Block("regional", np.ones((8, 4))), Block("image", np.zeros((8, 0)))]
    fit = fit_core(blocks, y, kinds, given.families)
    predicted = fit.predict(blocks)
    assert np.isfinite(predicted).all()
    np.testing.assert_allclose(predicted[:, 2], 3.0)
    np.testing.assert_allclose(fit.left_out[:, 2], 3.0)
    risks = fit.probabilities(blocks)
    assert ((risks[:, [1, 3]] > 0) & (risks[:, [1, 3]] < 1)).all()
    np.testing.assert_allclose(risks[:, 3], 8.5 / 9)
    assert np.isnan(risks[:, [0, 2]]).all()


def test_without_any_block_that_varies_it_predicts_the_mean() -> None:
    given = case()
    fit = fit_core([Block("clinical", np.zeros((40, 2)))], given.y, KINDS, given.families)
    np.testing.assert_allclose(fit.predict([Block("clinical", np.ones((3, 2)))]), [given.y.mean(axis=0)] * 3)


def test_heavy_tails_stay_inside_the_range_of_training() -> None:
    given = case(100, twins=False)
    rng = np.random.default_rng(2)
    wide = rng.standard_t(1, size=given.wide.shape) * 1e3
    y = given.y.copy()
    fit = fit_core([Block("regional", wide[:60])], y[:60], KINDS, given.families[:60])
    predicted = fit.predict([Block("regional", wide[60:] * 1e6)])
    assert predicted[:, 0].min() >= y[:60, 0].min()
    assert predicted[:, 0].max() <= y[:60, 0].max()
    assert np.isfinite(fit.probabilities([Block("regional", wide[60:] * 1e6)])[:, 1]).all()
    spread = wide[:60].std(axis=0)
    np.testing.assert_allclose(fit.columns[0].upper - fit.columns[0].center, 4 * spread)


def test_a_radial_kernel_finds_what_no_line_does_and_only_from_its_size_on() -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(500, 4))
    y = (rows[:, 0] * rows[:, 1] + 0.3 * rng.normal(size=500))[:, None]
    names = [str(k) for k in range(500)]
    scores = {}
    for kernel in ("linear", "both", "rbf"):
        fit = fit_core([Block("clinical", rows[:300], kernel)], y[:300], ["regression"], names[:300])
        scores[kernel] = r2_score(y[300:, 0], fit.predict([Block("clinical", rows[300:])])[:, 0])
    assert scores["linear"] < 0.05
    assert min(scores["both"], scores["rbf"]) > 0.3
    small = fit_core([Block("clinical", rows[:99], "both")], y[:99], ["regression"], names[:99])
    assert not small.radial
    assert not small.quadratic


def test_a_product_of_leading_components_is_found_among_hundreds_of_edges() -> None:
    """The radial kernel sees mostly the noise of the edges; a model of two components would need to know them."""
    rng = np.random.default_rng(9)
    effects = rng.normal(size=(6, 300))
    traits = rng.normal(size=(700, 6))
    edges = traits @ effects * 0.2 + rng.normal(size=(700, 300))
    y = (traits[:, 0] * traits[:, 1] + 0.5 * rng.normal(size=700))[:, None]
    names = [str(k) for k in range(700)]
    found = {}
    for n_components in (0, 16):
        settings = CoreSettings(quadratic_components=n_components)
        fit = fit_core([Block("edges", edges[:400], "both")], y[:400], ["regression"], names[:400], settings)
        found[n_components] = r2_score(y[400:, 0], fit.predict([Block("edges", edges[400:])])[:, 0])
        assert bool(fit.quadratic) == (n_components > 0)
    assert found[0] < 0.2
    assert found[16] > found[0] + 0.2


@pytest.mark.parametrize("exact_up_to", [3000, 60])
def test_the_quadratic_kernel_is_that_of_products_of_whitened_components(exact_up_to: int) -> None:
    """Its Gram matrix, against explicit products of scikit-learn's components; the dual form, against the primal."""
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(80, 30)) * np.linspace(3, 0.5, 30)
    rows -= rows.mean(axis=0)
    landmarks = np.arange(80) if exact_up_to > 80 else np.arange(0, 80, 2)
    (kernel,) = [one for one in kernels(Block("edges", rows, "both"), rows, landmarks, 5) if one.basis is not None]
    spanning = rows[landmarks]
    decomposed = np.linalg.svd(spanning, full_matrices=False)
    whitened = rows @ decomposed[2][:5].T / (decomposed[1][:5] / np.sqrt(len(landmarks)))
    explicit = np.einsum("ra,rb->rab", whitened, whitened).reshape(80, -1)
    wanted = explicit @ explicit[landmarks].T
    np.testing.assert_allclose(kernel.between(np.arange(80), landmarks) * kernel.scale, wanted, rtol=1e-8, atol=1e-8)
    settings = CoreSettings(exact_up_to=exact_up_to, landmarks=40, quadratic_from=0, rbf_from=10**9)
    y = (whitened[:, :1] * whitened[:, 1:2]) + 0.1 * rng.normal(size=(80, 1))
    fit = fit_core([Block("edges", rows, "both")], y, ["regression"], [str(k) for k in range(80)], settings)
    part = fit.quadratic["edges"]
    np.testing.assert_allclose(part.products, part.products.swapaxes(0, 1), atol=1e-12)
    again = CoreFit.of(*fit.state())
    np.testing.assert_array_equal(again.predict([Block("edges", rows)]), fit.predict([Block("edges", rows)]))
    assert np.corrcoef(fit.predict([Block("edges", rows)])[:, 0], y[:, 0])[0, 1] > 0.8


def test_a_binary_score_is_never_constant() -> None:
    rng = np.random.default_rng(6)
    for seed in range(10):
        given = case(20, seed=seed, twins=False)
        label = rng.permutation(np.arange(20) % 2).astype(float)[:, None]
        fit = fit_core(given.blocks(), label, ["binary"], given.families)
        assert fit.predict(given.blocks()).std() > 1e-6


def test_left_out_scores_of_noise_do_not_run_against_the_outcome() -> None:
    found: dict[str, list[float]] = {"left_out": [], "steady": []}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        label = (np.arange(30) % 3 == 0).astype(float)[:, None]
        names = [str(k) for k in range(30)]
        fit = fit_core([Block("edges", rng.normal(size=(30, 200)))], label, ["binary"], names)
        for name, values in found.items():
            values.append(roc_auc_score(label[:, 0], getattr(fit, name)[:, 0]))
        np.testing.assert_allclose(fit.steady - fit.left_out, label.mean() - (10 - label) / 29)
    assert np.mean(found["left_out"]) < np.mean(found["steady"])
    assert 0.35 < np.mean(found["steady"]) < 0.6


def test_risks_keep_the_base_rate_and_the_order_of_scores() -> None:
    given = case(200, twins=False)
    fit = fit_core(given.blocks(), given.y, KINDS, given.families)
    risks = fit.left_out_probabilities()[:, 1]
    assert risks.mean() == pytest.approx(given.y[:, 1].mean(), abs=0.01)
    assert (np.argsort(risks, kind="stable") == np.argsort(fit.steady[:, 1], kind="stable")).all()
    ours, base = fit.brier()
    assert np.isnan(ours[0])
    assert ours[1] < base[1] - 0.03
    rate = given.y[:, 1]
    assert base[1] == pytest.approx(np.mean([(np.delete(rate, k).mean() - rate[k]) ** 2 for k in range(200)]))


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_a_source_score_gains_whatever_its_outcome_is_called(kind: str) -> None:
    """40 rows contain little information on 60 columns; a score in another unit is their sum, a second one is noise."""
    found: dict[str, list[float]] = {"without": [], "other outcome": [], "same outcome": []}
    for seed in range(6):
        given, rng = case(240, seed=seed, twins=False), np.random.default_rng(seed)
        signal = given.wide[:, :20].sum(axis=1) / 4
        values = np.column_stack([signal if kind == "binary" else 100 + 15 * signal, rng.normal(size=240)])
        train, test = slice(0, 40), slice(40, 240)
        y = given.y[:, [KINDS.index(kind)]]
        for name, own in (("without", (None,)), ("other outcome", (None,)), ("same outcome", (0,))):
            source = SourceScores(Block("scores", values[train]), own, frozenset({"tangent"}))
            without = name == "without"
            blocks, families = given.blocks(train), given.families[train]
            fit = fit_core(blocks, y[train], [kind], families, source=None if without else source)
            new = given.blocks(test) if without else [*given.blocks(test), Block("scores", values[test])]
            score = r2_score if kind == "regression" else roc_auc_score
            found[name].append(float(score(y[test, 0], fit.predict(new)[:, 0])))
    means = {name: np.mean(values) for name, values in found.items()}
    gain = {"regression": 0.15, "binary": 0.05}[kind]
    assert means["other outcome"] > means["without"] + gain
    assert means["same outcome"] > means["without"] + gain


def test_scores_replace_the_blocks_that_they_are_computed_from_and_no_others() -> None:
    """With fully informative scores the weights of the covered block are small, but not those of the covariates."""
    given = case(60, twins=False)
    signal = given.wide[:, :20].sum(axis=1) / 4
    y = (3 * signal + 3 * given.narrow[:, 0])[:, None]
    scores = Block("scores", np.column_stack([signal, np.random.default_rng(0).normal(size=60)]))
    fits = [
        fit_core(given.blocks(), y, ["regression"], given.families, source=SourceScores(scores, (None,), covered))
        for covered in (frozenset({"tangent"}), frozenset({"tangent", "clinical"}))
    ]
    wide, narrow = ([fit.weights()[name] for fit in fits] for name in ("tangent", "clinical"))
    np.testing.assert_allclose(fits[0].weights()["scores"][:, 0], [3, 0], atol=0.3)
    assert np.linalg.norm(wide[0]) < 0.1
    np.testing.assert_allclose(narrow[0][:, 0], [3, 0, 0], atol=0.3)
    # Without the covariates the scores predict little, and the fit without scores has most of the weight.
    assert np.linalg.norm(wide[1]) > 5 * np.linalg.norm(wide[0])


def test_a_fit_with_scores_is_the_weighted_mean_of_its_parts() -> None:
    """Single scores by scikit-learn, with explicit prior weights and likelihood."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(30, 2)) * [1.0, 20.0]
    y = 2 + scores @ [1.0, 0.02] + 2 * rng.normal(size=30)
    wide, block = Block("tangent", rng.normal(size=(30, 40))), Block("scores", scores)
    rest = (y[:, None], ["regression"], [str(k) for k in range(30)])
    plain = CoreSettings(clip=None)
    fit = fit_core([wide], *rest, plain, source=SourceScores(block, (None,), frozenset({"tangent"})))
    without = fit_core([wide], *rest, plain)
    ridge = fit_core([Block("scores", scores / scores.std(axis=0))], *rest, plain)
    parts = [
        (without.left_out[:, 0], 1.0, np.zeros(2)),
        (ridge.left_out[:, 0], 1.0, ridge.weights()["scores"][:, 0] / scores.std(axis=0)),
    ]
    for column in range(2):
        one = scores[:, [column]]
        slopes = np.zeros(2)
        slopes[column] = LinearRegression().fit(one, y).coef_[0]
        parts.append((cross_val_predict(LinearRegression(), one, y, cv=LeaveOneOut()), 0.5, slopes))
    losses = np.array([np.mean((y - left) ** 2) for left, _, _ in parts])
    shares = np.array([prior for _, prior, _ in parts]) * np.exp(-30 / 8 * (losses / losses.min() - 1))
    shares /= shares.sum()
    assert shares.max() < 0.9
    expected = sum(share * slopes for share, (_, _, slopes) in zip(shares, parts, strict=True))
    np.testing.assert_allclose(fit.weights()["scores"][:, 0], expected, rtol=1e-6)
    left = shares @ [left for left, _, _ in parts]
    inside = (left > y.min()) & (left < y.max())
    np.testing.assert_allclose(fit.left_out[inside, 0], left[inside], rtol=1e-6)


def test_a_perfect_score_of_the_same_outcome_is_left_as_it_is() -> None:
    """At 33 rows a free slope and free blocks increase the error; in another unit the free slope is necessary."""
    rng = np.random.default_rng(1)
    errors: dict[str, list[float]] = {"same unit": [], "other unit": [], "without": []}
    for seed in range(8):
        given = case(300, seed=seed, twins=False)
        signal = 100 + 15 * (given.wide[:, :20].sum(axis=1) / 4 + given.narrow[:, 0])
        for name, values in (("same unit", signal), ("other unit", 40 * signal), ("without", rng.normal(size=300))):
            blocks, scores = given.blocks(slice(0, 33)), Block("scores", values[:33, None])
            source = SourceScores(scores, (None if name == "without" else 0,))
            fit = fit_core(blocks, given.y[:33, [0]], ["regression"], given.families[:33], source=source)
            predicted = fit.predict([*given.blocks(slice(33, 300)), Block("scores", values[33:, None])])[:, 0]
            errors[name].append(float(np.mean((predicted - given.y[33:, 0]) ** 2)))
    # The noise of the outcome has a variance of 225.
    assert np.mean(errors["same unit"]) < 225 * 1.12
    assert np.mean(errors["other unit"]) < 225 * 1.25
    assert np.mean(errors["without"]) > 225 * 1.8


@pytest.mark.parametrize("kind", ["noise", "reversed", "out of range"])
def test_a_score_that_does_not_carry_over_costs_next_to_nothing(kind: str) -> None:
    """The score of the same outcome may be of no use: noise, the wrong sign, or limited to another range of ages."""
    losses = []
    for seed in range(6):
        given = case(233, seed=seed, twins=False)
        rng = np.random.default_rng(seed)
        y = 10 + given.narrow[:, :2].sum(axis=1) + given.wide[:, :20].sum(axis=1) / 4 + rng.normal(size=233)
        signal = given.narrow[:, :2].sum(axis=1)
        score = {
            "noise": 10 + rng.normal(size=233),
            "reversed": 10 - signal,
            "out of range": np.maximum(14 + rng.normal(size=233), 14.0),
        }[kind]
        train, test = slice(0, 33), slice(33, 233)
        found = []
        for block in (None, Block("scores", score[train, None])):
            source = None if block is None else SourceScores(block, (0,))
            fit = fit_core(given.blocks(train), y[train, None], ["regression"], given.families[train], source=source)
            new = [*given.blocks(test), *([] if block is None else [Block("scores", score[test, None])])]
            found.append(float(r2_score(y[test], fit.predict(new)[:, 0])))
        losses.append(found[0] - found[1])
    assert np.mean(losses) < 0.03


def test_an_unpenalised_block_is_not_shrunk() -> None:
    given = case(100, twins=False)
    heavy = CoreSettings(penalties=(1e6,), average_below=0, relax=False)
    y = 5.0 * given.narrow[:, [1]]
    penalised = fit_core([Block("a", given.wide), Block("b", given.narrow)], y, ["regression"], given.families, heavy)
    free = [Block("a", given.wide), Block("b", given.narrow, penalised=False)]
    fit = fit_core(free, y, ["regression"], given.families, heavy)
    np.testing.assert_allclose(fit.weights()["b"][:, 0], [0, 5, 0], atol=0.01)
    assert abs(penalised.weights()["b"][1, 0]) < 2.6


def test_classes_are_columns() -> None:
    codes = np.array([0, 1, 2, np.nan, 1])
    columns = one_vs_rest(codes, 3)
    assert np.isnan(columns[3]).all()
    np.testing.assert_array_equal(columns[[0, 1, 2, 4]], np.eye(3)[[0, 1, 2, 1]])
    np.testing.assert_allclose(class_probabilities(np.array([[0.2, 0.2, 0.4]])), [[0.25, 0.25, 0.5]])


def test_what_cannot_be_fitted_is_refused() -> None:
    given = case()
    y, families = given.y, given.families
    with pytest.raises(DataError, match="two families"):
        fit_core(given.blocks(), y, KINDS, ["one"] * 40)
    with pytest.raises(DataError, match="missing in every"):
        fit_core(given.blocks(), y * [1, np.nan], KINDS, families)
    with pytest.raises(DataError, match="0 and 1"):
        fit_core(given.blocks(), y[:, ::-1], KINDS, families)
    with pytest.raises(DataError, match="infinite"):
        fit_core(given.blocks(), np.where(y == y.max(), np.inf, y), KINDS, families)
    with pytest.raises(DataError, match="block a is not"):
        fit_core([Block("a", np.full((40, 2), np.nan))], y, KINDS, families)
    with pytest.raises(InternalError):
        fit_core(given.blocks(), y, ("regression", "unknown"), families)
    with pytest.raises(InternalError):
        fit_core(given.blocks()[:1] * 2, y, KINDS, families)
    fit = fit_core(given.blocks(), y, KINDS, families)
    with pytest.raises(InternalError):
        fit.predict(given.blocks()[:1])
    with pytest.raises(DataError, match="other columns"):
        fit.predict([Block("tangent", given.narrow), Block("clinical", given.narrow)])


def test_rows_with_equal_squares_have_no_quadratic_kernel() -> None:
    """Two rows, and labels of 1 and -1: the products of components are constant, and a divisor would be 0."""
    signs = np.where(np.random.default_rng(1).random(40) < 0.5, -1.0, 1.0)[:, None]
    for rows in (np.array([[1.0, 2.0], [3.0, -1.0]]), np.vstack([np.ones((20, 1)), -np.ones((20, 1))])):
        centred = rows - rows.mean(axis=0)
        found = kernels(Block("edges", centred, "both"), centred, np.arange(len(rows)), 16)
        assert [kernel.basis is None for kernel in found] == [True, True]
    settings = CoreSettings(quadratic_from=0)
    fit = fit_core([Block("edges", signs, "both")], signs, ["regression"], [str(k) for k in range(40)], settings)
    assert np.isfinite(fit.predict([Block("edges", signs)])).all()
