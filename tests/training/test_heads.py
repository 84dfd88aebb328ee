"""Subjects whose units differ in number and place, trained together with a head for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from local_training import DeathError, LocalLink, LocalTraining
from ranks import run_ranks
from safetensors.torch import load_file
from three_people import PACKAGES, UNITS, people_job

from giblet_ray.checkpoint.pieces import WEIGHTS, load_weights
from giblet_ray.checkpoint.record import read_record
from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.loader import DeviceLoader
from giblet_ray.dataset.reader import Span
from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import world_size
from giblet_ray.judge.judge import score_test
from giblet_ray.judge.opened import open_run
from giblet_ray.training.identity import run_record
from giblet_ray.training.loop import BareLink, train
from giblet_ray.training.trainer import fit

CPU = torch.device("cpu")
METRICS = {"metrics": ["my_lab.metrics:spearman"]}

Trained = tuple[LocalTraining, LocalLink, Path]


def training_of(folder: Path, **groups: Any) -> LocalTraining:
    return LocalTraining(TrainJob.model_validate(people_job(folder, **groups)))


@pytest.fixture(scope="module")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two epochs with metrics of one's own, in the folder of a run."""
    training, run = training_of(people, train=METRICS), tmp_path_factory.mktemp("trained") / "run"
    return training, training.train(run), run


def test_each_subject_is_scored_on_its_own_units(trained: Trained) -> None:
    training, link, run = trained
    assert training.data.units == UNITS
    last = link.reports[-1]
    of_subjects = [last[f"val/{name}/pearson_mean"] for name in UNITS]
    assert last["val/pearson_mean"] == pytest.approx(np.mean(of_subjects))
    assert last["val/spearman"] == pytest.approx(last["val/pearson_mean"], abs=0.1)
    opened = open_run(str(run), packages=PACKAGES)
    scores, own = score_test(opened)
    assert scores.mean is None
    found = {name: np.isfinite(of.pearson_V).sum() for name, of in scores.subjects.items()}
    assert found == UNITS
    assert own.keys() == {"spearman"}
    assert {name: space.n_units for name, space in opened.spaces.items()} == UNITS
    assert len(opened.subjects_by_space()) == 3


def test_a_subjects_head_predicts_its_units(trained: Trained) -> None:
    training, _, run = trained
    encoder = Encoder.load(run, packages=PACKAGES)
    text = np.random.default_rng(0).normal(size=(5, 1024)).astype(np.float32)
    for index, (name, n) in enumerate(UNITS.items()):
        with torch.no_grad():
            head = encoder.model.heads[index](encoder.model.trunk(torch.from_numpy(text)))
        bold_NV = encoder.predict(name, text=text)
        np.testing.assert_allclose(bold_NV, head.numpy(), atol=1e-6)
        assert bold_NV.shape == (5, n)
        of_film = encoder.predict_bold(training.data.dataset, Span("one", 20, 30), index)
        assert of_film.shape == (10, n)
    with pytest.raises(InputError, match="subject is missing: the model tells 01, 02, 03 apart"):
        encoder.predict(text=text)
    with pytest.raises(InputError, match=r"subject 04: the model was trained on 01, 02, 03$"):
        encoder.predict("04", text=text)


def test_training_goes_on_to_the_bit(people: Path, trained: Trained, tmp_path: Path) -> None:
    whole = Encoder.load(sorted(trained[2].glob("epoch-*"))[-1], packages=PACKAGES)
    training = training_of(people, train={**METRICS, "checkpoint_every_steps": 5})
    with pytest.raises(DeathError):
        training.train(tmp_path / "run", lambda metrics: metrics.get("step") == 10)
    training.train(tmp_path / "run")
    resumed = Encoder.load(sorted((tmp_path / "run").glob("epoch-*"))[-1], packages=PACKAGES)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], weight), name


def test_a_shared_head_is_refused_and_a_head_for_each_is_named(people: Path) -> None:
    with pytest.raises(InputError, match=r"02 has 70 units, 01 50; .*--model\.head") as error:
        training_of(people, model={"kind": "multimodal", "heads": "shared"})
    assert "\n" not in str(error.value)


def test_a_mask_for_each_subject_is_found_by_its_name(people: Path, tmp_path: Path) -> None:
    for number, name in enumerate(UNITS):
        np.save(tmp_path / f"{name}.npy", np.arange(5 + number))
    training = training_of(people, data={"voxels": f"{tmp_path}/{{subject}}.npy"})
    assert training.data.units == {"01": 5, "02": 6, "03": 7}
    with pytest.raises(InputError, match=r"one file cannot choose of both; .*\{subject\}\.npy"):
        training_of(people, data={"voxels": str(tmp_path / "01.npy")})


CONTEXT = {"model": {"context": 3}, "data": {"window": 4}, "train": {"epochs": 2, "batch_trs": 24}}


