"""A head whose units the workers share out, beside one that each worker has whole (DDP).

    OMP_NUM_THREADS=1 python benchmarks/sharded_head.py --workers 2 4

Two contenders, by the same workers over gloo, which take turns:

last layer      the linear layer to the units alone: forward, squared error, backward, AdamW
whole step      the training's own step of a small trunk and that layer, with BOLD, loss and
                clipping, as jobs/train.py does it

Both compute the same: the loss of each step is compared. Bytes are those that the worker's machine
counts on its loopback device while steps are taken, per step and worker; memory is that of the
layer, its gradient and AdamW's numbers; a checkpoint's seconds are those of its files' writing, and
in brackets those that the loop waits for.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np
from machine import CONSOLE, cpu_model
from rich.table import Table
from sharded_head_steps import Measured, Size, last_layer, run_ranks, whole_step
from target import Target, add_targets, tell

AT_LEAST = {2: 1.6, 4: 4.5}
"""How much faster the last layer must be, by workers."""
AT_MOST_SENT = 1 / 100


def main() -> None:
    """Measure, print and tell."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--units", type=int, default=85_810)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--rows", type=int, default=64, help="of a global batch")
    parser.add_argument("--steps", type=int, default=3, help="in turn, after one to warm up")
    add_targets(parser)
    given = parser.parse_args()
    size = Size(given.units, given.hidden, given.rows, given.steps)
    targets: list[Target] = []
    table = Table(
        *("workers", "what", "head", "ms a step", "MB sent a step", "GB held", "checkpoint, s"),
        title=f"{size.units:,} units, {size.hidden:,} hidden, {size.rows} rows; {cpu_model()}",
    )
    for workers in given.workers:
        for what, measure in (("last layer", last_layer), ("whole step", whole_step)):
            whole, shared = run_ranks(workers, measure, size)
            np.testing.assert_allclose(shared.losses, whole.losses, rtol=1e-4)
            for name, of in (("whole", whole), ("shared out", shared)):
                table.add_row(str(workers), what, name, *_cells(of))
            targets += _targets(workers, what, whole, shared)
    CONSOLE.print(table)
    tell(targets, given.targets)


def _cells(of: Measured) -> tuple[str, ...]:
    written, waited = of.checkpoint
    return (
        f"{statistics.median(of.seconds) * 1e3:,.0f}",
        f"{of.sent / 1e6:,.2f}",
        f"{of.held / 1e9:.2f}",
        f"{written:.2f} ({waited:.2f})" if written else "",
    )


def _targets(workers: int, what: str, whole: Measured, shared: Measured) -> list[Target]:
    ratios = [a / b for a, b in zip(whole.seconds, shared.seconds, strict=True)]
    speed, sent = statistics.median(ratios), shared.sent / whole.sent
    said = f"{workers} workers, head shared out / whole on each: {what}"
    spread = min(ratios), max(ratios)
    if what == "whole step":
        return [Target(2, f"{said}, bytes sent", sent, AT_MOST_SENT, False, (sent, sent))]
    memory = shared.held / whole.held * workers
    return [
        Target(2, f"{said}, times faster", speed, AT_LEAST.get(workers, 1.0), True, spread),
        Target(2, f"{said}, memory x workers", memory, 1.01, False, (memory, memory)),
    ]


if __name__ == "__main__":
    main()
