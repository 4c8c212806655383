"""`SplitPlan`: training and test rows, drawn first, frozen, hashed and saved.

It depends only on ids, families, sites and one declared stratum column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.errors import DataError, LeakageError, Problem, UsageError, raise_all
from connectome_tl.plurals import counted
from connectome_tl.provenance import content_hash, read_json, write_json
from connectome_tl.settings.study import SplitSettings


@dataclass(frozen=True)
class InnerFold:
    """Training and validation ids inside one outer training fold."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Fold:
    """One outer fold: training and test ids are disjoint and share no family."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    inner: tuple[InnerFold, ...] = ()

    def admit(self, step: str, ids: Iterable[str]) -> None:
        """Check that a fitted step did not use test rows of this fold.

        Raises:
            LeakageError: it used test rows; the message names the step and the subjects.
        """
        seen = sorted(set(ids) & set(self.test))
        if seen:
            raise LeakageError(
                f"{step} was fitted on {counted(len(seen), 'subject')} of the test fold",
                expected="training rows only",
                got=", ".join(seen[:5]) + (" ..." if len(seen) > 5 else ""),
                remedy="No results were written. Fit this step on fold.train.",
            )


@dataclass(frozen=True)
class SplitPlan:
    """All outer folds of all repeats, with their inner folds."""

    repeats: tuple[tuple[Fold, ...], ...]

    @property
    def n_repeats(self) -> int:
        """Number of repeats."""
        return len(self.repeats)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over every id of every fold, in order."""
        return content_hash(self._record())

    def folds(self) -> Iterable[tuple[int, int, Fold]]:
        """(repeat, fold, Fold) of all."""
        for r, folds in enumerate(self.repeats):
            for f, fold in enumerate(folds):
                yield r, f, fold

    def save(self, path: str | Path) -> Path:
        """Write the plan and its hash as JSON; returns the path."""
        return write_json(path, {"hash": self.hash, "repeats": self._record()})

    @staticmethod
    def load(path: str | Path) -> SplitPlan:
        """Read a saved plan.

        Raises:
            DataError: the file was changed after it was saved, or is not a split plan.
        """
        content = read_json(path)
        try:
            plan = SplitPlan(
                tuple(
                    tuple(
                        Fold(
                            tuple(fold["train"]),
                            tuple(fold["test"]),
                            tuple(InnerFold(tuple(i["train"]), tuple(i["test"])) for i in fold["inner"]),
                        )
                        for fold in repeat["folds"]
                    )
                    for repeat in content["repeats"]
                )
            )
            saved = content["hash"]
        except (KeyError, TypeError) as error:
            raise DataError(f"not a split plan: {error!r}", file=path) from error
        if plan.hash != saved:
            raise DataError(
                "the split plan was changed after it was saved",
                file=path,
                expected=saved[:12],
                got=plan.hash[:12],
                remedy="Splits are fixed before the first fit; restore the file.",
            )
        return plan

    def _record(self) -> list[dict[str, Any]]:
        return [
            {
                "folds": [
                    {
                        "train": list(fold.train),
                        "test": list(fold.test),
                        "inner": [{"train": list(i.train), "test": list(i.test)} for i in fold.inner],
                    }
                    for fold in folds
                ]
            }
            for folds in self.repeats
        ]


def make_split_plan(cohort: Cohort, settings: SplitSettings) -> SplitPlan:
    """The split plan of a cohort, determined by ids, families, sites, stratum and settings.

    The default stratum is the first binary outcome, see `stratum_of`.

    Raises:
        UsageError: the stratum column does not exist; too few subjects, families or sites.
    """
    order = np.argsort(cohort.ids)  # so that the plan does not depend on the order of rows in a file
    ids, site = np.array(cohort.ids, dtype=object)[order], np.asarray(cohort.site, dtype=object)[order]
    strata = strata_of(cohort, stratum_of(cohort, settings))[order]
    groups = split_groups(np.asarray(cohort.family, dtype=object)[order], settings)
    if settings.scheme == "few_labels":
        _check_labelled(len(np.unique(groups)), settings)
    repeats = []
    for repeat in range(settings.repeats):
        folds = []
        for f, (train, test) in enumerate(_outer(ids, site, strata, groups, settings, repeat)):
            inner = []
            if settings.inner:
                seed = seed_of(settings.seed, repeat, f + 1)
                inner = [
                    InnerFold(tuple(ids[train[a]]), tuple(ids[train[b]]))
                    for a, b in _kfold(strata[train], groups[train], settings.inner, seed, "splits.inner")
                ]
            folds.append(Fold(tuple(ids[train]), tuple(ids[test]), tuple(inner)))
        repeats.append(tuple(folds))
    plan = SplitPlan(tuple(repeats))
    _check(plan, split_groups(cohort.family, settings), cohort.ids)
    return plan


