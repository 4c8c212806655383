"""Human names, colours and number formats: one place, so that a model looks the same everywhere."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from connectome_tl.settings.results import Comparison
from connectome_tl.tasks import Task

UNDEFINED = "n/a"
Group = Literal["model", "control", "baseline"]


@dataclass(frozen=True)
class ModelLabel:
    """How a model is called and drawn. Colours: Okabe & Ito, safe for the colour-blind."""

    name: str
    label: str
    group: Group
    colour: str


_MODELS = {
    model.name: model
    for model in (
        ModelLabel("full", "Full model", "model", "#0072B2"),
        ModelLabel("scratch", "From scratch", "control", "#D55E00"),
        ModelLabel("no_pretrain", "Without stage 1 (pretraining)", "control", "#E69F00"),
        ModelLabel("no_adapt", "Without stage 2 (adaptation)", "control", "#CC79A7"),
        ModelLabel("single_task", "Single task", "control", "#009E73"),
        ModelLabel("no_clinical", "Without clinical covariates", "control", "#56B4E9"),
        ModelLabel("clinical_only", "Clinical covariates only", "baseline", "#332288"),
        ModelLabel("nuisance_only", "Nuisance only", "baseline", "#7A7A7A"),
        ModelLabel("ridge", "Ridge on edges", "baseline", "#8C510A"),
        ModelLabel("prevalence", "Prevalence", "baseline", "#A9A9A9"),
    )
}
TRANSFER_CONTROLS = ("scratch", "no_pretrain", "no_adapt")


@dataclass(frozen=True)
class MetricLabel:
    """How a metric is called; `chance` is its value without any information, None where there is none,
    and `uninformed` says what that is.
    """

    name: str
    label: str
    low: float
    high: float
    chance: float | None = None
    uninformed: str = "chance"


_METRICS = {
    metric.name: metric
    for metric in (
        MetricLabel("auc", "AUC", 0.0, 1.0, 0.5),
        MetricLabel("balanced_accuracy", "Balanced accuracy", 0.0, 1.0, 0.5),
        MetricLabel("sensitivity", "Sensitivity", 0.0, 1.0),
        MetricLabel("specificity", "Specificity", 0.0, 1.0),
        MetricLabel("brier", "Brier score", 0.0, 1.0),
        MetricLabel("scaled_brier", "Scaled Brier", -1.0, 1.0, 0.0, "predicting the prevalence"),
        MetricLabel("calibration_intercept", "Calibration intercept", -2.0, 2.0),
        MetricLabel("calibration_slope", "Calibration slope", -1.0, 3.0),
        MetricLabel("r2", "R²", -1.0, 1.0, 0.0, "predicting the mean"),
        MetricLabel("mae", "MAE", 0.0, math.inf),
        MetricLabel("rmse", "RMSE", 0.0, math.inf),
        MetricLabel("r", "Correlation r", -1.0, 1.0, 0.0),
    )
}
_STAGES = {"pretrain": "Stage 1: pretraining", "adapt": "Stage 2: adaptation", "finetune": "Stage 3: fine-tuning"}
_STAGES["fine_tune"] = _STAGES["fine-tune"] = _STAGES["finetune"]
_ROLES = {
    "source": "Older subjects (stage 1)",
    "pool": "Neonates (stage 2)",
    "target": "Infants with outcomes (stage 3)",
    "cohort": "Cohort",
}


def model_label(name: str) -> ModelLabel:
    """The label of a model; one that is not known keeps its own name."""
    return _MODELS.get(name) or ModelLabel(name, plain(name), "model", "#44546A")


def model_order(name: str) -> int:
    """Full model first, then controls, then baselines, then whatever else."""
    names = list(_MODELS)
    return names.index(name) if name in _MODELS else len(names)


def metric_label(name: str) -> MetricLabel:
    return _METRICS.get(name) or MetricLabel(name, plain(name), -math.inf, math.inf)


def metric_order(name: str) -> int:
    names = list(_METRICS)
    return names.index(name) if name in _METRICS else len(names)


def stage_label(name: str) -> str:
    return _STAGES.get(name, plain(name))


def stage_order(name: str) -> int:
    return list(_STAGES).index(name) if name in _STAGES else len(_STAGES)


def role_label(role: str) -> str:
    return _ROLES.get(role, plain(role))


def primary_metric(task: Task) -> str:
    """The metric that leads: AUC for a class, R2 for a value."""
    return "r2" if task.kind in ("regression", "ordinal") else "auc"


def task_title(task: Task) -> str:
    return plain(task.name)


def task_detail(task: Task) -> str:
    """What the title leaves out: how the class is made, or the unit."""
    if task.operator is not None:
        return f"{task.column} {task.operator} {task.cutoff:g}"
    return task.unit


def headline(text: str, task: Task) -> str:
    """A headline without the task's name, where that stands above it anyway."""
    text = text.removeprefix(f"{task.label}: ")
    return text[:1].upper() + text[1:]


def plain(name: str) -> str:
    """`cognitive_delay` as a reader would write it: Cognitive delay."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def number(value: float | None, digits: int = 2) -> str:
    """A number for the eye; NaN is `n/a`, never an empty cell. A true minus sign, no minus zero."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """A difference: always with its sign."""
    text = number(value, digits)
    return text if text == UNDEFINED or text.startswith("−") or float(text) == 0 else f"+{text}"


def interval(low: float, high: float, *, digits: int = 2, with_sign: bool = False) -> str:
    """`[0.41, 0.80]`; an undefined interval is said to be so."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "[no interval]"
    show = signed if with_sign else number
    return f"[{show(low, digits)}, {show(high, digits)}]"


def count(n: int, n_positive: int | None) -> str:
    """`33 (9+)`: how many subjects stand behind a number, and how many of them are positive."""
    return f"{n}" if n_positive is None else f"{n} ({n_positive}+)"


def p_value(value: float, n_permutations: int) -> str:
    """A permutation p with the digits that its number of permutations can carry."""
    if not math.isfinite(value):
        return UNDEFINED
    return number(value, max(3, math.ceil(math.log10(n_permutations + 1))))


def is_transfer(comparison: Comparison) -> bool:
    """Is this the question whether a stage, or transfer as a whole, helps?"""
    return comparison.control in TRANSFER_CONTROLS


def verdict_text(comparison: Comparison) -> str:
    """The verdict in the words of its question: stages help or harm, baselines are beaten or not."""
    if is_transfer(comparison):
        return {"harms": "harms (negative transfer)"}.get(comparison.verdict, comparison.verdict)
    return {
        "helps": "better",
        "harms": "worse",
        "no benefit": "no benefit",
        "cannot tell": "cannot tell",
    }[comparison.verdict]


def verdict_class(comparison: Comparison) -> str:
    """The CSS class of a verdict."""
    return {"helps": "helps", "harms": "harms", "no benefit": "none", "cannot tell": "unsure"}[comparison.verdict]


def column_digits(values: Iterable[float]) -> int:
    """How many decimals a column of numbers needs: three significant digits of its largest, at most six."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 0 if largest == 0 else min(6, max(0, 2 - math.floor(math.log10(largest))))
