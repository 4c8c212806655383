"""Predictions by two other packages, where they are installed: cccpm and PyKale.

Their requirements contradict those of this project (PyKale needs torch 2.6 and pandas 2.2 at most), therefore they are
installed without requirements, outside the environment:

    python -m pip install --no-deps --target FOLDER cccpm==0.7.1 netplotbrain pycirclize pygam plotly \\
        pykale==0.2.1 pytorch-lightning tensorly torchmetrics
    PYTHONPATH=FOLDER python benchmarks/peers.py ...

PyKale imports torchvision, whose wheel needs another build of torch. The model used here makes no use of it, and a
placeholder is imported where it is missing.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from itertools import product
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, PredefinedSplit, StratifiedKFold

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import SplitPlan
from connectome_tl.evaluation.scores.predictions import prediction_rows
from connectome_tl.settings.study import StudySettings
from connectome_tl.tasks import Task
from connectome_tl.training.schemes import StudyCohorts

CCCPM, COIRLS = "cccpm", "CoIRLS (PyKale)"
PACKAGES = {CCCPM: "cccpm", COIRLS: "kale"}
PENALTIES = (0.1, 1.0, 10.0, 100.0)
DEPENDENCES = (0.0, 0.1, 1.0, 10.0)


def missing() -> tuple[str, ...]:
    """The models whose package is not installed."""
    return tuple(model for model, package in PACKAGES.items() if find_spec(package) is None)


def edges_of(target: Cohort) -> np.ndarray:
    """(n_subjects, n_edges) in double precision."""
    first, second = np.triu_indices(target.n_regions, 1)
    return np.asarray(target.weights[:, 0, first, second].astype(float))


def of_cccpm(study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task]) -> pd.DataFrame:
    """Connectome-based predictive modelling by cccpm, its threshold (p < 0.01 or 0.05) chosen by five inner folds."""
    from cccpm import CPMAnalysis, PThreshold, UnivariateEdgeSelection

    target, tables = cohorts.target, []
    edges, place = edges_of(target), {subject: i for i, subject in enumerate(target.ids)}
    for task in tasks:
        y = target.targets[task.name].to_numpy(float)
        known = np.flatnonzero(np.isfinite(y))
        for repeat in range(splits.n_repeats):
            folds = [(number, fold) for at, number, fold in splits.folds() if at == repeat]
            fold_of = np.full(target.n_subjects, -1)
            for number, fold in folds:
                fold_of[target.positions(fold.test)] = number
            inner = StratifiedKFold if task.is_binary else KFold
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
                logging.disable(logging.INFO)
                analysis = CPMAnalysis(
                    folder,
                    task_type="classification" if task.is_binary else "regression",
                    cv=PredefinedSplit(fold_of[known]),
                    inner_cv=inner(5, shuffle=True, random_state=0),
                    edge_selection=UnivariateEdgeSelection(
                        selection_statistic="pearson",
                        edge_selection=[PThreshold(threshold=[0.01, 0.05], correction=[None])],
                    ),
                )
                analysis.run(edges[known], y[known])
                logging.disable(logging.NOTSET)
                found = analysis.results_manager.cv_predictions
            found = found[(found["model"] == "connectome") & (found["network"] == "both")]
            outputs = np.full(target.n_subjects, np.nan)
            outputs[known[found["sample_index"].to_numpy(int)]] = found["y_pred"].to_numpy(float)
            for number, fold in folds:
                ids = [subject for subject in fold.test if np.isfinite(outputs[place[subject]])]
                at = target.positions(ids)
                tables.append(prediction_rows(task, CCCPM, repeat, number, ids, y[at], outputs[at], study.threshold))
    return pd.concat(tables)


def of_coirls(study: StudySettings, cohorts: StudyCohorts, splits: SplitPlan, tasks: Sequence[Task]) -> pd.DataFrame:
    """Binary outcomes by covariate-independence regularised least squares; the covariates are the sites.

    Both penalties are chosen by five inner folds.
    """
    target, tables = cohorts.target, []
    edges = edges_of(target)
    sites = pd.get_dummies(pd.Series(target.site)).to_numpy(float)
    for repeat, number, fold in splits.folds():
        train, test = target.positions(fold.train), target.positions(fold.test)
        mean, spread = edges[train].mean(axis=0), edges[train].std(axis=0)
        scaled = (edges - mean) / np.where(spread > 0, spread, 1) / np.sqrt(edges.shape[1])
        for task in (task for task in tasks if task.is_binary):
            y = target.targets[task.name].to_numpy(float)
            rows = train[np.isfinite(y[train])]
            parts = list(StratifiedKFold(5, shuffle=True, random_state=0).split(rows, y[rows]))
            quality = {}
            for pair in product(PENALTIES, DEPENDENCES):
                left_out = [_fitted(scaled, sites, y, rows[a], rows[b], pair) for a, b in parts]
                quality[pair] = np.mean(
                    [roc_auc_score(y[rows[b]], one) for (_, b), one in zip(parts, left_out, strict=True)]
                )
            best = max(quality, key=lambda pair: quality[pair])
            risk = expit(2 * _fitted(scaled, sites, y, rows, test, best))
            tables.append(prediction_rows(task, COIRLS, repeat, number, fold.test, y[test], risk, study.threshold))
    return pd.concat(tables)


def _fitted(
    edges: np.ndarray, sites: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, pair: tuple[float, float]
) -> np.ndarray:
    """Decision values of the rows `test`."""
    model = _coirls()(kernel="linear", alpha=pair[0], lambda_=pair[1])
    model.fit(edges[train].astype(np.float32), y[train].astype(int), sites[train])
    return np.asarray(model.decision_function(edges[test].astype(np.float32)).numpy()[:, 0])


def _coirls() -> Any:
    if find_spec("torchvision") is None:
        sys.meta_path.append(_Placeholder())
    from kale.pipeline.multi_domain_adapter import CoIRLS

    return CoIRLS


class _Placeholder(MetaPathFinder, Loader):
    """torchvision and all its modules, without content."""

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] == "torchvision" else None

    def create_module(self, _: ModuleSpec) -> ModuleType:
        module = MagicMock()
        module.__path__, module.__version__ = [], "0"
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to execute."""
