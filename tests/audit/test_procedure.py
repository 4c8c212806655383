"""Every leaky variant is detected by its behaviour; correct procedures cause no alarm."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.audit.procedure import audit_procedure
from connectome_tl.errors import DataError
from tests.audit.leaky_procedures import (
    HONEST,
    KNOWN,
    LEAKY,
    adaptation_on_test,
    honest_ridge,
    selection_before_the_split,
    study,
    threshold_on_test,
)


def failed(findings):
    return {f.check for f in findings if f.status == "failed"}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("procedure", LEAKY, ids=lambda p: p.__name__)
def test_leaky_procedures_are_caught(procedure, seed):
    rows, folds = study(seed)
    KNOWN.clear()
    KNOWN.update({name: 3.0 * y for name, y in zip(rows.ids, rows.y)})
    assert failed(audit_procedure(procedure, rows, folds, n_null=6))


def test_what_catches_what():
    rows, folds = study(3)
    by_outcome = failed(audit_procedure(selection_before_the_split, rows, folds))
    assert {"poisoned test outcomes", "permutation null"} <= by_outcome
    assert failed(audit_procedure(adaptation_on_test, rows, folds)) == {"poisoned test rows"}
    assert "poisoned test outcomes" in failed(audit_procedure(threshold_on_test, rows, folds))


@pytest.mark.slow
def test_of_sixty_honest_runs_none_is_accused():
    accused = []
    for seed in range(15):
        rows, folds = study(seed, signal=0.0 if seed % 2 else 0.6)
        for procedure in HONEST:
            found = failed(audit_procedure(procedure, rows, folds, seed=seed, n_null=5))
            if found:
                accused.append((seed, procedure.__name__, found))
    assert not accused


def test_a_procedure_that_ignores_its_training_is_pointed_out():
    rows, folds = study(4)

    def first_edge(rows, train, test):
        return rows.x[test, 0], (rows.x[test, 0] > 0).astype(int)

    findings = audit_procedure(first_edge, rows, folds)
    assert {f.check for f in findings if f.status == "warning"} == {"learns"}


def test_a_procedure_with_a_random_seed_of_its_own_cannot_be_audited():
    rng = np.random.default_rng(0)
    rows, folds = study(5)

    def dice(rows, train, test):
        return rng.random(len(test)), np.zeros(len(test))

    (finding,) = audit_procedure(dice, rows, folds)
    assert finding.status == "failed"
    assert finding.check == "repeatable"


def test_overlapping_folds_are_refused():
    rows, _ = study(6)
    with pytest.raises(DataError, match="tests rows that it trains on"):
        audit_procedure(honest_ridge, rows, [(np.arange(30), np.arange(28, 36))])
