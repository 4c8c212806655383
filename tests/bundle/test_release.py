"""A released model predicts like the fitted one; parts that contain rows of subjects are removed or refused."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from connectome_tl.bundle.members import Members, packed, unpacked
from connectome_tl.bundle.release import REFERENCE_SITE, Release
from connectome_tl.bundle.shapes_of_fits import check_members
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError
from connectome_tl.features.harmonise import Harmoniser
from connectome_tl.features.modalities import ConnectomeSteps
from connectome_tl.settings.core import CoreSettings
from connectome_tl.settings.features import HarmoniseSettings
from connectome_tl.settings.records.bundles import Inputs
from connectome_tl.training.checkpoint import FitResult, tensor_bytes
from connectome_tl.training.closed_form.blocks import Block
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import MixtureModel, fitted_model
from connectome_tl.training.interface import FittedModel
from connectome_tl.training.schemes import StudyCohorts
from tests.training.kinds_of_study import KINDS_OF_STUDY, Case

NEW_SITE = "a site nobody knows"


def mostly_of_one_site(case: Case) -> Case:
    """The study with twelve of sixteen training subjects of site A: fewer could not be released."""
    target = case.cohorts.target
    site = np.array(["B" if i % 4 == 3 else "A" for i in range(target.n_subjects)], dtype=object)
    return replace(case, cohorts=case.cohorts.with_role("target", replace(target, site=site)))


@cache
def models_of(name: str) -> tuple[Case, dict[str, FittedModel], dict[str, FitResult]]:
    case = mostly_of_one_site(KINDS_OF_STUDY[name])
    plans = {scheme: case.plan(scheme) for scheme in dict.fromkeys(("full", "core", "network", *case.schemes))}
    results = fit(plans.values(), case.cohorts.by_name())
    found = {scheme: fitted_model(results[plan.key], results.__getitem__) for scheme, plan in plans.items()}
    full = found["full"]
    assert isinstance(full, MixtureModel)
    found["mixed"] = MixtureModel(full.core, full.network, {task.name: 0.5 for task in full.tasks})
    return case, found, results


def elsewhere(cohort: Cohort) -> Cohort:
    return replace(cohort, site=np.full(cohort.n_subjects, NEW_SITE, dtype=object))


def through_a_file(model: FittedModel, cohort: Cohort) -> Members:
    """Packed to bytes, and read again."""
    import json

    from safetensors.numpy import load

    from connectome_tl.provenance import canonical_json

    arrays, plain = packed([model])
    members = unpacked(load(tensor_bytes(arrays)), json.loads(canonical_json(plain)), model.tasks)
    modalities = tuple(name for features in members.features() for name in features.steps)
    brain = "connectome" in modalities
    check_members(
        members,
        Inputs(
            regions=cohort.regions if brain else (),
            atlas="",
            measures=cohort.measures if brain else (),
            transforms=(),
            region_features=cohort.region_feature_names if brain else (),
            modalities=modalities,
        ),
    )
    return members


@pytest.mark.parametrize("name", KINDS_OF_STUDY)
def test_every_kind_of_model_predicts_the_same_from_its_bundle(name: str) -> None:
    case, models, _ = models_of(name)
    release = Release(case.cohorts.by_name())
    everybody = elsewhere(case.cohorts.target)
    for scheme, model in models.items():
        members = through_a_file(release.model(model), everybody)
        wanted = model.predict(everybody, everybody.ids)
        found = members.predict(everybody, everybody.ids)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * max(1.0, np.abs(wanted).max()), err_msg=scheme)


def test_unpenalised_covariates_have_a_block_of_their_own() -> None:
    case = mostly_of_one_site(KINDS_OF_STUDY["target alone"])
    free = case.study.model_copy(update={"core": CoreSettings(unpenalised=("gestational_age",))})
    model = _core_of(replace(case, study=free))
    assert "clinical, unpenalised" in model.fit.linear
    everybody = case.cohorts.target
    members = through_a_file(Release(case.cohorts.by_name()).model(model), everybody)
    wanted = model.predict(everybody, everybody.ids)
    np.testing.assert_allclose(members.predict(everybody, everybody.ids), wanted, rtol=1e-9, atol=1e-9)


def test_with_names_of_sites_known_sites_are_predicted_as_in_the_study() -> None:
    case, models, _ = models_of("everything")
    target = case.cohorts.target
    of_a = [subject for subject, site in zip(target.ids, target.site, strict=True) if site == "A"]
    with pytest.raises(DataError, match="fewer than 10 training subjects"):  # site B has four
        Release(case.cohorts.by_name(), site_names=True).model(models["core"])
    one_site = replace(target, site=np.full(target.n_subjects, "A", dtype=object))
    cohorts = StudyCohorts({**case.cohorts.roles, "target": one_site})
    model = _core_of(replace(case, cohorts=cohorts))
    sourceless = replace(model, source=None, source_key=None)
    released = Release(cohorts.by_name(), site_names=True).features(sourceless.features)
    (step,) = _harmonisers(released)
    assert step.models[0].sites == ("A",)
    np.testing.assert_array_equal(
        released.rows(one_site, of_a).arrays["connectome"].rows["edges"],
        model.features.rows(one_site, of_a).arrays["connectome"].rows["edges"],
    )


def _core_of(case: Case) -> CoreModel:
    plan = case.plan("core")
    results = fit([plan], case.cohorts.by_name())
    model = fitted_model(results[plan.key], results.__getitem__)
    assert isinstance(model, CoreModel)
    return model


def _harmonisers(features: object) -> list[Harmoniser]:
    steps = features.steps["connectome"]  # type: ignore[attr-defined]
    assert isinstance(steps, ConnectomeSteps)
    return [step for step in steps.edge_steps if isinstance(step, Harmoniser)]


def test_names_of_sites_stay_and_other_sites_leave_no_number() -> None:
    case, models, _ = models_of("everything")
    core = Release(case.cohorts.by_name()).model(models["core"])
    assert isinstance(core, CoreModel)
    for features in (core.features, core.source.features if core.source else core.features):
        (step,) = _harmonisers(features)
        assert step.reference == REFERENCE_SITE
        assert [model.sites for model in step.models] == [(REFERENCE_SITE,)]
        assert all(len(model.gamma) == 1 for model in step.models)  # type: ignore[union-attr]


def test_a_policy_that_refuses_new_sites_cannot_leave() -> None:
    case = mostly_of_one_site(KINDS_OF_STUDY["everything"])
    refusing = case.study.model_copy(update={"harmonise": HarmoniseSettings(method="combat", unseen="refuse")})
    model = _core_of(replace(case, study=refusing))
    with pytest.raises(DataError, match=r"harmonise\.unseen=reference"):
        Release(case.cohorts.by_name()).model(model)


def test_no_tensor_holds_a_row_of_a_training_subject() -> None:
    """An independent search: no part of any released tensor equals the features of a subject, raw or scaled."""
    for name in ("everything", "correlations", "tangent as edges"):
        case, models, _ = models_of(name)
        target = case.cohorts.target
        core = models["core"]
        assert isinstance(core, CoreModel)
        vectors = [block.values for block in core.blocks(target, case.fold.train)]
        first, second = np.triu_indices(target.n_regions, 1)
        raw = target.take(case.fold.train).weights[:, 0][:, first, second]
        arrays, _ = packed([Release(case.cohorts.by_name()).model(models["mixed"])])
        assert not _holds(arrays, [*vectors, raw])
        own, _ = core.state()
        assert _holds({"rows": vectors[0].astype(np.float64), **own}, [vectors[0]])  # the search can succeed


def _holds(arrays: dict[str, np.ndarray], rows: list[np.ndarray]) -> bool:
    """Whether a row of more than five columns of one of the tables occurs anywhere in the arrays."""
    for array in arrays.values():
        if array.dtype.kind != "f":
            continue
        for table in rows:
            width = table.shape[1]
            if width > 5 and array.size >= width:
                flat = array.ravel()
                starts = np.lib.stride_tricks.sliding_window_view(flat, width)
                for row in table:
                    near = np.isclose(starts[:, 0], row[0], rtol=1e-5, atol=1e-7)
                    if any(np.allclose(one, row, rtol=1e-4, atol=1e-6) for one in starts[near]):
                        return True
    return False


def test_ids_and_left_out_predictions_are_gone() -> None:
    case, models, _ = models_of("everything")
    arrays, plain = packed([Release(case.cohorts.by_name()).model(models["mixed"])])
    text = repr(plain) + repr(sorted(arrays))
    for cohort in case.cohorts.roles.values():
        assert not any(subject in text for subject in cohort.ids)
    for name in ("left_out", "steady", "outcomes"):
        assert all(value.shape[0] == 0 for key, value in arrays.items() if key.endswith(f"core/{name}"))


def test_a_radial_kernel_is_refused_with_the_remedy() -> None:
    case = mostly_of_one_site(KINDS_OF_STUDY["target alone"])
    radial = case.study.model_copy(update={"core": CoreSettings(rbf_from=2)})
    model = _core_of(replace(case, study=radial))
    assert model.fit.radial
    with pytest.raises(DataError, match=r"core\.rbf_from=1000000000"):
        Release(case.cohorts.by_name()).model(model)


def test_quadratic_kernels_leave_with_the_bundle_and_hold_no_training_row() -> None:
    case = mostly_of_one_site(KINDS_OF_STUDY["target alone"])
    core = CoreSettings(quadratic_from=2, quadratic_components=4, rbf_from=10**9)
    model = _core_of(replace(case, study=case.study.model_copy(update={"core": core})))
    assert model.fit.quadratic
    released, everybody = Release(case.cohorts.by_name()).model(model), case.cohorts.target
    members = through_a_file(released, everybody)
    wanted = model.predict(everybody, everybody.ids)
    np.testing.assert_allclose(members.predict(everybody, everybody.ids), wanted, rtol=1e-9, atol=1e-9)
    blocks = {block.name: block.values for block in model.blocks(everybody, case.fold.train)}
    centred = [columns.apply(Block(columns.name, blocks[columns.name])) for columns in model.fit.columns]
    arrays, _ = packed([released])
    assert not _holds(arrays, [*blocks.values(), *centred])


def test_an_unknown_step_is_refused() -> None:
    case, models, _ = models_of("target alone")

    class Strange:
        ids = case.fold.train

    core = models["core"]
    assert isinstance(core, CoreModel)
    odd = replace(core, features=replace(core.features, steps={**core.features.steps, "image": Strange()}))
    with pytest.raises(DataError, match="Strange has no rule"):
        Release(case.cohorts.by_name()).model(odd)


def test_few_subjects_are_refused() -> None:
    case, models, _ = models_of("target alone")
    core = models["core"]
    assert isinstance(core, CoreModel)
    steps = core.features.steps["connectome"]
    assert isinstance(steps, ConnectomeSteps)
    few = replace(steps, scaler=replace(steps.scaler, ids=case.fold.train[:9]))
    model = replace(core, features=replace(core.features, steps={"connectome": few}))
    with pytest.raises(DataError, match="fit on so few subjects cannot be released"):
        Release(case.cohorts.by_name()).model(model)
    train = case.cohorts.target.take(case.fold.train)
    mask = train.node_mask.copy()
    mask[: len(mask) - 9, 0] = False
    sparse = case.cohorts.with_role("target", replace(train, node_mask=mask))
    for constant in (steps.scaler.constant, np.ones_like(steps.scaler.constant)):
        odd = replace(steps, scaler=replace(steps.scaler, constant=constant))
        model = replace(core, features=replace(core.features, steps={"connectome": odd}))
        with pytest.raises(DataError, match=f"edges of region '{train.regions[0]}' were learned from fewer than 10"):
            Release(sparse.by_name()).model(model)
