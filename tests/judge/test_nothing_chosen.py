"""Other test values in the shards change nothing that is chosen, bit for bit: alphas and trials."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from giblet_ray.checkpoint.trained import Encoder
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.score import VAL_PEARSON, Score
from giblet_ray.judge.judge import judge_run
from giblet_ray.training.data import plan_data
from giblet_ray.tuning.config import SweepConfig
from giblet_ray.tuning.search import Search
from giblet_ray.tuning.space import parse_space, with_settings

FILMS = {"one": 117, "two": 90}
N_TRIALS = 10
"""Two more than TPE draws at random."""


@pytest.fixture(scope="module")
def data_sets(
    tmp_path_factory: pytest.TempPathFactory, dataset_writer: Callable[..., Any]
) -> tuple[Path, Path]:
    """A data set, and the same with other BOLD at the test TRs."""
    folders = tmp_path_factory.mktemp("as_made"), tmp_path_factory.mktemp("changed")
    dataset_writer(folders[0] / "data", FILMS, ("01", "02"))
    split = plan_data(job_of(folders[0], "any")).split

    def change(key: ScanKey, bold: np.ndarray) -> np.ndarray:
        random = np.random.default_rng(9)
        for span in split.test:
            if span.stimulus == key.stimulus:
                bold[span.start : span.stop] = random.normal(-300, 77, (len(span), bold.shape[1]))
        return bold

    dataset_writer(folders[1] / "data", FILMS, ("01", "02"), change_bold=change)
    return folders


def job_of(folder: Path, name: str, **groups: Any) -> TrainJob:
    return TrainJob(
        dataset=str(folder / "data"), name=name, data={"modalities": ("text",)}, **groups
    )


def r_on_test(folder: Path, name: str) -> float:
    runs = Storage.at(str(folder / "runs"))
    return judge_run(runs, name, None, (), lambda line: None).metrics["pearson_mean"]


@pytest.mark.parametrize("solver", ["ridge", "banded"])
def test_no_alpha_weighting_or_weight_of_ridge(
    data_sets: tuple[Path, Path], train_locally: Callable[..., Any], solver: str
) -> None:
    few = {"n_iter": 3, "folds": 2, "n_alphas": 3, "delays_seconds": (3, 6)}
    states, tests = [], []
    for folder in data_sets:
        job = job_of(folder, solver, model={"kind": "ridge", "solver": solver, **few})
        train_locally(job, folder / "runs" / solver)
        states.append(Encoder.load(folder / "runs" / solver).model.state_dict())
        tests.append(r_on_test(folder, solver))
    assert {"alpha_0", "alpha_1", "bands_0", "bands_1"} <= set(states[0])
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    assert tests[0] != tests[1]


@pytest.mark.slow
def test_no_trial_of_a_search_when_it_is_given_up_or_which_is_best(
    data_sets: tuple[Path, Path], train_locally: Callable[..., Any], tiny_model: dict[str, Any]
) -> None:
    """As a sweep asks and tells its search, one trial after the other."""
    settings = SweepConfig(num_samples=N_TRIALS, grace_steps=1)
    courses, tests = [], []
    for folder in data_sets:
        base = job_of(folder, "0", model=tiny_model, train={"epochs": 2, "batch_trs": 512})
        space = {"optimizer.lr": {"min": 1e-4, "max": 1e-1, "log": True}}
        search, course = Search(parse_space(space, base), settings, Score()), []
        for number in range(N_TRIALS):
            chosen = search.ask(number)
            job = with_settings(base, {**chosen, "name": str(number)})
            link = train_locally(job, folder / "runs" / job.name)
            scores = [metrics[VAL_PEARSON] for metrics in link.reports]
            # An epoch is one step: all training TRs are a batch.
            stops = [search.report(number, n, n, score) for n, score in enumerate(scores, 1)]
            search.finish(number, max(scores), stopped=any(stops))
            course.append((chosen, scores, stops))
        courses.append(course)
        best = max(range(N_TRIALS), key=lambda number: max(course[number][1]))
        tests.append(r_on_test(folder, str(best)))
    assert courses[0] == courses[1]
    assert any(any(stops) for _, _, stops in courses[0])
    assert tests[0] != tests[1]
