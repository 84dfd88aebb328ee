"""How fast a GPU hears codes, beside the mel spectrogram."""

from __future__ import annotations

from dataclasses import replace

import audio_branch
from gpu_sizes import Checked
from target import Target

_REPEATS = {"cuda": 7, "cpu": 1}


def check_audio_branch(checked: Checked) -> list[Target]:
    """Time the branch of EnCodec's codes beside mel's, as benchmarks/audio_branch.py does."""
    repeats = _REPEATS[checked.device.type]
    found = audio_branch.measure(checked.size.batch_trs, checked.device, repeats)
    return found if checked.device.type == "cuda" else [not_measured(each) for each in found]


def not_measured(target: Target) -> Target:
    """Return a target of a GPU as a machine without one has it."""
    return replace(target, found=None, spread=None)
