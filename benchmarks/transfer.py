"""ABIDE-33: what 627 older subjects give to 33 labelled children, both arms, raw and residualised edges.

    python benchmarks/abide33.py [--draws 30] [--arm a|b] [--edges raw|residualised] [--keep FOLDER]

Needs the folder abide_fc_aal116 in CONNECTOME_TL_DATA (or ../shared/data); says so and stops where it
is absent. Only the development children are read: the locked sites are left out by the config's
`select`. Prints the AUC of the diagnosis within test parts, pooled over draws, and paired
differences over children with their intervals; a bare AUC here is no claim.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from connectome_tl.features.batches import FittedFeatures, fit_features

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan, make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.evaluation.baselines.linear import LinearFit, fit_ridge
from connectome_tl.evaluation.nested_cv import CrossValidation, cross_validate
from connectome_tl.evaluation.scores.compare import compare
from connectome_tl.evaluation.scores.metrics import task_scores
from connectome_tl.evaluation.scores.predictions import out_of_fold, prediction_rows
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.fit import predict
from connectome_tl.training.stages import StudyCohorts
from connectome_tl.workflows.run import read_cohorts

ROOT = Path(__file__).parents[1]
ALPHAS = tuple(float(a) for a in np.logspace(2, 6, 9))
ARM_B = "source.tasks=[age, sex, fiq, viq, piq]"
RESIDUALISED = 'confounds.columns=["log(mean_fd)", "age", "sex"]'


def data_folder() -> Path | None:
    folder = Path(os.environ.get("CONNECTOME_TL_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "abide_fc_aal116").is_dir() else None


def edges(features: FittedFeatures, cohort: Cohort, ids: tuple[str, ...]) -> np.ndarray:
    rows, columns = upper_indices(cohort.n_regions)
    return features.rows(cohort, ids).messages[:, 0, rows, columns].astype(float)


class Linear:
    """The linear rivals: each source task by ridge, carried to the children, with or without their labels."""

    def __init__(self, settings: StudySettings, cohorts: StudyCohorts) -> None:
        self.names = settings.confounds.columns if settings.confounds is not None else ()
        self.target = cohorts.target
        source = cohorts.source
        features = fit_features(source, source.ids, clinical=False, confounds=self.names)
        x = edges(features, source, source.ids)
        self.models: dict[str, LinearFit] = {}
        for name in settings.source.tasks:
            y = source.targets[name].to_numpy(float)
            self.models[name] = fit_ridge(x, 2 * y - 1 if source.task(name).is_binary else y, ALPHAS, source.ids)

    def rows(self, fold: Fold) -> dict[str, np.ndarray]:
        """Scores of the fold's test children by each rival."""
        target = self.target
        features = fit_features(target, fold.train, clinical=False, confounds=self.names)
        x_train, x_test = edges(features, target, fold.train), edges(features, target, fold.test)
        y = 2 * target.targets["diagnosis"].to_numpy(float)[target.positions(fold.train)] - 1
        found = {"ridge, 33 labels": fit_ridge(x_train, y, ALPHAS, fold.train).predict(x_test)[:, 0]}
        if "diagnosis" in self.models:
            source = self.models["diagnosis"]
            before_train, before_test = source.predict(x_train)[:, 0], source.predict(x_test)[:, 0]
            found["linear zero-shot"] = before_test
            # The source's model is the starting point: ridge on what it leaves of the 33 labels, with
            # penalties up to where nothing is added.
            rest = fit_ridge(x_train, y - before_train, (*ALPHAS, 1e7, 1e8, 1e9), fold.train)
            found["linear transfer"] = before_test + rest.predict(x_test)[:, 0]
        else:
            train, test = (
                np.column_stack([m.predict(x)[:, 0] for m in self.models.values()]) for x in (x_train, x_test)
            )
            found["source scores as features"] = fit_ridge(train, y, train_ids=fold.train).predict(test)[:, 0]
        return found


