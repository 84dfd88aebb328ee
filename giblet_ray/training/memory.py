"""The most memory that a training process has held, as the operating system tells it."""

from __future__ import annotations

import threading
import weakref

import psutil
import torch

_LOOK_SECONDS = 0.02


def private_bytes() -> int:
    """Return the resident bytes that belong to this process alone.

    Anonymous memory: weights, gradients, optimizer, activations, buffers and the interpreter. Not
    counted are the blocks of the object store, which all processes of a node map, and the pages of
    libraries and mapped files, which the system can drop. Where the system does not tell shared
    memory apart (macOS), it is counted.
    """
    memory = psutil.Process().memory_info()
    return memory.rss - getattr(memory, "shared", 0)


class MemoryPeak:
    """Watches the memory of this process from now on, until it is let go of.

    The system keeps no peak of private memory alone. A thread looks fifty times a second: a
    peak that every step or batch comes back to is not missed.

    Parameters
    ----------
    device : torch.device
        Where the process trains.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._peak = [private_bytes()]
        over = threading.Event()
        weakref.finalize(self, over.set)
        # The thread holds what it writes to, and not this object, which could never go then.
        threading.Thread(target=_watch, args=(self._peak, over), name="memory", daemon=True).start()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def bytes(self) -> dict[str, float]:
        """Return the peaks so far, in bytes.

        Returns
        -------
        dict of str to float
            ``memory/host_peak_bytes``, see :func:`private_bytes`; on a GPU
            ``memory/gpu_peak_bytes``: what PyTorch reserved there, the CUDA context aside.
        """
        peaks = {"memory/host_peak_bytes": float(max(self._peak[0], private_bytes()))}
        if self._device.type == "cuda":
            peaks["memory/gpu_peak_bytes"] = float(torch.cuda.max_memory_reserved(self._device))
        return peaks


def _watch(peak: list[int], over: threading.Event) -> None:
    while not over.wait(_LOOK_SECONDS):
        peak[0] = max(peak[0], private_bytes())
