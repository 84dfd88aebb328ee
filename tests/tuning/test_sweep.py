"""Whole sweeps on a real cluster, with a real MLflow store: what is shared, recorded, survived."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from giblet_ray.checkpoint.claim import claimed
from giblet_ray.checkpoint.seeds import read_seeds
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob, TuneJob
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.choice import best_trial
from giblet_ray.tracking.store import open_store
from giblet_ray.tuning.resume import sweep_folder
from giblet_ray.tuning.sweep import Swept, sweep
from giblet_ray.tuning.tuner import run_trials

MakeJob = Callable[..., TuneJob]
pytestmark = pytest.mark.usefixtures("cluster")


def mlflow_runs(swept: Swept) -> tuple[Run, dict[int, Run]]:
    """Return the parent, and the children by trial number, as another client finds them."""
    client = MlflowClient(swept.tracking_uri)
    parent = client.get_run(swept.mlflow_run)
    where = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    children = client.search_runs([parent.info.experiment_id], where)
    return parent, {int(child.data.tags["giblet_ray.trial"]): child for child in children}


@pytest.fixture(scope="module")
def four_trials(make_tune_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A sweep whose shards are gone while its trials run: every row comes from the blocks that they
    share, whatever their codebooks, modalities and lag. The best is trained with another seed."""
    folder = tmp_path_factory.mktemp("four")
    space = {
        "model.audio_codebooks": [1, 2, 4],
        "model.kernel_sizes": [[3], [3, 5]],
        "data.modalities": [["audio"], ["video", "audio", "text"]],
        "data.lag_seconds": {"min": 3, "max": 6},
        "optimizer.lr": {"min": 1e-3, "max": 1e-1, "log": True},
    }
    settings = {"space": space, "num_samples": 4, "search": "random", "scheduler": "none"}
    settings |= {"seeds": 2, "finalists": 1}
    job = make_tune_job(folder, {**settings, "max_concurrent": 2})
    dataset = Path(shutil.copytree(job.dataset, folder / "film"))

    def run_without_shards(*how: Any) -> None:
        gone = {
            shard: shard.rename(f"{shard}.gone") for shard in sorted(dataset.rglob("*.parquet"))
        }
        run_trials(*how)
        for shard, elsewhere in gone.items():  # the best trial is judged on its test TRs
            elsewhere.rename(shard)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("giblet_ray.tuning.session.run_trials", run_without_shards)
        return sweep(job.model_copy(update={"dataset": str(dataset)}), lambda _: None)


def test_four_trials_and_a_seed_read_the_data_once_and_all_are_recorded(four_trials: Swept) -> None:
    swept = four_trials
    assert [trial.state for trial in swept.trials] == ["finished"] * 5
    assert sorted(trial.number for trial in swept.trials) == list(range(5))
    for name in ("model.audio_codebooks", "data.modalities", "data.lag_seconds"):
        assert len({str(trial.settings[name]) for trial in swept.trials}) > 1
    scores = [trial.best(swept.score) or 0.0 for trial in swept.trials if trial.seed is None]
    assert scores == sorted(scores, reverse=True)
    parent, children = mlflow_runs(swept)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["sweep.space.model.audio_codebooks"] == "[1, 2, 4]"
    assert parent.data.params["sweep.search"] == "random"
    assert parent.data.params["sweep.seed"] == "0"
    assert parent.data.tags["giblet_ray.kind"] == "sweep"
    best = swept.trials[0]
    assert parent.data.tags["giblet_ray.best"] == children[best.number].info.run_id
    assert children.keys() == set(range(5))
    for trial in swept.trials:
        child = children[trial.number]
        assert child.info.status == "FINISHED"
        assert float(child.data.params["optimizer.lr"]) == trial.settings["optimizer.lr"]
        assert child.data.params["data.lag_seconds"] == str(trial.settings["data.lag_seconds"])
        assert child.data.params["data.voxels"] == "all"
        assert child.data.params["train.seed"] == str(trial.seed or 0)
        assert child.data.metrics["best/val/pearson_mean"] == trial.best(swept.score)
        history = MlflowClient(swept.tracking_uri).get_metric_history(
            child.info.run_id, "val/pearson_mean"
        )
        assert {m.step: m.value for m in history} == trial.scores


