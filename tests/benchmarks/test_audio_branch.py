"""The benchmark of the audio branch, on few rows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from script import run_script
from target import read_targets

RATIO = r"[0-9.]+ \([0-9.]+ to [0-9.]+\)"


@pytest.mark.heavy
def test_codes_are_set_beside_mel_and_beside_multiplying_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ("--rows", 14, "--repeats", 1, "--targets", tmp_path / "found.json")
    run_script("benchmarks/audio_branch.py", *words)
    said = " ".join(capsys.readouterr().out.split())
    differences = re.search(r"differ by (\S+) of the largest feature and (\S+) of", said)
    assert differences is not None
    assert all(0 < float(each) < 1e-5 for each in differences.groups())
    for title in ("forward", "with gradients"):
        assert f"{title}, 14 TRs" in said
    for way in ("mel", "codes", "codes, multiplied"):
        assert len(re.findall(rf"│ {way} +│ [0-9,.]+ +│ {RATIO} +│ {RATIO} +│", said)) == 2
    (target,) = read_targets(tmp_path / "found.json")
    assert (target.row, target.bound, target.at_least) == (5, 0.6, False)
    assert target.spread[0] <= target.found <= target.spread[1]
