"""Promotion in a real MLflow store: who becomes the champion, who does not, and why."""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoints import sign
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from safetensors.torch import load_file, save_file

from giblet_ray.checkpoint.record import Units
from giblet_ray.checkpoint.seeds import Seeds, keep_seeds
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import PromoteJob, TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.reader import Dataset, Span
from giblet_ray.dataset.storage import Storage
from giblet_ray.errors import InputError
from giblet_ray.judge.judge import score_test
from giblet_ray.judge.opened import open_run
from giblet_ray.promotion.promote import Promotion, promote
from giblet_ray.tracking.mlflow_run import MlflowRun
from giblet_ray.tracking.recorded_run import KIND_TAG
from giblet_ray.tracking.registry import fetch_registered
from giblet_ray.training.data import plan_data


class Store:
    """A store, runs that are made in it, and the model that a test registers there."""

    def __init__(self, folder: Path, checkpoint: Path, model_name: str) -> None:
        self.folder, self.checkpoint, self.model_name = folder, checkpoint, model_name
        self.uri = f"sqlite:///{folder}/mlflow.db"
        self.client = MlflowClient(self.uri)
        self.lines: list[str] = []

    def run(
        self,
        name: str,
        score: float | None,
        status: str = "FINISHED",
        tags: dict[str, str] | None = None,
        change: Callable[[dict[str, Any]], object] = lambda record: None,
    ) -> str:
        """Record a run whose one checkpoint has a score; return its id."""
        name = f"{self.model_name}-{name}"
        folder = self.folder / "runs" / name
        shutil.copytree(self.checkpoint, folder / "epoch-0002")
        self.rescore(folder / "epoch-0002", score, change)
        run = MlflowRun(self.uri, "x", name, str(folder), tags)
        if status != "RUNNING":
            run.close(status)
        return run.id

    def rescore(
        self,
        checkpoint: Path,
        score: float | None,
        change: Callable[[dict[str, Any]], object] = lambda record: None,
    ) -> None:
        record = json.loads((checkpoint / "record.json").read_text())
        record["score"] = score
        if score is not None:
            record["position"]["history"][-1]["val/pearson_mean"] = score
        change(record)
        (checkpoint / "record.json").write_text(json.dumps(record))

    def promote(self, **settings: Any) -> Promotion:
        tracking = {"uri": self.uri}
        job = PromoteJob(model_name=self.model_name, tracking=tracking, **settings)
        return promote(job, self.lines.append)

    @property
    def champion(self) -> ModelVersion:
        return self.client.get_model_version_by_alias(self.model_name, "champion")

    @property
    def n_versions(self) -> int:
        return len(self.client.search_model_versions(f"name = '{self.model_name}'"))


