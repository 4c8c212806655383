"""Fixtures of the tests of pages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.small_study import figures_left_out


@pytest.fixture
def blank_figures() -> Iterator[None]:
    """Pages have empty figures: for tests of their text and tables."""
    with figures_left_out():
        yield
