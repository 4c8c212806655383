"""Tables damaged in known ways are read correctly or refused, never silently misread. More: benchmarks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import table_mutations as mutations

from connectome_tl.cohort.reading import read_cohort

N, FIRST = 120, 0


def test_the_undamaged_study_is_read_as_it_is(tmp_path: Path) -> None:
    made = mutations.study(np.random.default_rng(3))
    assert mutations.differences(made, read_cohort(mutations.write(made, tmp_path))) == []


def test_the_judge_sees_a_wrong_value(tmp_path: Path) -> None:
    made = mutations.study(np.random.default_rng(4))
    cohort = read_cohort(mutations.write(made, tmp_path))
    made.truth["weight"][made.ids[0]] += 1
    made.truth["site"][made.ids[1]] = None
    assert len(mutations.differences(made, cohort)) == 2


@pytest.mark.parametrize("change", mutations.MUTATIONS, ids=lambda change: change.__name__)
def test_each_mutation_alone_is_read_right_or_refused(change, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("openpyxl")
    made = mutations.study(np.random.default_rng(5))
    change(made)
    made.history.append(change.__name__)
    verdict = mutations.verdict(made, tmp_path, change.__name__)
    assert verdict.word in (("right",) if change.__name__ in mutations.HARMLESS else ("right", "refused")), verdict


@pytest.mark.slow
def test_mutants_are_right_or_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    verdicts = [mutations.judged(seed, tmp_path / str(seed)) for seed in range(FIRST, FIRST + N)]
    assert [one.detail for one in verdicts if one.word in mutations.FAULTS] == []
    assert [one.detail for one in verdicts if one.word == "refused wrongly"] == []
    assert sum(one.word == "right" for one in verdicts) > N / 4