def test_settings_are_crowned_by_the_mean_over_their_seeds(
    four_trials: Swept, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = four_trials
    better, worse = swept.trials[:2]
    assert better.settings == worse.settings
    assert {better.seed, worse.seed} == {None, 1}
    scores = [trial.best(swept.score) or 0.0 for trial in (better, worse)]
    assert scores[0] > scores[1]
    seeds = swept.seeds
    assert seeds is not None
    assert seeds.scores == tuple(scores)
    assert read_seeds(Storage.at(str(Path(swept.best_settings).parent)), better.folder) == seeds
    parent, _ = mlflow_runs(swept)
    assert parent.data.metrics["seeds/val/pearson_mean"] == seeds.mean
    assert parent.data.metrics["seeds/val/pearson_mean_sd"] == seeds.spread
    assert best_trial(open_store(swept.tracking_uri), "sweep").name == f"sweep/{better.folder}"
    assert seeds.in_words() in Path(swept.best_settings).read_text().partition("\n")[0]
    assert swept.summary()["they reach"] == seeds.in_words()
    swept.print_table()
    table = capsys.readouterr().out
    assert "mean, SD over seeds" in table
    assert f"{seeds.mean:.4f}, {seeds.spread:.4f}" in table


def test_what_it_says_to_type_can_be_typed(four_trials: Swept) -> None:
    odd = replace(four_trials, best_settings="/it's a lab/best.yaml")
    told = odd.summary()
    assert shlex.split(told["train it"])[2:] == ["--config", "/it's a lab/best.yaml"]
    words = ["--experiment", "giblet_ray", "--tracking.uri", four_trials.tracking_uri]
    assert shlex.split(told["compare"])[2:] == words


def test_the_best_settings_train_to_the_score_of_the_best_trial(
    four_trials: Swept,
    train_locally: Callable[..., Any],
    tmp_path: Path,
) -> None:
    best = four_trials.trials[0]
    folder = Path(four_trials.best_settings).parent
    encoder = Encoder.load(folder / best.folder)
    assert (
        list(encoder.model.encoder.audio_encoder.kernel_sizes)
        == best.settings["model.kernel_sizes"]
    )
    job = parse_job(TrainJob, ["--config", four_trials.best_settings])
    assert job.optimizer.lr == best.settings["optimizer.lr"]
    assert job.train.seed == (best.seed or 0)
    link = train_locally(job, tmp_path)
    assert max(report["val/pearson_mean"] for report in link.reports) == best.best(
        four_trials.score
    )


def test_a_sweep_of_the_same_name_is_refused(four_trials: Swept, make_tune_job: MakeJob) -> None:
    folder = Path(four_trials.best_settings).parents[2]
    with pytest.raises(InputError, match=r"is a sweep already; continue it with --sweep\.resume"):
        sweep(make_tune_job(folder, {"space": {"model.embed_dim": [2]}}), lambda _: None)


def test_a_sweep_that_another_job_works_on_is_left_to_it(tune_job: MakeJob, tmp_path: Path) -> None:
    """Also in MLflow: nothing is begun there, and nothing of the other's told a second time."""
    job = tune_job({"space": {"model.embed_dim": [2]}})
    with (
        claimed(sweep_folder(job), "--name"),
        pytest.raises(InputError, match="runs/sweep: another job works on it"),
    ):
        sweep(job, lambda _: None)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_sweep_goes_on_when_trials_fail_and_says_why(tune_job: MakeJob) -> None:
    """Two diverge, two contradict themselves in a way that no setting shows alone."""
    space = {
        "train.batch_trs": [64, 16],
        "train.accumulation": [1, 16],
        "optimizer.lr": [1e-2, 1e30],
    }
    settings = {"space": space, "search": "grid", "scheduler": "none", "max_concurrent": 2}
    job = tune_job(settings, optimizer={"max_grad_norm": 1e30}, train={"batch_trs": 64})
    swept = sweep(job, lambda _: None)
    _, children = mlflow_runs(swept)
    assert len(swept.trials) == 8
    for trial in swept.trials:
        child = children[trial.number]
        batch_trs, accumulation, lr = trial.settings.values()
        if (batch_trs, accumulation) != (16, 16) and lr == 1e-2:
            assert (trial.state, child.info.status) == ("finished", "FINISHED")
            continue
        assert (trial.state, child.info.status) == ("failed", "FAILED")
        assert child.data.tags["giblet_ray.cause"] == trial.cause
        if (batch_trs, accumulation) == (16, 16):
            assert "--train.batch_trs 16: 1 workers with 16 accumulated parts" in trial.cause
        else:
            assert "the loss became nan" in trial.cause


@pytest.mark.slow
def test_budgets_end_a_sweep(tune_job: MakeJob) -> None:
    space = {"model.embed_dim": [2, 3, 4, 5, 6, 7]}
    settings = {"space": space, "scheduler": "none", "max_epochs": 7, "max_concurrent": 1}
    swept = sweep(tune_job(settings), lambda _: None)
    assert sum(len(trial.scores) for trial in swept.trials) == 7
    (stopped,) = [trial for trial in swept.trials if trial.state == "stopped"]
    assert stopped.cause == "the budget of 7 epochs is used up"
    parent, children = mlflow_runs(swept)
    assert children[stopped.number].info.status == "KILLED"
    # With more to spend, it goes on where it ended. What was deleted in MLflow is recorded anew.
    finished = children[0]
    client = MlflowClient(swept.tracking_uri)
    for run in (parent, finished):
        client.delete_run(run.info.run_id)
    more = tune_job({"resume": "sweep", "max_epochs": 9})
    lines: list[str] = []
    swept = sweep(TuneJob(**more.model_dump(exclude_unset=True)), lines.append)
    assert sum(len(trial.scores) for trial in swept.trials) == 9
    assert any("recorded anew" in line and line.endswith(": 0000") for line in lines)
    again, kept = mlflow_runs(swept)
    assert again.data.params == {**parent.data.params, "sweep.max_epochs": "9"}
    assert kept.keys() == {trial.number for trial in swept.trials}
    assert kept[stopped.number].info.run_id == children[stopped.number].info.run_id
    new = kept[0]
    assert (new.info.status, new.data.params) == ("FINISHED", finished.data.params)
    best = [{k: v for k, v in r.data.metrics.items() if k[:5] == "best/"} for r in (new, finished)]
    assert best[0] == best[1] != {}
    curve = client.get_metric_history(new.info.run_id, "val/pearson_mean")
    (scores,) = [trial.scores for trial in swept.trials if trial.number == 0]
    assert {m.step: m.value for m in curve} == scores


@pytest.mark.slow
def test_trials_of_two_workers_run_and_are_stopped(tune_job: MakeJob) -> None:
    """Stopped by ASHA at the second epoch of four, of 12 steps, with nothing left running."""
    space = {"optimizer.lr": [1e-2, 1e-9]}
    settings = {
        "space": space,
        "search": "grid",
        "grace_steps": 24,
        "reduction_factor": 2,
        "max_concurrent": 1,
    }
    job = tune_job(settings, scaling={"num_workers": 2}, train={"epochs": 4})
    swept = sweep(job, lambda _: None)
    assert {trial.state for trial in swept.trials} == {"finished", "stopped"}
    _, children = mlflow_runs(swept)
    for trial in swept.trials:
        metrics = children[trial.number].data.metrics
        assert metrics["val/pearson_mean"] == trial.scores[trial.epoch]
        assert "train/lr" in metrics or job.train.log_every_steps > 1
    assert yaml.safe_load(Path(swept.best_settings).read_text())["scaling"]["num_workers"] == 2
    assert ray.cluster_resources()["CPU"] == pytest.approx(4)


@pytest.mark.parametrize(
    ("sweep_settings", "num_workers", "message"),
    [
        ({}, 5, r"num_workers 5 of 1 CPUs each; this machine has 4"),
        ({"max_concurrent": 5}, 1, r"max_concurrent 5: a trial needs 1 worker of 1 CPUs; .*for 4"),
        ({"max_concurrent": 3}, 2, r"a trial needs 2 workers of 1 CPUs; .* room for 2 trials"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_numbers(
    tune_job: MakeJob,
    tmp_path: Path,
    sweep_settings: dict[str, Any],
    num_workers: int,
    message: str,
) -> None:
    job = tune_job(
        {"space": {"model.embed_dim": [2]}, **sweep_settings}, scaling={"num_workers": num_workers}
    )
    with pytest.raises(InputError, match=message):
        sweep(job, print)
    assert not (tmp_path / "runs").exists()
