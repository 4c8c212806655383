"""ABIDE-33: benefit of 627 older subjects for 33 labelled children, both arms, raw and residualised edges.

    python benchmarks/transfer.py [--draws 30] [--network-draws 10] [--arm a|b] [--edges raw|residualised]
                                  [--core-alone] [--keep FOLDER] [--quick] [--set KEY=VALUE ...]
                                  [--confirm [--ledger FILE]]

Needs the folder abide_fc_aal116 in CONNECTOME_TL_DATA (or ../shared/data); without it, a message is printed and
nothing is computed. Only the development children are read: the locked sites are left out by the config's `select`.
`--confirm` tests the children of the locked sites instead, with the same labelled draws and the same pool. It is run
once per release: the version is written to the ledger before these children are read, and the primary score of each
model afterwards; another run of this version is refused. A run that was stopped resumes with the same commit.
Linear models (the core, its controls and the baselines) have all draws, networks the first ones. `--core-alone`
omits the baselines. `--set` changes settings of the study, on the same draws: `--set model.encoder.kind=gcn` for
another encoder, `--set stages.adapt.objective.kind=coral` for another objective. Prints the primary score of each
outcome within test parts, pooled over draws, and paired differences over children with their intervals. Scores without
an interval are not evidence. Fits are stored in the folder of `--keep`, so that a killed run resumes.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pandas as pd

import connectome_tl
from connectome_tl.cohort.splits import Fold, SplitPlan, make_split_plan
from connectome_tl.config import load_settings
from connectome_tl.errors import UsageError
from connectome_tl.evaluation.baselines.fixed import baseline_predictions
from connectome_tl.evaluation.nested_cv import cross_validate, fold_predictions, plan_folds, tasks_of
from connectome_tl.evaluation.scores.compare import compare
from connectome_tl.evaluation.scores.metrics import scores
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.settings.model_table import MODELS
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.training.core_stage import CoreModel
from connectome_tl.training.fit import fit
from connectome_tl.training.schemes import StudyCohorts
from connectome_tl.workflows.study.inputs import read_cohorts

ROOT = Path(__file__).parents[1]
ARM_B = "source.tasks=[age, sex, fiq, viq, piq]"
RESIDUALISED = 'confounds.columns=["log(mean_fd)", "age", "sex"]'
LINEAR = ("core", "core_scratch", "core_permuted_source")
LOCKED = ' and site not in ["KKI", "STANFORD"]'
COLUMNS = ("version", "commit", "arm", "edges", "task", "model", "metric", "value", "low", "high", "n")


class Ledger:
    """Runs on the locked children, one per version: a line without scores when it starts, and its scores at the end."""

    def __init__(self, file: Path, version: str, commit: str) -> None:
        self.file, self.version, self.commit = file, version, commit

    def begin(self) -> None:
        """Write that this version has seen the locked children.

        Raises:
            UsageError: it has been confirmed before, or begun with another commit, or it is not a release.
        """
        lines = []
        if self.file.is_file():
            with self.file.open(encoding="utf-8", newline="") as stream:
                lines = [line for line in csv.DictReader(stream, delimiter="\t") if line["version"] == self.version]
        if any(line["model"] for line in lines) or any(line["commit"] != self.commit for line in lines):
            raise UsageError(
                f"version {self.version} was tested on the locked children before",
                expected="one run per release",
                got=f"a line in {self.file.name}",
            )
        if "dev" in self.version or not self.commit:
            raise UsageError(
                "only a release is tested on the locked children",
                expected="a version without .dev, and a commit without changes",
                got=f"version {self.version}, commit {self.commit or 'unknown or with changes'}",
            )
        if not lines:
            self.append([{}])

    def append(self, rows: list[dict[str, object]]) -> None:
        is_new = not self.file.is_file()
        with self.file.open("a", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, delimiter="\t", lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerows([{"version": self.version, "commit": self.commit, **row} for row in rows])
            stream.flush()
            os.fsync(stream.fileno())


def commit_of(root: Path) -> str:
    """The commit of the working tree; empty if it has changes."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    return "" if git("status", "--porcelain").strip() else git("rev-parse", "HEAD").strip()


