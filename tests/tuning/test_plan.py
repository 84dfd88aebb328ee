"""What a sweep's trials are given, before any is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from giblet_ray.config import TuneJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.training.identity import kept_same
from giblet_ray.tuning.journal import Journal
from giblet_ray.tuning.plan import plan_sweep, with_grace
from giblet_ray.tuning.resume import earlier_trials, sweep_config
from giblet_ray.tuning.space import parse_space


@pytest.mark.parametrize("given", [None, 7])
def test_every_trial_is_given_the_steps_of_two_epochs_unless_told(
    tune_job: Callable[..., TuneJob], given: int | None
) -> None:
    """Of train.batch_trs, whatever a trial's own is."""
    job = tune_job({"space": {"train.batch_trs": [8, 32]}, "grace_steps": given})
    space = parse_space(job.sweep.space or {}, job)
    data = plan_sweep(job, space, Dataset.open(job.dataset))
    rest = len(data.train) % job.train.batch_trs
    steps = len(data.train) // job.train.batch_trs + (rest > 1)
    assert with_grace(job, data).sweep.grace_steps == (given or 2 * steps)


def test_a_sweep_goes_on_without_the_table_of_equal_intervals_and_refuses_another(
    tune_job: Callable[..., TuneJob], tmp_path: Path
) -> None:
    table = tmp_path / "same.tsv"
    rows = "group\tstimulus\tstart_seconds\tstop_seconds\nend\tone\t0\t12\n"
    rows += "end\ttwo\t112.5\t124.5\n"
    table.write_text(rows)
    settings = {"space": {"train.batch_trs": [8, 32]}, "resume": "sweep"}
    job = tune_job(settings, data={"split": {"same": str(table), "blocks": 1}})
    dataset, space = Dataset.open(job.dataset), parse_space(job.sweep.space or {}, job)
    data = plan_sweep(job, space, dataset)
    journal = Journal(Storage.at(str(tmp_path / "sweep")))
    assert journal.same() is None
    journal.begin(sweep_config(job), dataset.manifest.checksum, [], data.same)
    table.unlink()
    again = plan_sweep(job, space, dataset, kept_same(job, journal.same()))
    assert again.split == data.split
    assert earlier_trials(job, journal, again) == []
    table.write_text(rows.replace("112.5", "111"))
    edited = plan_sweep(job, space, dataset, kept_same(job, journal.same()))
    with pytest.raises(InputError, match=r"same\.tsv: other intervals than sweep sweep was"):
        earlier_trials(job, journal, edited)
