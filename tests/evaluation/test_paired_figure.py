"""What the figure of a paired difference shows."""

from __future__ import annotations

import numpy as np
import pytest

from giblet_ray.evaluation.paired import PairedTest
from giblet_ray.evaluation.paired_figure import paired_difference


@pytest.mark.parametrize("n_units", [40, 5000])
def test_units_differences_interval_and_what_chance_makes_are_shown(n_units: int) -> None:
    r_a, r_b = np.random.default_rng(0).uniform(-0.2, 0.6, (2, n_units))
    r_a[0] = r_b[0] = np.nan
    null_P = np.random.default_rng(0).normal(0, 0.02, 300)
    test = PairedTest(0.05, 0.01, 0.09, 0.0312, 0.0466, null_P, 6, 1300)
    scatter, histogram, null = paired_difference(r_a, r_b, test, "first", "second").axes[:3]
    assert scatter.get_xlabel() == "r of second"
    assert f"{n_units - 1:,} units" in scatter.get_title()
    assert sum(bar.get_height() for bar in histogram.patches) == n_units - 1
    assert 290 <= sum(bar.get_height() for bar in null.patches) <= 300
    assert {line.get_xdata()[0] for line in null.get_lines()} == {0.05, -0.05}
    ((interval,),) = (lines.get_segments() for lines in null.collections)
    assert sorted(interval[:, 0]) == [0.01, 0.09]
    assert null.get_title() == "p = 0.031, 1,300 TRs"
