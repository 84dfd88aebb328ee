"""How fast a GPU takes a step, and hears codes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import audio_branch
import step
from device_speed import Machine
from gpu_sizes import Checked
from target import Target

_REPEATS = {"cuda": 7, "cpu": 1}
_STEPS = {
    "cuda": (list(step.MODELS), (1000, 85810), (32, 256)),
    "cpu": (["default"], (30,), (32,)),
}
"""Models, units and BOLD TRs of the steps."""


def check_step(checked: Checked) -> list[Target]:
    """Time a step of the model alone beside a plain one, as benchmarks/step.py does."""
    kind = checked.device.type
    machine = Machine.measure(checked.device)
    found: list[Target] = []
    for name, n_units, batch_trs in product(*_STEPS[kind]):
        _, targets = step.measure(name, batch_trs, n_units, machine, _REPEATS[kind])
        found += [target for target in targets if "cuda:" in target.what]
    return _of_gpu(checked, found)


def check_audio_branch(checked: Checked) -> list[Target]:
    """Time the branch of EnCodec's codes beside mel's, as benchmarks/audio_branch.py does."""
    repeats = _REPEATS[checked.device.type]
    return _of_gpu(checked, audio_branch.measure(checked.size.batch_trs, checked.device, repeats))


def _of_gpu(checked: Checked, targets: list[Target]) -> list[Target]:
    """Return targets of a GPU as this machine has them: not measured, if it has none."""
    if checked.device.type == "cuda":
        return targets
    return [replace(target, found=None, spread=None) for target in targets]
