"""What preflight says of a training, in full and in brief."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from giblet_ray.config import TrainingPreflightConfig, TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.residence import place_data
from giblet_ray.errors import InputError
from giblet_ray.preflight import training
from giblet_ray.preflight.brief import check_training, need_of_host, remedy
from giblet_ray.preflight.need import host_need
from giblet_ray.preflight.placement import Cluster, Machine, look_at_cluster
from giblet_ray.preflight.size import measure_activations, step_size
from giblet_ray.preflight.training import preflight_training
from giblet_ray.training.data import model_shapes, plan_data


@pytest.fixture
def make_job(
    arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any]
) -> Callable[..., TrainJob]:
    """Make a job of the small data set."""

    def make(batch_trs: int = 16, head_dim: int = 16, **groups: Any) -> TrainJob:
        settings: dict[str, Any] = {
            "model": {**tiny_model, "head_dim": head_dim},
            "train": {"epochs": 1, "batch_trs": batch_trs},
            "scaling": {"num_workers": 1, "cpus_per_worker": 0.5},
        }
        return TrainJob(dataset=arrays_and_dataset[1].storage.location, **{**settings, **groups})

    return make


def brief_lines(job: TrainJob) -> list[str]:
    lines: list[str] = []
    data = place_data(plan_data(job), job.data.residence, use_gpu=False)
    check_training(job, data, False, lines.append)
    return lines


@pytest.mark.slow
def test_preflight_tells_all_and_writes_nothing(
    cluster: None,
    make_job: Callable[..., TrainJob],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers, whose gradients lie in buckets; streamed rows, which wait in their memory."""
    monkeypatch.chdir(tmp_path)
    streamed = {"residence": "stream"}
    job = make_job(data=streamed, scaling={"num_workers": 2, "cpus_per_worker": 0.5})
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
    for words in (
        "uint8 3 x 18 x 32: 0 to 179, mean",
        "of 1,024 codes in use per codebook",
        "training TRs mean 0.00 std 1.00",
        "20 s between two sets",
        "━",
        "measured in a rehearsal",
        "streamed rows",
        "2 workers of 0.5 CPU",
        "peak 0.002 at step",
        "1 x ",
    ):
        assert words in text, words
    assert list(tmp_path.iterdir()) == []


def test_model_that_no_machine_can_hold_is_refused_without_being_made(
    cluster: None, make_job: Callable[..., TrainJob]
) -> None:
    """Of 10^10 weights; all that can be told without trying is still told."""
    job = make_job(head_dim=250_000_000)
    lines: list[str] = []
    remedy = "use a smaller model, or fewer voxels"
    with pytest.raises(InputError, match=rf"^does not fit: host memory: .*{remedy} [^;]*$"):
        preflight_training(job, lines.append)
    text = "\n".join(lines)
    assert "(counted)" in text
    assert "learning rate" in text
    assert "learned by heart" not in text
    with pytest.raises(InputError, match=rf"{remedy}.*; --preflight.force goes on all the same$"):
        brief_lines(job)
    forced = brief_lines(job.model_copy(update={"preflight": TrainingPreflightConfig(force=True)}))
    assert forced[-1].startswith("forced: does not fit: host memory: ")


def test_no_rehearsal_waits_for_a_machine_with_memory_but_no_cpus(
    cluster: None, make_job: Callable[..., TrainJob], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the head of a cluster that keeps work off it."""
    head = Machine("head", 0, 0, None, None, reservable=64 * 10**9)
    worker = Machine("worker", 8, 0, None, None, reservable=10**8)
    machines = Cluster((head, worker), (), free_cpus=8, free_gpus=0)
    monkeypatch.setattr(training, "look_at_cluster", lambda look_at_gpus: machines)
    monkeypatch.setattr(training, "rehearse", lambda *_: pytest.fail("would wait"))
    lines: list[str] = []
    preflight_training(make_job(), lines.append)
    assert "(counted)" in "\n".join(lines)


def test_activations_that_are_too_large_are_to_be_accumulated(
    make_job: Callable[..., TrainJob],
) -> None:
    job = make_job(batch_trs=10**7)
    shapes = model_shapes(plan_data(job))
    kept = measure_activations(job, shapes, 1, 1)
    size = replace(step_size(job, shapes, 1, 1, 1), activations=kept)
    said = remedy(job, size, host_need(size, 1, use_gpu=False))
    assert f"use --train.accumulation 2, which takes {kept / 2e9:,.2f} GB off" in said


def test_brief_form_is_a_few_lines(cluster: None, make_job: Callable[..., TrainJob]) -> None:
    lines = brief_lines(make_job(scaling={"num_workers": 2, "cpus_per_worker": 0.5}))
    assert len(lines) == 3
    assert "parameters; checkpoints of" in lines[0]
    assert "per worker and" in lines[1]
    assert "--preflight measures it" in lines[1]
    assert "lost to gaps" in lines[2]
    assert "room for" in lines[2]


def test_folds_that_train_side_by_side_are_counted_together(
    cluster: None, make_job: Callable[..., TrainJob]
) -> None:
    """Three of a worker each, on a machine with room for eight: one fits its memory alone."""
    (machine,) = look_at_cluster(look_at_gpus=False).machines
    # Of each weight a fold surely holds four numbers, and at most six more of two checkpoints under
    # way: one fold fits with all of that, and three not even without.
    largest = (machine.memory or 0) // (4 * 11 * (9 + 2 + 24))
    fold = {"split": {"folds": 3, "fold": 1}}
    every = {"split": {"folds": 3, "fold": "all"}}
    assert "; 1 on one machine" in brief_lines(make_job(data=fold, head_dim=largest))[1]
    assert "; 3 on one machine" in brief_lines(make_job(data=every))[1]
    said = rf"; 3 on one machine, .*: use --scaling.cpus_per_worker {machine.cpus:g}, so that 1 sh"
    with pytest.raises(InputError, match=said):
        brief_lines(make_job(data=every, head_dim=largest))


def test_rows_that_are_kept_for_own_metrics_are_counted(make_job: Callable[..., TrainJob]) -> None:
    """Prediction and BOLD of the validation rows of a rank, twice while they are put together."""
    job = make_job(scaling={"num_workers": 2})
    data = plan_data(job)
    size = step_size(job, model_shapes(data), len(data.scans), 2, data.window)
    own = job.model_copy(update={"train": job.train.model_copy(update={"metrics": ("a.b:c",)})})
    plain, more = (need_of_host(each, data, size, use_gpu=True) for each in (job, own))
    assert more.sure - plain.sure == 2 * 2 * 4 * 24 * math.ceil(int(data.val.length.sum()) / 2)


def test_a_model_that_is_fitted_at_once_has_no_steps_to_rehearse(
    cluster: None,
    make_job: Callable[..., TrainJob],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    job = make_job(model={"kind": "ridge"}, train={})
    lines: list[str] = []
    preflight_training(job, lines.append)
    text = "\n".join(lines)
    assert "learning rate" not in text
    assert "learned by heart" not in text
    assert not list(tmp_path.iterdir())
    size = step_size(job, model_shapes(plan_data(job)), n_scans=4, ranks=1, window=1)
    assert (size.gradients, size.optimizer) == (0, 0)
    assert size.parameters == 2 * 24 * 9 * (23 + 40 + 40)
    assert size.weights > 4 * size.parameters  # components too
    assert any("a kernel of each part" in line for line in brief_lines(job))