def families_of(cohort: Cohort, ids: Sequence[str]) -> np.ndarray:
    """Group number of the family of each subject, (n_subjects,)."""
    return kinship_groups(cohort.family[cohort.positions(ids)])


def kinship_groups(family: Sequence[str] | np.ndarray) -> np.ndarray:
    """Group number of each subject, (n_subjects,): one per family; subjects without a family are separate groups."""
    known: dict[str, int] = {}
    groups = []
    for i, name in enumerate(family):
        groups.append(known.setdefault(str(name) if name else f"\x00{i}", len(known)))
    return np.array(groups, dtype=int)


def split_groups(family: Sequence[str] | np.ndarray, settings: SplitSettings) -> np.ndarray:
    """Codes (n,) of units that are never split: families, or subjects if families are ignored."""
    return kinship_groups(family) if settings.families == "together" else np.arange(len(family))


def stratum_of(cohort: Cohort, settings: SplitSettings) -> str | None:
    """The column that folds are stratified by: the declared one, else the first binary outcome with two classes.

    None if an empty name is declared, or there is no such outcome.
    """
    if settings.stratum is not None:
        return settings.stratum or None
    binary = (task.name for task in cohort.tasks if task.is_binary)
    return next((name for name in binary if cohort.targets[name].nunique() == 2), None)


def strata_of(cohort: Cohort, column: str | None) -> np.ndarray:
    """(n_subjects,) stratum number of each subject; one stratum where no column is given.

    Raises:
        UsageError: there is no such column.
    """
    if column is None:
        return np.zeros(cohort.n_subjects, dtype=int)
    if column == "site":
        values = np.asarray(cohort.site, dtype=object)
    elif column in cohort.targets.columns:
        values = cohort.targets[column].to_numpy()
    elif column in cohort.covariates.columns:
        values = cohort.covariates[column].to_numpy()
    else:
        known = [*cohort.targets.columns, *cohort.covariates.columns, "site"]
        raise UsageError(f"splits.stratum: no column {column!r}", expected=f"one of {', '.join(known)}")
    text = np.array([str(value) for value in values])
    numeric = values.astype(float) if values.dtype != object else None
    if numeric is not None and len(np.unique(text)) > 6:
        # Scores are stratified by tertiles; missing scores form a separate stratum.
        edges = np.nanquantile(numeric, [1 / 3, 2 / 3])
        text = np.where(np.isnan(numeric), "missing", np.digitize(numeric, edges).astype(str))
    return np.unique(text, return_inverse=True)[1]


