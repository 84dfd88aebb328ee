"""One optimiser step and one evaluation, as all ranks do them together. Torch alone.

Shapes: rows are TRs (windows times TRs per window), V voxels, S scans.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import Batch, Loader
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.windows import Windows, equal_length_batches, rank_part
from giblet_ray.errors import InputError
from giblet_ray.evaluation.metrics import VoxelMetrics, VoxelSums
from giblet_ray.evaluation.score import VAL_PEARSON
from giblet_ray.models.inputs import encoder_inputs, z_score
from giblet_ray.training.loss import EncodingLoss


class Ranks:
    """The model as all ranks train it together.

    Parameters
    ----------
    model : nn.Module
        On its device, with the same weights on every rank.
    world_size : int
        Ranks.
    device : torch.device
        The rank's own.
    frozen_batch_norm : bool
        Normalise by the running statistics, and leave them as they are.
    """

    def __init__(
        self,
        model: nn.Module,
        world_size: int,
        device: torch.device,
        frozen_batch_norm: bool,
    ) -> None:
        self.model, self.world_size, self.device = model, world_size, device
        self._frozen = frozen_batch_norm
        self.parallel: nn.Module = model
        if world_size > 1:
            on_gpu = device.type == "cuda"
            trained: nn.Module = model
            if on_gpu and not frozen_batch_norm:
                trained = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            self.parallel = DistributedDataParallel(
                trained, device_ids=[device.index] if on_gpu else None, gradient_as_bucket_view=True
            )

    def train_mode(self) -> None:
        """Prepare for a training step."""
        self.parallel.train()
        if self._frozen:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def eval_mode(self) -> None:
        """Prepare for evaluation: every rank takes the BatchNorm statistics of rank 0."""
        self.model.eval()
        if self.world_size > 1:
            for buffer in self.model.buffers():
                dist.broadcast(buffer, src=0)

    def unsynchronised(self) -> AbstractContextManager[None]:
        """Keep gradients on this rank, until the last part of a batch."""
        if isinstance(self.parallel, DistributedDataParallel):
            return self.parallel.no_sync()
        return nullcontext()


class Scores:
    """From batches to losses and metrics."""

    def __init__(self, normalisation: Normalisation, job: TrainJob, device: torch.device) -> None:
        self._mean_SV = torch.tensor(normalisation.mean_SV, device=device)
        self._std_SV = torch.tensor(normalisation.std_SV, device=device)
        valid_V = torch.tensor(normalisation.valid_V)  # counted here, also for a device of shapes
        self._loss = EncodingLoss(valid_V, job.loss.correlation_weight).to(device)
        self._valid_V = self._loss.valid_V
        self._job, self._device = job, device
        self._bf16 = use_bf16(job.train.precision, device)

    def _predict(self, model: nn.Module, batch: Batch, part: slice) -> tuple[Tensor, Tensor]:
        """Return prediction and z-scored BOLD, (rows, voxels) each, of some of the windows."""
        values = {name: value[part] for name, value in batch.values.items()}
        scan = torch.from_numpy(batch.windows.scan[part]).to(self._device)
        target = z_score(values["bold"], scan, self._mean_SV, self._std_SV, self._valid_V)
        inputs = encoder_inputs(values, self._job.model.audio_codebooks)
        device = self._device.type
        with torch.autocast(device, torch.bfloat16) if self._bf16 else nullcontext():
            _, prediction = model(*inputs, return_voxels=True)
        return prediction.float(), target

    def backward(self, ranks: Ranks, batch: Batch, n_global: int, totals: LossTotals) -> Tensor:
        """Compute and clip the gradients of a global batch; return their norm before clipping."""
        ranks.train_mode()
        n, parts = len(batch.windows), self._job.train.accumulation
        bounds = [n * part // parts for part in range(parts + 1)]
        totals.begin(n_global)
        for index in range(parts):
            last = index == parts - 1
            with nullcontext() if last else ranks.unsynchronised():
                part = slice(bounds[index], bounds[index + 1])
                prediction, target = self._predict(ranks.parallel, batch, part)
                rows = n_global * batch.windows.shape[1]
                terms = self._loss(prediction, target, rows)
                terms.objective.backward()
            totals.add(terms.loss, terms.mse, terms.correlation_loss)
        limit = self._job.optimizer.max_grad_norm
        return torch.nn.utils.clip_grad_norm_(ranks.model.parameters(), limit)

    @torch.inference_mode()
    def evaluate(
        self, ranks: Ranks, loader: Loader, val: Windows, rank: int
    ) -> tuple[VoxelMetrics, dict[str, float]]:
        """Score the model on all held-out rows, from sums over batches and ranks."""
        ranks.eval_mode()
        mine = rank_part(val, rank, ranks.world_size)
        size = max(1, self._job.train.batch_size // ranks.world_size)
        sums = VoxelSums(len(self._valid_V), self._device)
        for batch in loader.batches(equal_length_batches(mine, size)):
            sums.update(*self._predict(ranks.model, batch, slice(None)))
        if ranks.world_size > 1:
            dist.all_reduce(sums.tensor)
        voxels = sums.compute(self._valid_V)
        metrics = {f"val/{name}": value for name, value in voxels.summary().items()}
        weight = self._job.loss.correlation_weight
        metrics["val/loss"] = voxels.mse + weight * (1 - metrics[VAL_PEARSON])
        return voxels, metrics


class LossTotals:
    """Losses of an epoch, added up on the device so that no step waits for the host."""

    _NAMES = ("loss", "mse", "correlation_loss")

    def __init__(self, sums: dict[str, float], device: torch.device) -> None:
        start = [sums.get(name, 0.0) for name in (*self._NAMES, "windows")]
        self._sums = torch.tensor(start, dtype=torch.float64, device=device)
        self._step = torch.zeros(3, dtype=torch.float64, device=device)
        self._has_correlation = True

    def begin(self, n_global: int) -> None:
        """Begin a step of so many windows."""
        self._step = torch.zeros_like(self._step)
        self._n_global = n_global
        self._sums[3] += n_global

    def add(self, loss: Tensor, mse: Tensor, correlation_loss: Tensor | None) -> None:
        """Add the losses of a part of the step's batch; the parts add up to the batch's."""
        self._has_correlation = correlation_loss is not None
        terms = torch.stack([loss, mse, mse if correlation_loss is None else correlation_loss])
        self._step += terms
        self._sums[:3] += terms * self._n_global

    def latest(self) -> dict[str, float]:
        """Return the losses of the last step."""
        return self._named(self._step.tolist(), "step")

    def means(self, epoch: int) -> dict[str, float]:
        """Return the mean losses over the epoch's windows so far."""
        *sums, windows = self._finite(epoch)
        return self._named([value / windows for value in sums], "train")

    def sums(self, epoch: int) -> dict[str, float]:
        """Return what a new object continues from."""
        return dict(zip((*self._NAMES, "windows"), self._finite(epoch), strict=True))

    def _finite(self, epoch: int) -> list[float]:
        sums = self._sums.tolist()
        if not all(map(math.isfinite, sums)):
            raise InputError(
                f"the loss became {sums[0]} in epoch {epoch + 1}: training diverged; use a lower "
                "--optimizer.lr or --optimizer.max_grad_norm"
            )
        return sums

    def _named(self, values: list[float], group: str) -> dict[str, float]:
        named = {f"{group}/{name}": v for name, v in zip(self._NAMES, values, strict=True)}
        if not self._has_correlation:
            del named[f"{group}/correlation_loss"]
        return named


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Make this step's random numbers a function of where it is, not of what came before."""
    (state,) = np.random.SeedSequence([seed, step, rank]).generate_state(1)
    torch.manual_seed(int(state))


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16: where asked, or on a GPU that has it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
