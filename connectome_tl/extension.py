"""`connectome_tl.extend`: register encoders, objectives, fusions, task kinds, baselines, metrics, importers.

A settings file names only a registered `kind` or `format`, never a class or a path.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from connectome_tl.errors import UsageError
from connectome_tl.extension_code import register_code

if TYPE_CHECKING:  # these import torch, which an importer does not need
    from connectome_tl.connectome.formats.table import Format
    from connectome_tl.evaluation.baselines.data import Maker
    from connectome_tl.evaluation.scores.predictions import Interval
    from connectome_tl.features.steps import Fitter
    from connectome_tl.nn.batch import Modality
    from connectome_tl.nn.losses import KindLoss
    from connectome_tl.settings.base import Settings
    from connectome_tl.settings.metrics import Metric
    from connectome_tl.settings.model_table import ModelSpec
    from connectome_tl.tasks import TaskKind

GROUP = "connectome_tl"


def extend(
    *,
    settings: type[Settings] | None = None,
    encoder: Callable[..., Any] | None = None,
    objective: Callable[..., Any] | None = None,
    fusion: Callable[..., Any] | None = None,
    modality: tuple[str, Fitter, type[Modality]] | None = None,
    records: tuple[type, ...] = (),
    kind: tuple[TaskKind, KindLoss] | None = None,
    baseline: tuple[ModelSpec, Maker] | None = None,
    control: ModelSpec | None = None,
    metric: tuple[Metric, Callable[..., Interval]] | None = None,
    importer: Format | None = None,
) -> None:
    """Register parts of other packages; repeated calls are allowed.

    Args:
        settings: settings class of the encoder, objective or fusion, with a literal `kind` and `describe()`; or of the
            baseline, with `describe()` only.
        encoder: creates a `nn.branch.Branch` from these settings and the sizes of their modality.
        objective: creates a `training.objectives.objective.Objective` from these settings and `ObjectiveSizes`.
        fusion: creates a `nn.fusion.Fusion` from `ModelSettings`, whose `fusion` has this class, and the widths of the
            embeddings by modality.
        modality: name, function that fits its steps on training rows, and class of its rows.
        records: classes of the fitted state of the modality's steps.
        kind: kind of task (`tasks.TaskKind`) and its losses (`nn.losses.KindLoss`).
        baseline: its row in the table of models (`settings.model_table.ModelSpec`), and a function from
            `evaluation.baselines.data.BaselineData` to a list of `Baseline`.
        control: its row in the table of models, with its definition (`settings.model_table.Scheme`).
        metric: its record (`settings.metrics.Metric`), and a function from out-of-fold predictions, those of the
            prevalence model, and the estimand to a value and its interval.
        importer: format of a further kind of matrix file.

    Raises:
        UsageError: the settings have a wrong base class, or no new kind.
    """
    if importer is not None:
        from connectome_tl.connectome.formats.table import register_format

        register_code(f"importer {importer.name}", importer)
        register_format(importer)
    if baseline is not None:
        from connectome_tl.evaluation.baselines.fixed import register_baseline

        register_baseline(*baseline, settings)
        register_code(f"baseline {baseline[0].name}", baseline, settings)
        settings = None
    if control is not None:
        from connectome_tl.settings.model_table import register_control

        register_control(control)
        register_code(f"control {control.name}", control)
    if metric is not None:
        from connectome_tl.evaluation.scores.metrics import FURTHER
        from connectome_tl.settings.metrics import register_metric

        register_code(f"metric {metric[0].name}", metric)
        register_metric(metric[0])
        FURTHER[metric[0].name] = metric[1]
    if kind is not None:
        from connectome_tl.settings.metrics import check_metrics

        check_metrics(kind[0])
    if settings is not None or modality is not None or kind is not None:
        from connectome_tl.training.extension import extend_learning

        extend_learning(
            settings=settings,
            encoder=encoder,
            objective=objective,
            fusion=fusion,
            modality=modality,
            records=records,
            kind=kind,
        )


def load_extensions() -> None:
    """Load extensions of installed packages: each entry point of the group `connectome_tl` is a module, or a function,
    that calls `extend`.

    Raises:
        UsageError: one cannot be loaded.
    """
    for entry in entry_points(group=GROUP):
        try:
            loaded = entry.load()
            if callable(loaded):
                loaded()
        except Exception as error:  # code of another package may raise anything
            raise UsageError(
                f"the extension {entry.name} ({entry.value}) cannot be loaded: {error}",
                got=type(error).__name__,
                remedy="Correct or uninstall the package that names it as an entry point.",
            ) from error