def every_child(folder: Path) -> Path:
    """The cohort file of all children, locked sites included, in this folder."""
    text = (ROOT / "configs" / "abide33" / "children.yaml").read_text("utf-8")
    if text.count(LOCKED) != 1:
        raise UsageError("children.yaml does not leave out the locked sites as expected", expected=LOCKED)
    file = folder / "every_child.yaml"
    file.write_text(text.replace(LOCKED, ""), "utf-8")
    return file


def confirming(development: SplitPlan, known: set[str], everyone: tuple[str, ...]) -> SplitPlan:
    """The labelled draws of a plan of the development children, each tested on all others.

    Raises:
        UsageError: there are no others.
    """
    locked = tuple(subject for subject in everyone if subject not in known)
    if not locked:
        raise UsageError("the data have no children of the locked sites")
    return SplitPlan(tuple((Fold(folds[0].train, locked),) for folds in development.repeats))


def data_folder() -> Path | None:
    folder = Path(os.environ.get("CONNECTOME_TL_DATA", ROOT.parent / "shared" / "data"))
    return folder if (folder / "abide_fc_aal116").is_dir() else None


def linear_predictions(
    settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, store: FitStore, baselines: bool = True
) -> pd.DataFrame:
    """The core with its controls, the baselines, the source's core without any label of a child, and head motion."""
    target, tasks = cohorts.target, tasks_of(settings, cohorts)
    planned = [item for item in plan_folds(settings, cohorts, splits, tasks) if item.model in LINEAR]
    results = fit([p for item in planned for p in item.plans], cohorts.by_name(), store=store, n_jobs=settings.n_jobs)
    tables = [fold_predictions(item, results, cohorts, settings.threshold) for item in planned]
    if baselines:
        tables.append(baseline_predictions(settings, cohorts, splits, tasks))
    source_plan = next(parent for item in planned for plan in item.plans for _, parent in plan.parents)
    source = CoreModel.of(results[source_plan.key].arrays, results[source_plan.key].plain)
    motion = target.covariates["mean_fd"].to_numpy(float)
    known = {task.name: place for place, task in enumerate(source.tasks)}
    for repeat, number, fold in splits.folds():
        at = target.positions(fold.test)
        zero = source.predict(target, fold.test)
        for task in tasks:
            truth = target.targets[task.name].to_numpy(float)[at]
            found = {"mean FD alone": motion[at] / motion.max()} if task.is_binary else {}
            if task.name in known:
                found["zero-shot core"] = zero[:, known[task.name]]
            tables += [
                prediction_rows(task, model, repeat, number, fold.test, truth, score, settings.threshold)
                for model, score in found.items()
            ]
    return pd.concat(tables, ignore_index=True)


def network_predictions(
    settings: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, store: FitStore
) -> pd.DataFrame:
    def progress(done: int, n: int) -> None:
        print(f"\r{done}/{n} fits", end="", file=sys.stderr)

    found = cross_validate(settings, cohorts, splits, store=store, progress=progress)
    print(file=sys.stderr)
    return found.predictions[~found.predictions["model"].isin(LINEAR)]


