"""AdamW and Adam that do not import torch's compiler.

torch decorates methods of its optimisers for `torch.compile`, and these decorators import the compiler at the first
call, although nothing is compiled, in every process that trains. The
classes of this module run the same methods without the decorators; the updates are the same to the last bit.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch.optim import Optimizer

_add_param_group: Any = inspect.unwrap(Optimizer.add_param_group)
_zero_grad: Any = inspect.unwrap(Optimizer.zero_grad)
_step: Any = inspect.unwrap(torch.optim.Adam.step)


class Adam(torch.optim.Adam):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) with the arguments of `torch.optim.Adam`; `step` takes no closure."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _add_param_group(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        _zero_grad(self, set_to_none)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        _step(self, closure)


class AdamW(Adam, torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with the arguments of `torch.optim.AdamW`."""
