"""Verdict sentences: performance with interval, comparison with baselines, benefit of transfer.

The wording follows rules that were fixed in advance. They use the intervals (`compare.verdict`) and, where
a permutation test was run, its p value corrected over tasks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from connectome_tl.plurals import counted
from connectome_tl.report.labels import interval_digits, one
from connectome_tl.report.text.probes import probes_verdict
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.model_table import CORE, FULL, model_named, words_of
from connectome_tl.settings.records.results import Comparison, NetworkWeight, PermutationResult, Score, TaskVerdict
from connectome_tl.settings.records.scores import NOT_ESTIMABLE
from connectome_tl.settings.records.statistics import AdaptationProbe
from connectome_tl.tasks import Task

_FEW = 10  # subjects of a class; a ranking score of fewer is hardly informative
_ALPHA = 0.05


def task_verdicts(
    tasks: Sequence[Task],
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    permutations: Sequence[PermutationResult] = (),
    model: str = FULL,
    noun: str = "subjects",
    weights: Sequence[NetworkWeight] = (),
    transferred: Sequence[NetworkWeight] = (),
    probes: Sequence[AdaptationProbe] = (),
) -> list[TaskVerdict]:
    """One verdict per task that `model` was scored on, in the order of the tasks.

    Args:
        noun: name of the subjects: infants, children, adults.
        weights: weights of the network in the full model. transferred: of networks from transferred weights.
        probes: linear probes of stage 2.
    """
    found = []
    for task in tasks:
        mine = [s for s in scores if s.task == task.name]
        main = _score(mine, model, task.spec.primary)
        if main is None:
            continue
        all_of_it = [c for c in comparisons if c.task == task.name and c.metric == main.metric]
        ours = {c.control: c for c in all_of_it if c.model == model}
        # Chance tests of baselines are listed in the table of permutation tests; the sentence is about the model.
        tests = [p for p in permutations if p.task == task.name and not is_of_baseline(p)]
        best = better_baseline(main, mine)
        said = reconciled(main, tests, len(tasks))
        found.append(
            TaskVerdict(
                task=task.name,
                headline=f"{task.label}: {_headline(task, said, main, best, ours)}.",
                how_well=_how_well(task, main, mine, tests, noun),
                against_nuisance=_against(ours.get("nuisance_only"), "nuisance variables alone"),
                against_clinical=_against(ours.get("clinical_only"), "clinical covariates alone"),
                against_site=_against(ours["site_only"], "the site alone") if "site_only" in ours else "",
                better_baseline="" if best is None else best.model,
                transfer=(
                    *(weight_line(w) for w in weights if w.task == task.name),
                    *(transferred_line(w) for w in transferred if w.task == task.name),
                    *(_stage(c) for c in all_of_it if model_named(c.control).subject),
                    *probes_verdict(probes),
                ),
                caution=tuple(_cautions(task, said, main, _score(mine, model, task.spec.second), ours, noun)),
            )
        )
    return found


def is_of_baseline(test: PermutationResult) -> bool:
    """Whether a permutation test asks if a baseline predicts better than chance."""
    return "chance" in test.question and model_named(test.model).role == "baseline"


def weight_line(weight: NetworkWeight) -> str:
    """How much of the full model is the network."""
    return f"The network has weight {_over_fits(weight)}; the closed-form core has the remaining weight."


def transferred_line(weight: NetworkWeight) -> str:
    """How much of the network started from transferred weights."""
    return (
        f"In the ensemble of networks, those from transferred weights have weight {_over_fits(weight)}; those from "
        "random weights have the remaining weight."
    )


def _over_fits(weight: NetworkWeight) -> str:
    fits = counted(weight.n_fits, "fit")
    spread = f"{number(weight.low)} to {number(weight.high)} over {fits}"
    return f"{number(weight.mean)}, {spread}" if weight.low < weight.high else f"{number(weight.mean)} in {fits}"


def better_baseline(main: Score, scores: Sequence[Score]) -> Score | None:
    """The best of the baselines that score better than the model by the same metric, regardless of intervals."""
    sign = metric_named(main.metric).sign
    rivals = [
        s
        for s in scores
        if s.metric == main.metric
        and model_named(s.model).role == "baseline"
        and sign * s.value > sign * main.value  # False for NaN
    ]
    return max(rivals, key=lambda s: sign * s.value, default=None)


def number(value: float, signed: bool = False, digits: int = 2) -> str:
    """Two decimals: 0.78, -0.05, +0.03; `not estimable` where the value is not finite."""
    if not math.isfinite(value):
        return NOT_ESTIMABLE
    rounded = round(value, digits) + 0.0  # no negative zero
    return f"{rounded:{'+' if signed else ''}.{digits}f}"


def interval(low: float, high: float, signed: bool = False) -> str:
    """The interval in words; "no interval" if both ends are equal."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"95 % interval {NOT_ESTIMABLE}"
    if low == high:
        return "no interval"
    digits = interval_digits(low, high)
    return f"95 % interval {number(low, signed, digits)} to {number(high, signed, digits)}"


