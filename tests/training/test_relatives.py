"""No stage before the last learns from a tested infant or its siblings, however each cohort writes their ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import yaml

from connectome_tl.audit.duplicates import duplicate_findings
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.relatives import relatives
from connectome_tl.cohort.splits import Fold, SplitPlan
from connectome_tl.errors import DataError, LeakageError
from connectome_tl.settings.images.embedding import EmbeddedFit, ImageEmbeddings
from connectome_tl.training.stages import adaptation_rows, refuse_known, unseen_fit

INFANTS = range(1, 8)
SESSIONS = ["participant_id", "session_id"]
AGE = {"column": "age", "unit": "weeks"}
ONE_SCAN = {"one_scan": {"keep": "first"}}
SPELLINGS: dict[str, tuple[list[str], str, tuple[str, ...], dict]] = {
    "one id": (["participant_id"], "CC{:03d}", ("",), {}),
    "sub-": (["participant_id"], "sub-CC{:03d}", ("",), {}),
    "no zeros": (["participant_id"], "CC{}", ("",), {}),
    "lower case": (["participant_id"], "cc{:02d}", ("",), {}),
    "joined before": (["participant_id"], "sub-CC{:03d}_ses-3", ("",), {}),
    "session 1": (SESSIONS, "CC{:03d}", ("1",), {}),
    "session 2": (SESSIONS, "CC{:03d}", ("ses-02",), {}),
    "visit": (["participant_id", "visit"], "sub-CC{:03d}", ("term",), {}),
    "repeated": (SESSIONS, "CC{:03d}", ("1", "2"), {}),
    "one scan": (SESSIONS, "sub-CC{:03d}", ("1", "2"), ONE_SCAN),
}
Read = Callable[[str, bool], Cohort]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Reads a cohort with these spellings; infants 1 and 2 are twins if there is a family column."""
    made: dict[tuple[str, bool], Cohort] = {}

    def reader(spelling: str, family: bool) -> Cohort:
        if (spelling, family) not in made:
            made[spelling, family] = written(tmp_path_factory.mktemp("cohort"), spelling, family)
        return made[spelling, family]

    return reader


def written(folder: Path, spelling: str, family: bool) -> Cohort:
    ids, pattern, sessions, more = SPELLINGS[spelling]
    rows = [
        {
            "participant_id": pattern.format(i),
            **dict.fromkeys(ids[1:], session),
            "age": str(38.0 + 0.1 * i + k),
            "family": {1: "F1", 2: "F1"}.get(i, f"F{i}"),
        }
        for i in INFANTS
        for k, session in enumerate(sessions)
    ]
    pd.DataFrame(rows).to_csv(folder / "participants.tsv", sep="\t", index=False)
    age = {"column": "age", "unit": "weeks", "reference": "postmenstrual"}
    settings = {"name": spelling, "participants": "participants.tsv", "age": age, **more}
    settings["id"] = ids if len(ids) > 1 else ids[0]
    settings |= {"covariates": [AGE]} | ({"family": "family"} if family else {})
    (folder / "cohort.yaml").write_text(yaml.safe_dump(settings))
    return read_cohort(folder / "cohort.yaml")


