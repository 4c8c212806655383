"""The device of the tests on a GPU; with `CONNECTOME_TL_TEST_DEVICE=cpu` they run without a GPU."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import Tensor

DEVICE = os.environ.get("CONNECTOME_TL_TEST_DEVICE", "cuda")
THERE = torch.device(DEVICE)
needs_gpu = pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="no GPU")


def assert_near(found: Tensor, want: Tensor, share: float, name: str = "", least: float = 1e-12) -> None:
    """Finite, and within `share` of the largest value of the tensor, or of `least` if that is more."""
    a, b = (one.detach().double().cpu().numpy() for one in (found, want))
    assert np.isfinite(a).all(), name
    apart = np.abs(a - b).max() if a.size else 0.0
    assert apart <= share * max(np.abs(b).max(initial=0.0), least), f"{name}: {apart:.3g} of {np.abs(b).max():.3g}"
