"""The probe measures the information in an embedding, on held-out rows, and is stored with the fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_study import fitted_bytes, plan_of, small_cohorts, small_settings
from torch import Tensor, nn

from connectome_tl.cohort.splits import Fold, families_of
from connectome_tl.errors import UsageError
from connectome_tl.nn.batch import Batch, ConnectomeRows
from connectome_tl.nn.branch import Encoded
from connectome_tl.report.text.probes import probes_text, probes_verdict
from connectome_tl.settings.records.statistics import AdaptationProbe
from connectome_tl.settings.study import StudySettings
from connectome_tl.training.checkpoint import tensor_bytes
from connectome_tl.training.checks import check_names
from connectome_tl.training.fit import fit
from connectome_tl.training.fitted_models import NetworkModel, to_batch
from connectome_tl.training.networks.probe import _PENALTIES, Probed, _folds, _ridge, probe
from connectome_tl.training.plans import FitPlan
from connectome_tl.training.schemes import StudyCohorts

COHORTS = small_cohorts(n_source=40, n_pool=30)
FOLD = Fold(COHORTS.target.ids[:16], COHORTS.target.ids[16:])


class Fixed(nn.Module):
    """A model whose embedding is the first row of edges."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = {"connectome": lambda rows: Encoded(rows.edges[:, 0, 0])}


def batch_of(x: Tensor) -> Batch:
    n, width = x.shape
    edges = torch.zeros(n, 1, width, width)
    edges[:, 0, 0] = x
    none = torch.zeros(n, width, 0), torch.ones(n, width), torch.zeros(1, width, width), torch.ones(1, width, width)
    return Batch({"connectome": ConnectomeRows(edges, *none)}, {"connectome": torch.ones(n, dtype=torch.bool)})


def scores(x: np.ndarray, outcomes: dict[str, np.ndarray], families: np.ndarray) -> dict[tuple[str, str], float]:
    rows = Probed("pool", batch_of(torch.from_numpy(x).float()), outcomes, families)
    return probe(Fixed(), rows)  # type: ignore[arg-type]


def test_it_finds_what_is_linear_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6))
    noise = rng.normal(size=400)
    outcomes = {
        "linear": x[:, 0] * 2 + 0.5 * noise,
        "class": (x[:, 1] + 0.1 * noise > 0).astype(float),
        "noise": rng.permutation(noise),
        "square": x[:, 2] ** 2,
        "constant": np.ones(400),
        "rare": (np.arange(400) < 3).astype(float),
        "few": np.where(np.arange(400) < 8, x[:, 0], np.nan),
        "half": np.where(np.arange(400) % 2, x[:, 0], np.nan),
    }
    found = scores(x, outcomes, np.arange(400))
    assert set(found) == {
        ("linear", "R2"), ("class", "AUC"), ("noise", "R2"), ("square", "R2"), ("half", "R2")
    }  # fmt: skip
    assert found["linear", "R2"] == pytest.approx(4 / 4.25, abs=0.02)
    assert found["class", "AUC"] > 0.98
    assert found["half", "R2"] > 0.99
    assert -0.1 < found["noise", "R2"] < 0.03
    assert found["square", "R2"] < 0.05


def test_its_ridge_is_that_of_scikit_learn() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        x = np.maximum(rng.normal(size=(rng.integers(10, 80), rng.integers(2, 40))), 0.0)
        x[:, 0], x[:, 1] = 0.3, 1e-3 * x[:, 1] + 5
        y = x @ rng.normal(size=x.shape[1]) + rng.choice([0.1, 1, 10]) * rng.normal(size=len(x))
        test = rng.normal(size=(7, x.shape[1]))
        theirs = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES)).fit(x, y).predict(test)
        ours = _ridge(x, y, np.arange(len(y)), test)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())


def test_a_family_that_shares_embedding_and_outcome_teaches_nothing_about_itself() -> None:
    """Two scans of each subject, near copies of each other, and an outcome that no embedding predicts."""
    rng = np.random.default_rng(0)
    x, outcome = rng.normal(size=(200, 120)), rng.normal(size=200)
    scans = np.repeat(x, 2, axis=0) + 0.01 * rng.normal(size=(400, 120))
    values = {"age": np.repeat(outcome, 2), "low": np.repeat((outcome < 0).astype(float), 2)}
    by_row, by_family = scores(scans, values, np.arange(400)), scores(scans, values, np.repeat(np.arange(200), 2))
    assert by_row["age", "R2"] > 0.2
    assert by_row["low", "AUC"] > 0.7
    assert by_family["age", "R2"] < 0.02
    assert by_family["low", "AUC"] < 0.6


def test_folds_keep_families_together_and_hold_both_classes() -> None:
    rng = np.random.default_rng(1)
    families = rng.permutation(np.repeat(np.arange(40), 2))
    y = np.zeros(80)
    y[[np.flatnonzero(families == k)[0] for k in range(5)]] = 1  # one member each of five families
    fold = _folds(y, families)
    assert all(len(set(fold[families == k])) == 1 for k in range(40))
    assert all(set(y[fold == k]) == {0, 1} for k in range(5))


