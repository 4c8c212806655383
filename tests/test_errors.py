"""Errors state what was expected and found, subject, file and remedy; and they can be pickled between processes."""

from __future__ import annotations

import pickle
from multiprocessing import get_context

import pytest

from connectome_tl.errors import (
    ConnectomeTLError,
    DataError,
    InternalError,
    InterruptedRunError,
    LeakageError,
    MissingInputError,
    OutputError,
    Problem,
    UsageError,
    raise_all,
)

FIELDS = {
    "expected": "(90, 90)",
    "got": "(89, 89)",
    "subject": "sub-07",
    "file": "matrices/sub-07.csv",
    "remedy": "Export it with all regions.",
}
CODES = {
    ConnectomeTLError: 70,
    UsageError: 64,
    DataError: 65,
    LeakageError: 65,
    MissingInputError: 66,
    InternalError: 70,
    OutputError: 74,
    InterruptedRunError: 75,
}


@pytest.mark.parametrize("kind", CODES)
def test_every_error_says_everything_it_knows(kind: type[ConnectomeTLError]) -> None:
    said = str(kind("wrong size", **FIELDS))
    for part in ("wrong size", *FIELDS.values()):
        assert part in said
    assert kind.exit_code == CODES[kind]


def test_a_question_is_not_followed_by_a_full_stop() -> None:
    assert str(Problem("two heads?", remedy="Look at it.")) == "two heads? Look at it."
    assert str(Problem("two heads", remedy="Look at it.")) == "two heads. Look at it."


def test_what_is_unknown_is_not_said() -> None:
    assert str(DataError("wrong size")) == "wrong size"
    assert str(Problem("wrong size", remedy="Do this.")) == "wrong size. Do this."


def test_many_problems_are_one_numbered_message() -> None:
    problems = [Problem("a"), Problem("b", subject="s")]
    with pytest.raises(DataError) as caught:
        raise_all("two things are wrong", problems)
    assert str(caught.value).splitlines() == ["two things are wrong", "  1. a", "  2. subject s: b"]
    assert caught.value.problems == tuple(problems)
    raise_all("nothing is wrong", [])


@pytest.mark.parametrize("kind", CODES)
def test_an_error_survives_pickling_with_its_problems(kind: type[ConnectomeTLError]) -> None:
    for error in (kind("one", **FIELDS), kind("many", problems=[Problem("a"), Problem("b", **FIELDS)])):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind
        assert (str(again), again.problems, again.exit_code) == (str(error), error.problems, error.exit_code)


def _fail() -> None:
    raise LeakageError("scaler saw test rows", problems=[Problem("one", subject="s1"), Problem("two", subject="s2")])


def test_an_error_raised_in_another_process_arrives_whole() -> None:
    with get_context("spawn").Pool(1) as pool, pytest.raises(LeakageError) as caught:
        pool.apply(_fail)
    assert [problem.subject for problem in caught.value.problems] == ["s1", "s2"]
