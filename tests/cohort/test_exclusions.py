"""Exclusion of subjects: rules, their order, and subjects with an unknown value."""

from __future__ import annotations

import json

from connectome_tl.errors import UsageError

from .conftest import OnDisk


def with_motion(on_disk: OnDisk) -> OnDisk:
    on_disk.table["mean_fd"] = ["0.1", "0.9", "0.2", "n/a", "0.3", "0.8"]
    on_disk.table["radiology"] = ["1", "5", "5", "2", "1", "Q"]
    return on_disk


RULES = [
    {"when": "radiology == '5' or radiology == 'Q'", "reason": "a major lesion, or not reportable"},
    {"when": "mean_fd > 0.5", "reason": "head motion", "unknown": "exclude"},
]


def test_each_rule_is_a_step_of_the_flow(on_disk: OnDisk) -> None:
    on_disk = with_motion(on_disk)
    on_disk.settings |= {"select": "sex in ['F', 'M']", "exclude": RULES}
    cohort = on_disk.read()
    assert cohort.ids == ("sub-01", "sub-05")
    steps = [(step.label, step.n_excluded, step.n_left) for step in cohort.flow]
    assert steps[0][1:] == (0, 6)
    assert steps[1][1:] == (1, 5)
    assert steps[2] == ("exclude: radiology == '5' or radiology == 'Q'", 2, 3)
    assert steps[3] == ("exclude: mean_fd > 0.5", 1, 2)
    assert cohort.flow[3].reason == "head motion; 1 of them with a missing value"


def test_a_missing_value_is_asked_about_unless_the_rule_says(on_disk: OnDisk) -> None:
    on_disk = with_motion(on_disk)
    on_disk.settings["exclude"] = [{"when": "mean_fd > 0.5", "reason": "head motion"}]
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "sub-04" in problems[0]
    assert "unknown: keep" in problems[0]
    on_disk.settings["exclude"][0]["unknown"] = "keep"
    cohort = on_disk.read()
    assert "sub-04" in cohort.ids
    assert any("1 whose value is missing were kept" in note for note in cohort.notes)


def test_a_rule_that_is_already_true_needs_no_further_value(on_disk: OnDisk) -> None:
    on_disk = with_motion(on_disk)
    on_disk.settings["exclude"] = [{"when": "radiology == '2' or mean_fd > 0.5", "reason": "either"}]
    assert on_disk.read().ids == ("sub-01", "sub-03", "sub-05")


def test_codes_for_missing_values_are_missing_here_too(on_disk: OnDisk) -> None:
    on_disk = with_motion(on_disk)
    on_disk.table["mean_fd"][3] = "-999"
    on_disk.settings["exclude"] = [{"when": "mean_fd > 0.5", "reason": "head motion"}]
    assert "cannot be decided" in on_disk.problems()[0]


def test_a_rule_needs_a_reason_and_may_not_take_everybody(on_disk: OnDisk) -> None:
    on_disk = with_motion(on_disk)
    on_disk.settings["exclude"] = [{"when": "mean_fd > 0.5", "reason": ""}]
    on_disk.problems(UsageError)
    on_disk.settings["exclude"] = [{"when": "mean_fd >= 0", "reason": "all", "unknown": "exclude"}]
    assert any("leave no row" in problem for problem in on_disk.problems())


def test_eddy_quad_and_qsiprep_are_read_as_they_write(on_disk: OnDisk) -> None:
    """QUAD's CNR is a list, b0 first and then a value for each shell; QSIPrep's group file holds a record each."""
    for i in range(1, 7):
        said = {"qc_mot_abs": i / 10, "qc_cnr_avg": [20.0 + i, 1.5, 1.2], "qc_ol_flag": True, "data_eddy_para": [[1]]}
        folder = on_disk.folder / f"sub-0{i}.qc"
        folder.mkdir()
        (folder / "qc.json").write_text(json.dumps(said))
    records = [{"subject_id": f"sub-0{i}", "t1_neighbor_corr": 0.5 + i / 10, "session_id": "1"} for i in range(1, 7)]
    (on_disk.folder / "dwiqc.json").write_text(json.dumps({"report_type": "dwi_qc_report", "subjects": records}))
    on_disk.settings["tables"] = [
        {"file": "{id}.qc/qc.json"},
        {"file": "dwiqc.json", "columns": ["t1_neighbor_corr"]},
    ]
    on_disk.settings["exclude"] = [
        {"when": "qc_cnr_avg_1 < 22 or qc_cnr_avg_3 < 1", "reason": "noise"},
        {"when": "t1_neighbor_corr > 1", "reason": "not a correlation"},
    ]
    assert on_disk.read().ids == ("sub-02", "sub-03", "sub-04", "sub-05")
    (on_disk.folder / "dwiqc.json").write_text(json.dumps({"data_no_subjects": 6, "qc_motion": [[0.1, 0.2]] * 6}))
    assert any("SQUAD" in problem for problem in on_disk.problems())
