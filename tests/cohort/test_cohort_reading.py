"""A cohort is read correctly, or refused with a list of all problems."""

from __future__ import annotations

import re
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.io import savemat

from connectome_tl.atlas import load_atlas
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.connectome.connectome import upper_indices
from connectome_tl.errors import DataError, MissingInputError, UsageError

from .conftest import OnDisk, symmetric, write_named


def test_every_column_lands_where_it_belongs(on_disk: OnDisk) -> None:
    cohort = on_disk.read()
    assert cohort.ids == tuple(on_disk.table["participant_id"])
    assert cohort.regions == load_atlas("aal90").names
    assert cohort.weights.dtype == np.float32
    for i, subject in enumerate(cohort.ids):
        np.testing.assert_allclose(cohort.weights[i, 0], np.log1p(on_disk.matrices[subject]), rtol=1e-6)
    np.testing.assert_allclose(cohort.age[:2], [40.5, 41.0])
    assert np.isnan(cohort.age[5])
    assert (cohort.age_unit, cohort.age_reference) == ("weeks", "postmenstrual")
    assert cohort.covariates["ga"].iloc[0] == pytest.approx(29 + 4 / 7)
    assert cohort.covariates["sex"].isna().tolist() == [False] * 5 + [True]
    assert cohort.status["cognitive"].tolist() == ["observed"] * 3 + ["lost", "died", "observed"]
    np.testing.assert_array_equal(cohort.targets["cognitive"], [0, 1, 1, np.nan, 1, 0])
    np.testing.assert_array_equal(cohort.scores["cog"], [101, 84, 77, np.nan, np.nan, 95])
    assert cohort.family.tolist() == ["a", "a", "", "b", "", "c"]
    assert [step.n_left for step in cohort.flow] == [6, 6]


def test_written_and_read_again_is_the_same_cohort(on_disk: OnDisk, tmp_path: Path) -> None:
    on_disk.names = on_disk.names[:-2]
    on_disk.matrices = {s: m[:-2, :-2] for s, m in on_disk.matrices.items()}
    cohort = on_disk.read()
    assert not cohort.node_mask[:, -2:].any()
    again = read_cohort(write_cohort(cohort, tmp_path / "again"))
    assert_same(cohort, again)
    twice = write_cohort(again, tmp_path / "twice")
    for name in ("cohort.yaml", "participants.tsv", "matrices.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (twice.parent / name).read_bytes()


def assert_same(one: Cohort, other: Cohort) -> None:
    for field in fields(Cohort):
        if field.name in ("flow", "sources", "notes", "volumes"):
            continue
        if field.name == "transforms":  # the edges are written unchanged, and reading does not change them
            assert set(other.transforms) <= {"none"}
            continue
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, pd.DataFrame):
            pd.testing.assert_frame_equal(a, b, check_names=False)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def test_a_cohort_without_scores_is_written_as_its_classes(on_disk: OnDisk, tmp_path: Path) -> None:
    from dataclasses import replace

    cohort = replace(on_disk.read(), scores=None)
    again = read_cohort(write_cohort(cohort, tmp_path / "again"))
    np.testing.assert_array_equal(cohort.targets["cognitive"], again.targets["cognitive"])
    assert again.status.equals(cohort.status)


def test_a_region_the_file_lacks_is_masked_and_listed_not_zero(on_disk: OnDisk) -> None:
    keep = [i for i in range(90) if i != 10]
    names = tuple(on_disk.names[i] for i in keep)
    path = on_disk.write()
    write_named(on_disk.folder / "sub-03.tsv", on_disk.matrices["sub-03"][np.ix_(keep, keep)], names)
    cohort = read_cohort(path)
    assert cohort.node_mask.sum() == 6 * 90 - 1
    assert not cohort.node_mask[2, 10]
    assert cohort.weights[2, 0, 10].sum() == 0
    assert any("IFGoperc.L is missing in 1 subject" in note for note in cohort.notes)


