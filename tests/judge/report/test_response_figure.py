"""The figure of learned responses shows the units that are chosen, by when they peak."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.judge.report.response_figure import response_figure
from giblet_ray.models.multimodal.hrf import haemodynamic_response
from giblet_ray.models.multimodal.responses import LearnedResponses, peak_seconds


def planted(peaks: np.ndarray) -> LearnedResponses:
    seconds = 1.5 * np.arange(14)
    kernel_VL = np.stack([haemodynamic_response(seconds, peak) for peak in peaks])
    kernel_VL /= np.linalg.norm(kernel_VL, axis=1, keepdims=True)
    share_V = np.ones(len(peaks))
    return LearnedResponses(seconds, kernel_VL, share_V, peak_seconds(seconds, kernel_VL))


def test_thirds_of_the_chosen_units_are_drawn_beside_the_canonical_response() -> None:
    of = planted(np.linspace(4, 7, 31))
    shown_V = np.arange(31) != 30  # the latest is not predicted
    course, histogram = response_figure({"01": of}, {"01": shown_V}).axes
    *thirds, canonical = course.get_lines()[:4]
    for line, units in zip(thirds, np.array_split(np.arange(30), 3), strict=True):
        np.testing.assert_allclose(line.get_ydata(), of.kernel_VL[units].mean(0))
    np.testing.assert_allclose(canonical.get_ydata(), of.canonical)
    (bars,) = histogram.patches
    assert bars.get_data().values.sum() == pytest.approx(100)  # type: ignore[attr-defined]
    (name,) = [text.get_text() for text in histogram.get_legend().get_texts()]
    assert name == f"subject 01, median {np.median(of.peak_V[:30]):.1f} s"


def test_units_without_weights_are_left_out() -> None:
    of = planted(np.array([4.0, 5.0, 6.0]))
    of.peak_V[1] = np.nan
    course, _ = response_figure({"01": of}, {"01": np.ones(3, bool)}).axes
    assert len(course.get_lines()) == 2 + 2  # two units, the canonical response, and 0
