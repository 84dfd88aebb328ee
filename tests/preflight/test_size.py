"""What is told of a step by shapes alone, against what PyTorch does when it runs one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from giblet_ray.cli import parse_job
from giblet_ray.config import TrainJob
from giblet_ray.dataset.layout import ScanKey
from giblet_ray.dataset.loader import Batch
from giblet_ray.dataset.normalise import Normalisation
from giblet_ray.dataset.windows import Windows
from giblet_ray.models.predictor import Shapes, build_predictor
from giblet_ray.parts.value import ValueType
from giblet_ray.preflight.need import gpu_need, host_need
from giblet_ray.preflight.size import kept_by_step, measure_activations, step_size
from giblet_ray.training.optimizer import build_optimizer

VALUES = {
    "frames": ValueType(dtype="uint8", shape=(3, 90, 160)),
    "codes": ValueType(dtype="int16", shape=(8, 112)),
    "text": ValueType(dtype="float32", shape=(1024,)),
    "bold": ValueType(dtype="float32", shape=(85810,)),
}
SMALL = {
    "frames": ValueType(dtype="uint8", shape=(3, 18, 32)),
    "codes": ValueType(dtype="int16", shape=(2, 112)),
    "mel": ValueType(dtype="float16", shape=(20, 65)),
    "text": ValueType(dtype="float32", shape=(1024,)),
    "bold": ValueType(dtype="float32", shape=(24,)),
}


def shapes_of(values: dict[str, ValueType]) -> Shapes:
    encoders = {"frames": "image", "codes": "codes", "mel": "mel", "text": "vector"}
    read = {name: encoders[name] for name in values if name != "bold"}
    return Shapes(values, read, {"01": values["bold"].shape[0]}, 1.5)


def small_job(tiny_model: dict[str, Any], data: dict[str, Any], **train: int) -> TrainJob:
    return TrainJob(dataset="", model=tiny_model, data=data, train=train)


def real_batch(values: dict[str, ValueType], n: int, window: int, context: int) -> Batch:
    random = np.random.default_rng(0)
    trs = {name: window + (0 if name == "bold" else context) for name in values}
    rows = {
        name: torch.from_numpy(
            random.integers(0, 9, (n, trs[name], *kind.shape)).astype(kind.dtype)
        )
        for name, kind in values.items()
    }
    first = np.zeros(n, np.int32)
    exists = torch.ones((n, window + context), dtype=torch.bool)
    return Batch(rows, exists, Windows(first, first, np.full(n, window, np.int32)))


@pytest.mark.parametrize(
    ("data", "parts", "window", "model"),
    [
        ({"modalities": ["video", "audio", "text"]}, ["frames", "codes", "text"], 1, {}),
        ({"modalities": ["audio", "text"], "audio": "mel"}, ["mel", "text"], 3, {}),
        (
            {"modalities": ["audio", "text"]},
            ["codes", "text"],
            3,
            {"memory": "hrf", "norm": "layer", "inputs": "vectors", "head": "linear"},
        ),
        (
            {"modalities": ["audio"]},
            ["codes"],
            2,
            {
                **{"memory": "conv", "norm": "layer"},
                **{"code_embedding": "codec", "modality_dropout": 0.1},
            },
        ),
    ],
    ids=["all", "mel and text in windows of 3 TRs", "hrf", "conv over codec's vectors"],
)
def test_activations_of_shapes_are_those_that_a_real_step_keeps(
    tiny_model: dict[str, Any],
    data: dict[str, Any],
    parts: list[str],
    window: int,
    model: dict[str, Any],
) -> None:
    job = small_job(
        {**tiny_model, **model}, {**data, "window": window}, accumulation=2, batch_trs=12 * window
    )
    values = {name: SMALL[name] for name in (*parts, "bold")}
    cpu = torch.device("cpu")
    shapes = shapes_of(values)
    built = build_predictor(job.model, shapes)
    batch = real_batch(values, 3, window, built.context_trs)  # a rank's part of 12, by 2 and by 2
    normalisation = Normalisation(
        (ScanKey("01", "one"),),
        np.zeros((1, 24), np.float32),
        np.ones((1, 24), np.float32),
        np.ones((1, 24), bool),
    )
    kept = kept_by_step(job, built, shapes, batch, normalisation, cpu)
    assert kept > 3 * window * 1024 * 4
    assert measure_activations(job, shapes, ranks=2, window=window) == kept

    size = step_size(job, shapes, n_scans=5, ranks=2, window=window)
    gradients = [parameter.grad for parameter in built.parameters()]
    assert size.gradients == sum(each.nbytes for each in gradients if each is not None)
    assert size.weights == sum(value.nbytes for value in built.state_dict().values())
    optimizer = build_optimizer(built)
    optimizer.step(1e-3)
    moments = [x for state in optimizer.state.values() for x in state.values() if x.dim()]
    assert size.optimizer == sum(moment.nbytes for moment in moments)
    assert size.share == 2 * sum(value.nbytes for value in batch.values.values())


def test_of_a_frozen_trunk_there_are_weights_alone(tiny_model: dict[str, Any]) -> None:
    given = {"dataset": "", "model": tiny_model, "init_from": "runs/first"}
    shapes = shapes_of({name: SMALL[name] for name in ("codes", "text", "bold")})
    whole, frozen = (
        step_size(TrainJob.model_validate({**given, "train": train}), shapes, 1, 1, window=1)
        for train in ({}, {"freeze": "trunk"})
    )
    job = TrainJob.model_validate(given)
    model = build_predictor(job.model, shapes)
    heads = [each for name, each in model.named_parameters() if model.is_of_heads(name)]
    assert frozen.gradients == sum(each.nbytes for each in heads) < whole.gradients
    assert frozen.weights == whole.weights


def test_the_seeds_model_is_told_without_being_made() -> None:
    seed = Path(__file__).parents[2] / "jobs/seed.yaml"
    given = ["--config", str(seed), "--dataset", "", "--scaling.num_workers", "2"]
    job = parse_job(TrainJob, [*given, "--model.shard_head", "off"])
    assert job.model.context_trs(1.5) == 0
    assert job.as_its_model.data.lag_seconds == 4.5
    size = step_size(job, shapes_of(VALUES), n_scans=3, ranks=2, window=1)
    assert size.parameters == 1_515_441_522
    assert size.gradients == 4 * size.parameters
    assert size.optimizer == 8 * size.parameters
    assert size.largest == 4 * 16384 * 85810
    assert size.windows == 32
    # Weights, gradients, AdamW and a second copy of the largest gradient: nearly all there is.
    host = host_need(size, 2, use_gpu=False)
    assert host.sure == pytest.approx(16 * size.parameters + size.largest, rel=0.05)
    gpu = gpu_need(size, 2, bf16=True, resident_bytes=0)
    assert gpu.sure == pytest.approx(host.sure, rel=0.05)
    assert "CUDA (assumed) 1.00 GB" in str(gpu)
    # By default its workers share out the last layer: each has half of it.
    shared = step_size(parse_job(TrainJob, given), shapes_of(VALUES), n_scans=3, ranks=2, window=1)
    last = (16384 + 1) * 85810
    assert shared.parameters == size.parameters
    assert shared.gradients == size.gradients - 4 * last // 2
    assert shared.weights == size.weights - 4 * last // 2
    assert shared.checkpoint == size.checkpoint


def test_accumulation_shares_out_the_activations(tiny_model: dict[str, Any]) -> None:
    def job(**train: int) -> TrainJob:
        return TrainJob(dataset="", model=tiny_model, train={"batch_trs": 64, **train})

    whole, parts = (
        measure_activations(j, shapes_of(VALUES), 1, 1) for j in (job(), job(accumulation=4))
    )
    assert parts == pytest.approx(whole / 4, rel=0.05)  # means and norms are as many
    size = step_size(job(accumulation=4), shapes_of(VALUES), 1, 1, 1)
    assert size.share == step_size(job(), shapes_of(VALUES), 1, 1, 1).share


def test_context_counts_among_the_rows_of_a_batch() -> None:
    """Of ridge, which sees 8 TRs of 1.5 s before the predicted one."""
    job = TrainJob(dataset="", model={"kind": "ridge"}, train={"batch_trs": 64})
    shapes = shapes_of(SMALL)
    of_stimulus = sum(kind.nbytes for name, kind in SMALL.items() if name != "bold")
    for window, windows in ((1, 64), (32, 2), (64, 1)):
        share = step_size(job, shapes, n_scans=1, ranks=1, window=window).share
        of_context = windows * 8 * of_stimulus
        assert share == of_context + 64 * (of_stimulus + SMALL["bold"].nbytes)


def test_brief_form_does_not_load_the_compiler() -> None:
    """Which would take two seconds of every training's start."""
    script = """
        import sys
        import giblet_ray.preflight.brief
        from giblet_ray.config import TrainJob
        from giblet_ray.parts.value import ValueType
        from giblet_ray.models.predictor import Shapes
        from giblet_ray.preflight.size import step_size
        bold = ValueType(dtype="float32", shape=(20,))
        codes = ValueType(dtype="int16", shape=(8, 112))
        job = TrainJob(dataset="", data={"modalities": ["audio"]})
        shapes = Shapes({"codes": codes, "bold": bold}, {"codes": "codes"}, {"01": 20}, 1.5)
        print(step_size(job, shapes, 1, 1, 1).parameters > 0)
        print("torch._dynamo" in sys.modules, "sympy" in sys.modules)
        """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", "False", "False"]
