"""The record of a cohort has the correct counts."""

from __future__ import annotations

import pytest

from connectome_tl.cohort.describing import describe

from .conftest import OnDisk


def test_counts_and_groups(on_disk: OnDisk) -> None:
    on_disk.settings["outcomes"][0]["status"]["died"] = "missing"
    on_disk.settings["site"] = "sex"
    record = describe(on_disk.read())
    (outcome,) = record.outcomes
    assert (outcome.observed, outcome.lost, outcome.died, outcome.untestable, outcome.n_positive) == (4, 1, 1, 0, 2)
    assert record.table_groups == ("all (n = 6)", "all outcomes known (n = 4)", "an outcome missing (n = 2)")
    rows = {row.variable: row.values for row in record.table}
    assert rows["sex: F"] == ("3 (50 %)", "1 (25 %)", "2 (100 %)")
    assert rows["sex: missing"] == ("1 (17 %)", "1 (25 %)", "0 (0 %)")
    assert rows["age, postmenstrual (weeks)"][0].endswith("1 missing")
    assert rows["cognitive (cog < 85): positive"] == ("2 of 4", "2 of 4", "0 of 0")
    assert rows["in families of several"][0] == "2"


@pytest.mark.parametrize("rule", ["missing", "positive", "negative"])
def test_every_row_is_counted_once_whatever_death_means(on_disk: OnDisk, rule: str) -> None:
    """A death that counts as a class has a value, so that it is not among the missing ones."""
    on_disk.settings["outcomes"][0]["status"]["died"] = rule
    cohort = on_disk.read()
    (outcome,) = describe(cohort).outcomes
    counted = rule != "missing"
    assert (outcome.observed, outcome.by_status, outcome.died) == (4 + counted, int(counted), 1 - counted)
    assert outcome.n_positive == 2 + (rule == "positive")
    assert outcome.observed + outcome.lost + outcome.died + outcome.unknown == cohort.n_subjects


def test_missing_regions_are_counted(on_disk: OnDisk) -> None:
    on_disk.names = on_disk.names[:-1]
    on_disk.matrices = {s: m[:-1, :-1] for s, m in on_disk.matrices.items()}
    assert describe(on_disk.read(), "pool").missing_regions == (("ITG.R", 6),)
