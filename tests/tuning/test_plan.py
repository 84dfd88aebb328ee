"""What a sweep's trials are given, before any is trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from giblet_ray.config import TuneJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.tuning.plan import plan_sweep, with_grace
from giblet_ray.tuning.space import parse_space


@pytest.mark.parametrize("given", [None, 7])
def test_every_trial_is_given_the_steps_of_two_epochs_unless_told(
    tune_job: Callable[..., TuneJob], given: int | None
) -> None:
    """Of train.batch_size, whatever a trial's own is."""
    job = tune_job({"space": {"train.batch_size": [8, 32]}, "grace_steps": given})
    space = parse_space(job.sweep.space or {}, job)
    data = plan_sweep(job, space, Dataset.open(job.dataset))
    rest = len(data.train) % job.train.batch_size
    steps = len(data.train) // job.train.batch_size + (rest > 1)
    assert with_grace(job, data).sweep.grace_steps == (given or 2 * steps)
