"""How near preflight's prediction comes to the memory that a training takes of a GPU."""

from __future__ import annotations

from dataclasses import replace

from gpu_sizes import Checked
from in_memory import InMemory, TimedLink
from target import Target

from giblet_ray.preflight.need import Need, gigabytes, gpu_need
from giblet_ray.preflight.size import measure_activations, step_size
from giblet_ray.training.data import model_shapes
from giblet_ray.training.step import use_bf16

ROW = 8
MOST_APART = 0.15
_RESERVED = "memory/gpu_peak_bytes"


def check_memory(checked: Checked) -> list[Target]:
    """Train for two epochs; set the peak beside what was predicted."""
    found = []
    for model, settings in checked.models.items():
        for precision in ("fp32", "bf16"):
            job = checked.job(settings, epochs=2, precision=precision)
            rows, link = InMemory(job), TimedLink(checked.device)
            need = predicted(checked, rows)
            rows.train(link)
            peaks = link.curve(_RESERVED)
            apart = abs(need.total / peaks[-1] - 1) if peaks else None
            what = f"peak memory, {model}, {precision}: from the {gigabytes(need.total)} predicted"
            found.append(Target.once(ROW, what, apart, MOST_APART))
    return found


def predicted(checked: Checked, rows: InMemory) -> Need:
    """Return what preflight says of one worker's GPU, without the CUDA context.

    PyTorch does not count that.
    """
    job, data = rows.job, rows.data
    shapes = model_shapes(data)
    kept = measure_activations(job, shapes, 1, data.window)
    size = step_size(job, shapes, len(data.scans), 1, data.window)
    bf16 = use_bf16(job.train.precision, checked.device)
    need = gpu_need(replace(size, activations=kept), 1, bf16, data.n_bytes)
    of_torch = {name: n for name, n in need.estimates.items() if not name.startswith("CUDA")}
    return Need(need.parts, of_torch)
