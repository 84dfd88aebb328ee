"""What preflight says of a training, against what the training then takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from giblet_ray.config import TrainJob
from giblet_ray.dataset.residence import place_data
from giblet_ray.dataset.view import DataView
from giblet_ray.errors import InputError
from giblet_ray.models.build import build_encoder
from giblet_ray.preflight.brief import check_training, need_of_host, streamed_bytes
from giblet_ray.preflight.need import host_need
from giblet_ray.preflight.placement import look_at_cluster
from giblet_ray.preflight.rehearsal import Rehearsal
from giblet_ray.preflight.report import Report
from giblet_ray.preflight.size import step_size
from giblet_ray.preflight.training import examine, preflight_training
from giblet_ray.progress import Progress
from giblet_ray.training.data import plan_data
from giblet_ray.training.trainer import Trained, fit

MODELS = {
    "5 million": {
        "embed_dim": 16,
        "audio_codebooks": 4,
        "kernel_sizes": [3, 5],
        "video_features": 256,
        "trunk_dims": [256, 512],
        "bottleneck_dim": 512,
        "head_dim": 1024,
    },
    "60 million": {
        "embed_dim": 32,
        "audio_codebooks": 4,
        "trunk_dims": [2048, 4096],
        "bottleneck_dim": 2048,
        "head_dim": 9000,
    },
}
ROUGHLY = {"5 million": (2, 32), "60 million": (1, 48)}
"""Workers, and windows of a batch."""
Tried = tuple[TrainJob, DataView, Rehearsal, Trained, list[str]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: Any, dataset_writer: Callable[..., Any]) -> str:
    """A data set of two subjects with 2,000 voxels."""
    folder = tmp_path_factory.mktemp("wide") / "data"
    dataset_writer(folder, {"one": 90, "two": 60}, ("01", "02"), n_voxels=2000)
    return str(folder)


@pytest.fixture(scope="module")
def make_job(dataset: str, tmp_path_factory: Any) -> Callable[..., TrainJob]:
    """Make a job whose runs go to a folder of this module."""
    folder: Path = tmp_path_factory.mktemp("runs")

    def make(model: dict[str, Any], workers: int, batch_size: int, **groups: Any) -> TrainJob:
        settings: dict[str, Any] = {
            "name": f"run-{workers}-{batch_size}",
            "data": {"split": {"val_blocks": 1}},
            "model": model,
            "train": {"epochs": 1, "batch_size": batch_size},
            "scaling": {"num_workers": workers, "cpus_per_worker": 0.5},
            "storage": {"path": str(folder / "runs")},
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
        }
        return TrainJob(dataset=dataset, **{**settings, **groups})

    return make


@pytest.fixture(scope="module", params=list(MODELS))
def tried(
    request: pytest.FixtureRequest, cluster: None, make_job: Callable[..., TrainJob]
) -> Tried:
    """A training: its rehearsal and what was said of it, and then the training itself."""
    return rehearse_and_train(make_job(MODELS[request.param], *ROUGHLY[request.param]))


def rehearse_and_train(job: TrainJob) -> Tried:
    data = place_data(plan_data(job), job.data.residence, use_gpu=False)
    lines: list[str] = []
    report, there = Report(lines.append), look_at_cluster(look_at_gpus=False)
    rehearsal = examine(job, data, False, there, report, Progress(lines.append))
    assert rehearsal is not None
    report.refuse()
    assert not Path(job.storage.path, job.name).exists()
    return job, data, rehearsal, fit(job, lines.append), lines


def test_peak_memory_is_what_the_rehearsal_took(tried: tuple) -> None:
    _, _, rehearsal, trained, _ = tried
    measured = max(epoch["memory/host_peak_bytes"] for epoch in trained.position.history)
    assert rehearsal.peak_bytes == pytest.approx(measured, rel=0.15)


def test_peak_memory_includes_the_rows_that_are_streamed(
    cluster: None,
    make_job: Callable[..., TrainJob],
    dataset_writer: Callable[..., Any],
    tiny_model: dict[str, Any],
    tmp_path: Path,
) -> None:
    dataset_writer(tmp_path / "data", {"one": 300}, ("01",), n_voxels=150_000)
    parts = {"modalities": ["audio", "text"], "split": {"val_blocks": 1}, "residence": "stream"}
    job = make_job(tiny_model, 1, 8, data=parts).model_copy(
        update={"dataset": str(tmp_path / "data"), "name": "streamed"}
    )
    _, data, rehearsal, trained, _ = rehearse_and_train(job)
    assert streamed_bytes(job, data) > 150e6
    measured = max(epoch["memory/host_peak_bytes"] for epoch in trained.position.history)
    assert rehearsal.peak_bytes == pytest.approx(measured, rel=0.15)
    counted = need_of_host(job, data, step_size(job, data.values, 1, 1), use_gpu=False)
    assert counted.total == pytest.approx(measured, rel=0.15)


def test_counted_memory_is_near_too(tried: tuple) -> None:
    """It is told, in brief, before a training starts."""
    job, data, rehearsal, trained, _ = tried
    ranks = job.scaling.min_workers
    size = step_size(job, data.values, len(data.scans), ranks)
    assert size.activations == pytest.approx(rehearsal.activation_bytes, rel=0.1)
    measured = max(epoch["memory/host_peak_bytes"] for epoch in trained.position.history)
    assert host_need(size, ranks, use_gpu=False).total == pytest.approx(measured, rel=0.15)


def test_checkpoint_has_the_size_that_was_said(tried: tuple) -> None:
    job, data, rehearsal, trained, _ = tried
    measured = sum(path.stat().st_size for path in Path(trained.best_location).iterdir())
    assert rehearsal.checkpoint_bytes == pytest.approx(measured, rel=0.01)
    size = step_size(job, data.values, len(data.scans), 1)
    assert size.checkpoint == pytest.approx(measured, rel=0.01)


def test_parameters_are_those_of_the_model(tried: tuple) -> None:
    job, data, _, _, _ = tried
    model = build_encoder(job.model, job.data, data.values, data.n_units)
    expected = model.get_parameter_count()["total"]
    assert step_size(job, data.values, len(data.scans), 1).parameters == expected


def test_loss_of_one_batch_falls(tried: tuple) -> None:
    """How far it gets in the time that it is given depends on the machine."""
    _, _, rehearsal, _, _ = tried
    assert rehearsal.overfit.last < rehearsal.overfit.first
    assert rehearsal.overfit.suspects == ()


def test_report_describes_data_split_memory_and_cluster(tried: tuple) -> None:
    _, _, _, _, lines = tried
    text = "\n".join(lines)
    for words in (
        "uint8 3 x 18 x 32: 0 to 179, mean",
        "of 1,024 codes in use per codebook",
        "training TRs mean 0.00 std 1.00",
        "14 TRs = 21 s on either side",
        "━",
        "measured in a rehearsal",
        "starts at once",
    ):
        assert words in text


def test_preflight_tells_all_and_writes_nothing(
    cluster: None,
    make_job: Callable[..., TrainJob],
    tiny_model: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    streamed = {"split": {"val_blocks": 1}, "residence": "stream"}
    job = make_job(tiny_model, 1, 16, storage={}, tracking={}, data=streamed)
    lines: list[str] = []
    preflight_training(job, lines.append)
    text = "\n".join(lines)
    assert [line for line in lines if line.startswith("\n")] == [
        "\ndata",
        "\nsplit",
        "\nmemory",
        "\ncluster",
        "\none batch",
        "\nlearning rate",
        "\ntime",
        "\nfits: nothing was written, and no training was started",
    ]
    assert "peak 0.0003 at step" in text
    assert "1 x " in text
    assert list(tmp_path.iterdir()) == []


def test_model_that_no_machine_can_hold_is_refused_without_being_made(
    cluster: None, make_job: Callable[..., TrainJob], tiny_model: dict[str, Any]
) -> None:
    """Of 10^11 weights; all that can be told without trying is still told."""
    job = make_job({**tiny_model, "head_dim": 50_000_000}, 1, 16)
    lines: list[str] = []
    remedy = "a smaller --model.head_dim than 50000000, or fewer voxels"
    with pytest.raises(InputError, match=f"^does not fit: host memory: .*{remedy}"):
        preflight_training(job, lines.append)
    text = "\n".join(lines)
    assert "counted, not measured" in text
    assert "learning rate" in text
    assert "learned by heart" not in text
    data = place_data(plan_data(job), "auto", use_gpu=False)
    with pytest.raises(InputError, match=remedy):
        check_training(job, data, False, lines.append)


def test_activations_that_are_too_large_are_to_be_accumulated(
    cluster: None, make_job: Callable[..., TrainJob], tiny_model: dict[str, Any]
) -> None:
    job = make_job(tiny_model, 1, 10**8)
    data = place_data(plan_data(job), "auto", use_gpu=False)
    with pytest.raises(InputError, match=r"use --train\.accumulation 2, which takes .* GB off"):
        check_training(job, data, False, print)


def test_brief_form_is_a_few_lines(
    cluster: None, make_job: Callable[..., TrainJob], tiny_model: dict[str, Any]
) -> None:
    job = make_job(tiny_model, 2, 16)
    data = place_data(plan_data(job), "auto", use_gpu=False)
    lines: list[str] = []
    check_training(job, data, False, lines.append)
    assert len(lines) == 3
    assert "parameters; checkpoints of" in lines[0]
    assert "per worker and" in lines[1]
    assert "gaps of 14 TRs (21 s)" in lines[2]
    assert "room for" in lines[2]
