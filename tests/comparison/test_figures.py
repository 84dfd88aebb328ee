"""Figures of compared runs: what they show, read back from their axes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot

from giblet_ray.comparison.figures import (
    curves_over_epochs,
    importance_bars,
    parallel_coordinates,
    score_by_setting,
    voxel_histograms,
)
from giblet_ray.comparison.importance import Importance
from giblet_ray.comparison.paired_figures import difference_matrix
from giblet_ray.evaluation.drawing import PALETTE
from giblet_ray.evaluation.interval import Interval
from giblet_ray.evaluation.paired import PairedTest

METRIC = "val/pearson_mean"
NAMES = ["model.embed_dim", "model.kernel_sizes", "model.dropout", "optimizer.lr"]


@pytest.fixture
def runs(make_run: Callable) -> list[Any]:
    """Ranked runs of mixed settings: numbers, sets, and one that is not given or not recorded."""
    settings = [
        {"model.embed_dim": 16, "model.kernel_sizes": (3, 5, 7), "model.dropout": None},
        {"model.embed_dim": 64, "model.kernel_sizes": (3, 7, 15), "model.dropout": 0.1},
        {"model.embed_dim": 32, "model.kernel_sizes": (3, 5, 7)},
    ]
    return [
        make_run(f"r{i}", 0.5 - 0.1 * i, settings={**chosen, "optimizer.lr": 10.0**-i})
        for i, chosen in enumerate(settings)
    ]


def texts_of(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_parallel_coordinates_lead_every_run_through_its_settings(runs: list[Any]) -> None:
    (axes,) = parallel_coordinates(runs, NAMES, METRIC).axes
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 5]
    assert len(lines) == 3
    by_score = sorted(lines, key=lambda line: -line.get_ydata()[-1])
    assert [line.get_ydata()[-1] for line in by_score] == pytest.approx([1, 0.5, 0])
    embed = [line.get_ydata()[0] for line in by_score]  # 16, 64, 32: even steps on a log axis
    np.testing.assert_allclose(embed, [0, 1, 0.5], atol=0.03)
    same_set = [line.get_ydata()[1] for line in by_score]
    assert same_set[0] == pytest.approx(same_set[2], abs=0.05)
    assert same_set[0] != same_set[2]  # side by side, so that neither hides the other
    assert abs(same_set[0] - same_set[1]) > 0.2
    assert {"16", "32", "64", "3,5,7", "3,7,15", "default", "0.1", "0.01"} <= set(texts_of(axes))
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["embed_dim", "kernel_sizes", "dropout", "lr", METRIC]
    assert max(lines, key=lambda line: line.get_linewidth()) is by_score[0]


def test_score_stands_against_each_setting_with_its_interval(runs: list[Any]) -> None:
    intervals = {runs[0].id: Interval(0.45, 0.56, 9)}
    importance = Importance({"model.embed_dim": 0.75}, 3, "", {"model.embed_dim": (0.6, 0.88)})
    figure = score_by_setting(runs, NAMES, METRIC, intervals, importance)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown] == [
        "embed_dim  (importance 75% [60, 88])",
        "kernel_sizes",
        "dropout",
        "lr",
    ]
    assert shown[0].get_xscale() == shown[3].get_xscale() == "log"
    assert [t.get_text() for t in shown[1].get_xticklabels()] == ["3,5,7", "3,7,15"]
    for axes in shown:
        (interval,) = axes.get_lines()
        assert list(interval.get_ydata()) == [0.45, 0.56]
        heights = {point for c in axes.collections for point in c.get_offsets()[:, 1].tolist()}
        assert {0.5, 0.4, 0.3} <= {round(height, 6) for height in heights}
    (mean,) = [c for c in shown[1].collections if c.get_sizes()[0] == 220]
    np.testing.assert_allclose(mean.get_offsets()[:, 1], [0.4, 0.4])  # of 0.5 and 0.3; of 0.4


def test_all_runs_are_points_of_one_scatter_hollow_where_not_run_to_their_end(
    make_run: Callable,
) -> None:
    runs = [
        make_run(f"r{i}", 0.9 - i / 1000, settings={"model.embed_dim": 16 << i % 2},
                 status="KILLED" if i < 2 else "FINISHED")
        for i in range(300)
    ]  # fmt: skip
    (axes,) = score_by_setting(runs, NAMES[:1], METRIC, {}, Importance({}, 0, "")).axes
    points, means = axes.collections
    np.testing.assert_allclose(points.get_offsets()[:, 1], [run.value(METRIC) for run in runs])
    edges, faces = points.get_edgecolors(), points.get_facecolors()
    assert (faces[:2] == 1).all()
    np.testing.assert_array_equal(faces[2:], edges[2:])
    assert tuple(edges[0]) != tuple(edges[-1])
    expected = [np.mean([run.value(METRIC) for run in runs[2 + i :: 2]]) for i in range(2)]
    np.testing.assert_allclose(means.get_offsets(), [[16, expected[0]], [32, expected[1]]])


def test_values_of_settings_are_written_as_they_are_and_ticks_between_them_in_short(
    make_run: Callable,
) -> None:
    names = ["model.embed_dim", "train.seed", "data.n"]
    rows = zip((1024, 2048, 4096), (12345, 12346, 12347), (1234567, 1234568, 1234569), strict=True)
    settings = [dict(zip(names, row, strict=True)) for row in rows]
    runs = [make_run(f"r{i}", 0.5 - 0.1 * i, settings=each) for i, each in enumerate(settings)]
    (axes,) = parallel_coordinates(runs, names, METRIC).axes
    expected = {str(value) for each in settings for value in each.values()}
    assert expected <= set(texts_of(axes))
    panels = score_by_setting(runs, names, METRIC, {}, Importance({}, 0, "")).axes
    assert expected == {t.get_text() for of in panels for t in of.get_xticklabels()}
    many = [make_run(f"r{i}", 0.5, settings={"optimizer.lr": 0.1 + i / 30}) for i in range(9)]
    (axes,) = parallel_coordinates(many, ["optimizer.lr"], METRIC).axes
    assert {"0.1", "0.167", "0.233", "0.3", "0.367"} <= set(texts_of(axes))


def test_importance_is_bars_with_their_intervals() -> None:
    shares = {"optimizer.lr": 0.7, "model.embed_dim": 0.3}
    ends = {"optimizer.lr": (0.5, 0.8), "model.embed_dim": (0.1, 0.55)}
    (axes,) = importance_bars(Importance(shares, 20, "", ends)).axes
    assert [bar.get_width() for bar in axes.patches] == [0.7, 0.3]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["lr", "embed_dim"]
    (lines,) = axes.collections
    np.testing.assert_allclose([line[:, 0] for line in lines.get_segments()], list(ends.values()))


def test_curves_of_the_best_runs_are_named_and_the_others_grey(make_run: Callable) -> None:
    runs = [make_run(f"r{i}", 0.9 - 0.1 * i) for i in range(9)]
    runs.append(make_run("nan", curves={METRIC: {1: 0.05, 2: float("nan")}}))
    figure = curves_over_epochs(runs, {run.id: run.name for run in runs}, METRIC)
    held_out, training = figure.axes
    assert len(held_out.get_lines()) == 10
    assert not training.get_lines()
    named = {line.get_label() for line in held_out.get_lines() if line.get_label()[0] != "_"}
    assert named == {f"r{i}" for i in range(len(PALETTE))}
    shortest = min(held_out.get_lines(), key=lambda line: len(line.get_xdata()))
    assert list(shortest.get_ydata()) == [0.05]


def test_histograms_count_every_scored_voxel_of_every_run() -> None:
    random = np.random.default_rng(0)
    scores = [
        (name, random.normal(0.1, 0.1, 997), mean)
        for name, mean in zip("abc", (0.1, 0.11, 0.12), strict=True)
    ]
    scores[1][1][:5] = np.nan
    (axes,) = voxel_histograms(scores, 12).axes
    filled = axes.patches
    counts = sorted(int(patch.get_data().values.sum()) for patch in filled)
    assert counts == [992, 997, 997, 997]  # the best run's is filled besides
    # Their own means, as tables have them: not those over the voxels of all subjects together.
    assert {line.get_xdata()[0] for line in axes.get_lines()} == {0, 0.1, 0.11, 0.12}
    texts = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert texts == ["a, mean 0.1000", "b, mean 0.1100", "c, mean 0.1200"]
    assert "3 best of 12 runs" in axes.get_title()
    assert all(np.any(np.isclose(patch.get_data().edges, 0)) for patch in filled)


def make_test() -> PairedTest:
    null_P = np.random.default_rng(0).normal(0, 0.02, 300)
    return PairedTest(0.05, 0.01, 0.09, 0.0312, 0.0466, null_P, 6, 1300)


def test_matrix_has_each_pair_twice_with_opposite_signs() -> None:
    tests = {pair: make_test() for pair in ((0, 1), (0, 2), (1, 2))}
    axes = difference_matrix(["a", "b", "c"], tests).axes[0]
    shown = {tuple(map(round, text.get_position()[::-1])): text.get_text() for text in axes.texts}
    assert shown.keys() == {(i, j) for i in range(3) for j in range(3) if i != j}
    assert shown[0, 2] == "+0.0500\np = 0.047"
    assert shown[2, 0] == "-0.0500\np = 0.047"


def test_names_are_shown_as_they_are_and_long_ones_shortened(make_run: Callable) -> None:
    odd = ["_hidden", "$x^", "a" * 90]
    runs = [make_run(name, 0.3, settings={"data.path": f"${name}"}) for name in odd]
    figure = curves_over_epochs(runs, {run.id: run.name for run in runs}, METRIC)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == [" _hidden", r"\$x^", "a" * 27 + "…"]
    figure.savefig(io.BytesIO())
    parallel_coordinates(runs, ["data.path"], METRIC).savefig(io.BytesIO())


def test_one_run_and_equal_scores_can_be_drawn(make_run: Callable, tmp_path: Any) -> None:
    same = [make_run(name, 0.2, settings={"model.embed_dim": 4}) for name in "ab"]
    for runs in (same, same[:1]):
        labels = {run.id: run.name for run in runs}
        importance = Importance({}, 1, "too few")
        for figure in (
            parallel_coordinates(runs, ["model.embed_dim"], METRIC),
            score_by_setting(runs, ["model.embed_dim"], METRIC, {}, importance),
            curves_over_epochs(runs, labels, METRIC),
            voxel_histograms([("a", np.array([0.1]), None)], 1),
        ):
            figure.savefig(tmp_path / "figure.png")
    assert pyplot.get_fignums() == []