def test_rows_are_matched_by_name_whatever_their_order(on_disk: OnDisk) -> None:
    straight = on_disk.read()
    turn = np.random.default_rng(0).permutation(90)
    path = on_disk.write()
    write_named(
        on_disk.folder / "sub-02.tsv",
        on_disk.matrices["sub-02"][np.ix_(turn, turn)],
        tuple(on_disk.names[i] for i in turn),
    )
    np.testing.assert_array_equal(read_cohort(path).weights, straight.weights)


def test_other_names_of_the_regions_are_understood(on_disk: OnDisk) -> None:
    straight = on_disk.read()
    on_disk.names = tuple(region.aliases[0] for region in load_atlas("aal90").regions)
    np.testing.assert_array_equal(on_disk.read().weights, straight.weights)


def test_adult_and_neonatal_cohorts_line_up_by_name(on_disk: OnDisk) -> None:
    adult = on_disk.read()
    on_disk.settings["connectomes"]["atlas"] = "unc_aal90"
    neonate = on_disk.read()
    assert neonate.regions == load_atlas("unc_aal90").names != adult.regions
    order = load_atlas("aal90").order_of(neonate.regions)
    np.testing.assert_array_equal(neonate.weights, adult.weights[:, :, order[:, None], order[None, :]])


SPOILED = {
    "NaN": lambda d: d.matrices["sub-03"].__setitem__((3, 5), np.nan),
    "asymmetric": lambda d: d.matrices["sub-03"].__setitem__((3, 5), 99.0),
    "negative under log1p": lambda d: d.matrices.update({"sub-03": -d.matrices["sub-03"]}),
    "text as age": lambda d: d.table["pma"].__setitem__(2, "about 40"),
    "scanned before birth": lambda d: d.table["pma"].__setitem__(2, "27.5"),
    "impossible gestational age": lambda d: d.table["ga"].__setitem__(2, "285"),
    "score out of range": lambda d: d.table["cog"].__setitem__(2, "1010"),
    "status against score": lambda d: d.table["cog_status"].__setitem__(2, "lost"),
    "unknown status": lambda d: d.table["cog_status"].__setitem__(2, "gone fishing"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_each_fault_is_named_with_its_subject(on_disk: OnDisk, name: str) -> None:
    SPOILED[name](on_disk)
    on_disk.settings["outcomes"][0]["name"] = "bayley_cognitive"
    problems = on_disk.problems()
    assert len(problems) == 1, problems
    assert "sub-03" in problems[0]


def test_everything_wrong_is_listed_at_once(on_disk: OnDisk) -> None:
    """Problems of the table, the matrices and their match, in one error."""
    on_disk.matrices["sub-01"][2, 3] = np.nan
    on_disk.matrices["sub-02"][2, 3] += 5
    on_disk.matrices["sub-07"] = symmetric(90, 7)
    del on_disk.matrices["sub-06"]
    on_disk.table["pma"][0] = "old"
    on_disk.table["cog"][1] = "low"
    on_disk.settings["site"] = "scaner"
    problems = "\n".join(on_disk.problems())
    for part in ("NaN", "not symmetric", "sub-07", "sub-06", "'old'", "'low'", "'scaner'"):
        assert part in problems, part


def test_a_death_without_a_rule_is_refused(on_disk: OnDisk) -> None:
    del on_disk.settings["outcomes"][0]["status"]["died"]
    assert "no rule says what 'died' means" in on_disk.problems()[0]
    del on_disk.settings["outcomes"][0]["status"]
    assert "no rule says what 'died' means" in on_disk.problems()[0]
    on_disk.table.pop("cog_status")
    on_disk.table["cog"][4] = "died"
    assert "no rule says what 'died' means" in on_disk.problems()[0]


@pytest.mark.parametrize(("rule", "target"), [("missing", np.nan), ("positive", 1.0), ("negative", 0.0)])
def test_a_death_counts_as_the_rule_says(on_disk: OnDisk, rule: str, target: float) -> None:
    on_disk.settings["outcomes"][0]["status"]["died"] = rule
    cohort = on_disk.read()
    np.testing.assert_array_equal(cohort.targets["cognitive"].iloc[4], target)
    assert cohort.status["cognitive"].iloc[4] == "died"


def test_a_binary_outcome_with_text_is_refused_until_its_levels_are_named(on_disk: OnDisk) -> None:
    on_disk.table["dx"] = ["control", "patient"] * 3
    on_disk.settings["outcomes"] = [{"name": "dx", "column": "dx", "kind": "binary"}]
    on_disk.table.pop("cog_status")
    assert any("'patient'" in problem for problem in on_disk.problems())
    on_disk.settings["outcomes"][0]["levels"] = ["control", "patient"]
    assert on_disk.read().targets["dx"].tolist() == [0, 1] * 3


def test_an_age_without_unit_is_answered_with_a_question(on_disk: OnDisk) -> None:
    del on_disk.settings["age"]["unit"]
    assert "weeks or years?" in on_disk.problems(UsageError)[0]
    on_disk.settings["age"] = "pma"
    assert "weeks or years?" in on_disk.problems(UsageError)[0]
    del on_disk.settings["age"]
    del on_disk.settings["covariates"][0]["unit"]
    assert "weeks or years?" in on_disk.problems(UsageError)[0]


def test_weeks_declared_as_years_are_refused(on_disk: OnDisk) -> None:
    on_disk.settings["age"]["unit"] = "years"
    assert any("is not possible" in problem for problem in on_disk.problems())


def test_birth_weights_in_kg_and_g_are_distinguished(on_disk: OnDisk) -> None:
    on_disk.settings["covariates"] = [{"column": "birth_weight"}]
    on_disk.table["birth_weight"] = ["980", "1250", "760", "1100", "n/a", "2400"]
    assert "birth_weight: read as g" in on_disk.read().notes
    on_disk.table["birth_weight"][1] = "1.25"
    assert "kg or g?" in on_disk.problems()[0]
    on_disk.settings["covariates"][0]["unit"] = "g"
    problems = on_disk.problems()
    assert len(problems) == 1
    assert "sub-02" in problems[0]


def test_a_birth_weight_whose_name_holds_the_unit_needs_no_note(on_disk: OnDisk) -> None:
    on_disk.table["birthweight_g"] = ["980", "1250", "760", "1100", "n/a", "2400"]
    on_disk.settings["covariates"] = [{"column": "birthweight_g"}]
    assert not any("read as g" in note for note in on_disk.read().notes)
    on_disk.table["birthweight_g"][1] = "1.25"
    assert "is not possible" in on_disk.problems()[0]


def test_age_since_birth_becomes_postmenstrual_with_gestational_age(on_disk: OnDisk) -> None:
    on_disk.table["pma"] = ["10", "11", "12", "9", "13", "n/a"]
    on_disk.settings["age"] = {"column": "pma", "unit": "weeks", "reference": "birth", "to": "postmenstrual"}
    cohort = on_disk.read()
    np.testing.assert_allclose(cohort.age[:5], [29 + 4 / 7 + 10, 41, 40.5, 40, 40])
    assert cohort.age_reference == "postmenstrual"
    del on_disk.settings["gestational_age"]
    assert "gestational_age" in on_disk.problems(UsageError)[0]


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["sub-01", "sub-02", "sub-02", "sub-04", "sub-05", "sub-06"], "occurs twice"),
        (["sub-1", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "written differently"),
        (["50054.0", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "spreadsheet"),
        (["1.2E+05", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "spreadsheet"),
        (["../../x", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "file name"),
        (["", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "no subject id"),
        (["sub-01", "sub-1", "sub-03", "sub-04", "sub-05", "sub-06"], "zero padding"),
        (["sub-O1", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], r"is 'sub-01' there\. .*O and 0"),
        (["sub-\u041e1", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "\u041e is cyrillic capital letter o"),
        (["sub-\uff101", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "\uff10 is fullwidth digit zero"),
        (["sub-\u06601", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "\u0660 is arabic-indic digit zero"),
        (["sub\u201301", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "\u2013 is en dash"),
        (["sub_01", "sub-02", "sub-03", "sub-04", "sub-05", "sub-06"], "sub_01.*is 'sub-01' there"),
        (["subO1", "subo2", "sub-03", "sub-04", "sub-05", "sub-06"], "in 2 rows.*subO1: is 'sub-01' there"),
        (["sub-01", "sub-\uff101", "sub-03", "sub-04", "sub-05", "sub-06"], "characters that look alike"),
        (["sub-A1O", "sub-\u0410\u0031\u0030", "sub-03", "sub-04", "sub-05", "sub-06"], "sub-A1O and sub-\u041010"),
    ],
)
def test_spoiled_ids_are_named(on_disk: OnDisk, ids: list[str], said: str) -> None:
    on_disk.table["participant_id"] = ids
    assert any(re.search(said, problem) for problem in on_disk.problems())


@pytest.mark.parametrize("odd", ["sub-\u200b01", "sub\u00ad-01", "sub-01\u00a0", "\u2060sub-01"])
def test_characters_that_are_not_seen_make_no_other_id(on_disk: OnDisk, odd: str) -> None:
    on_disk.table["participant_id"] = [odd, *(f"sub-0{i}" for i in range(2, 7))]
    assert on_disk.read().ids[0] == "sub-01"


def test_ids_that_separate_other_numbers_are_different_subjects(on_disk: OnDisk) -> None:
    on_disk.table["participant_id"] = ["1-12", *(f"sub-0{i}" for i in range(2, 7))]
    on_disk.matrices["11-2"] = on_disk.matrices.pop("sub-01")
    on_disk.settings["connectomes"]["unmatched"] = "drop"
    assert on_disk.read().ids == tuple(f"sub-0{i}" for i in range(2, 7))


def test_rows_without_an_id_are_one_problem(on_disk: OnDisk) -> None:
    on_disk.table["participant_id"] = ["sub-01", "", "sub-03", "", "sub-05", "sub-06"]
    on_disk.settings["connectomes"]["unmatched"] = "drop"
    (problem,) = on_disk.problems()
    assert "rows 2, 4 have no subject id" in problem


def test_ids_match_with_and_without_the_bids_prefix(on_disk: OnDisk) -> None:
    on_disk.settings["connectomes"]["files"] = "sub-{id}.tsv"
    assert on_disk.read().ids[0] == "sub-01"


def test_unmatched_rows_and_files_may_be_dropped_and_are_counted(on_disk: OnDisk) -> None:
    on_disk.matrices["sub-99"] = on_disk.matrices.pop("sub-02")
    on_disk.settings["connectomes"]["unmatched"] = "drop"
    cohort = on_disk.read()
    assert "sub-02" not in cohort.ids
    assert cohort.flow[-1].n_excluded == 1
    assert any("sub-99" in note for note in cohort.notes)


def test_select_keeps_rows_and_leaves_other_files_alone(on_disk: OnDisk) -> None:
    on_disk.settings["select"] = "pma >= 40 and sex == 'F'"
    cohort = on_disk.read()
    assert cohort.ids == ("sub-01", "sub-04", "sub-05")
    assert cohort.flow[1].n_excluded == 3


def test_a_missing_table_and_a_missing_settings_file_say_so(on_disk: OnDisk) -> None:
    path = on_disk.write()
    (on_disk.folder / "participants.tsv").unlink()
    with pytest.raises(MissingInputError, match=r"participants\.tsv"):
        read_cohort(path)
    with pytest.raises(MissingInputError, match="settings"):
        read_cohort(on_disk.folder / "none.yaml")


def stack(on_disk: OnDisk, *, upper: bool, dtype: type = np.float32, **arrays: np.ndarray) -> None:
    first, second = upper_indices(90)
    full = np.stack(list(on_disk.matrices.values())).astype(dtype)
    np.savez(on_disk.folder / "all.npz", w=full[:, first, second] if upper else full, **arrays)
    on_disk.settings["connectomes"] = {
        "stack": "all.npz",
        "rows": "participants.tsv",
        "layout": "upper" if upper else "full",
        "atlas": "aal90",
        "measure": "count",
        "transform": "log1p",
    }


@pytest.mark.parametrize("upper", [True, False])
def test_a_stack_and_single_files_give_the_same_cohort(on_disk: OnDisk, upper: bool) -> None:
    single = on_disk.read()
    stack(on_disk, upper=upper, dtype=np.float64)
    np.testing.assert_array_equal(on_disk.read().weights, single.weights)


def test_conns_file_of_all_subjects_is_a_stack(on_disk: OnDisk) -> None:
    turn = np.random.default_rng(2).permutation(90)
    z = np.stack([matrix[np.ix_(turn, turn)] for matrix in on_disk.matrices.values()], axis=2)
    z[np.arange(90), np.arange(90)] = np.nan
    z = np.concatenate([z, np.ones((90, 2, 6))], axis=1)
    names = np.array([on_disk.names[i] for i in turn], dtype=object)
    savemat(on_disk.folder / "resultsROI_Condition001.mat", {"Z": z, "names": names})
    spec = {"stack": "resultsROI_Condition001.mat", "rows": "participants.tsv", "atlas": "aal90", "measure": "z"}
    on_disk.settings["connectomes"] = spec
    np.testing.assert_allclose(on_disk.read().weights[2, 0], on_disk.matrices["sub-03"], rtol=1e-6)


def test_stack_faults_are_listed_by_subject(on_disk: OnDisk) -> None:
    on_disk.matrices["sub-02"][1, 2] = np.inf
    on_disk.matrices["sub-04"][1, 2] += 3
    stack(on_disk, upper=False)
    problems = on_disk.problems()
    assert len(problems) == 2
    assert "sub-02" in problems[0]
    assert "sub-04" in problems[1]


def test_a_stack_with_other_rows_than_its_table_is_refused(on_disk: OnDisk) -> None:
    stack(on_disk, upper=True)
    (on_disk.folder / "rows.tsv").write_text("participant_id\nsub-01\nsub-02\n")
    on_disk.settings["connectomes"]["rows"] = "rows.tsv"
    assert any("row table differ" in problem for problem in on_disk.problems())
    del on_disk.settings["connectomes"]["rows"]
    assert any("not assigned to subjects" in problem for problem in on_disk.problems())


def test_a_stack_of_another_atlas_is_refused(on_disk: OnDisk) -> None:
    stack(on_disk, upper=True)
    on_disk.settings["connectomes"]["atlas"] = "aal116"
    assert any("differ in size" in problem for problem in on_disk.problems())


def test_cerebrum_drops_the_cerebellum(on_disk: OnDisk) -> None:
    names = load_atlas("aal116").names
    on_disk.names = names
    on_disk.matrices = {s: symmetric(116, i) for i, s in enumerate(on_disk.matrices)}
    on_disk.settings["connectomes"] |= {"atlas": "aal116", "regions": "cerebrum"}
    cohort = on_disk.read()
    assert cohort.regions == names[:90]
    np.testing.assert_allclose(cohort.weights[0, 0], np.log1p(on_disk.matrices["sub-01"][:90, :90]), rtol=1e-6)


@pytest.mark.parametrize("regions", ["cerebrum", ["Vermis_10", "PreCG.L", "ANG.R"]])
def test_regions_are_chosen_from_a_stack_as_from_files(on_disk: OnDisk, regions: str | list[str]) -> None:
    on_disk.names = load_atlas("aal116").names
    on_disk.matrices = {s: symmetric(116, i) for i, s in enumerate(on_disk.matrices)}
    on_disk.settings["connectomes"] |= {"atlas": "aal116", "regions": regions}
    single = on_disk.read()
    spec = on_disk.settings["connectomes"]
    first, second = upper_indices(116)
    np.savez(on_disk.folder / "all.npz", w=np.stack(list(on_disk.matrices.values()))[:, first, second])
    on_disk.settings["connectomes"] = {k: v for k, v in spec.items() if k != "files"} | {
        "stack": "all.npz",
        "rows": "participants.tsv",
        "layout": "upper",
    }
    again = on_disk.read()
    assert again.regions == single.regions
    np.testing.assert_array_equal(again.weights, single.weights)


def test_fisher_z_is_artanh_and_refuses_what_is_no_correlation(on_disk: OnDisk) -> None:
    for matrix in on_disk.matrices.values():
        matrix[:] = np.tanh(matrix / 10)
        np.fill_diagonal(matrix, 1.0)
    on_disk.settings["connectomes"]["transform"] = "fisher_z"
    cohort = on_disk.read()
    expected = np.arctanh(np.triu(on_disk.matrices["sub-01"], 1))
    np.testing.assert_allclose(np.triu(cohort.weights[0, 0], 1), expected, rtol=2e-5)
    assert (np.diagonal(cohort.weights[:, 0], axis1=1, axis2=2) == 0).all()
    on_disk.matrices["sub-05"][3, 4] = on_disk.matrices["sub-05"][4, 3] = 1.0
    assert "sub-05" in on_disk.problems()[0]


def near_is_strong(order: np.ndarray, subject: int = 0) -> np.ndarray:
    at = load_atlas("unc_aal90").coordinates[order]
    distance = np.linalg.norm(at[:, None] - at[None], axis=-1)
    matrix = np.exp(-distance / 20) * (1 + subject / 100)
    np.fill_diagonal(matrix, 0)
    return matrix


def test_unnamed_rows_in_label_order_are_noticed(on_disk: OnDisk) -> None:
    """The neonatal table is not in label order; a stack straight from a tool is."""
    atlas = load_atlas("unc_aal90")
    on_disk.matrices = {s: near_is_strong(atlas.label_order, i) for i, s in enumerate(on_disk.matrices)}
    stack(on_disk, upper=True)
    on_disk.settings["connectomes"]["atlas"] = "unc_aal90"
    assert "order: label" in on_disk.problems()[0]
    on_disk.settings["connectomes"]["order"] = "label"
    cohort = on_disk.read()
    np.testing.assert_allclose(cohort.weights[0, 0], np.log1p(near_is_strong(np.arange(90))), rtol=1e-6)
    on_disk.matrices = {s: near_is_strong(np.arange(90), i) for i, s in enumerate(on_disk.matrices)}
    stack(on_disk, upper=True)
    on_disk.settings["connectomes"]["atlas"] = "unc_aal90"
    np.testing.assert_array_equal(on_disk.read().weights, cohort.weights)


def test_masks_and_region_features_come_with_the_stack(on_disk: OnDisk) -> None:
    mask = np.ones((6, 90), dtype=bool)
    mask[1, 7] = False
    features = np.random.default_rng(0).normal(size=(6, 90, 2))
    stack(on_disk, upper=True, node_mask=mask, region_features=features)
    on_disk.settings["region_features"] = {"stack": "all.npz", "names": ["thickness", "volume"]}
    cohort = on_disk.read()
    np.testing.assert_array_equal(cohort.node_mask, mask)
    assert (cohort.weights[1, 0, 7] == 0).all()
    np.testing.assert_array_equal(cohort.region_features, features)
    on_disk.settings["region_features"]["names"] = ["thickness"]
    assert any("do not match the connectomes" in problem for problem in on_disk.problems())


def test_region_features_of_single_files_are_matched_by_name(on_disk: OnDisk) -> None:
    for i, subject in enumerate(on_disk.table["participant_id"]):
        rows = [f"{name}\t{i + k / 100}" for k, name in reversed(list(enumerate(on_disk.names)))]
        (on_disk.folder / f"{subject}_thickness.tsv").write_text("\n".join(["name\tthickness", *rows[:-1]]) + "\n")
    on_disk.settings["region_features"] = {"files": "{id}_thickness.tsv", "names": ["thickness"]}
    cohort = on_disk.read()
    np.testing.assert_allclose(cohort.region_features[3, 1:, 0], 3 + np.arange(1, 90) / 100)
    assert np.isnan(cohort.region_features[:, 0]).all()


def test_files_of_subjects_that_select_leaves_out_are_no_strangers(on_disk: OnDisk) -> None:
    (on_disk.folder / "volumes").mkdir()
    for subject in on_disk.table["participant_id"]:
        rows = [f"{name}\t1.5" for name in on_disk.names]
        (on_disk.folder / f"{subject}_thickness.tsv").write_text("\n".join(["name\tthickness", *rows]) + "\n")
        (on_disk.folder / "volumes" / f"{subject}.nii.gz").write_bytes(b"")
    on_disk.settings["region_features"] = {"files": "{id}_thickness.tsv", "names": ["thickness"]}
    on_disk.settings["volumes"] = {"files": "volumes/{id}.nii.gz"}
    on_disk.settings["select"] = "sex == 'F'"
    cohort = on_disk.read()
    assert 0 < cohort.n_subjects < 6
    assert len(cohort.volumes) == cohort.n_subjects
    assert cohort.region_features is not None
    assert np.isfinite(cohort.region_features).all()


def test_a_cohort_may_have_no_connectomes(on_disk: OnDisk) -> None:
    del on_disk.settings["connectomes"]
    cohort = on_disk.read()
    assert (cohort.n_subjects, cohort.n_regions, cohort.measures) == (6, 0, ())


def test_several_measures_come_from_several_files(on_disk: OnDisk) -> None:
    path = on_disk.write()
    for subject in on_disk.matrices:
        (on_disk.folder / f"{subject}.tsv").rename(on_disk.folder / f"{subject}_count.tsv")
        write_named(on_disk.folder / f"{subject}_length.tsv", 2 * on_disk.matrices[subject], on_disk.names)
    on_disk.settings["connectomes"] |= {
        "files": "{id}_{measure}.tsv",
        "measure": ["count", "length"],
        "transform": "none",
    }
    path.write_text(yaml.safe_dump(on_disk.settings))
    cohort = read_cohort(path)
    assert cohort.weights.shape == (6, 2, 90, 90)
    np.testing.assert_allclose(cohort.weights[:, 1], 2 * cohort.weights[:, 0])


@pytest.mark.data
def test_abide_is_read_in_about_a_second(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "abide_fc_aal116"
    settings = {
        "participants": str(folder / "participants.tsv"),
        "id": "sub",
        "age": {"column": "age", "unit": "years"},
        "site": "site",
        "outcomes": [{"name": "asd", "column": "dx", "kind": "binary", "levels": ["control", "ASD"]}],
        "connectomes": {
            "stack": str(folder / "fc_upper_f16.npz"),
            "key": "fc",
            "rows": str(folder / "participants.tsv"),
            "layout": "upper",
            "atlas": "aal116",
            "transform": "fisher_z",
        },
    }
    (tmp_path / "cohort.yaml").write_text(yaml.safe_dump(settings))
    started = time.process_time()
    cohort = read_cohort(tmp_path / "cohort.yaml")
    assert time.process_time() - started < 5  # 0.3 s on an idle machine; the limit allows for a busy one
    assert cohort.weights.shape == (989, 1, 116, 116)
    assert cohort.targets["asd"].sum() == 455
    with np.load(folder / "fc_upper_f16.npz") as stored:
        first, second = upper_indices(116)
        expected = np.arctanh(stored["fc"][17].astype(float))
    np.testing.assert_allclose(cohort.weights[17, 0, first, second], expected, rtol=1e-6, atol=1e-7)


def test_unnamed_files_in_label_order_are_noticed_too(on_disk: OnDisk) -> None:
    atlas = load_atlas("unc_aal90")
    path = on_disk.write()
    for i, subject in enumerate(on_disk.matrices):
        np.savetxt(on_disk.folder / f"{subject}.tsv", near_is_strong(atlas.label_order, i), delimiter="\t")
    on_disk.settings["connectomes"]["atlas"] = "unc_aal90"
    path.write_text(yaml.safe_dump(on_disk.settings))
    with pytest.raises(DataError, match="order: label"):
        read_cohort(path)
    on_disk.settings["connectomes"]["order"] = "label"
    path.write_text(yaml.safe_dump(on_disk.settings))
    expected = np.log1p(near_is_strong(np.arange(90), 3))
    np.testing.assert_allclose(read_cohort(path).weights[3, 0], expected, rtol=1e-6)


def test_a_cohort_too_large_for_memory_lies_on_disk_and_is_the_same(
    on_disk: OnDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = on_disk.read()
    monkeypatch.setattr("connectome_tl.cohort.arrays.matrices.IN_MEMORY", 1000)
    large = on_disk.read()
    assert isinstance(large.weights, np.memmap)
    np.testing.assert_array_equal(large.weights, straight.weights)
    assert large.rows_hash(large.ids) == straight.rows_hash(straight.ids)


def test_a_covariate_that_is_known_only_at_follow_up_is_refused(on_disk: OnDisk) -> None:
    on_disk.table["walks_alone"] = ["1", "0", "1", "1", "0", "1"]
    on_disk.settings["covariates"].append({"column": "walks_alone", "available_at": "follow-up"})
    for role in ("clinical", "nuisance", "both"):
        on_disk.settings["covariates"][-1]["role"] = role
        assert any("cannot predict the follow-up" in problem for problem in on_disk.problems(UsageError))


@pytest.mark.parametrize("eaten", ["2-Sep", "Mar-05", "1.5E+05", "1,5E+05", "12345.0", "#NAME?", "#DIV/0!"])
def test_ids_that_a_spreadsheet_has_eaten_are_named(on_disk: OnDisk, eaten: str) -> None:
    on_disk.table["participant_id"][2] = eaten
    assert any(repr(eaten) in problem for problem in on_disk.problems())


def test_a_column_may_be_covariate_and_outcome_and_is_marked(on_disk: OnDisk) -> None:
    on_disk.settings["covariates"].append({"column": "cog", "unit": "points"})
    cohort = on_disk.read()
    assert cohort.own_covariates(["cognitive"]) == ("cog",)
    assert cohort.own_covariates([]) == ()
    assert any(note.startswith("cog: covariate and outcome") for note in cohort.notes)
    on_disk.settings["covariates"][-1]["role"] = "nuisance"
    assert on_disk.read().own_covariates(["cognitive"]) == ()


def test_files_under_another_pattern_are_one_line_that_shows_both_names(on_disk: OnDisk) -> None:
    on_disk.settings["connectomes"]["files"] = "{id}_sc.tsv"
    problems = on_disk.problems()
    assert len(problems) == 1
    assert all(part in problems[0] for part in ("6 of 6 rows", "sub-01_sc.tsv", "no such file; found", "sub-01.tsv"))
    on_disk.settings["connectomes"]["files"] = "{id}*.tsv"
    assert "are adjacent" in on_disk.problems(UsageError)[0]
    on_disk.settings["connectomes"]["files"] = "elsewhere/{id}.tsv"
    problems = on_disk.problems(MissingInputError)
    assert len(problems) == 1
    assert "elsewhere" in problems[0]
    on_disk.settings["connectomes"]["files"] = "{id}.tsv"
    assert on_disk.read().n_subjects == 6


def test_one_fault_of_all_matrices_is_one_line(on_disk: OnDisk) -> None:
    for matrix in on_disk.matrices.values():
        matrix[3, 5] = np.nan
    problems = on_disk.problems()
    assert len(problems) == 1
    assert all(subject in problems[0] for subject in on_disk.matrices)


def test_a_score_of_a_dead_child_needs_no_column_of_its_own(on_disk: OnDisk) -> None:
    on_disk.table.pop("cog_status")
    on_disk.table["cog"][4] = "Died"
    del on_disk.settings["outcomes"][0]["status"]
    remedy = on_disk.problems()[0].split("Set status: ")[1]
    assert remedy.startswith("{column: cog, died: missing")
    on_disk.settings["outcomes"][0]["status"] = {"column": "cog", "died": "missing"}
    assert on_disk.read().status["cognitive"].tolist()[4] == "died"
