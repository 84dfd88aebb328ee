"""The benchmark of what a training costs beyond training."""

from __future__ import annotations

import re

import pytest


@pytest.mark.heavy
def test_a_training_is_timed_beside_the_least_and_mistakes_until_they_are_told(run_benchmark):
    said = run_benchmark("startup.py", "--repeats", 1)

    # A process that ends with another code than it should raises.
    for row in (
        "a training, less training",
        "Ray, a worker and MLflow alone",
        r"what is added \(at most 15\)",
        r"told: an unknown setting \(at most 2\)",
        r"told: no such data set \(at most 2\)",
        r"told: a subject that it lacks \(at most 2\)",
    ):
        assert re.search(rf"│ {row} +│ -?[0-9.]+ +│ -?[0-9.]+ +│ -?[0-9.]+ +│", said), row
