"""Figures along the film: the sets where they lie, and courses that break where TRs are missing."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.dataset.config import SplitConfig
from giblet_ray.dataset.reader import Span
from giblet_ray.dataset.splits import SETS, Split, draw_split
from giblet_ray.judge.courses import Course
from giblet_ray.judge.report.time_figures import courses_figure, split_figure


def drawn(axes: object) -> list[list[tuple[float, float]]]:
    """Left and right end of each bar, of each set of each line."""
    return [
        [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in bars.get_paths()]
        for bars in axes.collections  # type: ignore[attr-defined]
    ]


def test_each_set_lies_where_it_is_on_the_film_in_minutes() -> None:
    n_trs = {"one": 360, "two": 500}
    split = draw_split(SplitConfig(), n_trs, 1.5)
    (axes,) = split_figure({"": split}, n_trs, 1.5).axes
    wanted = [
        [(s.start * 1.5 / 60, s.stop * 1.5 / 60) for s in split.spans(name) if s.stimulus == film]
        for film in n_trs
        for name in SETS
    ]
    for found, spans in zip(drawn(axes), wanted, strict=True):
        np.testing.assert_allclose(found, spans)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["one", "two"]
    assert axes.get_xlabel() == "BOLD, minutes after the onset of the film"


def test_sets_of_repeats_have_a_line_each() -> None:
    spans = (Span("film", 0, 100),)
    repeats = {"train": frozenset({1, 2}), "val": frozenset({3}), "test": frozenset({4})}
    split = Split(spans, spans, spans, repeats)  # type: ignore[arg-type]
    (axes,) = split_figure({"": split}, {"film": 100}, 2.0).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["film, repeat 1, 2", "film, repeat 3", "film, repeat 4"]
    assert len(drawn(axes)) == 3


def test_each_fold_has_a_line() -> None:
    folds = {
        f"fold {fold}": draw_split(SplitConfig(folds=3, fold=fold), {"film": 600}, 1.5)
        for fold in (1, 2, 3)
    }
    (axes,) = split_figure(folds, {"film": 600}, 1.5).axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["film, fold 1", "film, fold 2", "film, fold 3"]
    tests = [spans for of_line in drawn(axes)[2::3] for spans in of_line]
    assert sum(stop - start for start, stop in tests) == pytest.approx(600 * 1.5 / 60)


def test_a_course_breaks_where_trs_do_not_follow_one_another() -> None:
    tr = np.r_[10:30, 50:70]
    series = np.random.default_rng(0).normal(size=(2, 40))
    course = Course("best", "01", "film", 7, 0.5, tr, *series)
    (axes,) = courses_figure([course], ["unit 7 of subject 01"], 1.5).axes
    bold, prediction = axes.get_lines()[:2]
    for line, values in ((bold, series[1]), (prediction, series[0])):
        found = np.asarray(line.get_ydata())
        assert np.flatnonzero(np.isnan(found)).tolist() == [20]
        np.testing.assert_array_equal(np.delete(found, 20), values)
        np.testing.assert_allclose(np.delete(line.get_xdata(), 20), tr * 1.5 / 60)
    assert axes.get_title("left") == "best: unit 7 of subject 01, r = 0.500"
    assert axes.get_ylabel() == "z-score"


@pytest.mark.parametrize("n_trs", [399, 1000])
def test_a_long_course_is_cut(n_trs: int) -> None:
    series = np.zeros((2, n_trs))
    course = Course("worst", "01", "film", 7, 0.0, np.arange(n_trs), *series)
    (axes,) = courses_figure([course], ["unit"], 1.5).axes
    assert len(axes.get_lines()[0].get_xdata()) == min(n_trs, 400)
