"""The encoder on principal components: those of the training rows, transferred with the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from network_cases import make_batch
from sklearn.decomposition import PCA

from connectome_tl.nn.batch import ConnectomeRows
from connectome_tl.nn.branch import build_branch
from connectome_tl.nn.encoders.components import ComponentsBranch
from connectome_tl.settings.encoders import ComponentsEncoder


def started(n_components: int, rows: ConnectomeRows) -> ComponentsBranch:
    branch = build_branch(ComponentsEncoder(components=n_components, widths=(5, 4)), rows.sizes)
    assert isinstance(branch, ComponentsBranch)
    branch.start(rows)
    return branch


def inputs_of(rows: ConnectomeRows) -> np.ndarray:
    return torch.cat([rows.upper, rows.regional.flatten(1)], dim=1).numpy()


@pytest.mark.parametrize("n", [12, 60])
def test_the_components_are_those_of_scikit_learn_of_unit_variance(n: int) -> None:
    rows, new = make_batch(n=n).connectome, make_batch(n=2 * n).connectome.between(n, 2 * n)
    branch = started(4, rows)
    found = (inputs_of(new) - branch.centre.numpy()) @ branch.components.numpy().T
    expected = PCA(4, whiten=True, svd_solver="full").fit(inputs_of(rows)).transform(inputs_of(new))
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, signs * expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_of_many_rows_some_in_even_steps_are_used() -> None:
    batch = make_batch(n=4001).connectome
    one, two = (started(3, rows).components for rows in (batch, batch.rows(torch.arange(0, 4001, 2))))
    assert not torch.equal(one, two)  # 2001 of 4001 rows are one too many
    few = started(3, batch.rows(torch.linspace(0, 4000, 2000, dtype=torch.float64).round().long())).components
    torch.testing.assert_close(one, few)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_components_beyond_the_rank_of_the_rows_are_zero(n: int) -> None:
    branch = started(4, make_batch(n=max(n, 3)).connectome.between(0, n))
    assert (branch.components.abs().sum(dim=1) > 0).sum() == n - 1
    assert torch.isfinite(branch(make_batch().connectome).embedding).all()


def test_identical_rows_have_no_components() -> None:
    rows = make_batch().connectome.rows(torch.zeros(5, dtype=torch.long))
    assert not started(4, rows).components.any()


def test_the_order_of_rows_does_not_matter() -> None:
    rows = make_batch(n=20).connectome
    turned = rows.rows(torch.arange(19, -1, -1))
    one, two = (started(4, given).components for given in (rows, turned))
    torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_components_are_not_trained() -> None:
    branch = started(4, make_batch(n=20).connectome)
    assert {"components", "centre"} <= set(branch.state_dict())
    assert not {"components", "centre"} & {name for name, _ in branch.named_parameters()}


def test_a_prepared_batch_gives_the_same_components() -> None:
    batch = make_batch(n=20)
    one, two = (started(4, rows).components for rows in (batch.connectome, batch.prepared(None).connectome))
    torch.testing.assert_close(one, two)
    moved = replace(batch.connectome, regional=batch.connectome.regional + 3)
    torch.testing.assert_close(started(4, moved).components, one, rtol=1e-3, atol=1e-5)
