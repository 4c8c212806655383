"""The sentences that lead a report: how well, with what interval, better than what, does transfer help.

Words follow rules fixed beforehand and nothing else: intervals (`compare.verdict`) and, where a
permutation test was run, its p value corrected over tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectome_tl.settings.results import Comparison, PermutationResult, Score, TaskVerdict
from connectome_tl.tasks import Task

MODEL = "full"
STAGES: dict[str, str] = {
    "scratch": "Transfer (both earlier stages together)",
    "no_pretrain": "Pretraining on the older subjects",
    "no_adapt": "Adaptation on unlabelled infants",
    "single_task": "Learning the outcomes jointly",
    "no_clinical": "Clinical covariates beside the connectome",
}
_NAMES = {"auc": "AUC", "r2": "R2", "brier": "Brier score", "mae": "mean absolute error"}
_FEW = 10  # of a class: below this an AUC says next to nothing
_ALPHA = 0.05


def task_verdicts(
    tasks: Sequence[Task],
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    permutations: Sequence[PermutationResult] = (),
    model: str = MODEL,
) -> list[TaskVerdict]:
    """One verdict per task that `model` was scored on, in the order of the tasks."""
    found = []
    for task in tasks:
        metric = "auc" if task.is_binary else "r2"
        main = _score(scores, task.name, model, metric)
        if main is None:
            continue
        ours = {c.control: c for c in comparisons if c.task == task.name and c.model == model and c.metric == metric}
        tests = [p for p in permutations if p.task == task.name]
        found.append(
            TaskVerdict(
                task=task.name,
                headline=f"{task.label}: {_headline(main, ours, tests)}.",
                how_well=_how_well(task, main, scores, tests, model),
                against_nuisance=_against(ours.get("nuisance_only"), "nuisance variables alone"),
                against_clinical=_against(ours.get("clinical_only"), "clinical covariates alone"),
                transfer=tuple(_stage(ours[c], words) for c, words in STAGES.items() if c in ours),
                caution=tuple(_cautions(task, main, ours)),
            )
        )
    return found


def number(value: float, signed: bool = False) -> str:
    """Two decimals without the leading zero: .78, -.05, +.03; `undefined` for NaN."""
    if value != value:
        return "undefined"
    text = f"{value:+.2f}" if signed else f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text


def interval(low: float, high: float, signed: bool = False) -> str:
    return f"95 % interval {number(low, signed)} to {number(high, signed)}"


def _score(scores: Sequence[Score], task: str, model: str, metric: str) -> Score | None:
    return next((s for s in scores if (s.task, s.model, s.metric) == (task, model, metric)), None)


def _level(main: Score) -> str:
    chance, words = (0.5, "chance") if main.metric == "auc" else (0.0, "predicting the mean")
    if main.value != main.value or main.low != main.low:
        return "could not be scored (no fold held both classes)" if main.metric == "auc" else "could not be scored"
    if main.low > chance:
        return f"predicted better than {words}"
    if main.high < chance:
        return f"predicted worse than {words}"
    return f"not distinguishable from {words}"


def _headline(main: Score, ours: dict[str, Comparison], tests: Sequence[PermutationResult]) -> str:
    level = _level(main)
    chance = [t for t in tests if t.model == main.model and "chance" in t.question]
    if level.startswith("not distinguishable") and any(t.p_value_max <= _ALPHA for t in chance):
        # The test asks whether there is any signal, the interval how much: the first is easier to answer.
        words = "chance" if main.metric == "auc" else "predicting the mean"
        level = f"some signal (permutation test), but how much better than {words} cannot be told"
    parts = [level]
    known = (("clinical_only", "clinical covariates"), ("nuisance_only", "nuisance variables"))
    rivals = [(name, ours[key]) for key, name in known if key in ours]
    better = [name for name, c in rivals if c.verdict == "helps"]
    worse = [name for name, c in rivals if c.verdict == "harms"]
    if better:
        parts.append(f"better than {' and '.join(better)} alone")
    if worse:
        parts.append(f"worse than {' and '.join(worse)} alone")
    if rivals and not better and not worse:
        parts.append(f"not shown to be better than {' or '.join(name for name, _ in rivals)} alone")
    transfer = ours.get("scratch")
    if transfer is not None:
        parts.append(
            {
                "helps": "transfer helps",
                "harms": "transfer harms (negative transfer)",
                "no benefit": "transfer brings no benefit",
                "cannot tell": "whether transfer helps cannot be told",
            }[transfer.verdict]
        )
    return "; ".join(parts)


def _how_well(task: Task, main: Score, scores: Sequence[Score], tests: Sequence[PermutationResult], model: str) -> str:
    who = f"{main.n} infants" + (f", {main.n_positive} of them positive" if main.n_positive is not None else "")
    text = f"{_NAMES[main.metric]} {number(main.value)} ({interval(main.low, main.high)}; {who})."
    second = _score(scores, task.name, model, "brier" if task.is_binary else "mae")
    if second is not None and second.value == second.value:
        unit = f" {task.unit}" if task.unit and not task.is_binary else ""
        value, low, high = (
            f"{v:.3g}" if not task.is_binary else number(v) for v in (second.value, second.low, second.high)
        )
        text += f" {_NAMES[second.metric].capitalize()} {value}{unit} (95 % interval {low} to {high})."
    for test in tests:
        who = "" if test.model == model else f"{test.model}, "
        text += (
            f" Permutation test ({who}{test.n_permutations} permutations; {test.question.rstrip('?').lower()}): "
            f"p = {test.p_value:.3f}, {test.p_value_max:.3f} corrected over the outcomes."
        )
    return text


def _difference(comparison: Comparison) -> str:
    return (
        f"{_NAMES.get(comparison.metric, comparison.metric)} difference {number(comparison.difference, True)}, "
        f"{interval(comparison.low, comparison.high, True)}, n = {comparison.n}"
    )


def _against(comparison: Comparison | None, what: str) -> str:
    if comparison is None:
        return f"Not compared with {what}: none are given."
    words = {
        "helps": f"Better than {what}",
        "harms": f"Worse than {what}",
        "no benefit": f"No better than {what}",
        "cannot tell": f"Whether it is better than {what} cannot be told from these subjects",
    }
    return f"{words[comparison.verdict]} ({_difference(comparison)})."


def _stage(comparison: Comparison, what: str) -> str:
    harm = (
        "harms: this is negative transfer" if comparison.control in ("scratch", "no_pretrain", "no_adapt") else "harms"
    )
    words = {"helps": "helps", "harms": harm, "no benefit": "brings no benefit", "cannot tell": "cannot tell"}
    return f"{what}: {words[comparison.verdict]} ({_difference(comparison)})."


def _cautions(task: Task, main: Score, ours: dict[str, Comparison]) -> list[str]:
    found = []
    if task.is_binary and main.n_positive is not None:
        fewer = min(main.n_positive, main.n - main.n_positive)
        if fewer < _FEW:
            found.append(f"Only {fewer} infants in the smaller class: one infant more or less changes the result.")
    if main.high - main.low > 0.3:
        found.append(f"The interval is {number(main.high - main.low)} wide: these subjects cannot settle the question.")
    telling = [c for c in ours.values() if c.verdict in ("helps", "harms")]
    if len(ours) > 1 and telling:
        found.append(f"{len(ours)} comparisons were made for this outcome, each at 95 %: one in twenty errs by chance.")
    nuisance = ours.get("nuisance_only")
    if nuisance is not None and nuisance.verdict != "helps" and _level(main).startswith("predicted better"):
        found.append("Nuisance variables (age at scan, sex, site, motion) may explain what it predicts.")
    return found
