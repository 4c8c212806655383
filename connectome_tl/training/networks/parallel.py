"""Fit a network on volumes with several processes that share every batch (Lightning Fabric).

Every process runs the same fit with the same random draws, but passes only its share of a batch through the 3D
network. Embeddings are gathered, so that each process computes the same losses on the whole batch, including mixup,
missing outcomes and weights of outcomes. Gradients are averaged before each step. With group or instance
normalisation the result equals that of one process up to rounding; batch normalisation uses the statistics of each
share and differs. An interrupted fit restarts from the beginning, with the same result.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from connectome_tl.errors import InternalError, UsageError
from connectome_tl.nn.encoders.volumes import VolumeBranch
from connectome_tl.training.checkpoint import FitResult, FitStore

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from connectome_tl.training.context import Context
    from connectome_tl.training.plans import FitPlan

# Fabric reads where its processes are from these, which a job may have set for another program.
_PLACE = ("MASTER_PORT", "MASTER_ADDR", "NODE_RANK", "GROUP_RANK")
_here: list[Fabric] = []  # set in a process that shares a fit


def fit_in_processes(fitter: Callable[[FitPlan, Context], FitResult], plan: FitPlan, context: Context) -> FitResult:
    """Make a fit with `plan.devices` processes.

    Raises:
        UsageError: fewer GPUs than requested, a search that stops fits early, or a process that cannot start others.
    """
    if context.hook is not None or context.check is not None:
        raise UsageError("a search that prunes fits cannot share them between processes", remedy="Set devices: 1.")
    if multiprocessing.current_process().daemon:
        raise UsageError(
            "a worker of this cluster may not start the processes of a fit",
            remedy="Set devices: 1, or run without --scheduler.",
        )
    if plan.device == "cuda" and torch.cuda.device_count() < plan.devices:
        raise UsageError(
            f"devices: {plan.devices}, and torch finds fewer GPUs",
            expected=f"at least {plan.devices}",
            got=str(torch.cuda.device_count()),
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it logs the start of every fit
    fabric = fabric_of(plan.device, plan.devices)
    with tempfile.TemporaryDirectory() as folder:
        with _port_of_its_own():
            fabric.launch(_shared_fit, fitter, plan, context, folder)
        found = FitStore(Path(folder)).load(plan.key, state=True)
    if found is None:
        raise InternalError("the processes of a fit left no result")
    return found


def fabric_of(device: str, devices: int) -> Fabric:
    """A launcher of this number of processes on this machine."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments import LightningEnvironment

    # A process that uses a GPU cannot be forked; otherwise a fork avoids repeated imports.
    forks = device == "cpu" and sys.platform == "linux"
    return Fabric(
        accelerator="cpu" if device == "cpu" else "cuda",
        devices=devices,
        strategy="ddp_fork" if forks else "ddp_spawn",
        # Within a job of Slurm, or where its commands are installed, Fabric would expect srun to start the processes.
        plugins=[LightningEnvironment()],
    )


@contextmanager
def _port_of_its_own() -> Iterator[None]:
    """Let Fabric find a free port for this fit.

    Fabric stores the port in the environment, from which later fits and child processes would reuse it while it may
    still be in use.
    """
    before = {name: os.environ.pop(name) for name in _PLACE if name in os.environ}
    try:
        yield
    finally:
        for name in _PLACE:
            os.environ.pop(name, None)
        os.environ.update(before)


def _shared_fit(
    fabric: Fabric, fitter: Callable[[FitPlan, Context], FitResult], plan: FitPlan, context: Context, folder: str
) -> None:
    """Fit in each process; the first process saves the result."""
    torch.set_num_threads(1)
    _here.append(fabric)
    try:
        result = fitter(plan, context)
    finally:
        _here.clear()
    if fabric.global_rank == 0:
        FitStore(Path(folder)).save(result, keep_state=True)
    fabric.barrier()


def share_volumes(model: nn.Module) -> None:
    """Make each process compute its part of every batch of volumes; no effect with a single process."""
    if _here:
        for branch in model.modules():
            if isinstance(branch, VolumeBranch):
                branch.run = _shared


def _shared(net: nn.Module, volumes: Tensor) -> Tensor:
    """Embeddings (batch, width) of all volumes by `net`; this process computes its share."""
    fabric, n = _here[0], len(volumes)
    share = -(-n // fabric.world_size)
    # The last share is padded with copies of its last volume, whose embeddings are discarded.
    at = (torch.arange(share, device=volumes.device) + fabric.global_rank * share).clamp_max(n - 1)
    gathered: Tensor = _Gathered.apply(net(volumes[at]), fabric)
    return gathered[:n]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average gradients over the processes of the fit, in place; no effect with a single process."""
    if not _here:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = _here[0].all_reduce(torch.cat([one.flatten() for one in gradients]), reduce_op="mean")
    assert isinstance(flat, Tensor)
    for one, mean in zip(gradients, flat.split([one.numel() for one in gradients]), strict=True):
        one.copy_(mean.view_as(one))


class _Gathered(torch.autograd.Function):
    """Gather the rows of all processes. Since all compute the same loss, each needs only the gradient of its rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, fabric: Fabric) -> Tensor:
        ctx.first, ctx.n, ctx.times = fabric.global_rank * len(own), len(own), fabric.world_size
        parts = [torch.empty_like(own) for _ in range(fabric.world_size)]
        torch.distributed.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # The subsequent mean over processes divides by their number.
        return gradients[0][ctx.first : ctx.first + ctx.n] * ctx.times, None
