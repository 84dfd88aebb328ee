"""What is counted of a step, against what PyTorch keeps when it runs one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from giblet_ray.config import TrainJob
from giblet_ray.dataset.schema import ValueType
from giblet_ray.models.encoder import MultimodalEncoder
from giblet_ray.preflight.need import gpu_need, host_need
from giblet_ray.preflight.size import kept_per_row, step_size

VALUES = {
    "frames": ValueType(dtype="uint8", shape=(3, 90, 160)),
    "codes": ValueType(dtype="int16", shape=(8, 112)),
    "text": ValueType(dtype="float32", shape=(1024,)),
    "bold": ValueType(dtype="float32", shape=(85810,)),
}


@pytest.mark.parametrize(
    "settings",
    [
        {"modalities": ("video", "audio", "text")},
        {"modalities": ("video",), "head_dim": 700},
        {"modalities": ("audio",), "kernel_sizes": (3, 9), "embed_dim": 16},
        {"modalities": ("audio", "text"), "use_encodec": False, "audio_mels": 200},
    ],
    ids=["all", "video", "codes", "mel and text"],
)
def test_activations_are_those_that_a_forward_pass_keeps(settings: dict[str, Any]) -> None:
    size = {"trunk_dims": (64, 96), "bottleneck_dim": 48, "head_dim": 80, "n_voxels": 50}
    whole = {"use_encodec": True, "audio_frames_per_tr": 112, **size, **settings}
    model, rows = MultimodalEncoder(**whole), 6
    audio = torch.zeros(rows, 8, 112, dtype=torch.long)
    given = {
        "video": torch.zeros(rows, 3, 90, 160),
        "audio": audio if model.use_encodec else torch.zeros(rows, 200, 112),
        "text": torch.zeros(rows, 1024),
    }
    inputs = {name: x if name in model.modalities else None for name, x in given.items()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**inputs, return_voxels=True)
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage()._cdata, None)
    expected = sum(storage.nbytes() for storage in kept.values())
    assert rows * kept_per_row(model, 112) == pytest.approx(expected, rel=0.05)


def test_default_model_is_counted_without_being_made() -> None:
    job = TrainJob(dataset="", train={"batch_size": 64}, scaling={"num_workers": 2})
    size = step_size(job, VALUES, n_runs=3, ranks=2)
    assert size.parameters == 1_515_441_522
    assert size.gradients == 4 * size.parameters
    assert size.optimizer == 8 * size.parameters
    assert size.largest == 4 * 16384 * 85810
    assert size.rows == 32
    # Weights, gradients, AdamW and a second copy of the largest gradient: nearly all there is.
    host = host_need(size, 2, use_gpu=False).total
    assert host == pytest.approx(16 * size.parameters + size.largest, rel=0.05)
    # bfloat16 keeps half the activations, and a copy of the weights.
    full, half = (gpu_need(size, 2, bf16, resident_bytes=0).total for bf16 in (False, True))
    assert full - half == pytest.approx(size.activations / 2 - size.weights / 2)


def test_accumulation_shares_out_the_activations() -> None:
    def count(**train: int) -> Any:
        return step_size(TrainJob(dataset="", train=train), VALUES, n_runs=1, ranks=1)

    whole, parts = count(batch_size=64), count(batch_size=64, accumulation=4)
    assert parts.rows == 16
    assert parts.activations == whole.activations // 4
    assert parts.share == whole.share
    assert parts.weights == whole.weights


def test_counting_does_not_load_the_compiler(run_python: Callable[[str], str]) -> None:
    """Which would take two seconds of every training's start."""
    said = run_python(
        """
        import sys
        from giblet_ray.config import TrainJob
        from giblet_ray.dataset.schema import ValueType
        from giblet_ray.preflight.size import step_size
        bold = ValueType(dtype="float32", shape=(20,))
        codes = ValueType(dtype="int16", shape=(8, 112))
        job = TrainJob(dataset="", data={"modalities": ["audio"]})
        print(step_size(job, {"codes": codes, "bold": bold}, 1, 1).parameters > 0)
        print("torch._dynamo" in sys.modules)
        """
    )
    assert said.split() == ["True", "False"]
