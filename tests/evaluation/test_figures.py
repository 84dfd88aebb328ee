"""Figures: what they show, read back from their axes."""

import numpy as np
import pytest

from giblet_ray.errors import InputError
from giblet_ray.evaluation.figures import learning_curves, voxel_histogram


def history(epochs):
    return [
        {
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "val_loss": 1 / epoch + 0.1,
            "val_pearson_mean": 0.3 - 0.2 / epoch,
        }
        for epoch in range(1, epochs + 1)
    ]


def lines_by_label(axes):
    return {line.get_label().split(",")[0]: line for line in axes.get_lines()}


def test_learning_curves_show_every_epoch():
    figure = learning_curves(history(5))
    loss_axes, pearson_axes = figure.axes
    losses = lines_by_label(loss_axes)
    assert losses["training"].get_xdata() == pytest.approx([1, 2, 3, 4, 5])
    assert losses["training"].get_ydata() == pytest.approx([1 / n for n in range(1, 6)])
    assert losses["validation"].get_ydata() == pytest.approx([1 / n + 0.1 for n in range(1, 6)])
    pearsons = lines_by_label(pearson_axes)
    assert pearsons["validation"].get_ydata() == pytest.approx([0.3 - 0.2 / n for n in range(1, 6)])
    bottom, top = pearson_axes.get_ylim()
    assert bottom <= 0
    assert top > 0.26
    assert {axes.get_xlabel() for axes in figure.axes} == {"epoch"}


def test_epochs_without_a_held_out_score_are_left_out_of_its_curve_alone():
    rows = history(4)
    del rows[1]["val_loss"]
    rows[2]["val_pearson_mean"] = None
    loss_axes, pearson_axes = learning_curves(rows).axes
    losses = lines_by_label(loss_axes)
    assert list(losses["training"].get_xdata()) == [1, 2, 3, 4]
    assert list(losses["validation"].get_xdata()) == [1, 3, 4]
    assert list(lines_by_label(pearson_axes)["validation"].get_xdata()) == [1, 2, 4]


def test_history_without_held_out_scores_can_be_drawn():
    figure = learning_curves([{"epoch": 1, "train_loss": 0.5}])
    assert set(lines_by_label(figure.axes[0])) == {"training"}
    assert not figure.axes[1].get_lines()


def test_histogram_counts_every_scored_voxel_once_and_marks_the_summary():
    pearson = np.random.default_rng(0).normal(0.1, 0.2, 997).clip(-1, 1)
    pearson[0], pearson[1] = 1.0, -1.0
    figure = voxel_histogram(np.append(pearson, [np.nan] * 5))
    (axes,) = figure.axes
    assert sum(bar.get_height() for bar in axes.patches) == 997
    lines = lines_by_label(axes)
    assert lines["mean"].get_xdata()[0] == pytest.approx(pearson.mean())
    assert lines["median"].get_xdata()[0] == pytest.approx(np.median(pearson))
    assert not any("percentile" in label for label in lines)
    assert "997" in axes.get_title()
    assert axes.get_xlabel()
    assert axes.get_ylabel() == "voxels"


def test_histogram_marks_the_mean_over_subjects_where_it_is_told():
    (axes,) = voxel_histogram([0.1, 0.1, 0.1, 0.4], mean=0.25).axes
    lines = lines_by_label(axes)
    assert lines["mean"].get_xdata()[0] == 0.25
    assert lines["median"].get_xdata()[0] == 0.1


@pytest.mark.parametrize("value", [-1.0, -0.06, 0.0, 0.02, 0.7, 1.0])
def test_histogram_of_equal_voxels_is_one_bar(value):
    (axes,) = voxel_histogram([value] * 3).axes
    heights = [bar.get_height() for bar in axes.patches if bar.get_height()]
    assert heights == [3]


def test_figures_leave_pyplot_alone():
    from matplotlib import pyplot

    learning_curves(history(3))
    voxel_histogram([0.1, 0.2])
    assert pyplot.get_fignums() == []


def test_nothing_to_draw_is_refused():
    with pytest.raises(InputError, match="history: found no epoch"):
        learning_curves([])
    with pytest.raises(InputError, match="none of 2 voxels"):
        voxel_histogram([np.nan, np.nan])
