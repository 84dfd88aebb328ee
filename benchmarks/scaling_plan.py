"""What 10 million TRs on 64 GPUs move, read and keep, computed from rates; docs/scaling.md."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from large_dataset import N_UNITS, VALUES
from machine import cpu_model
from planning import WORKERS, Planned

from giblet_ray.dataset.source import TASK_BYTES
from giblet_ray.models.encoder import create_encoder

GPUS, GPUS_PER_NODE, TRS_PER_GPU = WORKERS, 8, 64
OPTIMIZER_BYTES, MODEL_BYTES, STATE_BYTES = 28, 12, 12
"""Of a parameter in float32: AdamW reads it, its gradient and two moments and writes three of
them; forward and backward read it, and the gradient is written; a checkpoint keeps it and its
moments."""


@dataclass(frozen=True)
class Assumed:
    """A number that is not measured here.

    Attributes
    ----------
    value : float
        In bytes per second, or seconds.
    what, source : str
        What it is, and where it is from.
    """

    value: float
    what: str
    source: str


GPU = Assumed(4.3e12, "a GPU's memory (B/s)", "H200: 90 % of the data sheet's 4.8 TB/s")
NETWORK = Assumed(40e9, "a GPU's network, each way (B/s)", "80 % of a 400 Gb/s adapter")
STORAGE = Assumed(2e9, "a node's storage (B/s)", "assumed")
OBJECT_STORE = Assumed(0.7 * 600e9, "room for rows in a node's object store (B)", "assumed")
LISTING = Assumed(0.1, "1,000 files listed by S3 (s)", "assumed")
_LAST = "bottleneck_to_voxels.4."
"""Contract 1's layer to the voxels: its weight, then its bias."""
ROW_BYTES = sum(kind.nbytes for kind in VALUES.values()) + 4 * N_UNITS


@dataclass(frozen=True)
class Plan:
    """A step, an epoch and a checkpoint of contract 1 on so many GPUs, 64 TRs each; GB and s.

    Attributes
    ----------
    gpus : int
        N.
    trunk, head : int
        Parameters that every worker has, and those of the voxels' layer.
    hidden : int
        Numbers of a TR that the voxels' layer is given.
    """

    gpus: int
    trunk: int
    head: int
    hidden: int

    @property
    def nodes(self) -> int:
        """Machines."""
        return math.ceil(self.gpus / GPUS_PER_NODE)

    def memory_seconds(self, sharded: bool) -> float:
        """Return the least time that a step's bytes take in a GPU's memory."""
        there = self.trunk + (self.head / self.gpus if sharded else self.head)
        return (OPTIMIZER_BYTES + MODEL_BYTES) * there / GPU.value

    def sent_bytes(self, sharded: bool) -> float:
        """Return what a GPU sends in a step.

        An all-reduce of P numbers sends 2 (N - 1) / N of them; the hidden rows of all TRs are
        gathered, and their gradients scattered, (N - 1) / N each.
        """
        share = (self.gpus - 1) / self.gpus
        if not sharded:
            return 4 * 2 * share * (self.trunk + self.head)
        rows = TRS_PER_GPU * self.gpus
        return 4 * 2 * share * (self.trunk + rows * self.hidden)

    def step_seconds(self, sharded: bool) -> float:
        """Return a step's least time, nothing of it hidden behind something else."""
        return self.memory_seconds(sharded) + self.sent_bytes(sharded) / NETWORK.value

    def checkpoint_seconds(self, sharded: bool) -> float:
        """Return how long a checkpoint is written: by one node, or by each its own shard."""
        kept = STATE_BYTES * (self.trunk + self.head)
        return kept / STORAGE.value / (self.nodes if sharded else 1)


def plans() -> list[Plan]:
    """Return the plan of contract 1 on 1, 8 and 64 GPUs."""
    with torch.device("meta"):
        model = create_encoder(use_encodec=True)
    weights = dict(model.named_parameters())
    last = [of for name, of in weights.items() if name.startswith(_LAST)]
    head = sum(weight.numel() for weight in last)
    trunk = sum(weight.numel() for weight in weights.values()) - head
    return [Plan(gpus, trunk, head, last[0].shape[1]) for gpus in (1, 8, 64)]


