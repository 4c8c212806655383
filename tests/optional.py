"""Tests that need an optional package."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(package: str) -> pytest.MarkDecorator:
    """Skip a module where a package is not installed. `importorskip` would import it in every worker of xdist."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")
