"""Predictions as so many rows as are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.prediction.fitted_rows import fit_rows


@pytest.mark.parametrize(
    ("first", "stop", "n", "counts"),
    [(3, 10, 12, (3, 2, 0)), (3, 10, 8, (3, 0, 2)), (0, 5, 5, (0, 0, 0)), (3, 10, 2, (2, 0, 7))],
)
def test_rows_lie_at_their_bold_trs(first: int, stop: int, n: int, counts: tuple[int, ...]) -> None:
    trs = np.arange(first, stop)
    bold = np.repeat(trs[:, None] + 100.0, 2, axis=1).astype(np.float32)
    rows, found = fit_rows(trs, bold, n)
    expected = [[100.0 + tr] * 2 if first <= tr < stop else [0.0] * 2 for tr in range(n)]
    np.testing.assert_array_equal(rows, np.array(expected, np.float32))
    assert tuple(found[name] for name in ("n_before", "n_after", "n_cut")) == counts
