"""Folds of TRs that something is chosen by: stretches, with a gap on either side."""

from __future__ import annotations

import numpy as np


def gapped_folds(
    film_N: np.ndarray, tr_N: np.ndarray, n_folds: int, gap_trs: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cut TRs into contiguous folds; scans of one film are cut at the same TRs.

    ::

        film     |===================|  |=========|      the TRs, with others between
        fold 0   |#####......--------|  |---------|      # predicted, . gap, - fitted on
        fold 1   |..####.....--------|  |---------|

    Parameters
    ----------
    film_N, tr_N : ndarray of int, shape (N,)
        Film, whatever its phase, and TR of each row of BOLD.
    n_folds : int
        Folds of about equally many TRs.
    gap_trs : int
        TRs left out on either side of a fold, within its film.

    Returns
    -------
    list of (ndarray, ndarray)
        Rows that are fitted on and rows that are predicted, of each fold; either may be empty.
    """
    places, place_N = np.unique(np.stack([film_N, tr_N], axis=1), axis=0, return_inverse=True)
    folds = []
    for fold in np.array_split(np.arange(len(places)), n_folds):
        is_near = np.zeros(len(places), bool)
        for film in np.unique(places[fold, 0]):
            of_film = np.flatnonzero(places[:, 0] == film)
            trs, predicted = places[of_film, 1], places[fold][places[fold, 0] == film, 1]
            after = np.searchsorted(predicted, trs - gap_trs)
            nearest = predicted[np.minimum(after, len(predicted) - 1)]
            is_near[of_film] = np.abs(nearest - trs) <= gap_trs
        is_near[fold] = True
        is_predicted = np.isin(place_N.reshape(-1), fold)
        folds.append((np.flatnonzero(~is_near[place_N.reshape(-1)]), np.flatnonzero(is_predicted)))
    return folds
