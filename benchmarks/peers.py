"""Compare simple models and the closed-form core with scikit-learn's kernel ridge on ABIDE, 5-fold and site-out.

    CONNECTOME_TL_DATA=../shared/data python benchmarks/peers.py --work FOLDER [--cohort children] [--quick]

Two cohorts, both without the two locked sites and without one of two rows of the same person. "everyone": 894 subjects,
without a source cohort and therefore without transfer. "children": those under 13, with the 627 older subjects as the
source of age, sex and three IQ scores (never the diagnosis) for the core, linear transfer and meta-matching. Scores are
out of fold with 95 % intervals over subjects; the difference is to ridge in tangent space on the same subjects and
folds. scikit-learn's model is a grid search over the penalty of a kernel ridge on correlations between subjects' edges,
five inner folds. cccpm and CoIRLS of PyKale are compared where they are installed (`other_packages.py`). CPU time is
that of all folds and outcomes of one model, features included. Predictions are stored in FOLDER after each model, so
that a killed run resumes; predictions of other versions of the code are not used.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import other_packages
import pandas as pd
from other_packages import CCCPM, COIRLS, edges_of
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV, KFold
from threadpoolctl import threadpool_limits

from connectome_tl.cohort.splits import SplitPlan, make_split_plan
from connectome_tl.evaluation.baselines.engines.linear import probability_from_ridge
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import fold_predictions, plan_folds, tasks_of
from connectome_tl.evaluation.scores.compare import compare
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.settings.study import CohortUse, SplitSettings, StudySettings
from connectome_tl.settings.training import Stages
from connectome_tl.tasks import Task
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.finished import package_code
from connectome_tl.workflows.study.inputs import read_cohorts

CONFIGS = Path(__file__).parents[1] / "configs"
PEER, REFERENCE, BASE = "scikit-learn kernel ridge", "tangent_ridge", "prevalence"
MODELS = (
    BASE,
    REFERENCE,
    "ridge",
    "kernel_ridge",
    PEER,
    "cpm",
    CCCPM,
    COIRLS,
    "linear_transfer",
    "meta_matching",
    "core",
)
SCHEMES = {"5-fold": SplitSettings(repeats=1, outer=5), "sites held out": SplitSettings(scheme="site_out", repeats=1)}
ALPHAS = tuple(np.logspace(-3, 2, 11))
Predict = Callable[[StudySettings, StudyCohorts, SplitPlan, Sequence[Task]], pd.DataFrame]


def studies() -> dict[str, StudySettings]:
    """The two cohorts as studies; no network is trained."""
    stages = Stages(pretrain=None, adapt=None)
    alone = CohortUse(cohort="abide/everyone.yaml", tasks=("diagnosis", "age"))
    children = CohortUse(cohort="abide33/children.yaml", tasks=("diagnosis", "age", "fiq"))
    older = CohortUse(cohort="abide33/older.yaml", tasks=("age", "sex", "fiq", "viq", "piq"))
    return {
        "everyone": StudySettings(target=alone, stages=stages, n_jobs=1),
        "children": StudySettings(target=children, source=older, stages=Stages(adapt=None), n_jobs=1),
    }


def of_baseline(name: str) -> Predict:
    def predict(study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task]) -> pd.DataFrame:
        one = StudySettings.model_validate(study.model_dump() | {"baselines": (name,)})
        return baseline_predictions(one, cohorts, splits, tasks)

    return predict


def of_core(study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task]) -> pd.DataFrame:
    planned = [item for item in plan_folds(study, cohorts, splits, tasks) if item.model == "core"]
    results = fit([plan for item in planned for plan in item.plans], cohorts.by_name())
    return pd.concat([fold_predictions(item, results, cohorts, study.threshold) for item in planned])


def of_scikit_learn(
    study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task]
) -> pd.DataFrame:
    """Correlations of Fisher z edges between subjects; labels as -1 and 1."""
    target = cohorts.target
    gram = np.corrcoef(edges_of(target))
    tables = []
    for repeat, number, fold in splits.folds():
        train, test = target.positions(fold.train), target.positions(fold.test)
        for task in tasks:
            y = target.targets[task.name].to_numpy(float)
            known = train[np.isfinite(y[train])]
            labels = 2 * y[known] - 1 if task.is_binary else y[known]
            center = labels.mean()
            search = GridSearchCV(
                KernelRidge(kernel="precomputed"), {"alpha": ALPHAS}, cv=KFold(5, shuffle=True, random_state=0)
            )
            search.fit(gram[np.ix_(known, known)], labels - center)
            found = search.predict(gram[np.ix_(test, known)]) + center
            outputs = probability_from_ridge(found) if task.is_binary else found
            tables.append(prediction_rows(task, PEER, repeat, number, fold.test, y[test], outputs, study.threshold))
    return pd.concat(tables)


def predictions_of(
    work: Path, name: str, scheme: str, model: str, make: Callable[[], pd.DataFrame]
) -> tuple[pd.DataFrame, float]:
    """The predictions of a model and their CPU seconds, read from the folder or computed and stored there."""
    place = work / package_code()[:12]
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{name} {scheme} {model}.json".replace(" ", "_")
    if not file.is_file():
        start = time.process_time()
        table = make()
        spent = time.process_time() - start
        part = file.with_suffix(".part")
        table.assign(cpu=spent).to_json(part, orient="records", double_precision=15)
        part.replace(file)
    table = pd.read_json(file, orient="records", dtype={"subject": str}) if file.stat().st_size > 2 else pd.DataFrame()
    if not len(table):
        return table, 0.0
    table["y_true"] = table["y_true"].astype(float)
    return table.drop(columns="cpu"), float(table["cpu"].iloc[0])


def report(name: str, scheme: str, table: pd.DataFrame, tasks: Sequence[Task], cpu: dict[str, float]) -> None:
    """One row per model, a column per outcome."""
    n = table["subject"].nunique()
    print(f"\n### {name}, {scheme} (n = {n})\n")
    print(
        "| model | "
        + " | ".join(f"{task.name}, {task.spec.primary} | minus tangent ridge" for task in tasks)
        + " | CPU s |"
    )
    print("|---" * (2 * len(tasks) + 2) + "|")
    found = {
        (s.model, s.task): s
        for s in scores(table, tasks)
        if s.metric == next(t for t in tasks if t.name == s.task).spec.primary
    }
    for model in [model for model in MODELS if model in set(table["model"])]:
        cells = []
        for task in tasks:
            if (model, task.name) not in found:  # a classifier alone
                cells += ["", ""]
                continue
            own = found[model, task.name]
            cells.append(f"{own.value:.3f} [{own.low:.3f}, {own.high:.3f}]")
            if model in (REFERENCE, BASE):
                cells.append("")
                continue
            gain = compare(table, task, model, REFERENCE, task.spec.primary)
            cells.append(f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")
        print(f"| {model} | " + " | ".join(cells) + f" | {cpu[model]:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cohort", choices=("everyone", "children"), help="one of the two only")
    parser.add_argument("--quick", action="store_true", help="the children only, three folds")
    args = parser.parse_args()
    makers: dict[str, Predict] = {name: of_baseline(name) for name in MODELS}
    makers |= {"core": of_core, PEER: of_scikit_learn}
    makers |= {CCCPM: other_packages.of_cccpm, COIRLS: other_packages.of_coirls}
    for model in other_packages.missing():
        print(f"skipped: {model}, not installed (see benchmarks/other_packages.py)")
        del makers[model]
    schemes = {"3-fold": SplitSettings(repeats=1, outer=3)} if args.quick else SCHEMES
    with threadpool_limits(1):
        for name, study in studies().items():
            if name != (args.cohort or ("children" if args.quick else name)):
                continue
            cohorts = read_cohorts(study, CONFIGS)
            tasks = tasks_of(study, cohorts)
            for scheme, settings in schemes.items():
                splits = make_split_plan(cohorts.target, settings)
                tables, cpu = [], {}
                for model, make in makers.items():
                    table, cpu[model] = predictions_of(
                        args.work,
                        name,
                        scheme,
                        model,
                        partial(make, study, cohorts, splits, tasks),
                    )
                    tables.append(table)
                report(name, scheme, pd.concat([t for t in tables if len(t)], ignore_index=True), tasks, cpu)


if __name__ == "__main__":
    main()
