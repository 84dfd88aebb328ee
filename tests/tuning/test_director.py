"""The course of a sweep, its trials' reports made up: search, then its finalists' other seeds."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from giblet_ray.config import TuneJob
from giblet_ray.dataset.reader import Dataset
from giblet_ray.dataset.storage import Storage
from giblet_ray.evaluation.score import Score
from giblet_ray.tracking.recorded_run import CAUSE_TAG, TRIAL_TAG
from giblet_ray.tracking.sweep_runs import SweepRuns
from giblet_ray.tuning.director import SweepDirector
from giblet_ray.tuning.journal import Journal
from giblet_ray.tuning.ranking import by_settings
from giblet_ray.tuning.search import Search
from giblet_ray.tuning.space import parse_space, with_settings

SPACE = {"model.embed_dim": [2, 3, 4, 5, 6]}
LUCK = {None: 0.0, 1: -0.4, 2: 0.05}


class Course:
    """Sessions of one sweep, in a folder and a tracking store."""

    def __init__(self, make_job: Callable[..., TuneJob], folder: Path, uri: str) -> None:
        self._make_job, self._folder, self._uri = make_job, folder, uri
        self.lines: list[str] = []
        self._runs: SweepRuns | None = None

    def session(
        self, at_a_time: int = 1, model: dict[str, Any] | None = None, **sweep: Any
    ) -> SweepDirector:
        """Begin a session, or go on with what the last has left."""
        self.close()
        settings = {"space": SPACE, "search": "grid", "scheduler": "none", **sweep}
        space = settings["space"]
        job = self._make_job(self._folder, settings, train={"epochs": 2}, model=model or {})
        storage = Storage.at(str(self._folder / "sweep"))
        journal = Journal(storage)
        base = with_settings(job, {"storage.path": storage.location})
        search = Search(parse_space(space, job), job.sweep, Score())
        runs = SweepRuns(self._uri, "x", "sweep", storage, self.lines.append, "again")
        self._runs = runs
        checksum = Dataset.open(job.dataset).manifest.checksum
        about = (job.dataset, checksum, {}, at_a_time, self.lines.append)
        director = SweepDirector(base, job.sweep, search, journal, runs, *about)
        director.recall(journal.trials())
        return director

    def close(self) -> None:
        """End the last session as an interrupt does."""
        if self._runs is not None:
            self._runs.close("KILLED", 0)

    def mlflow_trials(self) -> list[Run]:
        """Return the trials' runs as MLflow has them, once the session is closed."""
        assert self._runs is not None
        parent = self._runs.parent
        experiment = MlflowClient(self._uri).get_run(parent.id).info.experiment_id
        where = f"tags.mlflow.parentRunId = '{parent.id}'"
        return list(MlflowClient(self._uri).search_runs([experiment], where))

    @staticmethod
    def train(director: SweepDirector, most: int = 99) -> list[tuple[int, int | None]]:
        """Train as many of the next trials; return embed_dim and seed of each."""
        trained = []
        while not director.is_done() and len(trained) < most:
            trial = director.next_trial()
            assert trial is not None
            director.started(trial.number)
            dim, seed = trial.settings["model.embed_dim"], trial.settings.get("train.seed")
            trained.append((dim, seed))
            for epoch in (1, 2):
                # The more dimensions, the better; but seed 1 of 6 has no luck.
                score = 0.1 * dim + epoch / 1000 + (LUCK[seed] if dim == 6 else 0)
                told = {"epoch": epoch, "train/steps": 5 * epoch, "val/pearson_mean": score}
                if director.result(trial.number, told):
                    break
            director.ended(trial.number, None)
        return trained


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests, since MLflow takes seconds to make one."""
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def course(make_tune_job: Callable[..., TuneJob], tmp_path: Path, uri: str) -> Iterator[Course]:
    course = Course(make_tune_job, tmp_path, uri)
    yield course
    course.close()


SEARCH = [(dim, None) for dim in (2, 3, 4, 5, 6)]
AGAIN = [(6, 1), (5, 1), (6, 2), (5, 2)]


def test_the_best_of_the_search_are_trained_with_other_seeds_and_the_best_mean_wins(
    course: Course,
) -> None:
    director = course.session(seeds=3, finalists=2)
    assert director.n_trials == 9
    assert course.train(director) == SEARCH + AGAIN
    ranked = by_settings(list(director.trials.values()), Score())
    assert [[trial.number for trial in group] for group in ranked[:2]] == [[3, 6, 8], [7, 4, 5]]
    assert "[9 of 9 trials, best r 0.6520 (0007)" in course.lines[-1]


@pytest.mark.parametrize("killed_after", [3, 5, 6, 9])
def test_a_sweep_that_was_killed_goes_on_where_it_was(course: Course, killed_after: int) -> None:
    """In the search, right after it, among the finalists, and at the end."""
    begun = course.train(course.session(seeds=3, finalists=2), killed_after)
    rest = course.session(seeds=3, finalists=2)
    assert begun + course.train(rest) == SEARCH + AGAIN
    assert rest.n_trials == 9


def test_a_trial_whose_folder_was_deleted_is_trained_anew_and_takes_no_others_place(
    course: Course, tmp_path: Path
) -> None:
    course.train(course.session(), 4)
    shutil.rmtree(tmp_path / "sweep" / "0001")
    rest = course.session()
    assert course.train(rest) == [(3, None), (6, None)]
    found = [(trial.number, trial.settings["model.embed_dim"]) for trial in rest.trials.values()]
    assert found == [(0, 2), (2, 4), (3, 5), (4, 3), (5, 6)]


def test_a_training_with_another_seed_that_was_killed_comes_first_with_its_seed(
    course: Course,
) -> None:
    director = course.session(seeds=2, finalists=1)
    course.train(director, 5)
    trial = director.next_trial()
    assert trial is not None
    assert trial.settings["train.seed"] == 1
    assert course.train(course.session(seeds=2, finalists=1)) == [(6, 1)]


def test_finalists_wait_for_the_whole_search(course: Course) -> None:
    director = course.session(at_a_time=2, seeds=2, finalists=1)
    course.train(director, 3)
    slow, fast = director.next_trial(), director.next_trial()
    assert slow is not None
    assert fast is not None
    director.result(fast.number, {"epoch": 1, "train/steps": 5, "val/pearson_mean": 0.1})
    director.ended(fast.number, None)
    assert director.next_trial() is None
    assert not director.is_done()
    director.result(slow.number, {"epoch": 1, "train/steps": 5, "val/pearson_mean": 0.9})
    director.ended(slow.number, None)
    best = director.next_trial()
    assert best is not None
    assert best.settings["model.embed_dim"] == slow.settings["model.embed_dim"]


def test_more_seeds_and_a_longer_search_can_be_asked_for_later(course: Course) -> None:
    few = course.session(num_samples=4, seeds=2, finalists=1)
    assert course.train(few) == [*SEARCH[:4], (5, 1)]
    more = course.session(num_samples=5, seeds=3, finalists=2)
    assert course.train(more) == [(6, None), (6, 1), (6, 2), (5, 2)]


def test_budgets_count_other_seeds_too(course: Course) -> None:
    director = course.session(seeds=3, finalists=2, max_epochs=13)
    assert course.train(director) == SEARCH + AGAIN[:2]
    assert director.trials[6].cause == "the budget of 13 epochs is used up"
    assert len(by_settings(list(director.trials.values()), Score())[0]) == 2


def test_settings_that_have_won_are_not_given_up_early(course: Course) -> None:
    early = {"scheduler": "asha", "grace_steps": 5, "reduction_factor": 2}
    director = course.session(seeds=2, finalists=2, **early)
    course.train(director)
    assert {trial.state for trial in itertools.islice(director.trials.values(), 5, None)} == {
        "finished"
    }


def test_what_a_trial_reports_within_an_epoch_is_recorded_and_goes_on(
    course: Course, uri: str
) -> None:
    director = course.session()
    trial = director.next_trial()
    assert trial is not None
    director.started(trial.number)
    told = {"step": 3, "points": [(2, {"train/lr": 0.5}), (3, {"train/lr": 0.25})]}
    assert not director.result(trial.number, told)
    assert director.trials[trial.number].scores == {}
    course.close()
    (run,) = course.mlflow_trials()
    curve = MlflowClient(uri).get_metric_history(run.info.run_id, "train/lr")
    assert {point.step: point.value for point in curve} == {2: 0.5, 3: 0.25}


def test_a_trial_whose_settings_contradict_one_another_fails_and_the_sweep_goes_on(
    course: Course,
) -> None:
    """Also when it is resumed; with its settings in MLflow."""
    space = {"model.heads": ["shared", "subject"], "model.subject_dropout": [0.0, 0.2]}
    model = {"heads": "subject", "norm": "layer"}
    director = course.session(model=model, space=space)
    while not director.is_done():
        trial = director.next_trial()
        assert trial is not None
        director.started(trial.number)
        if trial.settings == {"model.heads": "shared", "model.subject_dropout": 0.2}:
            odd = trial.number
            director = course.session(model=model, space=space)
            assert director.next_trial() == trial
            director.result(odd, {"failed": "they contradict", "traceback": "one another"})
        else:
            told = {"epoch": 2, "train/steps": 10, "val/pearson_mean": 0.5}
            director.result(trial.number, told)
        director.ended(trial.number, None)
    assert [trial.state for trial in director.trials.values()].count("finished") == 3
    assert director.trials[odd].state == "failed"
    course.close()
    (run,) = [run for run in course.mlflow_trials() if run.info.status == "FAILED"]
    params = run.data.params
    assert (params["model.heads"], params["model.subject_dropout"]) == ("shared", "0.2")
    assert params["name"] == f"{odd:04d}"


def test_a_trial_that_was_given_up_as_its_sweep_was_killed_is_closed_when_that_goes_on(
    course: Course, tmp_path: Path
) -> None:
    """Also with a budget that it would have gone on with: what was decided holds."""
    director = course.session(max_epochs=1)
    trial = director.next_trial()
    assert trial is not None
    director.started(trial.number)
    told = {"epoch": 1, "train/steps": 5, "val/pearson_mean": 0.5}
    assert director.result(trial.number, told)
    journal = Journal(Storage.at(str(tmp_path / "sweep")))
    assert [each.state for each in journal.trials()] == ["running"]
    rest = course.session()
    (record,) = journal.trials()
    cause = "the budget of 1 epochs is used up"
    assert (record.state, record.cause) == ("stopped", cause)
    assert course.train(rest) == SEARCH[1:]
    course.close()
    (run,) = [run for run in course.mlflow_trials() if run.data.tags[TRIAL_TAG] == "0"]
    assert (run.info.status, run.data.tags[CAUSE_TAG]) == ("KILLED", cause)
