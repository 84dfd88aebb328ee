"""Which of many units are predicted: p values adjusted for the false discovery rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from giblet_ray.errors import InputError


def adjusted_p(p_V: NDArray) -> NDArray[np.float64]:
    """Return p values adjusted as Benjamini and Hochberg do: a unit is found at q if it is <= q.

    ::

        adjusted p_(i) = min over j >= i of min(1, p_(j) * m / j)       for the sorted p_(1..m)

    Parameters
    ----------
    p_V : ndarray
        (V,) p value of each unit; NaN where there is none, which does not count among the m.

    Returns
    -------
    ndarray
        (V,) float64, NaN where `p_V` is.

    Raises
    ------
    InputError
        For a number outside 0 to 1.

    Notes
    -----
    Benjamini & Hochberg (1995), doi:10.1111/j.2517-6161.1995.tb02031.x. Assumes that p values are
    independent or positively dependent, as those of units with smooth noise are (Benjamini &
    Yekutieli 2001, doi:10.1214/aos/1013699998). Costs one sort.
    """
    p = np.asarray(p_V, np.float64)
    counted = np.isfinite(p)
    values = p[counted]
    if np.isinf(p).any() or ((values < 0) | (values > 1)).any():
        raise InputError("p_V: found a number outside 0 to 1, p values are between")
    order = np.argsort(values)
    steps = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum.accumulate(steps[::-1])[::-1].clip(max=1)
    result = np.full(len(p), np.nan)
    result[counted] = adjusted
    return result
