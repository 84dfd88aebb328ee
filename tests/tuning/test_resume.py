"""What goes on with a sweep, as the user is told."""

from __future__ import annotations

import shlex

import pytest

from giblet_ray.cli import parse_job
from giblet_ray.config import TuneJob
from giblet_ray.tuning.resume import resuming


@pytest.mark.parametrize("path", ["runs", "/lab/runs", "it's a lab/runs", "s3://lab/runs"])
def test_what_resumes_a_sweep_can_be_typed_and_finds_it(path: str) -> None:
    told = resuming(TuneJob(dataset="d", name="night", storage={"path": path}))
    assert ("--storage.path" in told) == (path != "runs")
    resumed = parse_job(TuneJob, shlex.split(told))
    assert (resumed.sweep.resume, resumed.storage.path) == ("night", path)
