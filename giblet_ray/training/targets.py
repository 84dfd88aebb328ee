"""BOLD as a model is to predict it: z-scored scan by scan. Torch alone.

Shapes: S scans, B windows of W TRs, V units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.models.shards import UnitShards


class Targets:
    """Z-scores BOLD, and says what of it counts.

    Parameters
    ----------
    mean_SV, std_SV, valid_SV : Tensor
        Of each scan and unit, on the device of the BOLD.
    same_units : bool
        Whether the same units are valid in all scans.
    """

    def __init__(self, mean_SV: Tensor, std_SV: Tensor, valid_SV: Tensor, same_units: bool) -> None:
        self._mean_SV, self._std_SV, self.valid_SV = mean_SV, std_SV, valid_SV
        self._same_units = same_units

    @classmethod
    def of(cls, normalisation: Normalisation, device: torch.device) -> Targets:
        """Return those of a run's normalisation."""
        mean_SV = torch.tensor(normalisation.mean_SV, device=device)
        std_SV = torch.tensor(normalisation.std_SV, device=device)
        valid_SV = torch.tensor(normalisation.valid_SV, device=device)
        same_units = bool((normalisation.valid_SV == normalisation.valid_SV[0]).all())
        return cls(mean_SV, std_SV, valid_SV, same_units)

    def of_units(self, shards: UnitShards, subject_S: Tensor) -> Targets:
        """Return those of a rank's units; `subject_S` says whose each scan is."""
        mean_SV, std_SV, valid_SV = (
            shards.cut(each, subject_S).contiguous()
            for each in (self._mean_SV, self._std_SV, self.valid_SV)
        )
        return Targets(mean_SV, std_SV, valid_SV, self._same_units)

    def z_scored(self, bold_BWV: Tensor, scan_B: Tensor) -> Tensor:
        """Return BOLD z-scored, float32; units that are not valid become 0."""
        scan_B = scan_B.to(bold_BWV.device, non_blocking=True)
        mean_BV, std_BV = self._mean_SV[scan_B], self._std_SV[scan_B]
        scored_BWV = (bold_BWV.float() - mean_BV[:, None]) / std_BV[:, None]
        return torch.where(self.valid_SV[scan_B][:, None], scored_BWV, 0.0)

    def valid(self, scan_B: Tensor, n_trs: int) -> Tensor:
        """Return what is valid of each row of windows of so many TRs, (rows, V) bool."""
        if self._same_units:  # takes no memory
            return self.valid_SV[0].expand(len(scan_B) * n_trs, -1)
        scan_B = scan_B.to(self.valid_SV.device, non_blocking=True)
        return self.valid_SV[scan_B].repeat_interleave(n_trs, dim=0)
