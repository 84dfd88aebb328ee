"""What goes on with a sweep, as the user is told."""

from __future__ import annotations

import shlex

import pytest

from giblet_ray.cli import parse_job
from giblet_ray.config import CompareJob, TuneJob
from giblet_ray.training.identity import saved_config
from giblet_ray.tuning.resume import comparing, resuming, sweep_config
from giblet_ray.tuning.space import with_settings


@pytest.mark.parametrize("path", ["runs", "/lab/runs", "it's a lab/runs", "s3://lab/runs"])
def test_what_resumes_a_sweep_can_be_typed_and_finds_it(path: str) -> None:
    told = resuming(TuneJob(dataset="d", name="night", storage={"path": path}))
    assert ("--storage.path" in told) == (path != "runs")
    resumed = parse_job(TuneJob, shlex.split(told))
    assert (resumed.sweep.resume, resumed.storage.path) == ("night", path)


@pytest.mark.parametrize("uri", [None, "sqlite:////lab's/mlflow.db", "http://lab:5000"])
def test_what_compares_its_trials_can_be_typed_and_finds_them(uri: str | None) -> None:
    where = {} if uri is None else {"uri": uri}
    job = TuneJob(dataset="d", name="night", tracking={"experiment": "two films", **where})
    told = comparing(job)
    assert ("--tracking.uri" in told) == (uri is not None)
    compared = parse_job(CompareJob, shlex.split(told))
    assert (compared.experiment, compared.tracking.uri) == ("two films", job.tracking.uri)


@pytest.mark.parametrize("lag", [None, 3.0])
def test_trials_of_a_resumed_sweep_have_the_lag_of_their_own_memory(lag: float | None) -> None:
    job = TuneJob(dataset="d", name="night", data={"lag_seconds": lag})
    resumed = TuneJob(**sweep_config(job))
    for memory, own in (("none", 4.5), ("hrf", 0.0)):
        trial = with_settings(resumed, {"model.memory": memory})
        assert saved_config(trial)["data"]["lag_seconds"] == (own if lag is None else lag)
