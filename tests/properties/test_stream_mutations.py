"""Tractograms, label images, weights and gradient tables, mutated: the right numbers or a refusal, nothing else."""

from __future__ import annotations

from tests.properties.stream_trials import N_MUTATIONS, trials


def test_every_mutation_gives_the_right_numbers_or_a_refusal() -> None:
    outcomes, faults = trials(12, N_MUTATIONS)
    assert faults == []
    # A test in which everything is refused, or everything is right, would prove nothing.
    assert outcomes["right"] > 40
    assert outcomes["refused"] > 60
    assert sum(outcomes.values()) == N_MUTATIONS
