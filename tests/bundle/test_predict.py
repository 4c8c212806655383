"""`predict`: the predictions of the run, checked against limits, withheld until the model is validated."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from connectome_tl.bundle.bundle import open_bundle
from connectome_tl.bundle.evidence import held_from
from connectome_tl.bundle.folder import FILES, METADATA, VALIDATION, manifest_bytes
from connectome_tl.bundle.limits import fitted_to
from connectome_tl.bundle.permission import STAMP
from connectome_tl.cohort.cohort import Cohort
from connectome_tl.cohort.reading import read_cohort
from connectome_tl.cohort.writing import write_cohort
from connectome_tl.errors import DataError
from connectome_tl.evaluation.intervals.conformal import fit_conformal_sets
from connectome_tl.settings.records.bundles import RESEARCH_ONLY, BundleFacts
from connectome_tl.training.checkpoint import FitStore
from connectome_tl.workflows.release.predict import predict_cohort
from connectome_tl.workflows.release.validate import validate_on
from connectome_tl.workflows.study.study_run import read_run
from tests.bundle.bundle_study import infants_elsewhere


def cohort_file(folder: Path, cohort: Cohort) -> Path:
    return write_cohort(cohort, folder / cohort.name)


def test_each_fit_predicts_its_test_fold_as_the_run_says(home: Path) -> None:
    """Compared with predictions.tsv, which other code wrote before the bundle existed."""
    bundle = open_bundle(home / "bundle")
    cohort = read_cohort(home / "target" / "cohort.yaml")
    told = read_run(home / "run").predictions
    told = told[(told["model"] == "full") & (told["task"] == "cognitive")]
    each = bundle.members.predict_each(cohort, cohort.ids)
    matched = 0
    for _, fold in told.groupby(["repeat", "fold"]):
        at = cohort.positions(fold["subject"])
        distance = np.abs(each[:, at, 0] - fold["y_score"].to_numpy()).max(axis=1)
        matched += int((distance < 1e-6).sum() == 1)
    assert matched == len(bundle.members.models) == 4


def test_the_table_holds_the_mean_over_the_fits_and_their_range(home: Path, tmp_path: Path) -> None:
    cohort = read_cohort(home / "elsewhere" / "cohort.yaml")
    done = predict_cohort(
        home / "bundle", home / "elsewhere" / "cohort.yaml", tmp_path / "p.tsv", research_individual=True
    )
    table = pd.read_csv(tmp_path / "p.tsv", sep="\t", na_values=["n/a"])
    own = table[table["task"] == "cognitive"]
    each = open_bundle(home / "bundle").members.predict_each(cohort, cohort.ids)[:, :, 0]
    np.testing.assert_allclose(own["value"], each.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(own["low"], each.min(axis=0), atol=1e-12)
    np.testing.assert_allclose(own["high"], each.max(axis=0), atol=1e-12)
    assert set(own["interval"]) == {"range of 4 fits"}
    assert all(use.startswith(RESEARCH_ONLY) for use in table["use"])
    assert len(done.rows) == 2 * cohort.n_subjects
    sidecar = json.loads((tmp_path / "p.json").read_text())
    assert sidecar["Inputs"]["bundle"] == open_bundle(home / "bundle").hash


def test_one_refit_takes_its_interval_from_the_repeats(home: Path, tmp_path: Path) -> None:
    path = home / "elsewhere" / "cohort.yaml"
    table = predict_cohort(home / "refit", path, tmp_path / "p.tsv", research_individual=True).rows
    assert set(table["interval"]) == {"95 % by the spread over the study's repeats"}
    assert (table["low"] < table["value"]).all()
    assert (table["high"] > table["value"]).all()
    risks = table[table["task"] == "cognitive"]
    assert risks["low"].min() > 0
    assert risks["high"].max() < 1


def test_values_are_withheld_until_validated_elsewhere_and_better_than_clinical(home: Path, tmp_path: Path) -> None:
    path = home / "elsewhere" / "cohort.yaml"
    hidden = predict_cohort(home / "bundle", path, tmp_path / "p.tsv").rows
    assert hidden[["value", "low", "high", "recalibrated"]].isna().all().all()
    assert set(hidden["conformal"]) == {""}
    assert hidden["status"].str.startswith("withheld: ").all()
    shown = predict_cohort(home / "bundle", path, tmp_path / "p.tsv", research_individual=True).rows
    assert shown["value"].notna().all()
    assert shown["use"].str.contains(STAMP).all()
    assert shown["status"].str.contains("no validation on another cohort").all()
    earned = earned_copy(home / "bundle", tmp_path / "earned")
    validated = validate_on(earned, path, tmp_path / "v")
    assert validated.record.tasks[0].above_chance
    shutil.copy(validated.validation, earned / VALIDATION)
    table = predict_cohort(earned, path, tmp_path / "p.tsv").rows
    risks = table[table["task"] == "cognitive"]
    assert set(risks["status"]) == {"predicted"}
    assert risks["value"].notna().all()
    assert set(table["use"]) == {RESEARCH_ONLY}


def earned_copy(bundle: Path, to: Path) -> Path:
    """The same bundle, from a study in which the model was better than clinical covariates."""
    shutil.copytree(bundle, to)
    said = json.loads((to / METADATA).read_text())
    for task in said["connectome_tl"]["tasks"]:
        task["against_clinical"] = "helps"
    (to / METADATA).write_text(json.dumps(said))
    (to / "manifest.json").write_bytes(manifest_bytes({name: (to / name).read_bytes() for name in FILES}))
    return to


def test_a_validation_of_another_bundle_is_refused(home: Path, bundle_copy: Path, tmp_path: Path) -> None:
    path = home / "elsewhere" / "cohort.yaml"
    other = validate_on(home / "refit", path, tmp_path / "v")
    shutil.copy(other.validation, bundle_copy / VALIDATION)
    with pytest.raises(DataError, match="belongs to another bundle"):
        predict_cohort(bundle_copy, path, tmp_path / "p.tsv")
    assert not (tmp_path / "p.tsv").exists()


def test_an_edited_validation_is_refused(home: Path, bundle_copy: Path, tmp_path: Path) -> None:
    path = home / "elsewhere" / "cohort.yaml"
    done = validate_on(bundle_copy, path, tmp_path / "v")
    said = json.loads(done.validation.read_text())
    said["tasks"][0]["above_chance"] = not said["tasks"][0]["above_chance"]
    (bundle_copy / VALIDATION).write_text(json.dumps(said))
    with pytest.raises(DataError, match=r"validation\.json was changed after it was made"):
        predict_cohort(bundle_copy, path, tmp_path / "p.tsv")


def test_a_validation_that_failed_opens_nothing(home: Path, tmp_path: Path) -> None:
    earned = earned_copy(home / "bundle", tmp_path / "earned")
    cohort = infants_elsewhere()
    rng = np.random.default_rng(0)
    shuffled = cohort.targets.sample(frac=1, random_state=rng).set_axis(list(cohort.ids), axis=0)
    scores = None if cohort.scores is None else cohort.scores
    status = cohort.status.map(lambda _: "observed").where(shuffled.notna(), "lost")
    path = cohort_file(tmp_path, replace(cohort, targets=shuffled, scores=scores, status=status))
    done = validate_on(earned, path, tmp_path / "v")
    assert not done.record.tasks[0].above_chance
    shutil.copy(done.validation, earned / VALIDATION)
    table = predict_cohort(earned, path, tmp_path / "p.tsv").rows
    assert table["status"].str.contains("did not find it above chance").any()
    assert table.loc[table["task"] == "cognitive", "value"].isna().all()


def test_every_subject_outside_a_limit_is_named_with_the_limit(home: Path, tmp_path: Path) -> None:
    cohort = infants_elsewhere()
    age, table = cohort.age.copy(), cohort.covariates.copy()
    age[0], table.iloc[1, 0] = 60.0, 39.0
    mask, weights = cohort.node_mask.copy(), cohort.weights.copy()
    mask[2, :5] = False
    weights[2, :, :5] = weights[2, :, :, :5] = 0
    table.loc[cohort.ids[3], "sex"] = "not said"
    path = cohort_file(tmp_path, replace(cohort, age=age, covariates=table, node_mask=mask, weights=weights))
    rows = predict_cohort(home / "bundle", path, tmp_path / "p.tsv").rows
    limits = rows[rows["task"] == "cognitive"].set_index("subject")["limits"]
    assert "postmenstrual age outside 37 to 43 weeks" in limits[cohort.ids[0]]
    assert "gestational_age outside 24 to 32 weeks" in limits[cohort.ids[1]]
    assert "missing regions outside at most" in limits[cohort.ids[2]]
    assert "sex outside one of female, male" in limits[cohort.ids[3]]
    assert limits[cohort.ids[10]] == ""


def test_a_cohort_that_the_model_is_not_for_is_refused(home: Path, tmp_path: Path) -> None:
    cohort = infants_elsewhere()
    wrong = {
        "measure": (replace(cohort, measures=("fa",)), "edges are another measure"),
        "older": (replace(cohort, age=cohort.age + 7.5), "no subject is within the limits of"),
        "unit": (replace(cohort, weights=cohort.weights * 1000), "no subject is within the limits of mean fbc"),
        "ageless": (
            replace(cohort, age=np.full(len(cohort.ids), np.nan), age_unit=""),
            "needs the age at scan; expected .* weeks, reference postmenstrual. Add `age: ",
        ),
        "reference": (replace(cohort, age=cohort.age - 36, age_reference="birth"), "ages have another reference"),
        "covariate": (
            replace(cohort, covariates=cohort.covariates.drop(columns="ivh_grade"),
                    covariate_specs=tuple(s for s in cohort.covariate_specs if s.column != "ivh_grade")),
            "needs the covariate 'ivh_grade'",
        ),
        "atlas": (replace(cohort, regions=tuple(f"r{i}" for i in range(12)), atlas="mine"), "12 regions are not of"),
        "few_regions": (
            replace(cohort, node_mask=cohort.node_mask & (np.arange(cohort.n_regions) < 5)),
            "no subject is within the limits of missing regions",
        ),
        "grades": (
            replace(cohort, covariates=cohort.covariates.assign(ivh_grade=cohort.covariates["ivh_grade"] + 1000.0)),
            "no subject is within the limits of ivh_grade",
        ),
        "words": (
            replace(cohort, covariates=cohort.covariates.assign(sex="other")),
            "no subject is within the limits of sex",
        ),
        "bare": (
            replace(cohort, regions=(), measures=(), weights=cohort.weights[:, :0, :0, :0],
                    node_mask=cohort.node_mask[:, :0]),
            "the model needs connectomes",
        ),
    }  # fmt: skip
    for name, (changed, message) in wrong.items():
        path = cohort_file(tmp_path, replace(changed, name=name))
        with pytest.raises(DataError, match=message):
            predict_cohort(home / "bundle", path, tmp_path / "p.tsv")
    assert not (tmp_path / "p.tsv").exists()


def test_spellings_of_categories_and_missing_covariates_decide_no_risk(home: Path, tmp_path: Path) -> None:
    """`M` and ` FEMALE` are the levels of the model; a covariate that nobody has is imputed and flagged."""
    cohort = infants_elsewhere()
    plain = predict_cohort(home / "bundle", cohort_file(tmp_path, cohort), tmp_path / "p.tsv", research_individual=True)
    bundle = open_bundle(home / "bundle")
    for words in ({"male": "M", "female": "F"}, {"male": "MALE ", "female": "Girl"}):
        spelled = replace(cohort, covariates=cohort.covariates.assign(sex=cohort.covariates["sex"].map(words)))
        fitted = fitted_to(bundle.facts.inputs, bundle.facts.limits, spelled)
        pd.testing.assert_series_equal(fitted.covariates["sex"], cohort.covariates["sex"], check_dtype=False)
    unknown = replace(cohort, name="unknown", covariates=cohort.covariates.assign(gestational_age=np.nan))
    path = cohort_file(tmp_path, unknown)
    rows = predict_cohort(home / "bundle", path, tmp_path / "q.tsv", research_individual=True).rows
    assert len(rows) == len(plain.rows)
    assert rows["limits"].str.contains("gestational_age missing").all()


def test_the_training_cohort_is_not_predicted(home: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="appears to be the training cohort of the bundle"):
        predict_cohort(home / "bundle", home / "target" / "cohort.yaml", tmp_path / "p.tsv", research_individual=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"held_from": [0.1]}, {"held_from": [0.1, 1.5]}, {"half_width": -3.0}, {"level": 7.0}, {"spread": -0.1},
        {"scaling": {"intercept": 0.0, "slope": 1e308}},
        {"expected": [{"metric": "auc", "value": 99.0, "low": 98.0, "high": 97.0}]},
        {"expected": [{"metric": "<b>x", "value": 0.7, "low": 0.6, "high": 0.8}]},
    ],
    ids=str,
)  # fmt: skip
def test_metadata_that_contradict_themselves_are_refused(home: Path, changed: dict[str, object]) -> None:
    facts = json.loads((home / "bundle" / METADATA).read_text())["connectome_tl"]
    BundleFacts.model_validate(facts)
    facts["tasks"][0].update(changed)
    with pytest.raises(ValueError, match="validation error"):
        BundleFacts.model_validate(facts)


def test_regions_are_matched_by_name(home: Path, tmp_path: Path) -> None:
    cohort = infants_elsewhere()
    order = np.random.default_rng(3).permutation(cohort.n_regions)
    shuffled = replace(
        cohort,
        name="shuffled",
        regions=tuple(cohort.regions[i] for i in order),
        weights=cohort.weights[:, :, order][:, :, :, order],
        node_mask=cohort.node_mask[:, order],
    )
    one, two = (
        predict_cohort(home / "bundle", cohort_file(tmp_path, c), tmp_path / "p.tsv", research_individual=True).rows
        for c in (cohort, shuffled)
    )
    np.testing.assert_allclose(one["value"], two["value"], atol=1e-6)


@pytest.mark.parametrize("n", [5, 9, 10, 11, 40, 200])
def test_one_threshold_per_class_gives_the_conformal_sets(n: int) -> None:
    """Compared with sets that use every calibration risk."""
    rng = np.random.default_rng(n)
    y = (np.arange(n) % 3 == 0).astype(float)
    risk = rng.uniform(0, 1, n).round(4)
    new = np.linspace(0.00005, 0.99995, 2000)
    wanted = fit_conformal_sets(risk, y).holds(new)
    limits = np.array(held_from(np.column_stack([1 - risk, risk]), y))
    found = np.column_stack([1 - new, new]) >= limits
    assert (found | ~wanted).all()  # never a smaller set
    assert np.abs(found.mean(axis=0) - wanted.mean(axis=0)).max() <= 0.0105  # rounding to two decimals
    assert (np.round(limits, 2) == limits).all()  # it is the risk of one subject


def test_the_store_of_the_run_is_not_refitted(home: Path) -> None:
    """Bundling found every fit by its key: the mean bundle added none to the run's store."""
    store = FitStore(home / "run" / "models")
    stages = [json.loads(path.read_text())["stage"] for path in store.folder.glob("*.json")]
    folds = 2 * 2
    assert stages.count("mixture") == folds + 1  # the refit's own


@pytest.mark.parametrize("n", [1, 60])
def test_rows_in_another_order_than_those_of_the_training_subjects_are_noticed(
    home: Path, tmp_path: Path, n: int
) -> None:
    cohort = infants_elsewhere("other_order")
    cohort = cohort.take(cohort.ids[:n])
    right = predict_cohort(home / "bundle", cohort_file(tmp_path, cohort), tmp_path / "p.tsv")
    assert not any("random orders" in note for note in right.notes)
    order = np.random.default_rng(3).permutation(cohort.n_regions)
    shuffled = replace(
        cohort,
        name="shuffled",
        weights=cohort.weights[:, :, order][:, :, :, order],
        node_mask=cohort.node_mask[:, order],
    )
    wrong = predict_cohort(home / "bundle", cohort_file(tmp_path, shuffled), tmp_path / "q.tsv")
    assert "no more than in 99 random orders of the regions" in wrong.notes[0]
