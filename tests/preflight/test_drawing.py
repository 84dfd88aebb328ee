"""Curves and timelines, in characters."""

from __future__ import annotations

from giblet_ray.config import TrainJob
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.splits import Split
from giblet_ray.preflight.drawing import curve, timeline
from giblet_ray.preflight.schedule import describe_schedule
from giblet_ray.training.optimizer import warmup_cosine


def test_curve_is_highest_where_the_numbers_are() -> None:
    assert curve([0.0, 3.5, 7.0]) == "▁▅█"


def test_timeline_shows_the_sets_and_the_gaps_between_them() -> None:
    train, val = (Span("a", 0, 3), Span("b", 0, 10)), (Span("a", 4, 6),)
    split = Split(train, val, (Span("a", 8, 10),))
    assert timeline(split, "a", 10, width=60) == "━━━·▒▒··██"


def test_a_held_out_tr_is_never_hidden_by_its_neighbours() -> None:
    split = Split((Span("a", 0, 500),), (Span("a", 520, 521),), (Span("a", 700, 701),))
    drawn = timeline(split, "a", 1000, width=20)
    assert len(drawn) == 20
    assert (drawn.count("▒"), drawn.count("█")) == (1, 1)


def test_schedule_names_the_steps_that_training_takes() -> None:
    job = TrainJob(dataset="", train={"epochs": 5}, optimizer={"lr": 0.01, "warmup_fraction": 0.1})
    said = describe_schedule(job, steps_per_epoch=20)
    assert said["steps"] == "20 per epoch, 100 in all"
    last = 0.01 * warmup_cosine(99, 100, 10, 0.01)
    assert said["learning rate"] == f"0.000909 at first, peak 0.01 at step 11, last {last:.3g}"
    assert len(said["(drawn)"]) == 60
    assert "█" in said["(drawn)"][5:9]