def page(planned: Mapping[int, Sequence[Planned]], rates: Mapping[str, Sequence[float]]) -> str:
    """Return docs/scaling.md.

    Parameters
    ----------
    planned : mapping of int to sequence of Planned
        What planning took of films that so many saw, in each round.
    rates : mapping of str to sequence of float
        Bytes per second that were measured, in each round.
    """
    cases = [medians(of) for of in planned.values()]
    return f"""# 10 million TRs on {GPUS} GPUs

Computed by `python benchmarks/scaling_model.py --write docs/scaling.md` on {cpu_model()},
{os.cpu_count()} cores. Nothing has been run at that size: what is moved is counted, rates are
measured on this machine or assumed, and a time is the least that the bytes take, nothing of it
hidden behind anything else.

{_measured(rates)}

{_planned(planned, cases)}

{_assumed()}

{_steps(plans())}

{_verdicts(cases[0], {name: statistics.median(of) for name, of in rates.items()})}
"""


def _measured(rates: Mapping[str, Sequence[float]]) -> str:
    named = {
        "copy": "memory copied, read and written",
        "AdamW": f"AdamW, fused, {OPTIMIZER_BYTES} bytes a parameter",
        "all-reduce": "all-reduce of two processes, gloo, bytes of the numbers",
        "read": "shards read, each row group's checksum compared, one thread",
        "write": "checkpoint written to the disk and synced",
    }
    rows = [(what, *spread_of(rates[name])) for name, what in named.items()]
    share = statistics.median(rates["AdamW"]) / statistics.median(rates["copy"])
    return f"""## Measured here

{markdown(("GB/s", "median", "lowest to highest"), rows)}

AdamW moves its bytes at {share:.2f} of a copy's rate."""


def _planned(planned: Mapping[int, Sequence[Planned]], cases: Sequence[Mapping[str, float]]) -> str:
    def row(what: str, name: str, unit: float = 1, digits: int = 0) -> tuple[str, ...]:
        return (what, *(f"{case[name] / unit:,.{digits}f}" for case in cases))

    rows = [
        row("TRs of all scans", "n_trs"),
        row("files", "n_files"),
        row("windows of all sets, one TR each", "n_windows"),
        row("manifest (MB)", "manifest_bytes", 1e6),
        row("open: sizes of all files compared (s)", "opened", 1, 1),
        row("split, windows, and the run's record (s)", "planned", 1, 1),
        row(f"an epoch's order, streamed to {GPUS} workers (s)", "ordered", 1, 1),
        row("peak of the process (MB)", "peak_bytes", 1e6),
        row("sent to each worker (MB)", "view_bytes", 1e6),
        row("sent with a read task (MB)", "task_bytes", 1e6, 2),
    ]
    rounds = len(next(iter(planned.values())))
    header = ["", *(f"films that {viewers} saw" for viewers in planned)]
    return f"""## Opening and planning

In a process of its own; median of {rounds}.

{markdown(header, rows)}"""


def _assumed() -> str:
    rows = [
        (each.what, f"{each.value:,.3g}", each.source)
        for each in (GPU, NETWORK, STORAGE, OBJECT_STORE, LISTING)
    ]
    return f"""## Assumed

{markdown(("what", "value", "from"), rows)}

{GPUS_PER_NODE} GPUs a node, {TRS_PER_GPU} TRs a GPU and step, {ROW_BYTES:,} bytes a row: frames,
codes, text, and BOLD of {N_UNITS:,} units in float32."""


