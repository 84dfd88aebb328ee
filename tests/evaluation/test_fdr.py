"""False discovery rate: against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from giblet_ray.errors import InputError
from giblet_ray.evaluation.fdr import adjusted_p


@given(st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.01, 1.0]), min_size=1))
def test_adjusted_p_is_that_of_scipy(p: list[float]) -> None:
    np.testing.assert_allclose(adjusted_p(np.array(p)), scipy.stats.false_discovery_control(p))


def test_units_without_p_do_not_count() -> None:
    p = np.array([0.01, np.nan, 0.02, 0.5, np.nan])
    found = adjusted_p(p)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(p))
    np.testing.assert_allclose(
        found[[0, 2, 3]], scipy.stats.false_discovery_control([0.01, 0.02, 0.5])
    )
    assert len(adjusted_p(np.array([]))) == 0


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.inf])
def test_what_is_no_p_value_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="outside 0 to 1"):
        adjusted_p(np.array([0.3, bad]))
