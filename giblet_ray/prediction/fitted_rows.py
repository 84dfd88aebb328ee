"""Predictions of a stimulus as so many rows as are asked for: what is predicted, and what is not.

::

    BOLD TR      0 1 2 3 4 5 6 7 8 9 ...
    predicted          p p p p p p                   from the lag on, to the film's end
    asked for    0 0 0 p p p p p p 0 0               0, a unit's mean: before and after
    or           0 0 0 p p p p                       the rest is cut

Shapes: T BOLD TRs, V units.
"""

from __future__ import annotations

import numpy as np

from giblet_ray.settings import Group

_MOST_APART = 10
"""TRs by which a film and what is asked for of it may differ without a line of their own."""


class Fitted(Group):
    """What of a stimulus's rows is predicted."""

    stimulus: str
    film_trs: int
    """TRs of the film."""
    n_trs: int
    """Rows that are asked for."""
    n_before: int
    """Of these, before the first BOLD TR that is predicted: 0."""
    n_after: int
    """After the last one: 0."""
    n_cut: int
    """BOLD TRs that are predicted and not asked for."""
    without: tuple[str, ...] = ()
    """Parts that the model reads, and did without."""


class OfSubject(Group):
    """What of a subject's rows is predicted."""

    stimuli: tuple[Fitted, ...]
    unpredicted: tuple[str, ...]
    """Units without a prediction, masked in training or not chosen: 0 at all TRs."""


def fit_rows(
    trs_T: np.ndarray, bold_TV: np.ndarray, n_trs: int
) -> tuple[np.ndarray, dict[str, int]]:
    """Return the rows of BOLD TRs 0 to n, 0 where none is predicted, and how many those are.

    Parameters
    ----------
    trs_T : ndarray of int
        BOLD TRs that are predicted, one after the other.
    bold_TV : ndarray of float32
        Their predictions.
    n_trs : int
        Rows that are asked for.

    Returns
    -------
    ndarray of float32, shape (n_trs, V)
    dict of str to int
        The counts of :class:`Fitted`.
    """
    first, stop = int(trs_T[0]), int(trs_T[-1]) + 1
    whole_TV = np.zeros((n_trs, bold_TV.shape[1]), np.float32)
    kept = slice(0, max(0, min(stop, n_trs) - first))
    whole_TV[first : first + kept.stop] = bold_TV[kept]
    return whole_TV, {
        "n_trs": n_trs,
        "n_before": min(first, n_trs),
        "n_after": max(0, n_trs - stop),
        "n_cut": max(0, stop - max(first, n_trs)),
    }


def in_words(subject: str, of: OfSubject) -> list[str]:
    """Say which rows and units of a subject are 0, since nothing is predicted there."""
    before, after, cut = (
        sum(getattr(each, name) for each in of.stimuli) for name in ("n_before", "n_after", "n_cut")
    )
    n_trs = sum(each.n_trs for each in of.stimuli)
    zero = f"{before:,} before and {after:,} after those that are predicted are 0, a unit's mean"
    said = [f"subject {subject}: {n_trs:,} TRs of {len(of.stimuli)} stimuli"]
    said += [zero if before + after else "all are predicted"]
    said += [f"{cut:,} predicted beyond them are left out"] if cut else []
    lines = ["; ".join(said)]
    lines += [
        f"subject {subject}, {each.stimulus}: {each.n_trs} TRs are asked for, and the film has "
        f"{each.film_trs}"
        for each in of.stimuli
        if abs(each.n_trs - each.film_trs) > _MOST_APART
    ]
    lines += [
        f"subject {subject}, {each.stimulus}: predicted without {', '.join(each.without)}"
        for each in of.stimuli
        if each.without
    ]
    if of.unpredicted:
        names = ", ".join(of.unpredicted[:5]) + ", ..." * (len(of.unpredicted) > 5)
        lines.append(
            f"subject {subject}: {len(of.unpredicted):,} units have no prediction (masked in "
            f"training, or not chosen) and are 0 at all TRs, where r is not a number: {names}"
        )
    return lines
