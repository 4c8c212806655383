"""Explanations of stored fits agree with their predictions: same numbers, and attributions with the right sum."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
from kinds_of_study import KINDS_OF_STUDY
from small_study import plan_of, small_cohorts, small_settings

from connectome_tl.cohort.splits import Fold
from connectome_tl.evaluation.explain.core_view import CoreView
from connectome_tl.evaluation.explain.curved import curved_gradients, curved_occluded, integrated_gradients, path_of
from connectome_tl.evaluation.explain.models import ExplainedCore, ExplainedMixture, explained, features_of
from connectome_tl.evaluation.explain.network_view import NetworkView
from connectome_tl.evaluation.explain.study import items_of
from connectome_tl.evaluation.explain.targets import explained_of_predictions, targets_of
from connectome_tl.settings.encoders import ClinicalEncoder, FlatEncoder
from connectome_tl.settings.model import ModelSettings
from connectome_tl.training.closed_form.fitted_core import CurvedPart, QuadraticPart, RadialPart
from connectome_tl.training.core_stage import CONNECTOME_PRESENCE, CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import MixtureModel, fitted_model
from connectome_tl.training.networks.outputs import columns_of

# Quadratic kernels belong to the core; the network of that study is the one of "correlations".
SCHEMES = [(kind, scheme) for kind in KINDS_OF_STUDY for scheme in ("core", "network")]
SCHEMES.remove(("quadratic kernels", "network"))


@pytest.mark.parametrize(("kind", "scheme"), SCHEMES)
def test_explained_numbers_are_those_that_the_fit_predicts_and_attributions_add_up(kind: str, scheme: str) -> None:
    case = KINDS_OF_STUDY[kind]
    plan, cohort, ids = case.plan(scheme), case.cohorts.target, case.fold.test
    results = fit([plan], case.cohorts.by_name())
    model = fitted_model(results[plan.key], lambda key: results[key])
    items = items_of(cohort, [features_of(model)])
    looked, places = explained(model, cohort, ids, items), columns_of(model.tasks)
    predicted = model.predict(cohort, ids)
    for target in targets_of(model.tasks):
        value = looked.value(target)
        own = explained_of_predictions(predicted[:, places[target.task.name]], target)
        inside = np.ones(len(ids), dtype=bool)
        if isinstance(model, CoreModel):  # classes are scaled to a sum of 1, levels go through thresholds
            if target.task.kind in ("multiclass", "ordinal"):
                continue
            if not target.is_risk:
                fit_ = model.fit
                inside = (own > fit_.lower[target.column] + 1e-9) & (own < fit_.upper[target.column] - 1e-9)
        np.testing.assert_allclose(value[inside], own[inside], rtol=1e-4, atol=1e-4)
        lost, attributed = looked.occlusions(target), looked.attributions(target)
        assert np.isfinite(lost).all()
        assert attributed.shape == (len(ids), items.n_edges + items.n_regions + len(items.covariates))


def test_attributions_of_a_network_add_up_to_what_it_predicts() -> None:
    wide = ModelSettings(encoder=FlatEncoder(widths=(32, 16)), clinical=ClinicalEncoder(width=16), fused_width=32)
    cohorts = small_cohorts()
    fold = Fold(cohorts.target.ids[:16], cohorts.target.ids[16:])
    plan = plan_of(fold, small_settings(model=wide, steps=40), scheme="network")
    results = fit([plan], cohorts.by_name())
    model = fitted_model(results[plan.key], lambda key: results[key])
    items = items_of(cohorts.target, [features_of(model)])
    looked = explained(model, cohorts.target, fold.test, items)
    assert isinstance(looked, NetworkView)
    for target in targets_of(model.tasks):
        change = looked.value(target) - looked.reference_value(target)
        attributed = looked.attributions(target)
        # Layer normalisation and rectifiers cause a quadrature error of a few per cent.
        assert looked.gap(target) < 0.1 * np.abs(change).mean()
        np.testing.assert_allclose(attributed.sum(axis=1), change, atol=0.15 * np.abs(change).max())


def test_what_a_mixture_says_is_what_its_parts_say_weighted() -> None:
    case = next(iter(KINDS_OF_STUDY.values()))
    plan, cohort, ids = case.plan("full"), case.cohorts.target, case.fold.test
    results = fit([plan], case.cohorts.by_name())
    stored = fitted_model(results[plan.key], lambda key: results[key])
    assert isinstance(stored, MixtureModel)
    task = stored.tasks[0]
    model = MixtureModel(stored.core, stored.network, {one.name: 0.3 for one in stored.tasks})
    items = items_of(cohort, [features_of(model)])
    looked = explained(model, cohort, ids, items)
    assert isinstance(looked, ExplainedMixture)
    target = targets_of(model.tasks)[0]
    own = explained_of_predictions(model.predict(cohort, ids)[:, columns_of(model.tasks)[task.name]], target)
    np.testing.assert_allclose(looked.value(target), own, atol=1e-4)
    parts = 0.7 * looked.core.attributions(target) + 0.3 * looked.network.attributions(target)
    np.testing.assert_allclose(looked.attributions(target), parts, atol=1e-9)


def test_occluding_a_region_of_a_linear_core_takes_away_the_attributions_of_its_columns() -> None:
    """Two computations of one number: the source's score expressed by its edges, and computed again.

    The source has few enough rows for a linear core.
    """
    case = next(iter(KINDS_OF_STUDY.values()))
    plan, cohort, ids = case.plan("core"), case.cohorts.target, case.fold.test
    results = fit([plan], case.cohorts.by_name())
    model = fitted_model(results[plan.key], lambda key: results[key])
    assert isinstance(model, CoreModel)
    assert model.source is not None
    assert not model.fit.radial
    items = items_of(cohort, [model.features])
    view = CoreView.of(model, cohort, ids, items)
    looked = ExplainedCore(view)
    for target in targets_of(model.tasks):
        attributed = looked.attributions(target)
        edges, own = attributed[:, : items.n_edges], attributed[:, items.n_edges : items.n_edges + items.n_regions]
        by_region = (items.incidence @ edges.T).T + own
        # The only nonlinearity is the limitation of scores to the source's range.
        clipped = view.source is not None and bool(
            ((view.source.scores <= view.source.fit.lower) | (view.source.scores >= view.source.fit.upper)).any()
        )
        assert not clipped
        np.testing.assert_allclose(looked.occlusions(target)[: items.n_regions].T, by_region, atol=1e-8)
        start = view.score(model.fit)[:, target.column] - view.attributions(model.fit, target.column).sum(axis=1)
        # Without all attributions the rest is the same for all subjects: the score of the mean training row.
        assert np.ptp(start) < 1e-8


def test_the_presence_of_a_connectome_belongs_to_its_edges_and_to_no_single_one() -> None:
    case = KINDS_OF_STUDY["unpenalised covariates"]
    plan, cohort, ids = case.plan("core"), case.cohorts.target, case.fold.test
    results = fit([plan], case.cohorts.by_name())
    model = fitted_model(results[plan.key], lambda key: results[key])
    assert isinstance(model, CoreModel)
    items = items_of(cohort, [model.features])
    view = CoreView.of(model, cohort, ids, items)
    (part,) = [part for part in view.parts if part.name == CONNECTOME_PRESENCE]
    assert part.places.modality.tolist() == [items.modalities.index("edges")]
    assert (part.places.edge, part.places.region, part.places.covariate) == (-1, -1, -1)
    # Without its connectome a subject becomes the mean training row of all blocks of edges, presence included.
    lost = view.occlusions(model.fit)[-len(items.modalities) + items.modalities.index("edges")]
    edges = [one for one in view.parts if one.name in ("edges", "tangent", CONNECTOME_PRESENCE)]
    want = np.sum([(one.rows - one.mean) @ model.fit.linear[one.name] for one in edges], axis=0)
    np.testing.assert_allclose(lost, want, atol=1e-9)


RANDOM = np.random.default_rng(0)
_PRODUCTS = RANDOM.normal(size=(4, 4, 2))
CURVED: dict[str, CurvedPart] = {
    "radial": RadialPart(RANDOM.normal(size=(12, 6)).astype(np.float32), RANDOM.normal(size=(12, 2)), 0.1),
    "quadratic": QuadraticPart(RANDOM.normal(size=(6, 4)), _PRODUCTS + _PRODUCTS.swapaxes(0, 1)),
}


def torch_value(part: CurvedPart, rows: torch.Tensor) -> torch.Tensor:
    if isinstance(part, QuadraticPart):
        components = rows @ torch.from_numpy(part.basis)
        return torch.einsum("ra,abo,rb->ro", components, torch.from_numpy(part.products), components)
    distances = torch.cdist(rows, torch.from_numpy(part.rows.astype(float)))
    return torch.exp(-part.gamma * distances**2) @ torch.from_numpy(part.dual)


@pytest.mark.parametrize("kind", CURVED)
def test_curved_parts_under_integrated_gradients_and_occlusion_are_those_of_captum_and_of_the_kernel(kind: str) -> None:
    rng, part = np.random.default_rng(1), CURVED[kind]
    rows, mean = rng.normal(size=(5, 6)), rng.normal(size=6) * 0.1
    value, start = part.of(rows), part.of(mean[None])
    np.testing.assert_allclose(value, torch_value(part, torch.from_numpy(rows)).numpy())
    own = np.stack([curved_gradients(part, rows, mean, column) for column in range(2)], axis=2)
    for column in range(2):
        np.testing.assert_allclose(own[:, :, column].sum(axis=1), value[:, column] - start[0, column], atol=1e-10)
        given = torch.from_numpy(rows), torch.from_numpy(np.broadcast_to(mean, rows.shape).copy())
        captum = integrated_gradients(lambda at, column=column: torch_value(part, at)[:, column], given[:1], given[1:])
        np.testing.assert_allclose(own[:, :, column], captum[0].numpy(), atol=1e-10)
    path, signs = path_of(part, rows, mean), np.sign(rng.normal(size=rows.shape))
    np.testing.assert_allclose(path.summed_gradients(signs, np.arange(2)), (signs[:, :, None] * own).sum(axis=0))
    np.testing.assert_allclose(path.gradients_of_row(3, np.arange(2)), own[3])
    sets = [np.array([0, 3]), np.array([], dtype=int), np.arange(6)]
    for columns, found in zip(sets, curved_occluded(part, rows, mean, sets), strict=True):
        changed = rows.copy()
        changed[:, columns] = mean[columns]
        np.testing.assert_allclose(found, part.of(changed))


def test_an_unpenalised_covariate_has_the_attribution_of_its_own_weight() -> None:
    case = KINDS_OF_STUDY["unpenalised covariates"]
    plan, cohort, ids = case.plan("core"), case.cohorts.target, case.fold.test
    results = fit([plan], case.cohorts.by_name())
    model = fitted_model(results[plan.key], lambda key: results[key])
    assert isinstance(model, CoreModel)
    items = items_of(cohort, [features_of(model)])
    block = {b.name: b for b in model.blocks(cohort, ids)}["clinical, unpenalised"]
    columns = {c.name: c for c in model.fit.columns}[block.name].apply(block)
    target = next(t for t in targets_of(model.tasks) if t.task.kind == "regression")
    weights = model.fit.linear[block.name][:, target.column]
    position = items.n_edges + items.n_regions + items.covariates.index("gestational_age")
    found = explained(model, cohort, ids, items).attributions(target)[:, position]
    fitted = model.fit.predict(model.blocks(cohort, ids))[:, target.column]
    inside = (fitted > model.fit.lower[target.column]) & (fitted < model.fit.upper[target.column])
    assert inside.any()
    np.testing.assert_allclose(found[inside], (columns @ weights)[inside], rtol=1e-6, atol=1e-9)
