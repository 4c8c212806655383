"""Check that cores, networks and mixtures of a bundle match their inputs and outcomes."""

from __future__ import annotations

from connectome_tl.bundle.activations import check_activations
from connectome_tl.bundle.extensions import OWN_STEPS
from connectome_tl.bundle.members import Members
from connectome_tl.bundle.shapes import Sizes, check_features, check_shape, n_summary
from connectome_tl.errors import DataError
from connectome_tl.features.modalities import ClinicalSteps, ConnectomeSteps
from connectome_tl.features.volumes import VolumeSteps, n_coarse
from connectome_tl.settings.records.bundles import Inputs
from connectome_tl.tasks import Task, values_of
from connectome_tl.training.closed_form.fitted_core import CoreFit
from connectome_tl.training.core_stage import CONNECTOME_PRESENCE, SCORES, UNPENALISED, CoreModel
from connectome_tl.training.fitted_models import MixtureModel, NetworkModel
from connectome_tl.training.interface import FittedModel

_OTHER_BLOCKS = ("tangent", SCORES)
_ROUNDING = 1e-9


def check_members(members: Members, inputs: Inputs, bundle_bytes: int = 0) -> None:
    """Check that the tensors of fits match each other, the inputs and the outcomes.

    Args:
        bundle_bytes: size of the bundle, which limits the memory of networks on volumes.

    Raises:
        DataError: names the tensor.
    """
    sizes = Sizes.of(inputs, bundle_bytes)
    by_name = {task.name: task for task in members.tasks}
    for model in members.models:
        if any(by_name.get(task.name) != task for task in model.tasks):
            raise DataError("a fit and the bundle have different outcomes")
        _check_model(model, inputs, sizes)


def _check_model(model: FittedModel, inputs: Inputs, sizes: Sizes) -> None:
    if isinstance(model, MixtureModel):
        if model.core.tasks != model.network.tasks or set(model.weights) != {task.name for task in model.tasks}:
            raise DataError("the parts of a mixture have different outcomes")
        if not all(0 <= weight <= 1 for weight in model.weights.values()):
            raise DataError("the weight of a network is between 0 and 1")
        _check_model(model.core, inputs, sizes)
        _check_model(model.network, inputs, sizes)
        return
    if not isinstance(model, (CoreModel, NetworkModel)):
        raise DataError(f"a bundle cannot contain a model of the type {type(model).__name__}")
    if model.regions != (inputs.regions if "connectome" in model.features.steps else ()):
        raise DataError("a fit and the bundle have different regions")
    check_features(model.features, sizes)
    if isinstance(model, CoreModel):
        _check_core(model, inputs, sizes)
    else:
        _check_network(model, sizes)


def _check_core(model: CoreModel, inputs: Inputs, sizes: Sizes) -> None:
    if model.tangent is not None:
        check_features(model.tangent, sizes)
        if set(model.tangent.steps) != {"connectome"}:
            raise DataError("a tangent block needs the connectome")
    if model.source is not None:
        if model.source.source is not None:
            raise DataError("the core of a source has no source")
        _check_model(model.source, inputs, sizes)
    n_scores = sum(_n_scores(task) for task in model.tasks)
    widths = _block_widths(model, sizes)
    fit = model.fit
    if (
        len(fit.kinds) != n_scores
        or {*fit.linear, *fit.quadratic} - set(widths)
        or {c.name for c in fit.columns} != set(widths)
    ):
        raise DataError("a core does not match its blocks or outcomes")
    if fit.radial:
        raise DataError("a core has a radial kernel, which contains rows of training subjects")
    for columns in fit.columns:
        shape = (widths[columns.name],)
        check_shape("centre of a block", columns.center, shape)
        check_shape("limit of a block", columns.lower, shape, infinite=True)
        check_shape("limit of a block", columns.upper, shape, infinite=True)
    for name, weights in fit.linear.items():
        check_shape(f"weights of {name}", weights, (widths[name], n_scores))
    for name, part in fit.quadratic.items():
        n_components = part.products.shape[0]
        check_shape(f"components of {name}", part.basis, (widths[name], n_components))
        check_shape(f"products of {name}", part.products, (n_components, n_components, n_scores))
    _check_outputs(fit, n_scores)
    ordinal = {task.name: task.n_outputs for task in model.tasks if task.form == "levels"}
    if set(model.thresholds) != set(ordinal):
        raise DataError("thresholds of a core do not match its outcomes")
    for name, risks in model.thresholds.items():
        for part in vars(risks).values():
            check_shape("threshold", part, (ordinal[name],))


