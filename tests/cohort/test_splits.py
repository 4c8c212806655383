"""Split plans: made first, from ids, families, sites and one stratum only; frozen, hashed, saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.splits import Fold, SplitPlan, kinship_groups, make_split_plan, parts_of, stratum_of
from connectome_tl.errors import DataError, LeakageError, OutputError, UsageError
from connectome_tl.settings.study import SplitSettings
from connectome_tl.tasks import Task


def people(
    n_subjects: int, *, family: Sequence[str] = (), site: Sequence[str] = (), stratum: np.ndarray | None = None
) -> Cohort:
    ids = tuple(f"s{i:03d}" for i in range(n_subjects))
    outcome = stratum if stratum is not None else np.arange(n_subjects) % 3 == 0
    return Cohort(
        name="people",
        ids=ids,
        regions=("a", "b"),
        atlas="none",
        measures=("weight",),
        weights=np.zeros((n_subjects, 1, 2, 2), dtype=np.float32),
        node_mask=np.ones((n_subjects, 2), dtype=bool),
        covariates=pd.DataFrame({"sex": ["F", "M"] * (n_subjects // 2) + ["F"] * (n_subjects % 2)}, index=list(ids)),
        covariate_specs=(),
        tasks=(),
        targets=pd.DataFrame({"outcome": np.asarray(outcome, dtype=float), "other": 0.0}, index=list(ids)),
        status=pd.DataFrame(index=list(ids)),
        age=np.full(n_subjects, np.nan),
        age_unit="",
        site=np.array(list(site) or [""] * n_subjects, dtype=object),
        family=np.array(list(family) or [""] * n_subjects, dtype=object),
    )


@settings(max_examples=40)
@given(
    families=st.lists(st.sampled_from(["", "", "", "a", "b", "c", "d"]), min_size=16, max_size=40),
    outer=st.integers(2, 4),
    inner=st.sampled_from([0, 2, 3]),
    seed=st.integers(0, 5),
)
def test_families_never_straddle_and_everyone_is_tested_once(
    families: list[str], outer: int, inner: int, seed: int
) -> None:
    cohort = people(len(families), family=families)
    split = SplitSettings(repeats=2, outer=outer, inner=inner, seed=seed, stratum="outcome")
    largest = np.bincount(kinship_groups(families)).max()
    assume(largest <= max(2, len(families) // (2 * outer)))  # a family larger than a fold may leave nothing to split
    # Few large families may fill the training rows of a fold, which inner folds refuse (next test).
    assume((inner - 1) * largest < len(families) * (outer - 1) / outer - largest)
    family = dict(zip(cohort.ids, kinship_groups(cohort.family), strict=True))
    plan = make_split_plan(cohort, split)
    for folds in plan.repeats:
        assert sorted(s for fold in folds for s in fold.test) == sorted(cohort.ids)
        for fold in folds:
            assert set(fold.train) | set(fold.test) == set(cohort.ids)
            for a, b in [(fold.train, fold.test), *((i.train, i.test) for i in fold.inner)]:
                assert not {family[s] for s in a} & {family[s] for s in b}
            assert len(fold.inner) == inner
            for inner_fold in fold.inner:
                assert set(inner_fold.train) | set(inner_fold.test) == set(fold.train)
            if inner:
                assert sorted(s for i in fold.inner for s in i.test) == sorted(fold.train)


def test_inner_folds_refuse_training_rows_of_fewer_families() -> None:
    cohort = people(20, family=[*"cbb", *[""] * 5, "c", "", *"aba", "", "", *"aaabb"])
    split = SplitSettings(repeats=2, outer=2, inner=3, seed=0, stratum="outcome")
    with pytest.raises(UsageError, match="families count once"):  # one half has families a and b only
        make_split_plan(cohort, split)


@pytest.mark.parametrize("family", [(), ["t1", "t1", "t2", "t2", *[""] * 29]])
def test_strata_are_balanced(family: Sequence[str]) -> None:
    outcome = np.zeros(33)
    outcome[[1, 4, 7, 10, 13, 16, 19, 22, 25, 28]] = 1
    plan = make_split_plan(people(33, stratum=outcome, family=family), SplitSettings(repeats=4, stratum="outcome"))
    positive = {f"s{i:03d}" for i in np.flatnonzero(outcome)}
    for _, _, fold in plan.folds():
        assert abs(len(positive & set(fold.test)) - 2) <= (1 if family else 0)
        assert 5 <= len(fold.test) <= 8


def test_a_score_is_stratified_by_tertiles_and_missing_outcomes_are_spread() -> None:
    score = np.arange(30.0)
    score[[0, 10, 20]] = np.nan
    plan = make_split_plan(people(30, stratum=score), SplitSettings(repeats=3, outer=3, stratum="outcome"))
    for _, _, fold in plan.folds():
        tested = score[[int(s[1:]) for s in fold.test]]
        assert np.isnan(tested).sum() == 1
        low, high = np.nanquantile(score, [1 / 3, 2 / 3])
        thirds = [(tested < low).sum(), ((tested >= low) & (tested < high)).sum(), (tested >= high).sum()]
        assert thirds == [3, 3, 3]


def test_repeats_and_seeds_differ_and_equal_settings_agree() -> None:
    cohort = people(24)
    plan = make_split_plan(cohort, SplitSettings(repeats=3, outer=3, seed=1))
    assert len({tuple(fold.test for fold in folds) for folds in plan.repeats}) == 3
    assert plan == make_split_plan(cohort, SplitSettings(repeats=3, outer=3, seed=1))
    assert plan.hash != make_split_plan(cohort, SplitSettings(repeats=3, outer=3, seed=2)).hash
    # With more repeats, the first ones are unchanged.
    assert make_split_plan(cohort, SplitSettings(repeats=2, outer=3, seed=1)).repeats == plan.repeats[:2]


@pytest.mark.parametrize("scheme", ["kfold", "site_out", "few_labels"])
def test_a_plan_sees_nothing_but_ids_families_sites_and_the_stratum(scheme: str) -> None:
    cohort = people(30, family=["f", "f", *[""] * 28], site=["A", "B", "C"] * 10)
    split = SplitSettings(
        scheme=scheme,
        repeats=2,
        outer=5 if scheme == "site_out" else 3,
        inner=2,
        stratum="outcome",
        n_labelled=12 if scheme == "few_labels" else None,
    )
    plan = make_split_plan(cohort, split)
    rng = np.random.default_rng(0)
    wrecked = replace(
        cohort,
        weights=rng.normal(size=cohort.weights.shape),
        node_mask=rng.random(cohort.node_mask.shape) < 0.5,
        covariates=cohort.covariates.assign(sex="X"),
        targets=cohort.targets.assign(other=rng.normal(size=30)),
        age=rng.normal(size=30),
    )
    assert make_split_plan(wrecked, split) == plan
    assert make_split_plan(replace(cohort, targets=cohort.targets.assign(outcome=rng.permutation(2 * [*range(3)] * 5))),
                           split) != plan or scheme == "site_out"  # fmt: skip


def test_a_plan_is_frozen_saved_and_read_back_equal(tmp_path: Path) -> None:
    plan = make_split_plan(people(20, family=["a", "a", *[""] * 18]), SplitSettings(repeats=2, outer=4, inner=2))
    file = plan.save(tmp_path / "split_plan.json")
    again = SplitPlan.load(file)
    assert again == plan
    assert again.hash == plan.hash
    assert again.save(tmp_path / "again.json").read_bytes() == file.read_bytes()
    with pytest.raises(FrozenInstanceError):
        plan.repeats[0][0].train = ()  # type: ignore[misc]


def test_the_file_of_a_plan_is_what_the_contract_says(tmp_path: Path) -> None:
    plan = make_split_plan(people(12), SplitSettings(repeats=1, outer=2, inner=2))
    content = json.loads(plan.save(tmp_path / "plan.json").read_text())
    assert set(content) == {"hash", "repeats"}
    fold = content["repeats"][0]["folds"][0]
    assert set(fold) == {"train", "test", "inner"}
    assert set(fold["inner"][0]) == {"train", "test"}
    assert set(fold["train"]) | set(fold["test"]) == set(people(12).ids)


def test_a_changed_or_damaged_plan_is_refused(tmp_path: Path) -> None:
    file = make_split_plan(people(12), SplitSettings(repeats=1, outer=2)).save(tmp_path / "plan.json")
    content = json.loads(file.read_text())
    fold = content["repeats"][0]["folds"][0]
    fold["train"].append(fold["test"].pop())
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match="changed after it was saved"):
        SplitPlan.load(file)
    for text, kind in (("[]", DataError), ('{"repeats": 3}', DataError), ('{"hash"', OutputError)):
        file.write_text(text)
        with pytest.raises(kind):
            SplitPlan.load(file)


def test_each_site_is_held_out_once_with_the_kin_of_its_subjects() -> None:
    family = [""] * 18
    family[0] = family[1] = "twins at two sites"
    cohort = people(18, site=["A", "B", "C"] * 6, family=family)
    (folds,) = make_split_plan(cohort, SplitSettings(scheme="site_out", repeats=1)).repeats
    site = dict(zip(cohort.ids, cohort.site, strict=True))
    assert [{site[s] for s in fold.test} for fold in folds] == [{"A"}, {"B"}, {"C"}]
    assert "s001" not in folds[0].train
    assert "s000" not in folds[1].train
    assert {"s000", "s001"} <= set(folds[2].train)
    with pytest.raises(UsageError, match="two sites"):
        make_split_plan(people(10), SplitSettings(scheme="site_out"))
    with pytest.raises(UsageError, match=r"2 subjects have none.*s003, s008"):
        make_split_plan(people(10, site=["A", "B", "A", "", "A"] * 2), SplitSettings(scheme="site_out"))


def test_few_labels_trains_on_the_same_number_and_tests_all_the_rest() -> None:
    family = [""] * 100
    family[10] = family[11] = family[12] = "triplets"
    cohort = people(100, family=family)
    kin = kinship_groups(cohort.family)
    plan = make_split_plan(
        cohort, SplitSettings(scheme="few_labels", repeats=5, outer=4, n_labelled=33, stratum="outcome")
    )
    for folds in plan.repeats:
        labelled = folds[0].train
        assert len(labelled) == 33
        assert all(fold.train == labelled for fold in folds)
        drawn = {kin[cohort.ids.index(s)] for s in labelled}
        rest = [s for s, group in zip(cohort.ids, kin, strict=True) if group not in drawn]
        assert sorted(s for fold in folds for s in fold.test) == rest
        assert sum(int(s[1:]) % 3 == 0 for s in labelled) in (11, 12)
    assert len({folds[0].train for folds in plan.repeats}) == 5


@pytest.mark.parametrize(
    ("cohort", "split", "said"),
    [
        (people(4), {"outer": 5}, "too few subjects"),
        (people(8, family=["a"] * 4 + ["b"] * 4), {"outer": 3}, "families count once"),
        (people(12, family=["a"] * 9 + [""] * 3), {"outer": 2, "inner": 5}, "too few subjects"),
        (people(10), {"scheme": "few_labels", "n_labelled": 10}, "too few subjects"),
        (people(10), {"scheme": "few_labels", "n_labelled": 7, "outer": 5}, "too few subjects"),
        (people(10), {"stratum": "outcomes"}, "no column 'outcomes'"),
    ],
)
def test_more_folds_than_subjects_and_unknown_strata_are_refused(cohort: Cohort, split: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_split_plan(cohort, SplitSettings(**split))


def test_rare_strata_do_not_stop_the_split() -> None:
    outcome = np.zeros(20)
    outcome[[3, 9]] = 1
    plan = make_split_plan(people(20, stratum=outcome), SplitSettings(repeats=1, outer=5, stratum="outcome"))
    assert sorted(len(fold.test) for fold in plan.repeats[0]) == [4] * 5


def test_a_step_that_saw_test_rows_is_stopped_and_named() -> None:
    fold = Fold(("a", "b"), ("c", "d"))
    fold.admit("scaler", ("a", "b"))
    with pytest.raises(LeakageError, match="edge scaler was fitted on 1 subject of") as caught:
        fold.admit("edge scaler", iter(["a", "d"]))
    assert caught.value.problems[0].got == "d"


def test_without_a_declared_stratum_folds_are_stratified_by_the_first_binary_outcome() -> None:
    cohort = replace(
        people(33, stratum=np.arange(33) % 4 == 0),
        tasks=(
            Task(name="score", kind="regression", column="score"),
            Task(name="other", kind="binary", column="other"),  # no subject is positive
            Task(name="outcome", kind="binary", column="outcome"),
        ),
    )
    declared, default = (SplitSettings(repeats=2, stratum=name) for name in ("outcome", None))
    assert stratum_of(cohort, default) == "outcome"
    assert make_split_plan(cohort, default).hash == make_split_plan(cohort, declared).hash
    for _, _, fold in make_split_plan(cohort, default).folds():
        assert 1 <= cohort.targets.loc[list(fold.test), "outcome"].sum() <= 2
    none = SplitSettings(repeats=2, stratum="")
    assert stratum_of(cohort, none) is None
    assert make_split_plan(cohort, none).hash != make_split_plan(cohort, default).hash
    assert stratum_of(people(33), default) is None


@pytest.mark.parametrize("unrelated", [False, True])
def test_parts_are_those_of_scikit_learn_and_drawn_once_for_equal_rows(
    monkeypatch: pytest.MonkeyPatch, unrelated: bool
) -> None:
    """Models of a study share their folds; with families, scikit-learn takes as long for them as a small fit."""
    rng = np.random.default_rng(8)
    labels, groups = rng.integers(0, 3, 60).astype(float), np.arange(60) if unrelated else rng.integers(0, 25, 60)
    kind = StratifiedKFold if unrelated else StratifiedGroupKFold
    made = kind(4, shuffle=True, random_state=17).split(labels, labels, None if unrelated else groups)
    expected = [list(test) for _, test in made]
    ids, calls, split = [f"sub-{i:02d}" for i in range(60)], [], kind.split

    def counted(self: object, *given: object) -> object:
        calls.append(given)
        return split(self, *given)

    monkeypatch.setattr(kind, "split", counted)
    for _ in range(3):
        parts = parts_of(ids, groups, labels, 4, 17)
        assert [[ids.index(one) for one in part] for part in parts] == expected
    assert len(calls) == 1
    assert parts_of(ids, groups, labels[::-1], 4, 17) != parts
    assert len(calls) == 2
