"""Steps and batches follow the number of rows; batches of a pass have similar sizes."""

from __future__ import annotations

import numpy as np
import pytest

from connectome_tl.settings.training import Ensemble, Training
from connectome_tl.training.networks.loop import batches


def test_the_budget_follows_the_number_of_rows() -> None:
    steps = [Training().steps_for(n) for n in range(1, 5000)]
    assert (steps[0], steps[319], steps[626], steps[-1]) == (320, 320, 627, 2560)
    assert set(np.diff(steps)) == {0, 1}  # without a jump
    assert [Training(steps=7).steps_for(n) for n in (20, 5000)] == [7, 7]
    sizes = {n: Training().batch_for(n) for n in range(2, 3000)}
    assert all(sizes[n] == n for n in range(2, 96))
    assert all(48 <= size <= 97 for n, size in sizes.items() if n >= 96)
    assert Training(batch_size=500).batch_for(20) == 20


@pytest.mark.parametrize("size", ["auto", 1, 2, 7, 64])
def test_batches_of_a_pass_hold_every_row_once_and_are_equal_within_one_row(size: int | str) -> None:
    settings = Training(batch_size=size)  # type: ignore[arg-type]
    for n_rows in (2, 3, 5, 8, 15, 16, 63, 65, 97, 129, 200, 650, 1000):
        most = settings.batch_for(n_rows)
        drawn = batches(n_rows, most, np.random.default_rng(0))
        first = next(drawn)
        if first is None:
            assert most >= n_rows or n_rows == 3
            continue
        of_pass = [first]
        while sum(map(len, of_pass)) < n_rows:
            batch = next(drawn)
            assert batch is not None
            of_pass.append(batch)
        lengths = [len(batch) for batch in of_pass]
        assert sorted(np.concatenate(of_pass)) == list(range(n_rows))
        assert max(lengths) - min(lengths) <= 1
        assert min(lengths) > 1 or size == 1
        assert max(lengths) <= most + 1


def test_the_last_step_is_always_looked_at() -> None:
    assert Ensemble(checkpoints=(0.5,)).steps_at(100) == (50, 100)
    assert Ensemble().steps_at(320) == (0, 10, 20, 40, 80, 160, 320)
