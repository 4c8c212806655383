"""A table that says who died raises the question what death means for an outcome, however it says so."""

from __future__ import annotations

import pytest
import yaml

from .conftest import OnDisk
from .test_missing_and_spellings import tables_only

SCORES = ["100", "90", "", "95", "", "99"]


def with_column(on_disk: OnDisk, name: str, cells: str, **rule: object) -> OnDisk:
    tables_only(on_disk)
    del on_disk.table["cog_status"]
    on_disk.table |= {"cog": list(SCORES), name: [cell.replace("_", " ").strip() for cell in cells.split()]}
    outcome = {"name": "score", "column": "cog", "kind": "regression"}
    on_disk.settings["outcomes"] = [outcome | ({"status": {"column": name, **rule}} if rule else {})]
    return on_disk


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("vital_status", "A A D A A A"),
        ("statut_vital", "V V D V V V"),
        ("vitalstatus", "0 0 1 0 0 0"),
        ("status", "A A D A L A"),
        ("status", "alive alive D alive alive alive"),
        ("state", "alive alive dead alive alive alive"),
        ("disposition", "Home Home Deceased Home Transfer Home"),
        ("stato", "vivo vivo morto vivo vivo vivo"),
        ("nnd", "0 0 1 0 0 0"),
        ("dod", "_ _ 2019-01-02 _ _ _"),
    ],
)
def test_a_column_that_may_say_who_died_is_asked_about_and_the_printed_answer_works(
    on_disk: OnDisk, name: str, cells: str
) -> None:
    (said,) = with_column(on_disk, name, cells).problems()
    assert "died" in said
    rule = yaml.safe_load(said.split("Set status: ")[1].split("} for this")[0].replace("missing, positive or negative",
                          "missing").replace("...", "alive").replace("1: alive", "1: died") + "}")  # fmt: skip
    on_disk.settings["outcomes"][0]["status"] = rule
    status = on_disk.read().status["score"].tolist()
    assert status[:4] == ["observed", "observed", "died", "observed"]
    assert status[4] == "unknown"


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("mother", "alive alive dead alive alive alive"),
        ("mother_alive", "yes yes no yes yes yes"),
        ("twin_died", "no no yes no no no"),
        ("twin_status", "A A D A A A"),
        ("insurance_status", "A B D A A D"),
        ("marital_status", "m s d m s m"),
        ("survival_days", "365 300 12 365 31 365"),
        ("comment", "ok motion mother_died ok ok ok"),
        ("disposition", "Home died Home Home Transfer Home"),
    ],
)
def test_other_columns_are_not_asked_about(on_disk: OnDisk, name: str, cells: str) -> None:
    assert with_column(on_disk, name, cells).read().status["score"].tolist()[2] == "unknown"


def test_codes_name_the_reasons_and_the_json_of_the_table_does_too(on_disk: OnDisk) -> None:
    codes = {"1": "observed", "2": "died", "3": "lost"}
    with_column(on_disk, "fu_status", "1 1 2 1 3 1", died="missing", codes=codes)
    expected = ["observed", "observed", "died", "observed", "lost", "observed"]
    assert on_disk.read().status["score"].tolist() == expected
    del on_disk.settings["outcomes"][0]["status"]["codes"]
    assert "codes" in on_disk.problems()[0]
    levels = '{"fu_status": {"Levels": {"1": "seen", "2": "died", "3": "lost"}}}'
    (on_disk.folder / "participants.json").write_text(levels)
    assert on_disk.read().status["score"].tolist() == expected


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("follow_up_status", "1 1 2 1 3 1"),
        ("fu_status", "C C D C L C"),
        ("status", "1 1 0 1 0 1"),
        ("reason_missing", "n/a n/a 1 n/a 2 n/a"),
        ("dropout", "0 0 1 0 1 0"),
    ],
)
def test_codes_that_stand_exactly_where_the_outcome_is_missing_are_asked_about(
    on_disk: OnDisk, name: str, cells: str
) -> None:
    said = with_column(on_disk, name, cells).problems()[-1]
    assert f"{name!r} may say who died" in said
    rule = said.split("Set status: ")[1].split("} for this")[0] + "}"
    rule = rule.replace("missing, positive or negative", "missing").replace("...", "lost")
    codes = yaml.safe_load(rule)
    codes["codes"] = {str(code): "observed" if i == 0 and "n/a" not in cells else "lost" for i, code in
                      enumerate(codes["codes"])}  # fmt: skip
    on_disk.settings["outcomes"][0]["status"] = codes
    assert on_disk.read().status["score"].tolist() == ["observed", "observed", "lost", "observed", "lost", "observed"]


@pytest.mark.parametrize("cells", ["1 2 3 1 3 1", "1 1 1 1 3 1", "1 1 n/a 1 3 1"])
def test_codes_that_do_not_follow_the_outcome_are_left_alone(on_disk: OnDisk, cells: str) -> None:
    assert with_column(on_disk, "smoking_status", cells).read().status["score"].tolist()[4] == "unknown"


def test_an_age_of_infants_who_died_later_is_an_outcome_with_values(on_disk: OnDisk) -> None:
    with_column(on_disk, "status", "alive alive died alive lost alive", died="positive", untestable="missing")
    on_disk.table["pma"] = ["40", "41", "42", "43", "44", "39"]
    injured = on_disk.settings["outcomes"][0] | {"kind": "binary", "operator": "<", "cutoff": 85, "edition": "x"}
    on_disk.settings["outcomes"] = [injured, {"name": "pma", "column": "pma", "kind": "regression", "unit": "weeks"}]
    status = on_disk.read().status
    assert set(status["pma"]) == {"observed"}
    assert status["score"].tolist()[2] == "died"


def test_a_status_of_other_outcomes_is_set_aside_as_the_message_says(on_disk: OnDisk) -> None:
    with_column(on_disk, "status", "alive alive died alive lost alive", died="positive")
    on_disk.table["sarnat"] = ["1", "2", "3", "1", "2", "1"]
    on_disk.settings["outcomes"] = [{"name": "sarnat", "column": "sarnat", "kind": "regression"}]
    (said,) = on_disk.problems()
    assert "contradict each other" in said
    on_disk.settings["outcomes"][0]["status"] = yaml.safe_load(said.split("set status: ")[1].split(" for this")[0])
    assert set(on_disk.read().status["sarnat"]) == {"observed"}
