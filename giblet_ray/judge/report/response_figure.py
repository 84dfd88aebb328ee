"""Figure of what a model has learned of units' haemodynamic responses.

Shapes: V units of a subject, L taps of one TR each.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from giblet_ray.evaluation.drawing import OTHERS, PALETTE, finish, plain
from giblet_ray.models.multimodal.responses import LearnedResponses

GROUPS = ("earliest third", "middle third", "latest third")
_BIN_SECONDS = 0.25


def response_figure(
    responses: Mapping[str, LearnedResponses], shown_V: Mapping[str, NDArray[np.bool_]]
) -> Figure:
    """Draw mean responses of units by when they peak, and how many peak when.

    Parameters
    ----------
    responses : mapping of str to LearnedResponses
        By subject.
    shown_V : mapping of str to ndarray of bool
        (V,) units of each that are drawn; of one that is not predicted, a response says nothing.
    """
    seconds = next(iter(responses.values())).seconds
    chosen = {name: shown_V[name] & np.isfinite(of.peak_V) for name, of in responses.items()}
    kernel_VL = np.concatenate([of.kernel_VL[chosen[name]] for name, of in responses.items()])
    peak_V = np.concatenate([of.peak_V[chosen[name]] for name, of in responses.items()])
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    course, histogram = figure.subplots(1, 2)
    for index, units in enumerate(np.array_split(np.argsort(peak_V, kind="stable"), len(GROUPS))):
        if len(units):
            low_L, high_L = np.percentile(kernel_VL[units], [10, 90], axis=0)
            label = f"{GROUPS[index]}, peak {np.median(peak_V[units]):.1f} s"
            course.fill_between(seconds, low_L, high_L, color=PALETTE[index], alpha=0.15)
            course.plot(seconds, kernel_VL[units].mean(0), color=PALETTE[index], label=label)
    canonical_L = next(iter(responses.values())).canonical
    course.plot(seconds, canonical_L, color="black", linestyle="--", label="canonical")
    course.axhline(0, color="black", linewidth=0.8)
    course.set(xlabel="seconds after the stimulus", ylabel="response (sum of squares 1)")
    course.legend(frameon=False, fontsize=9)
    edges = np.arange(0, seconds[-1] + _BIN_SECONDS, _BIN_SECONDS)
    for index, (name, of) in enumerate(responses.items()):
        few, peaks = len(responses) <= len(PALETTE), of.peak_V[chosen[name]]
        if len(peaks):
            share = 100 * np.histogram(peaks, edges)[0] / len(peaks)
            histogram.stairs(
                share, edges, color=PALETTE[index] if few else OTHERS, linewidth=1.6,
                label=plain(f"subject {name}, median {np.median(peaks):.1f} s") if few else None,
            )  # fmt: skip
    histogram.set(xlabel="time to peak (s)", ylabel="units (%)")
    histogram.legend(frameon=False, fontsize=9)
    for axes in (course, histogram):
        finish(axes)
    return figure
