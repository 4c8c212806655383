"""The record of a cohort has the correct counts."""

from __future__ import annotations

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


def test_missing_regions_are_counted(on_disk: OnDisk) -> None:
    on_disk.names = on_disk.names[:-1]
    on_disk.matrices = {s: m[:-1, :-1] for s, m in on_disk.matrices.items()}
    assert describe(on_disk.read(), "pool").missing_regions == (("ITG.R", 6),)
