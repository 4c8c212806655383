"""Test whether a procedure uses data that it must not use, by changing these data.

Test outcomes, other test rows, names and row order are changed one by one. The predictions of a correct, inductive
procedure do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import stats

from connectome_tl.errors import DataError
from connectome_tl.evaluation.scores.counts import within_fold_counts
from connectome_tl.settings.records.audit import Finding

_TOLERANCE = 1e-6
_NULL_CHANCE = 3e-5  # probability that a correct procedure fails the null check, for any number of labellings


@dataclass(frozen=True, eq=False)
class StudyRows:
    """All rows of a study, the input of a procedure.

    Attributes:
        ids: (n_subjects,) names.
        x: (n_subjects, n_features). y: (n_subjects,) 0 and 1. site: (n_subjects,) integer codes.
    """

    ids: tuple[str, ...]
    x: np.ndarray
    y: np.ndarray
    site: np.ndarray

    def take(self, rows: np.ndarray) -> StudyRows:
        """The rows with these numbers."""
        return StudyRows(tuple(self.ids[i] for i in rows), self.x[rows], self.y[rows], self.site[rows])


class Procedure(Protocol):
    """Everything from raw rows to the prediction of one fold: (n_test,) scores and (n_test,) classes."""

    def __call__(self, rows: StudyRows, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


Fold = tuple[np.ndarray, np.ndarray]


def audit_procedure(
    procedure: Procedure, rows: StudyRows, folds: Sequence[Fold], *, seed: int = 0, n_null: int = 20
) -> list[Finding]:
    """Every behavioural check of one procedure.

    Args:
        folds: (train, test) positions; every subject is tested once.
        n_null: permuted labellings of the null check, each refitted.

    Raises:
        DataError: a fold trains on a row it tests.
    """
    for train, test in folds:
        if set(train.tolist()) & set(test.tolist()):
            raise DataError("a fold tests rows that it trains on", remedy="Fix the split plan first.")
    rng = np.random.default_rng(seed)
    honest = [procedure(rows, *fold) for fold in folds]
    again = [procedure(rows, *fold) for fold in folds]
    if not all(_same(a, b, 0.0) for a, b in zip(honest, again)):
        return [_finding("repeatable", False, "the same rows gave other predictions the second time")]
    findings = [_finding("repeatable", True, "the same rows give the same predictions")]
    checks: tuple[tuple[str, str, Callable[[StudyRows, Fold, np.random.Generator], StudyRows]], ...] = (
        ("poisoned test outcomes", "the test outcomes", _poison_outcomes),
        ("names", "the subjects' names", _rename),
    )
    for check, what, change in checks:
        moved = [
            k
            for k, fold in enumerate(folds)
            if any(not _same(honest[k], procedure(change(rows, fold, rng), *fold), 0.0) for _ in range(3))
        ]
        findings.append(_verdict(check, moved, len(folds), what))
    findings.append(_verdict("poisoned test rows", _by_other_rows(procedure, rows, folds, honest, rng), len(folds),
                             "other test rows"))  # fmt: skip
    findings.append(_verdict("row order", _by_order(procedure, rows, folds, honest, rng), len(folds), "the row order"))
    findings.append(_learns(procedure, rows, folds, honest))
    findings.append(_null(procedure, rows, folds, rng, n_null))
    return findings


def _poison_outcomes(rows: StudyRows, fold: Fold, rng: np.random.Generator) -> StudyRows:
    """Flip all test outcomes, or a random half of them."""
    y = rows.y.copy()
    _, test = fold
    turned = test if rng.random() < 0.34 else test[rng.random(test.size) < 0.5]
    y[turned] = 1 - y[turned]
    return replace(rows, y=y)


def _rename(rows: StudyRows, _: Fold, rng: np.random.Generator) -> StudyRows:
    return replace(rows, ids=tuple(f"r{rng.integers(10**12)}-{i}" for i in range(len(rows.ids))))


def _by_other_rows(
    procedure: Procedure,
    rows: StudyRows,
    folds: Sequence[Fold],
    honest: Sequence[tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
) -> list[int]:
    """Folds in which a subject's prediction changes if other test rows are corrupted."""
    moved = []
    for k, (train, test) in enumerate(folds):
        kept = rng.permutation(test.size)[: max(1, test.size // 2)]
        others = np.delete(test, kept)
        if not others.size:
            continue
        x = rows.x.copy()
        spread = np.nanstd(rows.x, axis=0)
        x[others] = np.nanmean(rows.x, axis=0) + 20 * spread * rng.standard_normal((others.size, rows.x.shape[1]))
        score, called = procedure(replace(rows, x=x), train, test)
        before = (honest[k][0][kept], honest[k][1][kept])
        if not _same(before, (score[kept], called[kept]), _TOLERANCE):
            moved.append(k)
    return moved


def _by_order(
    procedure: Procedure,
    rows: StudyRows,
    folds: Sequence[Fold],
    honest: Sequence[tuple[np.ndarray, np.ndarray]],
    rng: np.random.Generator,
) -> list[int]:
    order = rng.permutation(len(rows.ids))
    place = np.argsort(order)
    shuffled = rows.take(order)
    return [
        k
        for k, (train, test) in enumerate(folds)
        if not _same(honest[k], procedure(shuffled, place[train], place[test]), 1e-4)
    ]


def _learns(
    procedure: Procedure, rows: StudyRows, folds: Sequence[Fold], honest: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Finding:
    """Check that training outcomes affect predictions; otherwise the other checks would be meaningless."""
    train, test = folds[0]
    y = rows.y.copy()
    y[train] = 1 - y[train]
    score, _ = procedure(replace(rows, y=y), train, test)
    if np.array_equal(score, honest[0][0]):
        return Finding(
            check="learns",
            status="warning",
            what="predictions do not depend on the training outcomes",
            remedy="Fit the model to the training outcomes; without this, the other checks show nothing.",
        )
    return _finding("learns", True, "predictions depend on the training outcomes")


def _null(
    procedure: Procedure, rows: StudyRows, folds: Sequence[Fold], rng: np.random.Generator, n_null: int
) -> Finding:
    """Mean AUC within folds over permuted labellings, against 0.5."""
    found = []
    for _ in range(n_null):
        permuted = replace(rows, y=rng.permutation(rows.y))
        won = met = 0.0
        for train, test in folds:
            score, _ = procedure(permuted, train, test)
            w, m = within_fold_counts(permuted.y[test][:, None], score[:, None], np.zeros(test.size, dtype=int))
            won, met = won + float(w[0]), met + float(m[0])
        if met:
            found.append(won / met)
    if len(found) < 5:
        return Finding(check="permutation null", status="skipped", what="too few pairs to test the null")
    mean, error = float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(len(found)))
    text = f"mean AUC {mean:.3f} (standard error {error:.3f}) over {len(found)} permuted labellings"
    allowed = float(stats.t.isf(_NULL_CHANCE, len(found) - 1)) * max(error, 1e-3)
    return _finding("permutation null", mean - 0.5 <= allowed, text)


def _same(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray], tolerance: float) -> bool:
    scale = max(1.0, float(np.abs(a[0]).max(initial=0.0)))
    return bool(np.allclose(a[0], b[0], rtol=0, atol=tolerance * scale)) and bool(np.array_equal(a[1], b[1]))


def _verdict(check: str, moved: Sequence[int], n_folds: int, what: str) -> Finding:
    if moved:
        return _finding(check, False, f"predictions of {len(moved)} of {n_folds} folds changed with {what}")
    return _finding(check, True, f"no prediction changes with {what}")


def _finding(check: str, passed: bool, what: str) -> Finding:
    remedy = "" if passed else "Fit every step on the training rows of its own fold and pass it in."
    return Finding(check=check, status="passed" if passed else "failed", what=what, remedy=remedy)
