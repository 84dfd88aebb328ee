"""Folds of TRs."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.models.folds import gapped_folds

FILM = np.array([0] * 40 + [1] * 17 + [0] * 40)
TR = np.array([*range(20), *range(30, 50), *range(17), *range(20), *range(30, 50)])
"""A film that was seen twice, with held-out TRs between, and another."""


@pytest.mark.parametrize("gap", [0, 1, 5])
def test_what_is_fitted_on_is_further_than_the_gap_from_what_is_predicted(gap: int) -> None:
    folds = gapped_folds(FILM, TR, 4, gap)
    predicted = np.concatenate([rows for _, rows in folds])
    assert sorted(predicted.tolist()) == list(range(len(FILM)))  # each row once
    for fitted, rows in folds:
        places = set(zip(FILM[rows], TR[rows], strict=True))
        for row in range(len(FILM)):
            near = any(film == FILM[row] and abs(tr - TR[row]) <= gap for film, tr in places)
            assert (row in fitted) == (not near)


def test_scans_of_one_film_are_cut_at_the_same_trs() -> None:
    for _, rows in gapped_folds(FILM, TR, 3, 2):
        once = [(film, tr) for film, tr in zip(FILM[rows], TR[rows], strict=True)]
        for film, tr in set(once):
            assert once.count((film, tr)) == (2 if film == 0 else 1)


def test_folds_are_stretches() -> None:
    for _, rows in gapped_folds(FILM, TR, 4, 2):
        for film in (0, 1):
            trs = np.unique(TR[rows][FILM[rows] == film])
            of_film = np.unique(TR[film == FILM])
            places = np.searchsorted(of_film, trs)
            assert (np.diff(places) == 1).all()


@pytest.mark.parametrize(
    ("folds", "gap", "empty"), [(2, 60, 0), (58, 0, 1)], ids=["wide gaps", "more folds than TRs"]
)
def test_folds_may_leave_nothing(folds: int, gap: int, empty: int) -> None:
    found = gapped_folds(np.zeros(57, int), np.arange(57), folds, gap)
    assert len(found) == folds
    assert len(found[-1][empty]) == 0
