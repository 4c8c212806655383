"""`init` with tables that have several rows per subject: exports of REDCap, and sessions."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from connectome_tl.cli.entry import app
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.errors import DataError
from connectome_tl.workflows.init.from_files import init_study, start_from
from connectome_tl.workflows.init.text import notes_on

N = 20
IDS = [f"NEO{i:03d}" for i in range(N)]
ATLAS = {"atlas": "aal90"}


def matrices(folder: Path, names: list[str]) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in names:
        counts = np.triu(rng.poisson(20, (90, 90)), 1)
        np.savetxt(folder / f"{name}_fbc.csv", counts + counts.T, "%d", ",")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """An export with three events per infant; two infants were not followed up."""
    rng = np.random.default_rng(1)
    sexes, scores = rng.choice(["M", "F"], N), rng.normal(92, 14, N).round()
    rows: list[dict[str, object]] = []
    for i in map(int, rng.permutation(N)):
        one = IDS[i]
        of = {"record_id": one}
        rows.append({**of, "redcap_event_name": "birth_arm_1", "sex": sexes[i], "weight_g": 900 + i})
        rows.append({**of, "redcap_event_name": "mri_arm_1", "pma_weeks": 38 + i / 10, "weight_g": 2500 + i})
        if i > 1:
            late = {"age": 24.0, "bayley_cognitive": scores[i], "weight_g": 9000 + i}
            rows.append({**of, "redcap_event_name": "month24_arm_1", **late})
    rows.append({"sex": "M, F: as in the birth record"})  # a remark below the table
    pd.DataFrame(rows).to_csv(tmp_path / "redcap.csv", index=False)
    matrices(tmp_path / "mats", IDS)
    return tmp_path


def test_events_of_an_export_become_one_row_per_subject(lab: Path) -> None:
    written = init_study(lab / "redcap.csv", lab / "mats", lab / "study", answers=ATLAS)
    cohort = read_cohort(written[0])
    export = pd.read_csv(lab / "redcap.csv").set_index(["record_id", "redcap_event_name"])

    def at(event: str, column: str) -> pd.Series:
        return export[column].unstack()[event].reindex([one.removeprefix("sub-") for one in cohort.ids])

    assert {one.removeprefix("sub-") for one in cohort.ids} == set(IDS)
    np.testing.assert_array_equal(cohort.targets["bayley_cognitive"], at("month24_arm_1", "bayley_cognitive"))
    np.testing.assert_array_equal(cohort.age, at("mri_arm_1", "pma_weeks"))
    assert (cohort.age_unit, cohort.age_reference) == ("weeks", "postmenstrual")
    assert list(cohort.covariates["sex"]) == list(at("birth_arm_1", "sex"))
    # A column of several events is that of the event of the participants, and this is stated.
    assert "the event that is used: weight_g (birth_arm_1)" in written[0].read_text()


def test_of_an_outcome_at_several_events_the_last_one_is_taken(lab: Path) -> None:
    export = pd.read_csv(lab / "redcap.csv")
    early = export["redcap_event_name"] == "mri_arm_1"
    export.loc[early, "bayley_cognitive"] = 1000.0
    export.to_csv(lab / "redcap.csv", index=False)
    cohort = read_cohort(init_study(lab / "redcap.csv", lab / "mats", lab / "study", answers=ATLAS)[0])
    assert np.nanmax(cohort.targets["bayley_cognitive"]) < 200


def test_an_age_at_the_event_of_an_outcome_is_not_taken_as_that_at_the_scan(lab: Path) -> None:
    export = pd.read_csv(lab / "redcap.csv").drop(columns="pma_weeks")
    export.to_csv(lab / "redcap.csv", index=False)
    seen, written = start_from([lab / "redcap.csv"], lab / "mats", lab / "a", answers=ATLAS, ask=None)
    assert read_cohort(written[0]).age_unit == ""
    assert any("--answer 'age=age'" in note for note in notes_on(seen))
    answers = {**ATLAS, "age": "age", "age_unit": "months"}
    assert read_cohort(init_study(lab / "redcap.csv", lab / "mats", lab / "b", answers=answers)[0]).age_unit == "months"


@pytest.mark.parametrize("session", ["session_id", "visit"])
def test_rows_of_sessions_with_their_own_matrices_are_scans(tmp_path: Path, session: str) -> None:
    label = "ses-" if session == "session_id" else ""
    pairs = [(f"sub-{i:02d}", f"{label}{s}") for i in range(12) for s in (1, 2)]
    table = pd.DataFrame(pairs, columns=["participant_id", session])
    table = table.assign(pma=np.linspace(37, 43, 24).round(1), bayley_motor=np.linspace(70, 120, 24).round())
    table.to_csv(tmp_path / "scans.tsv", sep="\t", index=False)
    matrices(tmp_path / "mats", ["_".join(pair) for pair in pairs])
    written = init_study(tmp_path / "scans.tsv", tmp_path / "mats", tmp_path / "study", answers=ATLAS)
    cohort = read_cohort(written[0])
    assert list(cohort.ids) == ["_".join(pair) for pair in pairs]
    np.testing.assert_array_equal(cohort.age, table["pma"])
    assert len(set(cohort.family)) == 12  # scans of a child stay together
    assert cohort.node_mask.any(axis=1).all()


def test_events_are_joined_for_images_too(lab: Path) -> None:
    (lab / "images").mkdir()
    rng = np.random.default_rng(0)
    for one in IDS:
        image = nib.Nifti1Image(rng.random((8, 8, 8)).astype(np.float32), np.diag([2.0, 2, 2, 1]))
        nib.save(image, lab / "images" / f"{one}_T2w.nii.gz")
    written = init_study(lab / "redcap.csv", lab / "images", lab / "study", images=True)
    cohort = read_cohort(written[0])
    assert cohort.n_subjects == N
    assert np.isfinite(cohort.targets["bayley_cognitive"]).sum() == N - 2


def test_several_rows_for_an_unknown_reason_are_refused_with_a_remedy_that_works(lab: Path) -> None:
    export = pd.read_csv(lab / "redcap.csv").rename(columns={"redcap_event_name": "arm"})
    export.to_csv(lab / "redcap.csv", index=False)
    with pytest.raises(DataError, match=r"several rows, and no column distinguishes them.*add a column `visit`"):
        init_study(lab / "redcap.csv", lab / "mats", lab / "study", answers=ATLAS)
    export.rename(columns={"arm": "visit"}).to_csv(lab / "redcap.csv", index=False)
    assert read_cohort(init_study(lab / "redcap.csv", lab / "mats", lab / "study", answers=ATLAS)[0]).n_subjects == N


def test_tables_are_joined_by_ids_in_columns_of_any_name(lab: Path) -> None:
    """Demography, and follow-up with other names, another order, an age of its own, and a column that is known."""
    rng = np.random.default_rng(2)
    birth = pd.DataFrame({"Study ID": IDS, "GA": rng.uniform(24, 32, N).round(1), "sex": rng.choice(["M", "F"], N)})
    birth.to_csv(lab / "birth.csv", index=False)
    later = pd.DataFrame({"nr": range(N), "child": [f"sub-{one}" for one in IDS], "age": 24, "sex": "unknown"})
    later = later.assign(bayley_language=rng.normal(90, 14, N).round()).sample(frac=1, random_state=0).iloc[:-3]
    later = pd.concat([later, pd.DataFrame({"nr": ["n = 17", "corrected"]})])  # remarks below the table
    later.to_csv(lab / "later.csv", sep=";", index=False)
    written = init_study([lab / "birth.csv", lab / "later.csv"], lab / "mats", lab / "study", answers=ATLAS)
    assert "{file: ../later.csv, id: child, columns: [nr, age, bayley_language]}" in written[0].read_text()
    cohort = read_cohort(written[0])
    known = later.dropna(subset="child").set_index("child")["bayley_language"].reindex([f"sub-{one}" for one in IDS])
    np.testing.assert_array_equal(cohort.targets["bayley_language"], known)
    assert list(cohort.covariates["sex"]) == list(birth["sex"])
    assert cohort.age_unit == ""


def test_a_further_table_may_have_events_and_one_without_the_ids_is_refused(lab: Path) -> None:
    pd.DataFrame({"id": IDS, "sex": ["M", "F"] * (N // 2)}).to_csv(lab / "birth.csv", index=False)
    written = init_study([lab / "birth.csv", lab / "redcap.csv"], lab / "mats", lab / "study", answers=ATLAS)
    cohort = read_cohort(written[0])
    assert np.isfinite(cohort.targets["bayley_cognitive"]).sum() == N - 2
    assert cohort.age_reference == "postmenstrual"
    pd.DataFrame({"id": ["x", "y"], "bayley_motor": [90, 100]}).to_csv(lab / "strangers.csv", index=False)
    with pytest.raises(DataError, match=r"no column of the further table holds the ids.*expected ids such as NEO000"):
        init_study([lab / "birth.csv", lab / "strangers.csv"], lab / "mats", lab / "other", answers=ATLAS)
    assert not (lab / "other").exists()


def test_several_tables_are_given_on_the_command_line(lab: Path) -> None:
    pd.DataFrame({"id": IDS, "sex": ["M", "F"] * (N // 2)}).to_csv(lab / "birth.csv", index=False)
    command = ["init", str(lab / "s"), "--from", str(lab / "birth.csv"), "--from", str(lab / "redcap.csv")]
    done = CliRunner().invoke(app, [*command, "--matrices", str(lab / "mats"), "--answer", "atlas=aal90"])
    assert done.exit_code == 0, done.output
    assert (lab / "s" / "study.yaml").is_file()


def test_labels_of_sessions_may_differ_between_subjects(tmp_path: Path) -> None:
    """As in the dHCP; of a subject with two sessions, the table has to tell which row is which."""
    sessions = {f"CC{i:03d}": 1000 + 7 * i for i in range(12)}
    table = pd.DataFrame({"participant_id": list(sessions), "bayley_motor": np.linspace(70, 120, 12).round()})
    table.to_csv(tmp_path / "children.tsv", sep="\t", index=False)
    matrices(tmp_path / "mats", [f"sub-{one}_ses-{label} [conn]" for one, label in sessions.items()])
    written = init_study(tmp_path / "children.tsv", tmp_path / "mats", tmp_path / "study", answers=ATLAS)
    assert "../mats/sub-{id}_ses-* [conn]_fbc.csv" in written[0].read_text()
    assert read_cohort(written[0]).node_mask.any(axis=1).all()
    second = tmp_path / "mats" / "sub-CC003_ses-9 [conn]_fbc.csv"
    second.write_bytes((tmp_path / "mats" / "sub-CC004_ses-1028 [conn]_fbc.csv").read_bytes())
    with pytest.raises(DataError, match=r"several sessions; got several files of CC003.*a column `session_id`"):
        init_study(tmp_path / "children.tsv", tmp_path / "mats", tmp_path / "other", answers=ATLAS)
    rows = [(one, label) for one, label in [*sessions.items(), ("CC003", 9)]]
    scans = pd.DataFrame(rows, columns=["participant_id", "session_id"]).merge(table, on="participant_id")
    scans.to_csv(tmp_path / "scans.tsv", sep="\t", index=False)
    cohort = read_cohort(init_study(tmp_path / "scans.tsv", tmp_path / "mats", tmp_path / "other", answers=ATLAS)[0])
    assert cohort.n_subjects == 13
    assert cohort.node_mask.any(axis=1).all()


def test_repeated_instruments_are_left_out_where_an_event_has_some(lab: Path) -> None:
    export = pd.read_csv(lab / "redcap.csv")
    export.insert(2, "redcap_repeat_instrument", "")
    scans = pd.DataFrame({"record_id": IDS, "redcap_event_name": "mri_arm_1", "redcap_repeat_instrument": "mri"})
    pd.concat([export, scans]).sort_values("record_id", kind="stable").to_csv(lab / "redcap.csv", index=False)
    written = init_study(lab / "redcap.csv", lab / "mats", lab / "study", answers=ATLAS)
    assert "redcap_event_name == 'mri_arm_1' and redcap_repeat_instrument == ''\"" in written[0].read_text()
    cohort = read_cohort(written[0])
    assert cohort.n_subjects == N
    assert np.isfinite(cohort.age).all()


def test_the_ids_of_sessions_are_those_in_the_names_of_files(tmp_path: Path) -> None:
    """Where labels of sessions are unique, each repeated column identifies a row together with them."""
    rows = [(f"CC{i:03d}", 7000 + 10 * i + k, f"{60 + 7 * i + k}") for i in range(10) for k in range(1 + i % 2)]
    table = pd.DataFrame(rows, columns=["participant_id", "session_id", "bayley_motor"])
    table = table.assign(birth_weight=[900, 901, 902] * 5)
    table[["birth_weight", "participant_id", "session_id", "bayley_motor"]].to_csv(tmp_path / "t.csv", index=False)
    matrices(tmp_path / "mats", [f"sub-{child}_ses-{session}" for child, session, _ in rows])
    written = init_study(tmp_path / "t.csv", tmp_path / "mats", tmp_path / "study", answers=ATLAS)
    assert "id: [participant_id, session_id]" in written[0].read_text()
    assert read_cohort(written[0]).n_subjects == 15


def test_events_and_tables_are_joined_where_one_file_has_all_matrices(lab: Path) -> None:
    stack = np.stack([np.loadtxt(lab / "mats" / f"{one}_fbc.csv", delimiter=",") for one in IDS])
    np.save(lab / "all.npy", stack)
    (lab / "order.txt").write_text("\n".join(IDS) + "\n")
    pd.DataFrame({"id": IDS, "bayley_motor": range(80, 80 + N)}).to_csv(lab / "motor.csv", index=False)
    tables = [lab / "redcap.csv", lab / "motor.csv"]
    written = init_study(tables, lab / "all.npy", lab / "study", answers={**ATLAS, "rows": "order.txt"})
    cohort = read_cohort(written[0])
    assert cohort.n_subjects == N
    numbers = [int(one.removeprefix("sub-").removeprefix("NEO")) for one in cohort.ids]
    np.testing.assert_array_equal(cohort.targets["bayley_motor"], 80 + np.array(numbers))
    assert np.isfinite(cohort.targets["bayley_cognitive"]).sum() == N - 2
