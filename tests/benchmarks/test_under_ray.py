"""The benchmark of what Ray and MLflow add to a training."""

from __future__ import annotations

from pathlib import Path

import pytest
from script import run_script
from target import read_targets


@pytest.mark.heavy
def test_a_training_under_ray_has_the_losses_of_one_under_torchrun_and_is_timed_beside_it(
    tmp_path: Path,
) -> None:
    sizes = {"workers": 2, "repeats": 1, "rows": 200, "units": 8, "epochs": 3}
    words = [word for name, size in sizes.items() for word in (f"--{name}", size)]
    # Raises if the losses of an epoch differ.
    run_script("benchmarks/under_ray.py", *words, "--targets", tmp_path / "targets.json")
    first, later = read_targets(tmp_path / "targets.json")
    assert first.what == "first step, Ray / torchrun, 2 workers, 200 TRs, 8 units"
    assert later.what == "later epochs, Ray / torchrun, 2 workers, 200 TRs, 8 units"
    for target in (first, later):
        assert target.row == 3
        assert target.found is not None
        assert target.found > 0
