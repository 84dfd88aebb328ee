"""Settings, scores and groups of runs, in plain numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from giblet_ray.comparison.runs import (
    group_runs,
    parse_setting,
    run_labels,
    setting_order,
    settings_that_differ,
    short_names,
    show_setting,
)
from giblet_ray.config import TrainJob
from giblet_ray.errors import InputError
from giblet_ray.tracking.recorded_run import find_run_id
from giblet_ray.training.data import plan_data
from giblet_ray.training.identity import run_record


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("0.0003", 0.0003, "0.0003"),
        ("64", 64, "64"),
        ("[3, 7, 15]", (3, 7, 15), "3,7,15"),
        ("(3, 5)", (3, 5), "3,5"),
        ("['video', 'text']", ("video", "text"), "video,text"),
        ("[]", (), "default"),
        ("None", None, "default"),
        ("True", True, "True"),
        ("auto", "auto", "auto"),
        ("data/a film.npy", "data/a film.npy", "data/a film.npy"),
        ("__import__('os')", "__import__('os')", "__import__('os')"),
    ],
)
def test_settings_are_read_back_and_shown_as_they_are_typed(
    text: str, value: Any, shown: str
) -> None:
    assert parse_setting(text) == value
    assert type(parse_setting(text)) is type(value)
    assert show_setting(value) == shown


@pytest.mark.parametrize("text", ["12j", "b'x'", "{[1]:2}", "[1, 2j]", "...", "1e999", "{1: 2}"])
def test_what_is_no_value_of_a_setting_is_the_text_that_it_is(
    text: str, make_run: Callable
) -> None:
    assert parse_setting(text) == text
    runs = [make_run(name, settings={"name": parse_setting(name)}) for name in (text, "b")]
    assert setting_order([run.settings["name"] for run in runs])
    json.dumps([dict(run.settings) for run in runs], allow_nan=False)


def test_values_are_ordered_as_a_reader_expects() -> None:
    assert setting_order([64, 16, 128, 16]) == [16, 64, 128]
    assert setting_order([(7, 15), (3, 5, 7), (3, 5)]) == [(3, 5), (3, 5, 7), (7, 15)]
    assert setting_order(["b", None, 2, "a", (3,)]) == [None, 2, (3,), "a", "b"]


def test_only_settings_that_differ_and_count_are_named(make_run: Callable) -> None:
    first = {"model.embed_dim": 4, "optimizer.lr": 0.1, "name": "a", "storage.path": "x"}
    second = {"model.embed_dim": 8, "optimizer.lr": 0.1, "name": "b", "storage.path": "y"}
    more = {"data.residence": "memory", "data.window": 2, "tracking.uri": "z", "loss.new": 1}
    runs = [make_run("a", settings=first), make_run("b", settings=second | more)]
    assert settings_that_differ(runs) == ["data.window", "loss.new", "model.embed_dim"]
    assert settings_that_differ(runs[:1]) == []


def test_names_are_short_where_they_are_not_ambiguous() -> None:
    names = ["model.dropout", "data.window", "train.seed", "sweep.seed"]
    assert list(short_names(names).values()) == ["dropout", "window", "train.seed", "sweep.seed"]


def test_score_is_that_of_the_first_best_epoch_and_never_nan(make_run: Callable) -> None:
    run = make_run("a", 0.3)
    assert run.best_epoch == 2
    curves = {"val/pearson_mean": {1: 0.1, 2: float("nan")}, "val/loss": {1: 3.0, 2: float("nan")}}
    broken = make_run("b", curves=curves)
    assert (broken.best_epoch, broken.value("val/loss"), broken.epochs) == (1, 3.0, 2)
    assert make_run("c", None).value("val/pearson_mean") is None


def test_runs_are_ranked_best_first_whichever_way_is_better(make_run: Callable) -> None:
    curves = [{"val/pearson_mean": {1: r}, "val/loss": {1: loss}} for r, loss in ((0.1, 5), (2, 3))]
    runs = [make_run(name, curves=c) for name, c in zip("ab", curves, strict=True)]
    runs.append(make_run("c", None, status="FAILED"))
    for metric, best in (("val/pearson_mean", "b"), ("val/loss", "b")):
        (group,) = group_runs(runs, metric)
        assert [run.name for run in group.ranked] == [best, "a"]
        assert [run.name for run in group.unranked] == ["c"]
        assert group.runs == group.ranked + group.unranked


@pytest.mark.parametrize(
    ("change", "title"),
    [
        ({"dataset": "cd" * 32}, "data set film (cdcdcdcdcdcd)"),
        ({"settings": {"data.split.blocks": 3}}, "split.blocks 3"),
        ({"settings": {"data.subjects": ("01",)}}, "subjects 01"),
        ({"settings": {"data.voxels": "mask.npy"}}, "voxels mask.npy"),
    ],
)
def test_runs_on_other_data_or_splits_are_ranked_apart(
    make_run: Callable, change: dict, title: str
) -> None:
    runs = [make_run("a", 0.1), make_run("b", 0.2), make_run("c", 0.9, **change)]
    large, small = group_runs(runs, "val/pearson_mean")
    assert [run.name for run in large.ranked] == ["b", "a"]
    assert [run.name for run in small.ranked] == ["c"]
    assert title in small.title
    assert small.title != large.title


def test_losses_are_ranked_among_runs_of_the_same_loss_alone(make_run: Callable) -> None:
    """A weight of 0 leaves out a term that cannot be below 0, whatever is predicted."""
    curves = {"val/pearson_mean": {1: 0.1}, "val/loss": {1: 2.0}}
    runs = [
        make_run(str(weight), curves=curves, settings={"loss.correlation_weight": weight})
        for weight in (0, 1)
    ]
    assert len(group_runs(runs, "val/pearson_mean")) == 1
    titles = [group.title for group in group_runs(runs, "val/loss")]
    assert [title.rpartition(", ")[2] for title in titles] == [
        f"loss.correlation_weight {weight}" for weight in (0, 1)
    ]


def test_runs_are_grouped_by_what_files_said_and_not_by_their_paths(
    make_run: Callable, arrays_and_dataset: Any, tmp_path: Path
) -> None:
    def run_of(name: str, table: str, stop: int, voxels: str, n: int) -> Any:
        head = "group\tstimulus\tstart_seconds\tstop_seconds\n"
        rows = f"credits\tone\t0\t{stop}\ncredits\ttwo\t{124.5 - stop}\t124.5\n"
        (tmp_path / table).write_text(head + rows)
        np.save(tmp_path / voxels, np.arange(n))
        split = {"same": str(tmp_path / table)}
        data = {"modalities": "text", "split": split, "voxels": str(tmp_path / voxels)}
        job = TrainJob(dataset=arrays_and_dataset[1].storage.location, data=data)
        told = run_record(job, plan_data(job), None).settings
        return make_run(name, settings={k: parse_setting(str(v)) for k, v in told.items()})

    first, moved = run_of("a", "a.tsv", 12, "a.npy", 9), run_of("b", "b.tsv", 12, "b.npy", 9)
    assert len(group_runs([first, moved], "val/pearson_mean")) == 1
    edited, others = run_of("c", "a.tsv", 15, "a.npy", 9), run_of("d", "a.tsv", 12, "a.npy", 8)
    titles = [group.title for group in group_runs([first, moved, edited], "val/pearson_mean")]
    assert all("split.same 2 intervals (checksum" in title for title in titles)
    assert len(group_runs([first, moved, edited, others], "val/pearson_mean")) == 3


def test_same_data_set_by_a_shorter_digest_is_the_same(make_run: Callable) -> None:
    runs = [make_run("a"), make_run("b", dataset="ab" * 16)]
    assert len(group_runs(runs, "val/pearson_mean")) == 1


def test_other_settings_keep_runs_together(make_run: Callable) -> None:
    settings = [{"data.lag_seconds": lag, "train.seed": lag} for lag in (3, 4)]
    runs = [make_run(str(s), settings=s) for s in settings]
    assert len(group_runs(runs, "val/pearson_mean")) == 1


def test_labels_tell_runs_of_one_name_apart(make_run: Callable) -> None:
    runs = [
        make_run("only"),
        make_run("0001", sweep="a", id="1" * 32),
        make_run("0001", sweep="b", id="2" * 32),
        make_run("twin", id="3" * 32),
        make_run("twin", id="4" * 32),
    ]
    labels = list(run_labels(runs).values())
    assert set(labels) == {"only", "a/0001", "b/0001", "twin 33333333", "twin 44444444"}


def test_run_is_found_by_name_or_by_the_beginning_of_its_id() -> None:
    names = {"0123456789": "a", "0123456000": "b", "99": "b"}
    assert find_run_id(names, "a", "--runs", "here") == "0123456789"
    assert find_run_id(names, "01234567", "--runs", "here") == "0123456789"
    with pytest.raises(InputError, match=r"--runs b: 2 have this name; .*0123456000, 99"):
        find_run_id(names, "b", "--runs", "here")
    with pytest.raises(InputError, match=r"--runs 0123: not in here; it has a, b"):
        find_run_id(names, "0123", "--runs", "here")
    with pytest.raises(InputError, match=r"it has none"):
        find_run_id({}, "a", "--runs", "here")
