"""What heads cost, on few units."""

from __future__ import annotations

import re

import pytest
from heads import full_parameters
from script import run_script


@pytest.mark.heavy
def test_every_head_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    run_script("benchmarks/heads.py", "--units", 50, "--steps", 1)
    said = capsys.readouterr().out
    wide = f"{full_parameters(768, 2048, 50):,}"
    for name, parameters in (("full, 2,048", wide), ("linear", f"{769 * 50:,}")):
        assert re.search(rf"│ {name}.*│ {parameters} +│ [0-9.]+ +│ [0-9.]+ +│", said), name
