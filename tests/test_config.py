"""Defaults, documentation and limits of the settings."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, ValidationError

from giblet_ray import config
from giblet_ray.config import DemoJob, Job, PrecomputeJob, TrainJob, TuneJob
from giblet_ray.dataset.config import HRF_SECONDS, SplitConfig
from giblet_ray.settings import Mark, marked_settings, setting_fields


@pytest.mark.parametrize("job", [TrainJob, PrecomputeJob, DemoJob])
def test_every_setting_is_documented(job: type[Job]) -> None:
    undocumented = [name for name, field in setting_fields(job) if not field.description]
    assert not undocumented


def test_settings_refuse_unknown_names_and_changes() -> None:
    groups = [
        value
        for value in vars(config).values()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value.__module__.startswith("giblet_ray.")
    ]
    assert len(groups) > 20
    for group in groups:
        assert group.model_config.get("extra") == "forbid", group
        assert group.model_config.get("frozen"), group


def test_what_decides_a_run_s_numbers_is_said_on_the_field() -> None:
    free, judged, read = (marked_settings(TuneJob, mark) for mark in Mark)
    names = {name for name, _ in setting_fields(TuneJob)}
    decisive = ("init_from", "data", "model", "loss", "optimizer", "train", "sweep")
    outside = {name for name in names if name.partition(".")[0] not in decisive}
    assert outside - free == {"config", "debug", "packages"}, "not saved with a run"
    assert free - outside == {
        "data.residence",
        "model.shard_head",
        "data.voxels",  # a run keeps the indices
        "data.split.same",  # and the intervals
        "train.checkpoint_every_steps",
        "train.log_every_steps",
        *(f"sweep.{name}" for name in ("resume", "num_samples", "max_epochs", "max_minutes")),
        *(f"sweep.{name}" for name in ("max_concurrent", "seeds", "finalists")),
    }
    assert judged == {name for name in names if name.startswith("data.split.")} | {
        "data.subjects",
        "data.voxels",
    }
    assert read == {"data.modalities", "data.audio", "model.audio_codebooks"}


def test_saved_settings_make_the_same_job() -> None:
    job = TrainJob.model_validate({"dataset": "d", "model": {"kernel_sizes": [3, 9]}})
    assert TrainJob.model_validate(job.model_dump(mode="json")) == job


def test_one_value_is_a_list_of_one() -> None:
    job = TrainJob.model_validate(
        {"dataset": "d", "data": {"subjects": "01", "modalities": "text"}}
    )
    assert job.data.subjects == ("01",)
    assert job.data.modalities == ("text",)


def test_gap_is_never_shorter_than_the_response() -> None:
    assert SplitConfig().gap_seconds == HRF_SECONDS
    with pytest.raises(ValidationError, match="greater than or equal to 20"):
        SplitConfig(gap_seconds=HRF_SECONDS - 0.1)


def test_environment_does_not_reach_a_job_that_is_made_in_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIBLET_RAY_TRAIN__EPOCHS", "99")
    assert TrainJob(dataset="d").train.epochs == TrainJob.model_fields["train"].default.epochs
