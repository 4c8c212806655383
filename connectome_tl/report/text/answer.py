"""The sentence that answers a study: how well outcomes are predicted, whether a baseline wins, whether transfer helps.

It follows the rules of the verdicts, counts outcomes where there are several, and has at most `LONGEST` words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from connectome_tl.report.labels import listed, task_title
from connectome_tl.report.text.verdict import reconciled
from connectome_tl.settings.metrics import metric_named
from connectome_tl.settings.model_table import FULL, model_named, words_of
from connectome_tl.settings.records.results import PermutationResult, RunRecord, Score
from connectome_tl.tasks import Task

LONGEST = 35
_TRANSFER = {
    "no benefit": "transfer brings no benefit",
    "cannot tell": "whether transfer helps remains unclear",
    "not applicable": "transfer does not affect the result",
}


def answer(record: RunRecord) -> str:
    """Summary of a run in one sentence; a baseline that scores better is named in it."""
    mains = [(task, main) for task in record.tasks if (main := _main(task, record.scores)) is not None]
    if not mains:
        return "No score of the full model: there is no answer."
    words = {metric_named(main.metric).uninformed for _, main in mains}
    uninformed = words.pop() if len(words) == 1 else "a constant prediction"
    said = Counter(_kind(reconciled(main, _tests(task, record), len(record.tasks))) for task, main in mains)
    only = task_title(mains[0][0]) if len(mains) == 1 else ""
    for briefly in range(3):
        level = _one(said, only, uninformed) if only else _several(said, uninformed, briefly)
        text = "; ".join(filter(None, (level + _beaten(record, said, only, briefly), _transfer(record, only))))
        sentence = f"The full model {text}."
        if len(sentence.split()) <= LONGEST:
            break
    return sentence


def _main(task: Task, scores: Sequence[Score]) -> Score | None:
    wanted = (task.name, FULL, task.spec.primary)
    return next((s for s in scores if (s.task, s.model, s.metric) == wanted), None)


def _tests(task: Task, record: RunRecord) -> list[PermutationResult]:
    return [test for test in record.permutations if test.task == task.name]


def _kind(said: str) -> str:
    """The conclusion about one outcome: better, unconfirmed, signal, worse, unscored or unclear."""
    if said.startswith("predicted better"):
        return "unconfirmed" if "confirmed by the" in said else "better"
    starts = {"predicted worse": "worse", "some signal": "signal", "could not": "unscored"}
    return next((kind for start, kind in starts.items() if said.startswith(start)), "unclear")


def _one(said: Counter[str], outcome: str, uninformed: str) -> str:
    """What holds for the only outcome."""
    return {
        "better": f"predicts {outcome} better than {uninformed}",
        "unconfirmed": f"predicts {outcome} better than {uninformed}, not confirmed by the permutation test",
        "signal": f"shows some signal for {outcome}, of unclear size",
        "worse": f"predicts {outcome} worse than {uninformed}",
        "unscored": f"could not be scored for {outcome}",
        "unclear": f"is not shown to predict {outcome} better than {uninformed}",
    }[next(iter(said))]


def _several(said: Counter[str], uninformed: str, briefly: int) -> str:
    """For how many outcomes what holds."""
    n, better = said.total(), said["better"] + said["unconfirmed"]
    of = f"of {n} outcomes"
    if said["unscored"] == n:
        return f"could not be scored for any {of}"
    if not better and said["signal"]:
        return f"shows some signal for {said['signal']} {of}, of unclear size"
    if not better:
        return f"is not shown to predict any {of} better than {uninformed}"
    text = f"predicts {better} {of} better than {uninformed}"
    if said["unconfirmed"]:
        which = f"{said['unconfirmed']} not" if said["unconfirmed"] < better else "none" if better > 1 else "not"
        text += f" ({which} confirmed{'' if briefly else ' by permutation'})"
    text += f" and {said['worse']} worse" * (bool(said["worse"]) and briefly < 2)
    return text + f", with some signal for {said['signal']} more" * (bool(said["signal"]) and not briefly)


def _beaten(record: RunRecord, said: Counter[str], only: str, briefly: int) -> str:
    """The baselines that score better than the full model, and for how many outcomes."""
    forms = {task.name: task.form for task in record.tasks}
    better = Counter(
        f'"{model_named(verdict.better_baseline).label}"'
        if briefly
        else words_of(verdict.better_baseline, forms[verdict.task]).partition(" (")[0]
        for verdict in record.verdicts
        if verdict.better_baseline
    )
    if not better:
        return ""
    contrast = any(said[kind] for kind in ("better", "unconfirmed", "signal"))
    lower = all(metric_named(task.spec.primary).sign > 0 for task in record.tasks)
    start = f", {'but' if contrast else 'and'} scores {'lower' if lower else 'worse'} than "
    named = better.most_common()
    if only:
        return start + named[0][0]
    if len(named) > (1 if briefly else 2):
        return f"{start}{named[0][0]} or another baseline for {better.total()}"
    return start + listed([f"{name} for {n}" for name, n in named])


def _transfer(record: RunRecord, only: str) -> str:
    primary = {task.name: task.spec.primary for task in record.tasks}
    said: Counter[str] = Counter(
        c.verdict
        for c in record.comparisons
        if (c.model, c.control) == (FULL, "scratch") and c.metric == primary.get(c.task)
    )
    told = [word for word in ("helps", "harms") if said[word]]
    if told:
        return "transfer " + ", ".join(word if only else f"{word} for {said[word]}" for word in told)
    if len(said) == 1:
        return _TRANSFER[next(iter(said))]
    return "transfer is not shown to help" if said else ""
