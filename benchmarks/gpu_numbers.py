"""Whether trainings on a GPU give the numbers that they give elsewhere, and otherwise."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from gpu_sizes import Checked
from in_memory import InMemory, TimedLink
from target import Target

from giblet_ray.evaluation.score import VAL_PEARSON

ROW = 1
LOSS = "step/loss"
MOST_OF_BF16, MOST_OF_DEVICE, MOST_OF_RESUMING, MOST_OF_RIDGE = 0.05, 0.01, 1e-3, 0.01
RIDGE = {"kind": "ridge", "n_iter": 4}


def apart(curve: Sequence[float], other: Sequence[float]) -> float:
    """Return the largest relative difference of two curves, step by step.

    Raises
    ------
    ValueError
        If they are not equally long.
    """
    pairs = zip(curve, other, strict=True)
    return max(abs(one - two) / abs(two) for one, two in pairs)


def check_losses(checked: Checked) -> list[Target]:
    """Set the losses of all steps in bfloat16, and on the device, beside float32's, and a CPU's."""
    found, device = [], checked.device.type
    models = {"contract 1": checked.encoder(), "the default model": {}}
    for model, settings in models.items():
        fp32 = _losses(checked, settings, "fp32", checked.device)
        bf16 = _losses(checked, settings, "bf16", checked.device)
        on_cpu = _losses(checked, settings, "fp32", torch.device("cpu"))
        what = f"bf16 against fp32 on {device}, {model}: step losses, largest relative difference"
        found.append(Target.once(ROW, what, apart(bf16, fp32), MOST_OF_BF16))
        what = f"{device} against CPU, fp32, {model}: step losses, largest relative difference"
        differing = checked.of_gpu(apart(fp32, on_cpu))
        found.append(Target.once(ROW, what, differing, MOST_OF_DEVICE))
    return found


def _losses(
    checked: Checked, model: dict[str, Any], precision: str, device: torch.device
) -> list[float]:
    link = TimedLink(device)
    job = checked.job(model, epochs=checked.size.epochs, precision=precision)
    InMemory(job).train(link)
    return link.curve(LOSS)


class _StoppedError(Exception):
    """Stands for the death of the process."""


class _KeepingLink(TimedLink):
    """Keeps the latest checkpoint in a folder, goes on from there, and stops when told to."""

    awaits_checkpoints = True

    def __init__(self, device: torch.device, folder: Path, stop_at: int | None) -> None:
        super().__init__(device)
        self._folder, self._stop_at = folder, stop_at

    @contextmanager
    def resume(self) -> Iterator[Path | None]:
        """Give the folder, if a checkpoint is in it."""
        yield self._folder if self._folder.exists() else None

    def keep(self, folder: Path, name: str) -> None:
        """Keep the checkpoint, instead of the one before it."""
        if self._folder.exists():
            shutil.rmtree(self._folder)
        shutil.copytree(folder, self._folder)

    def report(self, metrics: dict[str, float]) -> None:
        """Stop if it is the step to stop at."""
        if self._stop_at is not None and metrics.get("step") == self._stop_at:
            raise _StoppedError


def check_resuming(checked: Checked) -> list[Target]:
    """Set what a training gives that stopped within an epoch beside what it gives at once."""
    job = checked.job(checked.encoder(), epochs=checked.size.epochs, checkpoint_every_steps=2)
    rows, whole = InMemory(job), TimedLink(checked.device)
    rows.train(whole)
    folder = checked.folder / "stopped"
    stopped = _KeepingLink(checked.device, folder, stop_at=2)
    try:
        rows.train(stopped)
    except _StoppedError:
        pass
    else:
        raise ValueError("no checkpoint within an epoch was reported")
    resumed = _KeepingLink(checked.device, folder, stop_at=None)
    rows.train(resumed)
    both = stopped.curve(LOSS) + resumed.curve(LOSS)
    what = f"resumed on {checked.device.type}: step losses, largest relative difference"
    return [Target.once(ROW, what, apart(both, whole.curve(LOSS)), MOST_OF_RESUMING)]


def check_ridge(checked: Checked) -> list[Target]:
    """Set banded ridge as the device fits it beside what a CPU fits."""
    rows = InMemory(checked.job(RIDGE))
    links = [TimedLink(checked.device), TimedLink(torch.device("cpu"))]
    for link in links:
        rows.train(link)
    (here,), (there,) = (link.curve(VAL_PEARSON) for link in links)
    what = f"ridge on {checked.device.type} against the CPU: difference of validation r"
    return [Target.once(ROW, what, checked.of_gpu(abs(here - there)), MOST_OF_RIDGE)]
