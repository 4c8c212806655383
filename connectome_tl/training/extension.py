"""Implementation of `connectome_tl.extend` for branches, objectives, modalities and kinds of tasks."""

from __future__ import annotations

from typing import Annotated, Any, Union

from pydantic import Field

from connectome_tl.errors import UsageError
from connectome_tl.extension_code import register_code
from connectome_tl.features.steps import Fitter, register_modality
from connectome_tl.nn.batch import Modality, register_rows
from connectome_tl.nn.branch import BranchFactory, register_branch
from connectome_tl.nn.fusion import FusionFactory, register_fusion
from connectome_tl.nn.losses import KindLoss, register_loss
from connectome_tl.settings.base import Settings
from connectome_tl.settings.encoders import EncoderSettings
from connectome_tl.settings.fusion import FusionSettings
from connectome_tl.settings.model import ModelSettings
from connectome_tl.settings.objectives import ObjectiveSettings
from connectome_tl.settings.study import StudySettings
from connectome_tl.settings.training import Adapt, FineTune, Pretrain, Stages
from connectome_tl.tasks import TaskKind, register_kind
from connectome_tl.training.objectives.table import ObjectiveFactory, register_objective

_CALLS: list[dict[str, Any]] = []


def extend_learning(
    *,
    settings: type[Settings] | None = None,
    encoder: BranchFactory | None = None,
    objective: ObjectiveFactory | None = None,
    fusion: FusionFactory | None = None,
    modality: tuple[str, Fitter, type[Modality]] | None = None,
    records: tuple[type, ...] = (),
    kind: tuple[TaskKind, KindLoss] | None = None,
) -> None:
    """Register an encoder, an objective, a modality or a kind of task.

    Args:
        settings: settings class of the encoder, objective or fusion, with a literal `kind` and `describe()`.
        encoder: creates a `Branch` from these settings and the sizes of their modality.
        objective: creates an `Objective` from these settings and `ObjectiveSizes`.
        fusion: creates a `Fusion` from `ModelSettings`, whose `fusion` has this class, and the widths by modality.
        modality: name, function that fits its steps on training rows, and class of its rows.
        records: classes of the fitted state of the modality's steps.
        kind: kind of task and its losses.

    Raises:
        UsageError: the settings have a wrong base class, or no new kind.
    """
    if kind is not None:
        register_kind(kind[0])
        register_loss(kind[0].name, kind[1])
        register_code(f"task kind {kind[0].name}", kind)
    call = {
        "settings": settings,
        "encoder": encoder,
        "objective": objective,
        "fusion": fusion,
        "modality": modality,
        "records": records,
        "kind": kind,
    }
    if call not in _CALLS:
        _CALLS.append(call)
    if modality is not None:
        name, fitter, rows = modality
        register_code(f"modality {name}", fitter, rows, records)
        register_modality(name, fitter, *records)
        register_rows(name, rows)
    if settings is None:
        return
    tag = settings.model_fields["kind"].default if "kind" in settings.model_fields else None
    if not isinstance(tag, str):
        raise UsageError(f"{settings.__name__} has no kind", expected='kind: Literal["name"] = "name"')
    if encoder is not None:
        _check(settings, EncoderSettings)
        register_code(f"encoder {tag}", encoder, settings)
        register_branch(settings, encoder)  # type: ignore[arg-type]
        field = "encoder" if settings.modality == "connectome" else "others"  # type: ignore[attr-defined]
        _admit(ModelSettings, field, settings)
    if objective is not None:
        _check(settings, ObjectiveSettings)
        register_code(f"objective {tag}", objective, settings)
        register_objective(settings, objective)  # type: ignore[arg-type]
        _admit(Adapt, "objective", settings)
    if fusion is not None:
        _check(settings, FusionSettings)
        register_code(f"fusion {tag}", fusion, settings)
        register_fusion(settings, fusion)  # type: ignore[arg-type]
        _admit(ModelSettings, "fusion", settings)


def calls() -> list[dict[str, Any]]:
    """The arguments of all calls so far, repeated by other processes before they fit."""
    return list(_CALLS)


def _check(settings: type[Settings], base: type[Settings]) -> None:
    if not issubclass(settings, base):
        raise UsageError(f"{settings.__name__} is no {base.__name__}")


def _admit(owner: type[Settings], name: str, kind: type[Settings]) -> None:
    """Add a kind to a field of discriminated settings."""
    field = owner.__pydantic_fields__[name]
    tag = kind.model_fields["kind"].default
    known = [one for one in _members(field.annotation) if one.model_fields["kind"].default != tag]
    union: Any = Union[(*known, kind)]
    if name == "others":
        one: Any = Annotated[union, Field(discriminator="kind")] if known else kind
        field.annotation = tuple.__class_getitem__((one, ...))  # type: ignore[assignment]
    else:
        field.annotation, field.discriminator = union, "kind" if known else None
    for model in (ModelSettings, Pretrain, Adapt, FineTune, Stages, StudySettings):
        model.model_rebuild(force=True)


def _members(annotation: Any) -> list[type[Settings]]:
    """Settings classes of an annotation that have a kind."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation] if "kind" in annotation.model_fields else []
    return [found for inner in getattr(annotation, "__args__", ()) for found in _members(inner)]