class DeviceTraining(LocalTraining):
    """A training whose rows lie where its model does."""

    def loader(self, device: torch.device) -> DeviceLoader:
        data = self.data
        n_trs = {name: stimulus.n_trs for name, stimulus in data.dataset.stimuli.items()}
        how = (data.values, data.scans, n_trs, data.lag_trs, device, data.context_trs)
        return DeviceLoader(self._held, *how)


def losses(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """Losses and scores of each epoch."""
    return [
        {name: value for name, value in epoch.items() if name.startswith(("train/loss", "val/"))}
        for epoch in history
    ]


def test_rows_that_lie_on_the_device_give_the_same_losses(people: Path, tmp_path: Path) -> None:
    job = TrainJob.model_validate(people_job(people, **CONTEXT))
    held, moved = (
        training(job).train(tmp_path / training.__name__).reports
        for training in (LocalTraining, DeviceTraining)
    )
    assert losses(moved) == losses(held)
    assert len(losses(held)[-1]) > 2 * len(UNITS)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("residence", ["memory", "stream"])
def test_through_ray_the_losses_are_those_of_one_process(
    people: Path, tmp_path: Path, residence: Literal["memory", "stream"]
) -> None:
    """Rows of all three in a batch, from blocks in the object store or as they are read."""
    where = {
        "name": residence,
        "storage": {"path": str(tmp_path / "runs")},
        "tracking": {"uri": f"sqlite:///{tmp_path}/mlflow.db", "log_model": False},
    }
    groups = {**CONTEXT, "data": {**CONTEXT["data"], "residence": residence}}
    job = TrainJob.model_validate({**people_job(people, **groups), **where})
    lines: list[str] = []
    through_ray = losses(fit(job, lines.append).position.history)
    assert any(f": {residence}, " in line for line in lines)
    here = losses(LocalTraining(job).train(tmp_path / "here", residence=residence).reports)
    for found, wanted in zip(through_ray, here, strict=True):
        assert found == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    assert through_ray[-1]["train/loss"] < through_ray[0]["train/loss"]


class RankLink(BareLink):
    """One of several ranks; the first keeps what it is told."""

    def __init__(self, rank: int) -> None:
        super().__init__(CPU)
        self.rank, self.world_size = rank, world_size()
        self.found: dict[str, Any] = {"points": []}

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.found["points"].append((step, metrics))

    def keep(self, folder: Path, name: str) -> None:
        weights = load_weights(folder, read_record(folder))
        self.found["weights"] = {name: weight.clone() for name, weight in weights.items()}
        state = load_file(folder / f"optimizer-{WEIGHTS}")
        steps = {name: int(of) for name, of in state.items() if name.startswith("step/")}
        self.found["steps"] = steps


def _trained_by_a_rank(rank: int, jobs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a rank is told of each training."""
    found = {}
    for name, settings in jobs.items():
        training, link = LocalTraining(TrainJob.model_validate(settings)), RankLink(rank)
        data = training.data
        run = run_record(training.job, data, None)
        how = training.loader(CPU), training.normalisation, data.space_files(), link
        train(training.job, run, data.ordered(run.order), *how)
        found[name] = link.found
    return found


@pytest.fixture(scope="module")
def of_ranks(people: Path) -> dict[int, dict[str, dict[str, Any]]]:
    """What 1, 2 and 3 ranks make of the same jobs."""
    shared = {"scaling": {"num_workers": 3}}
    course = {"epochs": 1, "log_every_steps": 1}
    jobs = {
        # r over two or three rows is too steep to be the same after many steps
        "correlated": people_job(people, train={**course, "batch_trs": 24}, **shared),
        "unused": people_job(
            people,
            train={**course, "accumulation": 2},
            loss={"correlation_weight": 0.0},
            **shared,
        ),
    }
    return {n: run_ranks(n, _trained_by_a_rank, jobs)[0] for n in (1, 2, 3)}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", ["correlated", "unused"])
def test_ranks_train_heads_as_one_rank_does(
    of_ranks: dict[int, dict[str, dict[str, Any]]], name: str, n: int
) -> None:
    """Also where some of them, or all, have no row of a subject in a step."""
    alone, together = of_ranks[1][name], of_ranks[n][name]
    assert together["steps"] == alone["steps"]
    if name == "unused":
        assert len(set(alone["steps"].values())) > 1  # a head that nobody used took no step
    for (step, one), (same, several) in zip(alone["points"], together["points"], strict=True):
        assert step == same
        for metric, value in one.items():
            if metric.startswith(("step/", "val/", "train/loss", "train/mse")):
                assert several[metric] == pytest.approx(value, rel=1e-4, abs=1e-5), (metric, step)
    for weight, value in alone["weights"].items():
        torch.testing.assert_close(together["weights"][weight], value, rtol=1e-3, atol=1e-4)
