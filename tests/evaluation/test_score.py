"""What is best: by one rule for epochs, checkpoints, trials, runs and champions."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import giblet_ray
from giblet_ray.checkpoint.record import Position, Record
from giblet_ray.checkpoint.store import best_of
from giblet_ray.evaluation.score import VAL_PEARSON, Score
from giblet_ray.tuning.journal import TrialRecord
from giblet_ray.tuning.table import by_score

NAN, INF = math.nan, math.inf
LOSS = Score("val/loss")


def history(score: Score, *values: float) -> list[dict[str, float]]:
    """Metrics of epochs with these scores."""
    return [{"epoch": epoch, score.name: value} for epoch, value in enumerate(values, start=1)]


def record(by: Score, score: float | None, step: int) -> Record:
    """A checkpoint's record, as far as it is chosen by it."""
    config = {"train": {"score": by.name}}
    return Record.model_construct(config=config, score=score, position=Position(step=step))


@pytest.mark.parametrize(
    ("score", "values", "epoch"),
    [
        (Score(), (0.1, 0.3, 0.3), 2),
        (Score(), (NAN, 0.1, NAN), 2),
        (Score(), (INF, -0.2, 0.1), 3),
        (Score(), (NAN, NAN), 0),
        (Score(), (), 0),
        (LOSS, (2.0, 1.0, 1.0, NAN), 2),
        (LOSS, (-INF, 3.0), 2),
    ],
)
def test_everybody_finds_the_same_best_epoch(
    score: Score, values: tuple[float, ...], epoch: int
) -> None:
    """The earliest of equal ones, never one that is not a number: in a run and in its folder."""
    epochs = history(score, *values)
    assert Position(epoch=len(epochs), history=epochs).best_epoch(score) == epoch
    records = {
        f"epoch-{e['epoch']}": record(score, e[score.name], int(e["epoch"]))
        for e in reversed(epochs)
    }
    latest = f"epoch-{len(epochs)}" if epochs else None
    assert best_of(records) == (f"epoch-{epoch}" if epoch else latest)


def test_a_checkpoint_within_an_epoch_is_best_only_where_no_other_is() -> None:
    records = {
        name: record(Score(), score, step)
        for name, score, step in (("a", None, 1), ("b", -0.5, 2), ("c", None, 3))
    }
    assert best_of(records) == "b"
    del records["b"]
    assert best_of(records) == "c"


@pytest.mark.parametrize(("score", "order"), [(Score(), [2, 1, 3, 0]), (LOSS, [1, 3, 2, 0])])
def test_trials_are_ranked_by_their_best_epochs_and_the_first_of_equals_first(
    score: Score, order: list[int]
) -> None:
    scores = ({}, {1: 0.2, 2: 0.1}, {1: 0.5}, {1: NAN, 2: 0.1})
    trials = [TrialRecord(n, {}, 2, scores=dict(s)) for n, s in enumerate(scores)]
    assert [trial.number for trial in by_score(trials[::-1], score)] == order
    assert trials[0].best(score) is None


def test_a_direction_follows_from_the_name() -> None:
    assert Score().is_better(0.2, 0.1)
    assert not Score().is_better(0.1, 0.1)
    assert Score("val/my_error").is_better(0.1, 0.2)
    for score in (Score(), LOSS):
        assert score.is_better(0.1, NAN)
        assert score.is_better(0.1, None)
        assert not score.is_better(NAN, None)


def test_the_name_of_the_score_stands_once() -> None:
    package = Path(giblet_ray.__file__).parent
    written = [path for path in package.rglob("*.py") if VAL_PEARSON in path.read_text()]
    assert [path.name for path in written] == ["score.py"]
