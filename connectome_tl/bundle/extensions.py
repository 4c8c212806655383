"""Extensions that a bundle needs: named when it is made, looked up when it is opened. A bundle contains no code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from connectome_tl.bundle.members import Members
from connectome_tl.errors import DataError, MissingInputError, Problem
from connectome_tl.extension import GROUP, load_extensions
from connectome_tl.extension_code import code_of, module_of
from connectome_tl.features.modalities import ClinicalSteps, ConnectomeSteps
from connectome_tl.features.volumes import VolumeSteps
from connectome_tl.settings.records.bundles import NeededExtension
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fitted_models import MixtureModel, NetworkModel
from connectome_tl.training.interface import FittedModel

OWN_STEPS = {"connectome": ConnectomeSteps, "clinical": ClinicalSteps, "image": VolumeSteps}


def needed_extensions(members: Members) -> tuple[NeededExtension, ...]:
    """The extensions that define encoders, modalities or kinds of outcomes of these fits.

    Raises:
        DataError: a modality of an extension whose steps cannot be tested without connectomes.
    """
    parts = {part for model in members.models for part in _parts(model)}
    steps = {name for features in members.features() for name in features.steps}
    further = sorted(steps - {*OWN_STEPS})
    if further and "connectome" not in steps:
        raise DataError(
            f"a model with the modality {further[0]!r} of an extension, but without connectomes, cannot be bundled",
            remedy="Bundle a model with connectomes (--model).",
        )
    return tuple(_needed(part) for part in code_of(parts))


def _parts(model: FittedModel) -> Iterator[str]:
    if isinstance(model, MixtureModel):
        yield from _parts(model.core)
        yield from _parts(model.network)
    elif isinstance(model, (CoreModel, NetworkModel)):
        yield from (f"modality {name}" for name in model.features.steps)
        yield from (f"task kind {task.kind}" for task in model.tasks)
    if isinstance(model, CoreModel) and model.source is not None:
        yield from _parts(model.source)
    if isinstance(model, NetworkModel):
        yield from (f"encoder {getattr(one, 'kind', '')}" for one in model.settings.branches.values())
        yield f"fusion {model.settings.fusion.kind}"


def _needed(part: str) -> NeededExtension:
    module = module_of(part)
    entry = next((one for one in entry_points(group=GROUP) if _root(one.value) == _root(module)), None)
    package, version = _distribution(entry)
    return NeededExtension(part=part, module=module, package=package, version=version)


def _root(module: str) -> str:
    return module.partition(":")[0].partition(".")[0]


def _distribution(entry: EntryPoint | None) -> tuple[str, str]:
    return ("", "") if entry is None or entry.dist is None else (entry.dist.name, entry.dist.version)


def named_in(facts: Mapping[str, Any]) -> tuple[NeededExtension, ...]:
    """The extensions that the facts of a bundle name."""
    return tuple(NeededExtension.model_validate(one) for one in facts.get("extensions", ()))


def require(needed: Sequence[NeededExtension]) -> None:
    """Check that these extensions are registered, after loading those of installed packages.

    Raises:
        MissingInputError: names those that are missing.
    """
    if all(code_of([one.part]) for one in needed):
        return
    load_extensions()
    missing = [one for one in needed if not code_of([one.part])]
    if missing:
        problems = [
            Problem(f"the {one.part} of {one.words}", remedy=f"Install it, or import {one.module} first.")
            for one in missing
        ]
        raise MissingInputError("the bundle needs extensions that are not installed", problems=problems)


def other_versions(needed: Sequence[NeededExtension]) -> str:
    """Installed versions that differ from those of the bundle, for a message; empty if none does."""
    now = {one.part: _needed(one.part) for one in needed}
    return ", ".join(
        dict.fromkeys(
            f"{one.words} is {now[one.part].version or 'of no installed package'} here"
            for one in needed
            if now[one.part].version != one.version
        )
    )
