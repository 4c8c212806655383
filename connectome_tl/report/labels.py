"""Names, colours and number formats of models and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from connectome_tl.settings.metrics import METRICS, Metric
from connectome_tl.settings.model_table import STAGES, ModelSpec, model_named
from connectome_tl.settings.records.results import Comparison
from connectome_tl.tasks import Task

UNDEFINED = "n/a"


def model_label(name: str) -> ModelSpec:
    """The record of a model; an unregistered model is labelled with its name."""
    return model_named(name)


def metric_label(name: str) -> Metric:
    """The record of a metric; an unknown metric (of another version, for example) is labelled with its name."""
    return METRICS.get(name) or Metric(name, plain(name), plain(name), 0, -math.inf, math.inf, ())


def metric_order(name: str) -> int:
    """Position of a metric in tables; unknown metrics are last."""
    names = list(METRICS)
    return names.index(name) if name in METRICS else len(names)


def stage_label(name: str) -> str:
    """Title of a stage; an unknown stage has its name."""
    return STAGES.get(name, plain(name))


def stage_order(name: str) -> int:
    """Position of a stage in tables; unknown stages are last."""
    return list(STAGES).index(name) if name in STAGES else len(STAGES)


def role_label(role: str, noun: str = "subjects") -> str:
    """Title of a cohort's role, for example `Infants with outcomes (stage 3)`."""
    words = {
        "source": "{} of the source cohort (stage 1)",
        "pool": "{} without outcomes (stage 2)",
        "target": "{} with outcomes (stage 3)",
    }
    return plain(words[role].format(noun)) if role in words else plain(role)


def one(noun: str) -> str:
    """Singular of a noun: infant of infants, child of children."""
    return {"children": "child"}.get(noun, noun.removesuffix("s"))


def task_title(task: Task) -> str:
    """Name of the outcome, in words."""
    return plain(task.name)


def task_detail(task: Task) -> str:
    """Details that the title omits: the rule for the class, or the unit."""
    if task.operator is not None:
        return f"{task.column} {task.operator} {task.cutoff:g}"
    return task.unit


def headline(text: str, task: Task) -> str:
    """A headline without the name of the task, for use below a title with that name."""
    text = text.removeprefix(f"{task.label}: ")
    return text[:1].upper() + text[1:]


def plain(name: str) -> str:
    """A name as text: `cognitive_delay` becomes `Cognitive delay`."""
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def number(value: float | None, digits: int = 2) -> str:
    """Format a number with a minus sign (U+2212) and without negative zero; NaN gives `n/a`."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """Format a difference, always with its sign."""
    text = number(value, digits)
    return text if text == UNDEFINED or text.startswith("−") or float(text) == 0 else f"+{text}"


def interval(low: float, high: float, *, digits: int = 2, with_sign: bool = False) -> str:
    """Format an interval as `[0.41, 0.80]`; an undefined interval is `[no interval]`.

    A narrow interval has as many digits as distinguish its ends: `[-0.005, 0.005]`.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return "[no interval]"
    show, digits = signed if with_sign else number, interval_digits(low, high, digits)
    return f"[{show(low, digits)}, {show(high, digits)}]"


def interval_digits(low: float, high: float, digits: int = 2) -> int:
    """Number of decimals, at least `digits` and at most 6, that distinguishes the ends of an interval."""
    return next((d for d in range(digits, 6) if low == high or round(low, d) != round(high, d)), 6)


def count(n: int, n_positive: int | None) -> str:
    """Number of subjects and, in brackets, how many are positive: `33 (9+)`."""
    return f"{n}" if n_positive is None else f"{n} ({n_positive}+)"


def p_value(value: float, n_permutations: int) -> str:
    """A permutation p value with as many digits as its number of permutations supports."""
    if not math.isfinite(value):
        return UNDEFINED
    return number(value, max(3, math.ceil(math.log10(n_permutations + 1))))


def verdict_text(comparison: Comparison) -> str:
    """The verdict as text that suits its question: a stage helps or harms, a model is better than a baseline or not."""
    control = model_named(comparison.control)
    if comparison.verdict == "harms" and control.stage:
        return "harms (negative transfer)"
    if control.role == "baseline":
        return {"helps": "better", "harms": "worse", "no benefit": "no benefit"}.get(
            comparison.verdict, comparison.verdict
        )
    return comparison.verdict


def verdict_class(comparison: Comparison) -> str:
    """The CSS class of a verdict."""
    return {"helps": "helps", "harms": "harms", "no benefit": "none"}.get(comparison.verdict, "unsure")


def column_digits(values: Iterable[float]) -> int:
    """Number of decimals for a column: three significant digits of its largest value, at most six decimals."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return 0 if largest == 0 else min(6, max(0, 2 - math.floor(math.log10(largest))))


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    names = list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"
