"""What a device does at most: a large matrix product, and a large copy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import torch

from giblet_ray.training.step import use_bf16


@dataclass(frozen=True)
class Machine:
    """What the device does at most.

    Attributes
    ----------
    device : torch.device
        It.
    flops, bandwidth : float
        Floating-point operations per second of a large matrix product in the run's precision, and
        bytes per second that a large copy reads and writes.
    """

    device: torch.device
    flops: float
    bandwidth: float

    @classmethod
    def measure(cls, device: torch.device) -> Machine:
        """Time a product and a copy, each at its best of several."""
        is_gpu = device.type == "cuda"
        n, size = (8192, 2**30) if is_gpu else (1024, 2**26)
        dtype = torch.bfloat16 if use_bf16("auto", device) else torch.float32
        one, other = torch.randn(2, n, n, device=device).to(dtype)
        source = torch.ones(size // 4, device=device)
        copied = torch.empty_like(source)
        multiply = _best_seconds(lambda: torch.mm(one, other), device)
        copy = _best_seconds(lambda: copied.copy_(source), device)
        return cls(device, 2 * n**3 / multiply, 2 * size / copy)

    @property
    def free_bytes(self) -> int:
        """Memory that is free."""
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[0]
        return psutil.virtual_memory().available


def _best_seconds(run: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for _ in range(6):
        begun = time.perf_counter()
        run()
        wait(device)
        seconds.append(time.perf_counter() - begun)
    return min(seconds[1:])


def wait(device: torch.device) -> None:
    """Wait for what the device has been given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