def _check_outputs(fit: CoreFit, n_scores: int) -> None:
    check_shape("intercept of a core", fit.intercept, (n_scores,))
    for part in (fit.left_out, fit.steady, fit.outcomes):
        check_shape("rows of training subjects", part, (0, n_scores))
    for part in (fit.lower, fit.upper):
        check_shape("range of a core", part, (n_scores,), infinite=True)
    for part in vars(fit.risks).values():
        check_shape("risk model", part, (n_scores,), undefined=True)


def _n_scores(task: Task) -> int:
    return task.n_levels if task.form == "classes" else 1


def _block_widths(model: CoreModel, sizes: Sizes) -> dict[str, int]:
    """Columns of each block that `CoreModel.blocks` makes."""
    found: dict[str, int] = {}
    for name, steps in model.features.steps.items():
        if isinstance(steps, ConnectomeSteps):
            found["edges"] = sizes.n_measures * sizes.n_edges
            if sizes.n_features:
                found["regional"] = sizes.n_regions * sizes.n_features
            if steps.some_absent:
                found[CONNECTOME_PRESENCE] = 1
        elif isinstance(steps, ClinicalSteps):
            free = int(steps.encoder.made_of(model.unpenalised).sum()) if model.unpenalised else 0
            found[name] = len(steps.encoder.names) + 1 - free
            if free:
                found[f"{name}{UNPENALISED}"] = free
        elif isinstance(steps, VolumeSteps) and sizes.grid is not None:
            found["image"], found["image voxels"] = n_summary() + 1, n_coarse(sizes.grid.shape3)
    if set(model.features.steps) - {*OWN_STEPS}:  # blocks of extensions have any width
        found |= {one.name: len(one.center) for one in model.fit.columns if one.name not in {*found, *_OTHER_BLOCKS}}
    if model.tangent is not None:
        found["tangent"] = sizes.n_measures * (sizes.n_edges + sizes.n_regions)
    if model.source is not None:
        found[SCORES] = sum(_n_scores(task) for task in model.source.tasks)
    return found


def _check_network(model: NetworkModel, sizes: Sizes) -> None:
    """Check that settings, sizes and stored weights agree, without allocating a network."""
    import torch

    from connectome_tl.nn.encoders.volumes import VolumeBranch
    from connectome_tl.nn.model import build_model

    expected: dict[str, dict[str, int]] = {}
    for name, steps in model.features.steps.items():
        if isinstance(steps, ConnectomeSteps):
            expected[name] = {
                "n_regions": sizes.n_regions,
                "n_measures": sizes.n_measures,
                "n_features": sizes.n_features,
            }
        elif isinstance(steps, ClinicalSteps):
            expected[name] = {"n_columns": len(steps.encoder.names)}
        elif isinstance(steps, VolumeSteps):
            expected[name] = {"n_channels": 1}
        else:  # of an extension: its weights are compared with a network of these sizes
            expected[name] = dict(model.sizes.get(name, {}))
    # Coordinates of regions are from the atlas, which may lack them; the weights determine whether they are needed.
    told = {name: {key: n for key, n in one.items() if key != "n_places"} for name, one in model.sizes.items()}
    if told != expected or any(type(n) is not int for one in model.sizes.values() for n in one.values()):
        raise DataError("the sizes of a network do not match its features")
    n_tasks = len(model.tasks)
    check_shape("outcome mean", model.targets.mean, (n_tasks,))
    check_shape("outcome scale", model.targets.scale, (n_tasks,))
    if set(model.shares) != {task.name for task in model.tasks}:
        raise DataError("a network does not name the states that predict an outcome")
    with torch.device("meta"):
        network = build_model(model.settings, model.sizes, model.heads, values_of(model.tasks))
    wanted = network.state_dict()
    for name, state in model.states.items():
        if set(state) != set(wanted):
            raise DataError("the weights of a network do not match its settings", got=name[:40])
        for parameter, tensor in wanted.items():
            check_shape(parameter, state[parameter], tuple(tensor.shape), None)
    for shares in model.shares.values():
        if not set(shares) <= set(model.states):
            raise DataError("a network lacks a state that predicts an outcome")
        valid = [share for share in shares.values() if type(share) is float and 0 <= share <= 1]
        if len(valid) < len(shares) or abs(sum(valid) - 1) > _ROUNDING:
            raise DataError("the weights of the networks of an ensemble do not sum to 1")
    for branch in network.branches.values():
        if isinstance(branch, VolumeBranch) and sizes.grid is not None:
            check_activations(branch.net, sizes.grid.shape3, sizes.bundle_bytes)
