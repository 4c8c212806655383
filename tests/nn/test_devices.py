"""Batches reach a GPU through page-locked memory, and stay where they are on a CPU."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest
import torch
from on_gpu import needs_gpu

from connectome_tl.nn.devices import moved


@pytest.mark.parametrize(("there", "here"), [("cuda", "cpu"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_only_copies_from_memory_to_a_gpu_are_pinned(there: str, here: str) -> None:
    tensor, device = MagicMock(device=torch.device(here)), torch.device(there)
    found = moved(tensor, device)
    if (there, here) == ("cuda", "cpu"):
        assert found is tensor.pin_memory().to.return_value
        tensor.pin_memory().to.assert_called_once_with(device, non_blocking=True)
    else:
        tensor.pin_memory.assert_not_called()
        tensor.to.assert_called_once_with(device)


@needs_gpu
def test_a_pinned_copy_is_the_tensor() -> None:
    tensor = torch.randn(64, 32, 32, dtype=torch.float16)
    found = moved(tensor[torch.arange(63, -1, -1)], torch.device("cuda"))
    assert found.device.type == "cuda"
    assert torch.equal(found.cpu(), tensor.flip(0))
