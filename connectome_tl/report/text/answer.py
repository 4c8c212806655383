"""Summary sentence of a run, derived from the same rules as the verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from connectome_tl.report.labels import listed, task_title
from connectome_tl.report.text.verdict import reconciled
from connectome_tl.settings.models import FULL, words_of
from connectome_tl.settings.records.results import RunRecord, Score
from connectome_tl.tasks import Task

_TRANSFER = {
    "helps": "transfer helps",
    "harms": "transfer harms",
    "no benefit": "transfer brings no benefit",
    "cannot tell": "it remains unclear whether transfer helps",
    "not applicable": "transfer does not affect the result (the network has weight 0)",
}


def answer(record: RunRecord) -> str:
    """Summary of a run in one sentence; outcomes with a better baseline come first."""
    mains = [(task, main) for task in record.tasks if (main := _main(task, record.scores)) is not None]
    if not mains:
        return "No score of the full model: there is no answer."
    parts = [
        *_grouped(_beaten(record)),
        *_grouped((reconciled(main, _tests(task, record), len(record.tasks)), task) for task, main in mains),
    ]
    parts += _grouped(_transfer(record))
    return f"{'; '.join(parts)}."


def _main(task: Task, scores: Sequence[Score]) -> Score | None:
    wanted = (task.name, FULL, task.spec.primary)
    return next((s for s in scores if (s.task, s.model, s.metric) == wanted), None)


def _tests(task: Task, record: RunRecord) -> list:  # type: ignore[type-arg]
    return [test for test in record.permutations if test.task == task.name]


def _beaten(record: RunRecord) -> list[tuple[str, Task]]:
    better = {verdict.task: verdict.better_baseline for verdict in record.verdicts if verdict.better_baseline}
    return [
        (f"the full model scores lower than {words_of(better[task.name], task.form)}", task)
        for task in record.tasks
        if task.name in better
    ]


def _transfer(record: RunRecord) -> list[tuple[str, Task]]:
    words = {
        c.task: c.verdict
        for c in record.comparisons
        if (c.model, c.control) == (FULL, "scratch")
        and c.metric == next((t.spec.primary for t in record.tasks if t.name == c.task), "")
    }
    return [(_TRANSFER[words[task.name]], task) for task in record.tasks if task.name in words]


def _grouped(said: object) -> list[str]:
    """Join the outcomes that share a phrase."""
    groups: dict[str, list[str]] = {}
    for phrase, task in said:  # type: ignore[attr-defined]
        groups.setdefault(phrase, []).append(task_title(task))
    return [f"{listed(names)}: {phrase}" for phrase, names in groups.items()]