def zero_shot(settings: StudySettings, cohorts: StudyCohorts, validation: CrossValidation, fold: Fold) -> np.ndarray:
    """The pretrained network on the test children: no stage 2, no stage 3, its own head."""
    plans = {
        p.key: p for item in validation.planned for plan in item.plans for p in plan.lineage() if p.stage == "pretrain"
    }
    target = cohorts.target
    names = settings.confounds.columns if settings.confounds is not None else ()
    features = fit_features(target, fold.train, clinical=False, confounds=names)
    outputs = [
        predict(validation.results[key], plan, target, fold.test, features=features) for key, plan in plans.items()
    ]
    return np.mean(outputs, axis=0)[:, next(iter(plans.values())).tasks.index("diagnosis")]


def predictions(settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, store: FitStore) -> pd.DataFrame:
    validation = cross_validate(
        settings,
        cohorts,
        splits,
        store=store,
        progress=lambda done, n: print(f"\r{done}/{n} fits", end="", file=sys.stderr),
    )
    print(file=sys.stderr)
    target, task = cohorts.target, cohorts.target.task("diagnosis")
    linear = Linear(settings, cohorts)
    motion, truth = target.covariates["mean_fd"].to_numpy(float), target.targets["diagnosis"].to_numpy(float)
    tables = [validation.predictions[validation.predictions["task"] == "diagnosis"]]
    for repeat, number, fold in splits.folds():
        at = target.positions(fold.test)
        found = {"mean FD alone": motion[at], **linear.rows(fold)}
        if "diagnosis" in (settings.source.tasks or ()):
            found["network zero-shot"] = zero_shot(settings, cohorts, validation, fold)
        tables += [
            prediction_rows(task, model, repeat, number, fold.test, truth[at], score, 0.5)
            for model, score in found.items()
        ]
    return pd.concat(tables, ignore_index=True)


def table(settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, store: FitStore) -> None:
    found = predictions(settings, cohorts, splits, store)
    task = cohorts.target.task("diagnosis")
    for model in found["model"].drop_duplicates():
        score = task_scores(out_of_fold(found, task, model), task, model)[0]
        print(f"  {model:28s} AUC {score.value:.3f} [{score.low:.2f}, {score.high:.2f}]")
    rivals = [
        m
        for m in (
            "linear transfer",
            "source scores as features",
            "scratch",
            "no_pretrain",
            "no_adapt",
            "mean FD alone",
            "network zero-shot",
        )
        if (found["model"] == m).any()
    ]
    for rival in rivals:
        made = compare(found, task, "full", rival, "auc")
        print(f"  full - {rival:21s} {made.difference:+.3f} [{made.low:+.2f}, {made.high:+.2f}] {made.verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--arm", choices=["a", "b"])
    parser.add_argument("--edges", choices=["raw", "residualised"])
    parser.add_argument("--keep", type=Path, help="folder for the fits, so that a stopped run resumes")
    arguments = parser.parse_args()
    folder = data_folder()
    if folder is None:
        print("skipped: abide_fc_aal116 is in neither CONNECTOME_TL_DATA nor ../shared/data")
        return
    os.environ["CONNECTOME_TL_DATA"] = str(folder.resolve())
    keep = arguments.keep or Path(tempfile.mkdtemp())
    for arm in ("a", "b"):
        for kind in ("raw", "residualised"):
            if arguments.arm not in (None, arm) or arguments.edges not in (None, kind):
                continue
            overrides = [
                f"splits.repeats={arguments.draws}",
                *([ARM_B] if arm == "b" else []),
                *([RESIDUALISED] if kind == "residualised" else []),
            ]
            settings = load_settings(ROOT / "configs" / "abide33.yaml", StudySettings, overrides=overrides)
            cohorts = read_cohorts(settings, ROOT / "configs")
            print(
                f"arm {arm.upper()}, {kind} edges, {arguments.draws} draws, {cohorts.target.n_subjects} children, "
                f"{cohorts.source.n_subjects} older subjects",
                flush=True,
            )
            splits = make_split_plan(cohorts.target, settings.splits)
            table(settings, cohorts, splits, FitStore(keep))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
