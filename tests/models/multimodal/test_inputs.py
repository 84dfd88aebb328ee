"""What is taken from training TRs before the first step: scales, components, EnCodec's vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_training import LocalTraining
from ranks import run_ranks
from safetensors.torch import load_file
from small_models import film, small_model, windows_of

from giblet_ray.config import TrainJob
from giblet_ray.models.multimodal.inputs import Standardised
from giblet_ray.training.step import Ranks

MEMORY: dict[str, Any] = {
    **{"memory": "hrf", "norm": "layer", "trunk_dims": [8], "linear_skip": True, "head": "linear"},
    **{"modality_dropout": 0.2, "dropout": 0.1},
}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(sorted(folder.glob("epoch-*"))[-1] / "model.safetensors")


def test_numbers_are_z_scored_and_those_that_never_change_are_nothing() -> None:
    raw_ND = torch.randn(200, 3) * torch.tensor([5.0, 1e-3, 0.0]) + torch.tensor([7.0, -2.0, 0.1])
    inputs = Standardised(3)
    assert torch.equal(inputs(raw_ND), raw_ND)
    inputs.fit(raw_ND)
    scored_ND = inputs(raw_ND)
    torch.testing.assert_close(scored_ND.mean(0), torch.zeros(3), atol=2e-4, rtol=0)
    torch.testing.assert_close(
        scored_ND.std(0, correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=2e-4, rtol=0
    )


@pytest.mark.parametrize("inputs", ["vectors", "components"])
def test_a_run_is_resumed_to_the_bit_with_memory_and_inputs_of_training_trs(
    local_training: Callable[..., LocalTraining], tmp_path: Path, inputs: str
) -> None:
    training = local_training(
        data={"window": 8},
        model={**MEMORY, "inputs": inputs},
        train={"epochs": 3, "batch_trs": 32, "checkpoint_every_steps": 2},
    )
    training.train(tmp_path / "whole")
    with pytest.raises(Exception, match="killed here"):
        training.train(tmp_path / "killed", lambda metrics: metrics.get("step") == 6)
    link = training.train(tmp_path / "killed")
    assert "continuing" in link.lines[0]
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_text_is_scaled_by_training_trs_alone(
    local_training: Callable[..., LocalTraining],
    arrays_and_dataset: tuple[dict[str, np.ndarray], Any],
    tmp_path: Path,
) -> None:
    training = local_training(
        data={"modalities": ["text"]},
        model={**MEMORY, "inputs": "vectors"},
        train={"epochs": 1, "batch_trs": 16},
    )
    training.train(tmp_path / "run")
    arrays, view = arrays_and_dataset[0], training.data
    trs = {
        (view.scans[scan].stimulus, int(tr))
        for scan, start, length in zip(
            view.train.scan, view.train.start, view.train.length, strict=True
        )
        for tr in range(start, start + length)
    }
    rows = np.stack([arrays[f"text/{stimulus}.parquet"][tr] for stimulus, tr in sorted(trs)])
    found = weights(tmp_path / "run")
    np.testing.assert_allclose(found["inputs.text.mean_D"], rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["inputs.text.scale_D"], 1 / rows.std(0), rtol=1e-4)


@pytest.mark.parametrize("train_codebooks", [False, True])
def test_codes_become_the_codecs_own_vectors_which_train_only_if_asked(
    dataset_writer: Callable[..., Any],
    tiny_model: dict[str, Any],
    tmp_path: Path,
    train_codebooks: bool,
) -> None:
    random = np.random.default_rng(0)
    codebooks = random.normal(size=(4, 1024, 128)).astype(np.float32)
    dataset_writer(tmp_path / "data", {"one": 117}, ("01",), codebooks=codebooks)
    codec = {"code_embedding": "codec", "train_codebooks": train_codebooks}
    job = TrainJob(
        dataset=str(tmp_path / "data"),
        data={"modalities": ["audio"]},
        model={**tiny_model, **codec},
        train={"epochs": 1, "batch_trs": 16},
    )
    LocalTraining(job).train(tmp_path / "run")
    found = weights(tmp_path / "run")["encoder.audio_encoder.code_embedding.weight"]
    wanted = torch.from_numpy(codebooks[:2]).flatten(0, 1)  # as many codebooks as it hears
    assert torch.equal(found, wanted) != train_codebooks
    assert (found - wanted).abs().max() < 0.1


def _step_of_a_rank(rank: int, world_size: int) -> tuple[dict[str, torch.Tensor], ...]:
    """Return state and gradients after one step on a rank's half of four windows."""
    model = small_model(linear_skip=True, modality_dropout=0.0)
    if rank == 0:
        for name, rows in film(200).items():
            model.inputs[name].fit(3 * rows + 1)
    ranks = Ranks(model, world_size, torch.device("cpu"), frozen_batch_norm=False)
    ranks.train_mode()
    starts = [0, 8, 16, 24][rank::world_size]
    values, exists = windows_of(film(60, seed=1), starts, [6] * len(starts), model.context_trs)
    bold = ranks.parallel(values, exists, torch.zeros(len(starts), dtype=torch.long))[0]
    bold.square().mean().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    return dict(model.state_dict()), gradients


def test_two_ranks_have_the_inputs_of_the_first_and_the_gradients_of_one() -> None:
    alone = _step_of_a_rank(0, 1)
    for of_rank in run_ranks(2, _step_of_a_rank, 2):
        for found, expected in zip(of_rank, alone, strict=True):
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
