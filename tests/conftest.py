"""What all tests share: where the real data lie, when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Workers of pytest-xdist share the cores: threads of linear algebra would wait for each other. NumPy and torch read
# these when they are imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data, read only; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CONNECTOME_TL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder}; set CONNECTOME_TL_DATA")
    return folder
