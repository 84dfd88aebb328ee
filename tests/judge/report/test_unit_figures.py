"""Figures of units: they count every unit, and stay small however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.evaluation.block_bootstrap import MeanInterval
from giblet_ray.evaluation.null import Null
from giblet_ray.judge.report.unit_figures import (
    ceiling_figure,
    chance_figure,
    shared_ceiling_figure,
    units_figure,
)
from giblet_ray.page import Picture

INTERVAL = MeanInterval(0.31, 0.25, 0.36, 14, 9, 130, 2, False)


def made(n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """r and ceilings of units, of which one was not scored."""
    random = np.random.default_rng(0)
    ceiling_V = random.uniform(0.3, 0.8, n_units)
    pearson_V = ceiling_V * random.normal(0.6, 0.2, n_units)
    pearson_V[0] = np.nan
    return pearson_V, ceiling_V


def test_histogram_counts_every_unit_and_the_curve_falls_through_its_quantiles() -> None:
    pearson_V, ceiling_V = made(400)
    pearson = {"01": pearson_V, "02": pearson_V / 2}
    figure = units_figure(pearson, {"01": ceiling_V, "02": ceiling_V})
    histogram, ranked = figure.axes
    for patch in histogram.patches:
        assert patch.get_data().values.sum() == pytest.approx(100)  # type: ignore[attr-defined]
    names = [text.get_text() for text in histogram.get_legend().get_texts()]
    assert names == [f"subject {name}, mean {np.nanmean(r):.3f}" for name, r in pearson.items()]
    curves = [line for line in ranked.get_lines() if len(line.get_xdata()) > 2]
    wanted = [pearson_V, ceiling_V, pearson_V / 2, ceiling_V]
    for line, values in zip(curves, wanted, strict=True):
        share = 1 - np.asarray(line.get_xdata()) / 100
        np.testing.assert_allclose(line.get_ydata(), np.nanquantile(values, share))


def test_data_stand_beside_what_shifts_of_bold_give() -> None:
    pearson_V, _ = made(60)
    null_VP = np.random.default_rng(1).normal(0, 0.1, (60, 200)).astype(np.float32)
    null_VP[0] = np.nan
    of_units, of_mean = chance_figure(pearson_V, Null(pearson_V, null_VP), INTERVAL).axes
    for patch in of_units.patches:
        assert patch.get_data().values.sum() == pytest.approx(100)  # type: ignore[attr-defined]
    assert sum(bar.get_height() for bar in of_mean.patches) == 200
    assert [line.get_xdata()[0] for line in of_mean.get_lines()] == [0.31]
    ((interval,),) = (lines.get_segments() for lines in of_mean.collections)
    assert sorted(interval[:, 0]) == [0.25, 0.36]


def test_a_ceilings_density_counts_every_unit_and_its_share_is_the_mean() -> None:
    pearson_V, ceiling_V = made(3000)
    density, shares = ceiling_figure(pearson_V, ceiling_V, pearson_V / ceiling_V).axes[:2]
    (cells,) = (each for each in density.collections if each.get_array() is not None)
    assert cells.get_array().sum() == 2999
    assert sum(bar.get_height() for bar in shares.patches) == pytest.approx(100)
    mean = 100 * np.nanmean(pearson_V / ceiling_V)
    assert shares.get_lines()[0].get_xdata()[0] == pytest.approx(mean)
    low, high = shared_ceiling_figure(pearson_V, ceiling_V, 1.1 * ceiling_V).axes[:2]
    assert (low.get_xlabel(), high.get_xlabel()) == (
        "shared ceiling, lower bound, as r",
        "shared ceiling, upper bound, as r",
    )


def test_figures_of_a_whole_brain_are_as_small_as_those_of_few_units() -> None:
    pearson_V, ceiling_V = made(85_810)
    null_VP = np.random.default_rng(1).normal(0, 0.1, (85_810, 20)).astype(np.float32)
    for figure in (
        units_figure({"01": pearson_V}, {"01": ceiling_V}),
        chance_figure(pearson_V, Null(pearson_V, null_VP), INTERVAL),
        ceiling_figure(pearson_V, ceiling_V, pearson_V / ceiling_V),
    ):
        assert len(Picture.of("figure", figure, "").png) < 200_000
