"""Words for subjects outside the limits of a bundle."""

from __future__ import annotations

import numpy as np

from connectome_tl.bundle.spans import Flag


def test_a_missing_value_is_called_missing_and_not_outside() -> None:
    outside, missing = np.array([True, True, False]), np.array([True, False, False])
    flag = Flag("sex", "one of F, M", outside, "the same", missing=missing)
    assert [flag.said_of(row) for row in range(3)] == ["sex missing", "sex outside one of F, M", ""]
    # A limit without a record of missing values, such as that of sites.
    assert Flag("site", "one of A", outside, "B").said_of(0) == "site outside one of A"
