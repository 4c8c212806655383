"""Whether a page says two things of one quantity, over simulated tables of predictions. Nothing is fitted.

    python benchmarks/contradictions.py [--n 500] [--first 0] [--quick] [--keep FOLDER]

Each study has one to three outcomes of any kind and predictions that are drawn, not fitted: no signal, weak and
strong ones, perfect separation, the inverse of the outcome, the same value for everybody, risks in few steps, and
models that equal the full model. Cohorts have 8 to 90 subjects, with families, sites, rare classes and missing
outcomes in some; splits are folds, few labels or held-out sites. The tables go through the scores, comparisons, tests
and verdicts of a run, and the page is read again (`page_claims.py`, `page_checks.py`): all statements on one
quantity, in the summary, the verdict, its table, the details, the evidence, the scores and on the terminal, must have
a common meaning, and equal numbers. A line per contradiction, with the seed of its study; the exit status is 1 if
there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from page_checks import contradictions
from page_claims import Outcome

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.learning_curve import points
from connectome_tl.evaluation.nested_cv import CrossValidation, PlannedFold
from connectome_tl.evaluation.permutation.beyond_clinical import BeyondClinical
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.report.figures.sheet import Sheet
from connectome_tl.report.render import render_report
from connectome_tl.settings.cohort import Covariate
from connectome_tl.settings.metrics import METRICS
from connectome_tl.settings.model_table import MODELS
from connectome_tl.settings.records.results import RunRecord
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.tasks import KindName, Task
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.fitting import Found
from connectome_tl.workflows.study.judge import judge

KINDS: tuple[KindName, ...] = ("binary", "regression", "ordinal", "multiclass")
SHAPES = ("none", "weak", "strong", "perfect", "inverse", "constant", "steps", "as full")
SKILL = {"none": 0.0, "weak": 1.0, "strong": 4.0, "inverse": -2.0, "steps": 1.5}
NAMES = ("alpha", "beta", "gamma")


def task_of(name: str, kind: KindName) -> Task:
    levels = ("low", "middle", "high") if kind in ("ordinal", "multiclass") else ()
    return Task(name=name, kind=kind, column=name, unit="points" if kind == "regression" else "", levels=levels)


def outcome(task: Task, rng: np.random.Generator, n: int) -> np.ndarray:
    """(n,) values of an outcome, some of them missing; classes may be rare, values may be tied."""
    if task.kind == "regression":
        y = rng.normal(95, 15, n)
        y = y if rng.random() < 0.7 else 10 * np.round(y / 10)
    else:
        shares = rng.choice([0.08, 0.25, 0.5]) if task.is_binary else rng.choice([0.1, 0.33])
        p = [1 - shares, shares] if task.is_binary else [1 - 2 * shares, shares, shares]
        y = rng.choice(len(p), n, p=p).astype(float)
        y[rng.permutation(n)[: 2 * len(p)]] = np.tile(np.arange(len(p)), 2)  # at least two of each
    if rng.random() < 0.3:
        y[rng.random(n) < 0.15] = np.nan
    return y


def outputs(task: Task, rng: np.random.Generator, y: np.ndarray, shape: str) -> np.ndarray:
    """What a model would predict for subjects with these outcomes, (n,) or (n, n_levels)."""
    noise = rng.normal(size=y.size)
    y = np.where(np.isnan(y), rng.permutation(y[~np.isnan(y)])[0] if (~np.isnan(y)).any() else 0.0, y)
    if shape == "constant":
        return np.tile([0.5, 0.3, 0.2], (y.size, 1)) if task.spec.by_level else np.full(y.size, 0.31)
    if task.spec.by_level:
        apart = np.abs(y[:, None] - np.arange(3)) if task.form == "levels" else 1.0 - np.eye(3)[y.astype(int)]
        weight = np.exp(-9.0 * apart) if shape == "perfect" else np.exp(
            -SKILL[shape] * apart + rng.normal(size=apart.shape))  # fmt: skip
        weight = np.ceil(3 * weight / weight.sum(axis=1, keepdims=True)) if shape == "steps" else weight
        return weight / weight.sum(axis=1, keepdims=True)
    if task.is_binary:
        if shape == "perfect":
            return 0.02 + 0.96 * y
        risk = 1 / (1 + np.exp(-(SKILL[shape] * (y - 0.5) + noise)))
        return np.round(3 * risk) / 3 if shape == "steps" else risk
    if shape == "perfect":
        return y
    value = 95 + SKILL[shape] * (y - 95) / 3 + 8 * noise
    return 20 * np.round(value / 20) if shape == "steps" else value


def uninformed(task: Task, y: np.ndarray, n: int) -> np.ndarray:
    """The share or the mean of the training rows, for n test rows."""
    known = y[~np.isnan(y)] if (~np.isnan(y)).any() else np.zeros(1)
    if task.spec.by_level:
        return np.tile(np.bincount(known.astype(int), minlength=3) / known.size, (n, 1))
    return np.full(n, known.mean())


def cohort_of(role: str, n: int, tasks: Sequence[Task], rng: np.random.Generator) -> Cohort:
    """A cohort of four regions; only its outcomes, families and sites matter."""
    ids = tuple(f"{role}{i:03d}" for i in range(n))
    targets = pd.DataFrame({task.name: outcome(task, rng, n) for task in tasks}, index=list(ids))
    sites = rng.choice(["north", "south", "west"][: int(rng.integers(1, 4))], n).astype(object)
    family = np.array([f"f{i // 2}" if i < n // 4 * int(rng.random() < 0.9) else "" for i in range(n)], dtype=object)
    return Cohort(
        name=role, ids=ids, regions=("a", "b", "c", "d"), atlas="four", measures=("count",),
        weights=np.zeros((n, 1, 4, 4), dtype=np.float32), node_mask=np.ones((n, 4), dtype=bool),
        covariates=pd.DataFrame({"gestational_age": rng.uniform(24, 40, n)}, index=list(ids)),
        covariate_specs=(Covariate(column="gestational_age", unit="weeks", available_at="birth"),),
        tasks=tuple(tasks), targets=targets,
        status=targets.notna().map(lambda seen: "observed" if seen else "unknown"),
        age=rng.normal(40, 1, n), age_unit="weeks", age_reference="postmenstrual", site=sites, family=family,
    )  # fmt: skip


def predicted(
    tasks: Sequence[Task],
    names: Sequence[str],
    target: Cohort,
    splits: SplitPlan,
    rng: np.random.Generator,
    known: Mapping[str, str],
) -> pd.DataFrame:
    """The prediction table of a study: a shape per model and outcome, random where it is not `known`."""
    tables = []
    for task in tasks:
        shapes = {name: str(rng.choice(SHAPES[:-1] if name == "full" else SHAPES)) for name in names} | dict(known)
        y_all = target.targets[task.name].to_numpy(float)
        for repeat, number, fold in splits.folds():
            y, training = y_all[target.positions(fold.test)], y_all[target.positions(fold.train)]
            full = outputs(task, rng, y, shapes["full"])
            made = {name: outputs(task, rng, y, shape) for name, shape in shapes.items() if shape != "as full"}
            made |= {name: full for name, shape in shapes.items() if shape == "as full"} | {"full": full}
            made["prevalence"] = uninformed(task, training, y.size)
            tables += [prediction_rows(task, name, repeat, number, fold.test, y, x, 0.5) for name, x in made.items()]
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class _Plan:
    key: str

    def lineage(self, **_: object) -> tuple[_Plan, ...]:
        return ()


def weights_of(tasks: Sequence[Task], rng: np.random.Generator, splits: SplitPlan) -> dict[str, Any]:
    """Planned folds and results that hold the weight of the network in the full model, 0 for some outcomes."""
    facts = {f"weight {task.name}": float(rng.choice([0.0, 0.4])) for task in tasks}
    repeat, number, fold = next(iter(splits.folds()))
    item = PlannedFold("full", tuple(tasks), repeat, number, fold, cast(Any, (_Plan("w"),)))
    return {"planned": (item,), "results": {"w": SimpleNamespace(facts=facts, notes=())}}


def permuted(observed: float, rng: np.random.Generator, n_tasks: int) -> np.ndarray:
    """(200, n_tasks) statistics, the observed first: clearly larger than the others, about as large, or undefined."""
    null = rng.normal(0, 1, (199, n_tasks))
    return np.vstack([np.full(n_tasks, observed), null])


def study(seed: int) -> RunRecord:
    """The results of a random study."""
    rng = np.random.default_rng([11, seed])
    kinds = [KINDS[(seed + k) % 4] if k == 0 else KINDS[int(rng.integers(4))] for k in range(int(rng.integers(1, 4)))]
    tasks = [task_of(name, kind) for name, kind in zip(NAMES, kinds, strict=False)]
    others = [name for name in MODELS if name not in ("full", "prevalence", "site_only")]
    names = ["full", *rng.permutation(others)[: int(rng.integers(2, 9))]]
    return results(seed, rng, tasks, int(rng.choice([8, 12, 20, 33, 60, 90])), names, {})


def split_settings(seed: int, n: int, rng: np.random.Generator, *, simple: bool) -> SplitSettings:
    """Folds, few labels or held-out sites."""
    repeats, outer, draw = int(rng.integers(1, 4)), int(rng.integers(2, 6)), float(rng.random())
    if draw < 0.12 and not simple:
        return SplitSettings(scheme="few_labels", n_labelled=max(4, n // 3), repeats=repeats, outer=outer, seed=seed)
    if draw < 0.2 and not simple:
        return SplitSettings(scheme="site_out", repeats=1)
    return SplitSettings(repeats=repeats, outer=outer, seed=seed)


def clear_study(full: str = "strong") -> RunRecord:
    """60 infants, one binary outcome, a full model of that shape, and rivals and a control without signal."""
    rng, tasks = np.random.default_rng(0), [task_of("alpha", "binary")]
    others = ("scratch", "clinical_only", "nuisance_only", "site_only")
    return results(0, rng, tasks, 60, ["full", *others[:3]], {"full": full} | dict.fromkeys(others, "none"))


def results(
    seed: int, rng: np.random.Generator, tasks: Sequence[Task], n: int, names: Sequence[str], known: Mapping[str, str]
) -> RunRecord:
    """The results of a study of these outcomes and models; everything else is drawn."""
    target, age = cohort_of("target", n, tasks, rng), task_of("age", "regression")
    cohorts = StudyCohorts(
        {"target": target, "source": cohort_of("source", 12, [age], rng), "pool": cohort_of("pool", 6, [], rng)}
    )
    settings = StudySettings(
        title="Simulated", source=CohortUse(cohort="source", tasks=("age",)), pool=CohortUse(cohort="pool"),
        target=CohortUse(cohort="target"), n_jobs=1,
        splits=split_settings(seed, n, rng, simple=bool(known)),
    )  # fmt: skip
    try:
        splits = make_split_plan(target, settings.splits)
    except UsageError:  # too few families or sites
        settings = settings.model_copy(update={"splits": SplitSettings(repeats=2, outer=2, seed=seed)})
        splits = make_split_plan(target, settings.splits)
    if len(set(target.site)) > 1 and settings.splits.scheme != "site_out":
        names = [*names, "site_only"]
    names = list(names)
    for name in tuple(names):  # a control is compared with the model that it is a control of
        names += [MODELS[name].of] * (MODELS[name].of not in names)
    table = predicted(tasks, names, target, splits, rng, known)
    tests = {model: permuted(float(rng.choice([-1.0, 1.5, 2.0, 9.0])), rng, len(tasks))
             for model in ("core", "full") if not known and rng.random() < 0.5}  # fmt: skip
    validation = CrossValidation(table, **weights_of(tasks, rng, splits))
    families = {i: str(name) for i, name in zip(target.ids, target.family, strict=True) if name}
    curve = points(scores(table, tasks, families), tasks, 2) if rng.random() < 0.3 else []
    found = Found(table, validation, tests, BeyondClinical(), None, (), pd.DataFrame(), {}, curve)
    with patch("connectome_tl.evaluation.clinical.results.auc_power", return_value=None):  # a simulation of its own
        return judge(settings, cohorts, splits, found).record


def page_of(record: RunRecord, *, figures: bool = False) -> str:
    """The page; drawing figures takes most of the time."""
    if figures:
        return render_report(record)
    with patch.object(Sheet, "draw", return_value=[]):
        return render_report(record)


def outcomes_of(record: RunRecord) -> list[Outcome]:
    found = []
    for task in record.tasks:
        metric = METRICS[task.spec.primary]
        assert metric.chance is not None
        found.append(Outcome(task.name.capitalize(), task.label, metric.label, metric.chance))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=500, help="studies")
    parser.add_argument("--first", type=int, default=0, help="seed of the first study")
    parser.add_argument("--quick", action="store_true", help="3 studies")
    parser.add_argument("--keep", type=Path, help="folder for the pages that contradict themselves")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    start, n, wrong, words = time.process_time(), 3 if given.quick else given.n, 0, Counter[str]()
    for seed in range(given.first, given.first + n):
        record = study(seed)
        html = page_of(record, figures=seed % 25 == 0)
        found = contradictions(html, outcomes_of(record), [verdict.headline for verdict in record.verdicts])
        words.update(one.verdict for one in record.comparisons)
        for line in found:
            print(f"seed {seed}: {line}", flush=True)
        wrong += bool(found)
        if found and given.keep is not None:
            given.keep.mkdir(parents=True, exist_ok=True)
            (given.keep / f"{seed}.html").write_text(html, encoding="utf-8")
    print(f"\n{n} studies from seed {given.first}, comparisons: {dict(words.most_common())}")
    print(f"{wrong} pages that say two things of one quantity; {time.process_time() - start:.0f} s of CPU time")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
