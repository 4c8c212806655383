"""Answers to items of reporting checklists, derived from the record of a run."""

from __future__ import annotations

from connectome_tl.plurals import counted
from connectome_tl.report.labels import listed, metric_label, plain, role_label, task_title
from connectome_tl.report.text.methods import SITES_OUT
from connectome_tl.settings.model_table import FULL
from connectome_tl.settings.records.explanations import ExplanationRecord
from connectome_tl.settings.records.results import CohortRecord, RunRecord
from connectome_tl.tasks import KINDS


def answers_of(record: RunRecord, explained: ExplanationRecord | None) -> dict[str, str]:
    """Answers by name; an empty answer leaves the item open."""
    target = next((c for c in record.cohorts if c.role == "target"), None)
    made = bool(record.scores)
    return {
        "objective": "Development and internal evaluation; see the verdict of each outcome." if made else "",
        "sources": _sources(record),
        "eligibility": _eligibility(target),
        "preparation": "See Methods (features) and the sidecar files of the cohorts." if record.methods else "",
        "outcome": _outcomes(record),
        "predictors": _predictors(target),
        "sample_size": _sample_size(record),
        "missing": _missing(record, target),
        "analysis": "See Methods." if record.methods else "",
        "imbalance": _imbalance(record),
        "fairness": _groups(record),
        "output": _output(record),
        "evaluation_data": "The same cohort, other folds (cross-validation)." if made else "",
        "external": _external(record) if made else "",
        "code": f"connectome_tl {record.versions['connectome-tl']}; versions in Provenance."
        if record.versions.get("connectome-tl")
        else "",
        "data_hashes": "Hashes of the cohorts in Provenance; availability is to be stated by the authors."
        if any(key.startswith("cohort ") for key in record.provenance)
        else "",
        "flow": "Flow diagram in Cohorts." if any(cohort.flow for cohort in record.cohorts) else "",
        "numbers": _numbers(record, target),
        "model": "Settings in study.yaml, fits in models/ of the run folder; connectome-tl bundle releases a model."
        if made
        else "",
        "performance": _performance(record),
        "limitations": _limitations(record),
        "leakage": "Families are never split between folds; every fitted step is checked for test rows (split plan "
        f"{record.split_hash[:12]})."
        if record.split_hash
        else "",
        "robustness": _robustness(record),
        "training": "See Methods and Training." if record.methods and record.curves else "",
        "explanation": _explanation(explained),
    }


def _titles(record: RunRecord, names: set[str]) -> list[str]:
    return [task_title(task) for task in record.tasks if task.name in names]


def _robustness(record: RunRecord) -> str:
    names = _titles(record, {one.task for one in record.instability})
    return f"Instability of individual risks over bootstrap refits for {listed(names)}." if names else ""


def _sources(record: RunRecord) -> str:
    parts = [
        f"{c.people.text if c.people else counted(c.n_subjects, 'subject')} ({c.name}; {role_label(c.role).lower()})"
        for c in record.cohorts
    ]
    return f"{'; '.join(parts)}. Places and dates are to be stated by the authors." if parts else ""


def _eligibility(target: CohortRecord | None) -> str:
    steps = [step for step in target.flow if step.reason] if target else []
    return f"Exclusions of the target: {'; '.join(f'{s.n_excluded} {s.reason}' for s in steps)}." if steps else ""


def _outcomes(record: RunRecord) -> str:
    parts = [f"{task.label}{f', {task.edition}' if task.edition else ''}" for task in record.tasks]
    return f"{'; '.join(parts)}. Assessors and timing are to be stated by the authors." if parts else ""


def _external(record: RunRecord) -> str:
    if SITES_OUT in record.methods:
        return "No external data: each site was held out in turn (internal-external validation)."
    return "No external data: cross-validation only."


def _predictors(target: CohortRecord | None) -> str:
    if target is None:
        return ""
    parts = []
    if target.n_regions:
        parts.append(f"edges of {target.n_regions} regions ({target.atlas}; {', '.join(target.measures)})")
    if target.n_volumes:
        parts.append("volumes of the brain")
    if target.covariates:
        parts.append(f"the covariates {listed(target.covariates)}")
    return f"{plain(listed(parts))}." if parts else ""


def _sample_size(record: RunRecord) -> str:
    if not record.sample_sizes:
        return ""
    few = sum(not size.enough for size in record.sample_sizes)
    return f"Criteria in Cohorts: not met for {few} of {len(record.sample_sizes)}."


def _missing(record: RunRecord, target: CohortRecord | None) -> str:
    if target is None or not target.outcomes:
        return ""
    lost = max(row.lost + row.died + row.untestable + row.unknown for row in target.outcomes)
    what = "Missing outcomes are masked, not imputed"
    more = "; bounds and weighting in Cohorts" if record.missing_outcomes else ""
    return f"{what} (at most {lost} of {target.n_subjects} for an outcome){more}."


def _imbalance(record: RunRecord) -> str:
    rows = [(s.n_positive or 0, s.n) for s in record.scores if s.model == FULL and s.metric == "auc"]
    if not rows:
        return ""
    low, high = min(p / n for p, n in rows), max(p / n for p, n in rows)
    shares = list(dict.fromkeys(f"{100 * share:.0f} %" for share in (low, high)))
    return f"Share of positives {' to '.join(shares)}; numbers are given with every score."


def _groups(record: RunRecord) -> str:
    names = list(dict.fromkeys(plain(group.variable) for group in record.subgroups))
    return f"Scores by {listed(names)}; groups that are too small are not scored." if names else ""


def _output(record: RunRecord) -> str:
    kinds = {task.kind for task in record.tasks}
    words = [kind.words for kind in KINDS.values() if kind.name in kinds]
    return f"{plain(listed(words))}; research only, not for care." if words else ""


def _numbers(record: RunRecord, target: CohortRecord | None) -> str:
    return "In Cohorts and with every score." if target is not None and record.scores else ""


def _performance(record: RunRecord) -> str:
    metrics = list(dict.fromkeys(metric_label(s.metric).label for s in record.scores if s.model == FULL))
    return f"{', '.join(metrics)} with 95 % intervals, all models, in Evidence and Scores." if metrics else ""


def _limitations(record: RunRecord) -> str:
    n = len(record.warnings)
    return f"{counted(n, 'warning')} of the run; further limitations are to be stated by the authors." if n else ""


def _explanation(explained: ExplanationRecord | None) -> str:
    if explained is None:
        return ""
    methods = list(dict.fromkeys(one.method for one in explained.maps))
    if not methods:
        return "Maps were withheld: no model was above chance."
    untested = [one.method for one in explained.maps if not one.null]
    null = "null distribution" if not untested else f"null distribution ({len(untested)} of the maps have none)"
    return f"{plain(listed(methods))}, with stability and {null}; {len(explained.withheld)} withheld."