def table(
    settings: StudySettings, cohorts: StudyCohorts, predictions: pd.DataFrame, pairs: list[tuple[str, str]]
) -> list[dict[str, object]]:
    """Print scores and differences; the primary scores as lines of a ledger."""
    lines: list[dict[str, object]] = []
    for task in tasks_of(settings, cohorts):
        print(f"  {task.label}")
        here = predictions[predictions["task"] == task.name]
        for score in scores(here, [task]):
            if score.metric == task.spec.primary:
                ends = {"value": f"{score.value:.4f}", "low": f"{score.low:.4f}", "high": f"{score.high:.4f}"}
                lines.append({"task": task.name, "model": score.model, "metric": score.metric, "n": score.n, **ends})
                n_draws = here[here["model"] == score.model]["repeat"].nunique()
                print(
                    f"    {score.model:22s} {score.value:+.3f} [{score.low:+.2f}, {score.high:+.2f}], {n_draws} draws"
                )
        models = set(here["model"])
        for model, control in pairs:
            if {model, control} <= models:
                both = here[here["model"].isin((model, control))]
                shared = set(both[both["model"] == model]["repeat"]) & set(both[both["model"] == control]["repeat"])
                made = compare(both[both["repeat"].isin(shared)], task, model, control, task.spec.primary)
                interval = f"[{made.low:+.2f}, {made.high:+.2f}]"
                print(f"    {model} - {control}: {made.difference:+.3f} {interval} {made.verdict}")
    return lines


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--network-draws", type=int, default=10)
    parser.add_argument("--arm", choices=["a", "b"])
    parser.add_argument("--edges", choices=["raw", "residualised"])
    parser.add_argument("--core-alone", action="store_true", help="only the core and its controls")
    parser.add_argument("--keep", type=Path, help="folder for the fits, so that a stopped run resumes")
    parser.add_argument("--quick", action="store_true", help="one draw of linear models, arm A, raw edges")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in `connectome-tl run`")
    parser.add_argument("--confirm", action="store_true", help="test the locked children, once per release")
    parser.add_argument("--ledger", type=Path, default=ROOT / "benchmarks" / "ledger.tsv")
    arguments = parser.parse_args(given)
    if arguments.confirm and arguments.set:
        parser.error("--confirm tests the default settings only: leave out --set")
    folder = data_folder()
    if folder is None:
        print("skipped: abide_fc_aal116 is in neither CONNECTOME_TL_DATA nor ../shared/data")
        return
    os.environ["CONNECTOME_TL_DATA"] = str(folder.resolve())
    if arguments.quick:
        arguments.draws, arguments.network_draws, arguments.arm, arguments.edges = 1, 0, "a", "raw"
    keep = arguments.keep or Path(tempfile.mkdtemp())
    pairs = [(spec.of, spec.name) for spec in MODELS.values() if spec.role == "control"]
    pairs += [("full", "tangent_ridge"), ("full", "ridge"), ("core", "tangent_ridge"), ("core", "zero-shot core")]
    ledger = Ledger(arguments.ledger, connectome_tl.__version__, commit_of(ROOT)) if arguments.confirm else None
    if ledger is not None:
        ledger.begin()
    confirmed: list[dict[str, object]] = []
    start = time.process_time()
    for arm in ("a", "b"):
        for kind in ("raw", "residualised"):
            if arguments.arm not in (None, arm) or arguments.edges not in (None, kind):
                continue
            overrides = [
                f"splits.repeats={arguments.draws}",
                "n_jobs=1",
                *([ARM_B] if arm == "b" else []),
                *([RESIDUALISED] if kind == "residualised" else []),
                *arguments.set,
            ]
            settings = load_settings(ROOT / "configs" / "abide33.yaml", StudySettings, overrides=overrides)
            cohorts = read_cohorts(settings, ROOT / "configs")
            print(
                f"arm {arm.upper()}, {kind} edges, {cohorts.target.n_subjects} children, "
                f"{cohorts.roles['source'].n_subjects} older subjects",
                flush=True,
            )
            splits = make_split_plan(cohorts.target, settings.splits)
            if ledger is not None:
                known = set(cohorts.target.ids)
                settings = settings.with_settings({"target.cohort": str(every_child(keep))})
                cohorts = read_cohorts(settings, ROOT / "configs")
                splits = confirming(splits, known, cohorts.target.ids)
            tables = [linear_predictions(settings, cohorts, splits, FitStore(keep), not arguments.core_alone)]
            if arguments.network_draws:
                first = SplitPlan(splits.repeats[: arguments.network_draws])
                tables.append(network_predictions(settings, cohorts, first, FitStore(keep)))
            lines = table(settings, cohorts, pd.concat(tables, ignore_index=True), pairs)
            confirmed += [{"arm": arm, "edges": kind, **line} for line in lines]
            print(f"  CPU time so far {(time.process_time() - start) / 60:.1f} min", flush=True)
    if ledger is not None:
        ledger.append(confirmed)


if __name__ == "__main__":
    np.seterr(all="warn", under="ignore")
    main()
