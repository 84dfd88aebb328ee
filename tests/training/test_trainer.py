"""Trainings on a real Ray cluster, with real worker processes and a real MLflow store."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import ray
import torch
from claim_holder import holder
from faulty_proxy import FaultyProxy
from mlflow import MlflowClient
from safetensors.torch import load_file

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.errors import InputError
from giblet_ray.training.trainer import Trained, fit

EXACT = {
    "model": {"dropout": 0.0, "batch_norm": "frozen"},
    "loss": {"correlation_weight": 0.0},
    "train": {"batch_trs": 24, "log_every_steps": 1},
}
"""With these, a batch has the same loss however many workers share it."""


@pytest.fixture(scope="module")
def make_job(
    arrays_and_dataset: tuple[Any, Dataset], tiny_model: dict[str, Any]
) -> Callable[..., TrainJob]:
    """Make a small job whose runs and MLflow store are below a folder, with settings by group."""

    def make(folder: Path, **settings: Any) -> TrainJob:
        groups: dict[str, Any] = {
            "name": "run",
            "model": tiny_model,
            "train": {"epochs": 2, "batch_trs": 16},
            "scaling": {"num_workers": 2, "cpus_per_worker": 0.5},
            "storage": {"path": str(folder / "runs")},
            "tracking": {"uri": f"sqlite:///{folder}/mlflow.db", "log_model": False},
        }
        for key, value in settings.items():
            groups[key] = {**groups.get(key, {}), **value} if isinstance(value, dict) else value
        return TrainJob(dataset=arrays_and_dataset[1].storage.location, **groups)

    return make


@pytest.fixture(scope="module")
def trained(
    cluster: None, make_job: Callable[..., TrainJob], tmp_path_factory: Any
) -> tuple[Trained, TrainJob, list[str]]:
    """A finished training of two workers, in a folder of an odd name, its job, and what it said."""
    folder = tmp_path_factory.mktemp("trained") / 'it\'s a "lab": #1 & é'
    job = make_job(folder, **EXACT, tracking={"log_model": True, "experiment": "/it's a film"})
    lines: list[str] = []
    return fit(job, lines.append), job, lines


def history(trained: Trained, key: str) -> list[float]:
    client = MlflowClient(trained.mlflow_run.uri)
    return [m.value for m in client.get_metric_history(trained.mlflow_run.id, key)]


def test_run_keeps_the_best_and_the_last_checkpoints(trained: tuple) -> None:
    result, _, _ = trained
    kept = [path.parent for path in Path(result.run_folder).glob("*/record.json")]
    assert Path(result.best_location) in kept
    epochs = {json.loads((k / "record.json").read_text())["position"]["epoch"] for k in kept}
    assert epochs == {1, 2}


def test_what_it_says_to_type_can_be_typed(trained: tuple) -> None:
    result, _, _ = trained
    words = shlex.split(result.summary()["MLflow page"])
    assert words[1:] == ["ui", "--backend-store-uri", result.mlflow_run.uri]
    assert Path(words[0]).is_file()


def test_mlflow_has_settings_curves_figures_and_data_set(trained: tuple) -> None:
    result, job, _ = trained
    client = MlflowClient(result.mlflow_run.uri)
    run = client.get_run(result.mlflow_run.id)
    assert run.info.status == "FINISHED"
    assert run.data.params["model.embed_dim"] == "4"
    assert run.data.params["train.batch_trs"] == "24"
    assert len(history(result, "val/pearson_mean")) == 2
    assert len(history(result, "step/loss")) == result.position.step
    assert {"train/rows_per_second", "train/data_wait_share", "best/val/pearson_mean"} <= set(
        run.data.metrics
    )
    artifacts = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "settings.json", "learning_curves.png", "voxel_pearson.png"} <= artifacts
    (used,) = run.inputs.dataset_inputs
    assert Dataset.open(job.dataset).manifest.checksum.startswith(used.dataset.digest)
    assert "version.torch" in run.data.tags


def test_logged_model_predicts_what_the_checkpoint_predicts(
    trained: tuple, arrays_and_dataset: tuple
) -> None:
    result, _, _ = trained
    arrays, dataset = arrays_and_dataset
    inputs = {
        "frames": arrays["frames/one.parquet"][:3],
        "codes": arrays["codes/one.parquet"][:3, :2],
        "text": arrays["text/one.parquet"][:3],
    }
    mlflow.set_tracking_uri(result.mlflow_run.uri)
    logged = mlflow.search_logged_models(
        experiment_ids=[result.mlflow_run.experiment_id], output_format="list"
    )
    (model,) = [m for m in logged if m.source_run_id == result.mlflow_run.id]
    served = mlflow.pyfunc.load_model(model.model_uri)
    expected = Encoder.load(result.best_location, dataset).predict(**inputs)
    np.testing.assert_array_equal(served.predict(inputs), expected)


@pytest.mark.usefixtures("trained")
def test_workers_train_without_actors_of_ray_datas() -> None:
    named = {actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)}
    assert not named & {"AutoscalingCoordinator", "datasets_stats_actor"}


def test_workers_start_before_a_training_is_checked_and_end_when_it_is_refused(
    cluster: None, make_job: Callable[..., TrainJob], tmp_path: Path
) -> None:
    deadline = time.monotonic() + 120

    def wait_for_cpus(free: float) -> None:
        while ray.available_resources().get("CPU", 0) != free:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def refuse(*training: Any) -> None:
        wait_for_cpus(3)  # two workers have half a core each
        raise InputError("too large for this machine")

    job = make_job(tmp_path)
    with pytest.raises(InputError, match="too large for this machine"):
        fit(job, print, refuse)
    wait_for_cpus(4)
    assert not Path(job.storage.path, "run").exists()


def test_finished_run_is_not_trained_again(trained: tuple) -> None:
    result, job, _ = trained
    lines: list[str] = []
    again = fit(job, lines.append)
    assert again.already_finished
    assert "finished already" in lines[0]
    assert again.mlflow_run.id == result.mlflow_run.id
    run = MlflowClient(result.mlflow_run.uri).get_run(result.mlflow_run.id)
    assert run.info.status == "FINISHED"


def test_run_that_was_deleted_in_mlflow_is_recorded_anew_whole(trained: tuple) -> None:
    result, job, _ = trained
    client = MlflowClient(result.mlflow_run.uri)
    before = client.get_run(result.mlflow_run.id)
    client.delete_run(before.info.run_id)
    lines: list[str] = []
    again = fit(job, lines.append)
    after = client.get_run(again.mlflow_run.id)
    client.delete_run(after.info.run_id)
    client.restore_run(before.info.run_id)  # which other tests look at
    assert again.already_finished
    assert after.info.run_id != before.info.run_id
    assert any("is recorded anew" in line for line in lines)
    assert (after.info.status, after.info.run_name) == ("FINISHED", before.info.run_name)
    assert after.data.params == before.data.params
    assert after.data.tags["giblet_ray.reported"] == "true"
    digests = [run.inputs.dataset_inputs[0].dataset.digest for run in (before, after)]
    assert digests[0] == digests[1]
    pictures = [{f.path for f in client.list_artifacts(r.info.run_id)} for r in (before, after)]
    assert pictures[0] == pictures[1]
    assert len(after.outputs.model_outputs) == 1
    of_epochs = {key for key in before.data.metrics if key.startswith(("val/", "best/"))}
    assert len(of_epochs) > 6
    for key in of_epochs | {"train/loss", "train/rows_per_second"}:
        assert history(again, key) == history(result, key), key


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {"epochs": 3}}, r"--train.epochs is 3, but run run was started with 2"),
        ({"optimizer": {"lr": 0.5}}, r"--optimizer.lr is 0.5"),
        ({"data": {"lag_seconds": 3}}, r"--data.lag_seconds is 3"),
    ],
)
def test_run_is_not_continued_with_other_settings(
    trained: tuple, change: dict[str, Any], message: str
) -> None:
    _, job, _ = trained
    settings = job.model_dump()
    for group, values in change.items():
        settings[group].update(values)
    with pytest.raises(InputError, match=message):
        fit(TrainJob(**settings), print)


def test_run_says_what_it_reads_and_trains_on(trained: tuple) -> None:
    _, _, lines = trained
    assert any("memory" in line and "object store" in line for line in lines)
    assert any("training and" in line and "validation TRs of 2 subjects" in line for line in lines)
    assert sum(line.startswith("epoch") and "val r" in line for line in lines) == 2


@pytest.fixture(scope="module")
def alone(
    cluster: None, s3: FaultyProxy, make_job: Callable[..., TrainJob], tmp_path_factory: Any
) -> tuple[Trained, list[str]]:
    """The same training by one worker, onto storage that fails for a moment, and what it said."""
    scaling, storage = {"num_workers": 1}, {"path": "s3://lab/moment"}
    job = make_job(tmp_path_factory.mktemp("alone"), **EXACT, scaling=scaling, storage=storage)
    lines: list[str] = []
    # Each try makes three requests.
    with s3.failing("500", times=4, matching="model.safetensors"):
        return fit(job, lines.append), lines


@pytest.mark.slow
def test_losses_are_the_same_for_one_two_and_three_workers(
    trained: tuple, alone: tuple, make_job: Callable[..., TrainJob], tmp_path: Path
) -> None:
    losses = history(trained[0], "step/loss")
    assert len(losses) == 2 * 8
    three = fit(make_job(tmp_path, **EXACT, scaling={"num_workers": 3}), print)
    for other in (alone[0], three):
        np.testing.assert_allclose(history(other, "step/loss"), losses, rtol=1e-4)


@pytest.mark.slow
def test_storage_that_fails_for_a_moment_is_told_of(alone: tuple[Trained, list[str]]) -> None:
    result, lines = alone
    (line,) = [line for line in lines if "; try 2 of 4 in " in line]
    assert line.startswith("s3://lab/moment/run/epoch-0001-step-")
    assert result.position.epoch == 2


@pytest.mark.slow
def test_diverged_run_is_one_line_and_closed_as_failed(
    cluster: None, make_job: Callable[..., TrainJob], tmp_path: Path
) -> None:
    optimizer = {"lr": 1e18, "max_grad_norm": 1e18, "warmup_fraction": 0.0}
    job = make_job(tmp_path, optimizer=optimizer)
    with pytest.raises(InputError, match=r"diverged; use a lower --optimizer\.lr") as error:
        fit(job, print)
    assert "\n" not in str(error.value)
    client = MlflowClient(job.tracking.uri)
    experiment = client.get_experiment_by_name(job.tracking.experiment)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize(("began", "goes_on"), [("memory", "stream"), ("stream", "memory")])
def test_run_goes_on_in_its_order_where_its_data_lies_elsewhere(
    cluster: None,
    make_job: Callable[..., TrainJob],
    train_locally: Callable[..., Any],
    tmp_path: Path,
    began: str,
    goes_on: str,
) -> None:
    train = {"epochs": 2, "batch_trs": 24, "checkpoint_every_steps": 5}
    scaling = {"num_workers": 1}
    job = make_job(tmp_path, train=train, scaling=scaling, data={"residence": goes_on})
    train_locally(job, tmp_path / "whole", residence=began)
    with pytest.raises(Exception, match="killed here"):
        train_locally(job, tmp_path / "runs/run", lambda m: m.get("step") == 15, residence=began)
    lines: list[str] = []
    fit(job, lines.append)
    assert any("continuing after epoch 1, step 15" in line for line in lines)
    assert any("row group is read again" in line for line in lines) == (began == "memory")
    found, expected = (
        load_file(sorted(folder.glob("epoch-*"))[-1] / "model.safetensors")
        for folder in (tmp_path / "runs/run", tmp_path / "whole")
    )
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_run_that_another_process_works_on_is_left_to_it(
    make_job: Callable[..., TrainJob], tmp_path: Path
) -> None:
    job = make_job(tmp_path, storage={"path": str(tmp_path / "runs")})
    with (
        holder(str(tmp_path / "runs/run")),
        pytest.raises(InputError, match=r"runs/run: another job works on it, .* another --name"),
    ):
        fit(job, print)
    assert not (tmp_path / "mlflow.db").exists()


def test_sweep_is_not_continued_as_a_run(make_job: Callable[..., TrainJob], tmp_path: Path) -> None:
    (tmp_path / "runs/run").mkdir(parents=True)
    (tmp_path / "runs/run/sweep.json").write_text("{}")
    with pytest.raises(InputError, match=r"--name run: is a sweep already"):
        fit(make_job(tmp_path), print)


@pytest.fixture(scope="module")
def streamed(
    cluster: None, make_job: Callable[..., TrainJob], tmp_path_factory: Any
) -> tuple[Trained, list[str]]:
    """A training on streamed windows of chosen voxels of one subject, and what it said."""
    folder = tmp_path_factory.mktemp("streamed")
    np.save(folder / "chosen.npy", np.array([3, 1, 20]))
    data = {
        "residence": "stream",
        "window": 3,
        "voxels": str(folder / "chosen.npy"),
        "subjects": ("02",),
    }
    lines: list[str] = []
    return fit(make_job(folder, data=data, train={"epochs": 1}), lines.append), lines


@pytest.mark.slow
def test_streamed_windows_train(streamed: tuple) -> None:
    result, lines = streamed
    assert result.position.best_epoch(result.score) > 0
    assert any("stream, as asked" in line for line in lines)
    assert not any("masked, or not in them" in line for line in lines)


@pytest.mark.slow
def test_chosen_voxels_and_subject_are_trained_on(streamed: tuple) -> None:
    result, lines = streamed
    assert any("of 1 subject, 3 voxels" in line for line in lines)
    record = json.loads((Path(result.best_location) / "record.json").read_text())
    assert {scan[0] for scan in record["scans"]} == {"02"}
    assert Encoder.load(result.best_location).valid_SV.shape == (1, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {"batch_trs": 4000}}, r"--train.batch_trs 4000 is larger than the training"),
        ({"train": {"batch_trs": 3}}, r"need at least 4 windows"),
        ({"model": {"audio_codebooks": 8}}, r"--model.audio_codebooks 8: .* has 4 codebooks"),
        ({"data": {"subjects": ("1",)}}, r"--data.subjects: '1' is not in .*it has 01, 02"),
        ({"data": {"audio": "mel"}}, r"audio \(--data.audio mel\) is not in .*it has video, text"),
        ({"data": {"residence": "device"}}, r"needs GPUs"),
        ({"data": {"lag_seconds": 300}}, r"--data.split"),
        ({"data": {"voxels": "absent.npy"}}, r"--data.voxels absent.npy"),
        ({"data": {"split": {"blocks": 40}}}, r"too few for 40 blocks"),
        (
            {"scaling": {"num_workers": 64}, "train": {"batch_trs": 150}},
            r"--scaling.num_workers 64 .* this machine has 4",
        ),
        ({"tracking": {"uri": "sqlite:////proc/no/mlflow.db"}}, r"--tracking.uri"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(
    cluster: None, make_job: Callable[..., TrainJob], tmp_path: Path, change: Any, message: str
) -> None:
    job = make_job(tmp_path, **change)
    with pytest.raises(InputError, match=message) as error:
        fit(job, print)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_voxel_mask_of_another_shape_is_refused(
    cluster: None, make_job: Callable[..., TrainJob], tmp_path: Path
) -> None:
    np.save(tmp_path / "mask.npy", np.ones(25, bool))
    job = make_job(tmp_path, data={"voxels": str(tmp_path / "mask.npy")})
    with pytest.raises(InputError, match=r"a mask of shape \(25,\); .* have 24 voxels"):
        fit(job, print)