def adaptation(scheme: str = "network", study: StudySettings | None = None, cohorts: StudyCohorts = COHORTS) -> FitPlan:
    return dict(plan_of(FOLD, study, cohorts=cohorts, scheme=scheme).parents)["stage"]


SHARES = ("0", "0.125", "0.25", "0.5", "1")


def test_stage_two_is_probed_at_shares_of_its_steps_on_pool_and_source() -> None:
    plan, control = adaptation(), adaptation("network_no_pretrain")
    assert [role for role, _ in plan.others] == ["probe"]
    assert control.others == ()
    results = fit([plan, control], COHORTS.by_name())
    facts = results[plan.key].facts
    what = {"pool, age, R2", "source, age, R2", "source, sex, AUC"}
    assert {name for name in facts if name.startswith("probe")} == {
        f"probe {share}, {x}" for share in SHARES for x in what
    }
    assert set(results[control.key].facts) == {f"probe {share}, pool, age, R2" for share in SHARES}
    assert len({facts[f"probe {share}, source, age, R2"] for share in ("0", "0.5", "1")}) == 3
    # The last probe is that of the fitted network.
    model, pool = NetworkModel.of(results[plan.key].arrays, results[plan.key].plain), COHORTS.roles["pool"]
    ids = plan.train.ids
    ages, families = {"age": pool.age[pool.positions(ids)]}, families_of(pool, ids)
    rows = Probed("pool", to_batch(model.features.rows(pool, ids)).prepared(), ages, families)
    assert probe(model.networks()[0], rows)["age", "R2"] == pytest.approx(facts["probe 1, pool, age, R2"])
    # The source was seen by stage 1 already; the control has not seen it.
    source = COHORTS.roles["source"]
    assert set(source.ids) <= results[plan.key].rows
    assert not set(source.ids) & results[control.key].rows


def test_ages_of_the_pool_move_the_probe_and_the_age_objective_alone() -> None:
    pool = COHORTS.roles["pool"]
    other = COHORTS.with_role("pool", replace(pool, age=pool.age[::-1].copy()))
    for kind, moves in (("masked_edges", False), ("scan_age", True)):
        stages = small_settings().stages.model_dump()
        stages["adapt"]["objective"] = {"kind": kind}
        study = small_settings(stages=stages)
        one, two = adaptation(study=study), adaptation(study=study, cohorts=other)
        first, second = fit([one], COHORTS.by_name())[one.key], fit([two], other.by_name())[two.key]
        assert first.facts["probe 1, pool, age, R2"] != second.facts["probe 1, pool, age, R2"]
        states = [{k: v for k, v in r.arrays.items() if k.startswith("state/")} for r in (first, second)]
        assert any(not np.array_equal(states[0][k], states[1][k]) for k in states[0]) == moves
        again = fit([one], COHORTS.by_name())[one.key]
        assert fitted_bytes(again) == fitted_bytes(first)


def test_a_pool_without_ages_is_refused_where_they_are_learnt() -> None:
    pool = COHORTS.roles["pool"]
    nameless = COHORTS.with_role("pool", replace(pool, age=np.full(pool.n_subjects, np.nan)))
    stages = small_settings().stages.model_dump()
    stages["adapt"]["objective"] = {"kind": "scan_age"}
    with pytest.raises(UsageError, match="needs the ages of the pool, and pool has none"):
        check_names(small_settings(stages=stages), nameless)
    check_names(small_settings(stages=stages), COHORTS)
    check_names(small_settings(), nameless)


def test_probes_do_not_change_the_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = adaptation()
    first = fit([plan], COHORTS.by_name())[plan.key]
    monkeypatch.setattr("connectome_tl.training.networks.probe._SHARES", (0.0, 1.0))
    again = fit([plan], COHORTS.by_name())[plan.key]
    assert len(again.facts) < len(first.facts)
    assert tensor_bytes(again.arrays) == tensor_bytes(first.arrays)


def test_the_probe_is_a_sentence_of_the_methods_and_of_the_verdict() -> None:
    probes = (
        AdaptationProbe(cohort="pool", outcome="age", metric="R2", shares=(0, 1), values=(0.125, 0.5), n_fits=3),
        AdaptationProbe(cohort="source", outcome="sex", metric="AUC", shares=(0, 1), values=(0.8, 0.7), n_fits=3),
    )
    (said,) = probes_text(probes)
    assert "age of the pool with R2 0.12 before and 0.50 after it and sex of the source with AUC 0.80" in said
    assert "mean over 3 fits" in said
    assert probes_text(()) == []
    (line,) = probes_verdict(probes)
    assert "age of the pool better (R2 0.12 to 0.50)" in line
    assert "sex of the source worse, which is forgetting (AUC 0.80 to 0.70)" in line
    assert probes_verdict(()) == ()