def _p(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else NOT_ESTIMABLE


def _score(scores: Sequence[Score], model: str, metric: str) -> Score | None:
    return next((s for s in scores if (s.model, s.metric) == (model, metric)), None)


def level(main: Score) -> str:
    """Conclusion from a score's own interval: better than, worse than, not distinguishable from chance."""
    metric = metric_named(main.metric)
    why = main.reason.partition(": ")[2]
    if not math.isfinite(main.value):
        return f"could not be scored ({why})" if why else "could not be scored"
    if not (math.isfinite(main.low) and math.isfinite(main.high)):
        because = f"since its interval is {NOT_ESTIMABLE}" + (f" ({why})" if why else "")
        return f"not distinguishable from {metric.uninformed}, {because}"
    beyond = metric.beyond_chance(main.low, main.high)
    if beyond:
        return f"predicted {'better' if beyond > 0 else 'worse'} than {metric.uninformed}"
    return f"not distinguishable from {metric.uninformed}"


def reconciled(main: Score, tests: Sequence[PermutationResult], n_tasks: int = 1) -> str:
    """The score's interval and the permutation test in one phrase.

    The test asks whether there is any signal; the interval quantifies it. A test can therefore detect a signal
    whose interval still includes chance. Without a test of the full model, that of its closed-form core counts.

    Args:
        n_tasks: number of outcomes of the study, over which p values are corrected.
    """
    said, words = level(main), metric_named(main.metric).uninformed
    chance = [t for t in tests if "chance" in t.question and math.isfinite(t.p_value_max)]
    own = [t for t in chance if t.model == main.model]
    core = [t for t in chance if t.model == CORE and main.model == FULL]
    used, whose = (own, "") if own else (core, " of its closed-form core")
    if not used:
        return said
    if used[0].metric != main.metric:  # of an extension's kind of outcome
        whose = f" of {metric_named(used[0].metric).words}{whose}"
    signal = any(t.p_value_max <= _ALPHA for t in used)
    if signal and said.startswith("not distinguishable"):
        return f"some signal (permutation test{whose}), but how much better than {words} remains unclear"
    if not signal and said.startswith("predicted better"):
        enough = any(n_tasks / (t.n_permutations + 1) <= _ALPHA for t in used)
        not_confirmed = "but not confirmed by the" if enough else "with too few permutations to be confirmed by the"
        return f"{said} according to its interval, {not_confirmed} permutation test{whose}"
    return said


def _headline(task: Task, said: str, main: Score, best: Score | None, ours: dict[str, Comparison]) -> str:
    parts = [said]
    worse = [c for c in ours.values() if c.verdict == "harms" and model_named(c.control).role == "baseline"]
    if best is not None:
        parts.insert(0, _beaten(task, main, best, ours.get(best.model)))
    parts[1:1] = [
        f"worse than {words_of(c.control, task.form)}" for c in worse if best is None or c.control != best.model
    ]
    known = (
        ("clinical_only", "clinical covariates"),
        ("nuisance_only", "nuisance variables"),
        ("site_only", "the site"),
    )
    better = [name for key, name in known if key in ours and ours[key].verdict == "helps"]
    open_ = [
        name
        for key, name in known
        if key in ours and ours[key].verdict not in ("helps", "harms") and (best is None or key != best.model)
    ]
    if better:
        parts.append(f"better than {_listed(better, 'and')} alone")
    if open_:
        parts.append(f"not shown to be better than {_listed(open_, 'or')} alone")
    transfer = ours.get("scratch")
    if transfer is not None:
        parts.append(
            {
                "helps": "transfer helps",
                "harms": "transfer harms (negative transfer)",
                "no benefit": "transfer brings no benefit",
                "cannot tell": "it remains unclear whether transfer helps",
                "not applicable": "transfer does not affect the result, since the network has weight 0",
            }[transfer.verdict]
        )
    return "; ".join(parts)


def _listed(names: Sequence[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def _beaten(task: Task, main: Score, best: Score, comparison: Comparison | None) -> str:
    """A baseline with a better score, and whether its interval excludes 0."""
    values = f"{number(main.value)} against {number(best.value)}"
    if number(best.value) == number(main.value):
        values = f"{number(main.value)} for both, rounded"
    values = f"{metric_named(main.metric).words} {values}"
    what = words_of(best.model, task.form)
    if comparison is not None and comparison.verdict == "harms":
        return f"worse than {what} ({values})"
    lower = "lower" if metric_named(main.metric).sign > 0 else "worse"
    return f"a {lower} score than {what} ({values}), possibly by chance"


def _how_well(task: Task, main: Score, scores: Sequence[Score], tests: Sequence[PermutationResult], noun: str) -> str:
    metric = metric_named(main.metric)
    text = f"{_capital(metric.words)} {number(main.value)} ({interval(main.low, main.high)}; {who(task, main, noun)})."
    second = _score(scores, main.model, task.spec.second)
    if second is not None and second.value == second.value:
        text += f" {_capital(metric_named(second.metric).words)} {_second(task, second)}."
    for test in tests:
        whose = "" if test.model == main.model else f"{model_named(test.model).label}, "
        of = "" if test.metric == main.metric else f" of {metric_named(test.metric).words}"
        text += (
            f" Permutation test{of} ({whose}{counted(test.n_permutations, 'permutation')}; "
            f"{test.question.rstrip('?').lower()}): "
            f"p = {_p(test.p_value)}, {_p(test.p_value_max)} corrected over the outcomes."
        )
    return text


def _second(task: Task, score: Score) -> str:
    plain = metric_named(score.metric).high == float("inf")  # in the unit of the outcome
    unit = (f" {task.unit}" if task.unit else " levels" if task.form == "levels" else "") if plain else ""
    if not plain:
        return f"{number(score.value)} ({interval(score.low, score.high)})"
    ends = f"{score.low:.3g} to {score.high:.3g}" if math.isfinite(score.high - score.low) else NOT_ESTIMABLE
    return f"{score.value:.3g}{unit} (95 % interval {ends})"


def who(task: Task, score: Score, noun: str) -> str:
    """`33 infants, 7 of them positive`; `60 children: 30 none, 20 mild, 10 severe`."""
    text = f"{score.n} {noun}"
    if score.n_positive is not None:
        return f"{text}, {score.n_positive} of them positive"
    if score.per_level and len(score.per_level) == len(task.levels):
        counts = ", ".join(f"{n} {name}" for n, name in zip(score.per_level, task.levels, strict=True))
        return f"{text}: {counts}"
    return text


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def _difference(comparison: Comparison) -> str:
    return (
        f"{metric_named(comparison.metric).words} difference {number(comparison.difference, True)}, "
        f"{interval(comparison.low, comparison.high, True)}, n = {comparison.n}"
    )


def _against(comparison: Comparison | None, what: str) -> str:
    if comparison is None:
        return f"Not compared with {what}: none are available."
    words = {
        "helps": f"Better than {what}",
        "harms": f"Worse than {what}",
        "no benefit": f"No better than {what}",
        "cannot tell": f"Whether it is better than {what} remains unclear",
        "not applicable": f"Not applicable: {what}",
    }
    return f"{words[comparison.verdict]} ({_difference(comparison)})."


def _stage(comparison: Comparison) -> str:
    control = model_named(comparison.control)
    what = control.subject if comparison.model == FULL else f"{control.subject}, {model_named(comparison.model).words}"
    if comparison.verdict == "not applicable":
        where = "the full model" if comparison.control == "core" else "both models"
        return f"{what}: not applicable, the network has weight 0 in {where}."
    words = {
        "helps": "helps",
        "harms": "harms: this is negative transfer" if control.stage else "harms",
        "no benefit": "brings no benefit",
        "cannot tell": "cannot tell",
    }
    return f"{what}: {words[comparison.verdict]} ({_difference(comparison)})."


def _cautions(
    task: Task, said: str, main: Score, second: Score | None, ours: dict[str, Comparison], noun: str
) -> list[str]:
    found = _few(task, main, noun)
    if second is not None and second.value == 0:
        found.append("Every prediction equals its outcome: check for leakage.")
    if math.isfinite(main.value) and not math.isfinite(main.high - main.low):
        why = main.reason.partition(": ")[2] or "too few families, or no variation"
        found.append(f"The interval is not estimable ({why}): no conclusion is possible.")
    if main.high - main.low > 6 * (metric_named(main.metric).margin or math.inf):
        what = (
            "the data are inconclusive"
            if said.startswith("not distinguishable")
            else "how well the model predicts is uncertain"
        )
        found.append(f"The interval is {number(main.high - main.low)} wide: {what}.")
    telling = [c for c in ours.values() if c.verdict in ("helps", "harms")]
    if len(ours) > 1 and telling:
        found.append(
            f"{len(ours)} comparisons were made for this outcome, each at the 95 % level, without correction: one in "
            "twenty is expected to be wrong by chance."
        )
    if said.startswith("predicted better"):
        for name, words in (
            ("nuisance_only", "Nuisance variables (age at scan, sex, site, motion)"),
            ("site_only", "The site alone"),
        ):
            if name in ours and ours[name].verdict != "helps":
                found.append(f"{words} may explain the prediction.")
    return found


def _few(task: Task, main: Score, noun: str) -> list[str]:
    """Classes or levels that are empty, and the size of the smallest of the others if it is small."""
    sizes = dict(zip((f"at level {name!r}" for name in task.levels), main.per_level))
    if main.n_positive is not None:
        sizes = {"positive": main.n_positive, "negative": main.n - main.n_positive}
    found = [f"No subject is {where}: this cannot be learned or tested." for where, n in sizes.items() if n == 0]
    fewest, where = min(((n, where) for where, n in sizes.items() if n), default=(_FEW, ""))
    if fewest < _FEW and not (main.n_positive is not None and found):
        where = "in the smaller class" if main.n_positive is not None else where
        found.append(f"Only {counted(fewest, one(noun), noun)} {where}: a single subject can change the result.")
    return found
