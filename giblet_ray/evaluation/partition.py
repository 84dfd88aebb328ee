"""Which part of the stimulus carries a prediction: unique and shared variance, and its split.

Shapes: K parts, T TRs, V units.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from giblet_ray.errors import InputError
from giblet_ray.evaluation.scan_sums import CONSTANT_PART

Floats = NDArray[np.float64]


def subsets(parts: Sequence[str]) -> list[tuple[str, ...]]:
    """Return every set of one part or more, the smallest first; 2^K - 1 of them."""
    return [
        chosen
        for size in range(1, len(parts) + 1)
        for chosen in itertools.combinations(parts, size)
    ]


def unique_and_shared(r2_V: Mapping[tuple[str, ...], NDArray]) -> dict[tuple[str, ...], Floats]:
    """Return what each set of parts explains that no other part does, from models of all sets.

    ::

        unique to a           = R2(abc) - R2(bc)
        shared by a and b     = R2(ac) + R2(bc) - R2(c) - R2(abc)
        in general, of set S  = - sum over subsets X of S of (-1)^|X| R2(X and all parts not in S)

    with R2 of no part 0 (commonality analysis: Mood 1971; Lescroart, Stansbury & Gallant 2015,
    doi:10.3389/fncom.2015.00135). All of them add up to R2 of all parts.

    Parameters
    ----------
    r2_V : mapping
        (V,) R2 on the same held-out TRs of a model of each set of parts; see :func:`subsets`.

    Returns
    -------
    dict
        For each set, (V,) float64, in the order of :func:`subsets`; NaN where a model has none.

    Raises
    ------
    InputError
        If a set is missing, or units differ in number.

    Notes
    -----
    Assumes that each model is fitted anew. On held-out TRs a share may be negative: where a part
    adds noise, and where one suppresses the noise of another. R2 of prediction, not r^2.
    """
    found = {frozenset(of): np.asarray(values, np.float64) for of, values in r2_V.items()}
    names = list(dict.fromkeys(name for of in r2_V for name in of))
    wanted = subsets(names)
    missing = [of for of in wanted if frozenset(of) not in found]
    if missing or not names:
        raise InputError(
            f"partition: no scores of {' + '.join(missing[0]) if missing else 'any part'}; models "
            f"of all {len(wanted)} sets of the parts are needed"
        )
    shapes = {values.shape for values in found.values()}
    if len(shapes) > 1:
        raise InputError(f"partition: found scores of shapes {sorted(shapes)}, must be one")
    found[frozenset()] = np.zeros(shapes.pop())
    shares = {}
    for of in wanted:
        rest = frozenset(names) - frozenset(of)
        chosen: list[tuple[str, ...]] = [(), *subsets(of)]
        terms = [-((-1.0) ** len(some)) * found[rest | frozenset(some)] for some in chosen]
        shares[of] = np.sum(terms, axis=0)
    return shares


def product_measure(predictions_KTV: Tensor, bold_TV: Tensor) -> Floats:
    """Return how much of a sum of predictions' R2 each part gives.

    ::

        R2_k = sum over t of [ 2 b_t p_kt - p_kt * (sum over parts j of p_jt) ] / sum of b_t^2

    for BOLD b and the prediction p_k that part k adds (Pratt 1987; himalaya's
    scoring.r2_score_split). The parts' shares add up to R2 of the sum of the predictions.

    Parameters
    ----------
    predictions_KTV : Tensor
        (K, T, V), what each part adds to the prediction of BOLD about its mean.
    bold_TV : Tensor
        (T, V); its mean over TRs is taken off, as R2 against the scan's own mean does.

    Returns
    -------
    ndarray
        (K, V) float64; NaN where BOLD is constant or not finite.

    Raises
    ------
    InputError
        For shapes that differ, or a prediction that is not finite.

    Notes
    -----
    Assumes a model that adds its parts up, as ridge does. Unlike unique variance it needs one model
    alone, and gives each part a share of what parts have in common. Negative where a part's
    prediction is against BOLD.
    """
    if predictions_KTV.ndim != 3 or predictions_KTV.shape[1:] != bold_TV.shape:
        raise InputError(
            f"product measure: found predictions of shape {tuple(predictions_KTV.shape)} for BOLD "
            f"of {tuple(bold_TV.shape)}, must be (parts, TRs, units)"
        )
    if not bool(predictions_KTV.isfinite().all()):
        raise InputError("product measure: a prediction has NaN or infinity, all must be finite")
    b_TV = bold_TV.to(torch.float64)
    mean_V, power_V = b_TV.mean(dim=0), b_TV.square().sum(dim=0)
    b_TV = b_TV - mean_V
    squares_V = b_TV.square().sum(dim=0)
    sum_TV = predictions_KTV.sum(dim=0, dtype=torch.float64)
    shares = [
        ((2 * b_TV - sum_TV) * p_TV).sum(dim=0) / squares_V for p_TV in predictions_KTV.double()
    ]
    varies_V = squares_V > CONSTANT_PART * power_V
    return torch.where(varies_V, torch.stack(shares), torch.nan).cpu().numpy()
