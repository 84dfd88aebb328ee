"""Whether a GPU trains right, how fast, and in how much memory: in under eight minutes.

    python benchmarks/gpu_check.py --targets found/gpu.json
    python benchmarks/gpu_check.py --ranks 4
    python benchmarks/gpu_check.py --device cpu

Needs torch and the package, and neither Ray nor MLflow: the training loop runs in this process,
over a data set of random numbers. Printed is a line for each check: what was found, what it must
be, and whether it is. Ends with 1 if something is not.

data
    every value that the device, memory and stream loaders bring to the device is the one that was
    written; the share of an epoch that is spent waiting for them.
numbers
    losses in bfloat16 beside float32, on the device beside a CPU, and after resuming; ridge.
speed
    a step of the model alone beside a plain one, and beside what the device can do
    (benchmarks/step.py); the branch of EnCodec's codes beside mel's (benchmarks/audio_branch.py).
memory
    the peak beside what preflight predicts.
ranks
    with --ranks, so many GPUs beside one.

On a CPU it runs at its smallest size, and what says something of a GPU alone is not measured.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from gpu_data import check_rows, check_waiting
from gpu_memory import check_memory
from gpu_numbers import check_losses, check_resuming, check_ridge
from gpu_ranks import check_ranks
from gpu_sizes import Checked
from gpu_speed import check_audio_branch, check_step
from machine import CONSOLE, cpu_model
from target import Target, add_targets, tell

CHECKS = (
    check_rows,
    check_losses,
    check_resuming,
    check_ridge,
    check_waiting,
    check_step,
    check_audio_branch,
    check_memory,
)


def main() -> None:
    """Check, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--ranks", type=int, default=1, help="GPUs, or processes on the CPU")
    add_targets(parser)
    options = parser.parse_args()
    if options.device == "cuda" and torch.cuda.device_count() < options.ranks:
        raise SystemExit(
            f"--ranks {options.ranks}: this machine has {torch.cuda.device_count()} GPUs; "
            "--device cpu tries the checks without one"
        )
    checks: list[Callable[[Checked], list[Target]]] = list(CHECKS)
    if options.ranks > 1:
        checks.append(partial(check_ranks, n_ranks=options.ranks))
    found: list[Target] = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as name:
        checked = Checked(Path(name), torch.device(options.device))
        for check in checks:
            found += check(checked)
    CONSOLE.print(f"{_device_name(checked.device)}, torch {torch.__version__}")
    tell(found, options.targets)
    CONSOLE.print(f"{time.perf_counter() - begun:.0f} s")
    sys.exit(any(target.is_missed for target in found))


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"no GPU: {cpu_model()}"


if __name__ == "__main__":
    main()