def _steps(of: Sequence[Plan]) -> str:
    rows = [
        (
            f"{each.gpus}",
            "sharded" if sharded else "whole",
            f"{1e3 * each.memory_seconds(sharded):.1f}",
            f"{each.sent_bytes(sharded) / 1e9:.2f}",
            f"{1e3 * each.sent_bytes(sharded) / NETWORK.value:.0f}",
            f"{each.checkpoint_seconds(sharded):.1f}",
        )
        for each in of
        for sharded in (False, True)
    ]
    header = ("GPUs", "head", "memory (ms)", "a GPU sends (GB)", "sending (ms)", "checkpoint (s)")
    most = of[-1]
    return f"""## A step of contract 1

{(most.trunk + most.head) / 1e6:,.0f} million parameters in float32, {most.head / 1e6:,.0f} million
of them the voxels' layer. A parameter takes {OPTIMIZER_BYTES} bytes of the optimizer,
{MODEL_BYTES} of forward and backward, and {STATE_BYTES} of a checkpoint.

{markdown(header, rows)}

An all-reduce of P numbers sends 2 (N - 1) / N of them from each GPU. Of a head that is sharded by
units the trunk alone is reduced; the {most.hidden:,} hidden numbers of every TR are gathered, and
their gradients scattered, (N - 1) / N each. That is less than the layer's own gradients for steps
of up to {most.head // most.hidden:,} TRs."""


def _verdicts(case: Mapping[str, float], rate: Mapping[str, float]) -> str:
    most = plans()[-1]
    sharded, whole = (most.step_seconds(sharded) for sharded in (True, False))
    need = most.gpus / most.nodes * TRS_PER_GPU * ROW_BYTES / sharded
    n_tasks = math.ceil(case["n_trs"] * ROW_BYTES / TASK_BYTES)
    in_parcels = ROW_BYTES - 4 * N_UNITS + 4 * 1000
    return f"""## What holds at that size

- **Manifest and planning**: {case["seconds"]:.0f} s and {case["peak_bytes"] / 1e9:.2f} GB. On S3
  listing {case["n_files"]:,.0f} files takes {case["n_files"] / 1000 * LISTING.value:.0f} s more.
- **Read tasks**: {n_tasks:,} for one pass, each with the films that it reads, not all of them.
- **The sharded head**: {1e3 * sharded:.0f} ms a step; whole, under DDP, {1e3 * whole:.0f} ms.
- **Checkpoints**, each worker its own shard: {most.checkpoint_seconds(sharded=True):.1f} s; from
  one node {most.checkpoint_seconds(sharded=False):.1f} s.
- **MLflow**: one process logs a run, however many workers it has.

## What does not

- **One copy a node.** The rows are {case["n_trs"] * ROW_BYTES / 1e12:.1f} TB, a node has room for
  {OBJECT_STORE.value / 1e12:.2f} TB: {OBJECT_STORE.value / ROW_BYTES / 1e6:.1f} million TRs.
  Beyond, data is streamed, or has fewer units: of 1,000 parcels all rows are
  {case["n_trs"] * in_parcels / 1e12:.2f} TB.
- **Streaming whole brains.** For steps of {1e3 * sharded:.0f} ms a node reads
  {need / 1e9:.1f} GB/s: {need / STORAGE.value:.1f} times the storage that is assumed, and
  {math.ceil(need / rate["read"])} cores at the rate measured here, before what windows with context
  read twice. {4 * N_UNITS / ROW_BYTES:.0%} of it is BOLD.
- **The plan in every worker.** Each has the manifest and all windows: {GPUS_PER_NODE} workers take
  up to {GPUS_PER_NODE * case["peak_bytes"] / 1e9:.1f} GB of a node for it."""


def medians(planned: Sequence[Planned]) -> dict[str, float]:
    """Return the median of each number over the rounds."""
    names = [*(field.name for field in fields(Planned)), "seconds"]
    return {name: statistics.median(getattr(each, name) for each in planned) for name in names}


def spread_of(rates: Sequence[float]) -> tuple[str, str]:
    """Return the median of rates and their range, in GB/s."""
    low, high = min(rates) / 1e9, max(rates) / 1e9
    return f"{statistics.median(rates) / 1e9:.2f}", f"{low:.2f} to {high:.2f}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
