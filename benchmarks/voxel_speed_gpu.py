"""Seconds per training step of a ResNet-10 on a GPU, and the share of its peak; run by `voxel_speed.py --device cuda`.

The peak is that of a product of two 8192 x 8192 matrices in bfloat16 in the same run. Multiply-accumulates of forward
and backward pass are counted by torch (two floating-point operations each).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from statistics import median

import torch
from torch import Tensor, nn
from voxel_loops import Case, Run, Stored, network, our_stamps, plain_stamps

from connectome_tl.nn.devices import exact_on_gpu
from connectome_tl.training.threads import one_thread

_SIDE = 8192


class Budget:
    """Time that is left of a run."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def allows(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return time.monotonic() + seconds < self.end


def clock() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(step: Callable[[], object], n: int, warm: int = 3) -> float:
    """Median wall-clock seconds of a call, after some that are not counted."""
    times = []
    for i in range(n + warm):
        start = clock()
        step()
        if i >= warm:
            times.append(clock() - start)
    return median(times)


def peak_of_products() -> float:
    """TFLOP/s of a matrix product in bfloat16."""
    a, b = (torch.randn(_SIDE, _SIDE, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * _SIDE**3 / seconds_of(lambda: a @ b, 20) / 1e12


def operations(net: nn.Module, volumes: Tensor) -> float:
    """Floating-point operations of a forward and a backward pass, in units of 1e12."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        net(volumes).square().mean().backward()
    return float(counter.get_total_flops()) / 1e12


def step_of(net: nn.Module, volumes: Tensor, precision: str) -> Callable[[], None]:
    """A training step without reading, augmentation and transfer."""
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=precision == "bf16"):
            loss = net(volumes).float().square().mean()
        loss.backward()
        optimiser.step()

    return step


def probe(case: Case, budget: Budget, peak: float, quick: bool) -> None:
    """The network alone: precision, memory format, and algorithms of cuDNN."""
    n = 3 if quick else 10
    volumes = torch.randn(case.batch, 1, *(case.size,) * 3, device="cuda")
    work = operations(network(case.norm).cuda(), volumes)
    print(f"  network alone: {work:.2f} TFLOP per step", flush=True)
    exact: list[tuple[str, Callable[[], AbstractContextManager[None]]]] = [("deterministic", exact_on_gpu)]
    for precision in ("bf16", "float32"):
        for layout in ("contiguous", "channels last"):
            for name, how in [*exact, ("benchmark", searching)] if precision == "bf16" else exact:
                what = f"{precision}, {layout}, {name}"
                if not budget.allows(3):
                    continue
                net, given = network(case.norm).cuda(), volumes
                if layout == "channels last":
                    net = net.to(memory_format=torch.channels_last_3d)
                    given = volumes.to(memory_format=torch.channels_last_3d)
                torch.cuda.reset_peak_memory_stats()
                with how():
                    seconds = seconds_of(step_of(net, given, precision), n)
                held = torch.cuda.max_memory_allocated() / 2**30
                rate = work / seconds
                print(
                    f"    {what:40s} {_told(seconds)} {rate:6.1f} TFLOP/s {_share(rate, peak)} {held:.1f} GiB",
                    flush=True,
                )
                del net
                torch.cuda.empty_cache()


class searching(nullcontext[None]):
    """cuDNN may choose the fastest algorithms by trying them."""

    def __enter__(self) -> None:
        self.before = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True

    def __exit__(self, *error: object) -> None:
        torch.backends.cudnn.benchmark = self.before


def _told(seconds: float) -> str:
    return f"{1000 * seconds:8.1f} ms"


def _share(rate: float, peak: float) -> str:
    return f"{rate / peak:6.1%} of the peak"


def loops(case: Case, stored: Stored, precision: str, steps: int) -> None:
    """The package's loop beside MONAI's; float32 is exact in both, which it is not by default in MONAI's."""
    medians = {}
    for name in ("ours", "MONAI"):
        torch.cuda.reset_peak_memory_stats()
        run = Run(steps + 3, clock, "cuda", precision)
        if name == "ours":
            stamps = our_stamps(case, stored, case.batch, run)
        else:
            with exact_on_gpu() if precision == "float32" else nullcontext():
                stamps = plain_stamps(case, stored, run)
        times = [b - a for a, b in pairwise(stamps[2:])]
        medians[name] = median(times)
        held = torch.cuda.max_memory_allocated() / 2**30
        print(f"    {precision:8s} {name:6s} {_told(medians[name])} per step, {held:.1f} GiB", flush=True)
        torch.cuda.empty_cache()
    print(f"    {precision:8s} MONAI / ours {medians['MONAI'] / medians['ours']:.2f}", flush=True)


def measure(quick: bool, seconds: float = 36.0) -> None:
    """Print everything; stops to begin new measurements when the time is used up."""
    budget = Budget(seconds)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    peak = peak_of_products()
    print(f"peak: {peak:.0f} TFLOP/s (bfloat16 product of {_SIDE} x {_SIDE} matrices)", flush=True)
    size, batch = (32, 4) if quick else (128, 16)
    stored = Stored(batch, size)
    with one_thread():
        cases = [Case(size, batch, norm, augmented=False) for norm in ("batch", "group")]
        for case in cases:
            print(case, flush=True)
            loops(case, stored, "bf16", 3 if quick else 10)
        augmented = Case(size, batch, "batch")
        stamps = our_stamps(augmented, stored, batch, Run(8, clock, "cuda", "bf16"))
        print(
            f"{augmented}\n    bf16     ours   {_told(median(b - a for a, b in pairwise(stamps[2:])))} per step",
            flush=True,
        )
        print(cases[0], flush=True)
        loops(cases[0], stored, "float32", 3 if quick else 8)
        for case in cases:
            print(case, flush=True)
            probe(case, budget, peak, quick)
