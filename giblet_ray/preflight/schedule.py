"""The learning rate of a run, as it will be."""

from __future__ import annotations

from giblet_ray.config import TrainJob
from giblet_ray.preflight.drawing import curve
from giblet_ray.training.optimizer import warmup_cosine

_WIDTH = 60


def describe_schedule(job: TrainJob, steps_per_epoch: int) -> dict[str, str]:
    """Return the learning rate's peak and end, and its curve over all steps, drawn."""
    total = job.train.epochs * steps_per_epoch
    warmup = round(job.optimizer.warmup_fraction * total)
    width = min(_WIDTH, total)

    def rate(step: int) -> float:
        fraction = job.optimizer.min_lr_fraction
        return job.optimizer.lr * warmup_cosine(step, total, warmup, fraction)

    return {
        "steps": f"{steps_per_epoch:,} per epoch, {total:,} in all",
        "learning rate": (
            f"{rate(0):.3g} at first, peak {rate(warmup):.3g} at step {warmup + 1:,}, last "
            f"{rate(total - 1):.3g}"
        ),
        "(drawn)": curve([rate(cell * total // width) for cell in range(width)]),
    }
