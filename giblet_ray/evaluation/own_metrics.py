"""Metrics of a user's own, computed from the predictions of all held-out TRs.

A metric is a function of one scan's held-out TRs::

    def spearman(prediction_TV, target_TV):      # ndarray, ndarray: (TRs, units) float32
        return scipy.stats....                   # ndarray: (units,), one number per unit

of the units that count in the scan. What is logged, as ``val/spearman``, is the mean over a
subject's scans, over subjects, and over the units that have a number; over units before subjects,
where those of subjects differ. Rows lie where they were predicted, on the ranks' CPUs; some units
at a time, all ranks are sent all rows, and one of them computes::

    units        0 ... k-1 | k ... 2k-1 | 2k ... 3k-1 | ...
    computed by  rank 0    | rank 1     | rank 0      | ...

Shapes: N rows of this rank, T TRs of a scan, U units at a time, V units, M metrics, S scans, P
subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import world_size
from giblet_ray.evaluation.score import metric_name
from giblet_ray.evaluation.unit_scores import nanmean
from giblet_ray.plugins import load_object

Metric = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray]

BYTES_AT_A_TIME = 256 * 2**20
"""Rows of so many units are gathered at a time."""


def load_metrics(paths: Iterable[str], packages: Iterable[str]) -> dict[str, Metric]:
    """Return metrics by name, that of the function: ``my_lab.metrics:spearman``.

    Raises
    ------
    InputError
        If one may not be or cannot be imported, or is no function.
    """
    metrics: dict[str, Metric] = {}
    for path in paths:
        metric = load_object(path, packages, "--train.metrics")
        if not callable(metric):
            raise InputError(f"--train.metrics {path}: is no function")
        metrics[metric_name(path)] = metric
    return metrics


class HeldOutRows:
    """Predictions and BOLD of held-out rows, kept to compute metrics from.

    Parameters
    ----------
    subjects, units_are_shared
        As :class:`giblet_ray.evaluation.scan_sums.ScanSums` takes them.
    n_units : int
        V, of the subject with most.
    device : torch.device
        Where ranks exchange rows.
    """

    def __init__(
        self,
        subjects: Sequence[str],
        n_units: int,
        device: torch.device,
        units_are_shared: bool = True,
    ) -> None:
        self._subjects, self._n_units, self._device = subjects, n_units, device
        self._units_are_shared = units_are_shared
        self._places: list[Tensor] = []
        self._rows: list[Tensor] = []

    def add(self, scan_N: Tensor, tr_N: Tensor, prediction_NV: Tensor, target_NV: Tensor) -> None:
        """Keep rows.

        Parameters
        ----------
        scan_N, tr_N : Tensor
            (N,) int64, each row's scan and TR.
        prediction_NV, target_NV : Tensor
            (N, V), or fewer units of a subject who has no more.
        """
        self._places.append(torch.stack([scan_N, tr_N], dim=1).cpu())
        rows_2NV = torch.stack([prediction_NV, target_NV]).float().cpu()
        lacking = self._n_units - rows_2NV.shape[2]
        self._rows.append(torch.nn.functional.pad(rows_2NV, (0, lacking)))

    def compute(self, metrics: Mapping[str, Metric], valid_SV: Tensor) -> dict[str, float]:
        """Return each metric over the rows of all ranks, the same on every rank.

        Parameters
        ----------
        metrics : mapping of str to Metric
            By name.
        valid_SV : Tensor
            (scans, V) bool, the units that count in each scan.

        Raises
        ------
        InputError
            If a metric does not return one number per unit.
        """
        if not metrics:
            return {}
        places_N2 = torch.cat([torch.empty(0, 2, dtype=torch.int64), *self._places])
        places_N2 = _gathered(places_N2, self._device)
        order_N = np.lexsort((places_N2[:, 1], places_N2[:, 0]))
        scan_N = places_N2[order_N, 0].numpy()
        step = max(1, BYTES_AT_A_TIME // max(1, 8 * len(scan_N)))
        rank = dist.get_rank() if world_size() > 1 else 0
        shape = len(metrics), len(set(self._subjects)), self._n_units
        found_MPV = torch.zeros(shape, dtype=torch.float64)
        for index, start in enumerate(range(0, self._n_units, step)):
            units = slice(start, start + step)
            none = torch.empty(2, 0, self._n_units)  # of a rank without rows
            mine_2NU = torch.cat([rows_2NV[:, :, units] for rows_2NV in (none, *self._rows)], dim=1)
            rows_N2U = _gathered(mine_2NU.transpose(0, 1), self._device)
            if index % world_size() == rank:
                rows_2NU = rows_N2U.transpose(0, 1)[:, order_N].contiguous().numpy()
                valid_SU = valid_SV[:, units].cpu().numpy()
                found = [self._means(*each, rows_2NU, scan_N, valid_SU) for each in metrics.items()]
                found_MPV[:, :, units] = torch.from_numpy(np.stack(found))
        if world_size() > 1:
            found_MPV = found_MPV.to(self._device)
            dist.all_reduce(found_MPV)
        of_metrics = zip(metrics, found_MPV.cpu().numpy(), strict=True)
        return {name: self._mean(of_PV) for name, of_PV in of_metrics}

    def _mean(self, values_PV: NDArray[np.float64]) -> float:
        """Return the mean over subjects and units, in the order that suits the units."""
        if self._units_are_shared:
            return float(nanmean(list(nanmean(list(values_PV)))))
        return float(nanmean([nanmean(list(of_V)) for of_V in values_PV]))

    def _means(
        self,
        name: str,
        metric: Metric,
        rows_2NU: NDArray[np.float32],
        scan_N: NDArray,
        valid_SU: NDArray[np.bool_],
    ) -> NDArray[np.float64]:
        """Return a metric's mean over each subject's scans, per unit (P, U), NaN where it counts
        in none."""
        nowhere = np.full(valid_SU.shape[1], np.nan)
        by_subject: dict[str, list[NDArray]] = {name: [nowhere] for name in self._subjects}
        for scan in np.unique(scan_N):
            valid_U = valid_SU[scan]
            if not valid_U.any():
                continue
            # What does not count is NaN in a test's predictions, which a metric may not take.
            prediction_TU, target_TU = rows_2NU[:, scan_N == scan][:, :, valid_U]
            found = np.asarray(metric(prediction_TU, target_TU), np.float64)
            if found.shape != target_TU.shape[1:]:
                raise InputError(
                    f"--train.metrics: {name.removeprefix('val/')} returned a shape of "
                    f"{found.shape} for {target_TU.shape[1]} units; one number for each is "
                    "expected"
                )
            counted_U = np.full(len(valid_U), np.nan)
            counted_U[valid_U] = found
            by_subject[self._subjects[scan]].append(counted_U)
        return np.stack([nanmean(scans) for scans in by_subject.values()])


def _gathered(values: Tensor, device: torch.device) -> Tensor:
    """Return the rows of all ranks, in the order of the ranks, on the CPU."""
    if world_size() == 1:
        return values
    mine = values.to(device).contiguous()
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(mine)], device=device))
    numbers = [int(count) for count in counts]
    padded = mine.new_zeros((max(numbers), *mine.shape[1:]))
    padded[: len(mine)] = mine
    of_ranks = [torch.empty_like(padded) for _ in numbers]
    dist.all_gather(of_ranks, padded)
    return torch.cat([rows[:n].cpu() for rows, n in zip(of_ranks, numbers, strict=True)])