@pytest.fixture(scope="module")
def checkpoint(local_training: Callable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    local_training(train={"epochs": 1, "batch_trs": 16}).train(folder)
    (saved,) = folder.iterdir()
    return saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests, since MLflow takes seconds to make one."""
    return tmp_path_factory.mktemp('it\'s "here"-')


@pytest.fixture
def store(folder: Path, checkpoint: Path) -> Store:
    """A model of its own for each test."""
    return Store(folder, checkpoint, f"model-{uuid.uuid4().hex[:8]}")


def test_first_model_is_logged_and_becomes_the_champion(
    store: Store, checkpoint: Path, arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset]
) -> None:
    run_id = store.run("a", 0.25, status="KILLED")
    before = store.client.get_run(run_id).info
    promoted = store.promote(run=run_id)
    assert promoted.changed
    assert promoted.summary()["replaced"] == "nothing: it is the first"
    version = store.champion
    assert version.run_id == run_id
    dataset = arrays_and_dataset[1]
    assert version.tags["giblet_ray.dataset"] == dataset.manifest.checksum
    assert float(version.tags["giblet_ray.score"]) == 0.25
    assert float(version.tags["best/val/pearson_mean"]) == 0.25
    assert "best/val/loss" in version.tags
    after = store.client.get_run(run_id).info
    assert (after.status, after.end_time) == (before.status, before.end_time)


def test_promoted_model_predicts_what_its_checkpoint_predicts(
    store: Store, checkpoint: Path, arrays_and_dataset: tuple[dict[str, np.ndarray], Dataset]
) -> None:
    arrays, dataset = arrays_and_dataset
    store.promote(run=store.run("a", 0.25))
    inputs = {part: arrays[f"{part}/two.parquet"] for part in ("frames", "codes", "text")}
    expected = Encoder.load(checkpoint, dataset).predict(**inputs)
    for uri in (f"models:/{store.model_name}@champion", f"models:/{store.model_name}/1"):
        with fetch_registered(uri, store.uri) as (files, registered):
            assert registered.version == "1"
            np.testing.assert_array_equal(Encoder.load(files, dataset).predict(**inputs), expected)
            # Nothing that only training needs, and nothing pickled, was logged.
            assert {path.suffix for path in files.iterdir()} == {".json", ".safetensors", ".gz"}


def test_champion_promoted_again_changes_nothing(store: Store) -> None:
    run_id = store.run("a", 0.25)
    store.promote(run=run_id)
    before = store.champion
    again = store.promote(run=run_id)
    assert not again.changed
    assert again.summary()["replaced"] == "nothing: it was there already"
    assert store.champion.version == before.version
    assert store.champion.last_updated_timestamp == before.last_updated_timestamp
    assert store.n_versions == 1
    assert len(store.client.get_run(run_id).outputs.model_outputs) == 1


def test_better_model_replaces_and_worse_one_is_refused_unless_forced(store: Store) -> None:
    worse, better = store.run("worse", 0.1), store.run("better", 0.3)
    store.promote(run=worse)
    promoted = store.promote(run=better)
    replaced = f"version 1 (run {store.model_name}-worse, r 0.10000)"
    assert promoted.summary()["replaced"] == replaced
    assert promoted.summary()["validation Pearson r (selected on)"] == "0.30000"
    # Of the same weights: nothing tells them apart on the TRs that neither was chosen by.
    assert re.fullmatch(
        r"r (-?0\.\d{4}), before \1: \+0\.0000 \[.*\], p = 1 \(paired, two-sided, t of \d+ .*\)",
        promoted.summary()["test"],
    )
    with pytest.raises(InputError, match=r"is worse \(r 0\.10000\) than version 2 .*r 0\.30000\)"):
        store.promote(run=worse)
    assert store.champion.run_id == better
    store.promote(run=worse, force=True)
    assert store.champion.run_id == worse
    assert store.lines[-1].startswith("forced: ")
    assert store.n_versions == 2  # the model that was there already was not registered anew


@pytest.mark.slow
def test_other_test_values_change_no_champion(
    folder: Path,
    checkpoint: Path,
    tmp_path: Path,
    dataset_writer: Callable[..., Any],
    train_locally: Callable[..., Any],
    tiny_model: dict[str, Any],
) -> None:
    """From the shards on: the same models, scores to the last bit, and champion; another test."""
    test: tuple[Span, ...] = ()

    def change(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        for span in test:
            bold[span.start : span.stop] = np.random.default_rng(9).normal(
                -300, 77, size=(len(span), bold.shape[1])
            )
        return bold

    became = []
    for made in (tmp_path / "as_made", tmp_path / "changed"):
        dataset_writer(made / "data", {"one": 117}, ("01",), change_bold=change)
        store, scores = Store(folder, checkpoint, f"model-{uuid.uuid4().hex[:8]}"), []
        for lr in (1e-6, 3e-2):
            job = TrainJob(
                dataset=str(made / "data"),
                name=f"lr-{lr:g}",
                data={"modalities": ("text",)},
                model=tiny_model,
                train={"epochs": 3, "batch_trs": 32},
                optimizer={"lr": lr},
            )
            train_locally(job, made / "runs" / job.name)
            run = MlflowRun(
                store.uri, "x", f"{store.model_name}-{lr:g}", str(made / "runs" / job.name)
            )
            run.close("FINISHED")
            promoted = store.promote(run=run.id)
            scores.append(promoted.record.score)
        test = plan_data(job).split.test
        became.append((scores, store.champion.run_id == run.id, promoted.test))
    assert became[0][:2] == became[1][:2]
    assert became[0][1]
    assert became[0][2] != became[1][2]
    assert became[0][2].startswith("r ")


def test_equally_good_model_is_not_refused_and_one_without_a_number_is(store: Store) -> None:
    store.promote(run=store.run("a", 0.25))
    assert store.promote(run=store.run("b", 0.25)).changed
    with pytest.raises(InputError, match=r"is worse \(r nan\)"):
        store.promote(run=store.run("c", float("nan")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["dataset"].update(checksum="0" * 64), "the data set's checksum is 00000"),
        (lambda r: r["config"]["data"]["split"].update(blocks=4), "data.split.blocks is 4"),
        (lambda r: r["dataset"]["subjects"].popitem(), "data.subjects is"),
        (
            lambda r: r.update(units=[Units.chosen(("01",), 30, np.arange(24)).model_dump()]),
            r"data.voxels is 24 of 30 \(.*\), there all",
        ),
        (
            lambda r: r.update(same=[same_film(("one", 0, 9), ("two", 3, 12))]),
            r"data.split.same is 2 intervals \(checksum \w{12}\), there none",
        ),
    ],
    ids=["data set", "split", "subjects", "voxels", "intervals that show the same"],
)
def test_models_that_were_judged_on_other_data_are_not_compared(
    store: Store, change: Callable, message: str, checkpoint: Path
) -> None:
    store.promote(run=store.run("a", 0.25))
    with pytest.raises(InputError, match=f"cannot be compared with version 1 .*{message}"):
        store.promote(run=store.run("b", 0.9, change=change))


def test_models_of_one_table_that_was_edited_between_are_not_compared(store: Store) -> None:
    def told(stop: int) -> Callable[[dict[str, Any]], None]:
        def change(record: dict[str, Any]) -> None:
            record["config"]["data"]["split"]["same"] = "same.tsv"
            record["same"] = [same_film(("one", 0, stop), ("two", 3, 12))]

        return change

    store.promote(run=store.run("a", 0.25, change=told(9)))
    with pytest.raises(InputError, match=r"cannot be compared with .* data.split.same is 2 interv"):
        store.promote(run=store.run("b", 0.3, change=told(8)))
    assert store.promote(run=store.run("c", 0.3, change=told(9))).changed


def same_film(*spans: tuple[str, int, int]) -> dict[str, Any]:
    names = ("stimulus", "start", "stop")
    return {"group": "a", "spans": [dict(zip(names, span, strict=True)) for span in spans]}


def test_models_are_not_compared_by_losses_that_are_not_the_same(store: Store) -> None:
    def of_loss(weight: float) -> Callable[[dict[str, Any]], None]:
        def change(record: dict[str, Any]) -> None:
            record["config"]["train"]["score"] = "val/loss"
            record["config"]["loss"]["correlation_weight"] = weight

        return change

    store.promote(run=store.run("a", 0.25, change=of_loss(1.0)))
    with pytest.raises(InputError, match=r"loss.correlation_weight is 0.0, there 1.0"):
        store.promote(run=store.run("b", 0.1, change=of_loss(0.0)))
    assert store.promote(run=store.run("c", 0.2, change=of_loss(1.0))).changed


def test_models_of_other_lag_and_size_are_compared(store: Store) -> None:
    store.promote(run=store.run("a", 0.25))
    lag = store.run("b", 0.3, change=lambda r: r["config"]["data"].update(lag_seconds=6.0))
    assert store.promote(run=lag).changed


def test_champion_of_another_making_is_not_replaced_unasked(store: Store, tmp_path: Path) -> None:
    store.client.create_registered_model(store.model_name)
    store.client.create_model_version(store.model_name, tmp_path.as_uri())
    store.client.set_registered_model_alias(store.model_name, "champion", "1")
    run_id = store.run("a", 0.25)
    with pytest.raises(InputError, match=r"what that was judged on is out of reach; --force"):
        store.promote(run=run_id)
    assert store.promote(run=run_id, force=True).version == "2"


def test_run_that_has_not_ended_is_refused_unless_forced(store: Store) -> None:
    run_id = store.run("a", 0.25, status="RUNNING")
    with pytest.raises(InputError, match=r"is still running, or was killed"):
        store.promote(run=run_id)
    assert store.promote(run=run_id, force=True).changed
    assert store.client.get_run(run_id).info.status == "RUNNING"


def test_run_that_was_trained_further_becomes_another_version_and_stands_beside_the_one_before(
    store: Store,
) -> None:
    run_id = store.run("a", 0.25)
    store.promote(run=run_id)
    first = Path(store.client.get_run(run_id).data.tags["giblet_ray.run"]) / "epoch-0002"
    further = Path(shutil.copytree(first, first.with_name("epoch-0003")))
    random = torch.Generator().manual_seed(0)
    weights = load_file(further / "model.safetensors")
    for tensor in weights.values():
        if tensor.is_floating_point():
            tensor *= torch.randn(tensor.shape, generator=random).exp()
    save_file(weights, further / "model.safetensors")
    sign(further, "model.safetensors")
    store.rescore(further, 0.3)
    promoted = store.promote(run=run_id)
    assert promoted.version == "2"
    assert float(store.champion.tags["giblet_ray.score"]) == 0.3
    scores = [score_test(open_run(str(each)))[0] for each in (further, first)]
    now, before = (each.summary()["pearson_mean"] for each in scores)
    assert promoted.test.startswith(f"r {now:.4f}, before {before:.4f}: ")
    assert f"{now:.4f}" != f"{before:.4f}"
    assert store.client.get_run(run_id).data.metrics["test/readings"] == 1


def test_logged_model_serves_without_the_runs_folder(store: Store) -> None:
    run_id = store.run("a", 0.25)
    store.promote(run=run_id)
    shutil.rmtree(store.client.get_run(run_id).data.tags["giblet_ray.run"])
    assert store.promote(run=run_id, alias="best").version == "1"


def test_run_without_a_scored_checkpoint_is_refused(store: Store) -> None:
    unscored, gone = store.run("unscored", None), store.run("gone", 0.25)
    shutil.rmtree(store.client.get_run(gone).data.tags["giblet_ray.run"])
    for run_id in (unscored, gone):
        with pytest.raises(InputError, match=r"no checkpoint that was scored, neither in .* nor"):
            store.promote(run=run_id)


def test_runs_are_found_by_name_or_id_and_otherwise_named(store: Store) -> None:
    first, name = store.run("night", 0.2), f"{store.model_name}-night"
    assert store.promote(run=name).run.id == first
    assert not store.promote(run=first[:10]).changed
    with pytest.raises(InputError, match=f"not in the trainings .did you mean {name}"):
        store.promote(run=f"{store.model_name}-nigth")
    second = MlflowRun(store.uri, "other experiment", name, "/elsewhere")
    with pytest.raises(InputError, match=r"2 have this name; give an id: ") as error:
        store.promote(run=name)
    assert first in str(error.value)
    assert second.id in str(error.value)


def test_best_trial_of_a_sweep_is_one_that_ended_and_has_a_checkpoint(store: Store) -> None:
    parent = MlflowRun(store.uri, "x", "search", "/runs/search", {KIND_TAG: "sweep"})
    child = {"mlflow.parentRunId": parent.id}
    store.run("0000", 0.2, "FINISHED", child)
    stopped = store.run("0001", 0.3, "KILLED", child)
    store.run("0002", 0.8, "FAILED", child)
    store.run("0003", 0.9, "RUNNING", child)
    store.run("0004", None, "KILLED", child)
    gone = store.run("0005", 0.7, "FINISHED", child)
    shutil.rmtree(store.client.get_run(gone).data.tags["giblet_ray.run"])
    store.run("elsewhere", 0.95)
    promoted = store.promote(best_of="search")
    assert promoted.run.id == stopped
    assert store.lines[0].startswith("best of search: ")
    assert not store.promote(best_of=parent.id).changed
    with pytest.raises(InputError, match=r"--run search: is a sweep; --best-of search"):
        store.promote(run="search")
    with pytest.raises(InputError, match=r"serch: not in the sweeps \(did you mean search"):
        store.promote(best_of="serch")


def test_of_a_sweep_that_is_finished_the_trial_that_it_chose_is_promoted(store: Store) -> None:
    """Which won by the mean over seeds; until then, the best trial so far."""
    parent = MlflowRun(store.uri, "x", "seeds", "/runs/seeds", {KIND_TAG: "sweep"})
    child = {"mlflow.parentRunId": parent.id}
    lucky, crowned = (store.run(name, r, "FINISHED", child) for name, r in (("a", 0.4), ("b", 0.3)))
    parent.tag("giblet_ray.best", crowned)
    assert store.promote(best_of="seeds", alias="early").run.id == lucky
    parent.close("FINISHED")
    folder = store.client.get_run(crowned).data.tags["giblet_ray.run"]
    keep_seeds(Storage.at(folder), "", Seeds(score="val/pearson_mean", scores=(0.3, 0.28)))
    promoted = store.promote(best_of="seeds")
    assert promoted.run.id == crowned
    assert promoted.summary()["its settings"] == "mean 0.2900, SD 0.0141 over 2 seeds"


def test_sweep_without_any_checkpoint_is_refused(store: Store) -> None:
    parent = MlflowRun(store.uri, "x", "barren", "/runs/barren", {KIND_TAG: "sweep"})
    store.run("0000", None, "KILLED", {"mlflow.parentRunId": parent.id})
    with pytest.raises(InputError, match=r"of its 1 trials, 1 were finished or stopped, and none"):
        store.promote(best_of="barren")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "one of --run RUN, --best-of SWEEP and --stack RUN RUN"),
        ({"run": "a", "best_of": "b"}, "one of --run RUN, --best-of SWEEP and --stack RUN RUN"),
        ({"run": "a", "alias": "latest"}, "MLflow keeps latest, 1, v1"),
        ({"run": "a", "alias": "V2"}, "MLflow keeps latest, 1, v1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromoteJob(**settings)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("models:/@champion", r"models:/NAME@ALIAS and models:/NAME/VERSION are accepted"),
        ("models:/there/latest", r"models:/NAME@ALIAS and models:/NAME/VERSION are accepted"),
        ("models:/ther@champion", r"no registered model ther \(did you mean there\?\); there are"),
        ('models:/it\'s "there"@best', 'no registered model it\'s "there"; there are'),
        ("models:/there@best", r"there has the aliases @champion and the versions 1"),
        ("models:/there/7", r"there has the aliases @champion and the versions 1"),
    ],
)
def test_registered_model_that_is_not_there_is_told_with_what_is(
    folder: Path, checkpoint: Path, asked: str, message: str
) -> None:
    there = Store(folder, checkpoint, "there")
    if not there.n_versions:
        there.promote(run=there.run("a", 0.2))
    with pytest.raises(InputError, match=f"--model {asked}: .*{message}"):
        fetch_registered(asked, there.uri).__enter__()
