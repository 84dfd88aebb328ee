"""A head that workers share out gives the numbers of one that each has whole."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from local_training import DeathError, LocalTraining, RankLink
from ranks import run_ranks
from three_people import UNITS, people_job

from giblet_ray.checkpoint.files import restore_checkpoint
from giblet_ray.checkpoint.pieces import Moments, load_weights, state_files, weight_pieces
from giblet_ray.checkpoint.record import read_record
from giblet_ray.checkpoint.store import latest_record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import world_size
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.training.identity import run_record
from giblet_ray.training.loop import train
from giblet_ray.training.shard_head import saved_bytes, share_out_head

CPU = torch.device("cpu")
SMALL: dict[str, Any] = {
    **{"kind": "multimodal", "batch_norm": "batch", "inputs": "vectors", "norm": "layer"},
    **{"memory": "hrf", "context_seconds": 6.0, "trunk_dims": [12], "bottleneck_dim": 8},
    **{"head_dim": 6, "head_rank": 3, "dropout": 0.0, "shard_head": "on"},
}
TRAIN = {"epochs": 2, "batch_trs": 24, "log_every_steps": 1, "checkpoint_every_steps": 2}


def job_of(folder: Path, model: dict[str, Any], **groups: Any) -> dict[str, Any]:
    """Settings of a training on people whose units differ (50, 70 and 400)."""
    shared = {"data": {"window": 4}, "train": TRAIN, "scaling": {"num_workers": 3}}
    return {**people_job(folder, **shared, **groups), "model": {**SMALL, **model}}


def _trained_by_a_rank(
    rank: int, settings: dict[str, Any], folder: Path, die_at_step: int | None = None
) -> dict[str, Any]:
    """Train, or go on, as one of the ranks; return the curves and the sizes of what it holds."""
    training = LocalTraining(TrainJob.model_validate(settings))
    link = RankLink(rank, folder, lambda metrics: metrics.get("step") == die_at_step)
    run = run_record(training.job, training.data, latest_record(*link.place))
    how = training.loader(CPU), training.normalisation, training.data.space_files(), link
    with contextlib.suppress(DeathError):
        train(training.job, run, training.data.ordered(run.order), *how)
    return {"points": link.points}


def assert_same_curves(one: list[tuple[int, dict[str, float]]], other: list[Any]) -> None:
    """All losses and scores agree; float32 sums are taken in other orders."""
    assert [step for step, _ in one] == [step for step, _ in other]
    for (step, wanted), (_, found) in zip(one, other, strict=True):
        for name, value in wanted.items():
            if name.startswith(("step/", "val/", "train/loss", "train/gradient_norm")):
                # A norm follows correlations over few rows, which are steep.
                rel = 5e-3 if name == "train/gradient_norm" else 2e-4
                assert found[name] == pytest.approx(value, rel=rel, abs=2e-5), (name, step)


@pytest.fixture(scope="module")
def alike(dataset_writer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people whose 25 units are the same ones."""
    folder = tmp_path_factory.mktemp("alike") / "alike"
    dataset_writer(folder, {"one": 90, "two": 71}, ("01", "02"), 25)
    return folder