def rows_of(cohort: Cohort, infants: Sequence[int]) -> tuple[str, ...]:
    per_infant = cohort.n_subjects // len(INFANTS)
    return tuple(name for at, name in enumerate(cohort.ids) if INFANTS[at // per_infant] in infants)


@pytest.mark.parametrize("families", ["none", "target", "other", "both"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_tested_infants_and_their_siblings_are_known_in_any_spelling(read: Read, spelling: str, families: str) -> None:
    target = read(spelling, families in ("target", "both"))
    cases = (((3,), (3,)), ((1, 5), (1, 5) if families == "none" else (1, 2, 5)))
    for written_there, (tested, kin) in product(SPELLINGS, cases):
        other = read(written_there, families in ("other", "both"))
        test, expected = rows_of(target, tested), rows_of(other, kin)
        fold = Fold(tuple(i for i in target.ids if i not in test), test)
        assert relatives(target, test, other) == expected
        left = tuple(i for i in other.ids if i not in expected)
        assert adaptation_rows(other, target, fold, transductive=False) == left
        refuse_known(other.take(left), target, fold)
        with pytest.raises(LeakageError):
            refuse_known(other.take(expected[-1:]), target, fold)
        assert unseen_fit(with_fits(target, other, expected[-1:], left), fold) == "1"
        (_, found) = duplicate_findings({"target": target, "source": other}, SplitPlan(((fold,),)))
        assert (found.status, expected[0] in found.what) == ("failed", True)


def with_fits(target: Cohort, other: Cohort, *trained_on: Sequence[str]) -> Cohort:
    """The target with embeddings by fits on these rows of the other cohort."""
    taken = [other.take(ids) for ids in trained_on]
    fits = tuple(
        EmbeddedFit(
            fit=str(k),
            stage="pretrain",
            seen=one.ids,
            families=tuple(name for name in one.family if name),
            participants=one.children,
            embedding={},
        )
        for k, one in enumerate(taken)
    )
    return replace(target, embeddings=ImageEmbeddings(made_of={}, images={}, fits=fits))


@pytest.mark.parametrize(
    ("ids", "families", "theirs", "their_families", "expected"),
    [
        (["CC1", "CC2"], ["", "CC9"], ["CC9", "CC8"], ["", ""], ()),  # the family of an infant that is not tested
        (["CC1", "CC2"], ["CC9", ""], ["CC9", "CC8"], ["", ""], ("CC9",)),  # a family named after its first-born
        (["CC1", "CC2"], ["", ""], ["v1", "v2"], ["CC01", "CC3"], ("v1",)),  # volumes made from the infant's labels
        (["1", "2"], ["", ""], ["v1", "v2"], ["1", "3"], ("v1",)),
        (["1", "2"], ["3", "4"], ["3", "4"], ["7", "1"], ("4",)),  # families and infants with numbers
        (["CC1", "CC2"], ["A", "A"], ["CC2", "CC3", "CC4"], ["B", "B", "C"], ("CC2", "CC3")),  # kin of kin
        (
            ["CC001", "CC2"],
            ["", ""],
            ["CC001_2", "CC1b", "CC1-scan2", "CC1_20_1"],
            [""] * 4,
            ("CC001_2", "CC1b", "CC1-scan2"),
        ),
        (["CC1_2", "CC2"], ["", ""], ["CC1", "CC11", "CC2"], [""] * 3, ("CC1",)),
        (["1", "2"], ["", ""], ["1_2", "1b", "1_scan2"], [""] * 3, ("1_scan2",)),  # site and number
    ],
)
def test_a_family_may_be_named_after_a_member(
    read: Read,
    ids: list[str],
    families: list[str],
    theirs: list[str],
    their_families: list[str],
    expected: tuple[str, ...],
) -> None:
    def named(names: list[str], kin: list[str]) -> Cohort:
        cohort = read("one id", False)
        drawn = cohort.drawn(cohort.positions(cohort.ids[: len(names)]), names)
        return replace(drawn, family=pd.Series(kin).to_numpy(dtype=object))

    assert relatives(named(ids, families), ids[:1], named(theirs, their_families)) == expected


def test_a_participant_written_in_two_ways_is_refused(tmp_path: Path) -> None:
    """Its scans would be on both sides of a fold."""
    table = "participant_id\tsession_id\tage\nsub-01\t1\t40\n1\t2\t41\nsub-02\t1\t40\n"
    (tmp_path / "participants.tsv").write_text(table)
    settings = {"name": "c", "participants": "participants.tsv", "id": SESSIONS, "covariates": [AGE]}
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(DataError, match="ids differ only in case, zero padding, prefix or characters that look alike"):
        read_cohort(tmp_path / "cohort.yaml")


@pytest.mark.parametrize(("other", "asked"), [("CC1_2", True), ("CC01-b", True), ("CC11", False), ("CC2_2", False)])
def test_ids_of_two_scans_of_one_infant_need_a_family(tmp_path: Path, other: str, asked: bool) -> None:
    (tmp_path / "participants.tsv").write_text(f"participant_id\tage\tmother\nCC1\t40\ta\n{other}\t41\ta\nCC3\t41\tb\n")
    settings = {"name": "c", "participants": "participants.tsv", "covariates": [AGE]}
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(settings))
    if asked:
        with pytest.raises(DataError, match=r"two scans of one subject.*family"):
            read_cohort(tmp_path / "cohort.yaml")
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(settings | ({"family": "mother"} if asked else {})))
    assert read_cohort(tmp_path / "cohort.yaml").n_subjects == 3
