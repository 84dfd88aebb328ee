"""The losses of an epoch, added up where they are computed. Torch alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.training.encoding_loss import LossTerms


class LossTotals:
    """Losses of an epoch, added up on the device so that no step waits for the host.

    Parameters
    ----------
    sums : dict of str to float
        Of the epoch so far, as :meth:`sums` gives them; empty at its start.
    device : torch.device
        Where they are kept.
    """

    def __init__(self, sums: dict[str, float], device: torch.device) -> None:
        self._trs = sums.get("trs", 0)
        self._sums = {
            name: torch.tensor(value, dtype=torch.float64, device=device)
            for name, value in sums.items()
            if name != "trs"
        }
        self._step: dict[str, Tensor] = {}

    def begin(self, n_trs: int) -> None:
        """Begin a step of so many BOLD TRs."""
        self._step = {}
        self._n_trs = n_trs
        self._trs += n_trs

    def add(self, terms: LossTerms) -> None:
        """Add the losses of a part of the step's batch; the parts add up to the batch's."""
        for name, term in terms.logged.items():
            value = term.double()
            self._step[name] = self._step.get(name, 0) + value
            self._sums[name] = self._sums.get(name, 0) + value * self._n_trs

    def latest(self) -> dict[str, float]:
        """Return the losses of the last step."""
        return {f"step/{name}": float(value) for name, value in self._step.items()}

    def means(self, epoch: int) -> dict[str, float]:
        """Return the mean losses over the epoch's TRs so far."""
        sums = self.sums(epoch)
        n_trs = sums.pop("trs")
        return {f"train/{name}": value / n_trs for name, value in sums.items()}

    def sums(self, epoch: int) -> dict[str, float]:
        """Return what a new object continues from."""
        sums = {name: float(value) for name, value in self._sums.items()}
        if not all(map(math.isfinite, sums.values())):
            raise InputError(
                f"the loss became {sums['loss']} in epoch {epoch + 1}: training diverged; use a "
                "lower --optimizer.lr or --optimizer.max_grad_norm"
            )
        return {**sums, "trs": self._trs}
