"""The benchmark of training on data that does not fit the object store."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks/out_of_core.py"


@pytest.mark.heavy
def test_memory_and_rate_are_told_of_a_data_set_and_of_half_of_it():
    """In a process of its own, as Ray is started with the object store that is asked for."""
    sizes = {"store-mib": 80, "times": 0.5, "epochs": 2, "batch-trs": 16}
    words = [f"--{name}={size}" for name, size in sizes.items()]
    done = subprocess.run(
        [sys.executable, SCRIPT, *words], capture_output=True, text=True, check=True
    )
    said = " ".join(done.stdout.split())

    # It raises if an epoch does not take every window, or does not learn.
    for name, mib in {"whole": 40, "half": 20}.items():
        assert re.search(rf"│ {name} +│ {mib} +│( [-0-9,]+ +│){{4}} 0 +│", said)  # nothing spilled
        assert re.search(rf"│ {name} +│ [0-9,]+ +│ [0-9.]+ +│ [0-9]+ +│", said)
    assert re.search(r"memory of the whole / of the half: [0-9.]+$", said)
