"""Rows of many arrays are gathered as an obvious loop would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.dataset.scattered import ScatteredRows


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32"])
@given(data=st.data())
def test_rows_are_those_of_the_arrays_that_they_lie_in(dtype: str, data: st.DataObject) -> None:
    """Of arrays that begin anywhere, and have rows of odd and of different lengths."""
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    inner = data.draw(st.sampled_from([(), (3,), (2, 5)]))
    arrays = []
    for n_rows in data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=5)):
        shape = (n_rows, data.draw(st.integers(1, 9)), *inner)
        skipped = data.draw(st.integers(0, 3))
        flat = random.integers(0, 200, skipped + int(np.prod(shape))).astype(dtype)
        arrays.append(flat[skipped:].reshape(shape))
    places = [(index, row) for index, array in enumerate(arrays) for row in range(len(array))]
    where = random.permutation(np.array(places))
    fewest = min(array.shape[1] for array in arrays)
    n_entries = data.draw(st.integers(1, fewest))
    rows = random.integers(-1, len(where), (data.draw(st.integers(0, 4)), 3))

    out = np.ones((*rows.shape, n_entries, *inner), dtype)
    ScatteredRows(arrays, where).take(rows, out)

    for place, row in np.ndenumerate(rows):
        index, of_array = where[row]
        expected = 0 if row < 0 else arrays[index][of_array, :n_entries]
        np.testing.assert_array_equal(out[place], np.broadcast_to(expected, out[place].shape))
