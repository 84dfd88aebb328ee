"""A new person's head on a trunk that others have trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from local_training import DeathError, LocalTraining
from pydantic import ValidationError
from safetensors.torch import load_file
from three_people import HEADS, PACKAGES, make_people, people_job

from giblet_ray.checkpoint.pieces import WEIGHTS
from giblet_ray.checkpoint.record import Record, read_record
from giblet_ray.checkpoint.store import find_checkpoint
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.errors import InputError

MODEL = {"normalised": True, "batch_norm": "batch"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three people, and a run on two of them."""
    folder = tmp_path_factory.mktemp("lab")
    make_people(folder / "people")
    settings = people_job(folder / "people", model=MODEL, data={"subjects": ["01", "02"]})
    LocalTraining(TrainJob.model_validate(settings)).train(folder / "first")
    return folder


def job_of(lab: Path, **groups: Any) -> TrainJob:
    own: dict[str, dict[str, Any]] = {
        "model": MODEL,
        "data": {"subjects": ["03"]},
        "train": {"freeze": "trunk"},
    }
    for name, group in groups.items():
        own[name] = {**own.get(name, {}), **group}
    settings = people_job(lab / "people", **own)
    return TrainJob.model_validate({**settings, "init_from": str(lab / "first")})


def last(run: Path) -> tuple[Record, dict[str, torch.Tensor]]:
    folder = sorted(run.glob("epoch-*"))[-1]
    return read_record(folder), load_file(folder / WEIGHTS)


def test_heads_alone_are_trained_on_a_frozen_trunk(lab: Path, tmp_path: Path) -> None:
    link = LocalTraining(job_of(lab)).train(tmp_path / "new")
    first = find_checkpoint(str(lab / "first"))
    trunk = load_file(Path(first.location) / WEIGHTS)
    record, weights = last(tmp_path / "new")
    assert record.dataset.subjects == {"03": 400}
    assert record.initial is not None
    assert record.initial.weights == first.record.weights_checksum
    of_trunk = {name for name in weights if name.startswith("trunk.")}
    assert {"trunk.2.running_mean", "trunk.2.num_batches_tracked", "trunk.0.weight"} <= of_trunk
    for name in of_trunk:
        assert torch.equal(weights[name], trunk[name]), name
    assert {name for name in weights if name not in of_trunk} == {"heads.0.weight", "heads.0.bias"}
    folder = sorted((tmp_path / "new").glob("epoch-*"))[-1]
    moments = load_file(folder / f"optimizer-{WEIGHTS}")
    shapes = {name: tuple(of.shape) for name, of in moments.items() if name.startswith("exp_avg/")}
    assert shapes == {"exp_avg/heads.0.weight": (400, 8), "exp_avg/heads.0.bias": (400,)}
    first_epoch, second = (metrics["train/loss"] for metrics in link.reports)
    assert second < first_epoch


def test_training_on_another_trunk_goes_on_to_the_bit_without_it(lab: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(lab / "first", gone)
    job = job_of(lab).model_copy(update={"init_from": str(gone)})
    training = LocalTraining(job)
    training.train(tmp_path / "whole")
    with pytest.raises(DeathError):
        training.train(tmp_path / "new", lambda metrics: metrics.get("epoch") == 1)
    shutil.rmtree(gone)
    training.train(tmp_path / "new")
    (_, whole), (record, resumed) = last(tmp_path / "whole"), last(tmp_path / "new")
    assert record.initial is not None
    for name, weight in whole.items():
        assert torch.equal(resumed[name], weight), name


def test_a_trunk_that_is_not_frozen_trains_on(lab: Path, tmp_path: Path) -> None:
    job = job_of(lab, train={"freeze": "none", "epochs": 1}, optimizer={"lr": 1e-6})
    LocalTraining(job).train(tmp_path / "new")
    encoder = Encoder.load(lab / "first", packages=PACKAGES)
    _, weights = last(tmp_path / "new")
    began, now = encoder.model.state_dict()["trunk.0.weight"], weights["trunk.0.weight"]
    assert not torch.equal(began, now)
    torch.testing.assert_close(began, now, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"data": {"modalities": ["text", "audio"]}}, "parts .* text there, and text, codes here"),
        ({"data": {"lag_seconds": 6.0}}, "the lag in TRs .* is 3 there, and 4 here"),
        ({"model": {"width": 9}}, "--model.width is 8 there, and 9 here"),
        ({"data": {"split": {"test_fraction": 0.2}}}, "--data.split of the same data is"),
    ],
    ids=["parts", "lag", "model", "split"],
)
def test_a_trunk_that_does_not_fit_is_refused(
    lab: Path, groups: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as error:
        LocalTraining(job_of(lab, **groups)).train(tmp_path / "new")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "new").exists()


def test_a_trunk_that_is_not_there_or_cannot_be_told_is_refused(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="has learned nothing without --init-from RUN"):
        TrainJob.model_validate(people_job(lab / "people", train={"freeze": "trunk"}))
    job = job_of(lab).model_copy(update={"init_from": str(tmp_path / "none")})
    with pytest.raises(InputError, match=r"--init-from .*none: no checkpoint"):
        LocalTraining(job).train(tmp_path / "new")
    with pytest.raises(InputError, match=r"--init-from .*none: no checkpoint"):
        parse_job(TrainJob, ["--init-from", str(tmp_path / "none"), "--data.subjects", "03"])


def test_what_a_trunk_depends_on_is_taken_from_its_run(lab: Path) -> None:
    words = ["--init-from", str(lab / "first"), "--train.freeze", "trunk", "--data.subjects", "03"]
    own = ["--model.kind", HEADS["kind"]]
    job = parse_job(TrainJob, [*words, *own])
    assert job.dataset == str(lab / "people")
    assert (job.data.modalities, job.data.subjects) == (("text",), ("03",))
    assert (job.model.width, job.model.normalised) == (8, True)
    again = parse_job(TrainJob, [*words, *own, "--data.lag_seconds", "6", "--model.width", "9"])
    assert (again.data.lag_seconds, again.model.width) == (6.0, 9)
    # A package that a folder names is not imported for that.
    assert parse_job(TrainJob, words).model.kind == "multimodal"
    assert parse_job(TrainJob, words).packages == ()
