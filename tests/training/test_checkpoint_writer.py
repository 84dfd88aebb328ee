"""Checkpoints that are written while training goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from local_training import LocalLink, LocalTraining

from giblet_ray.checkpoint.record import Position, read_record
from giblet_ray.checkpoint.store import checkpoint_names
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.errors import InputError
from giblet_ray.models.predictor import Predictor, Shapes, build_predictor
from giblet_ray.training.checkpoint_writer import CheckpointWriter
from giblet_ray.training.identity import run_record
from giblet_ray.training.loop import train

CPU = torch.device("cpu")


class SlowLink(LocalLink):
    """Keeps a checkpoint once it may."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, lambda metrics: False, CPU)
        self.may_keep, self.begun = threading.Event(), threading.Semaphore(0)

    def keep(self, folder: Path, name: str) -> None:
        self.begun.release()
        assert self.may_keep.wait(60)
        super().keep(folder, name)


@pytest.fixture
def training(local_training: Callable[..., LocalTraining]) -> LocalTraining:
    return local_training(data={"modalities": ["text"]}, train={"epochs": 2, "batch_trs": 16})


Written = tuple[Predictor, CheckpointWriter, SlowLink]


@pytest.fixture
def written(training: LocalTraining, tmp_path: Path) -> Written:
    """A model whose checkpoints are written, by what, and where they are kept."""
    run = run_record(training.job, training.data, None)
    model = build_predictor(training.job.model, Shapes.of_record(run.dataset))
    link = SlowLink(tmp_path / "run")
    space = training.data.space_files()
    return model, CheckpointWriter(model, {}, training.normalisation, space, run, link), link


def test_what_is_written_is_what_was_when_it_was_saved(written: Written) -> None:
    model, writer, link = written
    (name, weight), *_ = model.named_parameters()
    before = weight.detach().clone()
    with writer:
        writer.save(Position(step=1))
        assert link.begun.acquire(timeout=60)
        torch.nn.init.zeros_(weight)  # what the next steps do
        link.may_keep.set()
    assert torch.equal(Encoder.load(link.place[0].path("run")).model.state_dict()[name], before)


def test_nobody_waits_for_two_and_until_one_is_whole_it_is_none(written: Written) -> None:
    _, writer, link = written
    saved = threading.Event()

    def third() -> None:
        writer.save(Position(step=3))
        saved.set()

    with writer:
        for step in (1, 2):
            writer.save(Position(step=step))
        assert link.begun.acquire(timeout=60)
        thread = threading.Thread(target=third)
        thread.start()
        assert checkpoint_names(*link.place) == []
        assert not saved.wait(0.3)  # two are under way
        link.may_keep.set()
        thread.join(60)
        assert saved.is_set()
    assert [
        read_record(Path(link.place[0].path(name))).position.step
        for name in sorted(checkpoint_names(*link.place))
    ][-1] == 3


def test_one_that_cannot_be_kept_ends_the_training_in_one_line(
    training: LocalTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullLink(LocalLink):
        def keep(self, folder: Path, name: str) -> None:
            raise InputError(f"{name}: no space left")

    link = FullLink(tmp_path / "run", lambda metrics: False, CPU)
    run = run_record(training.job, training.data, None)
    how: tuple[Any, ...] = (training.loader(CPU), training.normalisation)
    with pytest.raises(InputError, match=r"epoch-0001-step-\d+: no space left"):
        train(
            training.job,
            run,
            training.data.ordered(run.order),
            *how,
            training.data.space_files(),
            link,
        )


def test_where_a_report_may_end_the_process_its_checkpoint_is_kept_before(
    training: LocalTraining, tmp_path: Path
) -> None:
    class PromptLink(LocalLink):
        awaits_checkpoints = True

        def report(self, metrics: dict[str, float]) -> None:
            kept.append(len(checkpoint_names(*self.place)))
            super().report(metrics)

    kept: list[int] = []
    link = PromptLink(tmp_path / "run", lambda metrics: False, CPU)
    run = run_record(training.job, training.data, None)
    space = training.data.space_files()
    how = training.loader(CPU), training.normalisation, space, link
    train(training.job, run, training.data.ordered(run.order), *how)
    assert kept == [1, 2]