def _outer(
    ids: np.ndarray, site: np.ndarray, strata: np.ndarray, groups: np.ndarray, settings: SplitSettings, repeat: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Row numbers of (train, test) of every outer fold of a repeat."""
    seed, everyone = seed_of(settings.seed, repeat, 0), np.arange(len(ids))
    if settings.scheme == "site_out":
        sites = np.unique(site)
        if len(sites) < 2:
            raise UsageError(
                "splits.scheme: site_out needs at least two sites",
                got=f"{counted(len(ids), 'subject')} of site {sites[0]}" if sites[0] else "no `site` in cohort.yaml",
                remedy="Set splits.scheme: kfold, or name the column of sites in cohort.yaml.",
            )
        unknown = [subject for subject, where in zip(ids, site, strict=True) if not where]
        if unknown:
            raise UsageError(
                f"splits.scheme: site_out needs the site of every subject; "
                f"{counted(len(unknown), 'subject has', 'subjects have')} none",
                got=", ".join(unknown[:5]),
                remedy="Give their sites, or leave them out (`select` in cohort.yaml).",
            )
        # Families with members at both the held-out and other sites are excluded from the training rows.
        held = [site == name for name in sites]
        return [(everyone[~test & ~np.isin(groups, groups[test])], everyone[test]) for test in held]
    if settings.scheme == "kfold":
        return _kfold(strata, groups, settings.outer, seed)
    labelled = _draw(strata, groups, settings.n_labelled or 0, seed)
    rest = everyone[~np.isin(groups, groups[labelled])]
    parts = _kfold(strata[rest], groups[rest], settings.outer, seed + 1)
    return [(labelled, rest[test]) for _, test in parts]


def _draw(strata: np.ndarray, groups: np.ndarray, n_labelled: int, seed: int) -> np.ndarray:
    """Row numbers of a stratified draw of `n_labelled` subjects, no two of one family."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(strata))
    order = order[np.sort(np.unique(groups[order], return_index=True)[1])]  # first of each family
    levels, counts = np.unique(strata[order], return_counts=True)
    quota = counts * n_labelled / counts.sum()
    take = np.floor(quota).astype(int)
    take[np.argsort(quota - take)[::-1][: n_labelled - take.sum()]] += 1
    chosen = [order[strata[order] == level][:k] for level, k in zip(levels, take, strict=True)]
    return np.sort(np.concatenate(chosen))


def _check_labelled(n_groups: int, settings: SplitSettings) -> None:
    """Check that each test fold of few_labels has a family beside those that train.

    Raises:
        UsageError: too many labelled subjects.
    """
    most = n_groups - settings.outer
    if (settings.n_labelled or 0) > most:
        raise UsageError(
            f"splits.n_labelled: too few subjects (families count once) for the training rows and {settings.outer} "
            "test folds",
            expected=f"at most {most} labelled subjects" if most >= 2 else f"at least {settings.outer + 2} subjects",
            got=f"{settings.n_labelled} of {n_groups}",
            remedy=f"Set splits.n_labelled to {min(most, max(2, n_groups // 2))} or fewer."
            if most >= 2
            else f"Set splits.n_labelled: 2 and splits.outer: {n_groups - 2}."
            if n_groups >= 4
            else "Add subjects: few_labels needs four families or more.",
        )


def _kfold(
    strata: np.ndarray, groups: np.ndarray, n_folds: int, seed: int, key: str = "splits.outer"
) -> list[tuple[np.ndarray, np.ndarray]]:
    levels, counts = np.unique(strata, return_counts=True)
    # Strata with fewer members than folds are merged.
    rare = np.isin(strata, levels[counts < n_folds])
    strata = np.where(rare, -1, strata)
    if 0 < rare.sum() < n_folds:
        strata = np.where(rare, levels[counts.argmax()], strata)
    families, of = np.unique(groups, return_inverse=True)
    if len(families) < n_folds:
        enough = len(families) > 2  # two families train beside those that are tested
        none = "Set splits.inner: 0." if key == "splits.inner" else "Add subjects: folds need three families or more."
        raise UsageError(
            f"{key}: too few subjects (families count once) for the folds",
            expected=f"at least {n_folds}",
            got=str(len(families)),
            remedy=f"Set {key} to {len(families)} or fewer." if enough else none,
        )
    levels, strata = np.unique(strata, return_inverse=True)
    fold = _assigned(strata.astype(np.int64).tobytes(), of.astype(np.int64).tobytes(), n_folds, seed)
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


@lru_cache(maxsize=1024)
def _assigned(strata: bytes, groups: bytes, n_folds: int, seed: int) -> np.ndarray:
    """Fold of each row. Remembered, since scikit-learn needs a loop over families, and all models share their folds."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels, families = np.frombuffer(strata, np.int64), np.frombuffer(groups, np.int64)
    unrelated = len(np.unique(families)) == len(families)
    made = (StratifiedKFold if unrelated else StratifiedGroupKFold)(n_folds, shuffle=True, random_state=seed)
    parts = made.split(np.zeros(len(labels)), labels, None if unrelated else families)
    fold = np.empty(len(labels), dtype=np.int16)
    for number, (_, test) in enumerate(parts):
        fold[test] = number
    return fold


def parts_of(
    ids: Sequence[str], groups: np.ndarray, labels: np.ndarray, n_parts: int, seed: int
) -> tuple[tuple[str, ...], ...]:
    """Divide training rows into stratified parts without splitting families; fewer parts with few families.

    Args:
        groups: (n_rows,) family codes. labels: (n_rows,) labels for stratification; NaN is a separate label.

    Returns:
        Ids of each part; empty with fewer than four families.
    """
    n_parts = min(n_parts, len(np.unique(groups)) // 2)
    if n_parts < 2:
        return ()
    strata = np.unique(np.array([str(label) for label in labels]), return_inverse=True)[1]
    names = np.array(ids, dtype=object)
    return tuple(tuple(names[part]) for _, part in _kfold(strata, groups, n_parts, seed))


def seed_of(*parts: int) -> int:
    """A seed for each combination of numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def _check(plan: SplitPlan, groups: np.ndarray, ids: Sequence[str]) -> None:
    """Check the invariants of a plan."""
    family = dict(zip(ids, groups, strict=True))
    problems: list[Problem] = []
    for r, folds in enumerate(plan.repeats):
        tested = [subject for fold in folds for subject in fold.test]
        if len(tested) != len(set(tested)):
            problems.append(Problem(f"repeat {r}: a subject is tested twice"))
        for f, fold in enumerate(folds):
            if not fold.test or not fold.train:
                remedy = "Use fewer folds, or splits.scheme: kfold if families have members at several sites."
                problems.append(Problem(f"repeat {r}, fold {f} is empty", remedy=remedy))
            if {family[s] for s in fold.train} & {family[s] for s in fold.test}:
                problems.append(Problem(f"repeat {r}, fold {f}: a family is on both sides"))
    raise_all("the split plan does not hold", problems, UsageError)