CASES: dict[str, tuple[int, str, dict[str, Any], dict[str, Any]]] = {
    "own linear heads": (3, "people", {"heads": "subject", "head": "linear"}, {}),
    "own full heads, in parts": (  # whose correlations are of other rows for any number of ranks
        2,
        "people",
        {"heads": "subject", "head": "full"},
        {"train": {**TRAIN, "accumulation": 2}, "loss": {"correlation_weight": 0.0}},
    ),
    "a group and who deviates": (2, "alike", {"heads": "subject", "head": "low_rank"}, {}),
    "one head, one TR": (
        3,
        "alike",
        {"heads": "shared", "head": "full", "memory": "none"},
        {"optimizer": {"lr": 1e-2, "max_grad_norm": 0.5}},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_scores_and_weights_are_those_of_a_head_that_each_has_whole(
    people: Path, alike: Path, tmp_path: Path, case: str
) -> None:
    n, where, model, groups = CASES[case]
    settings = job_of({"people": people, "alike": alike}[where], model) | groups
    whole = {**settings, "model": {**settings["model"], "shard_head": "off"}}
    wanted = run_ranks(1, _trained_by_a_rank, whole, tmp_path / "1")[0]
    alone = Encoder.load(tmp_path / "1")
    found = run_ranks(n, _trained_by_a_rank, settings, tmp_path / "n")[0]
    assert_same_curves(wanted["points"], found["points"])
    together = Encoder.load(tmp_path / "n")  # in one process, from the files of all
    assert len(together.record.weight_files) == n + 1
    for name, weight in alone.model.state_dict().items():
        same = together.model.state_dict()[name]
        torch.testing.assert_close(same, weight, rtol=1e-3, atol=1e-4, msg=name)


def test_two_workers_training_is_continued_by_three_and_then_by_one(
    people: Path, tmp_path: Path
) -> None:
    settings = job_of(people, {"heads": "subject", "head": "linear"})
    whole = run_ranks(1, _trained_by_a_rank, settings, tmp_path / "undisturbed")[0]["points"]
    found: list[Any] = []
    for n, die_at_step in ((2, 2), (3, 4), (1, None)):
        points = run_ranks(n, _trained_by_a_rank, settings, tmp_path / "run", die_at_step)[0]
        found += points["points"]
        assert die_at_step is None or found[-1][0] == die_at_step
    assert_same_curves(whole, found)


def test_heads_on_a_frozen_trunk_all_see_the_trunk_that_was_taken(
    people: Path, tmp_path: Path
) -> None:
    model = {"heads": "subject", "head": "linear", "shard_head": "off"}
    run_ranks(1, _trained_by_a_rank, job_of(people, model), tmp_path / "first")
    frozen = {"train": {**TRAIN, "freeze": "trunk"}, "init_from": str(tmp_path / "first")}
    wanted = run_ranks(1, _trained_by_a_rank, job_of(people, model) | frozen, tmp_path / "1")[0]
    shared = job_of(people, {**model, "shard_head": "on"}) | frozen
    found = run_ranks(2, _trained_by_a_rank, shared, tmp_path / "2")[0]
    assert_same_curves(wanted["points"], found["points"])


def test_in_bf16_ranks_with_fewer_batches_of_validation_windows_take_part(
    people: Path, tmp_path: Path
) -> None:
    train = {"train": {**TRAIN, "precision": "bf16", "batch_trs": 12}}
    settings = job_of(people, {"heads": "subject", "head": "full"}) | train
    one, three = (
        run_ranks(n, _trained_by_a_rank, settings, tmp_path / str(n))[0]["points"] for n in (1, 3)
    )
    for (step, wanted), (_, found) in zip(one, three, strict=True):
        for name in ("val/loss", "val/mse"):
            if name in wanted:
                assert found[name] == pytest.approx(wanted[name], rel=0.05), (name, step)


class FailingLink(RankLink):
    """Rank 1 cannot keep its files."""

    def keep(self, folder: Path, name: str) -> None:
        if self.rank == 1:
            raise OSError("the disk of rank 1 is gone")
        super().keep(folder, name)


def _failing_by_a_rank(rank: int, settings: dict[str, Any], folder: Path) -> str:
    training = LocalTraining(TrainJob.model_validate(settings))
    link = FailingLink(rank, folder, lambda metrics: False)
    run = run_record(training.job, training.data, None)
    how = training.loader(CPU), training.normalisation, training.data.space_files(), link
    try:
        train(training.job, run, training.data.ordered(run.order), *how)
    except Exception as error:  # noqa: BLE001 - whatever each rank says
        return f"{type(error).__name__}: {error}"
    return "nothing"


def test_files_that_one_worker_cannot_keep_end_the_training_of_all(
    people: Path, tmp_path: Path
) -> None:
    settings = job_of(people, {"heads": "subject", "head": "linear"})
    first, second = run_ranks(2, _failing_by_a_rank, settings, tmp_path / "run")
    assert first == "RuntimeError: the disk of rank 1 is gone"
    assert second == "OSError: the disk of rank 1 is gone"
    assert not list((tmp_path / "run").glob("*/record.json"))


def _restored_by_a_rank(rank: int, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what a rank would save of a checkpoint that it has loaded."""
    job, record = TrainJob.model_validate(settings), read_record(folder)
    shapes = Shapes.of_record(record.dataset)
    model = build_predictor(job.model, shapes)
    shards = share_out_head(model, job, shapes, rank, world_size())
    moments: Moments = {}
    restore_checkpoint(folder, record.run, model, moments, shards)
    held = sum(parameter.numel() for name, parameter in model.named_parameters() if "own" in name)
    return {"held": held, **state_files(model, moments, weight_pieces(model, shards), rank)}


def test_a_checkpoint_of_two_is_that_of_three_to_the_bit_and_each_holds_its_share(
    people: Path, tmp_path: Path
) -> None:
    settings = job_of(people, {"heads": "subject", "head": "linear"})
    run_ranks(2, _trained_by_a_rank, settings, tmp_path / "run")
    folder = sorted((tmp_path / "run").glob("epoch-*"))[-1]
    one, *_ = run_ranks(1, _restored_by_a_rank, settings, folder)
    three = run_ranks(3, _restored_by_a_rank, settings, folder)
    for prefix in ("", "optimizer-"):
        whole = one[f"{prefix}model.safetensors"]
        files = [of for rank in three for name, of in rank.items() if name.startswith(prefix)]
        for name, tensor in whole.items():
            pieces = [of[name] for of in files if isinstance(of, dict) and name in of]
            gathered = pieces[0] if tensor.dim() == 0 else torch.cat(pieces)
            assert torch.equal(gathered, tensor), name
    assert sum(rank["held"] for rank in three) == one["held"]
    width = 8 * 3 + 1  # three responses of each of the bottleneck's numbers, and an offset
    assert one["held"] == sum(UNITS.values()) * width
    assert max(rank["held"] for rank in three) <= one["held"] / 3 + len(UNITS) * width
    weights = load_weights(folder, read_record(folder))
    assert all(torch.equal(weights[name], of) for name, of in one["model.safetensors"].items())


def test_a_head_is_shared_out_where_that_sends_less(people: Path) -> None:
    def of(head_dim: int, batch_trs: int) -> float:
        model = {"heads": "subject", "head": "full", "head_dim": head_dim}
        job = TrainJob.model_validate(job_of(people, model) | {"train": {"batch_trs": batch_trs}})
        record = run_record(job, LocalTraining(job).data, None)
        shapes = Shapes.of_record(record.dataset)
        return saved_bytes(build_predictor(job.model, shapes), job, shapes, world_size=2)

    # 520 units of 64 + 1 numbers, twice; 4 rows of 64 and their gradients, 2 of 400 units' BOLD
    assert of(64, 4) == (2 * 520 * 65 * 4 - 2 * 4 * 64 * 4 - 2 * 400 * 4) / 2
    assert of(1, 4096) < 0 < of(64, 64)


def test_a_loss_that_needs_all_units_of_a_row_is_refused_a_shared_head(people: Path) -> None:
    job = TrainJob.model_validate(
        job_of(people, {"heads": "subject"}, loss={"kind": "my_lab.losses:Huber"})
    )
    shapes = Shapes.of_record(run_record(job, LocalTraining(job).data, None).dataset)
    model = build_predictor(job.model, shapes)
    with pytest.raises(InputError, match=r"--model.shard_head on: loss my_lab.losses:Huber"):
        share_out_head(model, job, shapes, 0, 2)
