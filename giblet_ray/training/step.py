"""One optimiser step and one evaluation, as all ranks do them together. Torch alone.

Shapes: rows are TRs (windows times TRs per window), V voxels, S scans, B windows of W TRs.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import Batch, Loader
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.order import Step
from giblet_ray.dataset.windows import Windows, equal_length_batches, rank_part
from giblet_ray.errors import InputError
from giblet_ray.evaluation.own_metrics import HeldOutRows, load_metrics
from giblet_ray.evaluation.scan_sums import ScanSums
from giblet_ray.evaluation.unit_scores import HeldOutScores
from giblet_ray.models.predictor import Predictor, Shapes, in_batch_order
from giblet_ray.models.shards import UnitShards
from giblet_ray.training.batch_norm import layers_that_adapt, retake, retaking_steps
from giblet_ray.training.encoding_loss import sum_over_ranks
from giblet_ray.training.loss import build_loss
from giblet_ray.training.loss_totals import LossTotals
from giblet_ray.training.targets import Targets


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
    frozen_trunk : bool
        Leave all but the heads of a predictor as it is when it predicts.
    shards : UnitShards, optional
        Which units are whose, where the ranks share out the head: its parameters differ.
    """

    def __init__(
        self,
        model: Predictor,
        world_size: int,
        device: torch.device,
        frozen_batch_norm: bool,
        frozen_trunk: bool = False,
        shards: UnitShards | None = None,
    ) -> None:
        self.model, self.world_size, self.device = model, world_size, device
        self._frozen, self._frozen_trunk = frozen_batch_norm, frozen_trunk
        model.eval()  # until it is asked to train
        self.parallel: nn.Module = model
        own = set(model.head_units) if shards is not None else set()
        names = dict(model.named_parameters())
        self._own = [each for name, each in names.items() if name in own]
        self._common = [each for name, each in names.items() if name not in own]
        if world_size == 1:
            return
        if not any(each.requires_grad for each in self._common):
            with torch.no_grad():  # what DistributedDataParallel does first
                for tensor in (*self._common, *model.buffers()):
                    dist.broadcast(tensor, src=0)
            return
        trained: nn.Module = model
        if device.type == "cuda" and not frozen_batch_norm:
            trained = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        ignored = [*own, *_fixed_buffers(model)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(trained, ignored)
        # A head has no gradient on a rank that has no row of its subject; one that no rank used
        # has none anywhere, and so takes no step, as with one rank.
        unused = model.tells_subjects_apart
        if own:
            unused &= any(model.is_of_heads(name) for name in names if name not in own)
        # Without device_ids: everything is where it is to be, the subjects on the CPU.
        self.parallel = DistributedDataParallel(
            trained, gradient_as_bucket_view=True, find_unused_parameters=unused
        )
        self._take_buffers()

    def train_mode(self) -> None:
        """Prepare for a training step."""
        if self.model.training:
            return
        self.parallel.train()
        if self._frozen_trunk:
            for name, module in self.model.named_modules():
                module.training = self.model.is_of_heads(name)
        if self._frozen:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def eval_mode(self) -> None:
        """Prepare for evaluation: every rank takes what rank 0 has beside its weights."""
        self.model.eval()
        if self.world_size > 1:
            self._take_buffers()

    def _take_buffers(self) -> None:
        for buffer in self.model.buffers():
            dist.broadcast(buffer, src=0)

    def unsynchronised(self) -> AbstractContextManager[None]:
        """Keep gradients on this rank, until the last part of a batch."""
        if isinstance(self.parallel, DistributedDataParallel):
            return self.parallel.no_sync()
        return nullcontext()

    def clip_gradients(self, limit: float) -> Tensor:
        """Scale gradients so that the norm of all is at most so much; return what it was."""
        if not self._own:
            return torch.nn.utils.clip_grad_norm_(self._common, limit)
        own, common = (
            torch.nn.utils.get_total_norm([each.grad for each in of if each.grad is not None])
            for of in (self._own, self._common)
        )
        squares = sum_over_ranks(own.square().to(self.device)) + common.square().to(self.device)
        norm: Tensor = squares.sqrt()
        torch.nn.utils.clip_grads_with_norm_([*self._common, *self._own], limit, norm)
        return norm


def _fixed_buffers(model: Predictor) -> list[str]:
    """Return the names of buffers that no step changes, and that need no sending in each."""
    fixed = list(model.fixed_vectors.values())
    of_fixed = [
        (name, module)
        for name, module in model.named_modules()
        if any(module is each for each in fixed)
    ]
    return [f"{name}.{buffer}" for name, of in of_fixed for buffer, _ in of.named_buffers()]


class Scores:
    """From batches to losses and metrics.

    Parameters
    ----------
    normalisation : Normalisation
        How BOLD is z-scored.
    shapes : Shapes
        What the model is built for.
    job : TrainJob
        Settings of the run.
    device, shards
        As :class:`Ranks` takes them.
    """

    def __init__(
        self,
        normalisation: Normalisation,
        shapes: Shapes,
        job: TrainJob,
        device: torch.device,
        shards: UnitShards | None = None,
    ) -> None:
        self._targets = Targets.of(normalisation, device)
        self._valid_SV = self._targets.valid_SV
        self._n_valid_S = self._valid_SV.sum(dim=1)
        apart = len(shapes.subjects) if job.model.head_per_subject else 1
        self._loss = build_loss(job.loss, job.packages, apart, shards is not None).to(device)
        self._metrics = load_metrics(job.train.metrics, job.packages)
        self._subjects = [scan.subject for scan in normalisation.scans]
        self._subject_S = torch.tensor([shapes.subjects.index(name) for name in self._subjects])
        self.shapes, self._job, self._device = shapes, job, device
        self._shards, self._own_targets = shards, self._targets
        if shards is not None:
            self._own_targets = self._targets.of_units(shards, self._subject_S)
        films = [scan.stimulus for scan in normalisation.scans]
        self._lacks = {
            part: torch.tensor([film in lack for film in films])
            for part, lack in shapes.lacking.items()
        }
        self._bf16 = use_bf16(job.train.precision, device)

    def read(self, batch: Batch, part: slice) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return inputs, subject (B,) and z-scored BOLD (B, W, V) of some of the windows."""
        inputs, scan_B, bold_BWV = self._read(batch, part)
        return inputs, self._subject_S[scan_B], self._targets.z_scored(bold_BWV, scan_B)

    def _read(self, batch: Batch, part: slice) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return inputs, scan (B,) and BOLD (B, W, V) of some of the windows, as it is stored."""
        values = {name: value[part] for name, value in batch.values.items()}
        vectors = {name: value[part] for name, value in batch.vectors.items()}
        scan_B = torch.from_numpy(batch.windows.scan[part]).long()
        return {**self.shapes.inputs(values), **vectors}, scan_B, values["bold"]

    def lacking(self, scan_B: np.ndarray) -> dict[str, Tensor]:
        """Return which windows are of films without a part, (B,) bool, by the parts that some
        lack."""
        scan = torch.from_numpy(scan_B).long()
        return {
            part: lacks_S[scan].to(self._device, non_blocking=True)
            for part, lacks_S in self._lacks.items()
        }

    def _precision(self) -> AbstractContextManager[Any]:
        """Return what predictions are computed in."""
        return torch.autocast(self._device.type, torch.bfloat16) if self._bf16 else nullcontext()

    def _predict(
        self, model: nn.Module, batch: Batch, part: slice, shards: UnitShards | None = None
    ) -> tuple[Tensor, ...]:
        """Return what is predicted of some of the windows, or with shards of all ranks', of whose
        units this rank has some.

        Returns
        -------
        prediction_NV, target_NV, valid_NV : Tensor
            z-scored BOLD, and what is valid of it in the row's subject: (rows, units) each.
        subject_N, n_valid_N : Tensor
            That subject, and how many units of it are valid: (rows,) each.
        """
        inputs, scan_B, bold_BWV = self._read(batch, part)
        subject, lacking = self._subject_S[scan_B], self.lacking(batch.windows.scan[part])
        length_B = torch.from_numpy(batch.windows.length[part]).long()
        targets, units = self._targets, tuple(self.shapes.units.values())
        if shards is not None:  # on its way while the model predicts
            sizes = shards.sizes(bold_BWV.shape)
            told_N2 = shards.told(torch.stack([scan_B, length_B], dim=1), sizes)
            arrive = shards.to_units(bold_BWV, subject, sizes)
        with self._precision():
            given = inputs, batch.exists[part], subject
            predicted = model(*given, lacking) if lacking else model(*given)
        if shards is not None:
            (scan_B, length_B), bold_BWV = told_N2.unbind(1), arrive()
            targets, units, subject = self._own_targets, shards.own(), self._subject_S[scan_B]
        prediction_BWV = in_batch_order(predicted, subject, units)
        if prediction_BWV.shape != bold_BWV.shape:
            raise InputError(
                f"--model.kind {self._job.model.kind}: predicted a shape of "
                f"{tuple(prediction_BWV.shape)}, where (windows, TRs, units) "
                f"{tuple(bold_BWV.shape)} is expected"
            )
        n_trs = bold_BWV.shape[1]
        scan_B = scan_B.to(self._device, non_blocking=True)
        of_rows = (
            prediction_BWV.flatten(0, 1).float(),
            targets.z_scored(bold_BWV, scan_B).flatten(0, 1),
            targets.valid(scan_B, n_trs),
        )
        n_valid_N = self._n_valid_S[scan_B].repeat_interleave(n_trs)
        subject_N = subject.repeat_interleave(n_trs)
        is_row_N = (torch.arange(n_trs) < length_B[:, None]).flatten()
        if is_row_N.all():
            return (*of_rows, subject_N, n_valid_N)
        # Rows that only the longest windows have do not count.
        at = is_row_N.nonzero().flatten().to(self._device, non_blocking=True)
        return (*(each[at] for each in of_rows), subject_N[is_row_N], n_valid_N[at])

    def backward(self, ranks: Ranks, batch: Batch, n_trs: int, totals: LossTotals) -> Tensor:
        """Compute and clip the gradients of a global batch; return their norm before clipping.

        Parameters
        ----------
        ranks : Ranks
            The model.
        batch : Batch
            The rank's windows.
        n_trs : int
            BOLD TRs of all ranks' windows together.
        totals : LossTotals
            Where the losses are added.
        """
        ranks.train_mode()
        parts = self._parts(batch)
        totals.begin(n_trs)
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            with nullcontext() if last else ranks.unsynchronised():
                *rows, subject_N, n_valid_N = self._predict(
                    ranks.parallel, batch, part, self._shards
                )
                terms = self._loss(*rows, n_trs, subject_N, n_valid_N)
                terms.objective.backward()
            totals.add(terms)
        return ranks.clip_gradients(self._job.optimizer.max_grad_norm)

    def _parts(self, batch: Batch) -> list[slice]:
        """Return the parts that a rank's share of a batch is computed in."""
        n, parts = len(batch.windows), self._job.train.accumulation
        return [slice(n * part // parts, n * (part + 1) // parts) for part in range(parts)]

    def retake_batch_norm(
        self, ranks: Ranks, loader: Loader, train: Windows, steps: Sequence[Step]
    ) -> None:
        """Take BatchNorm's statistics from an epoch's first batches, without dropout.

        Parameters
        ----------
        ranks, loader
            The model, and what delivers this rank's batches.
        train : Windows
            What trains.
        steps : sequence of Step
            The rank's steps of an epoch, all of them: what is drawn does not depend on where the
            training was interrupted.
        """
        ranks.train_mode()
        layers = layers_that_adapt(ranks.model)
        if not layers:
            return

        def predict() -> None:
            taken = retaking_steps(steps)
            for batch in loader.batches([train[step.windows] for step in taken]):
                for part in self._parts(batch):
                    self._predict(ranks.model, batch, part)

        retake(ranks.model, layers, predict, ranks.world_size)

    def _judged_batches(self, val: Windows, rank: int, world_size: int) -> list[Windows]:
        """Return the batches of held-out windows that a rank predicts."""
        size = max(1, self._job.train.batch_trs // world_size)
        return equal_length_batches(rank_part(val, rank, world_size), size)

    @torch.inference_mode()
    def evaluate(
        self, ranks: Ranks, loader: Loader, val: Windows, rank: int
    ) -> tuple[HeldOutScores, dict[str, float]]:
        """Score the model on all held-out rows, scan by scan, from sums over batches and ranks."""
        ranks.eval_mode()
        mine = self._judged_batches(val, rank, ranks.world_size)
        units, is_shared = self.shapes.units, self.shapes.units_are_shared
        n_units = [units[name] for name in self._subjects]
        sums = ScanSums(self._subjects, n_units, self._device, is_shared)
        rows = HeldOutRows(self._subjects, max(n_units), self._device, is_shared)
        loss = torch.zeros((), dtype=torch.float64, device=self._device)
        for batch in loader.batches(mine):
            prediction, target, valid, *_ = self._predict(ranks.model, batch, slice(None))
            scan_N, tr_N = _places(batch.windows)
            for scan in scan_N.unique().tolist():
                of_scan = torch.nonzero(scan_N == scan)[:, 0].to(self._device)
                both = (each[of_scan, : n_units[scan]] for each in (prediction, target))
                sums.add(scan, *both)
            loss += self._loss.of_rows(prediction, target, valid)
            if self._metrics:
                rows.add(scan_N, tr_N, prediction, target)
        if self._shards is not None:  # as often as the rank that has most batches
            each = (self._judged_batches(val, r, ranks.world_size) for r in range(ranks.world_size))
            for _ in range(max(map(len, each)) - len(mine)):
                with self._precision():
                    ranks.model.take_part()
        sums.reduce()
        if ranks.world_size > 1:
            dist.all_reduce(loss)
        valid_S = [of[:n] for of, n in zip(self._valid_SV, n_units, strict=True)]
        scores = sums.compute(valid_S)
        metrics = {f"val/{name}": value for name, value in scores.summary().items()}
        if len(scores.subjects) > 1:
            for name, of_subject in scores.subjects.items():
                metrics[f"val/{name}/pearson_mean"] = of_subject.summary()["pearson_mean"]
        metrics["val/loss"] = self._loss.held_out(scores, float(loss) / scores.n_trs)
        return scores, metrics | rows.compute(self._metrics, self._valid_SV)


def _places(windows: Windows) -> tuple[Tensor, Tensor]:
    """Return scan and TR of each row of some windows, (N,) int64 each."""
    n, length = windows.shape
    tr_BW = torch.from_numpy(windows.start).long()[:, None] + torch.arange(length)
    scan_BW = torch.from_numpy(windows.scan).long()[:, None].expand(n, length)
    return scan_BW.flatten(), tr_BW.flatten()


def seed_dropout(seed: int, step: int, rank: int) -> None:
    """Make this step's random numbers a function of where it is, not of what came before."""
    (state,) = np.random.SeedSequence([seed, step, rank]).generate_state(1).tolist()
    # torch.manual_seed remembers every call, with its traceback, for devices that nobody uses.
    torch.default_generator.manual_seed(state)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(state)


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16: where asked, or on a GPU that has it."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"
