"""AdamW and Adam that do not import torch's compiler, and clipping of gradients.

torch decorates methods of its optimisers for `torch.compile`, and these decorators import the compiler at the first
call, although nothing is compiled, in every process that trains. The
classes of this module run the same methods without the decorators; the updates are the same to the last bit.
For small networks, the rest of torch's step takes longer than its arithmetic. If all states exist, the fused
update is therefore called directly.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_add_param_group: Any = inspect.unwrap(Optimizer.add_param_group)
_step: Any = inspect.unwrap(torch.optim.Adam.step)


class Adam(torch.optim.Adam):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) with the arguments of `torch.optim.Adam`; `step` takes no closure."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _add_param_group(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if set_to_none:
                    parameter.grad = None
                elif parameter.grad is not None:
                    parameter.grad.zero_()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        moving = [[p for p in group["params"] if p.grad is not None] for group in self.param_groups]
        states = [[self.state[p] for p in part] for part in moving]
        if not all(group["fused"] and all(part) for group, part in zip(self.param_groups, states, strict=True)):
            _step(self, closure)
            return
        for group, part, kept in zip(self.param_groups, moving, states, strict=True):
            if part:
                _fused(group, part, kept)

    step.hooked = True  # type: ignore[attr-defined]  # no record for torch's profiler


class AdamW(Adam, torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101) with the arguments of `torch.optim.AdamW`."""


def _fused(group: dict[str, Any], parameters: list[Tensor], states: list[dict[str, Tensor]]) -> None:
    """One update of the parameters of a group."""
    first, second, steps = ([one[name] for one in states] for name in ("exp_avg", "exp_avg_sq", "step"))
    torch._foreach_add_(steps, 1)
    update = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
    update(
        parameters,
        [p.grad for p in parameters if p.grad is not None],
        first,
        second,
        [],
        steps,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
    )


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], most: float) -> None:
    """Scale gradients in place to a total norm of at most `most`, as `torch.nn.utils.clip_grad_norm_` does."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, (most / (norm + 1e-6)).clamp(max=1.0))
